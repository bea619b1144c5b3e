//! How much memory there is for compilers: that of the machine, or of the control group that the host runs in if that
//! allows less.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// The control groups of this process.
const GROUPS: &str = "/proc/self/cgroup";
/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// Bytes of memory that this process and its children may use.
pub(super) fn available() -> u64 {
    let machine = rustix::system::sysinfo();
    let memory: u64 = machine.totalram.saturating_mul(machine.mem_unit.into());
    // Without control groups only the machine limits it.
    let groups = fs::read_to_string(GROUPS).unwrap_or_default();
    limit(&groups, Path::new(MOUNT)).map_or(memory, |limit| memory.min(limit))
}

/// The smallest limit of the groups in the text of `/proc/self/cgroup`; `None` if none of them has one.
fn limit(groups: &str, mount: &Path) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next()?, Path::new(parts.next()?));
        if controllers.is_empty() {
            // Version 2 has one hierarchy for all controllers.
            limit_within(mount, group, "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            limit_within(&mount.join("memory"), group, "memory.limit_in_bytes")
        } else {
            None
        }
    });
    limits.min()
}

/// The smallest limit of a group and those above it, each of which holds too. In a container only the outermost may be
/// visible, as the mount itself.
fn limit_within(mount: &Path, group: &Path, file: &str) -> Option<u64> {
    let is_name = |part: &Component<'_>| matches!(part, Component::Normal(_));
    let group: PathBuf = group.components().filter(is_name).collect();
    let limits = group.ancestors().filter_map(|group| {
        let text = fs::read_to_string(mount.join(group).join(file)).ok()?;
        // No number, such as `max`, is no limit.
        text.trim().parse().ok()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(mount: &Path, path: &str, text: &str) {
        let path = mount.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_control_group_limits_the_memory_and_so_does_each_above_it() {
        let mount = tempfile::tempdir().unwrap();
        let mount = mount.path();
        let of = |groups: &str| limit(groups, mount);
        let unified = "0::/system.slice/qchost.service\n";
        assert_eq!(of(unified), None);
        write(mount, "system.slice/qchost.service/memory.max", "max\n");
        assert_eq!(of(unified), None);
        write(mount, "system.slice/qchost.service/memory.max", "2000\n");
        assert_eq!(of(unified), Some(2000));
        write(mount, "system.slice/memory.max", "1000\n");
        assert_eq!(of(unified), Some(1000));
        // Seen from a container, its own group is the mount.
        write(mount, "memory.max", "500\n");
        assert_eq!(of("0::/../../elsewhere\n"), Some(500));

        let former = "9:cpu,cpuacct:/lab\n5:memory:/lab\n1:name=systemd:/lab\n";
        assert_eq!(of(former), None);
        write(mount, "cpu/lab/memory.limit_in_bytes", "1\n");
        write(mount, "memory/lab/memory.limit_in_bytes", "700\n");
        assert_eq!(of(former), Some(700));
        assert_eq!(of(""), None);
        assert_eq!(of("no group"), None);
    }

    #[test]
    fn there_is_no_more_memory_than_the_machine_has() {
        let machine = rustix::system::sysinfo();
        let memory: u64 = machine.totalram.saturating_mul(machine.mem_unit.into());
        assert!((1..=memory).contains(&available()));
    }
}
