//! What the emulator of an account keeps in the data folder, and who begins afresh.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::common::{ALGORITHM, Folder, embedded, strategy_lab};

fn file(folder: &Folder) -> PathBuf {
    folder.path().join("data/emulator/research.db")
}

/// Creates a project by a command of its own; its id.
fn create(folder: &Folder, name: &str) -> u64 {
    let created = folder.call("create_project", &json!({ "name": name, "language": "Py" }));
    created["projects"][0]["projectId"].as_u64().unwrap()
}

/// The names of the projects, the latest first.
fn names(folder: &Folder) -> Vec<String> {
    let listed = folder.call("list_projects", &json!({}));
    let projects = listed["projects"].as_array().unwrap().iter();
    projects
        .map(|project| project["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// The twin is in the tests of halts: an account at QuantConnect may have agents and notebooks at work.
#[test]
fn a_halt_on_an_emulator_leaves_nothing_to_people() {
    let folder = Folder::embedded("emulator");
    create(&folder, "Lab/first");
    let report = folder.run(&["halt", "--liquidate", "--json"]).json();
    assert_eq!(report["stopped"], json!([]), "{report}");
    assert_eq!(report["note"], Value::Null, "{report}");
}

#[test]
fn what_one_command_creates_the_next_one_sees_with_and_without_a_host() {
    let folder = Folder::embedded("emulator");
    folder.manifest("strategy-lab", &strategy_lab());
    let first = create(&folder, "Lab/first");
    assert_eq!(names(&folder), ["Lab/first"]);
    // The plugin finds the project, and the next command the file that it wrote.
    let input = json!({ "project": "Lab/first", "source": ALGORITHM });
    folder.invoke("strategy-lab.compile", &input);
    assert_eq!(names(&folder), ["Lab/first"]);
    let read = json!({ "projectId": first, "name": "main.py" });
    let main = folder.call("read_file", &read);
    assert_eq!(main["files"][0]["content"], ALGORITHM);

    let host = folder.serve(&["run"]);
    let second = create(&folder, "Lab/second");
    assert_eq!(names(&folder), ["Lab/second", "Lab/first"]);
    // What was answered is there, however the host ends.
    drop(host);
    assert_eq!(names(&folder), ["Lab/second", "Lab/first"]);
    folder.call("delete_project", &json!({ "projectId": second }));
    assert!(create(&folder, "Lab/third") > second);

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file(&folder)), 0o600);
    assert_eq!(mode(file(&folder).parent().unwrap()), 0o700);
}

#[test]
fn an_emulator_is_reset_to_its_seed_and_gives_no_id_again() {
    let account = format!("{}seed = \"seed.toml\"\n", embedded("emulator"));
    let folder = Folder::new(&account);
    let seed = |name: &str| {
        format!(
            "[objects]\n\"models/one\" = \"text\"\n\n[[project]]\nname = \"{name}\"\n\
             parameters = {{ fast = \"10\" }}\nfiles = {{ \"main.py\" = \"# seeded\" }}\n"
        )
    };
    fs::write(folder.path().join("seed.toml"), seed("Lab/seeded")).unwrap();
    assert_eq!(names(&folder), ["Lab/seeded"]);
    let last = create(&folder, "Lab/own");

    // Not beside a host that has it.
    let host = folder.serve(&["run"]);
    let ran = folder.run(&["emulator", "reset"]);
    assert!(ran.error().contains("a host runs"), "{ran:?}");
    assert_eq!(ran.status.code(), Some(7), "{ran:?}");
    assert_eq!(names(&folder), ["Lab/own", "Lab/seeded"]);
    host.end();

    let reset = folder.run(&["--json", "emulator", "reset"]).json();
    assert_eq!(reset["account"], "research");
    assert_eq!(names(&folder), ["Lab/seeded"]);
    fs::write(folder.path().join("other.toml"), seed("Lab/other")).unwrap();
    let arguments = ["emulator", "reset", "--account", "research", "--seed"];
    folder
        .run(&[&arguments[..], &["other.toml"]].concat())
        .good();
    assert_eq!(names(&folder), ["Lab/other"]);
    assert!(create(&folder, "Lab/own") > last);

    // What cannot be read takes nothing away.
    fs::write(folder.path().join("other.toml"), "projects = 1\n").unwrap();
    let ran = folder.run(&[&arguments[..], &["other.toml"]].concat());
    assert!(ran.error().contains("other.toml"), "{ran:?}");
    let ran = folder.run(&["emulator", "reset", "--account", "nosuch"]);
    assert!(ran.error().contains("research"), "{ran:?}");
    assert_eq!(names(&folder), ["Lab/own", "Lab/other"]);

    // What was done and what was not is recorded; what was refused before it began is not.
    let query = ["--json", "audit", "query", "--kind", "admin"];
    let records = folder.run(&query).good().stdout.clone();
    let of = |what: &str| {
        let records = records.lines();
        let records = records.map(|line| serde_json::from_str::<Value>(line).unwrap());
        let records = records.filter(|record| record["what"] == what);
        records.collect::<Vec<_>>()
    };
    let (begun, failed) = (of("emulator reset"), of("emulator reset (not done)"));
    assert_eq!((begun.len(), failed.len()), (3, 1), "{records}");
    for record in &begun {
        assert_eq!(record["detail"]["emulator"], "research", "{record}");
        assert_eq!(record["person"], rustix::process::geteuid().as_raw());
    }
    folder.run(&["audit", "verify"]).good();
}

#[test]
fn a_seed_that_was_refused_is_used_once_it_is_mended() {
    let account = format!("{}seed = \"seed.toml\"\n", embedded("emulator"));
    let folder = Folder::new(&account);
    let seed = folder.path().join("seed.toml");
    let project = "[[project]]\nname = \"Lab/seeded\"\n";
    fs::write(&seed, project.repeat(2)).unwrap();
    let ran = folder.run(&["call", "list_projects"]);
    assert!(ran.error().contains("is in it twice"), "{ran:?}");
    fs::write(&seed, project).unwrap();
    assert_eq!(names(&folder), ["Lab/seeded"]);
    // It is for the first start only.
    fs::write(&seed, project.replace("seeded", "other")).unwrap();
    assert_eq!(names(&folder), ["Lab/seeded"]);
    fs::remove_file(&seed).unwrap();
    assert_eq!(names(&folder), ["Lab/seeded"]);
    let checked = folder.run(&["--json", "doctor"]).stdout;
    assert!(checked.contains("account research"), "{checked}");
    assert!(!checked.contains("seed.toml"), "{checked}");

    // A process that made the file, and ended before it kept anything, has not used the seed.
    for more in ["research.db-wal", "research.db-shm"] {
        drop(fs::remove_file(file(&folder).with_file_name(more)));
    }
    fs::write(file(&folder), "").unwrap();
    let ran = folder.run(&["call", "list_projects"]);
    assert!(ran.error().contains("seed.toml"), "{ran:?}");
    fs::write(&seed, project).unwrap();
    assert_eq!(names(&folder), ["Lab/seeded"]);
}

#[test]
fn a_seed_is_for_an_emulator_only() {
    let folder = Folder::new(&format!(
        "{}seed = \"seed.toml\"\n",
        embedded("http://127.0.0.1:1/api/v2")
    ));
    let ran = folder.run(&["run"]);
    assert!(ran.error().contains("account.research: seed"), "{ran:?}");
}

#[test]
fn data_of_a_newer_version_and_damaged_data_are_refused_and_left_as_they_are() {
    let folder = Folder::embedded("emulator");
    let last = create(&folder, "Lab/first");
    let database = rusqlite::Connection::open(file(&folder)).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    let newer = fs::read(file(&folder)).unwrap();
    let error = folder.run(&["call", "list_projects"]).error().to_owned();
    for expected in ["newer version", "qchost emulator reset --account research"] {
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(fs::read(file(&folder)).unwrap(), newer);
    folder.run(&["emulator", "reset"]).good();
    assert_eq!(names(&folder), Vec::<String>::new());
    let next = create(&folder, "Lab/second");
    assert!(next > last, "{next}");

    for more in ["research.db-wal", "research.db-shm"] {
        // There are some if the command did not come to close the database.
        drop(fs::remove_file(file(&folder).with_file_name(more)));
    }
    let damaged = "this is no database. ".repeat(1_000);
    fs::write(file(&folder), &damaged).unwrap();
    let error = folder.run(&["call", "list_projects"]).error().to_owned();
    assert!(error.contains("damaged"), "{error}");
    let checked = folder.run(&["--json", "doctor"]).stdout;
    let remedy = "qchost emulator reset --account research";
    assert!(checked.contains(remedy), "{checked}");
    assert_eq!(fs::read(file(&folder)).unwrap(), damaged.as_bytes());
    folder.run(&["emulator", "reset"]).good();
    assert!(create(&folder, "Lab/third") > next);
}

#[test]
fn a_backup_has_nothing_of_an_emulator() {
    let folder = Folder::embedded("emulator");
    create(&folder, "Lab/kept-by-the-emulator");
    let backup = folder.path().join("backup");
    folder.run(&["backup", backup.to_str().unwrap()]).good();
    assert!(file(&folder).exists());
    for path in files(&backup) {
        let name = path.strip_prefix(&backup).unwrap();
        assert!(!name.starts_with("emulator"), "{}", path.display());
        assert_ne!(path.file_name(), file(&folder).file_name());
    }
}

#[test]
fn in_production_an_emulator_keeps_nothing() {
    let me = rustix::process::geteuid().as_raw();
    let people = format!("people.me = {{ uid = {me}, roles = [\"operator\", \"admin\"] }}");
    let folder = Folder::new(&format!(
        "mode = \"production\"\n{people}\n{}",
        embedded("emulator")
    ));
    create(&folder, "Lab/first");
    assert_eq!(names(&folder), Vec::<String>::new());
    assert!(!folder.path().join("data/emulator").exists());
    let ran = folder.run(&["emulator", "reset"]);
    assert!(ran.error().contains("production"), "{ran:?}");
}

#[test]
fn an_emulator_alone_keeps_what_it_is_told_to_keep() {
    let folder = Folder::new("");
    let seed = "[[project]]\nname = \"Lab/seeded\"\n";
    fs::write(folder.path().join("seed.toml"), seed).unwrap();
    let serving = |more: &[&str]| {
        let start = ["--json", "emulator", "--listen", "127.0.0.1:0"];
        let mut emulator = folder.start(&[&start[..], more].concat());
        let ready: Value = emulator.until("the emulator is ready", |emulator| {
            serde_json::from_str(&emulator.stdout()).ok()
        });
        let client = Folder::embedded(ready["base-url"].as_str().unwrap());
        (emulator, client)
    };
    let call = |client: &Folder, tool: &str, arguments: &str| {
        let mut command = client.command(&["--json", "call", tool, arguments]);
        command
            .env("QUANTCONNECT_USER_ID", "1")
            .env("QUANTCONNECT_API_TOKEN", "emulator");
        crate::process::Process::start(command, client.path())
            .wait()
            .json()
    };
    let count = |client: &Folder| {
        let listed = call(client, "list_projects", "{}");
        listed["projects"].as_array().unwrap().len()
    };
    let create = r#"{"name": "Lab/first", "language": "Py"}"#;
    let keep = ["--keep", "cloud.db", "--seed", "seed.toml"];
    for expected in [1, 2] {
        let (emulator, client) = serving(&keep);
        assert_eq!(count(&client), expected);
        call(&client, "create_project", create);
        emulator.end();
    }
    for _ in 0..2 {
        let (emulator, client) = serving(&[]);
        assert_eq!(count(&client), 0);
        call(&client, "create_project", create);
        emulator.end();
    }
}
