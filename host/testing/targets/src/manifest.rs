//! The operator's manifest: `qchost_policy::Manifest::parse`.
//!
//! What is accepted can be written down again and means the same, and compiles to policies. What is
//! refused is refused in one line with the file, the line in it and the key.

use std::path::Path;
use std::sync::Arc;

use qchost_policy::{
    Approval, Authority, Egress, FolderGrant, Glob, Grant, GrantLimits, Guardrails, HttpGrant,
    Manifest, ManifestError, ProjectScope, Usd, grantable, manifest_schema,
};
use serde_json::Value as Json;
use toml::{Table, Value};

const FILE: &str = "/plugins/fuzzed.toml";

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Manifest::parse(text, Path::new(FILE)) {
        Ok(manifest) => {
            let written = toml::to_string(&written(&manifest)).expect("a manifest can be written");
            let again = Manifest::parse(&written, Path::new(FILE))
                .unwrap_or_else(|error| panic!("{error}\n{written}"));
            assert_eq!(again, manifest, "{written}");
            Authority::new(Arc::new(manifest), &Guardrails::none())
                .unwrap_or_else(|error| panic!("no policies: {error}"));
        }
        Err(error) => refused(text, &error),
    }
}

fn refused(text: &str, error: &ManifestError) {
    let (path, at, key) = match error {
        ManifestError::Read { .. } => panic!("nothing was read: {error}"),
        ManifestError::Invalid {
            path, line, key, ..
        } => (path, line, key.as_ref()),
    };
    assert_eq!(path, Path::new(FILE));
    assert!(
        (1..=text.lines().count() + 1).contains(at),
        "line {at} of {text:?}"
    );
    assert!(key.is_none_or(|key| !key.is_empty()), "no key: {error}");
    let shown = error.to_string();
    assert!(shown.starts_with(&format!("{FILE}:{at}: ")), "{shown}");
    crate::assert_line(&shown, usize::MAX);
}

/// The manifest in full, nothing left to a default.
fn written(manifest: &Manifest) -> Table {
    let mut table = Table::new();
    let mut put = |key: &str, value: Value| table.insert(key.to_owned(), value);
    put("plugin", text(&manifest.plugin));
    put("account", text(&manifest.account));
    put(
        "component",
        text(manifest.component.to_str().expect("the manifest is text")),
    );
    if let Some(digest) = &manifest.digest {
        put("digest", text(digest));
    }
    if manifest.egress == Egress::Licensed {
        put("egress", text("licensed"));
    }
    put("grant", list(manifest.grants.iter().map(grant)));
    put("http", list(manifest.http.iter().map(http)));
    put("folder", list(manifest.folders.iter().map(folder)));
    let limits = &manifest.limits;
    put(
        "limits",
        table_of([
            ("memory", bytes(limits.memory)),
            ("output", bytes(limits.output)),
            ("cpu", time(limits.cpu)),
            ("wall", time(limits.wall)),
            (
                "concurrency",
                Value::Integer(i64::try_from(limits.concurrency).expect("at most 1000")),
            ),
        ]),
    );
    let aliases = manifest
        .aliases
        .iter()
        .map(|alias| table_of([("name", text(&alias.name)), ("action", text(&alias.action))]));
    put("alias", list(aliases));
    put("config", setting(&Json::Object(manifest.config.clone())));
    table
}

fn grant(grant: &Grant) -> Value {
    let projects = grant.projects.iter().map(|scope| match scope {
        ProjectScope::Id(id) => Value::from(*id),
        ProjectScope::Name(name) => text(name.as_str()),
        ProjectScope::Created => table_of([("created", Value::Boolean(true))]),
    });
    let mut table = vec![
        ("name", text(&grant.name)),
        (
            "allow",
            list(grant.allow.iter().map(|it| text(it.as_str()))),
        ),
        ("projects", list(projects)),
        ("organizations", globs(&grant.organizations)),
        ("keys", globs(&grant.keys)),
        ("brokerages", globs(&grant.brokerages)),
        ("data-providers", globs(&grant.data_providers)),
        ("commands", globs(&grant.commands)),
        ("collaborators", globs(&grant.collaborators)),
        ("recipients", globs(&grant.recipients)),
        ("limits", rates(grant.limits)),
        (
            "approval",
            text(match grant.approval {
                Approval::None => "none",
                Approval::Operator => "operator",
            }),
        ),
    ];
    table.extend(grant.files.as_deref().map(|files| ("files", globs(files))));
    table.extend(
        grant
            .charts
            .as_deref()
            .map(|charts| ("charts", globs(charts))),
    );
    table.extend(grant.nodes.as_deref().map(|nodes| ("nodes", globs(nodes))));
    table.extend(grant.max_cost.map(|cost| ("max-cost", dollars(cost))));
    table.extend(
        grant
            .max_parameters
            .map(|most| ("max-parameters", Value::from(most))),
    );
    table_of(table)
}

