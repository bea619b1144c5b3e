//! The bundled plugin data-edge: versions of data in the Object Store, and strategies across projects; each with its denied
//! twin.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cloud::Cloud;
use crate::common::{Folder, MAX_COMPONENT, bundled, component, embedded};
use crate::minimal::{assert_minimal, check, step};

const PLUGIN: &str = "plugins/data-edge";
/// The granted folder of the bundled manifest.
const PLACE: &str = "/srv/data";
/// Three days of a market, of which one is missing between the second and the third.
const DAYS: &str = "time,close\n2024-01-02,472.65\n2024-01-03,468.79\n2024-01-05,467.92\n";

/// A host with the plugin and a granted folder.
struct Desk {
    cloud: Cloud,
    host: Folder,
    local: TempDir,
}

impl Desk {
    fn new() -> Self {
        Self::changed("", |manifest| manifest)
    }

    /// One with more in the account's configuration, and another manifest.
    fn changed(account: &str, change: impl FnOnce(String) -> String) -> Self {
        let cloud = Cloud::start();
        let host = Folder::new(&format!("{}{account}", embedded(cloud.url())));
        let local = TempDir::new().unwrap();
        let manifest = granting(&bundled(PLUGIN), local.path());
        host.manifest("data-edge", &change(manifest));
        Self { cloud, host, local }
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.local.path().join(path), content).unwrap();
    }

    fn invoke(&self, action: &str, input: &Value) -> Value {
        self.host.invoke(&format!("data-edge.{action}"), input)
    }

    /// What an invocation fails with.
    fn refused(&self, action: &str, input: &Value) -> String {
        let action = format!("data-edge.{action}");
        let ran = self
            .host
            .run(&["--json", "invoke", &action, &input.to_string()]);
        ran.json_error()
    }

    /// Uploads a text as a version of `spy`.
    fn upload(&self, text: &str) -> Value {
        self.invoke("upload", &upload(text))
    }

    fn version(&self, text: &str) -> String {
        let uploaded = self.upload(text);
        uploaded["manifest"]["version"].as_str().unwrap().to_owned()
    }

    fn requests(&self, path: &str) -> usize {
        self.cloud.requests_to(path).len()
    }

    /// The names of the objects of a version.
    fn objects(&self, version: &str) -> Vec<String> {
        let account = self.host.call("read_account", &json!({}));
        let organization = account["organizationId"].clone();
        let path = format!("data-edge/spy/{version}");
        let list = json!({ "organizationId": organization, "path": path });
        let listed = self.host.call("list_object_store_files", &list);
        let objects = listed["objects"].as_array().unwrap().iter();
        objects
            .map(|it| it["name"].as_str().unwrap().to_owned())
            .collect()
    }

    fn delete(&self, key: &str) {
        let account = self.host.call("read_account", &json!({}));
        let delete = json!({ "organizationId": account["organizationId"], "key": key });
        self.host.call("delete_object", &delete);
    }

    fn create(&self, name: &str, main: &str) -> Value {
        let id = created(&self.host, name);
        self.edit(&id, main);
        id
    }

    fn edit(&self, project: &Value, main: &str) {
        let edit = json!({ "projectId": project, "name": "main.py", "content": main });
        self.host.call("update_file_contents", &edit);
    }

    fn main_of(&self, project: &Value) -> String {
        let read = json!({ "projectId": project, "name": "main.py" });
        let file = self.host.call("read_file", &read);
        file["files"][0]["content"].as_str().unwrap().to_owned()
    }
}

fn upload(text: &str) -> Value {
    json!({ "set": "spy", "source": "a test", "data": { "text": text } })
}

/// The manifest with this folder in place of its own.
fn granting(manifest: &str, local: &Path) -> String {
    let granting = manifest.replace(PLACE, local.to_str().unwrap());
    assert_ne!(granting, manifest);
    granting
}

fn created(host: &Folder, name: &str) -> Value {
    let project = host.call("create_project", &json!({ "name": name, "language": "Py" }));
    project["projects"][0]["projectId"].clone()
}

