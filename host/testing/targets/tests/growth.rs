//! Whatever reads what others wrote takes a time that grows with its size and no faster: each reader on the shapes that
//! make such things slow, at three sizes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use qchost_catalog::{Access, by_name};
use qchost_gate::fuzzing::{shown_difference, shown_text};
use qchost_policy::{
    Authority, Context, Difference, Facts, Glob, Guardrails, Manifest, Project, Resource, nearest,
};
use qchost_scope::fuzzing::patched_files;
use qchost_secrets::Redactor;
use qchost_testing::cost::{assert_linear, least};
use serde_json::{Value, json};

type Made = fn(usize) -> String;

/// What was there before, and what is there now.
type Pair = fn(usize) -> (String, String);

/// What made an earlier scanner of patches take a time that grew with the square of its input, and its like.
const PATCHES: [(&str, Made); 11] = [
    ("line feeds", |n| "\n".repeat(n)),
    ("carriage returns", |n| "\r".repeat(n)),
    ("line separators", |n| "\u{2028}".repeat(n / 3)),
    ("old names", |n| "--- a/x\n".repeat(n / 8)),
    ("old names and line feeds", |n| {
        format!("--- a/x\n{}", "\n".repeat(7)).repeat(n / 15)
    }),
    ("an old name, then line feeds", |n| {
        format!("{}{}", "--- a/x\n".repeat(n / 16), "\n".repeat(n / 2))
    }),
    ("spaces between names", |n| {
        format!("diff --git {}", " ".repeat(n))
    }),
    ("names with spaces", |n| {
        format!("diff --git {} x", "a ".repeat(n / 2))
    }),
    ("one long name", |n| format!("--- a/{}\n", "x".repeat(n))),
    ("hunks", |n| {
        format!(
            "--- a/x\n+++ b/x\n{}",
            "@@ -1 +1 @@\n-a\n+b\n".repeat(n / 18)
        )
    }),
    ("a hunk that claims much", |n| {
        format!(
            "--- a/x\n+++ b/x\n@@ -1,999999 +1,999999 @@\n{}",
            " \n-a\n+b\n".repeat(n / 8)
        )
    }),
];

#[test]
fn the_files_of_a_patch() {
    for (what, made) in PATCHES {
        assert_linear(what, 1 << 17, made, |patch| drop(patched_files(patch)));
    }
}

#[test]
fn a_patch_that_the_emulator_applies() {
    let files = |n: usize| BTreeMap::from([("x".to_owned(), "a\n".repeat(n / 64))]);
    for (what, made) in PATCHES {
        let input = |n| (files(n), made(n));
        assert_linear(what, 1 << 13, input, |(files, patch)| {
            drop(qchost_emulator::patch::apply(files, patch));
        });
    }
}

fn manifest(rest: &str) -> String {
    format!(
        "plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"a\"\negress = \"licensed\"\n{rest}"
    )
}

fn grants(count: usize, rest: &str) -> String {
    let grant = |at| format!("[[grant]]\nname = \"g{at}\"\nallow = [\"*\"]\n{rest}\n");
    manifest(&(0..count).map(grant).collect::<String>())
}

fn read(text: &str) -> Option<Authority> {
    let manifest = Manifest::parse(text, Path::new("/lab.toml")).ok()?;
    Some(Authority::new(Arc::new(manifest), &Guardrails::none()).unwrap())
}

/// Different names, so that no two grants have the same conditions.
fn names(from: usize, count: usize) -> String {
    let mut list = String::new();
    for at in from..from + count {
        write!(list, "\"Lab/{at}/*\", ").unwrap();
    }
    format!("[{list}]")
}

#[test]
fn a_manifest() {
    let shapes: [(&str, Made); 12] = [
        ("comments", |n| manifest(&"#\n".repeat(n / 2))),
        ("one comment", |n| manifest(&format!("#{}", "x".repeat(n)))),
        ("grants that are too many", |n| grants(n / 40, "")),
        ("an unknown key", |n| format!("{} = 1", "x".repeat(n))),
        ("unknown keys", |n| {
            (0..n / 12).map(|at| format!("k{at} = 1\n")).collect()
        }),
        ("dotted keys", |n| {
            manifest(&format!("[config]\n{}x = 1", "a.".repeat((n / 2).min(100))))
        }),
        ("keys of a table with a long name", |n| {
            let keys: String = (0..n / 16).map(|at| format!("k{at} = 1\n")).collect();
            manifest(&format!("[config.{}]\n{keys}", "x".repeat(n / 2)))
        }),
        ("a list of numbers", |n| {
            manifest(&format!("[config]\na = [{}]", "1,".repeat(n / 2)))
        }),
        ("a list of lists", |n| {
            manifest(&format!("[config]\na = [{}]", "[[]],".repeat(n / 5)))
        }),
        ("escapes", |n| {
            manifest(&format!("[config]\na = \"{}\"", "\\u00e9".repeat(n / 6)))
        }),
        ("a text that does not end", |n| {
            manifest(&format!("[config]\na = \"\"\"{}", "\"\n".repeat(n / 2)))
        }),
        ("tables", |n| {
            let tables: String = (0..n / 16).map(|at| format!("[config.t{at}]\n")).collect();
            manifest(&tables)
        }),
    ];
    for (what, made) in shapes {
        assert_linear(what, 1 << 16, made, |text| drop(read(text)));
    }
}

