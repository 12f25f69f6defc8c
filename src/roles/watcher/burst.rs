//! Many changes, one restart: saving a file makes several events, checking out a branch makes thousands. Pure: time comes
//! in with each change.

use std::time::Duration;

use crate::supervisor::event::Mono;

/// A stream of changes without a pause is acted on after this long, or after ten pauses where those are longer.
const LONGEST: Duration = Duration::from_secs(5);

/// How much a change says about what somebody did. The one that says most is the reason that is shown: an editor may
/// make and remove three other files to save one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    Removed,
    Written,
}

/// The changes to one app that were not acted on yet.
#[derive(Debug)]
pub(super) struct Burst {
    /// A burst is over when nothing has changed for this long.
    quiet: Duration,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    first: Mono,
    last: Mono,
    weight: Weight,
    path: String,
}

/// A burst that is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Over {
    /// What is shown as the reason.
    pub(super) path: String,
    /// The last change: a run that began later has seen them all.
    pub(super) at: Mono,
}

impl Burst {
    pub(super) fn new(quiet: Duration) -> Burst {
        Burst { quiet, open: None }
    }

    /// Takes over what is open in a burst of an older setting.
    pub(super) fn take_over(&mut self, older: Burst) {
        self.open = older.open;
    }

    pub(super) fn add(&mut self, now: Mono, weight: Weight, path: impl FnOnce() -> String) {
        match &mut self.open {
            Some(open) => {
                open.last = now;
                // The newest of the same weight: temporary files come first.
                if weight >= open.weight {
                    (open.weight, open.path) = (weight, path());
                }
            }
            None => self.open = Some(Open { first: now, last: now, weight, path: path() }),
        }
    }

    /// When it will be over if nothing more comes.
    pub(super) fn due(&self) -> Option<Mono> {
        let open = self.open.as_ref()?;
        let longest = LONGEST.max(self.quiet.saturating_mul(10));
        Some(open.last.after(self.quiet).min(open.first.after(longest)))
    }

    /// What came of it, once it is over.
    pub(super) fn take(&mut self, now: Mono) -> Option<Over> {
        self.due().filter(|due| *due <= now)?;
        self.open.take().map(|open| Over { path: open.path, at: open.last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes (`ms path`, `-` before the path of what was removed), and what is acted on (`ms path`).
    fn check(quiet_ms: u64, changes: &str, expected: &str) {
        let mut burst = Burst::new(Duration::from_millis(quiet_ms));
        let at = |ms: u64| Mono(0).after(Duration::from_millis(ms));
        let mut acted = Vec::new();
        let mut act = |burst: &mut Burst, until: u64| {
            while let Some(due) = burst.due().filter(|due| *due <= at(until)) {
                if let Some(over) = burst.take(due) {
                    assert!(over.at <= due);
                    acted.push(format!("{} {}", due.0 / 1_000_000, over.path));
                }
            }
        };
        for change in changes.split(", ") {
            let (ms, path) = change.split_once(' ').unwrap_or_default();
            let ms = ms.parse().unwrap_or_default();
            act(&mut burst, ms);
            let (weight, path) = path.strip_prefix('-').map_or((Weight::Written, path), |path| (Weight::Removed, path));
            burst.add(at(ms), weight, || path.to_owned());
        }
        act(&mut burst, u64::MAX / 1_000_000);
        assert_eq!(acted.join(", "), expected, "{changes}");
        assert_eq!(burst.due(), None);
    }

    #[test]
    fn a_burst_is_over_after_a_quiet_time() {
        check(100, "0 a", "100 a");
        check(100, "0 a, 50 b, 99 c", "199 c");
        check(100, "0 a, 100 b", "100 a, 200 b");
        check(0, "7 a, 7 b, 8 c", "7 a, 7 b, 8 c");
    }

    #[test]
    fn an_endless_burst_is_cut() {
        let stream: Vec<String> = (0..70).map(|nth| format!("{} f{nth}", nth * 90)).collect();
        check(100, &stream.join(", "), "5000 f55, 6310 f69");
        // A longer pause makes a longer burst.
        let stream: Vec<String> = (0..12).map(|nth| format!("{} f{nth}", nth * 900)).collect();
        check(1_000, &stream.join(", "), "10000 f11");
    }

    #[test]
    fn the_reason_is_the_file_that_somebody_saved() {
        // vim: a probe, the old one aside, the new one, the old one gone.
        check(100, "0 4913, 1 -4913, 2 -index.js, 3 index.js, 4 -index.js~", "104 index.js");
        check(100, "0 -a, 1 -b", "101 b");
        check(100, "0 a, 1 -b", "101 a");
    }

    #[test]
    fn what_was_open_outlives_a_new_setting() {
        let mut old = Burst::new(Duration::from_millis(100));
        old.add(Mono(0), Weight::Written, || "a".to_owned());
        let mut new = Burst::new(Duration::from_millis(300));
        new.take_over(old);
        assert_eq!(new.due(), Some(Mono(300_000_000)));
    }
}
