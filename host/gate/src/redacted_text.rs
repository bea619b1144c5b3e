//! Texts of manifests, guardrails and configurations in the redacted form that is kept, and their differences.
//!
//! Invariant: no value that may be a secret is in a redacted text or in a difference. Values under `[config]`, headers,
//! variables and arguments of an account, settings of a profile, and what a notification of its deployments is sent with
//! are replaced by keyed digests, so that a changed value shows as changed and cannot be guessed; comments, which may
//! contain anything, are removed. A source of a secret (`{ env = "NAME" }`) is a name, and stays. A text that leaves the
//! host keeps plain values of `[config]`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use qchost_policy::{Difference, Guardrails, Manifest};
use qchost_text::excerpt_bytes;
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use crate::fingerprint::{Fingerprints, text_hash};
use crate::settings::Settings;

/// Maximum lines of a difference; a last line gives the number of omitted lines.
const MAX_LINES: usize = 200;
/// Maximum bytes of one line of a difference.
const MAX_LINE: usize = 500;
/// Precedes each guardrail in the redacted text.
const GUARDRAIL: &str = "// guardrail ";

/// The kind of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Manifest,
    Configuration,
    Guardrails,
}

/// A text that decides calls, in its redacted form.
#[derive(Debug)]
pub(crate) struct RedactedText {
    pub form: Form,
    /// The SHA-256 of `text`: `sha256:…`.
    pub digest: Arc<str>,
    pub text: String,
    /// The file or folder it comes from; empty for built-in texts.
    pub file: PathBuf,
    /// The user ids of the owners of the files.
    pub owners: BTreeSet<u32>,
    /// The complete difference to the text with this digest, if it was computed ahead of time.
    pub prepared: OnceLock<(Option<String>, Vec<String>)>,
}

impl RedactedText {
    fn new(form: Form, text: String, file: PathBuf, owners: BTreeSet<u32>) -> Self {
        Self {
            form,
            digest: text_hash(&text).into(),
            text,
            file,
            owners,
            prepared: OnceLock::new(),
        }
    }

    /// The complete difference to a text given by its digest; the text is loaded only if the difference was not prepared.
    pub fn differences_to(
        &self,
        digest: Option<&str>,
        former: impl FnOnce() -> Option<String>,
    ) -> Vec<String> {
        match self.prepared.get() {
            Some((prepared, lines)) if prepared.as_deref() == digest => lines.clone(),
            _ => differences(self.form, former().as_deref(), Some(&self.text)),
        }
    }

    /// A text without a file.
    #[cfg(test)]
    pub fn plain(form: Form, text: &str) -> Self {
        Self::new(form, text.to_owned(), PathBuf::new(), BTreeSet::new())
    }

    /// Another text of the same file, possibly with another owner.
    pub fn with_text(&self, text: String) -> Self {
        Self::new(self.form, text, self.file.clone(), BTreeSet::new())
    }

    /// A text of the same file of which only the digest is known.
    pub fn with_digest(&self, digest: &str) -> Self {
        Self {
            digest: digest.into(),
            ..self.with_text(String::new())
        }
    }

    /// The text of a manifest.
    pub fn manifest(manifest: &Manifest, fingerprints: &Fingerprints) -> Self {
        let text = redacted(&manifest.origin.text, in_manifest, fingerprints);
        let owners = manifest.origin.owner.into_iter().collect();
        Self::new(Form::Manifest, text, manifest.path.clone(), owners)
    }

    /// The text of the configuration.
    pub fn configuration(settings: &Settings, fingerprints: &Fingerprints) -> Self {
        let sources = &settings.sources;
        let text = redacted(&sources.configuration.text, in_configuration, fingerprints);
        let owners = sources.configuration.owner.into_iter().collect();
        Self::new(Form::Configuration, text, sources.file.clone(), owners)
    }

    /// The texts of the guardrails, one after the other.
    pub fn guardrails(settings: &Settings) -> Self {
        let sources = &settings.sources;
        let text = guardrails_text(&settings.guardrails);
        let owners = sources.guardrail_owners.clone();
        Self::new(Form::Guardrails, text, sources.policies.clone(), owners)
    }
}

