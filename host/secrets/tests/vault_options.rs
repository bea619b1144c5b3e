//! The `[vault]` table: what may stand in it, and what may not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::Path;

use qchost_secrets::{Secrets, Setting, Source, VaultAuth, VaultOptions};

const TOKEN: &str = "auth = { token = { env = \"VAULT_TOKEN\" } }";

fn parse(text: &str) -> Result<VaultOptions, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

/// The options with one more line.
fn with(line: &str) -> VaultOptions {
    let address = if line.starts_with("address") {
        ""
    } else {
        "address = \"https://vault.test:8200\""
    };
    parse(&format!("{address}\n{TOKEN}\n{line}")).unwrap()
}

#[test]
fn both_ways_to_log_in_are_understood() {
    let options = with("");
    assert_eq!((options.timeout_seconds, options.cache_seconds), (10, 5));
    assert!(matches!(options.auth, VaultAuth::Token(Source::Env { .. })));
    let mut options = parse(
        "address = \"https://vault.test\"\nca-file = \"ca.pem\"\nnamespace = \"desk\"\n\
         auth = { role-id = \"role\", secret-id = { file = \"id\" } }",
    )
    .unwrap();
    options.resolve(Path::new("/etc/qchost"));
    assert_eq!(
        options.ca_file.as_deref(),
        Some(Path::new("/etc/qchost/ca.pem"))
    );
    let VaultAuth::AppRole {
        role_id,
        secret_id,
        mount,
    } = options.auth
    else {
        panic!()
    };
    assert!(matches!(role_id, Setting::Plain(_)));
    assert_eq!(secret_id.to_string(), "the file /etc/qchost/id");
    assert_eq!(mount, "approle");
    parse(
        "address = \"https://vault.test\"\n\
         auth = { role-id = { env = \"A\" }, secret-id = { env = \"B\" }, mount = \"a/b\" }",
    )
    .unwrap();
}

#[test]
fn what_is_wrong_is_said_and_no_secret_stands_in_the_table() {
    let id = "secret-id = { env = \"B\" }";
    for (auth, expected) in [
        ("token = \"hunter2\"".to_owned(), "only where it is"),
        (
            "role-id = \"a\", secret-id = \"hunter2\"".to_owned(),
            "only where it is",
        ),
        ("role-id = \"a\"".to_owned(), "`auth` is either"),
        (id.to_owned(), "`auth` is either"),
        (
            format!("token = {{ env = \"A\" }}, {id}"),
            "`auth` is either",
        ),
        (
            "token = { env = \"A\" }, mount = \"m\"".to_owned(),
            "`auth` is either",
        ),
        (String::new(), "`auth` is either"),
        ("user = \"a\"".to_owned(), "unknown field `user`"),
        ("token = { vault = \"a/b#c\" }".to_owned(), "kept in Vault"),
        (
            "role-id = \"a\", secret-id = { vault = \"a/b#c\" }".to_owned(),
            "kept in Vault",
        ),
        (
            format!("role-id = {{ vault = \"a/b#c\" }}, {id}"),
            "kept in Vault",
        ),
        (format!("role-id = 7, {id}"), "`role-id` is a text"),
        (
            format!("role-id = \"a\", {id}, mount = \"/a\""),
            "`/a` is no mount",
        ),
        (
            format!("role-id = \"a\", {id}, mount = \"..\""),
            "`..` is no mount",
        ),
    ] {
        let error = parse(&format!("address = \"https://v\"\nauth = {{ {auth} }}")).unwrap_err();
        // TOML's own message shows the line, and the value in it was written into the file.
        let message = error.lines().last().unwrap_or_default();
        assert!(message.contains(expected), "{auth}: {error}");
        assert!(!message.contains("hunter2"), "{error}");
    }
    for (text, expected) in [
        (
            format!("{TOKEN}\naddress = \"a\"\nadress = \"b\""),
            "unknown field `adress`",
        ),
        ("address = \"https://v\"".to_owned(), "missing field `auth`"),
        (TOKEN.to_owned(), "missing field `address`"),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn secrets_go_in_clear_to_this_machine_only() {
    for address in [
        "http://127.0.0.1:8200",
        "http://127.9.9.9",
        "http://[::1]:8200/",
        "http://localhost:8200",
        "https://vault.test",
        "https://10.0.0.1:8200",
    ] {
        let options = with(&format!("address = \"{address}\""));
        assert!(Secrets::new(Some(options)).is_ok(), "{address}");
    }
    for address in [
        "http://vault.test:8200",
        "http://10.0.0.1:8200",
        "http://[::2]:8200",
        "http://127.0.0.1.test",
        "http://localhost.test",
        "http://0.0.0.0:8200",
        "https://user:hunter2@vault.test",
        "https://hunter2@vault.test",
        "https://vault.test/v1",
        "https://vault.test?a=hunter2",
        "https://vault.test#hunter2",
        "ftp://vault.test",
        "unix:/run/vault",
        "vault.test:8200",
        "",
    ] {
        let options = with(&format!("address = \"{address}\""));
        let error = Secrets::new(Some(options)).unwrap_err().to_string();
        assert!(error.starts_with("[vault] address: "), "{address}: {error}");
        assert!(error.contains("https://"), "{address}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn options_out_of_their_range_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let no_pem = folder.path().join("ca.pem");
    std::fs::write(&no_pem, "no certificate").unwrap();
    let no_pem = format!("ca-file = {:?}", no_pem.to_str().unwrap());
    for (line, expected) in [
        ("timeout-seconds = 0", "[vault] timeout-seconds: 0"),
        ("timeout-seconds = 61", "[vault] timeout-seconds: 61"),
        ("cache-seconds = 61", "[vault] cache-seconds: 61"),
        ("namespace = \"\"", "[vault] namespace: "),
        ("namespace = \"a\\nb\"", "[vault] namespace: "),
        ("namespace = \"ä\"", "[vault] namespace: "),
        (
            "ca-file = \"/nowhere/ca.pem\"",
            "[vault] ca-file: /nowhere/ca.pem",
        ),
        (&no_pem, "[vault] ca-file: "),
    ] {
        let error = Secrets::new(Some(with(line))).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{line}: {error}");
    }
    for line in [
        "timeout-seconds = 60",
        "cache-seconds = 0",
        "namespace = \"a/b/\"",
    ] {
        assert!(Secrets::new(Some(with(line))).is_ok(), "{line}");
    }
}