/// By the number of its patterns.
#[test]
fn a_manifest_of_many_patterns_is_compiled() {
    let shapes: [(&str, Made); 4] = [
        ("in one grant", |n| {
            grants(1, &format!("projects = {}", names(0, n - 1)))
        }),
        ("in many grants", |n| {
            let each = n / 32 - 1;
            let grant = |at| {
                let (allow, names) = ("allow = [\"*\"]", names(at * each, each));
                format!("[[grant]]\nname = \"g{at}\"\n{allow}\nprojects = {names}\n")
            };
            manifest(&(0..32).map(grant).collect::<String>())
        }),
        ("as tools", |n| {
            let tools: String = (0..n).map(|at| format!("\"raw/tool{at}\", ")).collect();
            let grant = format!("[[grant]]\nname = \"g\"\nallow = [{tools}]\n");
            manifest(&grant)
        }),
        ("as tools and projects", |n| {
            let tools: String = (0..n / 2).map(|at| format!("\"raw/tool{at}\", ")).collect();
            let projects = names(0, n / 2);
            manifest(&format!(
                "[[grant]]\nname = \"g\"\nallow = [{tools}]\nprojects = {projects}\n"
            ))
        }),
    ];
    for (what, made) in shapes {
        assert_linear(what, 128, made, |text| {
            assert!(read(text).is_some(), "{what}");
        });
    }
}

/// What an editor of manifests did once: 8,860 grants took two and a half minutes and more than a gigabyte.
#[test]
fn a_manifest_of_too_many_grants_is_refused_at_once() {
    let text = grants(8860, &format!("projects = {}", names(0, 3)));
    let refused = Manifest::parse(&text, Path::new("/lab.toml"))
        .unwrap_err()
        .to_string();
    assert!(refused.contains("at most 256 are allowed"), "{refused}");
    let patterns = grants(3, &format!("projects = {}", names(0, 1400)));
    let refused = Manifest::parse(&patterns, Path::new("/lab.toml"))
        .unwrap_err()
        .to_string();
    assert!(refused.contains("at most 4096 are allowed"), "{refused}");
    let long = format!("{} = 1", "x".repeat(1 << 20));
    let refused = Manifest::parse(&long, Path::new("/lab.toml"))
        .unwrap_err()
        .to_string();
    assert!(refused.len() < 4096, "{}", refused.len());
    assert!(least(3, || drop(read(&text))) < Duration::from_secs(2));
}

#[test]
fn a_decision_about_long_names() {
    let patterns = "projects = [\"*a*a*a*b\", \"*aaaaaaaa*\", \"a*\"]\nfiles = [\"*x*x*y\"]";
    let authority = read(&grants(16, patterns)).unwrap();
    let facts = |n: usize| Facts {
        resource: Resource::Project(Project {
            id: Some(1),
            name: "a".repeat(n),
            created: false,
        }),
        context: Context {
            file: Some("x".repeat(n)),
            ..Context::default()
        },
    };
    assert_linear("a decision", 1000, facts, |facts| {
        drop(authority.decide("sha256:0", "files/patch-file", Access::Write, facts));
    });
}

#[test]
fn a_pattern() {
    let shapes: [(&str, Made); 3] = [
        ("of stars", |n| "*".repeat(n / 4)),
        ("of stars and letters", |n| "*a".repeat(n / 8)),
        ("of a long part", |n| format!("*{}b*", "a".repeat(n / 4))),
    ];
    for (what, made) in shapes {
        let input = |n| (Glob::parse(&made(n)).unwrap(), "a".repeat(n));
        assert_linear(what, 1000, input, |(glob, text)| {
            for _ in 0..100 {
                std::hint::black_box(glob.matches(text));
            }
        });
    }
    assert_linear(
        "a word that nothing is like",
        1 << 16,
        |n| "x".repeat(n),
        |word| {
            assert_eq!(nearest(word, ["plugin", "component"].into_iter()), None);
        },
    );
}

fn of_projects(condition: &str) -> String {
    format!("forbid (principal, action, resource is Project) when {{ {condition} }};\n")
}

