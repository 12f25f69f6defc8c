//! Measuring memory: private pages of a run's whole tree, from statm. Only above the limit, and where the kernel lets
//! us read it, the proportional share decides, so that the workers of a preforking server are not charged for the
//! pages that they share. The kernel walks through all of a process's memory for that, and init waits for it: so where
//! the private number is above the limit for good, the share is looked at less often, the longer it takes.

use std::time::Duration;

use super::Engine;
use crate::supervisor::event::{Event, Mono, RunId};
use crate::sys::{clock, proc};

/// Looking at shares takes at most this part of init's time.
const PART: u32 = 50;

/// When shares may be looked at again.
#[derive(Debug, Default)]
pub(super) struct Pace {
    from: Mono,
}

impl Pace {
    fn allows(&self, now: Mono) -> bool {
        self.from <= now
    }

    fn spent(&mut self, span: Duration, now: Mono) {
        if !span.is_zero() {
            self.from = now.after(span.saturating_mul(PART));
        }
    }
}

impl Engine {
    pub(super) fn sample(&mut self, runs: &[RunId]) {
        self.look_around();
        let may_share = self.pace.allows(clock::now());
        let mut spent = Duration::ZERO;
        for run in runs {
            let limit = self.supervisor.of_run(*run).and_then(|(app, _)| app.memory_limit);
            let tree = self.tree(*run);
            let mut bytes = proc::private(&tree);
            if limit.is_some_and(|limit| bytes > limit) {
                if !may_share {
                    // What was found last time stands.
                    continue;
                }
                let begun = clock::now();
                bytes = share(&tree, bytes);
                spent += clock::now().since(begun);
            }
            self.happened(Event::Usage { run: *run, bytes });
        }
        self.pace.spent(spent, clock::now());
    }
}

/// Bytes that a run's tree holds for itself.
pub(super) fn usage(tree: &[u32], limit: Option<u64>) -> u64 {
    let private = proc::private(tree);
    if limit.is_none_or(|limit| private <= limit) { private } else { share(tree, private) }
}

fn share(tree: &[u32], private: u64) -> u64 {
    proc::proportional(tree).map_or(private, |share| share.min(private))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_done_seldom() {
        let (mut pace, second) = (Pace::default(), Duration::from_secs(1));
        let now = Mono(1);
        assert!(pace.allows(now));
        pace.spent(Duration::ZERO, now);
        assert!(pace.allows(now));
        pace.spent(Duration::from_millis(16), now);
        assert!(!pace.allows(now.after(second / 2)) && pace.allows(now.after(second)));
        pace.spent(Duration::from_millis(300), now);
        assert!(!pace.allows(now.after(14 * second)) && pace.allows(now.after(15 * second)));
    }
}
