//! What the container may use, as its control group says: processors, memory, and how often something in it was killed
//! for want of memory. Both versions, wherever they are mounted, with or without a cgroup namespace (cgroups(7)). The
//! parsers are pure; what cannot be read is no limit.

mod find;

use std::fs;
use std::path::{Path, PathBuf};

use crate::supervisor::event::Oom;
use find::{Dirs, Version};

/// Processors that we may keep busy: those we may run on, or the quota rounded up if that is less. At least 1, and
/// never the machine's number where we get less.
pub fn cpus() -> u32 {
    let allowed = affinity().unwrap_or(1).max(1);
    let dirs = Dirs::read("cpu");
    let quota = dirs.chain().filter_map(|(version, dir)| match version {
        Version::Two => cpu_max(&text(dir, "cpu.max")?),
        Version::One => cfs(&text(dir, "cpu.cfs_quota_us")?, &text(dir, "cpu.cfs_period_us")?),
    });
    quota.fold(allowed, u32::min).max(1)
}

/// The least memory limit of our group and those above it, in bytes. None: only the machine's size limits us.
pub fn memory_limit() -> Option<u64> {
    let dirs = Dirs::read("memory");
    let limits = dirs.chain().filter_map(|(version, dir)| match version {
        Version::Two => bytes(&text(dir, "memory.max")?),
        Version::One => bytes(&text(dir, "memory.limit_in_bytes")?),
    });
    limits.min().or_else(hidden_memory_limit)
}

/// The limit where no mount of a control group is shown, or not ours: Heroku's own scripts look here, in each dyno.
fn hidden_memory_limit() -> Option<u64> {
    let usual = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    usual.iter().find_map(|path| bytes(&fs::read_to_string(path).ok()?))
}

/// The machine's memory in bytes.
pub fn memory_of_machine() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Where OOM kills are counted. Read at start and after each SIGKILL that pm3 did not send.
#[derive(Debug, Default)]
pub struct OomWatch {
    own: Option<PathBuf>,
    before: OomKills,
}

/// OOM kills so far; None where they are not counted or cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct OomKills {
    own: Option<u64>,
    machine: Option<u64>,
}

impl OomWatch {
    pub fn new() -> OomWatch {
        let own = Dirs::read("memory").own().map(|(version, dir)| match version {
            Version::Two => dir.join("memory.events"),
            Version::One => dir.join("memory.oom_control"),
        });
        let mut watch = OomWatch { own, before: OomKills::default() };
        watch.before = watch.count();
        watch
    }

    /// Whether something was killed for want of memory since the last call. It is the run that was asked about, unless
    /// two were killed at once, and one of them by a person.
    pub fn kills(&mut self) -> Oom {
        let now = self.count();
        let oom = judge(self.before, now);
        self.before = now;
        oom
    }

    fn count(&self) -> OomKills {
        let count = |path: &Path| oom_kills(&fs::read_to_string(path).ok()?);
        let own = self.own.as_deref().and_then(count);
        // A long file, which says less.
        let machine = if own.is_none() { count(Path::new("/proc/vmstat")) } else { None };
        OomKills { own, machine }
    }
}

fn judge(before: OomKills, now: OomKills) -> Oom {
    let rose = |before: Option<u64>, now: Option<u64>| now > before && before.is_some();
    match (before.own, now.own) {
        (Some(_), Some(_)) if rose(before.own, now.own) => Oom::Yes,
        (Some(_), Some(_)) => Oom::No,
        _ if rose(before.machine, now.machine) => Oom::Probably,
        _ => Oom::No,
    }
}

fn text(dir: &Path, file: &str) -> Option<String> {
    fs::read_to_string(dir.join(file)).ok()
}

/// Version 2's `cpu.max`: `max 100000` or `quota period`; how many processors that is, rounded up.
fn cpu_max(text: &str) -> Option<u32> {
    let (quota, period) = text.trim().split_once(' ')?;
    processors(quota.parse().ok()?, period.parse().ok()?)
}

/// Version 1's `cpu.cfs_quota_us` and `cpu.cfs_period_us`; a quota of -1 is none.
fn cfs(quota: &str, period: &str) -> Option<u32> {
    processors(quota.trim().parse().ok()?, period.trim().parse().ok()?)
}

