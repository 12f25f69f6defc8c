//! `/proc/PID/stat`: a process's parent, and whether it is one of the kernel's own (proc_pid_stat(5)).

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) parent: u32,
    /// A thread of the kernel, which no signal ends.
    pub(super) is_kernels: bool,
    /// It is about to end, or has: it has no memory any more, and may still have children.
    pub(super) is_leaving: bool,
    /// It has ended, or its first thread has.
    pub(super) is_zombie: bool,
}

/// The fields after the second, the program's name. That may hold anything, closing brackets too: the others begin at
/// the last one.
fn fields(text: &[u8]) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    let end = text.iter().rposition(|byte| *byte == b')')?;
    Some(str::from_utf8(text.get(end + 1..)?).ok()?.split_ascii_whitespace())
}

/// Processor time in ticks: its own and that of children it has waited for, in user mode and in the kernel.
pub(super) fn ticks(text: &[u8]) -> Option<u64> {
    // state … flags, then four counts of page faults
    let mut times = fields(text)?.skip(11).map(|time| time.parse::<u64>().ok());
    (0..4).try_fold(0u64, |sum, _| Some(sum.saturating_add(times.next()??)))
}

/// It runs, or is about to, or waits for a disk: it does not sleep until something comes, and is not stopped. It has not
/// ended either.
pub(super) fn is_at_work(text: &[u8]) -> bool {
    matches!(fields(text).and_then(|mut fields| fields.next()), Some("R" | "D"))
}

/// Reads the text.
pub(super) fn parse(text: &[u8]) -> Option<Stat> {
    /// From the kernel's sched.h.
    const PF_KTHREAD: u64 = 0x0020_0000;
    const PF_EXITING: u64 = 0x4;
    let mut fields = fields(text)?;
    // state, parent, group, session, terminal, its foreground group, flags
    let is_zombie = fields.next()? == "Z";
    let parent = fields.next()?.parse().ok()?;
    let flags: u64 = fields.nth(4)?.parse().ok()?;
    Some(Stat { parent, is_kernels: flags & PF_KTHREAD != 0, is_leaving: flags & PF_EXITING != 0, is_zombie })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(u32, bool)>) {
        let is_zombie = text.contains(") Z ");
        let is_leaving = is_zombie || text.contains(") X ");
        let expected = expected.map(|(parent, is_kernels)| Stat { parent, is_kernels, is_leaving, is_zombie });
        assert_eq!(parse(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn the_fields_are_found_after_any_name() {
        check("17 (sh) S 1 17 17 0 -1 4194560 1208 0", Some((1, false)));
        check("17 (a) S 9 ) (b\n)) R 4 17 17 34816 17 4194304 1", Some((4, false)));
        check("2 (kthreadd) S 0 0 0 0 -1 2129984 0", Some((0, true)));
        check("18 (sh) Z 17 17 17 0 -1 4227084 0 0", Some((17, false)));
        check("19 (sh) X 17 17 17 0 -1 4227084 0 0", Some((17, false)));
        check("9 (kworker/0:1) I 2 0 0 0 -1 69238880 0", Some((2, true)));
    }

    #[test]
    fn times_are_summed() {
        let text = "17 (a b) c) S 1 17 17 0 -1 4194560 1208 5 6 7 100 20 3 4 20 0";
        assert_eq!(ticks(text.as_bytes()), Some(127));
        assert_eq!(ticks(b"17 (sh) S 1 17 17 0 -1 4194560 1208 5 6 7 100 20 3"), None);
        assert_eq!(ticks(b"17 (sh) S 1 17 17 0 -1 4194560 1208 5 6 7 100 x 3 4"), None);
    }

    #[test]
    fn who_does_not_sleep_is_at_work() {
        for (state, expected) in [
            ("R", true),
            ("D", true),
            ("S", false),
            ("T", false),
            ("t", false),
            ("Z", false),
            ("X", false),
            ("", false),
        ] {
            assert_eq!(is_at_work(format!("17 (a) R b) {state}").as_bytes()), expected, "{state}");
        }
    }

    #[test]
    fn what_is_cut_off_is_nothing() {
        for text in ["", "17 (sh", "17 (sh)", "17 (sh) S", "17 (sh) S x 1 1 0 -1 1", "17 (sh) S 1 17 17 0 -1"] {
            check(text, None);
        }
    }
}