fn guardrails_text(guardrails: &Guardrails) -> String {
    let mut text = String::new();
    for (id, policy) in guardrails.texts() {
        text.push_str(GUARDRAIL);
        text.push_str(&id.replace(char::is_control, " "));
        text.push('\n');
        text.push_str(policy);
        text.push('\n');
    }
    text
}

/// The guardrails in a redacted text, by id.
pub(crate) fn guardrails_in(text: &str) -> BTreeMap<&str, &str> {
    let mut found = BTreeMap::new();
    let sections = text.strip_prefix(GUARDRAIL).unwrap_or_default();
    for section in sections.split(&format!("\n{GUARDRAIL}")) {
        if let Some((id, policy)) = section.split_once('\n') {
            found.insert(id, policy.trim_end());
        }
    }
    found
}

/// Whether the value at a path may be a secret.
type IsSecret = fn(path: &[&str], value: &DeValue<'_>) -> bool;

fn in_manifest(path: &[&str], value: &DeValue<'_>) -> bool {
    match path {
        ["config", ..] => true,
        ["http", "headers", _] => !matches!(value, DeValue::Table(_)),
        _ => false,
    }
}

/// What is part of the names of keys whose values are taken for secrets, however they look.
const NAMES_OF_SECRETS: [&str; 20] = [
    "auth", "cert", "code", "cookie", "cred", "dsn", "hash", "key", "login", "pass", "phrase",
    "pin", "private", "pwd", "salt", "secret", "seed", "session", "sign", "token",
];

/// As [`in_manifest`] for a text that leaves the host: a plugin defines its `[config]`, and nothing marks the secrets in it,
/// so a value is kept only if neither its keys nor it looks like one.
fn in_portable_manifest(path: &[&str], value: &DeValue<'_>) -> bool {
    match path {
        ["config", keys @ ..] => {
            let is_suspect = |key: &&str| {
                let key = key.to_lowercase();
                NAMES_OF_SECRETS.iter().any(|name| key.contains(name))
            };
            keys.iter().any(is_suspect) || !is_plain(value)
        }
        _ => in_manifest(path, value),
    }
}

/// Whether a value is a number of few digits or a few plain words, as a random secret or a passphrase is not.
fn is_plain(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Boolean(_) => true,
        DeValue::Integer(number) => is_plain_text(&number.to_string()),
        DeValue::Float(number) => is_plain_text(&number.to_string()),
        DeValue::String(text) => is_plain_text(text),
        DeValue::Array(items) => items.iter().all(|item| is_plain(item.get_ref())),
        DeValue::Datetime(_) | DeValue::Table(_) => false,
    }
}

fn is_plain_text(text: &str) -> bool {
    let mut words = text.split(['/', '-', '_', '.', ' ']);
    let is_word = |word: &str| {
        let rest = word.get(1..).unwrap_or_default();
        word.len() <= 4 && word.bytes().all(|it| it.is_ascii_digit())
            || word.len() <= 5 && word.bytes().all(|it| it.is_ascii_uppercase())
            || word.len() <= 16
                && word.starts_with(|it: char| it.is_ascii_alphabetic())
                && rest.bytes().all(|it| it.is_ascii_lowercase())
    };
    text.len() <= 40 && words.clone().count() <= 3 && words.all(is_word)
}

fn in_configuration(path: &[&str], value: &DeValue<'_>) -> bool {
    match path {
        // An account's remote server and its further endpoints have what its own connection has.
        ["account", _, "endpoint" | "remote", rest @ ..] | ["account", _, rest @ ..] => {
            in_connection(rest, value)
        }
        // The id names the brokerage module and thus whether real money is traded; it is no secret.
        ["brokerage", _, "id"] => false,
        ["deployment", _, "notification", "targets", rest @ ..] => in_target(rest, value),
        ["brokerage", _, _] | ["vault", "auth", _] => !matches!(value, DeValue::Table(_)),
        ["vault", "address"] => is_secret_address(value),
        _ => false,
    }
}

