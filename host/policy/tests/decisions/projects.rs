//! Projects by name, by id and by who created them, and the operations that list them.

use qchost_policy::{Facts, Resource};

use crate::rows::{allowed, check, denied, named, object, organization, own, project, with};

const EVERYTHING: &str = r#"
[[grant]]
name     = "by-pattern"
allow    = ["*", "projects/delete-project"]
projects = ["*", "Recycle Bin/*", 77, { created = true }]

[[grant]]
name     = "in-full"
allow    = ["files/read-file"]
projects = ["Recycle Bin/kept"]
"#;

#[test]
fn a_deleted_project_is_covered_by_its_name_in_full_only() {
    let read = "files/read-file";
    let gone = "not the project `Recycle Bin/x`";
    check(
        EVERYTHING,
        &[],
        &[
            allowed(read, project(12, "Lab/x"), &["by-pattern"]),
            allowed(read, project(12, "Lab/Recycle Bin/x"), &["by-pattern"]),
            allowed(read, project(12, "Recycle Bin"), &["by-pattern"]),
            denied(read, project(12, "Recycle Bin/x"), gone),
            denied(read, project(77, "Recycle Bin/x"), gone),
            denied(read, own(5, "Recycle Bin/x"), gone),
            denied("projects/delete-project", project(12, "Recycle Bin/x"), gone),
            denied("projects/update-project", named("Recycle Bin/x"), "not a project named `Recycle Bin/x`"),
            allowed(read, project(12, "Recycle Bin/kept"), &["in-full"]),
        ],
    );
}

const LAB: &str = r#"
[[grant]]
name     = "lab-files"
allow    = ["projects/*", "files/*", "compile/*"]
projects = ["Lab/*"]

[[grant]]
name     = "lab-backtests"
allow    = ["backtests/*", "workflow"]
projects = ["Lab/*"]
limits   = { concurrent = 4, per-day = 500 }

[[grant]]
name     = "by-id"
allow    = ["backtests/read-backtest", "backtests/delete-backtest"]
projects = [77]

[[grant]]
name     = "own"
allow    = ["projects/delete-project", "backtests/create-backtest"]
projects = [{ created = true }]
approval = "operator"
"#;

#[test]
fn projects_are_covered_by_name_by_id_and_by_who_made_them() {
    check(
        LAB,
        &[],
        &[
            allowed("backtests/create-backtest", project(12, "Lab/x"), &["lab-backtests"]),
            denied(
                "backtests/create-backtest",
                project(12, "Prod/main"),
                "grant `lab-backtests` covers backtests/create-backtest but not the project `Prod/main` (12)",
            ),
            allowed("backtests/read-backtest", project(12, "Lab/a/b/c"), &["lab-backtests"]),
            denied("backtests/read-backtest", project(12, "Lab"), "not the project `Lab` (12)"),
            denied("backtests/read-backtest", project(12, "lab/x"), "not the project `lab/x` (12)"),
            denied("backtests/read-backtest", project(12, " Lab/x"), "not the project ` Lab/x` (12)"),
            allowed("backtests/read-backtest", project(77, "Prod/main"), &["by-id"]),
            allowed("backtests/read-backtest", project(77, "Lab/x"), &["lab-backtests", "by-id"]),
            denied("backtests/read-backtest", project(78, "77"), "not the project `77` (78)"),
            denied("backtests/read-backtest", named("77"), "not a project named `77`"),
            allowed("backtests/delete-backtest", project(77, "Prod/main"), &["by-id"]),
            denied(
                "backtests/delete-backtest",
                project(12, "Lab/x"),
                "grant `by-id` covers backtests/delete-backtest but not the project `Lab/x` (12)",
            ),
            allowed("backtests/create-backtest", own(5, "Elsewhere"), &["own"]),
            denied("backtests/create-backtest", project(5, "Elsewhere"), "not the project `Elsewhere` (5)"),
            allowed("backtests/create-backtest", own(5, "Lab/x"), &["lab-backtests", "own"]),
            allowed("projects/delete-project", own(5, "Elsewhere"), &["own"]),
            denied("projects/delete-project", project(5, "Lab/x"), "grant `own` covers projects/delete-project but not the project"),
            allowed("files/read-file", project(12, "Lab/x"), &["lab-files"]),
            denied("files/delete-file", project(12, "Lab/x"), "no grant of `plugin` allows `files/delete-file` (destroy)"),
            denied("live/read-live-algorithm", project(12, "Lab/x"), "no grant of `plugin` allows `live/read-live-algorithm` (read)"),
            allowed("workflow", Facts::of(Resource::Account), &["lab-backtests"]),
        ],
    );
}