/// Minute bars, as many bytes as these at least.
fn minutes(bytes: usize) -> String {
    let mut text = "time,open,high,low,close,volume\n".to_owned();
    let mut at = 1_704_205_800_u64;
    while text.len() < bytes {
        text.push_str(&format!("{at},472.1,472.9,471.8,472.4,{}\n", at % 9973));
        at += 60;
    }
    text
}

/// What the findings of a report are of, each with its number of rows.
fn findings(quality: &Value) -> Vec<(String, u64)> {
    let findings = quality["findings"].as_array().unwrap().iter();
    findings
        .map(|it| {
            (
                it["kind"].as_str().unwrap().to_owned(),
                it["count"].as_u64().unwrap(),
            )
        })
        .collect()
}

#[test]
fn the_same_rows_are_one_version_and_other_rows_are_another_with_what_differs() {
    let desk = Desk::new();
    let first = desk.upload(DAYS);
    assert_eq!(
        (&first["complete"], &first["sent"]),
        (&json!(true), &json!(1))
    );
    let version = first["manifest"]["version"].as_str().unwrap();
    assert_eq!(desk.objects(version), ["manifest.json", "part-0000.csv"]);
    let sets = desk.requests("/object/set");
    let again = desk.upload(&DAYS.replace("2024-01-02,", "20240102,"));
    assert_eq!(again["unchanged"], true, "{again}");
    assert_eq!(again["manifest"], first["manifest"]);
    assert_eq!(desk.requests("/object/set"), sets);

    let second = desk.upload(&format!("{DAYS}2024-01-08,474.60\n"));
    assert_eq!(second["manifest"]["parents"], json!([version]));
    let added = json!({ "2024-01-08": { "before": null, "after": 1 } });
    assert_eq!(second["difference"]["periods"], added, "{second}");
    let diff = desk.invoke("diff", &json!({ "set": "spy", "from": version }));
    assert_eq!(diff["difference"], second["difference"]);
    let shown = desk.invoke("show", &json!({ "set": "spy", "version": version }));
    assert_eq!(shown["children"], json!([second["manifest"]["version"]]));
    assert_eq!(shown["missing"], json!([]));
    let listed = desk.invoke("list", &json!({}));
    assert_eq!(listed["complete"], true);
    assert_eq!(
        listed["sets"]["spy"]["versions"].as_array().unwrap().len(),
        2,
        "{listed}"
    );
}

#[test]
fn the_manifest_is_sent_last_and_only_what_is_missing_is_sent_again() {
    let desk = Desk::new();
    desk.write("bars.csv", minutes(9 << 20));
    let input = json!({ "set": "spy", "source": "a test", "data": { "folder": "data", "files": ["bars.csv"] } });
    let first = desk.invoke("upload", &input);
    assert!(first["sent"].as_u64().unwrap() >= 2, "{first}");
    let version = first["manifest"]["version"].as_str().unwrap();
    let place = format!("data-edge/spy/{version}");
    desk.delete(&format!("{place}/part-0001.csv"));
    let shown = desk.invoke("show", &json!({ "set": "spy" }));
    assert_eq!(shown["missing"], json!(["part-0001.csv"]));
    let before = desk.requests("/object/set");
    let again = desk.invoke("upload", &input);
    assert_eq!(
        (&again["sent"], &again["unchanged"]),
        (&json!(1), &json!(false))
    );
    assert_eq!(again["manifest"], first["manifest"]);
    // The part, and the manifest after it.
    assert_eq!(desk.requests("/object/set"), before + 2);
}

