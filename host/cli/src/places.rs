//! What no `[[folder]]` of a manifest may be, contain or lie in: the host's own folders and secrets, homes, and what the
//! system keeps for itself.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use qchost_folders::{Place, Places, machine_places};
use qchost_gate::open_folders;
use qchost_policy::{Manifest, read_text};
use toml::Value;

use crate::config::Config;

/// The users of the machine.
const PASSWD: &str = "/etc/passwd";

/// The places of a host with this configuration; without one, those of the machine.
pub fn of_host(config: Option<&Config>) -> Vec<Place> {
    // A machine without the file has its users elsewhere; the host's own home counts in any case.
    let passwd = read_text(Path::new(PASSWD)).unwrap_or_default();
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let mut places = machine_places(&passwd, home);
    let program = std::env::current_exe().ok();
    let program = program.as_deref().and_then(Path::parent);
    places.extend(program.map(|folder| Place::apart(folder, "the folder of the host's program")));
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty());
    places.extend(credentials.map(|it| Place::apart(it, "the folder of the host's credentials")));
    if let Some(config) = config {
        places.extend(of_configuration(config));
    }
    places
}

fn of_configuration(config: &Config) -> Vec<Place> {
    let mut places = Vec::new();
    let mut put = |folder: Option<PathBuf>, what| {
        places.extend(folder.map(|folder| Place::apart(folder, what)));
    };
    put(config.data().ok(), "the host's data folder");
    put(config.cache().ok(), "the host's cache folder");
    put(Some(config.plugins()), "the folder of plugins");
    put(config.policies(), "the folder of guardrails");
    put(config.socket().ok(), "the control socket");
    let folder = config.path.parent();
    put(
        folder.map(Path::to_owned),
        "the folder of the configuration",
    );
    for (key, value) in &config.table {
        secret_files(key, value, &mut |file: &str| {
            let file = folder.unwrap_or(Path::new("")).join(file);
            places.push(Place::apart(file, "a file with a secret of the host"));
        });
    }
    places
}

/// The files that a configuration names, wherever it does: sources of secrets and tokens, and the audit's anchor.
fn secret_files(key: &str, value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::String(file) if key == "file" || key.ends_with("-file") => found(file),
        Value::Table(table) => {
            for (key, value) in table {
                secret_files(key, value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| secret_files(key, item, found)),
        _ => {}
    }
}

/// Checks that the folders which a manifest grants can be opened, and are apart from these places.
pub fn check(manifest: &Manifest, config: Option<&Config>) -> Result<()> {
    if manifest.folders.is_empty() {
        return Ok(());
    }
    let mut places = of_host(config);
    let component = manifest.component.clone();
    places.push(Place::apart(component, "the component of the plugin"));
    let headers = manifest
        .http
        .iter()
        .flat_map(|grant| grant.headers.values());
    let files = headers.filter_map(|value| value.get("file")?.as_str());
    places.extend(files.map(|file| Place::apart(file, "a file with a secret of the host")));
    let opened = open_folders(manifest, &Places::find(places));
    opened
        .map(drop)
        .map_err(|problem| anyhow!("{}: {problem}", manifest.path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(path: &Path) -> Manifest {
        let text = format!(
            "plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"a\"\n[[folder]]\nname = \"out\"\npath = \"{}\"\nmode = \"read\"\n",
            path.display()
        );
        Manifest::parse(&text, Path::new("/nowhere/lab.toml")).unwrap()
    }

    #[test]
    fn a_folder_is_apart_from_all_that_the_configuration_names() {
        let (host, free) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let of = |folder: &str| {
            let folder = host.path().join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            folder
        };
        for folder in [
            "conf/sub", "state/db", "cached", "agents", "rules", "keys", "anchor",
        ] {
            of(folder);
        }
        let file = host.path().join("conf/qchost.toml");
        std::fs::write(host.path().join("keys/token"), "secret").unwrap();
        std::fs::write(
            &file,
            "data = \"../state\"\ncache = \"../cached\"\nplugins = \"../agents\"\npolicies = \"../rules\"\n[account.a]\nconnection = \"embedded\"\ncredentials-file = \"../keys/token\"\n",
        )
        .unwrap();
        let config = Config::load(&file).unwrap();
        let check =
            |path: &Path| check(&manifest(path), Some(&config)).map_err(|it| it.to_string());
        for (folder, what) in [
            ("conf", "is the folder of the configuration"),
            ("conf/sub", "lies in the folder of the configuration"),
            ("state/db", "lies in the host's data folder"),
            ("cached", "is the host's cache folder"),
            ("agents", "is the folder of plugins"),
            ("rules", "is the folder of guardrails"),
            ("keys", "contains a file with a secret of the host"),
            ("", "contains "),
        ] {
            let refused = check(&of(folder)).unwrap_err();
            assert!(
                refused.starts_with("/nowhere/lab.toml: ") && refused.contains(what),
                "{folder}: {refused}"
            );
        }
        for folder in ["/", "/etc", "/proc", "/dev"] {
            let refused = check(Path::new(folder)).unwrap_err();
            assert!(refused.contains("cannot be granted"), "{folder}: {refused}");
        }
        let program = std::env::current_exe().unwrap();
        let refused = check(program.parent().unwrap()).unwrap_err();
        assert!(refused.contains("the host's program"), "{refused}");
        let missing = check(&free.path().join("missing")).unwrap_err();
        assert!(missing.contains("create it"), "{missing}");
        // The twins: a folder elsewhere, and the host's own once another configuration has it elsewhere.
        check(free.path()).unwrap();
        check(&of("anchor")).unwrap();
        std::fs::write(&file, "data = \"../elsewhere\"\n").unwrap();
        let moved = Config::load(&file).unwrap();
        super::check(&manifest(&of("state")), Some(&moved)).unwrap();
    }
}
