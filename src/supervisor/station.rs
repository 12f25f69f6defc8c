//! What each half of an instance's pair is good for: who gets new connections, whose wait for a run that is to come, and
//! what is to be closed. All of it follows from the state, so it cannot be forgotten at a transition.

use super::event::{Half, Share};
use super::instance::{Goal, Instance, Next, State};
use super::life::{Life, Phase};
use super::reload::Second;

/// What one half is good for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Station {
    /// Its run is online: it gets new connections, if it listens.
    Serving,
    /// So it is, but its last runs were short, and it has not lived for longer yet: it gets new connections, if it
    /// listens, while nobody serves.
    Proving,
    /// Its run is held beside another that serves: together with others like it, it gets so many of a hundred new
    /// connections.
    Sampling(u8),
    /// Its next run is on the way, or is to come: new connections wait here while nobody serves.
    Coming,
    /// It has a run that is on trial, or on its way out: it keeps what it has and gets nothing new.
    Aside,
    /// There is none, nor will be.
    Gone,
}

impl Station {
    /// Its share of new connections, if it has one of its own.
    pub fn percent(self) -> Option<u8> {
        if let Station::Sampling(percent) = self { Some(percent) } else { None }
    }
}

impl Instance {
    /// What this half is good for.
    pub fn station(&self, half: Half) -> Station {
        if half == self.half {
            return self.own_station();
        }
        match &self.second {
            Some(second) if self.is_online() && second.held().is_some() => match second.held() {
                Some(Share::Percent(percent)) => Station::Sampling(percent),
                Some(Share::Whole | Share::Equal) | None => Station::Serving,
            },
            // Both leave, and the next run comes on the half of the one that has no clients, whichever ends first.
            Some(second) if self.leaves_clients() && !second.life.listens => Station::Coming,
            Some(_) => Station::Aside,
            None if self.leaves_clients() => Station::Coming,
            None => Station::Gone,
        }
    }

    fn own_station(&self) -> Station {
        match self.state {
            // What it is going to serve is another one's until then; it may have still what it served before.
            State::Alive(life) if self.spare && life.listens => Station::Aside,
            _ if self.spare => Station::Gone,
            State::Alive(life) => match life.phase {
                Phase::Standby { .. } => Station::Gone,
                Phase::Launching | Phase::Preparing { .. } => Station::Coming,
                Phase::Online if self.is_proving() => Station::Proving,
                // Another one serves in its place, and it is kept as it is.
                Phase::Online if self.held().and_then(Second::held) == Some(Share::Whole) => Station::Aside,
                Phase::Online => Station::Serving,
                // Nobody has asked it to end: what waits there waits for the next run.
                Phase::Clearing { next: Next::Judge { .. }, .. } => Station::Coming,
                Phase::Draining { .. } | Phase::Stopping { .. } | Phase::Clearing { .. } => {
                    let comes_here = self.goal == Goal::Run && !self.leaves_clients();
                    if comes_here { Station::Coming } else { Station::Aside }
                }
            },
            State::Waiting { .. } | State::Settling { .. } | State::Backoff { .. } => Station::Coming,
            State::Stopped | State::Errored { .. } | State::Finished { .. } => Station::Gone,
        }
    }

    /// The next run comes on the other half, so that what the old one has still to do and what is new are apart.
    pub(super) fn changes_halves(&self) -> bool {
        self.leaves_clients() && self.second.is_none()
    }

    /// Its run listens and is on its way out by request, and another is to follow.
    fn leaves_clients(&self) -> bool {
        self.life().is_some_and(leaves_clients) && self.goal == Goal::Run && !self.stays
    }

    /// Another run is to follow, and neither half is free of one that has clients and is on its way out. Which of them goes
    /// first is not known, so that all who come wait on the half of the newer one, which may still take them.
    pub(super) fn both_leave(&self) -> bool {
        let second = self.second.as_deref().map(|second| &second.life);
        self.goal == Goal::Run && self.life().is_some_and(leaves_clients) && second.is_some_and(leaves_clients)
    }
}

/// It listens, and was asked to end.
fn leaves_clients(life: &Life) -> bool {
    life.listens
        && match life.phase {
            Phase::Launching
            | Phase::Preparing { .. }
            | Phase::Standby { .. }
            | Phase::Online
            | Phase::Clearing { next: Next::Judge { .. } | Next::Forgiven, .. } => false,
            Phase::Draining { .. } | Phase::Stopping { .. } | Phase::Clearing { next: Next::Goal, .. } => true,
        }
}
