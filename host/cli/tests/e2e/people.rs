//! People are identified by the kernel and authorised by their roles. Each allowed request has a denied twin.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};

use crate::desk::{ADMIN, APPROVER, Desk, OPERATOR, SECOND, STRANGER, VIEWER};

const ALL: [u32; 5] = [VIEWER, OPERATOR, APPROVER, SECOND, ADMIN];

#[test]
fn every_role_may_what_it_is_for_and_nothing_else() {
    let Some(desk) = Desk::new("", str::to_owned) else {
        return;
    };
    let host = desk.serve();
    let backup = desk.folder.path().join("backup").display().to_string();
    let operate = [OPERATOR, SECOND, ADMIN];
    let decide = [APPROVER, SECOND, ADMIN];
    let table: [(&[&str], &[u32]); 16] = [
        (&["plugin", "list"], &ALL),
        (&["plugin", "logs", "every-category"], &ALL),
        (&["plugin", "grants", "every-category"], &ALL),
        (&["halt", "--list"], &ALL),
        (&["audit", "tail"], &ALL),
        (&["audit", "verify"], &ALL),
        (&["approvals", "list"], &ALL),
        (
            &[
                "policy",
                "explain",
                "every-category",
                "account/read-account",
            ],
            &operate,
        ),
        (&["invoke", "every-category.account"], &operate),
        (&["halt", "--plugin", "every-category"], &operate),
        (&["resume", "--plugin", "every-category"], &operate),
        (
            &["approvals", "refuse", "ap-aaaaaaaaaa", "--reason", "no"],
            &decide,
        ),
        (&["backup", &backup], &[ADMIN]),
        (&["account", "status"], &ALL),
        (&["account", "login", "research"], &[ADMIN]),
        (&["account", "logout", "research"], &[ADMIN]),
    ];
    for (arguments, may) in table {
        for uid in ALL {
            // Those who may halt also resume, so that the next test finds the same state.
            if arguments[0] == "resume" {
                desk.run_as(ADMIN, &["halt", "--plugin", "every-category"])
                    .good();
            }
            let ran = desk.run_as(uid, arguments);
            if may.contains(&uid) {
                // There is no such approval, and no server to log in to; users without the right do not learn even
                // that.
                let none = ["there is no approval", "no person logs in to the server"];
                let none = none.iter().any(|none| ran.stderr.contains(none));
                let done = ran.status.success() || none;
                assert!(done, "{uid} {arguments:?}: {ran:?}");
            } else {
                let error = ran.error();
                assert!(error.contains("denied"), "{uid} {arguments:?}: {error}");
                // A denial names the roles that would be allowed.
                let role = if may == [ADMIN] {
                    "admin"
                } else if may == decide {
                    "approver"
                } else {
                    "operator"
                };
                assert!(error.contains(role), "{uid} {arguments:?}: {error}");
            }
            if arguments[0] == "halt" || arguments[0] == "resume" {
                let _ = desk.run_as(ADMIN, &["resume", "--plugin", "every-category"]);
            }
        }
    }
    // Denials are recorded, with the person.
    let denied = desk.run_as(ADMIN, &["--json", "audit", "query", "--kind", "admin"]);
    assert!(
        denied.good().stdout.lines().any(|line| {
            line.contains("\"viewer\"") && line.contains("denied") && line.contains("halt")
        }),
        "{}",
        denied.stdout
    );
    host.end();
}