#[test]
fn rows_are_checked_before_anything_is_sent() {
    let desk = Desk::new();
    let input = json!({ "data": { "text": DAYS }, "expect": { "calendar": "us-equity" } });
    let checked = desk.invoke("check", &input);
    assert_eq!(findings(&checked["quality"]), [("gap".to_owned(), 1)]);
    assert_eq!(checked["accepted"], true);
    let twice = format!("{DAYS}2024-01-05,468.0\n");
    let error = desk.refused("upload", &upload(&twice));
    assert!(error.contains("row 4 (2024-01-05 00:00:00)"), "{error}");
    let parquet = json!({ "set": "spy", "source": "a test", "data": { "folder": "data", "files": ["a.parquet"] } });
    desk.write("a.parquet", b"PAR1");
    let error = desk.refused("upload", &parquet);
    assert!(error.contains("write it as CSV first"), "{error}");
    assert_eq!(desk.requests("/object/set"), 0);
    // Its twin names the kind.
    let mut accepted = upload(&twice);
    accepted["accept"] = json!(["duplicate"]);
    assert_eq!(desk.invoke("upload", &accepted)["complete"], true);
}

#[test]
fn a_zip_of_lean_is_opened_and_goes_on_as_csv() {
    let desk = Desk::new();
    // An archive without compression, written by hand: `20131007_spy_minute_trade.csv`.
    desk.write(
        "20131007_trade.zip",
        stored(
            "20131007_spy_minute_trade.csv",
            b"34200000,1684900,1685000,1684800,1684912,1000\n34260000,1684912,1685100,1684900,1685000,900\n",
        ),
    );
    let input = json!({
        "set": "spy", "source": "a test",
        "data": { "folder": "data", "files": ["20131007_trade.zip"], "format": "lean-equity" },
        "expect": { "calendar": "us-equity" }
    });
    let uploaded = desk.invoke("upload", &input);
    let manifest = &uploaded["manifest"];
    assert_eq!(manifest["first"], "2013-10-07 09:30:00", "{uploaded}");
    assert_eq!(manifest["zone"], "new-york");
    let high = manifest["columns"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["name"] == "high");
    assert_eq!(high.unwrap()["max"], 168.51);
    assert_eq!(findings(&uploaded["quality"]), []);
    // Without the scale, nothing is guessed.
    let mut unsaid = input.clone();
    unsaid["data"].as_object_mut().unwrap().remove("format");
    let error = desk.refused("upload", &unsaid);
    assert!(error.contains("lean-equity"), "{error}");
}

/// A zip archive with one file that is not compressed.
fn stored(name: &str, content: &[u8]) -> Vec<u8> {
    let crc = content.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| match crc & 1 {
            1 => (crc >> 1) ^ 0xedb8_8320,
            _ => crc >> 1,
        })
    });
    let size = u32::try_from(content.len()).unwrap();
    let length = u16::try_from(name.len()).unwrap();
    // Version, flags, method, time, date; checksum and sizes; lengths of the name and of what is extra.
    let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
    for number in [!crc, size, size] {
        common.extend_from_slice(&number.to_le_bytes());
    }
    common.extend_from_slice(&length.to_le_bytes());
    common.extend_from_slice(&[0, 0]);
    let file = [b"PK\x03\x04".as_slice(), &common, name.as_bytes(), content].concat();
    let directory = [
        b"PK\x01\x02\x14\0".as_slice(),
        &common,
        &[0; 14],
        name.as_bytes(),
    ]
    .concat();
    let numbers = [directory.len(), file.len()].map(|it| u32::try_from(it).unwrap().to_le_bytes());
    let end = [
        b"PK\x05\x06\0\0\0\0\x01\0\x01\0".as_slice(),
        &numbers[0],
        &numbers[1],
        &[0, 0],
    ]
    .concat();
    [file, directory, end].concat()
}