fn in_connection(path: &[&str], value: &DeValue<'_>) -> bool {
    match path {
        ["headers" | "env", _] => !matches!(value, DeValue::Table(_)),
        ["args"] => true,
        ["url" | "cloud"] => is_secret_address(value),
        _ => false,
    }
}

fn in_target(path: &[&str], value: &DeValue<'_>) -> bool {
    match path {
        ["headers", _] | ["token"] => !matches!(value, DeValue::Table(_)),
        // To know the address of a webhook is often enough to call it, whatever it looks like.
        ["webhook"] => true,
        _ => false,
    }
}

/// Whether an address may have a secret in it.
fn is_secret_address(value: &DeValue<'_>) -> bool {
    value
        .as_str()
        .is_none_or(|url| url.contains(['@', '?', '#']))
}

/// A TOML text without comments, with keyed digests in place of values that may be secrets. Invalid TOML is not kept at
/// all, since it is never in force.
fn redacted(text: &str, is_secret: IsSecret, fingerprints: &Fingerprints) -> String {
    let kept = replaced(text, is_secret, &mut |path, raw| {
        let print = fingerprints.of_text("kept text", &format!("{}\0{raw}", path.join(".")));
        let print = print.get(..32).unwrap_or_default();
        format!("\"keyed:{print}\"")
    });
    kept.unwrap_or_default()
}

/// A text of the host's files as it may leave the host: without comments and values that may be secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortableText {
    /// TOML, with `"removed"` in place of each removed value.
    pub text: String,
    /// The keys of the removed values: `config.token`.
    pub removed: Vec<String>,
}

impl PortableText {
    /// The text of a manifest; `None` if it is no TOML.
    #[must_use]
    pub fn manifest(text: &str) -> Option<Self> {
        Self::new(text, in_portable_manifest)
    }

    /// The text of a configuration; `None` if it is no TOML.
    #[must_use]
    pub fn configuration(text: &str) -> Option<Self> {
        Self::new(text, in_configuration)
    }

    fn new(text: &str, is_secret: IsSecret) -> Option<Self> {
        let mut removed = Vec::new();
        let text = replaced(text, is_secret, &mut |path, _| {
            removed.push(path.join("."));
            "\"removed\"".to_owned()
        })?;
        Some(Self { text, removed })
    }
}

/// A TOML text without comments, with something else in place of values that may be secrets. `instead` is called with the
/// path of each and with its text.
fn replaced(
    text: &str,
    is_secret: IsSecret,
    instead: &mut dyn FnMut(&[&str], &str) -> String,
) -> Option<String> {
    let document = DeTable::parse(text).ok()?;
    let mut cuts = Vec::new();
    let mut path = Vec::new();
    find_secrets(
        document.get_ref(),
        &mut path,
        is_secret,
        &mut |path, span| {
            let raw = text.get(span.clone()).unwrap_or_default();
            let replacement = instead(path, raw);
            cuts.push((span, replacement));
        },
    );
    for token in Source::new(text).lex() {
        if token.kind() == TokenKind::Comment {
            cuts.push((token.span().start()..token.span().end(), String::new()));
        }
    }
    cuts.sort_by_key(|(span, _)| span.start);
    let mut kept = String::with_capacity(text.len());
    let mut from = 0;
    for (span, instead) in cuts {
        // A comment inside of a removed value is gone with it.
        if span.start >= from {
            kept.push_str(text.get(from..span.start).unwrap_or_default());
            kept.push_str(&instead);
            from = span.end;
        }
    }
    kept.push_str(text.get(from..).unwrap_or_default());
    Some(kept)
}

fn find_secrets<'a>(
    table: &'a DeTable<'_>,
    path: &mut Vec<&'a str>,
    is_secret: IsSecret,
    found: &mut dyn FnMut(&[&str], Range<usize>),
) {
    for (key, value) in table {
        path.push(key.get_ref());
        find_in(value.get_ref(), value.span(), path, is_secret, found);
        path.pop();
    }
}