fn processors(quota: u64, period: u64) -> Option<u32> {
    if quota == 0 || period == 0 { None } else { u32::try_from(quota.div_ceil(period)).ok() }
}

/// `memory.max` or `memory.limit_in_bytes`. `max`, and what version 1 says for it (all that a signed number of pages
/// can hold), are no limit.
fn bytes(text: &str) -> Option<u64> {
    const NO_MACHINE_HAS: u64 = 1 << 60;
    text.trim().parse().ok().filter(|bytes| *bytes < NO_MACHINE_HAS)
}

/// The line `oom_kill N` of `memory.events`, `memory.oom_control` and /proc/vmstat alike.
fn oom_kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// How many processors we may run on (sched_getaffinity(2)).
fn affinity() -> Option<u32> {
    /// 65536 processors; the kernel refuses a set that is smaller than its own.
    const WORDS: usize = 1024;
    let mut set = vec![0u64; WORDS];
    let size = size_of_val(set.as_slice());
    // SAFETY: the kernel writes at most `size` bytes to the set, and says how many.
    let written = unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size, set.as_mut_ptr()) };
    let words = usize::try_from(written).ok()? / size_of::<u64>();
    Some(set.get(..words)?.iter().map(|word| word.count_ones()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_rounded_up() {
        for (text, cpus) in [
            ("max 100000\n", None),
            ("100000 100000\n", Some(1)),
            ("150000 100000\n", Some(2)),
            ("50000 100000\n", Some(1)),
            ("1000 100000", Some(1)),
            ("400001 100000", Some(5)),
            ("100000 0", None),
            ("100000", None),
            ("", None),
        ] {
            assert_eq!(cpu_max(text), cpus, "{text:?}");
        }
        for (quota, period, cpus) in
            [("-1\n", "100000\n", None), ("250000\n", "100000\n", Some(3)), ("0", "100000", None), ("1000", "", None)]
        {
            assert_eq!(cfs(quota, period), cpus, "{quota:?} {period:?}");
        }
    }

    #[test]
    fn no_limit_is_told_from_a_limit() {
        for (text, limit) in [
            ("max\n", None),
            ("536870912\n", Some(536_870_912)),
            ("9223372036854771712\n", None),
            ("18446744073709551615", None),
            ("", None),
            ("0\n", Some(0)),
        ] {
            assert_eq!(bytes(text), limit, "{text:?}");
        }
    }

    #[test]
    fn oom_kills_are_counted_in_three_files() {
        let events = "low 0\nhigh 12\nmax 31\noom 3\noom_kill 2\noom_group_kill 1\n";
        let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n";
        let vmstat = "nr_free_pages 77\npgmajfault 3\noom_kill 9\nnuma_pte_updates 0\n";
        let old = "oom_kill_disable 0\nunder_oom 0\n";
        for (text, count) in [(events, Some(2)), (control, Some(1)), (vmstat, Some(9)), (old, None), ("", None)] {
            assert_eq!(oom_kills(text), count, "{text:?}");
        }
    }

    #[test]
    fn the_own_count_is_believed_before_the_machines() {
        let kills = |own, machine| OomKills { own, machine };
        for (before, now, oom) in [
            (kills(Some(1), Some(5)), kills(Some(2), Some(6)), Oom::Yes),
            (kills(Some(1), Some(5)), kills(Some(1), Some(6)), Oom::No),
            (kills(Some(1), Some(5)), kills(Some(1), Some(5)), Oom::No),
            (kills(None, Some(5)), kills(None, Some(6)), Oom::Probably),
            (kills(None, Some(5)), kills(None, Some(5)), Oom::No),
            (kills(None, None), kills(None, Some(5)), Oom::No),
            (kills(Some(1), Some(5)), kills(None, Some(6)), Oom::Probably),
        ] {
            assert_eq!(judge(before, now), oom, "{before:?} {now:?}");
        }
    }

    #[test]
    fn this_machine_has_a_processor_and_memory() {
        assert!(cpus() >= 1);
        assert!(cpus() <= affinity().unwrap_or(0));
        assert!(memory_of_machine() > Some(1 << 20));
    }
}
