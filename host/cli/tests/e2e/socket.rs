//! A client of the control socket other than the binary: JSON lines over a connection, as any program could
//! send.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::common::Folder;
use crate::process::BOUND;

/// Connects to the host of a folder, once for each request.
#[derive(Clone)]
pub struct Control {
    socket: PathBuf,
    config: PathBuf,
}

/// The result of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Done(Value),
    /// The host's message.
    Failed(String),
    /// Nothing listened, so the request was not sent.
    Nobody,
    /// The request was sent, and the connection ended without an answer.
    Lost(String),
}

impl Control {
    pub fn of(folder: &Folder) -> Self {
        Self::at(folder, "data/control.sock")
    }

    /// Uses a socket at another path of the folder.
    pub fn at(folder: &Folder, socket: &str) -> Self {
        Self {
            socket: folder.path().join(socket),
            config: folder.path().join("qchost.toml").canonicalize().unwrap(),
        }
    }

    /// Sends a request without reading the answer.
    pub fn begin(&self, request: &Value) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        self.send(&stream, request).unwrap();
        stream
    }

    /// Sends a request without reading the answer; the host may refuse the connection before that.
    pub fn connect(&self, request: &Value) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        drop(self.send(&stream, request));
        stream
    }

    /// The first line announces the request and its size, and the request follows.
    fn send(&self, mut stream: &UnixStream, request: &Value) -> std::io::Result<()> {
        let body = request.to_string();
        let about = match request["verb"].as_str() {
            Some("invoke") => {
                let action = request["action"].as_str().unwrap();
                action.split_once('.').map(|(plugin, _)| plugin)
            }
            Some("call") => request["account"].as_str(),
            _ => None,
        };
        let head = json!({ "version": 4, "message": {
            "config": self.config,
            "verb": request["verb"],
            "about": about,
            "bytes": body.len(),
        } });
        stream.write_all(format!("{head}\n{body}").as_bytes())
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
        // A host that refuses a request does so before it reads it, and its message can still be read.
        let sent = self.send(&stream, request);
        for line in BufReader::new(&stream).lines() {
            let line = match line {
                Ok(line) => line,
                Err(error) => return Answer::Lost(error.to_string()),
            };
            let reply: Value = serde_json::from_str(&line).unwrap();
            let reply = &reply["message"];
            if let Some(value) = reply.get("done") {
                return Answer::Done(value.clone());
            }
            if let Some(failed) = reply.get("failed") {
                return Answer::Failed(failed["message"].as_str().unwrap().to_owned());
            }
        }
        Answer::Lost(format!("no answer; sending: {sent:?}"))
    }

    pub fn invoke(&self, action: &str, input: &Value) -> Answer {
        self.ask(&json!({ "verb": "invoke", "action": action, "input": input }))
    }

    /// The host's report for each manifest.
    pub fn plugins(&self) -> Vec<Value> {
        match self.ask(&json!({ "verb": "plugins" })) {
            Answer::Done(Value::Array(rows)) => rows,
            other => panic!("{other:?}"),
        }
    }
}
