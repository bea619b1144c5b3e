//! The sandbox: forbidden actions fail, endless ones are ended, and the host and the other plugin keep
//! working.

use serde_json::{Value, json};

use crate::categories::{EVERY, folder, with_cloud};
use crate::cloud::Cloud;
use crate::common::{ALGORITHM, Folder, bundled, embedded, strategy_lab};
use crate::process::Process;

/// A host with the test agent, and strategy-lab beside it.
struct Hosted {
    cloud: Cloud,
    folder: Folder,
    host: Process,
}

impl Hosted {
    fn start() -> Self {
        let (cloud, folder) = with_cloud();
        let short = bundled(EVERY).replace("cpu         = \"5s\"", "cpu         = \"500ms\"");
        assert!(short.contains("500ms"));
        folder.manifest("every-category", &short);
        folder.manifest("strategy-lab", &strategy_lab());
        let mut command = folder.command(&["--json", "run"]);
        command.env("SANDBOX_WITNESS", "seen");
        let mut host = Process::start(command, folder.path());
        host.until("the host is ready", |host| {
            host.stdout().contains("\"plugins\":2").then_some(())
        });
        Self {
            cloud,
            folder,
            host,
        }
    }

    /// An attempt that reports its result.
    fn attempt(&self, action: &str, target: &str) -> Value {
        self.folder.invoke(
            &format!("every-category.{action}"),
            &json!({ "target": target }),
        )
    }

    /// An invocation that must fail.
    fn stopped(&self, action: &str, input: &Value) -> String {
        let ran = self.folder.run(&[
            "invoke",
            &format!("every-category.{action}"),
            &input.to_string(),
        ]);
        ran.error().to_owned()
    }

    /// Checks that the host, the other plugin and the plugin itself still work.
    fn goes_on(mut self) {
        let verdict = self
            .folder
            .invoke("strategy-lab.compile", &json!({ "source": ALGORITHM }));
        assert_eq!(verdict["success"], true, "{verdict}");
        let echo = self
            .folder
            .invoke("every-category.echo", &json!({ "value": "still here" }));
        assert_eq!(echo["value"], "still here");
        assert!(self.host.runs());
        self.host.end();
        drop(self.cloud);
    }
}

#[test]
fn files_environment_sockets_and_names_are_out_of_reach() {
    let hosted = Hosted::start();
    // Existing files that the test can read: absolute, above the working directory, in the host's own folder.
    let secret = hosted.folder.path().join("secret.txt");
    std::fs::write(&secret, "a secret of the operator").unwrap();
    for path in [
        secret.to_str().unwrap(),
        "secret.txt",
        "/etc/passwd",
        "../../../etc/passwd",
        "/proc/self/environ",
        "data/host.key",
    ] {
        let attempt = hosted.attempt("read-file", path);
        assert_eq!(attempt["succeeded"], false, "{path}: {attempt}");
        assert!(
            !attempt["detail"].as_str().unwrap().is_empty(),
            "{path}: {attempt}"
        );
    }
    let written = hosted.folder.path().join("written.txt");
    let temporary = std::env::temp_dir().join("written-by-a-plugin");
    for path in [
        written.to_str().unwrap(),
        "written.txt",
        temporary.to_str().unwrap(),
    ] {
        let attempt = hosted.attempt("write-file", path);
        assert_eq!(attempt["succeeded"], false, "{path}: {attempt}");
    }
    assert!(!written.exists() && !temporary.exists());

    for name in ["SANDBOX_WITNESS", "QUANTCONNECT_API_TOKEN", "PATH"] {
        let attempt = hosted.attempt("read-env", name);
        assert_eq!(attempt["succeeded"], false, "{name}: {attempt}");
    }

    // The emulator listens there, and gets no request.
    let address = hosted.cloud.emulator().address().to_string();
    assert!(std::net::TcpStream::connect(&address).is_ok());
    let port = hosted.cloud.emulator().address().port();
    for target in [address, format!("localhost:{port}"), "[::1]:80".to_owned()] {
        let attempt = hosted.attempt("open-socket", &target);
        assert_eq!(attempt["succeeded"], false, "{target}: {attempt}");
        assert!(
            !attempt["detail"].as_str().unwrap().is_empty(),
            "{target}: {attempt}"
        );
    }
    // A name that every machine resolves.
    for name in ["localhost", "example.com"] {
        let attempt = hosted.attempt("look-up-name", name);
        assert_eq!(attempt["succeeded"], false, "{name}: {attempt}");
    }
    hosted.goes_on();
}

#[test]
fn what_does_not_end_is_ended_with_the_limit_that_it_hit() {
    let hosted = Hosted::start();
    let error = hosted.stopped("loop-for-ever", &json!({}));
    assert!(
        error.contains("0.5 s") && error.contains("`limits.cpu`"),
        "{error}"
    );
    let error = hosted.stopped("allocate", &json!({}));
    assert!(
        error.contains(&format!("{} bytes", 64 << 20)) && error.contains("`limits.memory`"),
        "{error}"
    );
    let error = hosted.stopped("recurse", &json!({}));
    assert!(error.contains("recurses too deeply"), "{error}");
    let error = hosted.stopped("fall-over", &json!({}));
    assert!(error.contains("asked to fall over"), "{error}");
    hosted.goes_on();
}

#[test]
fn a_hundred_megabytes_of_answer_are_refused_and_what_fits_is_not() {
    let hosted = Hosted::start();
    let most = "output      = \"4MiB\"";
    let roomy = bundled(EVERY).replace("memory      = \"64MiB\"", "memory      = \"1GiB\"");
    assert!(roomy.contains(most) && roomy.contains("1GiB"));
    let folder = folder(&embedded(hosted.cloud.url()));
    folder.manifest("every-category", &roomy);
    // With enough memory, the limit on the answer's size is what stops it.
    let big = json!({ "bytes": 100 << 20 });
    let ran = folder.run(&["invoke", "every-category.output", &big.to_string()]);
    let error = ran.error();
    assert!(
        error.contains("bytes")
            && (error.contains("`limits.output`") || error.contains("at a time")),
        "{error}"
    );
    // Slightly above the limit, the error names it; slightly below, everything is returned.
    let ran = folder.run(&[
        "invoke",
        "every-category.output",
        &json!({ "bytes": 4 << 20 }).to_string(),
    ]);
    assert!(
        ran.error()
            .contains(&format!("more than the {} of `limits.output`", 4 << 20)),
        "{}",
        ran.error()
    );
    let fits = folder.invoke("every-category.output", &json!({ "bytes": 4_000_000 }));
    assert_eq!(fits["value"].as_str().unwrap().len(), 4_000_000);

    // The running host refuses it as well, and keeps running.
    let error = hosted.stopped("output", &big);
    assert!(error.contains("bytes"), "{error}");
    hosted.goes_on();
}

#[test]
fn a_plugin_beside_it_answers_while_others_loop() {
    let hosted = Hosted::start();
    // One for each processor would block everything, if they could.
    let count = std::thread::available_parallelism().map_or(2, usize::from) * 2;
    let looping: Vec<Process> = (0..count)
        .map(|_| {
            hosted
                .folder
                .start(&["invoke", "every-category.loop-for-ever"])
        })
        .collect();
    let verdict = hosted
        .folder
        .invoke("strategy-lab.compile", &json!({ "source": ALGORITHM }));
    assert_eq!(verdict["success"], true, "{verdict}");
    for process in looping {
        assert!(process.wait().error().contains("`limits.cpu`"));
    }
    hosted.goes_on();
}
