//! Which files take part in a sync: no dot-files but those that are named, and nothing that a `.gitignore` leaves out.
//!
//! The patterns are those of git: comments, `!`, a trailing `/`, `/` at the beginning or inside, `*`, `?`, `[…]` with
//! ranges and negation, `**` as a whole part of a path, and a backslash before a character that is meant literally. As
//! in git, the last pattern that matches decides, a file deeper down outranks one above it, and nothing below an
//! ignored folder can be taken back. Named classes as in `[[:alpha:]]` match nothing.

/// Whether a path takes part.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// Dot-files, and folders of them, that the caller named.
    include: Vec<String>,
    ignores: Ignores,
}

impl Selection {
    pub(crate) fn new(include: Vec<String>, ignores: Ignores) -> Self {
        let include = include.into_iter();
        Self {
            include: include
                .map(|it| it.trim_end_matches('/').to_owned())
                .collect(),
            ignores,
        }
    }

    /// A path from the top of the folder whose `.gitignore` files were read.
    pub(crate) fn takes(&self, path: &str) -> bool {
        if self.include.iter().any(|named| is_within(path, named)) {
            return true;
        }
        let is_hidden = path.split('/').any(|part| part.starts_with('.'));
        !is_hidden && !self.ignores.ignore(path)
    }
}

/// Whether a path is that of a file, or below a folder, of this name.
fn is_within(path: &str, named: &str) -> bool {
    let rest = path.strip_prefix(named);
    !named.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The patterns of `.gitignore` files.
#[derive(Debug, Default)]
pub(crate) struct Ignores {
    /// The folder of each file, without a slash at its end, with its patterns; folders above come first.
    files: Vec<(String, Vec<Pattern>)>,
}

impl Ignores {
    /// Adds the `.gitignore` of a folder, which is `""` at the top.
    pub(crate) fn add(&mut self, folder: &str, text: &str) {
        let patterns = text.lines().filter_map(Pattern::parse).collect();
        self.files.push((folder.to_owned(), patterns));
        // Stable, and a folder above has fewer parts.
        self.files.sort_by_key(|(folder, _)| depth(folder));
    }

    /// Whether a file is left out, by itself or with a folder that it is in.
    pub(crate) fn ignore(&self, path: &str) -> bool {
        let folders = path.match_indices('/').map(|(at, _)| at);
        let mut folders = folders.filter_map(|at| path.get(..at));
        folders.any(|folder| self.matches(folder, true)) || self.matches(path, false)
    }

    fn matches(&self, path: &str, is_folder: bool) -> bool {
        for (folder, patterns) in self.files.iter().rev() {
            let within = match folder.as_str() {
                "" => Some(path),
                folder => path
                    .strip_prefix(folder)
                    .and_then(|rest| rest.strip_prefix('/')),
            };
            let Some(within) = within else { continue };
            let mut patterns = patterns.iter().rev();
            if let Some(pattern) = patterns.find(|it| it.matches(within, is_folder)) {
                return !pattern.takes_back;
            }
        }
        false
    }
}

fn depth(folder: &str) -> usize {
    if folder.is_empty() {
        return 0;
    }
    folder.split('/').count()
}

/// One line of a `.gitignore`.
#[derive(Debug)]
struct Pattern {
    /// It began with `!`.
    takes_back: bool,
    /// It ended with `/`.
    is_for_folders: bool,
    parts: Vec<Part>,
}

/// What one part of a path has to be.
#[derive(Debug, PartialEq)]
enum Part {
    /// `**`: any number of parts.
    Any,
    /// This name: most parts of patterns are one, and it is compared fastest.
    Name(String),
    One(Vec<Token>),
}

impl Part {
    fn parse(text: &str) -> Self {
        let tokens = tokens(text);
        let letters = tokens.iter().map(|token| match token {
            Token::Literal(letter) => Some(*letter),
            _ => None,
        });
        match letters.collect() {
            Some(name) => Self::Name(name),
            None => Self::One(tokens),
        }
    }

    fn matches(&self, part: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Name(name) => name == part,
            Self::One(tokens) => part_matches(tokens, part),
        }
    }
}