#[test]
fn a_stranger_is_not_heard_and_root_is_one_unless_configured() {
    let Some(desk) = Desk::new("", str::to_owned) else {
        return;
    };
    let host = desk.serve();
    let ran = desk.run_as(STRANGER, &["plugin", "list"]);
    let error = &ran.stderr;
    assert_eq!(ran.status.code(), Some(3), "{ran:?}");
    for expected in [
        "uid 64006 is not a person of this host",
        "[people.NAME]",
        "uid = 64006",
    ] {
        assert!(error.contains(expected), "{error}");
    }
    let ran = desk.folder.run(&["call", "read_lean_versions"]);
    assert!(
        ran.stderr.contains("uid 0 is not a person of this host"),
        "{ran:?}"
    );
    assert_eq!(desk.cloud.requests_to("/lean/versions/read").len(), 0);
    // The twin.
    desk.run_as(OPERATOR, &["call", "read_lean_versions"])
        .good();
    assert_eq!(desk.cloud.requests_to("/lean/versions/read").len(), 1);
    host.end();
    // The same without a host: owning the data does not make a user one of the host's people.
    let ran = desk.folder.run(&["call", "read_lean_versions"]);
    assert!(
        ran.stderr.contains("uid 0 is not a person of this host"),
        "{ran:?}"
    );
    // A user with a role learns that no host was found, since they cannot see whether one is running.
    let ran = desk.run_as(OPERATOR, &["call", "read_lean_versions"]);
    let error = ran.error();
    assert!(
        error.contains("no running host was found")
            && error.contains("--socket PATH")
            && error.contains("belongs to uid 0")
            && !error.contains("qchost run"),
        "{error}"
    );
    // If they can neither halt nor create the file, the error says that another user has to.
    let ran = desk.run_as(OPERATOR, &["halt"]);
    let touch = format!("touch {}/data/halt", desk.folder.path().display());
    let error = ran.error();
    assert!(
        error.contains("nothing is halted") && error.contains(&touch),
        "{error}"
    );
    assert!(!desk.folder.path().join("data/halt").exists());
}

/// The error says what helps: a user whose entry awaits approval is not advised to add it again.
#[test]
fn a_person_whom_the_configuration_names_and_who_waits_is_told_for_what() {
    let Some(desk) = Desk::new("mode = \"production\"", str::to_owned) else {
        return;
    };
    let host = desk.serve();
    let path = desk.folder.path().join("qchost.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let touch = format!("touch {}/data/halt", desk.folder.path().display());
    let ran = desk.run_as(STRANGER, &["halt"]);
    assert!(
        ran.stderr.contains(&touch) && !ran.stderr.contains("\"viewer\""),
        "{ran:?}"
    );
    let late = format!("{text}\n[people.late]\nuid = {STRANGER}\nroles = [\"operator\"]\n");
    std::fs::write(&path, late).unwrap();
    desk.run_as(ADMIN, &["reload"]);
    let ran = desk.run_as(STRANGER, &["halt"]);
    let error = ran.error();
    assert!(
        error.contains("waits for an admin: qchost approvals show ap-") && error.contains(&touch),
        "{error}"
    );
    assert!(!error.contains("[people.NAME]"), "{error}");
    host.end();
}

#[test]
fn the_socket_is_open_to_the_group_only() {
    let Some(desk) = Desk::new("", str::to_owned) else {
        return;
    };
    let host = desk.serve();
    let socket = desk.folder.path().join("run/control.sock");
    let found = std::fs::metadata(&socket).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o660);
    assert_ne!(found.gid(), 0);
    // A person outside of the group learns what is missing; in the group, the same person is accepted.
    let ran = desk.run_in(OPERATOR, OPERATOR, &["plugin", "list"]);
    let error = ran.error();
    assert!(
        error.contains("is closed to this user") && error.contains("usermod"),
        "{error}"
    );
    desk.run_as(OPERATOR, &["plugin", "list"]).good();
    host.end();
    assert!(!socket.exists());
}

#[test]
fn a_socket_that_others_could_replace_is_not_made() {
    let Some(desk) = Desk::new("", str::to_owned) else {
        return;
    };
    let run = desk.folder.path().join("run");
    for (mode, accepted) in [
        (0o777, false),
        (0o1777, false),
        (0o775, false),
        (0o755, true),
    ] {
        std::fs::set_permissions(&run, std::fs::Permissions::from_mode(mode)).unwrap();
        if accepted {
            let host = desk.serve();
            host.end();
        } else {
            let ran = desk.folder.run(&["run"]);
            let error = ran.error();
            assert!(
                error.contains("chmod go-w") && error.contains("control.socket"),
                "{mode:o}: {error}"
            );
        }
    }
    // Nor is a file replaced that is no socket.
    std::fs::write(run.join("control.sock"), "mine").unwrap();
    let ran = desk.folder.run(&["run"]);
    assert!(ran.error().contains("is no socket"), "{ran:?}");
    assert_eq!(
        std::fs::read_to_string(run.join("control.sock")).unwrap(),
        "mine"
    );
}

