//! A trick: one `.wat` file with everything that is to be known of it.
//!
//! The file begins with a header, lines of the form `;; key: value`:
//!
//! | key | |
//! |---|---|
//! | `trick` | what the plugin tries, in a line |
//! | `at` | how far it gets: `load`, `invoke`, or `fine` if all that it tries comes to nothing |
//! | `expect` | part of the error that the user sees; for `fine` the output, as JSON |
//! | `limits` | a line of the manifest's `[limits]` |
//! | `grant` | a line of its one `[[grant]]` |
//! | `input` | the input of the action, as JSON; `{}` if there is none |
//! | `at-once` | how many invocations of a plugin at a time, each with the same end; 1 if there is none |
//! | `at-once-plugins` | how many plugins of it at a time, each with its own name; 1 if there is none |
//! | `name` | the plugin's name for itself |
//! | `action` | an action and the schema of its input; `act {}` if there is none |
//! | `world` | a line of the plugin's world, besides what it imports |
//! | `wit` | a line of a WIT package besides the contract and `wasi.wit` |
//! | `http` | a line of its one `[[http]]` |
//! | `size` | bytes that the component has, most of them in a custom section |
//! | `beside` | a number and a core module: that many instances of it are in the component too |
//!
//! Other lines of comment are for the reader. A line that is given again is one more line. The rest
//! is a component, or fields of a core module; what an agent needs besides is added (see `Guest`),
//! and what the module imports its world imports as well. `<<N text>>`, anywhere, is the text N
//! times, with its number in the place of each `%`.
//!
//! Invariant: a file without an expectation, or with an unknown key, is no trick; nor is one that expects
//! what stands in its own name, which every error repeats.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use qchost_testing::{Guest, instances};

const WASI: &str = include_str!("wasi.wit");

/// How far a trick gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// It does not load.
    Load,
    /// It loads, and its invocation ends with an error.
    Invoke,
    /// It does no harm, and its invocation has an output.
    Fine,
}

#[derive(Debug)]
pub struct Trick {
    /// The name of its file.
    pub name: String,
    /// What it tries.
    pub title: String,
    pub at: At,
    pub expect: String,
    /// Lines of its manifest.
    pub manifest: String,
    pub input: Value,
    pub at_once: usize,
    pub plugins: usize,
    pub component: Vec<u8>,
}

impl Trick {
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let text = repeat(text)?;
        let header = Header::of(&text)?;
        // Tricks with tools that the catalog does not know are about what these answer, and not about licences.
        let mut manifest = format!(
            "egress = \"licensed\"\n[limits]\n{}",
            limits(&header.lines("limits"))
        );
        let grant = header.lines("grant");
        if !grant.is_empty() {
            write!(manifest, "\n[[grant]]\nname = \"grant\"\n{grant}").unwrap();
        }
        let http = header.lines("http");
        if !http.is_empty() {
            write!(manifest, "\n[[http]]\nname = \"http\"\n{http}").unwrap();
        }
        let at = match header.one("at")? {
            "load" => At::Load,
            "invoke" => At::Invoke,
            "fine" => At::Fine,
            other => return Err(format!("`at: {other}`")),
        };
        let expect = header.one("expect")?;
        if format!("{name}.wat").contains(expect) {
            return Err(format!("its own name has what it expects: `{expect}`"));
        }
        Ok(Self {
            name: name.to_owned(),
            title: header.one("trick")?.to_owned(),
            at,
            expect: expect.to_owned(),
            manifest,
            input: serde_json::from_str(header.get("input").unwrap_or("{}"))
                .map_err(|error| format!("its input: {error}"))?,
            at_once: header.number("at-once")?.unwrap_or(1),
            plugins: header.number("at-once-plugins")?.unwrap_or(1),
            component: sized(component(&header, &text)?, header.number("size")?),
        })
    }
}

const KEYS: [&str; 15] = [
    "trick",
    "at",
    "expect",
    "limits",
    "grant",
    "input",
    "at-once",
    "at-once-plugins",
    "name",
    "action",
    "world",
    "wit",
    "http",
    "size",
    "beside",
];

/// The lines `;; key: value` at the beginning.
struct Header<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Header<'a> {
    fn of(text: &'a str) -> Result<Self, String> {
        let comments = text.lines().map_while(|line| line.strip_prefix(";;"));
        let mut lines = Vec::new();
        for line in comments {
            let Some((key, value)) = line.trim().split_once(": ") else {
                continue;
            };
            if KEYS.contains(&key) {
                lines.push((key, value));
            } else if !key.contains(' ') {
                return Err(format!("its header has `{key}`, which is no key"));
            }
        }
        Ok(Self(lines))
    }

    fn all(&self, key: &str) -> impl Iterator<Item = &'a str> {
        let of_key = self.0.iter().filter(move |(it, _)| *it == key);
        of_key.map(|(_, value)| *value)
    }

    fn lines(&self, key: &str) -> String {
        self.all(key).collect::<Vec<_>>().join("\n")
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.all(key).next()
    }

    fn number(&self, key: &str) -> Result<Option<usize>, String> {
        let number = self.get(key).map(str::parse).transpose();
        number.map_err(|error| format!("its `{key}`: {error}"))
    }

    fn one(&self, key: &str) -> Result<&'a str, String> {
        let mut values = self.all(key);
        match (values.next(), values.next()) {
            (Some(value), None) if !value.is_empty() => Ok(value),
            _ => Err(format!("its header needs one `{key}`")),
        }
    }
}