#[test]
fn a_name_that_is_yet_to_be_given_is_covered_by_name_only() {
    let manifest = r#"
[[grant]]
name          = "make"
allow         = ["projects/create-project", "projects/update-project"]
projects      = ["Lab/*", 12, { created = true }]
organizations = ["org-1"]
"#;
    let in_org = |name: &str, id: &str| {
        let mut facts = named(name);
        facts.context.organization = Some(id.to_owned());
        facts
    };
    let pretended = || {
        let mut facts = named("Prod/x");
        if let Resource::Project(project) = &mut facts.resource {
            project.created = true;
        }
        facts
    };
    check(
        manifest,
        &[],
        &[
            allowed("projects/create-project", named("Lab/new"), &["make"]),
            denied("projects/create-project", named("Prod/new"), "not a project named `Prod/new`"),
            denied("projects/create-project", named("12"), "not a project named `12`"),
            denied("projects/create-project", pretended(), "not a project named `Prod/x`"),
            allowed("projects/create-project", in_org("Lab/new", "org-1"), &["make"]),
            denied("projects/create-project", in_org("Lab/new", "org-2"), "not the organisation `org-2`"),
            denied("projects/create-project", in_org("Prod/new", "org-2"), "not a project named `Prod/new`, and not the organisation `org-2`"),
            allowed("projects/update-project", project(12, "Prod/x"), &["make"]),
            allowed("projects/update-project", named("Lab/y"), &["make"]),
            denied("projects/update-project", named("Prod/y"), "not a project named `Prod/y`"),
            denied("projects/create-project", Facts::of(Resource::Account), "cannot be decided on the account as a whole"),
            denied("projects/create-project", organization("org-1"), "cannot be decided on an organisation"),
        ],
    );
}

#[test]
fn globs_cross_slashes_and_know_nothing_else() {
    for (glob, covered, not) in [
        ("Lab/*", "Lab/a/b", "Lab"),
        ("*", "anything at all", ""),
        ("*/main", "a/b/main", "main"),
        ("*main*", "remains", "mane"),
        ("a*b*c", "a-b-b-c", "a-c-b"),
        ("Lab/?", "Lab/?", "Lab/x"),
        ("Lab/[ab]", "Lab/[ab]", "Lab/a"),
        ("Lab/{a,b}", "Lab/{a,b}", "Lab/a"),
        ("Lab\\\\*", "Lab\\x", "Lab*"),
        ("say \\\"*\\\"", "say \"hi\"", "say hi"),
        ("'*'", "'x'", "x"),
        ("naïve/*", "naïve/ß", "naive/ß"),
        ("実験/*", "実験/一", "実/一"),
        ("**", "x", ""),
        ("a**b", "ab", "a"),
        ("Lab", "Lab", "Lab/x"),
        ("100%", "100%", "100"),
        ("a.c", "a.c", "abc"),
        ("^a$", "^a$", "a"),
    ] {
        let manifest = format!("[[grant]]\nname = \"g\"\nallow = [\"files/read-file\"]\nprojects = [\"{glob}\"]\n");
        let mut rows = vec![allowed("files/read-file", project(1, covered), &["g"])];
        if !not.is_empty() {
            rows.push(denied("files/read-file", project(1, not), "but not the project"));
        }
        check(&manifest, &[], &rows);
    }
}

#[test]
fn a_listing_needs_a_scope_and_its_items_are_asked_one_by_one() {
    let account = || Facts::of(Resource::Account);
    let none = "[[grant]]\nname = \"g\"\nallow = [\"*\"]\n";
    let lab = "[[grant]]\nname = \"g\"\nallow = [\"*\"]\nprojects = [\"Lab/*\"]\n";
    for call in ["projects/list-projects", "projects/read-project", "live/list-live-algorithms"] {
        check(none, &[], &[denied(call, account(), "not any project")]);
        check(
            lab,
            &[],
            &[
                allowed(call, account(), &["g"]),
                allowed(call, project(1, "Lab/x"), &["g"]),
                denied(call, project(1, "Prod/x"), "not the project `Prod/x` (1)"),
            ],
        );
    }
    let folder = |id: &str| with(account(), |context| context.organization = Some(id.to_owned()));
    let call = "object-store/list-object-store-files";
    check(none, &[], &[denied(call, folder("o"), "not any object, and not the organisation `o`")]);
    let store = "[[grant]]\nname = \"g\"\nallow = [\"*\"]\nkeys = [\"lab/*\"]\norganizations = [\"o\"]\n";
    check(
        store,
        &[],
        &[
            allowed(call, folder("o"), &["g"]),
            denied(call, folder("p"), "not the organisation `p`"),
            allowed(call, object("o", "lab/x"), &["g"]),
            denied(call, object("o", "prod/x"), "not the object `prod/x`"),
        ],
    );
    check(lab, &[], &[denied(call, folder("o"), "not any object")]);
    check(store, &[], &[denied("projects/list-projects", account(), "not any project")]);
    // An operation that is no listing is never decided on the account as a whole.
    for call in ["backtests/read-backtest", "files/read-file", "live/stop-live-algorithm", "optimizations/abort-optimization"] {
        check(lab, &[], &[denied(call, account(), "cannot be decided on the account as a whole")]);
    }
}