#[test]
fn guardrails() {
    let shapes: [(&str, Made); 9] = [
        ("comments", |n| "//\n".repeat(n / 3)),
        ("rules", |n| {
            let rule = |at| {
                format!(
                    "@id(\"r{at}\")\nforbid (principal, action, resource) when {{ context.live }};\n"
                )
            };
            (0..n / 80).map(rule).collect()
        }),
        ("a text", |n| {
            format!(
                "forbid (principal, action, resource) when {{ principal.name == \"{}\" }};",
                "x".repeat(n)
            )
        }),
        ("what is no rule", |n| "forbid ".repeat(n / 7)),
        ("brackets", |n| of_projects(&"(".repeat(n))),
        ("sets in sets", |n| of_projects(&"[".repeat(n))),
        ("quotes", |n| of_projects(&"\"\\\"".repeat(n / 3))),
        ("a chain that is too long", |n| {
            of_projects(&format!("{}true", "context.live || ".repeat(n / 16)))
        }),
        ("attributes that are too many", |n| {
            of_projects(&format!("context has a{}", ".a".repeat(n / 2)))
        }),
    ];
    for (what, made) in shapes {
        let file = |n| [(PathBuf::from("/a.cedar"), made(n))];
        assert_linear(what, 1 << 12, file, |files| drop(Guardrails::read(files)));
    }
}

/// By the number of operators or names, of a form that is new each time: what was found to fit is not asked again.
#[test]
fn guardrails_that_are_deep_or_long() {
    let shapes: [(&str, usize, Made); 6] = [
        ("or", 100, |n| {
            let names = (0..n).map(|at| format!("resource.name == \"Lab/{at}\""));
            names.collect::<Vec<_>>().join(" || ")
        }),
        ("and", 100, |n| vec!["context.live"; n].join(" && ")),
        ("not", 22, |n| {
            format!("{}context.live{}", "!(".repeat(n), ")".repeat(n))
        }),
        ("if", 100, |n| {
            format!(
                "{}true{}",
                "if context.live then ".repeat(n),
                " else false".repeat(n)
            )
        }),
        ("plus", 100, |n| format!("1{} == 1", " + 1".repeat(n))),
        ("a set", 500, |n| {
            let names: String = (0..n).map(|at| format!("\"Lab/{at}\", ")).collect();
            format!("[{names}\"\"].contains(resource.name)")
        }),
    ];
    let mut fresh = 0;
    for (what, size, made) in shapes {
        assert_linear(what, size, made, |condition| {
            fresh += 1;
            let text = of_projects(&format!(
                "(resource.id == {fresh} || ({condition})) && true"
            ))
            .replace("resource.id", "resource has id && resource.id");
            let read = Guardrails::read(&[(PathBuf::from("/a.cedar"), text)]);
            assert!(read.is_ok(), "{what}: {read:?}");
        });
    }
}

#[test]
fn what_is_too_much_of_guardrails_is_refused_at_once() {
    let rule = |at| format!("forbid (principal == Plugin::\"p{at}\", action, resource);\n");
    let many: String = (0..4000).map(rule).collect();
    let deep = of_projects(&format!("{}true", "context.live && ".repeat(16_000)));
    let brackets = of_projects(&format!(
        "{}true{}",
        "(".repeat(120_000),
        ")".repeat(120_000)
    ));
    for text in [many, deep, brackets] {
        let files = [(PathBuf::from("/a.cedar"), text)];
        let took = least(3, || drop(Guardrails::read(&files)));
        assert!(took < Duration::from_millis(500), "{took:?}");
    }
}

#[test]
fn the_difference_of_two_manifests() {
    let shapes: [(&str, Made); 3] = [
        ("of other names", |n| {
            grants(1, &format!("projects = {}", names(0, n)))
        }),
        ("of many grants", |n| {
            let grant = |at| {
                format!(
                    "[[grant]]\nname = \"g{at}\"\nallow = [\"*\"]\nprojects = {}\n",
                    names(at * 8, 8)
                )
            };
            manifest(&(0..n / 8).map(grant).collect::<String>())
        }),
        ("of tools", |n| {
            let tools: String = (0..n).map(|at| format!("\"raw/tool{at}\", ")).collect();
            manifest(&format!("[[grant]]\nname = \"g\"\nallow = [{tools}]\n"))
        }),
    ];
    let parsed = |text: &str| Manifest::parse(text, Path::new("/lab.toml")).unwrap();
    for (what, made) in shapes {
        // Every name is another one.
        let both = |n| {
            let text = made(n);
            (
                parsed(&text),
                parsed(&text.replace("Lab/", "Prod/").replace("raw/", "raw/x")),
            )
        };
        assert_linear(what, 256, both, |(former, now)| {
            drop(Difference::between(Some(former), Some(now)));
        });
    }
}

