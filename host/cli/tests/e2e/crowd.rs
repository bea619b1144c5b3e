//! Limits of what one client of the control socket may use, and what is refused before it is read.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::common::Folder;
use crate::process::BOUND;
use crate::socket::{Answer, Control};

/// Sends these bytes, and returns the message of the refusal.
fn refused(folder: &Folder, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(folder.path().join("data/control.sock")).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    // The host answers before it has read everything.
    drop(stream.write_all(bytes));
    let mut line = String::new();
    let mut lines = BufReader::new(&stream);
    loop {
        line.clear();
        lines.read_line(&mut line).unwrap();
        let reply: Value = serde_json::from_str(&line).unwrap();
        let reply = &reply["message"];
        if let Some(failed) = reply["failed"]["message"].as_str() {
            return failed.to_owned();
        }
        assert!(reply.get("done").is_none(), "{reply}");
    }
}

fn head(folder: &Folder, verb: &str, about: Option<&str>, bytes: usize) -> String {
    let config = folder.path().join("qchost.toml");
    let head = json!({ "config": config, "verb": verb, "about": about, "bytes": bytes });
    json!({ "version": 4, "message": head }).to_string() + "\n"
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let folder = Folder::embedded("emulator");
    let host = folder.serve(&["run"]);
    let cases = [
        // Announced, and never sent.
        (
            head(&folder, "invoke", Some("lab"), 33 << 20),
            "takes at most 33554432",
        ),
        (head(&folder, "halt", None, 65 << 10), "takes at most 65536"),
        (
            head(&folder, "halt", Some(&"x".repeat(5000)), 10),
            "more than 4096 bytes",
        ),
        (
            "{\"config\": \"/x\", \"request\": {\"verb\": \"halts\"}}\n".to_owned(),
            "another version",
        ),
        (head(&folder, "shutdown", None, 2) + "{}", "cannot be read"),
    ];
    for (bytes, words) in cases {
        let why = refused(&folder, bytes.as_bytes());
        assert!(why.contains(words), "{words}: {why}");
    }
    // The request that the first line announced is the one that is carried out.
    let body = json!({ "verb": "backup", "folder": "/nowhere" }).to_string();
    let bytes = head(&folder, "halts", None, body.len()) + &body;
    let why = refused(&folder, bytes.as_bytes());
    assert!(
        why.contains("not the one that its first line says"),
        "{why}"
    );
    // Short texts, each of which takes memory.
    let values = format!("[{}0]", "0,".repeat(1_000_000));
    let body = format!("{{\"verb\":\"invoke\",\"action\":\"lab.act\",\"input\":{values}}}");
    let bytes = head(&folder, "invoke", Some("lab"), body.len()) + &body;
    let why = refused(&folder, bytes.as_bytes());
    assert!(why.contains("more than 1000000 values"), "{why}");
    host.end();
}

#[test]
fn readers_of_the_audit_take_places_of_their_own_and_no_more() {
    const READERS: usize = 8;
    let folder = Folder::embedded("emulator");
    let host = folder.serve(&["run"]);
    let control = Control::of(&folder);
    let follow = json!({ "verb": "tail-audit", "lines": 1, "follow": true });
    let begun: Vec<_> = (0..READERS).map(|_| control.begin(&follow)).collect();
    // Each is in progress once the host has identified itself.
    let readers: Vec<_> = begun
        .into_iter()
        .map(|stream| {
            let mut lines = BufReader::new(stream);
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            assert!(line.contains("\"host\""), "{line}");
            lines
        })
        .collect();
    let answer = control.ask(&json!({ "verb": "audit-head" }));
    assert!(
        matches!(&answer, Answer::Failed(why) if why.contains("8 requests of this kind")),
        "{answer:?}"
    );
    let limited = folder.run(&["audit", "query"]);
    assert_eq!(limited.status.code(), Some(6), "{limited:?}");
    folder.run(&["halt"]).good();
    folder.run(&["plugin", "list"]).good();
    drop(readers);
    crate::process::wait_until("their places are free again", || {
        let answer = control.ask(&json!({ "verb": "audit-head" }));
        matches!(answer, Answer::Done(_)).then_some(())
    });
    // Nothing is recorded meanwhile, so its thread ends because the client ends.
    crate::process::wait_until("their threads have ended", || {
        let threads = std::fs::read_dir(format!("/proc/{}/task", host.id())).unwrap();
        let mut names =
            threads.filter_map(|it| std::fs::read_to_string(it.unwrap().path().join("comm")).ok());
        names
            .all(|name| name.trim() != "qchost-reading")
            .then_some(())
    });
    host.end();
}