/// What characters of a part have to be.
#[derive(Debug, PartialEq)]
enum Token {
    /// `*`
    Many,
    /// `?`
    Single,
    Literal(char),
    Class {
        is_negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// A class without its end, which matches nothing.
    Nothing,
}

impl Pattern {
    /// `None` for an empty line or a comment.
    fn parse(line: &str) -> Option<Self> {
        let line = without_trailing_spaces(line.strip_suffix('\r').unwrap_or(line));
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let (takes_back, line) = match line.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let (is_for_folders, line) = match line.strip_suffix('/') {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        // A slash at the beginning or inside binds the pattern to its folder.
        let is_anchored = line.contains('/');
        let line = line.strip_prefix('/').unwrap_or(line);
        if line.is_empty() {
            return None;
        }
        let mut parts: Vec<Part> = Vec::new();
        if !is_anchored {
            parts.push(Part::Any);
        }
        let mut texts = line.split('/').peekable();
        while let Some(text) = texts.next() {
            if text != "**" {
                parts.push(Part::parse(text));
                continue;
            }
            if parts.last() != Some(&Part::Any) {
                parts.push(Part::Any);
            }
            // `a/**` is what is below `a`, and not `a` itself.
            if texts.peek().is_none() {
                parts.push(Part::One(vec![Token::Many]));
            }
        }
        Some(Self {
            takes_back,
            is_for_folders,
            parts,
        })
    }

    fn matches(&self, path: &str, is_folder: bool) -> bool {
        if self.is_for_folders && !is_folder {
            return false;
        }
        let path: Vec<&str> = path.split('/').collect();
        // `reached` are the numbers of parts of the path that the pattern so far can have taken.
        let mut reached = vec![false; path.len() + 1];
        if let Some(start) = reached.first_mut() {
            *start = true;
        }
        for part in &self.parts {
            reached = match part {
                Part::Any => {
                    let mut is_reached = false;
                    let reached = reached.into_iter().map(|it| {
                        is_reached |= it;
                        is_reached
                    });
                    reached.collect()
                }
                one => {
                    let taken = reached.iter().zip(&path);
                    let taken = taken.map(|(is_reached, part)| *is_reached && one.matches(part));
                    std::iter::once(false).chain(taken).collect()
                }
            };
        }
        reached.last() == Some(&true)
    }
}

fn without_trailing_spaces(line: &str) -> &str {
    let trimmed = line.trim_end_matches(' ');
    let backslashes = trimmed.chars().rev().take_while(|it| *it == '\\').count();
    // An escaped space belongs to the pattern.
    if backslashes % 2 == 1 && trimmed.len() < line.len() {
        return line.get(..=trimmed.len()).unwrap_or(line);
    }
    trimmed
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        tokens.push(match character {
            '*' => {
                if tokens.last() == Some(&Token::Many) {
                    continue;
                }
                Token::Many
            }
            '?' => Token::Single,
            '\\' => rest.next().map_or(Token::Nothing, Token::Literal),
            '[' => class(&mut rest),
            other => Token::Literal(other),
        });
    }
    tokens
}

fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Token {
    let is_negated = rest.next_if(|it| matches!(it, '!' | '^')).is_some();
    let mut ranges = Vec::new();
    let mut is_first = true;
    loop {
        let Some(character) = rest.next() else {
            return Token::Nothing;
        };
        let from = match character {
            ']' if !is_first => return Token::Class { is_negated, ranges },
            '\\' => match rest.next() {
                Some(escaped) => escaped,
                None => return Token::Nothing,
            },
            other => other,
        };
        is_first = false;
        let mut ahead = rest.clone();
        let to = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(to)) if to != ']' => {
                rest.next();
                match rest.next() {
                    Some('\\') => rest.next(),
                    to => to,
                }
            }
            _ => Some(from),
        };
        let Some(to) = to else {
            return Token::Nothing;
        };
        ranges.push((from, to));
    }
}

