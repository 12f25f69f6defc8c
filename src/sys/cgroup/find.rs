//! Where a controller's files are: `/proc/self/cgroup` names our group, `/proc/self/mountinfo` says where groups are
//! mounted and which part of their tree is shown there. A cgroup namespace or a container's bind mount hides what is
//! above: then the mount's top is taken for our group, which in a container it is.

use std::fs;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// The directories of our group for one controller, from our own up to the highest that we can see.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dirs {
    version: Version,
    own: Option<PathBuf>,
    mount: PathBuf,
}

impl Dirs {
    /// For a controller: `cpu` or `memory`.
    pub(super) fn read(controller: &str) -> Dirs {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        Dirs::find(controller, &text("/proc/self/cgroup"), &text("/proc/self/mountinfo"))
    }

    fn find(controller: &str, cgroup: &str, mountinfo: &str) -> Dirs {
        let mounts = || mountinfo.lines().filter_map(mount);
        // A controller that version 1 has is not in version 2's tree.
        let one = mounts().find(|mount| mount.version == Version::One && mount.has(controller)).zip(
            cgroup.lines().find_map(|line| group(line).filter(|(of, _)| of.split(',').any(|name| name == controller))),
        );
        let two = || {
            mounts()
                .find(|mount| mount.version == Version::Two)
                .zip(cgroup.lines().find_map(|line| group(line).filter(|(of, _)| of.is_empty())))
        };
        match one.or_else(two) {
            Some((mount, (_, path))) => {
                Dirs { version: mount.version, own: Some(mount.dir_of(path)), mount: PathBuf::from(&mount.point) }
            }
            None => Dirs { version: Version::Two, own: None, mount: PathBuf::new() },
        }
    }

    /// Our own directory.
    pub(super) fn own(&self) -> Option<(Version, &Path)> {
        self.own.as_deref().map(|dir| (self.version, dir))
    }

    /// Our own directory and those above it: each may limit us.
    pub(super) fn chain(&self) -> impl Iterator<Item = (Version, &Path)> {
        let dirs = self.own.as_deref().into_iter().flat_map(Path::ancestors);
        dirs.take_while(|dir| dir.starts_with(&self.mount)).map(|dir| (self.version, dir))
    }
}

/// `hierarchy:controllers:path`; version 2 has no controllers.
fn group(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(':')?;
    rest.split_once(':')
}

struct Mount {
    version: Version,
    /// The part of the tree that is mounted.
    root: String,
    point: String,
    options: String,
}

impl Mount {
    fn has(&self, controller: &str) -> bool {
        self.options.split(',').any(|option| option == controller)
    }

    /// Where the group at `path` is. One outside the mounted part is the mount's top, as far as we can see.
    fn dir_of(&self, path: &str) -> PathBuf {
        let below = Path::new(path).strip_prefix(&self.root).unwrap_or(Path::new(""));
        let leaves = below.components().any(|part| part == std::path::Component::ParentDir);
        if leaves || below.as_os_str().is_empty() {
            PathBuf::from(&self.point)
        } else {
            Path::new(&self.point).join(below)
        }
    }
}

/// A line of mountinfo: `id parent device root point options [tags…] - type source super-options`
/// (proc_pid_mountinfo(5)).
fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    let version = match after.next()? {
        "cgroup" => Version::One,
        "cgroup2" => Version::Two,
        _ => return None,
    };
    let options = after.nth(1).unwrap_or_default().into();
    let mut before = before.split(' ');
    let root = unescape(before.nth(3)?);
    let point = unescape(before.next()?);
    Some(Mount { version, root, point, options })
}