#[test]
fn the_difference_that_an_approver_is_shown() {
    let shapes: [(&str, Pair); 6] = [
        ("the same", |n| ("a\n".repeat(n / 2), "a\n".repeat(n / 2))),
        ("nothing in common", |n| {
            ("a\n".repeat(n / 2), "b\n".repeat(n / 2))
        }),
        ("lines that repeat", |n| {
            ("a\nb\n".repeat(n / 4), "b\nb\na\n".repeat(n / 6))
        }),
        ("lines of their own", |n| {
            let lines = |from: usize| {
                (from..from + n / 8)
                    .map(|at| format!("{at:07}\n"))
                    .collect()
            };
            (lines(0), lines(n / 16))
        }),
        ("one line", |n| ("a".repeat(n), "b".repeat(n))),
        ("control characters", |n| {
            ("\u{1b}\n".repeat(n / 2), "\u{202e}\n".repeat(n / 4))
        }),
    ];
    for (what, made) in shapes {
        assert_linear(what, 1 << 13, made, |(former, now)| {
            drop(shown_difference(former, now));
            drop(shown_text(now));
        });
    }
}

#[test]
fn the_schema_of_an_input() {
    let shapes: [(&str, Made); 6] = [
        ("properties", |n| {
            let properties = (0..n / 32).map(|at| (format!("p{at}"), json!({ "type": "string" })));
            json!({ "type": "object", "properties": properties.collect::<serde_json::Map<_, _>>() })
                .to_string()
        }),
        ("alternatives", |n| {
            json!({ "anyOf": vec![json!({ "type": "string" }); n / 20] }).to_string()
        }),
        ("values", |n| {
            json!({ "enum": (0..n / 6).collect::<Vec<_>>() }).to_string()
        }),
        ("references", |n| {
            let all = vec![json!({ "$ref": "#/$defs/a" }); n / 24];
            json!({ "$defs": { "a": { "type": "string" } }, "allOf": all }).to_string()
        }),
        ("required", |n| {
            let names: Vec<_> = (0..n / 8).map(|at| format!("p{at}")).collect();
            json!({ "type": "object", "required": names }).to_string()
        }),
        ("what is no schema", |n| "[".repeat(n)),
    ];
    for (what, made) in shapes {
        let input = |n| (made(n), json!({ "p0": "x".repeat(n) }));
        assert_linear(what, 1 << 12, input, |(schema, input)| {
            drop(qchost_runtime::fuzzing::describe(
                "act",
                schema,
                Some(input),
            ));
        });
    }
}

#[test]
fn an_answer_of_a_server() {
    let shapes: [(&str, Made); 5] = [
        ("a text", |n| "x".repeat(n)),
        ("numbers", |n| format!("[{}1]", "1,".repeat(n / 2))),
        ("errors", |n| {
            json!({ "success": false, "errors": vec!["no"; n / 5] }).to_string()
        }),
        ("addresses", |n| "https://a.b/?c ".repeat(n / 15)),
        ("members", |n| {
            let members = (0..n / 12).map(|at| (format!("k{at}"), json!(1)));
            Value::Object(members.collect()).to_string()
        }),
    ];
    let operation = by_name("backtests/read-backtest");
    for (what, made) in shapes {
        assert_linear(what, 1 << 16, made, |text| {
            let result = json!({ "content": [{ "type": "text", "text": text }] });
            let result = serde_json::from_value(result).unwrap();
            drop(qchost_upstream::fuzzing::answer(
                operation,
                result,
                &["a secret of it"],
            ));
        });
    }
}

#[test]
fn an_answer_that_becomes_typed() {
    let operation = by_name("backtests/list-backtests").unwrap();
    let made = |n: usize| {
        let backtest = json!({ "backtestId": "b", "name": "n", "projectId": 1, "status": "Completed.", "progress": 1 });
        json!({ "success": true, "backtests": vec![backtest; n / 100], "count": n / 100 })
    };
    assert_linear("a list", 1 << 16, made, |body| {
        drop(qchost_runtime::fuzzing::answer(operation, body.clone()));
    });
}

#[test]
fn a_text_that_secrets_are_taken_out_of() {
    let redactor = Redactor::default();
    for at in 0..50 {
        redactor.remember(format!("aaaaaaaa-secret-{at}").into());
    }
    let shapes: [(&str, Made); 3] = [
        ("the beginning of secrets", |n| "a".repeat(n)),
        ("secrets", |n| "aaaaaaaa-secret-7".repeat(n / 17)),
        ("half of secrets", |n| "aaaaaaaa-secret".repeat(n / 15)),
    ];
    for (what, made) in shapes {
        assert_linear(what, 1 << 14, made, |text| drop(redactor.clean(text)));
    }
}