#[test]
fn a_group_that_is_missing_is_named_with_the_line_that_makes_it() {
    let Some(desk) = Desk::new("", str::to_owned) else {
        return;
    };
    let path = desk.folder.path().join("qchost.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let at = text.rfind("group = ").unwrap();
    std::fs::write(&path, format!("{}group = \"no-such-group\"\n", &text[..at])).unwrap();
    let ran = desk.folder.run(&["run"]);
    assert!(
        ran.error().contains("groupadd --system no-such-group"),
        "{ran:?}"
    );
}

/// A rule that forbids everything must not prevent people from stopping things.
#[test]
fn a_rule_without_a_scope_keeps_plugins_from_acting_and_operators_in_control() {
    let Some(desk) = Desk::new("", str::to_owned) else {
        return;
    };
    let policies = desk.folder.path().join("policies");
    std::fs::create_dir(&policies).unwrap();
    let rule = policies.join("all.cedar");
    std::fs::write(&rule, "forbid (principal, action, resource);").unwrap();
    let host = desk.serve();
    let action = ["invoke", "every-category.account"];
    let ran = desk.run_as(OPERATOR, &action);
    assert!(ran.good().stdout.contains("guardrail"), "{ran:?}");
    let ran = desk.run_as(OPERATOR, &["call", "read_lean_versions"]);
    assert!(ran.error().contains("guardrail"), "{ran:?}");
    assert_eq!(desk.cloud.requests_to("/lean/versions/read").len(), 0);
    for arguments in [
        &["halt"][..],
        &["halt", "--liquidate"],
        &["halt", "--list"],
        &["plugin", "list"],
        &[
            "policy",
            "explain",
            "every-category",
            "account/read-account",
        ],
        &["resume"],
    ] {
        desk.run_as(OPERATOR, arguments).good();
    }
    desk.run_as(ADMIN, &["reload"]).good();
    // An operation that reduces risk is sent; it is QuantConnect that finds no such project.
    let stop = ["call", "stop_live_algorithm", "{\"projectId\": 1}"];
    let ran = desk.run_as(OPERATOR, &stop);
    assert!(!ran.stderr.contains("guardrail"), "{ran:?}");
    // The role is still required.
    for arguments in [&["halt"][..], &stop] {
        let ran = desk.run_as(VIEWER, arguments);
        assert!(
            ran.error().contains("that needs operator or admin"),
            "{ran:?}"
        );
    }
    // A rule about people limits the other verbs, and is reported.
    let rule_text = "forbid (principal is Person, action, resource);";
    std::fs::write(&rule, rule_text).unwrap();
    let file = rule.to_str().unwrap();
    let ran = desk.folder.run(&["validate", file]);
    assert!(
        ran.good().stdout.contains("warning") && ran.stdout.contains("`halt`"),
        "{}",
        ran.stdout
    );
    crate::process::wait_until("the rule is in force", || {
        let ran = desk.run_as(OPERATOR, &action);
        ran.stderr.contains("may not do `invoke`").then_some(())
    });
    desk.run_as(OPERATOR, &["halt"]).good();
    desk.run_as(OPERATOR, &["halt", "--list"]).good();
    for arguments in [&["resume"][..], &["call", "read_account"]] {
        let ran = desk.run_as(OPERATOR, arguments);
        assert!(ran.error().contains("guardrail"), "{ran:?}");
    }
    let ran = desk.run_as(ADMIN, &["reload"]);
    assert!(ran.error().contains("guardrail"), "{ran:?}");
    host.end();
}
