//! Files that change while the host runs: every kind of change is noticed, unchanged files are left alone,
//! and broken ones take nothing away.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use serde_json::json;

use crate::guests::{bad, long, marked, version};
use crate::process::{Process, signal, tail, tree, wait_until};
use crate::running::{GRANT, Running, manifest, plugin, relink, replace};
use crate::socket::Answer;

#[test]
fn a_component_is_replaced_whatever_way_its_file_changes() {
    let running = Running::start("", |folder| {
        let builds = folder.path().join("builds");
        for name in ["renamed", "written"] {
            plugin(folder, name, &marked(1, name), "");
        }
        // A link to the file, a link to the folder, and both, as Kubernetes mounts a file.
        for name in ["file", "folder", "mounted"] {
            for number in [1, 2] {
                let release = builds.join(format!("{name}-{number}"));
                fs::create_dir_all(&release).unwrap();
                fs::write(release.join("agent.wasm"), marked(number, name)).unwrap();
            }
        }
        symlink("file-1/agent.wasm", builds.join("file.wasm")).unwrap();
        symlink("folder-1", builds.join("folder")).unwrap();
        fs::create_dir(builds.join("mount")).unwrap();
        fs::rename(builds.join("mounted-1"), builds.join("mount/..2026_01")).unwrap();
        symlink("..2026_01", builds.join("mount/..data")).unwrap();
        symlink("..data/agent.wasm", builds.join("mount/agent.wasm")).unwrap();
        for (name, component) in [
            ("file", "../builds/file.wasm"),
            ("folder", "../builds/folder/agent.wasm"),
            ("mounted", "../builds/mount/agent.wasm"),
        ] {
            folder.manifest(name, &manifest(name, component, ""));
        }
    });
    let builds = running.path("builds");
    for name in ["renamed", "written", "file", "folder", "mounted"] {
        running.is_version(name, 1);
    }
    replace(&builds.join("renamed.wasm"), marked(2, "renamed"));
    running.until_version("renamed", 2);

    // Written in place in two parts, with a long pause between them: a half-written file is never served.
    let bytes = marked(2, "written");
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let mut file = fs::File::create(builds.join("written.wasm")).unwrap();
    std::io::Write::write_all(&mut file, first).unwrap();
    std::thread::sleep(Duration::from_millis(150));
    running.is_version("written", 1);
    std::io::Write::write_all(&mut file, second).unwrap();
    drop(file);
    running.until_version("written", 2);

    relink(&builds.join("file.wasm"), "file-2/agent.wasm");
    running.until_version("file", 2);
    relink(&builds.join("folder"), "folder-2");
    running.until_version("folder", 2);

    fs::rename(builds.join("mounted-2"), builds.join("mount/..2026_02")).unwrap();
    relink(&builds.join("mount/..data"), "..2026_02");
    fs::remove_dir_all(builds.join("mount/..2026_01")).unwrap();
    running.until_version("mounted", 2);
    // The present targets of links are watched, too.
    replace(
        &builds.join("mount/..2026_02/agent.wasm"),
        marked(3, "mounted"),
    );
    running.until_version("mounted", 3);
    replace(&builds.join("file-2/agent.wasm"), marked(3, "file"));
    running.until_version("file", 3);
    // Only the changed plugin was loaded again.
    running.until_loads("renamed", 2);
    running.until_loads("folder", 2);
    running.end();
}

#[test]
fn manifests_of_a_config_map_change_together() {
    let running = Running::start("plugins = \"mount\"", |folder| {
        plugin(folder, "one", &version(1), "");
        plugin(folder, "two", &version(2), "");
        let mount = folder.path().join("mount");
        for release in ["..1", "..2"] {
            fs::create_dir_all(mount.join(release)).unwrap();
        }
        for (release, component) in [("..1", "one"), ("..2", "two")] {
            let component = format!("../builds/{component}.wasm");
            let text = manifest("lab", &component, "");
            fs::write(mount.join(release).join("lab.toml"), text).unwrap();
        }
        let text = manifest("late", "../builds/two.wasm", "");
        fs::write(mount.join("..2/late.toml"), text).unwrap();
        symlink("..1", mount.join("..data")).unwrap();
        symlink("..data/lab.toml", mount.join("lab.toml")).unwrap();
        symlink("..data/late.toml", mount.join("late.toml")).unwrap();
    });
    running.is_version("lab", 1);
    relink(&running.path("mount/..data"), "..2");
    running.until_version("lab", 2);
    running.until_version("late", 2);
    // Reverted; the dangling link is removed last, as the kubelet does it.
    relink(&running.path("mount/..data"), "..1");
    running.until_version("lab", 1);
    fs::remove_file(running.path("mount/late.toml")).unwrap();
    running.until("late", |answer| matches!(answer, Answer::Failed(_)));
    running.end();
}