/// Whether the tokens match a whole part, in time of their product.
fn part_matches(tokens: &[Token], part: &str) -> bool {
    let mut reached = vec![false; tokens.len() + 1];
    let reach = |reached: &mut Vec<bool>| {
        // A star may take nothing.
        let mut is_reached = false;
        for (at, it) in reached.iter_mut().enumerate() {
            let is_star = at.checked_sub(1).and_then(|at| tokens.get(at)) == Some(&Token::Many);
            *it |= is_reached && is_star;
            is_reached = *it;
        }
    };
    if let Some(start) = reached.first_mut() {
        *start = true;
    }
    reach(&mut reached);
    for character in part.chars() {
        let mut next = vec![false; reached.len()];
        for (at, token) in tokens.iter().enumerate() {
            let (here, after) = (at, at + 1);
            let takes = match token {
                Token::Many | Token::Single => true,
                Token::Literal(literal) => *literal == character,
                Token::Class { is_negated, ranges } => {
                    let mut ranges = ranges.iter();
                    ranges.any(|(from, to)| (*from..=*to).contains(&character)) != *is_negated
                }
                Token::Nothing => false,
            };
            let is_before = reached.get(here) == Some(&true);
            let is_inside = *token == Token::Many && reached.get(after) == Some(&true);
            if takes
                && (is_before || is_inside)
                && let Some(it) = next.get_mut(after)
            {
                *it = true;
            }
        }
        reached = next;
        reach(&mut reached);
    }
    reached.last() == Some(&true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignores(files: &[(&str, &str)]) -> Ignores {
        let mut ignores = Ignores::default();
        for (folder, text) in files {
            ignores.add(folder, text);
        }
        ignores
    }

    #[test]
    fn patterns_mean_what_they_mean_to_git() {
        for (pattern, ignored, kept) in [
            (
                "*.log",
                &["a.log", "lib/b.log", ".log"][..],
                &["a.logs", "log"][..],
            ),
            ("/main.py", &["main.py", "main.py/x"], &["lib/main.py"]),
            (
                "build",
                &["build", "build/a", "lib/build/a"],
                &["builds", "a.build"],
            ),
            (
                "build/",
                &["build/a", "lib/build/a"],
                &["build", "lib/build"],
            ),
            ("lib/*.py", &["lib/a.py"], &["lib/x/a.py", "x/lib/a.py"]),
            ("lib/**", &["lib/a", "lib/x/a"], &["lib", "x/lib/a"]),
            ("**/data", &["data", "a/data", "a/b/data/c"], &["a/datas"]),
            ("a/**/z", &["a/z", "a/b/z", "a/b/c/z"], &["z", "b/a/z"]),
            (
                "data?.csv",
                &["data1.csv"],
                &["data.csv", "data12.csv", "data/.csv"],
            ),
            ("[a-c]x", &["ax", "cx", "lib/bx"], &["dx", "x"]),
            ("[!a-c]x", &["dx"], &["ax"]),
            ("[^a]x", &["bx"], &["ax"]),
            ("[]-]x", &["]x", "-x"], &["ax"]),
            ("[a", &[], &["[a", "a"]),
            ("\\#x", &["#x"], &["x"]),
            ("\\!x", &["!x"], &["x"]),
            ("a\\ ", &["a "], &["a"]),
            ("a   ", &["a"], &["a   "]),
            ("# a", &[], &["# a", "a"]),
            ("", &[], &["a"]),
            ("/", &[], &["a"]),
            ("*", &["a", "a/b"], &[]),
            ("a*b*c", &["abc", "axxbyyc"], &["abd", "ac"]),
            (
                "foo/bar",
                &["foo/bar", "foo/bar/x"],
                &["x/foo/bar", "foo/barx"],
            ),
        ] {
            let ignores = ignores(&[("", pattern)]);
            for path in ignored {
                assert!(ignores.ignore(path), "{pattern:?} ignores {path:?}");
            }
            for path in kept {
                assert!(!ignores.ignore(path), "{pattern:?} keeps {path:?}");
            }
        }
    }

    #[test]
    fn the_last_match_decides_and_nothing_comes_back_from_an_ignored_folder() {
        let taken_back = ignores(&[("", "*.csv\n!keep.csv\n")]);
        assert!(taken_back.ignore("a.csv") && !taken_back.ignore("lib/keep.csv"));
        let again = ignores(&[("", "!keep.csv\n*.csv\n")]);
        assert!(again.ignore("keep.csv"));
        let folder = ignores(&[("", "data/\n!data/keep.csv\n")]);
        assert!(folder.ignore("data/keep.csv"));
        let content = ignores(&[("", "data/*\r\n!data/keep.csv\r\n")]);
        assert!(!content.ignore("data/keep.csv") && content.ignore("data/a.csv"));
    }

    #[test]
    fn a_file_deeper_down_outranks_one_above_and_holds_for_its_folder_alone() {
        let ignores = ignores(&[("lib/x", "!b.csv"), ("", "*.csv"), ("lib", "!a.csv\n/only")]);
        assert!(ignores.ignore("a.csv") && !ignores.ignore("lib/a.csv"));
        assert!(!ignores.ignore("lib/x/a.csv") && !ignores.ignore("lib/x/b.csv"));
        assert!(ignores.ignore("lib/b.csv"));
        assert!(
            ignores.ignore("lib/only") && !ignores.ignore("only") && !ignores.ignore("lib/x/only")
        );
        assert!(ignores.ignore("library/a.csv"));
    }

    #[test]
    fn a_dot_file_takes_part_only_if_it_is_named() {
        let include = vec![
            ".env".to_owned(),
            ".github/".to_owned(),
            "lib/.keep".to_owned(),
        ];
        let named = Selection::new(include, ignores(&[("", "*.tmp")]));
        for path in ["main.py", ".env", ".github/a/.b.yml", "lib/.keep"] {
            assert!(named.takes(path), "{path}");
        }
        for path in [".git/config", "lib/.env", ".envrc", "a/.b/c.py", "x.tmp"] {
            assert!(!named.takes(path), "{path}");
        }
        assert!(!Selection::new(vec![String::new()], Ignores::default()).takes(".env"));
    }

    #[test]
    fn a_pattern_of_many_stars_is_matched_in_bounded_time() {
        let pattern = "*a".repeat(200);
        let ignores = ignores(&[("", &format!("{pattern}b\n{}", "a/**/".repeat(100) + "b"))]);
        assert!(!ignores.ignore(&"a".repeat(900)));
        assert!(!ignores.ignore(&("a/".repeat(100) + "c")));
    }
}
