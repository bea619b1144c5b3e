//! What no `[[folder]]` of a manifest may be, contain or lie in: the host's own folders, programs and secrets, components of
//! plugins, homes, and what the system keeps for itself.
//!
//! Invariant: of two manifests, one that grants a folder and one that names a file in it, neither is taken, so that no plugin
//! can replace the code of another or read its secrets.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use qchost_folders::{OpenError, Place, Places, machine_places};
use qchost_gate::open_folders;
use qchost_policy::{Manifest, read_text};
use toml::Value;

use crate::config::Config;
use crate::manifests;

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
        named_files(key, value, &mut |file: &str, what| {
            let file = folder.unwrap_or(Path::new("")).join(file);
            places.push(Place::apart(file, what));
        });
    }
    places
}

/// The files that a configuration names, wherever it does: sources of secrets and tokens, the audit's anchor, and the
/// programs of accounts with what they are started with.
fn named_files(key: &str, value: &Value, found: &mut impl FnMut(&str, &'static str)) {
    match value {
        Value::String(file) if key == "file" || key.ends_with("-file") => {
            found(file, "a file with a secret of the host");
        }
        Value::String(file) if matches!(key, "command" | "args") && file.contains('/') => {
            found(file, "a file that an account's program is started with");
        }
        Value::Table(table) => {
            for (key, value) in table {
                named_files(key, value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| named_files(key, item, found)),
        _ => {}
    }
}

/// The files that a manifest names: its component, and the secrets of its requests.
fn files_of(manifest: &Manifest) -> Vec<Place> {
    let headers = manifest
        .http
        .iter()
        .flat_map(|grant| grant.headers.values());
    let secrets = headers.filter_map(|value| value.get("file")?.as_str());
    let mut files: Vec<_> = secrets
        .map(|file| Place::apart(file, "a file with a secret of the host"))
        .collect();
    files.push(Place::apart(
        manifest.component.clone(),
        "the component of a plugin",
    ));
    files
}

/// Checks that the folders which a manifest grants can be opened and are apart from these places, and that no other manifest
/// grants a folder with the files that this one names.
pub fn check(manifest: &Manifest, config: Option<&Config>) -> Result<()> {
    let shown = manifest.path.display();
    let own = files_of(manifest);
    // A manifest without folders has to do only with those that have some.
    let word = if manifest.folders.is_empty() {
        "folder"
    } else {
        ""
    };
    let others = config.map_or_else(Vec::new, |it| others(manifest, it, word));
    if !manifest.folders.is_empty() {
        let mut places = of_host(config);
        places.extend(own.iter().cloned());
        places.extend(others.iter().flat_map(files_of));
        open_folders(manifest, &Places::find(places))
            .map_err(|problem| anyhow!("{shown}: {problem}"))?;
    }
    let own = Places::find(own);
    for other in &others {
        // Whether its folders can be opened at all is its own matter.
        if let Err(problem @ OpenError::Forbidden { .. }) = open_folders(other, &own) {
            return Err(anyhow!(
                "{shown}: it names a file in a folder that {} grants to a plugin: {problem}",
                other.path.display()
            ));
        }
    }
    Ok(())
}

/// The other manifests of the host that can be read and have a word in their text.
fn others(manifest: &Manifest, config: &Config, word: &str) -> Vec<Manifest> {
    let listed = manifests::list(&config.plugins()).unwrap_or_default();
    let files = listed.manifests.into_iter();
    let files = files.filter(|path| *path != manifest.path);
    files
        .filter(|path| read_text(path).is_ok_and(|text| text.contains(word)))
        .filter_map(|path| Manifest::load(&path).ok())
        .collect()
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
    fn a_folder_is_apart_from_programs_of_accounts_and_files_of_other_manifests() {
        let host = tempfile::tempdir().unwrap();
        let of = |folder: &str| {
            let folder = host.path().join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            folder
        };
        let put = |file: &Path, text: &str| std::fs::write(file, text).unwrap();
        let (conf, plugins) = (of("conf"), of("conf/plugins"));
        let (servers, shared, secrets) = (of("servers"), of("shared"), of("secrets"));
        put(&servers.join("server.py"), "");
        put(&shared.join("other.wasm"), "");
        put(&secrets.join("token"), "");
        let file = conf.join("qchost.toml");
        let server = servers.join("server.py");
        put(
            &file,
            &format!(
                "data = \"data\"\n[account.a]\nconnection = \"stdio\"\ncommand = \"python3\"\nargs = [\"{}\"]\n",
                server.display()
            ),
        );
        let other = plugins.join("other.toml");
        let component = shared.join("other.wasm");
        put(
            &other,
            &format!(
                "plugin = \"other\"\ncomponent = \"{}\"\naccount = \"a\"\n[[http]]\nname = \"hook\"\nallow = \"https://hooks.example.com/\"\n\
                 headers = {{ Authorization = {{ file = \"{}\" }} }}\n",
                component.display(),
                secrets.join("token").display()
            ),
        );
        let config = Config::load(&file).unwrap();
        let check =
            |path: &Path| super::check(&manifest(path), Some(&config)).map_err(|it| it.to_string());
        for (folder, what) in [
            (&servers, "a file that an account's program is started with"),
            (&shared, "the component of a plugin"),
            (&secrets, "a file with a secret of the host"),
        ] {
            let refused = check(folder).unwrap_err();
            assert!(refused.contains(what), "{refused}");
        }
        check(&of("free")).unwrap();

        // The other order: the folder is granted before the file is named.
        let named = Manifest::load(&other).unwrap();
        super::check(&named, Some(&config)).unwrap();
        put(&plugins.join("lab.toml"), &manifest(&shared).origin.text);
        let refused = super::check(&named, Some(&config)).unwrap_err().to_string();
        assert!(
            refused.contains("lab.toml grants") && refused.contains("the component of a plugin"),
            "{refused}"
        );
        put(
            &plugins.join("lab.toml"),
            &manifest(&of("free")).origin.text,
        );
        super::check(&named, Some(&config)).unwrap();
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
