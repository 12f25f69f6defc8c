//! What is remembered of an instance's last runs, for people to see. Nothing is decided by it.

use serde::{Deserialize, Serialize};

use super::event::{Millis, Mono, Reason};
use super::instance::Instance;
use super::life::Life;

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// 0 for one that never had a process.
    pub pid: u32,
    pub lasted: Millis,
    pub began: Mono,
    pub reason: Reason,
}

/// So many ended runs are remembered: enough to tell a crash loop from an accident.
const PAST_MAX: usize = 10;

impl Instance {
    /// Writes the end of a run into the history.
    pub(super) fn remember(&mut self, life: &Life, reason: Reason, now: Mono) {
        let mut past = std::mem::take(&mut self.past).into_vec();
        past.drain(..past.len().saturating_sub(PAST_MAX - 1));
        past.reserve_exact(1);
        past.push(Past { pid: life.pid, lasted: Millis::between(life.since, now), began: life.since, reason });
        self.past = past.into();
    }

    /// It has ended because it was asked to, for `self.reason`.
    pub(super) fn remember_stop(&mut self, life: &Life, now: Mono) {
        if let Some(reason) = self.reason.as_deref().cloned() {
            self.remember(life, reason, now);
        }
    }
}