fn find_in<'a>(
    value: &'a DeValue<'_>,
    span: Range<usize>,
    path: &mut Vec<&'a str>,
    is_secret: IsSecret,
    found: &mut dyn FnMut(&[&str], Range<usize>),
) {
    match value {
        DeValue::Table(table) => find_secrets(table, path, is_secret, found),
        // The span of an array of tables is that of its first header, so its tables are visited individually.
        DeValue::Array(items) if of_tables(items) || !is_secret(path, value) => {
            for item in items {
                find_in(item.get_ref(), item.span(), path, is_secret, found);
            }
        }
        scalar if is_secret(path, scalar) => found(path, span),
        _ => {}
    }
}

fn of_tables(items: &DeArray<'_>) -> bool {
    !items.is_empty() && items.iter().all(|item| item.get_ref().is_table())
}

/// The texts of the grants in a kept manifest, by their names in records.
pub(crate) fn grants_in(text: &str) -> BTreeMap<String, String> {
    let Ok(document) = DeTable::parse(text) else {
        return BTreeMap::new();
    };
    let mut headers = Vec::new();
    headers_in(document.get_ref(), text, &mut headers);
    headers.sort_unstable();
    let mut found = BTreeMap::new();
    let tables = |list: &str| document.get_ref().get(list)?.get_ref().as_array();
    for table in tables("grant").into_iter().flatten() {
        let fields = table.get_ref().as_table();
        let name = fields.and_then(|fields| fields.get("name")?.get_ref().as_str());
        if let Some(name) = name {
            found.insert(name.to_owned(), written(table, text, &headers));
        }
    }
    for table in tables("folder").into_iter().flatten() {
        let fields = table.get_ref().as_table();
        let name = fields.and_then(|fields| fields.get("name")?.get_ref().as_str());
        if let Some(name) = name {
            found.insert(format!("folder:{name}"), written(table, text, &headers));
        }
    }
    if let Some(tables) = tables("http") {
        // A grant for other hosts may have no name; the manifest then derives one from its address.
        for (grant, table) in Manifest::http_in(text).into_iter().zip(tables) {
            let text = written(table, text, &headers);
            found.insert(format!("http:{}", grant.name), text);
        }
    }
    found
}

/// A table as written; `headers` are the offsets of all headers of the text, in order.
fn written(table: &Spanned<DeValue<'_>>, text: &str, headers: &[usize]) -> String {
    let span = table.span();
    let source = text.get(span.clone()).unwrap_or_default();
    if !source.starts_with('[') {
        return source.to_owned();
    }
    // A header: its table extends to the next header that is not of a table inside it.
    let mut own = Vec::new();
    if let Some(table) = table.get_ref().as_table() {
        headers_in(table, text, &mut own);
    }
    own.sort_unstable();
    let after = headers.partition_point(|start| *start <= span.start);
    let mut next = headers.iter().skip(after);
    let end = next.find(|start| own.binary_search(start).is_err());
    let end = end.copied().unwrap_or(text.len());
    let written = text.get(span.start..end).unwrap_or_default();
    written.trim_end().to_owned()
}

/// A kept manifest whose grants are limited to what those of another one allow.
pub(crate) fn narrowed(text: &str, to: &Manifest) -> Option<String> {
    let document = DeTable::parse(text).ok()?;
    let grants = document.get_ref().get("grant")?.get_ref().as_array()?;
    let mut narrowed = String::with_capacity(text.len());
    let mut from = 0;
    for grant in grants {
        let fields = grant.get_ref().as_table()?;
        let name = fields.get("name")?.get_ref().as_str()?;
        let allow = fields.get("allow")?;
        let kept = to.grants.iter().find(|grant| grant.name == name)?;
        let patterns = allow.get_ref().as_array()?.iter();
        let patterns: Vec<_> = patterns
            .filter_map(|pattern| pattern.get_ref().as_str())
            .filter(|pattern| kept.allow.iter().any(|kept| kept.as_str() == *pattern))
            .map(|pattern| format!("\"{pattern}\""))
            .collect();
        narrowed.push_str(text.get(from..allow.span().start)?);
        narrowed.push_str(&format!("[{}]", patterns.join(", ")));
        from = allow.span().end;
    }
    narrowed.push_str(text.get(from..)?);
    Some(narrowed)
}

