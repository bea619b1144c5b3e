//! The unit that runs the host as a service of systemd.
//!
//! Invariant: a unit has only directives that its version of systemd knows, and a program that the service can reach.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// The unit for versions before [`RELOAD_VERSION`]; later ones accept it too.
const UNIT: &str = include_str!("../templates/qchost.service");
/// How a unit says that the host reloads, before that version.
const RELOAD_BY_SIGNAL: &str = "Type=notify\nExecReload=/bin/kill -HUP $MAINPID\n";
/// How it says so since: `systemctl reload` then waits until the changes are in effect.
const RELOAD_BY_NOTIFICATION: &str = "Type=notify-reload\n";
/// First version of systemd with `Type=notify-reload`.
const RELOAD_VERSION: u32 = 253;
/// Oldest version that knows every directive of the unit.
const OLDEST_VERSION: u32 = 247;
/// Where `make install` puts the program.
const INSTALLED: &str = "/usr/local/bin/qchost";

/// The unit for a version of systemd. It runs `program` if that is where services can reach it, and otherwise the one that
/// `make install` installs.
pub fn unit(version: u32, program: &Path) -> Result<String> {
    ensure!(
        version >= OLDEST_VERSION,
        "systemd {version} does not know all that the unit needs; {OLDEST_VERSION} and later do"
    );
    let unit = match installed(program) {
        Some(program) => UNIT.replace(INSTALLED, program),
        None => UNIT.to_owned(),
    };
    Ok(if version < RELOAD_VERSION {
        unit
    } else {
        unit.replace(RELOAD_BY_SIGNAL, RELOAD_BY_NOTIFICATION)
    })
}

/// The path, if it is below a folder for installed programs and needs no quotes in a unit.
fn installed(program: &Path) -> Option<&str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._+-".contains(&byte);
    let path = program.to_str().filter(|path| path.bytes().all(plain))?;
    (program.starts_with("/usr") || program.starts_with("/opt")).then_some(path)
}

/// The version of this machine's systemd.
pub fn version() -> Result<u32> {
    const OTHERWISE: &str =
        "name the version that the unit is for: qchost init --systemd --systemd-version 252";
    let ran = Command::new("systemctl")
        .arg("--version")
        .output()
        .with_context(|| format!("systemctl cannot be run; {OTHERWISE}"))?;
    parse_version(&String::from_utf8_lossy(&ran.stdout))
        .with_context(|| format!("systemctl does not say its version; {OTHERWISE}"))
}

/// The version in `systemd 252 (252.38-1)`.
fn parse_version(text: &str) -> Option<u32> {
    let rest = text.strip_prefix("systemd ")?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The version of systemd that brought each directive of the unit; 200 stands for all before it.
    const SINCE: [(&str, u32); 50] = [
        ("After", 200),
        ("AmbientCapabilities", 229),
        ("CacheDirectory", 235),
        ("CacheDirectoryMode", 235),
        ("CapabilityBoundingSet", 200),
        ("ConfigurationDirectory", 235),
        ("Description", 200),
        ("DevicePolicy", 208),
        ("ExecReload", 200),
        ("ExecStart", 200),
        ("KeyringMode", 235),
        ("LimitCORE", 200),
        ("LimitNOFILE", 200),
        ("LockPersonality", 235),
        ("NoNewPrivileges", 200),
        ("PrivateDevices", 209),
        ("PrivateTmp", 200),
        ("ProcSubset", 247),
        ("ProtectClock", 245),
        ("ProtectControlGroups", 232),
        ("ProtectHome", 214),
        ("ProtectHostname", 242),
        ("ProtectKernelLogs", 244),
        ("ProtectKernelModules", 232),
        ("ProtectKernelTunables", 232),
        ("ProtectProc", 247),
        ("ProtectSystem", 214),
        ("RemoveIPC", 232),
        ("Restart", 200),
        ("RestartPreventExitStatus", 200),
        ("RestartSec", 200),
        ("RestrictAddressFamilies", 211),
        ("RestrictNamespaces", 233),
        ("RestrictRealtime", 231),
        ("RestrictSUIDSGID", 242),
        ("RuntimeDirectory", 235),
        ("RuntimeDirectoryMode", 235),
        ("StartLimitBurst", 230),
        ("StartLimitIntervalSec", 230),
        ("StateDirectory", 235),
        ("StateDirectoryMode", 235),
        ("SystemCallArchitectures", 209),
        ("SystemCallErrorNumber", 209),
        ("SystemCallFilter", 200),
        ("Type", 200),
        ("UMask", 200),
        ("User", 200),
        ("WantedBy", 200),
        ("Wants", 200),
        ("WatchdogSec", 200),
    ];

    fn lines(unit: &str) -> impl Iterator<Item = (&str, &str)> {
        let lines = unit.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.split_once('='))
    }

    #[test]
    fn a_unit_has_only_what_its_version_knows() {
        // Those of Debian 11, 12 and 13, and the first with the other type.
        for version in [247, 252, 253, 257] {
            let unit = unit(version, Path::new(INSTALLED)).unwrap();
            for (directive, value) in lines(&unit) {
                let known = SINCE.iter().find(|(name, _)| *name == directive);
                assert!(
                    known.is_some_and(|(_, since)| *since <= version),
                    "{version}: {directive}"
                );
                if value == "notify-reload" {
                    assert!(version >= 253, "{version}");
                }
            }
            let signalled = lines(&unit).any(|(directive, _)| directive == "ExecReload");
            assert_eq!(signalled, version < 253, "{version}");
            let notified = unit.contains("\nType=notify-reload\n");
            assert_eq!(notified, version >= 253, "{version}");
        }
        assert!(unit(246, Path::new(INSTALLED)).is_err());
    }

    #[test]
    fn a_unit_runs_what_a_service_can_reach() {
        for (program, runs) in [
            ("/usr/bin/qchost", "/usr/bin/qchost"),
            ("/opt/qchost/bin/qchost", "/opt/qchost/bin/qchost"),
            ("/home/ann/target/debug/qchost", INSTALLED),
            ("/opt/q c%h/qchost", INSTALLED),
        ] {
            let unit = unit(252, Path::new(program)).unwrap();
            let line = format!("\nExecStart={runs} run --config /etc/qchost/qchost.toml\n");
            assert!(unit.contains(&line), "{unit}");
        }
    }

    #[test]
    fn the_version_is_what_systemctl_says_first() {
        assert_eq!(
            parse_version("systemd 252 (252.38-1~deb12u1)\n+PAM +AUDIT\n"),
            Some(252)
        );
        assert_eq!(parse_version("systemd 257 (257.7-1)\n"), Some(257));
        assert_eq!(parse_version("offline"), None);
    }
}
