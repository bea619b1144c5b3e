//! What people get: the files of an installation, the archive and the package that are made of them, the licences and the bill
//! of materials. The same scripts do it here as in `make install` and `make dist`, with the binary of the tests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use qchost_testing::plugins_in;
use serde_json::Value;

use crate::common::{BINARY, Folder, repository};

/// Some time of a commit: 2023-11-14 22:13:20 in UTC.
const EPOCH: &str = "1700000000";

/// Runs a script of the folder with those that make packages, under this umask and in this time zone.
fn run(script: &str, arguments: &[&Path], umask: &str, zone: &str) {
    let script = repository("host/cli/dist").join(script);
    let ran = Command::new("sh")
        .args(["-c", &format!("umask {umask} && exec \"$0\" \"$@\"")])
        .arg(&script)
        .args(arguments)
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .env("TZ", zone)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{script:?}: {ran:?}");
}

/// A small program that does what the binary of the tests does: that one has hundreds of megabytes.
fn program(folder: &Folder) -> PathBuf {
    let path = folder.path().join("program");
    // Written by another process: a child that another test starts meanwhile could inherit a file that is being written,
    // and what is open for writing cannot be run.
    let script = "printf '#!/bin/sh\nexec \"%s\" \"$@\"\n' \"$1\" >\"$0\" && chmod 700 \"$0\"";
    let written = Command::new("sh")
        .args(["-c", script])
        .arg(&path)
        .arg(BINARY)
        .status()
        .unwrap();
    assert!(written.success());
    path
}

/// All files below a folder, relative to it.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let within = path.strip_prefix(folder).unwrap();
                found.insert(within.to_str().unwrap().to_owned());
            }
        }
    }
    found
}

#[test]
fn an_archive_has_what_an_installation_has_and_is_the_same_bytes_twice() {
    let folder = Folder::new("");
    let program = program(&folder);
    let mut archives = Vec::new();
    for (place, umask, zone) in [("one", "022", "UTC"), ("two", "077", "Pacific/Auckland")] {
        let place = folder.path().join(place);
        std::fs::create_dir(&place).unwrap();
        let (stage, archive) = (place.join("qchost-x"), place.join("archive"));
        let prefix = Path::new("/usr/local");
        run("stage.sh", &[&program, &stage, prefix], umask, zone);
        run("archive.sh", &[&stage, &archive], umask, zone);
        archives.push(archive);
    }
    let bytes = archives.iter().map(|path| std::fs::read(path).unwrap());
    let bytes: Vec<_> = bytes.collect();
    assert!(bytes[0] == bytes[1], "the archives differ");

    let listed = Command::new("tar")
        .args(["-tvz", "--numeric-owner", "-f"])
        .arg(&archives[0])
        .env("TZ", "UTC")
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for line in listed.lines() {
        assert!(line.contains(" 0/0 "), "{line}");
        assert!(line.contains(" 2023-11-14 22:13 qchost-x/"), "{line}");
        let mode = line.split(' ').next().unwrap();
        let expected = if line.ends_with('/') {
            "drwxr-xr-x"
        } else if line.ends_with("/bin/qchost") {
            "-rwxr-xr-x"
        } else {
            "-rw-r--r--"
        };
        assert_eq!(mode, expected, "{line}");
    }
    for file in [
        "bin/qchost",
        "share/man/man1/qchost.1",
        "share/man/man1/qchost-halt.1",
        "share/bash-completion/completions/qchost",
        "share/zsh/site-functions/_qchost",
        "share/fish/vendor_completions.d/qchost.fish",
        "lib/systemd/system/qchost.service",
        "lib/sysusers.d/qchost.conf",
        "share/doc/qchost/LICENSE",
    ] {
        let line = format!(" qchost-x/{file}\n");
        assert!(listed.contains(&line), "{file}: {listed}");
    }
}

#[test]
fn an_archive_of_what_cannot_be_read_is_a_failure() {
    let folder = Folder::new("");
    let ran = Command::new("sh")
        .arg(repository("host/cli/dist/archive.sh"))
        .args(["missing", "archive"].map(|name| folder.path().join(name)))
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .output()
        .unwrap();
    assert!(!ran.status.success(), "{ran:?}");
}

#[test]
fn a_unit_runs_the_program_of_its_prefix() {
    let folder = Folder::new("");
    let program = program(&folder);
    for prefix in ["/usr", "/usr/local", "/opt/qchost", "/opt/r&d#1\\2"] {
        let stage = folder.path().join(prefix.replace('/', "-"));
        run(
            "stage.sh",
            &[&program, &stage, Path::new(prefix)],
            "022",
            "UTC",
        );
        let unit = stage.join("lib/systemd/system/qchost.service");
        let unit = std::fs::read_to_string(unit).unwrap();
        let line = format!("\nExecStart={prefix}/bin/qchost run ");
        assert!(unit.contains(&line), "{unit}");
    }
}

#[test]
fn the_plugins_that_are_measured_are_those_that_are_built() {
    let folder = Folder::new("");
    let plugins = folder.path();
    for name in ["two", "one", "notes"] {
        std::fs::create_dir(plugins.join(name)).unwrap();
    }
    for file in ["one/Cargo.toml", "two/Cargo.toml", "notes/a", "README.md"] {
        std::fs::write(plugins.join(file), "").unwrap();
    }
    assert_eq!(plugins_in(plugins), ["one", "two"]);
    for name in plugins_in(&repository("plugins")) {
        let manifest = repository("plugins").join(&name).join("manifest.toml");
        assert!(manifest.is_file(), "{name}");
    }
}

