//! The differences of two manifests, checked against the decisions of their authorities.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::Path;

use qchost_policy::{ChangeKind, Difference, Manifest};

fn manifest(rest: &str) -> Manifest {
    let text =
        format!("plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"research\"\n{rest}");
    Manifest::parse(&text, Path::new("lab.toml")).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn between(former: &str, now: &str) -> Difference {
    Difference::between(Some(&manifest(former)), Some(&manifest(now)))
}

/// The lines, each with its kind.
fn lines(difference: &Difference) -> Vec<String> {
    let lines = difference.changes().iter();
    lines
        .map(|change| format!("{}: {}", change.kind.word(), change.line))
        .collect()
}

const DEPLOY: &str = "[[grant]]\nname = \"deploy\"\nallow = [\"live/create-live-algorithm\"]\nprojects = [\"Lab/*\"]\nbrokerages = [\"paper\"]\napproval = \"operator\"\nlimits = { per-day = 5 }\n";

#[test]
fn the_same_manifest_in_another_order_is_no_difference() {
    let read = "[[grant]]\nname = \"read\"\nallow = [\"backtests/read-*\"]\nprojects = [\"*\"]\n";
    let difference = between(&format!("{DEPLOY}{read}"), &format!("{read}{DEPLOY}"));
    assert!(
        difference.is_empty() && !difference.widens(),
        "{difference:?}"
    );
    assert!(difference.gains().is_empty());
}

#[test]
fn each_way_to_widen_a_grant_of_trade_gains_it_and_says_how() {
    for (from, to, says) in [
        (
            "\"Lab/*\"",
            "\"*\"",
            "widened: grant `deploy`: projects gain *",
        ),
        (
            "\"paper\"",
            "\"paper\", \"ib\"",
            "widened: grant `deploy`: brokerages gain ib",
        ),
        (
            "\"operator\"",
            "\"none\"",
            "widened: grant `deploy`: approval from operator to none",
        ),
        (
            "per-day = 5",
            "per-day = 6",
            "widened: grant `deploy`: per-day from 5 to 6",
        ),
        (
            "limits = { per-day = 5 }",
            "",
            "widened: grant `deploy`: per-day from 5 to none",
        ),
        (
            "\"live/create-live-algorithm\"",
            "\"live/create-live-algorithm\", \"projects/delete-project\"",
            "widened: grant `deploy`: allow gain projects/delete-project",
        ),
        (
            "\"deploy\"",
            "\"other\"\nmax-parameters = 3",
            "added: grant `other`: allow live/create-live-algorithm",
        ),
    ] {
        let now = DEPLOY.replace(from, to);
        assert_ne!(now, DEPLOY);
        let difference = between(DEPLOY, &now);
        let lines = lines(&difference);
        assert!(
            lines.iter().any(|line| line.starts_with(says)),
            "{says} is not in {lines:?}"
        );
        assert!(difference.widens(), "{to}");
        // The same authority under another name and with an additional condition.
        let gains = !to.contains("max-parameters");
        assert_eq!(
            !difference.gains().is_empty(),
            gains,
            "{to}: {:?}",
            difference.gains()
        );
        // Reverting the change leaves no difference.
        let back = between(&now, DEPLOY);
        assert!(
            back.gains().is_empty() || !gains,
            "{to}: {:?}",
            back.gains()
        );
    }
}

#[test]
fn a_grant_under_another_name_is_a_rename() {
    let difference = between(DEPLOY, &DEPLOY.replace("\"deploy\"", "\"trade\""));
    assert_eq!(
        lines(&difference),
        ["changed: grant `trade`: was called `deploy`"]
    );
    assert!(!difference.widens());
}

#[test]
fn to_take_away_what_limited_another_grant_widens_that_one() {
    let all = "[[grant]]\nname = \"all\"\nallow = [\"live/create-live-algorithm\"]\nprojects = [\"*\"]\nbrokerages = [\"*\"]\n";
    let difference = between(&format!("{DEPLOY}{all}"), all);
    assert!(difference.widens());
    assert_eq!(
        difference.gains().iter().collect::<Vec<_>>(),
        ["live/create-live-algorithm"]
    );
    assert_eq!(
        difference.changes().last().unwrap().kind,
        ChangeKind::Widened
    );
}

#[test]
fn to_split_a_grant_in_two_doubles_its_limit() {
    let both = "[[grant]]\nname = \"both\"\nallow = [\"backtests/delete-backtest\", \"projects/delete-project\"]\nprojects = [\"*\"]\nlimits = { per-day = 5 }\n";
    let one = both.replace(", \"projects/delete-project\"", "");
    let other = both
        .replace("\"backtests/delete-backtest\", ", "")
        .replace("\"both\"", "\"other\"");
    let difference = between(both, &format!("{one}{other}"));
    assert_eq!(difference.gains().len(), 2, "{difference:?}");
}

#[test]
fn a_first_manifest_and_one_of_another_account_gain_all_they_grant() {
    let first = Difference::between(None, Some(&manifest(DEPLOY)));
    assert!(first.widens());
    assert_eq!(first.gains(), &manifest(DEPLOY).trades_or_destroys());
    assert_eq!(first.gains().len(), 1);
    let mut other = manifest(DEPLOY);
    other.account = "real".to_owned();
    let moved = Difference::between(Some(&manifest(DEPLOY)), Some(&other));
    assert_eq!(moved.gains().len(), 1);
    assert_eq!(
        lines(&moved),
        ["widened: account: from `research` to `real`"]
    );
    let gone = Difference::between(Some(&manifest(DEPLOY)), None);
    assert!(!gone.widens() && !gone.is_empty());
    // A grant to read and write gains neither trade nor destroy.
    let write = manifest("[[grant]]\nname = \"write\"\nallow = [\"*\"]\nprojects = [\"*\"]\n");
    let write = Difference::between(None, Some(&write));
    assert!(write.widens() && write.gains().is_empty());
}

#[test]
fn requests_to_other_hosts_are_compared_too_and_values_of_headers_are_not_shown() {
    let hook = "[[http]]\nname = \"hook\"\nallow = \"https://hooks.example.com/qc/\"\nheaders = { x-key = \"secret-one\" }\nlimits = { per-day = 5 }\n";
    for (from, to, widens) in [
        ("/qc/", "/", true),
        ("/qc/", "/qc/lab/", false),
        (
            "https://hooks.example.com/qc/",
            "https://evil.example.com/qc/",
            true,
        ),
        ("secret-one", "secret-two", true),
        ("per-day = 5", "per-day = 4", false),
        ("per-day = 5", "per-minute = 5", true),
        (
            "name = \"hook\"",
            "name = \"hook\"\nmethods = [\"GET\"]",
            false,
        ),
        (
            "name = \"hook\"",
            "name = \"hook\"\nmethods = [\"DELETE\"]",
            true,
        ),
        (
            "name = \"hook\"",
            "name = \"hook\"\naddresses = [\"10.0.0.7\"]",
            true,
        ),
    ] {
        let difference = between(hook, &hook.replace(from, to));
        assert_eq!(difference.widens(), widens, "{to}: {difference:?}");
        assert!(!difference.is_empty());
        assert!(
            lines(&difference)
                .iter()
                .all(|line| !line.contains("secret-"))
        );
    }
    // Limits of all matching grants apply, so a grant that is removed may have limited another.
    let all = "[[http]]\nname = \"all\"\nallow = \"https://hooks.example.com/\"\n";
    assert!(between(&format!("{hook}{all}"), all).widens());
    assert!(
        between(
            &format!("{hook}{all}"),
            &format!("{}{all}", hook.replace("/qc/", "/qc/lab/"))
        )
        .widens()
    );
    let rest = between(&format!("{hook}{all}"), hook);
    assert!(!rest.widens(), "{rest:?}");
}

#[test]
fn what_was_written_into_a_manifest_cannot_end_a_line() {
    let evil = "[[grant]]\nname = \"evil\"\nallow = [\"files/*\"]\nprojects = [\"a\\nb\\u001b[2J\\u202e\"]\n";
    let difference = Difference::between(None, Some(&manifest(evil)));
    assert!(
        lines(&difference)
            .iter()
            .all(|line| !line.contains(['\n', '\u{1b}', '\u{202e}']))
    );
}

#[test]
fn a_manifest_that_is_too_large_to_compare_is_wider_and_does_not_take_long() {
    let many = |word: &str| {
        let grant = |at: usize| {
            let projects: Vec<String> = (0..14).map(|of| format!("{word}{at}/{of}/*")).collect();
            format!(
                "[[grant]]\nname = \"g{at}\"\nallow = [\"backtests/delete-backtest\"]\nprojects = {projects:?}\nlimits = {{ per-day = 5 }}\n"
            )
        };
        manifest(&(0..256).map(grant).collect::<String>())
    };
    let (former, now) = (many("a"), many("b"));
    let begun = std::time::Instant::now();
    let difference = Difference::between(Some(&former), Some(&now));
    // Without a bound, this takes minutes.
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    assert!(difference.widens() && !difference.gains().is_empty());
    // All lines: the code that shows or records them counts the lines that it leaves out.
    let lines = difference.changes().len();
    assert!((256..10 * 256).contains(&lines), "{lines}");
}

#[test]
fn a_tool_that_the_catalog_does_not_know_is_a_gain() {
    let licensed = |grants: &str| format!("egress = \"licensed\"\n{grants}");
    let wider = DEPLOY.replace("algorithm\"", "algorithm\", \"raw/some_tool\"");
    let difference = between(&licensed(DEPLOY), &licensed(&wider));
    let says = "widened: grant `deploy`: allow gain raw/some_tool";
    assert!(
        lines(&difference).iter().any(|line| line == says),
        "{difference:?}"
    );
    assert!(difference.widens() && !difference.gains().is_empty());
}

#[test]
fn that_licensed_data_may_leave_is_a_gain() {
    let logs =
        "[[grant]]\nname = \"logs\"\nallow = [\"live/read-live-logs\"]\nprojects = [\"Lab/*\"]\n";
    let licensed = format!("egress = \"licensed\"\n{logs}");
    let gained = between(logs, &licensed);
    assert!(gained.widens(), "{gained:?}");
    assert_eq!(
        lines(&gained),
        ["widened: egress: licensed data may be sent out"]
    );
    let lost = between(&licensed, logs);
    assert!(!lost.widens(), "{lost:?}");
    assert_eq!(
        lines(&lost),
        ["taken away: egress: licensed data may not be sent out any more"]
    );
    let new = Difference::between(None, Some(&manifest(&licensed)));
    let new = lines(&new);
    let added = "added: egress: licensed data may be sent out";
    assert!(new.iter().any(|line| line == added), "{new:?}");
}

#[test]
fn each_way_to_widen_a_folder_is_named_and_its_reverse_widens_nothing() {
    let folder = "[[folder]]\nname = \"out\"\npath = \"/srv/out\"\nmode = \"read\"\nmax-bytes = \"1MiB\"\nmax-files = 10\n";
    for (from, to, says) in [
        ("\"read\"", "\"read-write\"", "mode from read to read-write"),
        ("\"1MiB\"", "\"2MiB\"", "max-bytes from 1 MiB to 2 MiB"),
        ("= 10\n", "= 11\n", "max-files from 10 to 11"),
    ] {
        let now = folder.replace(from, to);
        let difference = between(folder, &now);
        let widened = format!("widened: folder `out`: {says}");
        assert_eq!(lines(&difference), [widened]);
        assert!(difference.widens(), "{to}");
        let (before, after) = (manifest(folder), manifest(&now));
        assert_eq!(after.folders_beyond(Some(&before)).len(), 1, "{to}");
        // Its twin takes something away.
        let back = between(&now, folder);
        assert!(!back.widens() && back.changes().len() == 1, "{back:?}");
        assert!(before.folders_beyond(Some(&after)).is_empty(), "{to}");
    }
    let elsewhere = folder.replace("/srv/out", "/srv/other");
    for (one, other) in [(folder, elsewhere.as_str()), (&elsewhere, folder)] {
        let difference = between(one, other);
        assert!(difference.widens(), "{difference:?}");
        assert!(lines(&difference)[0].starts_with("widened: folder `out`: path from /srv/o"));
        assert_eq!(
            manifest(other).folders_beyond(Some(&manifest(one))).len(),
            1
        );
    }
    let added = between("", folder);
    let line = "added: folder `out`: read of /srv/out; max-bytes 1 MiB; max-files 10";
    assert!(added.widens());
    assert_eq!(lines(&added), [line]);
    assert_eq!(manifest(folder).folders_beyond(None).len(), 1);
    let removed = between(folder, "");
    assert!(!removed.widens() && removed.changes().len() == 1);
    assert!(manifest(folder).without_guarded().folders.is_empty());
    // Under another name it allows no more.
    let renamed = manifest(&folder.replace("\"out\"", "\"in\""));
    assert!(renamed.folders_beyond(Some(&manifest(folder))).is_empty());
}

#[test]
fn an_alias_widens_nothing_whether_it_appears_moves_or_goes() {
    let alias = "[[alias]]\nname = \"lab.run\"\naction = \"backtest\"\n";
    let moved = alias.replace("backtest", "sweep");
    for (former, now, says) in [
        (
            "",
            alias,
            "changed: alias `lab.run`: is another name of `backtest`",
        ),
        (
            alias,
            &moved,
            "changed: alias `lab.run`: is another name of `sweep`",
        ),
        (alias, "", "changed: alias `lab.run`: is gone"),
    ] {
        let difference = between(former, now);
        assert_eq!(lines(&difference), [says]);
        assert!(!difference.widens() && difference.gains().is_empty());
    }
    assert!(between(alias, alias).is_empty());
}
