//! The JSON Schema of the manifest, for completion and validation in editors.
//!
//! Invariant: what it rejects, the parser rejects too. The parser rejects more: duplicate names,
//! and patterns that cover nothing.

use serde_json::{Value, json};

use super::alias::{MAX_ALIAS, MAX_ALIASES};
use super::folder::{MAX_FILES, MAX_FOLDERS, MODES};
use super::grant::MAX_GRANTS;
use super::http::METHODS;
use crate::glob::MAX_GLOB;
use crate::grantable::grantable;

/// The JSON Schema (draft 2020-12) of the manifest.
#[must_use]
pub fn manifest_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "qchost manifest",
        "description": "What one plugin is and what it may do. What is not written is not granted.",
        "type": "object",
        "additionalProperties": false,
        "required": ["plugin", "component", "account"],
        "properties": {
            "plugin": name("The plugin's name."),
            "component": {
                "description": "The component's file, next to the manifest.",
                "type": "string",
                "minLength": 1,
                "not": { "pattern": "://" },
            },
            "digest": {
                "description": "The hash that the component must have: sha256: and 64 hexadecimal digits.",
                "type": "string",
                "pattern": "^sha256:[0-9a-f]{64}$",
            },
            "account": name("The account whose connection the plugin uses."),
            "egress": {
                "description": "Lets licensed data out: needed where operations that may answer it are granted together with requests, messages or a folder that it may write to.",
                "const": "licensed",
            },
            "grant": {
                "description": "Named permissions. A call is allowed when one of them covers it.",
                "type": "array",
                "maxItems": MAX_GRANTS,
                "items": grant(),
            },
            "http": {
                "description": "Where the plugin may send requests.",
                "type": "array",
                "maxItems": MAX_GRANTS,
                "items": http(),
            },
            "folder": {
                "description": "Folders of the host's machine that the plugin may use.",
                "type": "array",
                "maxItems": MAX_FOLDERS,
                "items": folder(),
            },
            "limits": limits(),
            "config": {
                "description": "What the plugin reads as its configuration. It holds no secrets.",
                "type": "object",
            },
            "alias": {
                "description": "Other names of the plugin's actions. They grant nothing.",
                "type": "array",
                "maxItems": MAX_ALIASES,
                "items": alias(),
            },
        },
    })
}

fn grant() -> Value {
    let names: Vec<_> = grantable().map(|(name, _)| name).collect();
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["name", "allow"],
        "properties": {
            "name": name("Its name, unique in the manifest: counters and audit records refer to it."),
            "allow": {
                "description": "The operations. A star covers no operation that deletes or trades: those are named.",
                "type": "array",
                "items": {
                    "anyOf": [
                        { "enum": names },
                        { "type": "string", "pattern": "^raw/(\\*|[A-Za-z0-9_.-]{1,128})$" },
                        { "type": "string", "pattern": "^[^*]*\\*", "not": { "pattern": "^raw/." } },
                    ],
                },
            },
            "projects": {
                "description": "Scope: the projects, by id, by name (a star crosses slashes), or those that the plugin created.",
                "type": "array",
                "items": {
                    "anyOf": [
                        { "type": "integer", "minimum": 0, "maximum": u32::MAX },
                        glob(),
                        {
                            "type": "object",
                            "additionalProperties": false,
                            "required": ["created"],
                            "properties": { "created": { "const": true } },
                        },
                    ],
                },
            },
            "organizations": globs("Scope: the organisations, by id."),
            "keys": globs("Scope: the keys of the Object Store."),
            "brokerages": globs("Scope: the brokerage profiles. A star covers paper profiles only."),
            "data-providers": globs("Scope: the data-provider profiles."),
            "commands": globs("Scope: the types of live commands."),
            "collaborators": globs("Scope: the users who may be given rights or lose them."),
            "recipients": globs("Scope: who may get messages: email addresses, telephone numbers, chats."),
            "files": globs("Condition: the paths of files."),
            "charts": globs("Condition: the names of charts."),
            "nodes": globs("Condition: the node types, or the ids of nodes."),
            "max-cost": usd("Condition: what one operation may cost, in US dollars."),
            "max-parameters": {
                "description": "Condition: how many parameters there may be.",
                "type": "integer",
                "minimum": 0,
                "maximum": 1_000_000,
            },
            "limits": {
                "description": "How much of it. Counted by account, plugin and grant.",
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "concurrent": count("Operations at one time."),
                    "per-second": count("Operations in a second."),
                    "per-minute": count("Operations in a minute."),
                    "per-day": count("Operations in a day (UTC)."),
                    "cost-per-day": usd("What the operations of a day (UTC) may cost together, in US dollars."),
                },
            },
            "approval": {
                "description": "Whether a person has to agree to each use.",
                "enum": ["none", "operator"],
            },
        },
    })
}