/// Whether a redacted text grants the same as a manifest.
pub(crate) fn grants_as(text: &str, manifest: &Manifest) -> bool {
    let Ok(kept) = Manifest::parse(text, &manifest.path) else {
        return false;
    };
    // Values of headers are not kept.
    let http = |manifest: &Manifest| {
        let mut grants = manifest.http.clone();
        for grant in &mut grants {
            grant
                .headers
                .values_mut()
                .for_each(|value| *value = Value::Null);
        }
        grants
    };
    kept.account == manifest.account
        && kept.grants == manifest.grants
        && kept.folders == manifest.folders
        && http(&kept) == http(manifest)
}

/// Collects the offsets of table headers.
fn headers_in(table: &DeTable<'_>, text: &str, found: &mut Vec<usize>) {
    for (_, value) in table {
        header_of(value.get_ref(), value.span().start, text, found);
    }
}

fn header_of(value: &DeValue<'_>, start: usize, text: &str, found: &mut Vec<usize>) {
    match value {
        DeValue::Table(table) => {
            if text.get(start..).is_some_and(|rest| rest.starts_with('[')) {
                found.push(start);
            }
            headers_in(table, text, found);
        }
        DeValue::Array(items) if of_tables(items) => {
            for item in items {
                header_of(item.get_ref(), item.span().start, text, found);
            }
        }
        _ => {}
    }
}

/// The readable difference of two redacted texts of one form, within bounds; `None` stands for no text.
pub(crate) fn difference(form: Form, before: Option<&str>, after: Option<&str>) -> Vec<String> {
    bounded(differences(form, before, after))
}

/// All lines of the difference.
pub(crate) fn differences(form: Form, before: Option<&str>, after: Option<&str>) -> Vec<String> {
    if form == Form::Manifest
        && let Some(lines) = of_manifests(before, after)
    {
        return lines;
    }
    let before = statements(form, before.unwrap_or_default());
    let after = statements(form, after.unwrap_or_default());
    let mut lines = Vec::new();
    for (name, value) in &before {
        match after.get(name) {
            None => lines.push(format!("- {}", line(form, name, value))),
            Some(now) if now != value => lines.push(match form {
                Form::Guardrails => format!("~ guardrail `{name}`"),
                _ => format!("~ {name}: {} → {}", shortened(value), shortened(now)),
            }),
            Some(_) => {}
        }
    }
    for (name, value) in &after {
        if !before.contains_key(name) {
            lines.push(format!("+ {}", line(form, name, value)));
        }
    }
    lines
}

/// Limits a difference to [`MAX_LINES`] lines of [`MAX_LINE`] bytes, as it is recorded.
pub(crate) fn bounded(mut lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(MAX_LINES);
    lines.truncate(MAX_LINES);
    if more > 0 {
        lines.push(format!("… {more} more changes are not shown"));
    }
    lines.iter().map(|line| one_line(line)).collect()
}

/// A text as one line of bounded length.
pub(crate) fn one_line(text: &str) -> String {
    excerpt_bytes(&text.replace(char::is_control, " "), MAX_LINE)
}

/// What one manifest allows that the other does not; `None` if this version cannot read one of them.
fn of_manifests(before: Option<&str>, after: Option<&str>) -> Option<Vec<String>> {
    let parse = |text: Option<&str>| {
        let parsed = text.map(|text| Manifest::parse(text, Path::new("")));
        parsed.transpose().ok()
    };
    let (before, after) = (parse(before)?, parse(after)?);
    let difference = Difference::between(before.as_ref(), after.as_ref());
    let lines = difference.changes().iter();
    Some(
        lines
            .map(|change| format!("{}: {}", change.kind.word(), change.line))
            .collect(),
    )
}

fn line(form: Form, name: &str, value: &str) -> String {
    match form {
        Form::Guardrails => format!("guardrail `{name}`"),
        _ => format!("{name} = {value}"),
    }
}

fn shortened(value: &str) -> String {
    excerpt_bytes(value, MAX_LINE / 2 - 50)
}