#[test]
fn what_did_not_change_is_not_loaded_again() {
    let running = Running::with_lab(&version(1), "");
    plugin(&running.folder, "other", &version(1), "");
    running.until_version("other", 1);
    let (component, text) = (
        running.path("builds/lab.wasm"),
        running.path("plugins/lab.toml"),
    );
    let (bytes, words) = (fs::read(&component).unwrap(), fs::read(&text).unwrap());
    running.until_loads("lab", 1);
    // Touched, written in place, and replaced, each time with the same content.
    for (path, same) in [(&component, &bytes), (&text, &words)] {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::now()).unwrap();
        fs::write(path, same).unwrap();
        replace(path, same);
    }
    // A client that requests a reload learns that nothing changed.
    running.reload().good();
    // A later change is in effect, so the host had noticed the earlier ones.
    plugin(&running.folder, "other", &version(2), "");
    running.until_version("other", 2);
    running.until_loads("other", 2);
    running.until_loads("lab", 1);
    running.end();
}

#[test]
fn what_a_build_writes_is_no_reload() {
    let running = Running::with_lab(&version(1), "");
    let target = running.path("builds/target/debug/deps");
    fs::create_dir_all(&target).unwrap();
    let cpu = processor_time(running.host.id());
    for number in 0..3000 {
        let folder = if number % 2 == 0 {
            &target
        } else {
            &running.path("builds")
        };
        replace(&folder.join(format!("lib{}.rmeta", number % 50)), b"output");
    }
    let cost = processor_time(running.host.id()).saturating_sub(cpu);
    running.reload().good();
    assert_eq!(running.loads("lab"), 1, "{}", tail(&running.host.stderr()));
    // A build writes the component last.
    replace(&running.path("builds/lab.wasm"), version(2));
    running.until_version("lab", 2);
    running.until_loads("lab", 2);
    assert!(cost < Duration::from_secs(5), "it took the host {cost:?}");
    running.end();
}

