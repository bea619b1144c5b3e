//! The form of paths in a folder.
//!
//! A path is UTF-8 names separated by `/`. Refused are empty names, `.` and `..`, control characters, characters without
//! a width or that change the direction of text (two paths must not look alike), and `\`, which separates names on other
//! systems that may read the folder. Letters are compared byte by byte: two Unicode forms of one letter are two names,
//! unless the file system says otherwise.

use qchost_text::excerpt;

use crate::error::FolderError;
use crate::temporary::is_reserved;

/// Maximum bytes of a path.
pub const MAX_PATH_BYTES: usize = 1024;
/// Maximum names of a path.
pub const MAX_DEPTH: usize = 32;
/// Maximum bytes of a name, on Linux.
const MAX_NAME_BYTES: usize = 255;
/// Maximum characters of a path in a message.
const MAX_SHOWN: usize = 200;

/// The path of a file, of the right form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FilePath<'a>(&'a str);

impl<'a> FilePath<'a> {
    /// Checks a path.
    pub(crate) fn parse(path: &'a str) -> Result<Self, FolderError> {
        let refused = |why: &str| FolderError::InvalidPath(format!("{} {why}", shown(path)));
        check_characters(path).map_err(refused)?;
        if path.split('/').count() > MAX_DEPTH {
            return Err(refused("has more than 32 names"));
        }
        path.split('/').try_for_each(check_name).map_err(refused)?;
        Ok(Self(path))
    }

    /// The path as it was written.
    pub(crate) const fn as_str(&self) -> &'a str {
        self.0
    }

    /// Its last name.
    pub(crate) fn name(&self) -> &'a str {
        self.0.rsplit_once('/').map_or(self.0, |(_, name)| name)
    }

    /// The number of its names.
    pub(crate) fn depth(&self) -> usize {
        self.0.split('/').count()
    }

    /// The folders on the way to it, the outermost first, each with its path and its name.
    pub(crate) fn folders(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let path = self.0;
        path.match_indices('/').filter_map(move |(at, _)| {
            let folder = path.get(..at)?;
            Some((folder, folder.rsplit_once('/').map_or(folder, |(_, n)| n)))
        })
    }
}

/// Checks what the paths of a list begin with, and returns the folder in which all of them are: empty for the granted one.
pub(crate) fn parse_prefix(prefix: &str) -> Result<&str, FolderError> {
    let refused = |why: &str| {
        FolderError::InvalidPath(format!(
            "a list of what begins with {} {why}",
            shown(prefix)
        ))
    };
    check_characters(prefix).map_err(refused)?;
    let Some((folder, start)) = prefix.rsplit_once('/') else {
        check_start(prefix).map_err(refused)?;
        return Ok("");
    };
    check_start(start).map_err(refused)?;
    folder
        .split('/')
        .try_for_each(check_name)
        .map_err(refused)?;
    Ok(folder)
}

/// A path in a message.
pub(crate) fn shown(path: &str) -> String {
    let shown: String = excerpt(path, MAX_SHOWN)
        .chars()
        .map(|c| if is_refused(c) && c != '\\' { ' ' } else { c })
        .collect();
    format!("`{shown}`")
}

fn check_characters(path: &str) -> Result<(), &'static str> {
    if path.len() > MAX_PATH_BYTES {
        return Err("is longer than 1024 bytes");
    }
    if path.contains(is_refused) {
        return Err(
            "has a character that no path may have: `\\`, a control character, or one that is not seen",
        );
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), &'static str> {
    match name {
        "" => {
            Err("has an empty name; a path is relative to its folder, with one `/` between names")
        }
        "." | ".." => Err("has the name `.` or `..`, and no path leads out of its folder"),
        _ if name.len() > MAX_NAME_BYTES => Err("has a name of more than 255 bytes"),
        _ => check_start(name),
    }
}

fn check_start(name: &str) -> Result<(), &'static str> {
    match name {
        "." | ".." => Err("has the name `.` or `..`, and no path leads out of its folder"),
        _ if is_reserved(name.as_bytes()) => {
            Err("has a name that begins with `.qchost-`, which the host keeps for itself")
        }
        _ => Ok(()),
    }
}

fn is_refused(c: char) -> bool {
    c.is_control()
        || matches!(c, '\\' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_is_taken_apart() {
        let path = FilePath::parse("a/b/c.txt").unwrap();
        assert_eq!((path.name(), path.depth()), ("c.txt", 3));
        let folders: Vec<_> = path.folders().collect();
        assert_eq!(folders, [("a", "a"), ("a/b", "b")]);
        assert_eq!(FilePath::parse("c").unwrap().folders().count(), 0);
    }

    #[test]
    fn a_list_begins_in_the_folder_of_its_prefix() {
        for (prefix, folder) in [("", ""), ("a", ""), ("a/", "a"), ("a/b/c", "a/b")] {
            assert_eq!(parse_prefix(prefix).unwrap(), folder, "{prefix}");
        }
        for prefix in [
            "/", "/a", "..", "../", "a/..", "a//b", "./a", "a\0", ".QCHOST-",
        ] {
            assert!(parse_prefix(prefix).is_err(), "{prefix}");
        }
    }

    #[test]
    fn a_message_has_none_of_the_characters_that_are_refused() {
        let error = FilePath::parse("a\u{1b}[2J\u{202e}b\n")
            .unwrap_err()
            .to_string();
        assert!(!error.contains(['\u{1b}', '\u{202e}', '\n']), "{error:?}");
    }

    proptest! {
        /// The names of an accepted path are names: none leads up, out or nowhere.
        #[test]
        fn an_accepted_path_only_leads_down(path in "[a./\\\\\u{200b} é\u{0}]{0,12}") {
            if FilePath::parse(&path).is_ok() {
                let refused = path.contains(['\\', '\0', '\u{200b}']);
                prop_assert!(!refused);
                for name in path.split('/') {
                    prop_assert!(!matches!(name, "" | "." | ".."));
                }
            }
        }
    }
}