/// Blanks and backslashes are written as three octal digits.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut out = String::from(parts.next().unwrap_or_default());
    for part in parts {
        match part.split_at_checked(3).and_then(|(code, rest)| Some((u8::from_str_radix(code, 8).ok()?, rest))) {
            Some((byte, rest)) => {
                out.push(byte.into());
                out.push_str(rest);
            }
            None => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(controller: &str, cgroup: &str, mountinfo: &str, expected: &[&str]) -> Version {
        let dirs = Dirs::find(controller, cgroup, mountinfo);
        let found: Vec<_> = dirs.chain().map(|(_, dir)| dir.to_str().unwrap_or_default().to_owned()).collect();
        assert_eq!(found, expected);
        dirs.version
    }

    /// systemd on a machine with version 2 alone.
    const UNIFIED: &str = "\
24 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
31 24 0:27 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
";

    #[test]
    fn on_a_machine_every_group_above_counts() {
        let cgroup = "0::/system.slice/web.service\n";
        let chain = ["/sys/fs/cgroup/system.slice/web.service", "/sys/fs/cgroup/system.slice", "/sys/fs/cgroup"];
        assert_eq!(check("memory", cgroup, UNIFIED, &chain), Version::Two);
    }

    #[test]
    fn in_a_namespace_the_top_is_ours() {
        check("cpu", "0::/\n", UNIFIED, &["/sys/fs/cgroup"]);
        // Moved out of the namespace's root after it was made.
        check("cpu", "0::/../other\n", UNIFIED, &["/sys/fs/cgroup"]);
    }

    /// Docker with version 1, without a cgroup namespace: the container sees its own part of each tree.
    const DOCKER_1: &str = "\
750 740 0:30 /docker/4f5e /sys/fs/cgroup/systemd ro,nosuid master:11 - cgroup cgroup rw,xattr,name=systemd
751 740 0:33 /docker/4f5e /sys/fs/cgroup/cpu,cpuacct ro,nosuid,nodev,noexec master:15 - cgroup cgroup rw,cpu,cpuacct
752 740 0:36 /docker/4f5e /sys/fs/cgroup/memory ro,nosuid,nodev,noexec,relatime master:18 - cgroup cgroup rw,memory
";

    #[test]
    fn a_bind_mounted_group_is_the_mount_itself() {
        let cgroup =
            "12:memory:/docker/4f5e\n4:cpu,cpuacct:/docker/4f5e\n1:name=systemd:/docker/4f5e\n0::/docker/4f5e\n";
        assert_eq!(check("memory", cgroup, DOCKER_1, &["/sys/fs/cgroup/memory"]), Version::One);
        check("cpu", cgroup, DOCKER_1, &["/sys/fs/cgroup/cpu,cpuacct"]);
        // A group made inside, as systemd in a container does.
        let inner = "12:memory:/docker/4f5e/inner\n";
        check("memory", inner, DOCKER_1, &["/sys/fs/cgroup/memory/inner", "/sys/fs/cgroup/memory"]);
        // The path of the machine with a mount of another root.
        check("memory", "12:memory:/kubepods/pod1/c1\n", DOCKER_1, &["/sys/fs/cgroup/memory"]);
    }

    #[test]
    fn a_hybrid_machine_has_its_controllers_in_version_1() {
        let mountinfo =
            format!("{DOCKER_1}760 740 0:29 / /sys/fs/cgroup/unified rw,nosuid master:12 - cgroup2 cgroup2 rw\n");
        let cgroup = "9:memory:/docker/4f5e\n0::/x\n";
        assert_eq!(check("memory", cgroup, &mountinfo, &["/sys/fs/cgroup/memory"]), Version::One);
    }

    #[test]
    fn nothing_mounted_is_no_group() {
        check("memory", "0::/\n", "", &[]);
        check("memory", "", UNIFIED, &[]);
        check("memory", "garbage\n::\n", "more garbage\n1 2 - cgroup2\n", &[]);
    }

    #[test]
    fn a_mount_point_may_hold_a_blank() {
        let mountinfo = r"31 24 0:27 / /mnt/my\040groups\134x rw - cgroup2 cgroup2 rw";
        check("cpu", "0::/a", mountinfo, &["/mnt/my groups\\x/a", "/mnt/my groups\\x"]);
    }
}
