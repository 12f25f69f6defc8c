//! How much processor time processes have taken.

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

fn ticks_per_second() -> u64 {
    // SAFETY: sysconf takes a number.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1)
}

#[cfg(test)]
mod tests {
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
}
