//! How much memory processes hold for themselves: the number that limits are compared with.

use nix::errno::Errno;

use super::{environ, file};

/// Memory of these processes that is not shared with a file: resident less shared pages of `statm`, summed, in bytes.
/// Pages that a preforking server shares with its workers count for each of them. A process that is gone holds none.
pub fn private(pids: &[u32]) -> u64 {
    let pages = pids.iter().filter_map(|pid| {
        let mut text = [0; 128];
        statm(file::read(format_args!("/proc/{pid}/statm"), &mut text).ok()?)
    });
    pages.fold(0, u64::saturating_add).saturating_mul(page_size())
}

/// The same memory, with shared pages counted in shares (`smaps_rollup`), in bytes. It costs a hundred times as much, so
/// it is for the moment when `private` is over a limit. None: one of them may not be read, and the sum would be short.
pub fn proportional(pids: &[u32]) -> Option<u64> {
    pids.iter().map(|pid| share(*pid)).sum()
}

fn share(pid: u32) -> Option<u64> {
    let mut text = [0; 2048];
    let opened = environ::open_as_owner(pid, "smaps_rollup");
    match opened.and_then(|rollup| file::fill(&rollup, &mut text)) {
        Ok(text) => rollup(text),
        // Gone, or a zombie.
        Err(Errno::ENOENT | Errno::ESRCH) => Some(0),
        Err(_) => None,
    }
}

/// `size resident shared …` in pages (proc_pid_statm(5)).
fn statm(text: &[u8]) -> Option<u64> {
    let mut fields = str::from_utf8(text).ok()?.split_ascii_whitespace().skip(1);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()?.saturating_sub(next()?))
}

/// `Pss_Anon` is the share of what statm's difference counts. Before Linux 5.4 there is only `Pss`, which has shares
/// of files in it.
fn rollup(text: &[u8]) -> Option<u64> {
    let text = str::from_utf8(text).ok()?;
    let line = |name| text.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line("Pss_Anon:").or_else(|| line("Pss:"))?.trim().strip_suffix(" kB")?;
    kilobytes.parse::<u64>().ok()?.checked_mul(1024)
}

fn page_size() -> u64 {
    // SAFETY: sysconf takes a number.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statm_counts_what_is_not_shared() {
        assert_eq!(statm(b"2120 520 456 5 0 110 0\n"), Some(64));
        assert_eq!(statm(b"0 0 0 0 0 0 0\n"), Some(0));
        assert_eq!(statm(b"1 1 2 0"), Some(0));
        for text in [&b""[..], b"1", b"1 2", b"1 x 3"] {
            assert_eq!(statm(text), None);
        }
    }

    #[test]
    fn rollup_prefers_the_anonymous_share() {
        let old = "00400000-7ffe [rollup]\nRss:     10 kB\nPss:             7 kB\nShared_Clean:  1 kB\n";
        assert_eq!(rollup(old.as_bytes()), Some(7 * 1024));
        let new = format!("{old}Pss_Dirty:  3 kB\nPss_Anon:     2 kB\nPss_File:  5 kB\n");
        assert_eq!(rollup(new.as_bytes()), Some(2 * 1024));
        assert_eq!(rollup(b"Rss: 10 kB\n"), None);
        assert_eq!(rollup(b""), None);
    }
}