/// The limits of a trick: small ones, where it has none of its own, so that it ends soon.
fn limits(own: &str) -> String {
    let usual = [
        ("memory", "\"32MiB\""),
        ("cpu", "\"5s\""),
        ("wall", "\"20s\""),
        ("concurrency", "1"),
    ];
    let mut lines = own.to_owned();
    for (key, value) in usual {
        if !own.lines().any(|line| line.starts_with(key)) {
            write!(lines, "\n{key} = {value}").unwrap();
        }
    }
    lines
}

fn component(header: &Header<'_>, text: &str) -> Result<Vec<u8>, String> {
    let code: String = text
        .lines()
        .skip_while(|line| line.starts_with(";;") || line.is_empty())
        .flat_map(|line| [line, "\n"])
        .collect();
    if code.starts_with("(component") {
        return wat::parse_str(&code).map_err(|error| error.to_string());
    }
    let mut guest = Guest::echo().package(WASI);
    let package = header.lines("wit");
    if !package.is_empty() {
        guest = guest.package(&package);
    }
    guest.world = header.lines("world");
    for interface in imports(&code) {
        write!(guest.world, "\nimport {interface};").unwrap();
    }
    // Imports come before everything else in a module.
    let is_import = |line: &&str| line.starts_with("(import ");
    guest.imports = code
        .lines()
        .filter(is_import)
        .collect::<Vec<_>>()
        .join("\n");
    guest.more = code
        .lines()
        .filter(|line| !is_import(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    if let Some(name) = header.get("name") {
        guest.name = name.to_owned();
    }
    let actions: Vec<_> = header.all("action").map(action).collect();
    if !actions.is_empty() {
        guest.actions = actions;
    }
    let mut component = guest.encode()?;
    if let Some((number, module)) = header.get("beside").and_then(|it| it.split_once(' ')) {
        let number = number
            .parse()
            .map_err(|error| format!("its `beside`: {error}"))?;
        let module = wat::parse_str(module).map_err(|error| error.to_string())?;
        instances::add(&mut component, &module, number);
    }
    Ok(component)
}

/// The interfaces that a core module imports from, each once. Of its own exports it imports what
/// makes handles.
fn imports(code: &str) -> BTreeSet<&str> {
    code.lines()
        .filter_map(|line| line.strip_prefix("(import \"")?.split('"').next())
        .filter(|interface| !interface.starts_with("[export]"))
        .collect()
}

/// An action's name and its schema, which begins with a brace.
fn action(line: &str) -> (String, String) {
    let (name, schema) = line.split_at(line.find(" {").unwrap_or(line.len()));
    (name.to_owned(), schema.trim_start().to_owned())
}

/// The component with a custom section at its end that brings it to this many bytes.
fn sized(mut component: Vec<u8>, bytes: Option<usize>) -> Vec<u8> {
    let Some(bytes) = bytes else {
        return component;
    };
    // A section of kind 0: its size in five bytes, however small, then the length of its name and its name.
    component.push(0);
    let mut size = bytes - component.len() - 5;
    for _ in 0..4 {
        component.push(u8::try_from(size & 0x7f).unwrap() | 0x80);
        size >>= 7;
    }
    component.push(u8::try_from(size).unwrap());
    component.extend(b"\x03pad");
    component.resize(bytes, 0);
    component
}

/// Writes out each `<<N text>>`; one within another is written out first.
fn repeat(text: &str) -> Result<String, String> {
    let mut text = text.to_owned();
    while let Some((before, rest)) = text.rsplit_once("<<") {
        let (repeated, after) = rest.split_once(">>").ok_or("a `<<` has no `>>`")?;
        let (count, part) = repeated
            .split_once([' ', '\n'])
            .ok_or("a `<<` has no text")?;
        let count: usize = count
            .parse()
            .map_err(|_| format!("`<<{count}` is no number"))?;
        let parts: String = (0..count)
            .map(|at| part.replace('%', &at.to_string()))
            .collect();
        text = format!("{before}{parts}{after}");
    }
    Ok(text)
}

#[test]
fn a_file_that_says_too_little_or_too_much_is_no_trick() {
    let head = ";; trick: nothing\n;; at: fine\n;; expect: {}\n";
    let trick = Trick::parse("nothing", head).unwrap();
    assert_eq!((trick.at, trick.at_once, trick.plugins), (At::Fine, 1, 1));
    for (text, words) in [
        ("", "one `at`"),
        (";; trick: nothing\n;; at: fine\n", "one `expect`"),
        (&head.replace("fine", "home"), "at: home"),
        (
            &format!("{head};; limit: cpu = 1\n"),
            "`limit`, which is no key",
        ),
        (&format!("{head};; at: load\n"), "one `at`"),
        (
            ";; trick: nothing\n;; at: load\n;; expect: nothing.wat\n",
            "its own name",
        ),
        (&format!("{head}<<3 (func"), "no `>>`"),
        (&format!("{head}(component"), "expected"),
    ] {
        let why = Trick::parse("nothing", text).unwrap_err();
        assert!(why.contains(words), "{words}: {why}");
    }
    assert_eq!(repeat("a<<2 b%<<2 c>>>>d").unwrap(), "ab0ccb1ccd");
}
