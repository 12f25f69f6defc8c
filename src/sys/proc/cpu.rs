//! How much processor time processes have taken, and whether they want more.

use super::{file, stat};

/// What these processes and those of their children that they have waited for have taken, in milliseconds. A process
/// that is gone has taken none.
pub fn cpu_ms(pids: &[u32]) -> u64 {
    let ticks = pids.iter().filter_map(|pid| {
        let mut text = [0; 1024];
        stat::ticks(file::read(format_args!("/proc/{pid}/stat"), &mut text).ok()?)
    });
    ticks.fold(0, u64::saturating_add).saturating_mul(1_000) / ticks_per_second()
}

/// More threads than are looked at.
const THREADS_MAX: usize = 4096;

/// Whether a thread of these processes does not sleep. Where there are too many to look at, or they cannot be seen, not.
pub fn are_at_work(pids: &[u32]) -> bool {
    let (mut at_work, mut left) = (false, THREADS_MAX);
    for pid in pids {
        file::each_entry(format_args!("/proc/{pid}/task"), &mut |thread| {
            if at_work || left == 0 {
                return;
            }
            left -= 1;
            let mut text = [0; 256];
            let stat = file::read(format_args!("/proc/{pid}/task/{thread}/stat"), &mut text);
            at_work = stat.is_ok_and(stat::is_at_work);
        });
    }
    at_work
}

fn ticks_per_second() -> u64 {
    // SAFETY: sysconf takes a number.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn work_takes_time() {
        let ours = [std::process::id()];
        let before = cpu_ms(&ours);
        while cpu_ms(&ours) < before + 20 {
            std::hint::black_box((0..100_000).sum::<u64>());
        }
        assert_eq!(cpu_ms(&[]), 0);
    }

    #[test]
    fn each_thread_counts() {
        let mut child =
            Command::new("/bin/sh").args(["-c", "read line; exec sleep 1000"]).stdin(Stdio::piped()).spawn().unwrap();
        let other = [child.id()];
        while are_at_work(&other) {
            std::thread::yield_now();
        }
        assert!(are_at_work(&[child.id(), std::process::id()]), "whoever asks does not sleep");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!are_at_work(&other), "it is gone");
    }
}