#[test]
fn nothing_goes_to_a_prefix_that_is_not_granted_or_comes_from_a_folder_that_is_not() {
    let desk = Desk::new();
    let mut elsewhere = upload(DAYS);
    elsewhere["prefix"] = json!("elsewhere");
    let error = desk.refused("upload", &elsewhere);
    assert!(error.contains("object-store/upload-object"), "{error}");
    let mut other = upload(DAYS);
    other["data"] = json!({ "folder": "other", "files": ["a.csv"] });
    let error = desk.refused("upload", &other);
    assert!(error.contains("other"), "{error}");
    let mut up = upload(DAYS);
    up["data"] = json!({ "folder": "data", "files": ["../a.csv"] });
    desk.refused("upload", &up);
    for assistant in [".assistant", "a/../.assistant"] {
        let mut steering = upload(DAYS);
        steering["prefix"] = json!(assistant);
        let error = desk.refused("upload", &steering);
        assert!(error.contains("cannot be a prefix"), "{error}");
    }
    assert_eq!(desk.requests("/object/set"), 0);
    // The twin that is granted.
    let mut live = upload(DAYS);
    live["prefix"] = json!("data-edge-live");
    assert_eq!(desk.invoke("upload", &live)["complete"], true);
}

#[test]
fn licensed_values_are_in_no_answer_and_are_not_downloaded() {
    let desk = Desk::changed("derived-data = true\n", |manifest| manifest);
    let mut licensed = upload(DAYS);
    licensed["label"] = json!("licensed");
    let uploaded = desk.invoke("upload", &licensed);
    let shown = desk.invoke("show", &json!({ "set": "spy" }));
    for answer in [&uploaded, &shown] {
        assert!(!answer.to_string().contains("472.65"), "{answer}");
    }
    let promote = json!({ "set": "spy", "to": "data-edge-live" });
    let error = desk.refused("promote", &promote);
    assert!(error.contains("licensed data"), "{error}");
    assert_eq!(desk.requests("/object/get"), 0);
    // The twin of the user's own data says its values.
    let own = desk.upload(&format!("{DAYS}2024-01-08,470.0\n"));
    assert!(own.to_string().contains("472.65"), "{own}");
}

#[test]
fn a_version_is_promoted_by_its_rows_and_downloaded_only_where_the_account_may() {
    let desk = Desk::new();
    let version = desk.version(DAYS);
    let promote = json!({ "set": "spy", "to": "data-edge-live" });
    let error = desk.refused("promote", &promote);
    assert!(error.contains("have to be given as `data`"), "{error}");
    assert_eq!(desk.requests("/object/get"), 0);
    let mut given = promote.clone();
    given["data"] = json!({ "text": DAYS });
    let promoted = desk.invoke("promote", &given);
    assert_eq!(promoted["manifest"]["version"], version.as_str());
    assert_eq!(
        promoted["manifest"]["promoted-from"],
        format!("data-edge/spy/{version}")
    );
    given["data"] = json!({ "text": DAYS.replace("472", "473") });
    let error = desk.refused("promote", &given);
    assert!(error.contains("are not those of"), "{error}");

    let desk = Desk::changed("derived-data = true\n", |manifest| manifest);
    desk.version(DAYS);
    assert_eq!(desk.invoke("promote", &promote)["sent"], 1);
}

#[test]
fn what_is_used_is_not_collected_and_nothing_is_without_the_grant() {
    let desk = Desk::new();
    let project = desk.create("Lab/one", "# uses spy\n");
    let mut versions = Vec::new();
    for number in 0..3 {
        let mut input = upload(&format!("{DAYS}2024-01-08,{number}\n"));
        input["parents"] = json!([]);
        let uploaded = desk.invoke("upload", &input);
        versions.push(uploaded["manifest"]["version"].clone());
    }
    let used = desk.invoke(
        "use",
        &json!({ "set": "spy", "version": versions[1], "project": project }),
    );
    let shown = desk.invoke("show", &json!({ "set": "spy", "version": versions[1] }));
    assert_eq!(shown["uses"], json!([used]));
    let mut collect = json!({ "set": "spy", "keep": 1, "days": 0 });
    let planned = desk.invoke("collect", &collect);
    assert_eq!(planned["deleted"][0]["version"], versions[0], "{planned}");
    assert_eq!(desk.requests("/object/delete"), 0);
    collect["dry-run"] = json!(false);
    let done = desk.invoke("collect", &collect);
    assert_eq!(done["deleted"], planned["deleted"]);
    assert_eq!(
        desk.objects(versions[0].as_str().unwrap()),
        Vec::<String>::new()
    );
    assert!(!desk.objects(versions[1].as_str().unwrap()).is_empty());

    let desk = Desk::changed("", |manifest| {
        let (before, rest) = manifest
            .split_once("[[grant]]\nname          = \"collect\"")
            .unwrap();
        let (_, after) = rest.split_once("[[grant]]").unwrap();
        format!("{before}[[grant]]{after}")
    });
    let version = desk.version(DAYS);
    collect["keep"] = json!(0);
    let error = desk.refused("collect", &collect);
    assert!(error.contains("object-store/delete-object"), "{error}");
    assert_eq!(desk.requests("/object/delete"), 0);
    assert_eq!(desk.objects(&version).len(), 2);
    let shown = desk.invoke("show", &json!({ "set": "spy" }));
    assert_eq!(shown["missing"], json!([]));
}

