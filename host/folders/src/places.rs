//! Places that no granted folder may reach: the host's own folders and secrets, homes, and what the system keeps for
//! itself.
//!
//! Folders are compared by device and inode, of themselves and of each folder above them: another spelling, a link or a
//! second mount of a path changes nothing. A part of such a folder that an administrator mounts elsewhere under a name of
//! its own is not recognised.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;

use rustix::fs::{Mode, OFlags, fstat, openat};

use crate::beneath::{Identity, Root};
use crate::error::OpenError;

/// Maximum folders above one.
const MAX_ANCESTORS: usize = 4096;
/// What the system keeps for itself.
const SYSTEM: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/etc"];

/// What may not be granted of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Neither the place, nor what contains it, nor what lies in it.
    Apart,
    /// Neither the place nor what contains it; a folder in it may be granted.
    Within,
}

/// A place, which need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where it is.
    pub path: PathBuf,
    /// What is there, for messages: `the host's data folder`.
    pub what: &'static str,
    /// What may not be granted of it.
    pub rule: Rule,
}

impl Place {
    /// A place from which every granted folder has to be apart.
    #[must_use]
    pub fn apart(path: impl Into<PathBuf>, what: &'static str) -> Self {
        Self {
            path: path.into(),
            what,
            rule: Rule::Apart,
        }
    }

    /// A place in which folders may be granted.
    #[must_use]
    pub fn within(path: impl Into<PathBuf>, what: &'static str) -> Self {
        Self {
            path: path.into(),
            what,
            rule: Rule::Within,
        }
    }
}

/// The places of the machine: `/`, what the system keeps for itself, and the homes that a passwd file and `HOME` name.
#[must_use]
pub fn machine_places(passwd: &str, home: Option<PathBuf>) -> Vec<Place> {
    let root = Place::within("/", "the root of the file system");
    let system = SYSTEM.map(|path| Place::apart(path, "a folder of the system"));
    let homes = passwd.lines().filter_map(|line| line.split(':').nth(5));
    let homes = homes.map(PathBuf::from).chain(home);
    let homes = homes.filter(|home| home.is_absolute());
    let homes = homes.map(|home| Place::within(home, "a user's home"));
    [root].into_iter().chain(system).chain(homes).collect()
}

/// The places that granted folders are compared with.
#[derive(Debug, Clone, Default)]
pub struct Places(Vec<Located>);

/// The places of a running host, which another configuration replaces. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct SharedPlaces(Arc<RwLock<Vec<Place>>>);

impl SharedPlaces {
    /// Replaces them.
    pub fn set(&self, places: Vec<Place>) {
        *self.0.write() = places;
    }

    /// Finds them as they are now.
    #[must_use]
    pub fn find(&self) -> Places {
        let places = self.0.read().clone();
        Places::find(places)
    }
}

/// A place as it was found.
#[derive(Debug, Clone)]
struct Located {
    place: Place,
    /// The place itself, if it exists.
    own: Option<Identity>,
    /// It and every folder above it.
    line: HashSet<Identity>,
}

impl Places {
    /// Finds places as they are now.
    #[must_use]
    pub fn find(places: Vec<Place>) -> Self {
        Self(places.into_iter().map(Located::find).collect())
    }

    /// Whether a folder may be granted.
    ///
    /// # Errors
    /// [`OpenError::Forbidden`] with the first place that it would reach.
    pub(crate) fn check(&self, name: &str, root: &Root) -> Result<(), OpenError> {
        let above = ancestors(root).map_err(|source| OpenError::Unavailable {
            name: name.to_owned(),
            path: root.path().to_owned(),
            source,
        })?;
        let relation = |located: &Located| {
            if located.own == Some(root.identity()) {
                Some("is")
            } else if located.line.contains(&root.identity()) {
                Some("contains")
            } else if located.place.rule == Rule::Apart
                && located.own.is_some_and(|own| above.contains(&own))
            {
                Some("lies in")
            } else {
                None
            }
        };
        let refused = self
            .0
            .iter()
            .filter_map(|located| Some((relation(located)?, &located.place)));
        // Of `/`, which contains all of them, that it is the root says most.
        let refused = refused.min_by_key(|(relation, _)| *relation != "is");
        match refused {
            None => Ok(()),
            Some((relation, place)) => Err(OpenError::Forbidden {
                name: name.to_owned(),
                path: root.path().to_owned(),
                relation,
                what: place.what,
                place: place.path.clone(),
            }),
        }
    }
}

impl Located {
    fn find(place: Place) -> Self {
        let path = std::path::absolute(&place.path).unwrap_or_else(|_| place.path.clone());
        let own = Identity::at(&path).ok();
        // Of one that does not exist yet, the folders above it count.
        let existing = path
            .ancestors()
            .find_map(|path| path.canonicalize().ok())
            .unwrap_or_default();
        let line = existing
            .ancestors()
            .filter_map(|path| Identity::at(path).ok());
        Self {
            line: line.chain(own).collect(),
            place,
            own,
        }
    }
}

/// A folder and all those above it, by way of its descriptor.
fn ancestors(root: &Root) -> std::io::Result<HashSet<Identity>> {
    let top = Identity::at(Path::new("/"))?;
    let mut line = HashSet::from([root.identity()]);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut folder = openat(root.descriptor(), "..", flags, Mode::empty())?;
    for _ in 0..MAX_ANCESTORS {
        let identity = Identity::of(&fstat(&folder)?);
        line.insert(identity);
        if identity == top {
            return Ok(line);
        }
        folder = openat(&folder, "..", flags, Mode::empty())?;
    }
    Err(std::io::Error::other("there are too many folders above it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_those_of_the_users_and_of_the_host() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nrel:x:1:1::home:/bin/sh\nann:x:2:2:A,B:/home/ann:/bin/sh\n";
        let places = machine_places(passwd, Some("/opt/host".into()));
        let homes: Vec<_> = places
            .iter()
            .filter(|place| place.what == "a user's home")
            .map(|place| (place.path.to_str().unwrap(), place.rule))
            .collect();
        let within = ["/root", "/home/ann", "/opt/host"].map(|home| (home, Rule::Within));
        assert_eq!(homes, within);
    }
}