/// The statements of a text, by key.
fn statements(form: Form, text: &str) -> BTreeMap<String, String> {
    if form == Form::Guardrails {
        let found = guardrails_in(text).into_iter();
        return found
            .map(|(id, text)| (id.to_owned(), text.to_owned()))
            .collect();
    }
    let mut found = BTreeMap::new();
    if let Ok(table) = text.parse::<toml::Table>() {
        flatten("", &table, &mut found);
    }
    found
}

fn flatten(prefix: &str, table: &toml::Table, found: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let path = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        match value {
            toml::Value::Table(inner) if !inner.is_empty() => flatten(&path, inner, found),
            toml::Value::Array(items)
                if !items.is_empty() && items.iter().all(toml::Value::is_table) =>
            {
                for (at, item) in items.iter().enumerate() {
                    let Some(inner) = item.as_table() else {
                        continue;
                    };
                    let name = inner.get("name").or_else(|| inner.get("allow"));
                    let name = name.and_then(toml::Value::as_str);
                    let path = name.map_or_else(
                        || format!("{path}[{at}]"),
                        |name| format!("{path} `{name}`"),
                    );
                    flatten(&path, inner, found);
                }
            }
            plain => {
                found.insert(path, plain.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn fingerprints() -> Fingerprints {
        Fingerprints::new(Zeroizing::new(b"key".to_vec()))
    }

    const MANIFEST: &str = r#"# the desk's plugin, token hunter2
plugin = "lab" # hunter2
component = "lab.wasm"
account = "a"
egress = "licensed"

[[grant]]
name = "first"
allow = ["files/*"] # hunter2 is not "hunter2"
projects = ["Lab/# no comment"]
  [grant.limits]
  per-day = 5

[[http]]
allow = "https://hooks.example.com/qc/"
headers = { Authorization = "Bearer hunter2", X-Key = { env = "KEY" } }

[[grant]]
name = "second"
allow = ["live/*"]

[config]
salt = "hunter2"
pin = 4711
list = ["hunter2", # hunter2
  "b"]
[config.deeper]
text = """
hunter2"""
"#;

    #[test]
    fn what_may_be_a_secret_is_replaced_and_everything_else_stays() {
        let kept = redacted(MANIFEST, in_manifest, &fingerprints());
        for secret in ["hunter2", "4711"] {
            assert!(!kept.contains(secret), "{kept}");
        }
        for stays in [
            "projects = [\"Lab/# no comment\"]",
            "{ env = \"KEY\" }",
            "per-day = 5",
            "https://hooks.example.com/qc/",
        ] {
            assert!(kept.contains(stays), "{kept}");
        }
        // It is still a manifest with the same grants.
        let path = std::path::Path::new("lab.toml");
        let (kept, whole) = (
            Manifest::parse(&kept, path).unwrap(),
            Manifest::parse(MANIFEST, path).unwrap(),
        );
        assert_eq!(kept.grants, whole.grants);
        assert_eq!(kept.config.len(), whole.config.len());
    }

    #[test]
    fn a_secret_of_the_configuration_is_replaced_wherever_it_may_stand() {
        let text = r#"
data = "data"
[account.a]
connection = "http"
url = "https://user:hunter2@example.com/mcp"
headers = { Authorization = "hunter2", Other = { env = "TOKEN" } }
[account.b]
connection = "stdio"
command = "server"
args = ["--token", "hunter2"]
env = { TOKEN = "hunter2", NAME = { file = "name" } }
[account.b.remote]
headers = { Authorization = "hunter2" }
[[account.b.endpoint]]
connection = "http"
url = "https://mcp.example.com/mcp?key=hunter2"
headers = { Authorization = "hunter2", Other = { env = "SECOND" } }
[[account.b.endpoint]]
connection = "stdio"
command = "server"
args = ["--token", "hunter2"]
[brokerage.paper]
id = "QuantConnectBrokerage"
[brokerage.ib]
id = "InteractiveBrokersBrokerage"
ib-password = "hunter2"
ib-account = { env = "IB" }
[deployment.ib.notification]
events = ["insight"]
targets = [
  { webhook = "https://hooks.example.com/hunter2", headers = { Key = "hunter2", Other = { env = "HOOK" } } },
  { telegram = "-100", token = "hunter2" },
  { telegram = "-200", token = { file = "bot" } },
]
[vault]
address = "https://vault.example.com"
auth = { role-id = "hunter2", secret-id = { file = "secret-id" } }
"#;
        let kept = redacted(text, in_configuration, &fingerprints());
        assert!(!kept.contains("hunter2"), "{kept}");
        for stays in [
            "InteractiveBrokersBrokerage",
            "{ env = \"IB\" }",
            "{ env = \"SECOND\" }",
            "{ file = \"name\" }",
            "{ env = \"HOOK\" }",
            "{ file = \"bot\" }",
            "https://vault.example.com",
        ] {
            assert!(kept.contains(stays), "{kept}");
        }
    }

    #[test]
    fn a_text_that_leaves_the_host_names_what_was_removed_from_it() {
        let portable = PortableText::manifest(MANIFEST).unwrap();
        for secret in ["hunter2", "4711"] {
            assert!(!portable.text.contains(secret), "{}", portable.text);
        }
        let mut removed = portable.removed.clone();
        removed.sort_unstable();
        assert_eq!(
            removed,
            [
                "config.deeper.text",
                "config.list",
                "config.pin",
                "config.salt",
                "http.headers.Authorization",
            ]
        );
        let plain = "data = \"data\" # hunter2\n[account.a]\nheaders = { A = { env = \"A\" } }\n";
        let portable = PortableText::configuration(plain).unwrap();
        assert_eq!(portable.removed, [""; 0]);
        assert_eq!(portable.text, plain.replace("# hunter2", ""));
        assert_eq!(PortableText::configuration("data = "), None);
    }

    #[test]
    fn of_a_plugins_configuration_only_plain_values_leave_the_host() {
        let portable = |line: &str| {
            let text = format!("[config]\n{line}\n");
            let portable = PortableText::manifest(&text).unwrap();
            assert_eq!(portable.removed.is_empty(), portable.text == text, "{line}");
            portable.removed.is_empty()
        };
        for kept in [
            "project = \"Lab/strategy-lab\"",
            "symbol = \"SPY\"",
            "fast = 10",
            "share = 0.25",
            "dry-run = true",
            "lists = [\"a\", \"b\"]",
            "deeper = { project = \"Lab\" }",
        ] {
            assert!(portable(kept), "{kept}");
        }
        for removed in [
            "token = \"Lab\"",
            "api-key = \"Lab\"",
            "Password = \"Lab\"",
            "secrets = { main = \"Lab\" }",
            "name = \"hunter2\"",
            "name = \"correct horse battery staple\"",
            "name = \"correct-horse-battery-staple\"",
            "name = \"wJalrXUtnFEMI\"",
            "name = \"deadbeefdeadbeefdeadbeef\"",
            "name = \"AKIAIOSFODNN\"",
            "number = 471147114711",
            "names = [\"a\", \"hunter2\"]",
            "url = \"https://user:word@example.com\"",
        ] {
            assert!(!portable(removed), "{removed}");
        }
        // The bundled one is what `qchost init` writes.
        let bundled = include_str!("../../../plugins/strategy-lab/manifest.toml");
        let portable = PortableText::manifest(bundled).unwrap();
        assert_eq!(portable.removed, [""; 0]);
        // What is kept of a text on the host is stricter.
        let kept = redacted(
            "[config]\nproject = \"Lab\"\n",
            in_manifest,
            &fingerprints(),
        );
        assert!(!kept.contains("Lab"), "{kept}");
    }

    #[test]
    fn a_changed_secret_shows_as_a_change_and_the_same_one_does_not() {
        let with = |value: &str| format!("[config]\ntoken = \"{value}\"\n");
        let kept = |value: &str| redacted(&with(value), in_manifest, &fingerprints());
        assert_eq!(kept("a"), kept("a"));
        let lines = difference(Form::Manifest, Some(&kept("a")), Some(&kept("b")));
        assert_eq!(lines.len(), 1);
        assert!(
            lines[0].starts_with("~ config.token: \"keyed:"),
            "{lines:?}"
        );
    }

    #[test]
    fn the_text_of_a_grant_is_all_of_it_and_nothing_else() {
        let kept = redacted(MANIFEST, in_manifest, &fingerprints());
        let grants = grants_in(&kept);
        let first = &grants["first"];
        assert!(first.starts_with("[[grant]]\nname = \"first\""), "{first}");
        assert!(first.ends_with("per-day = 5"), "{first}");
        let second = &grants["second"];
        assert_eq!(second, "[[grant]]\nname = \"second\"\nallow = [\"live/*\"]");
        let http = &grants["http:hooks-example-com-qc"];
        assert!(
            http.starts_with("[[http]]") && http.contains("X-Key"),
            "{http}"
        );
        assert_eq!(grants.len(), 3);
        let inline = "grant = [{ name = \"a\", allow = [\"files/*\"] }]";
        assert_eq!(
            grants_in(inline)["a"],
            "{ name = \"a\", allow = [\"files/*\"] }"
        );
    }

    #[test]
    fn a_difference_of_manifests_says_what_is_added_widened_and_taken_away() {
        let manifest = |grants: &str| {
            format!("plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"a\"\n{grants}")
        };
        let before =
            manifest("[[grant]]\nname = \"f\"\nallow = [\"files/*\"]\nprojects = [\"Lab/*\"]\n");
        let after = manifest(
            "[[grant]]\nname = \"f\"\nallow = [\"files/*\"]\nprojects = [\"*\"]\n[config]\na = \"hunter2\"\n",
        );
        let lines = difference(Form::Manifest, Some(&before), Some(&after));
        assert!(
            lines.iter().any(|line| line.starts_with("widened: ")),
            "{lines:?}"
        );
        assert!(!lines.concat().contains("hunter2"), "{lines:?}");
        let lines = difference(Form::Manifest, Some(&after), Some(&before));
        assert!(
            lines.iter().any(|line| line.starts_with("taken away: ")),
            "{lines:?}"
        );
        let lines = difference(Form::Manifest, None, Some(&before));
        assert!(
            lines.iter().any(|line| line.starts_with("added: ")),
            "{lines:?}"
        );
    }

    #[test]
    fn a_difference_says_what_came_went_and_changed() {
        let before = "[people.ann]\nuid = 1\nroles = [\"viewer\"]\n[people.bob]\nuid = 2\n";
        let after = "two-person = true\n[people.ann]\nuid = 1\nroles = [\"admin\"]\n";
        assert_eq!(
            difference(Form::Configuration, Some(before), Some(after)),
            [
                "~ people.ann.roles: [\"viewer\"] → [\"admin\"]",
                "- people.bob.uid = 2",
                "+ two-person = true",
            ]
        );
        let rules = |ids: &[(&str, &str)]| {
            let rules = ids
                .iter()
                .map(|(id, rule)| format!("{GUARDRAIL}{id}\n{rule}\n"));
            rules.collect::<String>()
        };
        let before = rules(&[("a.cedar:1", "forbid (a);"), ("b.cedar:1", "forbid (b);")]);
        let after = rules(&[
            ("a.cedar:1", "forbid (a,\n b);"),
            ("c.cedar:1", "forbid (c);"),
        ]);
        assert_eq!(
            difference(Form::Guardrails, Some(&before), Some(&after)),
            [
                "~ guardrail `a.cedar:1`",
                "- guardrail `b.cedar:1`",
                "+ guardrail `c.cedar:1`"
            ]
        );
        assert_eq!(guardrails_in(&after).get("c.cedar:1"), Some(&"forbid (c);"));
        let many: String = (0..1000)
            .map(|at| format!("k{at} = \"{}\"\n", "x".repeat(900)))
            .collect();
        let lines = difference(Form::Configuration, None, Some(&many));
        assert_eq!(lines.len(), MAX_LINES + 1);
        assert!(lines.iter().all(|line| line.len() < 2 * MAX_LINE));
    }
}