fn http() -> Value {
    let source = |key: &str| {
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": [key],
            "properties": { key: { "type": "string", "minLength": 1 } },
        })
    };
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["allow"],
        "properties": {
            "name": name("Its name, unique in the manifest; without one, it is made of host and path."),
            "allow": {
                "description": "What addresses begin with: https://hooks.example.com/qc/",
                "type": "string",
                "pattern": "^[hH][tT][tT][pP][sS]?://[^@?#*]+$",
            },
            "methods": {
                "description": "The methods; without it GET, HEAD and POST.",
                "type": "array",
                "items": { "enum": METHODS },
            },
            "headers": {
                "description": "Headers that the host puts in: a text, or where a secret is read.",
                "type": "object",
                "additionalProperties": {
                    "anyOf": [{ "type": "string" }, source("env"), source("file"), source("vault")],
                },
            },
            "addresses": {
                "description": "Addresses that may be dialled although they are not public.",
                "type": "array",
                "items": { "type": "string", "pattern": "^[0-9a-fA-F:.]+$" },
            },
            "limits": {
                "description": "How much of it. Counted by account, plugin and name.",
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "concurrent": count("Requests at one time."),
                    "per-second": count("Requests in a second."),
                    "per-minute": count("Requests in a minute."),
                    "per-day": count("Requests in a day (UTC)."),
                },
            },
            "request": size("The size of a request's body; 1MiB without it."),
            "response": size("The size of an answer's body; 4MiB without it."),
            "timeout": time("Time for one request; 30s without it."),
        },
    })
}

fn folder() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["name", "path", "mode"],
        "properties": {
            "name": name("Its name, unique among the folders: the plugin and audit records refer to it."),
            "path": {
                "description": "Where it is: an absolute path, apart from the host's own folders, homes and the system's.",
                "type": "string",
                "pattern": "^/",
            },
            "mode": {
                "description": "Whether files are only listed and read, or written and deleted too.",
                "enum": MODES,
            },
            "max-bytes": size("All its files together; 64MiB without it."),
            "max-files": {
                "description": "The number of its files; 10000 without it.",
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_FILES,
            },
        },
    })
}

fn alias() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["name", "action"],
        "properties": {
            "name": {
                "description": "The other name, unique on the host: quantconnect.backtest.run.",
                "type": "string",
                "maxLength": MAX_ALIAS,
                "pattern": "^[a-z0-9-]+(\\.[a-z0-9-]+)*$",
            },
            "action": name("The action of the plugin."),
        },
    })
}

fn limits() -> Value {
    json!({
        "description": "What one invocation may use.",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "memory": size("All memories and tables together; 64MiB without it."),
            "cpu": time("Time on the processor; 5s without it."),
            "wall": time("Time in all, waiting included; 15m without it."),
            "concurrency": {
                "description": "Invocations of the plugin at one time; 16 without it.",
                "type": "integer",
                "minimum": 1,
                "maximum": 1000,
            },
            "output": size("The answer; 4MiB without it."),
        },
    })
}

fn name(description: &str) -> Value {
    json!({ "description": description, "type": "string", "pattern": "^[a-z0-9-]{1,64}$" })
}

fn glob() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": MAX_GLOB })
}

fn globs(description: &str) -> Value {
    json!({ "description": description, "type": "array", "items": glob() })
}

fn count(description: &str) -> Value {
    json!({ "description": description, "type": "integer", "minimum": 1, "maximum": u32::MAX })
}

fn usd(description: &str) -> Value {
    json!({
        "description": description,
        "type": "number",
        "minimum": 0,
        "maximum": 922_337_203_685_477_u64,
    })
}

fn size(description: &str) -> Value {
    json!({
        "description": format!("{description} A number and B, KiB, MiB or GiB, at most 4GiB."),
        "type": "string",
        "pattern": "^\\s*[0-9]+\\s*(B|KiB|MiB|GiB)\\s*$",
    })
}

fn time(description: &str) -> Value {
    json!({
        "description": format!("{description} A number and ms, s, m or h, at most 24h."),
        "type": "string",
        "pattern": "^\\s*[0-9]+\\s*(ms|s|m|h)\\s*$",
    })
}