fn folder(grant: &FolderGrant) -> Value {
    let path = grant.path.to_str().expect("the manifest is text");
    table_of([
        ("name", text(&grant.name)),
        ("path", text(path)),
        ("mode", text(&grant.mode.to_string())),
        ("max-bytes", bytes(grant.max_bytes)),
        ("max-files", Value::from(grant.max_files)),
    ])
}

fn http(grant: &HttpGrant) -> Value {
    let headers = grant
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), setting(value)));
    table_of([
        ("name", text(&grant.name)),
        ("allow", text(&grant.url.to_string())),
        ("methods", list(grant.methods.iter().map(|it| text(it)))),
        ("headers", table_of(headers)),
        (
            "addresses",
            list(grant.addresses.iter().map(|it| text(&it.to_string()))),
        ),
        ("limits", rates(grant.limits)),
        ("request", bytes(grant.request)),
        ("response", bytes(grant.response)),
        ("timeout", time(grant.timeout)),
    ])
}

fn rates(limits: GrantLimits) -> Value {
    let counts = [
        ("concurrent", limits.concurrent),
        ("per-second", limits.per_second),
        ("per-minute", limits.per_minute),
        ("per-day", limits.per_day),
    ];
    let counts = counts
        .into_iter()
        .filter_map(|(key, count)| Some((key, Value::from(count?))));
    let cost = limits
        .cost_per_day
        .map(|cost| ("cost-per-day", dollars(cost)));
    table_of(counts.chain(cost))
}

fn setting(value: &Json) -> Value {
    match value {
        Json::Null => panic!("TOML has no null"),
        Json::Bool(is) => Value::Boolean(*is),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::Integer(whole),
            None => Value::Float(number.as_f64().expect("a number")),
        },
        Json::String(it) => text(it),
        Json::Array(items) => list(items.iter().map(setting)),
        Json::Object(fields) => table_of(fields.iter().map(|(k, v)| (k.as_str(), setting(v)))),
    }
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn list(items: impl Iterator<Item = Value>) -> Value {
    Value::Array(items.collect())
}

fn table_of<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let entries = entries.into_iter();
    Value::Table(
        entries
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    )
}

fn globs(globs: &[Glob]) -> Value {
    list(globs.iter().map(|glob| text(glob.as_str())))
}

fn bytes(bytes: u64) -> Value {
    text(&format!("{bytes}B"))
}

fn time(time: std::time::Duration) -> Value {
    text(&format!("{}ms", time.as_millis()))
}

fn dollars(Usd(units): Usd) -> Value {
    let written = format!("{}.{:04}", units / 10_000, units % 10_000);
    Value::Float(written.parse().expect("a number"))
}

/// The keys and texts of the manifest's schema, and what can be granted.
pub(crate) fn words() -> Vec<String> {
    let mut words: Vec<_> = grantable().map(|(name, _)| format!("\"{name}\"")).collect();
    let syntax = [
        "[[grant]]\n",
        "[[http]]\n",
        "[limits]\n",
        "[config]\n",
        "[[alias]]\n",
        "{ created = true }",
        "\"*\"",
        "\"64MiB\"",
        "\"5s\"",
        "\"https://hooks.example.com/qc/\"",
        "{ env = \"TOKEN\" }",
        "\"raw/*\"",
        "\"raw/tool\"",
        " = ",
        "[",
        "]",
        "\"\"\"",
        "schedule",
        "12345",
        "1e300",
        "0x7f",
        "2026-01-01T00:00:00Z",
        "nan",
        "\\u0000",
    ];
    words.extend(syntax.map(str::to_owned));
    collect(&manifest_schema(), &mut words);
    words
}

fn collect(schema: &Json, words: &mut Vec<String>) {
    match schema {
        Json::Object(fields) => {
            for (key, value) in fields {
                if key == "properties" {
                    let keys = value.as_object().into_iter().flatten();
                    words.extend(keys.map(|(key, _)| format!("\n{key} = ")));
                }
                collect(value, words);
            }
        }
        Json::Array(items) => items.iter().for_each(|item| collect(item, words)),
        _ => {}
    }
}
