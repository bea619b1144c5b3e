//! The host as a service of systemd: its unit, its watchdog and its credentials.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output};

use qchost_testing::has_program;
use rustix::process::Signal;

use crate::cloud::Cloud;
use crate::common::{BINARY, Folder, TOKEN, USER};
use crate::process::{BOUND, Process, signal, wait_until};

/// The highest exposure that `systemd-analyze security` may find, in tenths.
const MAX_EXPOSURE: &str = "25";

/// What `systemd-analyze` says.
fn analyze(folder: &Folder, arguments: &[&str]) -> Output {
    Command::new("systemd-analyze")
        .args(arguments)
        .current_dir(folder.path())
        .output()
        .unwrap()
}

/// Writes a unit for a version of systemd, or for the one of this machine, and lets it run this binary.
fn unit(folder: &Folder, version: Option<&str>) -> String {
    let mut arguments = vec!["--json", "init", "--systemd", "service"];
    if let Some(version) = version {
        arguments.extend(["--systemd-version", version]);
    }
    let written = folder.run(&arguments).json();
    assert_eq!(written["written"].as_array().unwrap().len(), 3, "{written}");
    let path = folder.path().join("service/qchost.service");
    let unit = std::fs::read_to_string(&path).unwrap();
    let (before, command) = unit.split_once("\nExecStart=").unwrap();
    let (_, after) = command.split_once(' ').unwrap();
    std::fs::write(&path, format!("{before}\nExecStart={BINARY} {after}")).unwrap();
    unit
}

#[test]
fn the_unit_for_this_machine_is_verified_and_little_exposed_where_systemd_is() {
    if !has_program("systemd-analyze") {
        return;
    }
    let folder = Folder::new("");
    unit(&folder, None);
    let verified = analyze(&folder, &["verify", "./service/qchost.service"]);
    let said = String::from_utf8_lossy(&verified.stderr);
    // What systemd does not know it says, and ignores.
    assert!(verified.status.success(), "{said}");
    assert!(!said.contains("qchost"), "{said}");

    let threshold = format!("--threshold={MAX_EXPOSURE}");
    let secured = analyze(
        &folder,
        &[
            "security",
            "--offline=true",
            "--no-pager",
            &threshold,
            "./service/qchost.service",
        ],
    );
    assert!(
        secured.status.success(),
        "{}",
        String::from_utf8_lossy(&secured.stdout)
    );
}

#[test]
fn a_unit_is_for_the_version_that_is_named_and_leaves_what_is_there() {
    for (version, reloads) in [
        ("252", "\nType=notify\nExecReload=/bin/kill -HUP $MAINPID\n"),
        ("257", "\nType=notify-reload\n"),
    ] {
        let folder = Folder::new("");
        let unit = unit(&folder, Some(version));
        assert!(unit.contains(reloads), "{unit}");
    }

    let folder = Folder::embedded("emulator");
    let here = folder.path().to_str().unwrap();
    let config = folder.path().join("qchost.toml");
    let before = std::fs::read_to_string(&config).unwrap();
    let init = ["init", "--systemd", "--systemd-version", "252", here];
    let ran = folder.run(&init);
    let said = &ran.good().stdout;
    let wrote = format!("wrote {here}/qchost.service\n");
    assert!(said.starts_with(&wrote), "{said}");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), before);
    let again = folder.run(&init);
    assert!(again.error().contains("exists already"), "{again:?}");
    let old = folder.run(&["init", "--systemd", "--systemd-version", "240", "old"]);
    assert!(old.error().contains("247 and later"), "{old:?}");
}

/// The next notification of the service.
fn told(manager: &UnixDatagram) -> std::io::Result<String> {
    let mut bytes = [0; 1024];
    let length = manager.recv(&mut bytes)?;
    Ok(String::from_utf8(bytes[..length].to_vec()).unwrap())
}

#[test]
fn the_watchdog_is_fed_while_the_host_works_and_not_while_it_is_stopped() {
    let folder = Folder::embedded("emulator");
    let path = folder.path().join("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(BOUND)).unwrap();
    let fed = || while told(&manager).unwrap().trim() != "WATCHDOG=1" {};
    let mut command = folder.command(&["run"]);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "300000");
    let mut host = Process::start(command, folder.path());
    for _ in 0..5 {
        fed();
    }
    host.until("the host is ready", |host| {
        host.stdout().contains("ready").then_some(())
    });

    signal(host.id(), Signal::STOP);
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", host.id())).unwrap();
    wait_until("it is stopped", || state().contains(") T ").then_some(()));
    manager.set_nonblocking(true).unwrap();
    while told(&manager).is_ok() {}
    // What is not there for several intervals does not come.
    manager.set_nonblocking(false).unwrap();
    manager
        .set_read_timeout(Some(std::time::Duration::from_millis(900)))
        .unwrap();
    assert!(told(&manager).is_err());

    signal(host.id(), Signal::CONT);
    manager.set_read_timeout(Some(BOUND)).unwrap();
    fed();
    host.end();
}

/// Where systemd gives a credential to a user other than root, it does so by an access list, which shows as the mode 0440.
#[test]
fn an_account_reads_its_credentials_from_the_folder_of_the_service() {
    let cloud = Cloud::start();
    let folder = Folder::new(&format!(
        "[account.research]\nconnection = \"embedded\"\ncloud = \"{}\"\n\
         credentials-file = \"$CREDENTIALS_DIRECTORY/quantconnect\"\n",
        cloud.url()
    ));
    let credentials = folder.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    let file = credentials.join("quantconnect");
    let content = format!("{{\"user-id\": \"{USER}\", \"api-token\": \"{TOKEN}\"}}");
    std::fs::write(&file, content).unwrap();
    let call = |mode: u32, directory: bool| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let mut command = folder.command(&["call", "read_account"]);
        command
            .env_remove("QUANTCONNECT_USER_ID")
            .env_remove("QUANTCONNECT_API_TOKEN");
        if directory {
            command.env("CREDENTIALS_DIRECTORY", &credentials);
        }
        Process::start(command, folder.path()).wait()
    };
    for mode in [0o400, 0o440] {
        call(mode, true).good();
    }
    for mode in [0o444, 0o460] {
        let ran = call(mode, true);
        assert!(!ran.status.success(), "{ran:?}");
        assert!(ran.stderr.contains("can be read by other users"), "{ran:?}");
    }
    let ran = call(0o400, false);
    assert!(!ran.status.success(), "{ran:?}");
    assert!(ran.stderr.contains("$CREDENTIALS_DIRECTORY"), "{ran:?}");
}
