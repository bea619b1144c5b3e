//! The folder that a backup is restored into, and its owner: root restores for the owner of the folder.
//!
//! Invariant: while root writes into a folder for another user, the folder is root's, and so are those above it: that user
//! can put no link there. An empty folder is replaced at the end, in one step, by one beside it: a restore that is killed
//! leaves it as it was. Where that is not possible, the folder itself is root's meanwhile; it is given back with what is in
//! it, and also if the restore fails.

use std::fs::{self, File, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown, lchown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nix::unistd::geteuid;
use tempfile::TempDir;

use crate::data_folder::make_private;
use crate::lock::Lock;

/// How the name of a folder begins that replaces another one.
const STAGE: &str = ".restoring-";

/// The folder of a restore that root may carry out for another user.
pub struct Target {
    path: PathBuf,
    folder: File,
    /// Whom root restores for; `None` for any other user, who restores for themselves.
    owner: Option<Owner>,
    /// Whether the folder is root's only until the end.
    taken: bool,
    /// The folder that replaces it at the end.
    stage: Option<TempDir>,
}

/// The owner of a folder, and what it allows to others.
struct Owner {
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Target {
    /// Checks that only its owner can change an existing folder, and that this is the owner or root.
    pub fn check(path: &Path) -> Result<()> {
        let Ok(found) = fs::metadata(path) else {
            return Ok(());
        };
        let (owner, us) = (found.uid(), geteuid());
        ensure!(
            owner == us.as_raw() || us.is_root(),
            "{0} belongs to the user {owner}, who could change what is restored, and this is the user {us}; name a folder of \
             your own, or restore as root or as that user; nothing was restored",
            path.display()
        );
        let mode = found.mode() & 0o777;
        ensure!(
            mode & 0o022 == 0,
            "{0} can be changed by other users (mode {mode:o}); run: chmod go-w {0}; nothing was restored",
            path.display()
        );
        Ok(())
    }

    /// Opens a folder, which is created if necessary. As root, takes it from its owner until [`Self::finish`].
    pub fn take(path: &Path) -> Result<Self> {
        make_private(path)?;
        let path = path.canonicalize()?;
        let folder =
            File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let found = folder.metadata()?;
        let owner = geteuid().is_root().then(|| Owner {
            uid: found.uid(),
            gid: found.gid(),
            mode: found.mode(),
        });
        let is_of_other = owner.as_ref().is_some_and(|owner| owner.uid != 0);
        let mut stage = None;
        if is_of_other {
            Self::check(&path)?;
            for above in path.ancestors().skip(1) {
                let is_safe = |it: &Metadata| {
                    it.uid() == 0 && (it.mode() & 0o022 == 0 || it.mode() & 0o1000 != 0)
                };
                ensure!(
                    is_safe(&fs::metadata(above)?),
                    "{} can be changed by other users than root, who could lead the restore into {} elsewhere; restore as the \
                     user {}, or into a folder below those of root; nothing was restored",
                    above.display(),
                    path.display(),
                    found.uid()
                );
            }
            stage = stage_beside(&path, &found)?;
            if stage.is_none() {
                fchown(&folder, Some(0), None).with_context(|| {
                    format!(
                        "{} belongs to the user {}, and root may not change that here; restore as that user; nothing was \
                         restored",
                        path.display(),
                        found.uid()
                    )
                })?;
            }
        }
        Ok(Self {
            path,
            folder,
            owner,
            taken: is_of_other && stage.is_none(),
            stage,
        })
    }

    /// Where what is restored is put together.
    pub fn place(&self) -> &Path {
        self.stage.as_ref().map_or(&self.path, TempDir::path)
    }

    /// Gives what is in a folder below it to its owner, durably. What the folder allows to others, its content does too.
    pub fn give_content(&self, folder: &Path) -> Result<()> {
        let Some(owner) = &self.owner else {
            return Ok(());
        };
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let is_folder = path.symlink_metadata()?.is_dir();
            let mode = match is_folder {
                true => 0o700 | (owner.mode & 0o055),
                false => 0o600 | (owner.mode & 0o044),
            };
            if is_folder {
                self.give_content(&path)?;
            }
            lchown(&path, Some(owner.uid), Some(owner.gid))
                .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(mode)))
                .and_then(|()| File::open(&path)?.sync_all())
                .with_context(|| {
                    format!("cannot give {} to the user {}", path.display(), owner.uid)
                })?;
        }
        Ok(())
    }

    /// Gives the folder to its owner, with these files in it.
    pub fn finish(mut self, files: &[&str]) -> Result<()> {
        let Some(owner) = self.owner.as_ref().filter(|owner| owner.uid != 0) else {
            return Ok(());
        };
        for file in files {
            lchown(self.place().join(file), Some(owner.uid), Some(owner.gid))?;
        }
        match self.stage.take() {
            Some(stage) => self.replace(stage, owner)?,
            None => self.give_back()?,
        }
        self.taken = false;
        Ok(())
    }

    /// Puts the folder beside it into its place.
    fn replace(&self, stage: TempDir, owner: &Owner) -> Result<()> {
        let folder = File::open(stage.path())?;
        folder.set_permissions(Permissions::from_mode(owner.mode & 0o777))?;
        fchown(&folder, Some(owner.uid), Some(owner.gid))?;
        folder.sync_all()?;
        let lock = Lock::path(&self.path);
        if lock.symlink_metadata().is_ok() {
            fs::remove_file(&lock).with_context(|| format!("cannot remove {}", lock.display()))?;
        }
        // Fails if something was put into the folder meanwhile.
        fs::rename(stage.path(), &self.path).with_context(|| {
            format!(
                "cannot put what was restored into the place of {}; if it is a mount, restore as the user {}",
                self.path.display(),
                owner.uid
            )
        })?;
        drop(stage.keep());
        if let Some(above) = self.path.parent() {
            File::open(above)?.sync_all()?;
        }
        Ok(())
    }

    fn give_back(&self) -> Result<()> {
        if let Some(owner) = &self.owner {
            fchown(&self.folder, Some(owner.uid), None).with_context(|| {
                format!(
                    "cannot give {} back to the user {}",
                    self.path.display(),
                    owner.uid
                )
            })?;
        }
        Ok(())
    }
}

