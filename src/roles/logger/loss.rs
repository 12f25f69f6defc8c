//! What of the output for one place is lost, and when that is told. Pure but for the telling: it writes nothing itself, and
//! knows no clock.
//!
//! That a place fails is told once, and when it works again, how much was lost. A disk that is full may have room for a line
//! now and then, and the log of pm3 be on the same one: so within a while after that nothing more is told, and then all in
//! one sum.

use std::time::Duration;

use log::warn;

use crate::supervisor::event::Mono;

/// How long nothing is told.
const QUIET: Duration = Duration::from_secs(10);

/// What is lost of the output for one place.
#[derive(Debug, Default)]
pub(super) struct Loss {
    /// Why the last try to write failed.
    failing: Option<Box<str>>,
    /// That has been told.
    told: bool,
    /// It works again, and how much was lost has not been told.
    due: bool,
    quiet_until: Option<Mono>,
    lines: usize,
    bytes: usize,
}

impl Loss {
    pub(super) fn is_failing(&self) -> bool {
        self.failing.is_some()
    }

    /// Why the last try to write failed.
    pub(super) fn why(&self) -> Option<&str> {
        self.failing.as_deref()
    }

    /// When there is something to tell.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.quiet_until.filter(|_| self.has_to_tell())
    }

    /// These bytes are lost.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.lines += bytes.iter().filter(|byte| **byte == b'\n').count();
        self.bytes += bytes.len();
    }

    /// Writing fails.
    pub(super) fn fails(&mut self, name: &str, why: &str, now: Mono) {
        self.told &= self.failing.is_some();
        self.failing = Some(why.into());
        self.go_on(name, now);
    }

    /// Writing works.
    pub(super) fn works(&mut self, name: &str, now: Mono) {
        if self.failing.take().is_some() {
            self.due = self.bytes > 0;
            self.go_on(name, now);
        }
    }

    /// Tells what there is to tell, if it is not too soon.
    pub(super) fn go_on(&mut self, name: &str, now: Mono) {
        if !self.has_to_tell() || self.quiet_until.is_some_and(|until| now < until) {
            return;
        }
        if let Some(why) = &self.failing {
            self.told = true;
            warn!("cannot write to {name}: {why}; output for it is dropped until that works");
        } else {
            self.quiet_until = Some(now.after(QUIET));
            self.tell_sum(name);
        }
    }

    /// Something has happened that was not told.
    fn has_to_tell(&self) -> bool {
        if self.failing.is_some() { !self.told } else { self.due }
    }

    /// Tells how much it is, and begins anew.
    pub(super) fn tell_sum(&mut self, name: &str) {
        self.due = false;
        let (lines, bytes) = (std::mem::take(&mut self.lines), std::mem::take(&mut self.bytes));
        if bytes > 0 {
            warn!("{name}: {} were dropped", counted(lines, bytes));
        }
    }

    /// Lines and bytes.
    #[cfg(test)]
    pub(super) fn sum(&self) -> (usize, usize) {
        (self.lines, self.bytes)
    }
}

/// So much output, in words.
pub(super) fn counted(lines: usize, bytes: usize) -> String {
    let lines = if lines == 1 { "1 line".to_owned() } else { format!("{lines} lines") };
    format!("{lines} of output ({bytes} bytes)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_once_and_one_that_comes_and_goes_in_one_sum() {
        let at = |seconds: u64| Mono(1).after(Duration::from_secs(seconds));
        let mut loss = Loss::default();
        assert_eq!((loss.deadline(), loss.why()), (None, None));
        loss.fails("a", "full", at(0));
        assert!(loss.told);
        loss.add(b"one\ntwo\nth");
        loss.fails("a", "full", at(1));
        assert_eq!((loss.why(), loss.sum(), loss.deadline()), (Some("full"), (2, 10), None));
        loss.works("a", at(2));
        assert_eq!((loss.why(), loss.sum(), loss.quiet_until), (None, (0, 0), Some(at(12))));
        // Again, and again, and nobody is told before it is time.
        for second in 3..10 {
            loss.fails("a", "full", at(second));
            assert!(!loss.told && loss.why() == Some("full"), "{second}");
            loss.add(b"x\n");
            loss.works("a", at(second));
        }
        assert_eq!((loss.sum(), loss.deadline()), ((7, 14), Some(at(12))));
        loss.go_on("a", at(11));
        assert_eq!(loss.sum(), (7, 14));
        loss.go_on("a", at(12));
        assert_eq!((loss.sum(), loss.deadline()), ((0, 0), None));
        // One that lasts is told, too, if later.
        loss.fails("a", "full", at(13));
        assert_eq!((loss.told, loss.deadline()), (false, Some(at(22))));
        loss.go_on("a", at(22));
        assert_eq!((loss.told, loss.deadline()), (true, None));
    }

    #[test]
    fn what_is_lost_without_a_failure_is_told_when_somebody_says_so() {
        let mut loss = Loss::default();
        loss.add(b"a\n");
        loss.works("a", Mono(1));
        loss.go_on("a", Mono(1));
        assert_eq!((loss.sum(), loss.deadline()), ((1, 2), None));
        loss.tell_sum("a");
        assert_eq!(loss.sum(), (0, 0));
    }
}
