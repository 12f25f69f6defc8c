//! The end of `pm3 run`: the command has ended, and what it left behind, in whatever session, gets SIGTERM, a bounded
//! grace, and SIGKILL. Otherwise such a process would lose its last words to the end of the namespace, or, where pm3 is
//! not PID 1, live on without anybody who knows of it.

use std::time::{Duration, Instant};

use super::{Run, STOPS, complain};
use crate::supervisor::event::Sig;
use crate::sys::kill;
use crate::sys::proc::{self, Processes};
use crate::sys::reap::Children;

/// How often what is left is killed. A process may be made while pm3 looks for others; and one in an uninterruptible
/// system call, say on a dead file server, ends when it can: pm3 does not wait for that.
const KILLS: u32 = 10;

/// Time for the killed to be reaped before the next look. With [`KILLS`], a second at most.
const BETWEEN_KILLS: Duration = Duration::from_millis(100);

/// More names than this make no warning clearer.
const NAMES_MAX: usize = 10;

impl Run<'_> {
    /// Ends what the command left behind; returns when nothing of it is left, or nothing more can be done.
    pub(super) fn end_leftovers(&mut self) {
        if self.children == Children::None {
            return;
        }
        if self.flags.warn {
            complain(&format!("left behind, sending SIGTERM: {}", names()));
        }
        // A stopped process does not hear that it shall end.
        self.sweep(&[Sig::TERM, Sig::CONT]);
        if self.childless_by(Instant::now() + self.flags.grace.span(), true) {
            return;
        }
        if self.flags.warn {
            complain(&format!("still there, sending SIGKILL: {}", names()));
        }
        for _ in 0..KILLS {
            self.sweep(&[Sig::KILL]);
            if self.childless_by(Instant::now() + BETWEEN_KILLS, false) {
                return;
            }
        }
        complain(&format!("cannot be killed, left alone: {}", names()));
    }

    /// Signals all that is left. PID 1 reaches the whole namespace in one call, which no fork escapes.
    fn sweep(&self, sigs: &[Sig]) {
        let left = if self.is_init { Vec::new() } else { left() };
        for sig in sigs {
            if self.is_init {
                kill::everyone(*sig);
            } else if left.is_empty() {
                // Without /proc: those that stayed in the command's own group can be reached.
                kill::group(self.main, *sig);
            }
            for pid in &left {
                kill::process(*pid, *sig);
            }
        }
    }

    /// Reaps until no child is left (true), the moment has come or, in the grace, somebody asks for haste: a second
    /// request to stop, where the first may have been what ended the command.
    fn childless_by(&mut self, moment: Instant, in_grace: bool) -> bool {
        loop {
            self.reap();
            if self.children == Children::None {
                return true;
            }
            let left = moment.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let is_stop = self.next(Some(left)).is_some_and(|sig| STOPS.contains(&sig));
            if in_grace && is_stop && self.asked > 1 {
                return false;
            }
        }
    }
}

fn left() -> Vec<u32> {
    let mut left = Vec::new();
    Processes::new().everything(&mut left);
    left
}

/// `17 sh, 21 sleep and 3 more`.
fn names() -> String {
    let left = left();
    if left.is_empty() {
        return "processes that /proc does not show".to_owned();
    }
    let named = left.iter().take(NAMES_MAX).map(|pid| format!("{pid} {}", proc::name(*pid).unwrap_or_default()));
    let more = left.len().saturating_sub(NAMES_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    named.collect::<Vec<_>>().join(", ") + &more
}