#[test]
fn what_is_built_twice_is_built_in_a_folder_of_its_own() {
    let folder = Folder::new("");
    // A repository whose release is a few texts, and the one command of git that is used.
    let setup = r#"
mkdir -p root/host/cli/dist bin out/one out/first
cp "$1" root/host/cli/dist/check.sh
echo kept | tee out/one/file >out/first/file
cat >bin/git <<'END'
#!/bin/sh
cp -R "$3" "$4"
END
cat >root/host/cli/dist/dist.sh <<'END'
#!/bin/sh
mkdir -p "$1"
for made in a.tar.gz a.deb a.cdx.json SHA256SUMS; do echo "made $made" >"$1/$made"; done
END
chmod 755 bin/git root/host/cli/dist/*.sh
PATH="$PWD/bin:$PATH" exec root/host/cli/dist/check.sh out
"#;
    let ran = Command::new("sh")
        .args(["-euc", setup, "sh"])
        .arg(repository("host/cli/dist/check.sh"))
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(said.contains("made SHA256SUMS"), "{said}");
    let left = files(&folder.path().join("out"));
    let expected = ["first/file", "one/file"].map(str::to_owned);
    assert_eq!(left, BTreeSet::from(expected));
}

#[test]
fn a_package_has_every_file_of_an_installation() {
    let folder = Folder::new("");
    let stage = folder.path().join("stage");
    let prefix = Path::new("/usr");
    run(
        "stage.sh",
        &[&program(&folder), &stage, prefix],
        "022",
        "UTC",
    );
    let manifest = std::fs::read_to_string(repository("host/cli/Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let mut packed = BTreeSet::new();
    for asset in deb["assets"].as_array().unwrap() {
        let source = asset[0].as_str().unwrap();
        let source = source.strip_prefix("target/release/package/").unwrap();
        match source.strip_suffix('*') {
            Some(below) => {
                let all = files(&stage).into_iter();
                packed.extend(all.filter(|file| file.starts_with(below)));
            }
            None => {
                packed.insert(source.to_owned());
            }
        }
    }
    let mut expected = files(&stage);
    // The package has the licence in its own file of copyrights, and two files that `dist.sh` adds.
    assert!(expected.remove("share/doc/qchost/LICENSE"));
    for added in ["THIRD-PARTY-LICENCES", "qchost.cdx.json"] {
        expected.insert(format!("share/doc/qchost/{added}"));
    }
    assert_eq!(packed, expected);

    // What is checked of the binary is what the package says that it needs.
    let script = std::fs::read_to_string(repository("host/cli/dist/dist.sh")).unwrap();
    let glibc = script.lines().find_map(|line| line.strip_prefix("glibc="));
    let needs = format!("libc6 (>= {})", glibc.unwrap());
    let depends = deb["depends"].as_str().unwrap();
    assert!(depends.starts_with(&needs), "{depends}");
    let scripts = repository("host/cli").join(deb["maintainer-scripts"].as_str().unwrap());
    assert!(scripts.join("postinst").is_file());
}

fn inventory(kind: &str) -> String {
    let ran = Command::new("python3")
        .arg(repository("host/cli/dist/inventory.py"))
        .arg(kind)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn licences_and_bill_of_materials_have_every_crate_of_the_binary_and_nothing_of_this_machine() {
    let licences = inventory("licences");
    let bill = inventory("sbom");
    assert_eq!(bill, inventory("sbom"));
    let top = repository(".");
    for text in [&licences, &bill] {
        assert!(
            !text.contains(top.to_str().unwrap()),
            "a path of this machine"
        );
    }
    // The licence of a crate, and its text.
    assert!(licences.contains("\nlibsqlite3-sys 0."), "{licences}");
    assert!(licences.contains("TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION"));

    let bill: Value = serde_json::from_str(&bill).unwrap();
    assert_eq!(bill["bomFormat"], "CycloneDX");
    // Either is another one each time.
    assert!(bill.get("serialNumber").is_none() && bill["metadata"].get("timestamp").is_none());
    let components = bill["components"].as_array().unwrap();
    let mut known = BTreeSet::from([bill["metadata"]["component"]["bom-ref"].to_string()]);
    let mut names = BTreeSet::new();
    for component in components {
        let name = component["name"].as_str().unwrap();
        names.insert(name);
        assert!(
            known.insert(component["bom-ref"].to_string()),
            "{component}"
        );
        let licence = component["licenses"][0]["expression"].as_str().unwrap();
        let version = component["version"].as_str().unwrap();
        let line = format!("\n{name} {version}: {licence}\n");
        assert!(licences.contains(&line), "{line}");
        let own = name.starts_with("qchost-");
        assert_eq!(component.get("hashes").is_none(), own, "{component}");
    }
    for shipped in [
        "qchost-gate",
        "wasmtime",
        "tokio",
        "rusqlite",
        "clap_mangen",
    ] {
        assert!(names.contains(shipped), "{shipped}");
    }
    // Of the tests only.
    for other in ["criterion", "insta", "qchost-testing"] {
        assert!(!names.contains(other), "{other}");
    }
    for dependency in bill["dependencies"].as_array().unwrap() {
        assert!(
            known.contains(&dependency["ref"].to_string()),
            "{dependency}"
        );
        for used in dependency["dependsOn"].as_array().unwrap() {
            assert!(known.contains(&used.to_string()), "{dependency}");
        }
    }
}