/// CPU time of a process so far.
fn processor_time(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let after = stat.rsplit(") ").next().unwrap();
    let ticks = |at: usize| after.split(' ').nth(at).unwrap().parse::<u64>().unwrap();
    // Ticks of 10 ms, on every Linux.
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// A write through another hard link, of which the kernel sends no event, as on a file system without events.
#[test]
fn what_no_event_tells_of_is_seen_within_half_a_minute() {
    /// Includes the time to load it on a slow machine.
    const BOUND: Duration = Duration::from_secs(40);
    let running = Running::with_lab(&version(1), "");
    let apart = running.path("apart");
    fs::create_dir(&apart).unwrap();
    let names = [
        ("builds/lab.wasm", "lab.wasm"),
        ("plugins/lab.toml", "lab.toml"),
    ];
    for (name, other) in names {
        fs::hard_link(running.path(name), apart.join(other)).unwrap();
    }
    running.reload().good();
    fs::write(apart.join("lab.wasm"), version(2)).unwrap();
    let seen = running.until_version("lab", 2);
    assert!(seen <= BOUND, "it took {seen:?}");
    let text = manifest("bench", "../builds/lab.wasm", "");
    fs::write(apart.join("lab.toml"), text).unwrap();
    let waited = running.until("lab", |answer| matches!(answer, Answer::Failed(_)));
    // The reload had another cause, so this proves nothing.
    assert!(waited > Duration::from_secs(5), "it took only {waited:?}");
    assert!(waited <= BOUND, "it took {waited:?}");
    running.until_version("bench", 2);
    running.end();
}

#[test]
fn manifests_come_go_and_change_their_names() {
    let running = Running::with_lab(&version(1), "");
    let manifests = running.path("plugins");
    // One more manifest, in another folder.
    fs::create_dir(manifests.join("added")).unwrap();
    let text = manifest("added", "../../builds/lab.wasm", "");
    fs::write(manifests.join("added/manifest.toml"), text).unwrap();
    running.until_version("added", 1);
    // The file was renamed, the plugin was not: it keeps serving.
    fs::rename(
        manifests.join("lab.toml"),
        manifests.join("laboratory.toml"),
    )
    .unwrap();
    running.reload().good();
    running.is_version("lab", 1);
    // The plugin was renamed: the old one is removed.
    let text = manifest("workshop", "../builds/lab.wasm", "");
    replace(&manifests.join("laboratory.toml"), text);
    running.until_version("workshop", 1);
    let gone =
        |answer: &Answer| matches!(answer, Answer::Failed(why) if why.contains("no plugin `lab`"));
    running.until("lab", gone);
    // Two manifests for one plugin: it is ambiguous which one counts, and the serving one stays.
    let twin = manifests.join("twin.toml");
    fs::copy(manifests.join("laboratory.toml"), &twin).unwrap();
    wait_until("both are named", || {
        let rows = running.control.plugins();
        let both = rows.iter().filter(|row| {
            row["error"]
                .as_str()
                .is_some_and(|why| why.contains("another manifest"))
        });
        (both.count() > 0).then_some(())
    });
    fs::remove_file(&twin).unwrap();
    running.until_status("workshop", "ready");
    running.is_version("workshop", 1);
    fs::remove_dir_all(manifests.join("added")).unwrap();
    running.until("added", |answer| matches!(answer, Answer::Failed(_)));
    wait_until("only one is listed", || {
        (running.control.plugins().len() == 1).then_some(())
    });
    running.end();
}

#[test]
fn a_bad_component_or_manifest_leaves_the_former_serving_until_a_good_one_comes() {
    let running = Running::with_lab(&version(1), GRANT);
    let (component, text) = (
        running.path("builds/lab.wasm"),
        running.path("plugins/lab.toml"),
    );
    let mut number = 1;
    for (words, bytes) in bad() {
        replace(&component, &bytes);
        let why = running.until_status("lab", "degraded");
        assert!(
            why.contains("lab.toml") && why.contains(words),
            "{words}: {why}"
        );
        running.is_version("lab", number);
        let asked = running.reload();
        assert_eq!(asked.status.code(), Some(1), "{asked:?}");
        assert!((asked.stdout + &asked.stderr).contains("lab.toml"));
        number = number % 2 + 1;
        replace(&component, version(number));
        running.until_version("lab", number);
        assert_eq!(running.until_status("lab", "ready"), "");
    }
    fs::remove_file(&component).unwrap();
    assert!(running.until_status("lab", "degraded").contains("lab.wasm"));
    running.is_version("lab", number);
    replace(&component, version(number));
    running.until_status("lab", "ready");

    let good = fs::read_to_string(&text).unwrap();
    for (words, broken) in [
        ("lab.toml", "plugin = \"lab\"\ncomponent = ".to_owned()),
        ("unknown", good.replace("account =", "acount =")),
        ("nobody", good.replace("\"research\"", "\"nobody\"")),
        ("allow", good.replace("account/*", "accounts/*")),
    ] {
        replace(&text, broken);
        let why = running.until_status("lab", "degraded");
        assert!(
            why.contains("lab.toml") && why.contains(words),
            "{words}: {why}"
        );
        running.is_version("lab", number);
        replace(&text, &good);
        running.until_status("lab", "ready");
    }
    let loads = running.loads("lab");
    running.is_version("lab", number);
    running.reload().good();
    assert_eq!(running.loads("lab"), loads);
    running.end();
}

#[test]
fn a_manifest_that_cannot_be_loaded_takes_nothing_over() {
    let running = Running::with_lab(&version(1), "");
    let first = running.path("plugins/lab.toml");
    replace(&first, "plugin = \"lab\"\ncomponent = ");
    running.until_status("lab", "degraded");
    fs::write(running.path("builds/none.wasm"), "no component").unwrap();
    let second = manifest("lab", "../builds/none.wasm", "");
    replace(&running.path("plugins/second.toml"), second);
    wait_until("the second was tried", || {
        let rows = running.control.plugins();
        let mut reasons = rows.iter().filter_map(|row| row["error"].as_str());
        reasons.any(|why| why.contains("none.wasm")).then_some(())
    });
    running.is_version("lab", 1);
    // No file is left because of which it could serve.
    fs::remove_file(&first).unwrap();
    running.reload();
    let gone = running.act("lab");
    assert!(
        matches!(&gone, Answer::Failed(why) if why.contains("none.wasm")),
        "{gone:?}"
    );
    replace(&running.path("builds/none.wasm"), version(2));
    running.until_version("lab", 2);
    running.end();
}

/// Of two manifests for one plugin neither is loaded, and a load in progress is dropped.
#[test]
fn a_load_that_was_cut_off_begins_again_when_nothing_is_in_its_way_any_more() {
    let running = Running::with_lab(&version(1), "");
    let processes = || tree(running.host.id()).len();
    replace(&running.path("builds/lab.wasm"), long(2));
    wait_until("it is compiled", || (processes() > 1).then_some(()));
    let twin = running.path("plugins/twin.toml");
    replace(&twin, manifest("lab", "../builds/lab.wasm", ""));
    running.until_reason("lab", "twin.toml");
    wait_until("the compiler has ended", || {
        (processes() == 1).then_some(())
    });
    fs::remove_file(&twin).unwrap();
    running.until_version("lab", 2);
    running.end();
}

#[test]
fn a_bad_policy_or_configuration_leaves_the_former_in_force() {
    const FORBID: &str = "@id(\"no-accounts\")\nforbid (principal, action == Action::\"account/read-account\", resource);\n";
    let call = crate::guests::caller(1, &[("read_account", Some("{}"))]);
    let running = Running::start("", |folder| {
        plugin(folder, "lab", &call, GRANT);
        fs::create_dir(folder.path().join("policies")).unwrap();
    });
    running.is_version("lab", 1);
    let policy = running.path("policies/desk.cedar");
    replace(&policy, FORBID);
    let forbidden =
        |answer: &Answer| matches!(answer, Answer::Failed(why) if why.contains("no-accounts"));
    running.until("lab", forbidden);
    replace(&policy, "forbid (principal, action, resource");
    let asked = running.reload();
    assert_eq!(asked.status.code(), Some(1), "{asked:?}");
    assert!((asked.stdout + &asked.stderr).contains("desk.cedar"));
    assert!(forbidden(&running.act("lab")), "what was in force still is");
    fs::remove_file(&policy).unwrap();
    running.until_version("lab", 1);
    running.reload().good();

    let configuration = running.path("qchost.toml");
    let good = fs::read_to_string(&configuration).unwrap();
    let complaints = || {
        let log = running.host.stderr();
        let of_it = log
            .lines()
            .filter(|line| line.contains("\"ERROR\"") && line.contains("qchost.toml"));
        of_it.count()
    };
    for broken in [
        "data = ".to_owned(),
        good.replace("[account.research]", "[acount.research]"),
        good.replace("\"embedded\"", "\"telepathy\""),
    ] {
        let before = complaints();
        replace(&configuration, &broken);
        // The command line cannot read that file either; a client of the socket reaches the host.
        wait_until("it is logged", || (complaints() > before).then_some(()));
        running.is_version("lab", 1);
        replace(&configuration, &good);
        wait_until("it is in order again", || {
            running.reload().status.success().then_some(())
        });
    }
    running.is_version("lab", 1);
    running.end();
}

#[test]
fn a_folder_that_is_removed_and_made_again_is_noticed() {
    let running = Running::with_lab(&version(1), "");
    fs::remove_dir_all(running.path("builds")).unwrap();
    running.until_status("lab", "degraded");
    running.is_version("lab", 1);
    fs::create_dir(running.path("builds")).unwrap();
    fs::write(running.path("builds/lab.wasm"), version(2)).unwrap();
    running.until_version("lab", 2);
    // And changes in the new folder are noticed.
    replace(&running.path("builds/lab.wasm"), version(3));
    running.until_version("lab", 3);
    assert_eq!(running.until_status("lab", "ready"), "");

    // The same for the folder of manifests: without it there is no plugin, with it there is.
    let text = fs::read(running.path("plugins/lab.toml")).unwrap();
    fs::remove_dir_all(running.path("plugins")).unwrap();
    running.until("lab", |answer| matches!(answer, Answer::Failed(_)));
    fs::create_dir(running.path("plugins")).unwrap();
    fs::write(running.path("plugins/lab.toml"), text).unwrap();
    running.until_version("lab", 3);
    assert_eq!(
        running.control.invoke("lab.act", &json!({})),
        Answer::Done(json!(3))
    );
    running.end();
}

#[test]
fn a_hangup_has_every_file_looked_at_and_ends_nothing() {
    let mut running = Running::with_lab(&version(1), "");
    let hangup = |host: &Process| signal(host.id(), rustix::process::Signal::HUP);
    hangup(&running.host);
    running.is_version("lab", 1);
    replace(&running.path("builds/lab.wasm"), version(2));
    hangup(&running.host);
    running.until_version("lab", 2);
    assert!(running.host.runs());
    running.until_loads("lab", 2);
    // A client gets the state of every file, for people and as JSON.
    let told = running.reload();
    assert!(told.good().stdout.contains("lab"), "{told:?}");
    let told = running.folder.run(&["--json", "reload"]).json();
    assert!(told.to_string().contains("lab"), "{told}");
    running.end();
}
