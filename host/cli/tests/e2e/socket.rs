//! A client of the control socket that is not the binary: JSON lines over a connection, as any program could.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::common::Folder;
use crate::process::BOUND;

/// Reaches the host of a folder. Each question has a connection of its own.
#[derive(Clone)]
pub struct Control {
    socket: PathBuf,
    config: PathBuf,
}

/// What became of a question.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Done(Value),
    /// The host's own words.
    Failed(String),
    /// Nobody listened: the question was not asked.
    Nobody,
    /// It was asked, and the connection ended without an answer.
    Lost(String),
}

impl Control {
    pub fn of(folder: &Folder) -> Self {
        Self {
            socket: folder.path().join("data/control.sock"),
            config: folder.path().join("qchost.toml").canonicalize().unwrap(),
        }
    }

    /// Asks, and reads nothing.
    pub fn begin(&self, request: &Value) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        let letter = json!({ "config": self.config, "request": request });
        writeln!(&stream, "{letter}").unwrap();
        stream
    }

    pub fn ask(&self, request: &Value) -> Answer {
        let stream = match UnixStream::connect(&self.socket) {
            Ok(stream) => stream,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused
                ) =>
            {
                return Answer::Nobody;
            }
            Err(error) => return Answer::Lost(error.to_string()),
        };
        stream.set_read_timeout(Some(BOUND)).unwrap();
        let letter = json!({ "config": self.config, "request": request });
        // A host that refuses somebody does so before it reads, and its words can still be read.
        let sent = writeln!(&stream, "{letter}");
        for line in BufReader::new(&stream).lines() {
            let line = match line {
                Ok(line) => line,
                Err(error) => return Answer::Lost(error.to_string()),
            };
            let reply: Value = serde_json::from_str(&line).unwrap();
            if let Some(value) = reply.get("done") {
                return Answer::Done(value.clone());
            }
            if let Some(words) = reply.get("failed") {
                return Answer::Failed(words.as_str().unwrap().to_owned());
            }
        }
        Answer::Lost(format!("no answer; sending: {sent:?}"))
    }

    pub fn invoke(&self, action: &str, input: &Value) -> Answer {
        self.ask(&json!({ "verb": "invoke", "action": action, "input": input }))
    }

    /// What the host says of each manifest.
    pub fn plugins(&self) -> Vec<Value> {
        match self.ask(&json!({ "verb": "plugins" })) {
            Answer::Done(Value::Array(rows)) => rows,
            other => panic!("{other:?}"),
        }
    }
}