#[test]
fn a_strategy_is_promoted_in_one_step_and_goes_back() {
    let desk = Desk::new();
    let source = desk.create("Lab/one", "# first\n");
    let target = desk.create("Live/one", "# template\n");
    let mut promote = json!({ "from": source, "to": "Live/one", "plan-only": true });
    let plan = desk.invoke("promote-strategy", &promote);
    let change = &plan["changes"][0];
    assert_eq!(
        (&change["path"], &change["conflict"]),
        (&json!("main.py"), &json!(true))
    );
    assert!(
        change["diff"]
            .as_str()
            .unwrap()
            .contains("-# template\n+# first\n"),
        "{plan}"
    );
    promote["plan-only"] = json!(false);
    let held = desk.invoke("promote-strategy", &promote);
    assert_eq!(
        (&held["done"], desk.requests("/projects/update")),
        (&json!(false), 0)
    );
    promote["discard"] = json!({ "main.py": change["target"] });
    promote["version"] = plan["version"].clone();
    let done = desk.invoke("promote-strategy", &promote);
    assert_eq!(
        (&done["done"], desk.main_of(&target).as_str()),
        (&json!(true), "# first\n")
    );

    // What was planned is not what there is by now.
    desk.edit(&source, "# second\n");
    let error = desk.refused("promote-strategy", &promote);
    assert!(error.contains("plan it again"), "{error}");
    let next = json!({ "from": "Lab/one", "to": target });
    assert_eq!(desk.invoke("promote-strategy", &next)["done"], true);
    assert_eq!(desk.main_of(&target), "# second\n");
    let back = desk.invoke("rollback", &json!({ "project": target }));
    assert_eq!(
        (&back["done"], desk.main_of(&target).as_str()),
        (&json!(true), "# first\n")
    );
    assert_eq!(back["version"], plan["version"]);
    // A person's change is not rolled over.
    desk.edit(&target, "# hotfix\n");
    let held = desk.invoke("rollback", &json!({ "project": target }));
    assert_eq!(
        (&held["done"], desk.main_of(&target).as_str()),
        (&json!(false), "# hotfix\n")
    );
}

#[test]
fn no_strategy_goes_into_a_project_that_is_not_granted() {
    let desk = Desk::new();
    let source = desk.create("Lab/one", "# first\n");
    for name in ["Lab/two", "Prod/two"] {
        let target = created(&desk.host, name);
        let read = json!({ "projectId": target });
        let files = desk.host.call("read_file", &read);
        let discard: serde_json::Map<String, Value> = files["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| {
                let text = file["content"].as_str().unwrap();
                (
                    file["name"].as_str().unwrap().to_owned(),
                    json!(sha256(text)),
                )
            })
            .collect();
        let promote = json!({ "from": source, "to": target, "discard": discard });
        let error = desk.refused("promote-strategy", &promote);
        let reasons = ["projects/replace-project-files", name, "not the project"];
        assert!(reasons.iter().any(|it| error.contains(it)), "{error}");
    }
    assert_eq!(desk.requests("/projects/update"), 0);
}

