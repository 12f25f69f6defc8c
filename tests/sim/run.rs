//! What the simulation believes about a run: how far it has come, whom it serves, and what it was asked to do.

use pm3::supervisor::event::{End, Mono, RunId};

use crate::health::Care;

/// A run from its `Spawn` until its last process is gone.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) pid: u32,
    pub(crate) spawned_at: Mono,
    /// When its program began to execute.
    pub(crate) began: Option<Mono>,
    /// Until when it has to say that it is ready; None: that is not waited for, or no more.
    pub(crate) ready_due: Option<Mono>,
    pub(crate) online_since: Option<Mono>,
    /// pm3 has asked it to end.
    pub(crate) asked: bool,
    /// When its grace ends.
    pub(crate) kill_due: Option<Mono>,
    pub(crate) killed: bool,
    /// That was more than the signal that it is asked with, and is told in its history.
    pub(crate) resisted: bool,
    /// The main process has been reaped, others are left.
    pub(crate) leftovers: Option<Leftovers>,
    /// It has to live until then beside the one that it follows.
    pub(crate) trial_until: Option<Mono>,
    /// Its successor is in its place: it has to go.
    pub(crate) replaced: bool,
    /// It can be reached where clients look for it.
    pub(crate) listens: bool,
    /// It gets no new clients, and is signalled when it has none any more or then.
    pub(crate) drain_until: Option<Mono>,
    /// It has none any more.
    pub(crate) drained: bool,
    /// It was not ready in time beside the one that it follows: it has to go.
    pub(crate) late: bool,
    pub(crate) care: Care,
}

#[derive(Clone, Debug)]
pub(crate) struct Leftovers {
    /// What is still to be judged once they are gone.
    pub(crate) unjudged: Option<Unjudged>,
    pub(crate) asked: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Unjudged {
    pub(crate) end: End,
    pub(crate) ran_ms: u64,
    pub(crate) until: Mono,
}

impl Run {
    pub(crate) fn new(id: RunId, now: Mono) -> Run {
        Run {
            id,
            pid: 0,
            spawned_at: now,
            began: None,
            ready_due: None,
            online_since: None,
            asked: false,
            kill_due: None,
            killed: false,
            resisted: false,
            leftovers: None,
            trial_until: None,
            replaced: false,
            late: false,
            listens: false,
            drain_until: None,
            drained: false,
            care: Care::default(),
        }
    }

    /// It has a main process that pm3 has not asked to end.
    pub(crate) fn is_up_or_coming(&self) -> bool {
        !self.asked && self.leftovers.is_none()
    }

    /// It executes, and it is waited for that it says that it is ready.
    pub(crate) fn is_preparing(&self) -> bool {
        self.is_up_or_coming() && self.ready_due.is_some() && !self.late
    }

    /// Its main process has ended, and others of its tree have not.
    pub(crate) fn leave(mut self, unjudged: Option<Unjudged>, grace_end: Mono) -> Run {
        if !self.asked || self.drain_until.is_some() {
            (self.kill_due, self.drain_until) = (Some(grace_end), None);
        }
        self.leftovers = Some(Leftovers { unjudged, asked: false });
        self
    }

    /// It was asked to end, and has clients.
    pub(crate) fn leaves_clients(&self) -> bool {
        self.asked && self.listens
    }

    /// The moment at which time itself changes something about it.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        if self.is_preparing() {
            return self.ready_due;
        }
        self.drain_until.or(self.kill_due.filter(|_| !self.killed))
    }
}