/// A folder of root's beside an empty one, to replace it; `None` where that is not possible.
fn stage_beside(path: &Path, found: &Metadata) -> Result<Option<TempDir>> {
    let Some(above) = path.parent() else {
        return Ok(None);
    };
    let lock = Lock::path(path);
    let mut is_empty = true;
    for entry in fs::read_dir(path)? {
        is_empty &= entry?.path() == lock;
    }
    // What is mounted cannot be replaced.
    if !is_empty || fs::metadata(above)?.dev() != found.dev() {
        return Ok(None);
    }
    let made = tempfile::Builder::new()
        .prefix(STAGE)
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(above);
    Ok(made.ok())
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.taken
            && let Err(error) = self.give_back()
        {
            tracing::error!(target: "host", "{error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use qchost_testing::can_change_user;

    use super::*;

    const OTHER: u32 = 54_321;

    fn folder(mode: u32) -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("target");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (parent, path)
    }

    fn seen(path: &Path) -> (u32, u32, u32) {
        let found = fs::metadata(path).unwrap();
        (found.uid(), found.gid(), found.mode() & 0o777)
    }

    #[test]
    fn a_folder_that_others_can_change_is_refused() {
        for (mode, is_refused) in [(0o700, false), (0o755, false), (0o770, true), (0o702, true)] {
            let (_parent, path) = folder(mode);
            assert_eq!(Target::check(&path).is_err(), is_refused, "{mode:o}");
            assert!(Target::check(&path.join("none")).is_ok());
        }
    }

    #[test]
    fn what_root_restores_belongs_to_the_owner_of_the_folder() {
        if !can_change_user() {
            return;
        }
        for (mode, folders, files) in [(0o700, 0o700, 0o600), (0o750, 0o750, 0o640)] {
            let (_parent, path) = folder(mode);
            chown(&path, Some(OTHER), Some(OTHER)).unwrap();
            let target = Target::take(&path).unwrap();
            // A restore that is killed leaves it as it was.
            assert_eq!(seen(&path), (OTHER, OTHER, mode));
            let place = target.place().to_owned();
            assert_eq!(seen(&place), (0, 0, 0o700));
            let draft = place.join("draft");
            fs::create_dir_all(draft.join("audit")).unwrap();
            fs::write(draft.join("audit/one"), "").unwrap();
            target.give_content(&draft).unwrap();
            fs::rename(draft.join("audit"), place.join("audit")).unwrap();
            fs::remove_dir(&draft).unwrap();
            fs::write(place.join("host.lock"), "").unwrap();
            fs::write(path.join("host.lock"), "of a host that ended").unwrap();
            target.finish(&["host.lock"]).unwrap();
            assert!(!place.exists());
            assert_eq!(seen(&path), (OTHER, OTHER, mode));
            assert_eq!(seen(&path.join("audit")), (OTHER, OTHER, folders));
            assert_eq!(seen(&path.join("audit/one")), (OTHER, OTHER, files));
            let (uid, gid, _) = seen(&path.join("host.lock"));
            assert_eq!((uid, gid), (OTHER, OTHER));
        }
    }

    #[test]
    fn a_folder_that_is_used_meanwhile_is_not_replaced() {
        if !can_change_user() {
            return;
        }
        let (_parent, path) = folder(0o700);
        chown(&path, Some(OTHER), Some(OTHER)).unwrap();
        let target = Target::take(&path).unwrap();
        let place = target.place().to_owned();
        fs::write(path.join("state.db"), "of a host").unwrap();
        let error = target.finish(&[]).unwrap_err().to_string();
        assert!(error.contains("into the place of"), "{error}");
        assert_eq!(
            fs::read_to_string(path.join("state.db")).unwrap(),
            "of a host"
        );
        assert!(!place.exists());
    }

    #[test]
    fn a_folder_is_given_back_after_a_failure_and_not_taken_below_one_of_its_owner() {
        if !can_change_user() {
            return;
        }
        let (parent, path) = folder(0o700);
        chown(&path, Some(OTHER), Some(OTHER)).unwrap();
        drop(Target::take(&path).unwrap());
        assert_eq!(seen(&path), (OTHER, OTHER, 0o700));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
        // With something in it, it is root's meanwhile.
        fs::write(path.join("other"), "").unwrap();
        let target = Target::take(&path).unwrap();
        assert_eq!(target.place(), path);
        assert_eq!(seen(&path), (0, OTHER, 0o700));
        drop(target);
        assert_eq!(seen(&path), (OTHER, OTHER, 0o700));
        chown(parent.path(), Some(OTHER), Some(OTHER)).unwrap();
        let error = Target::take(&path).err().unwrap().to_string();
        assert!(error.contains("can be changed by other users"), "{error}");
        assert_eq!(seen(&path), (OTHER, OTHER, 0o700));
    }
}
