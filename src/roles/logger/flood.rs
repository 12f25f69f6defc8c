//! How many lines an app may write in a time, and what is told of those beyond. Pure but for the telling: it knows no clock.
//!
//! Times follow each other as systemd has them: one begins with the first line after the last is over, and of all that comes
//! in it the first lines pass. That some do not is told at once, and how many from time to time, as whoever reads that may
//! read it where the flood would have gone.

use std::time::Duration;

use log::warn;

use super::loss::counted;
use crate::supervisor::event::Mono;
use crate::supervisor::spec::LogRate;

/// From one sum that is told to the next.
const QUIET: Duration = Duration::from_secs(10);

/// What one app may write.
#[derive(Debug)]
pub(super) struct Flood {
    pub(super) rate: LogRate,
    /// When the time began that it is now.
    since: Mono,
    passed: u32,
    lines: usize,
    bytes: usize,
    /// It has been told that lines are dropped: when the sum is.
    tell_at: Option<Mono>,
}

impl Flood {
    pub(super) fn new(rate: LogRate) -> Flood {
        Flood { rate, since: Mono::default(), passed: 0, lines: 0, bytes: 0, tell_at: None }
    }

    /// Whether a line of so many bytes may pass; else it is counted.
    pub(super) fn lets(&mut self, bytes: usize, now: Mono) -> bool {
        if self.passed == 0 || self.since.after(self.rate.span.span()) <= now {
            (self.since, self.passed) = (now, 0);
        }
        if self.passed < self.rate.lines {
            self.passed += 1;
            return true;
        }
        // With its end.
        (self.lines, self.bytes) = (self.lines + 1, self.bytes + bytes + 1);
        false
    }

    /// When there is something to tell.
    pub(super) fn deadline(&self) -> Option<Mono> {
        if self.lines > 0 { Some(self.tell_at.unwrap_or_default()) } else { self.tell_at }
    }

    /// Tells what there is to tell of the app of this name, if it is not too soon.
    pub(super) fn go_on(&mut self, app: &str, now: Mono) {
        match self.tell_at {
            None if self.lines > 0 => {
                warn!("{app}: more output than its log_rate, {}; what is beyond is dropped", self.rate);
                self.tell_at = Some(now.after(QUIET));
            }
            Some(at) if at <= now => {
                // Where nothing came since, the flood is over, and another one is news.
                self.tell_at = Some(now.after(QUIET)).filter(|_| self.lines > 0);
                self.tell_sum(app);
            }
            Some(_) | None => {}
        }
    }

    /// Tells how much it is, and begins anew.
    pub(super) fn tell_sum(&mut self, app: &str) {
        let (lines, bytes) = (std::mem::take(&mut self.lines), std::mem::take(&mut self.bytes));
        if lines > 0 {
            warn!("{app}: {} were dropped, beyond its log_rate of {}", counted(lines, bytes), self.rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::event::Millis;

    fn at(ms: u64) -> Mono {
        Mono(7).after(Duration::from_millis(ms))
    }

    #[test]
    fn the_first_lines_of_each_time_pass() {
        let mut flood = Flood::new(LogRate { lines: 2, span: Millis(1_000) });
        let passed =
            |flood: &mut Flood, times: &[u64]| -> Vec<bool> { times.iter().map(|ms| flood.lets(4, at(*ms))).collect() };
        assert_eq!(passed(&mut flood, &[0, 1, 2, 999]), [true, true, false, false]);
        // A time begins with its first line, not by a clock.
        assert_eq!(passed(&mut flood, &[1_000, 1_999, 1_999, 2_000]), [true, true, false, true]);
        assert_eq!(passed(&mut flood, &[9_500, 10_400, 10_499, 10_500]), [true, true, false, true]);
        assert_eq!((flood.lines, flood.bytes), (4, 20));
    }

    #[test]
    fn a_flood_is_told_at_once_and_its_sum_now_and_then() {
        let mut flood = Flood::new(LogRate { lines: 1, span: Millis(1_000) });
        assert!(flood.lets(1, at(0)) && flood.deadline().is_none());
        assert!(!flood.lets(1, at(1)));
        assert_eq!(flood.deadline(), Some(Mono::default()));
        flood.go_on("a", at(1));
        assert_eq!((flood.lines, flood.deadline()), (1, Some(at(10_001))));
        (2..1_000).for_each(|ms| assert!(!flood.lets(1, at(ms))));
        flood.go_on("a", at(10_000));
        assert_eq!(flood.lines, 999);
        flood.go_on("a", at(10_001));
        assert_eq!((flood.lines, flood.bytes, flood.deadline()), (0, 0, Some(at(20_001))));
        // Nothing came since.
        flood.go_on("a", at(20_001));
        assert_eq!(flood.deadline(), None);
    }
}