fn sha256(text: &str) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(text.as_bytes()))
}

#[test]
fn large_data_needs_the_memory_that_the_manifest_gives() {
    let large = minutes(14 << 20);
    let input = json!({ "data": { "folder": "data", "files": ["bars.csv"] } });
    let desk = Desk::new();
    desk.write("bars.csv", &large);
    let checked = desk.invoke("check", &input);
    assert!(checked["rows"].as_u64().unwrap() > 300_000, "{checked}");

    let desk = Desk::changed("", |manifest| {
        let (before, _) = manifest.split_once("# For each invocation").unwrap();
        before.to_owned()
    });
    desk.write("bars.csv", &large);
    desk.refused("check", &input);
}

/// Uses all that the plugin can do, from nothing.
fn tour(cloud: &Cloud, manifest: &str) -> Result<(), String> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let host = Folder::new(&format!("{}derived-data = true\n", embedded(cloud.url())));
    let local = TempDir::new().unwrap();
    host.manifest(
        "data-edge",
        &manifest.replace(PLACE, local.path().to_str().unwrap()),
    );
    std::fs::write(local.path().join("days.csv"), DAYS).unwrap();
    let (from, to) = (format!("Lab/tour-{number}"), format!("Live/tour-{number}"));
    let (source, target) = (created(&host, &from), created(&host, &to));
    let set = format!("set-{number}");
    let invoke = |action: &str, input: &Value| {
        let action = format!("data-edge.{action}");
        step(&host, &["invoke", &action, &input.to_string()])
    };
    let upload = json!({ "set": set, "source": "tour", "data": { "folder": "data", "files": ["days.csv"] } });
    let uploaded = invoke("upload", &upload)?;
    check(uploaded["sent"] == 1, &uploaded)?;
    let again = invoke("upload", &upload)?;
    check(again["unchanged"] == true, &again)?;
    let listed = invoke("list", &json!({}))?;
    check(listed["sets"][&set]["versions"][0]["rows"] == 3, &listed)?;
    let promoted = invoke("promote", &json!({ "set": set, "to": "data-edge-live" }))?;
    check(promoted["sent"] == 1, &promoted)?;
    // By name, and by id.
    let used = invoke("use", &json!({ "set": set, "project": from }))?;
    check(used["project-id"] == source, &used)?;
    let edit = json!({ "projectId": source, "name": "main.py", "content": "# tour\n" });
    host.call("update_file_contents", &edit);
    let plan = json!({ "from": source, "to": to, "plan-only": true });
    let planned = invoke("promote-strategy", &plan)?;
    let discard = json!({ "main.py": planned["changes"][0]["target"] });
    let done = invoke(
        "promote-strategy",
        &json!({ "from": from, "to": target, "discard": discard }),
    )?;
    check(done["done"] == true, &done)?;
    let back = invoke("rollback", &json!({ "project": target }))?;
    check(back["done"] == true, &back)?;
    // What is used stays, and so another version goes.
    let other = json!({ "set": format!("{set}-b"), "source": "tour", "data": { "text": DAYS } });
    invoke("upload", &other)?;
    let collect = json!({ "set": format!("{set}-b"), "keep": 0, "days": 0, "dry-run": false });
    let collected = invoke("collect", &collect)?;
    check(
        collected["deleted"][0]["reason"] == "nothing needs it",
        &collected,
    )
}

#[test]
fn every_line_of_the_manifest_is_needed() {
    let cloud = Cloud::start();
    let manifest = bundled(PLUGIN);
    // That the limits are needed is shown by large data alone.
    let (grants, _) = manifest.split_once("# For each invocation").unwrap();
    assert_minimal(grants, |manifest| tour(&cloud, manifest));
}

#[test]
fn the_component_is_small() {
    let size = component(PLUGIN).metadata().unwrap().len();
    assert!(size <= MAX_COMPONENT, "{size} bytes");
}
