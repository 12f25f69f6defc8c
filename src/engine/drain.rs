//! Runs that are to end and have clients still. New connections go to others already; a run is drained when nobody waits
//! at its slots, no handshake is half open that began before, and none of its connections is in use. Looked at again and
//! again, in steps that grow, as nothing tells when that is so; and only for as long as the supervisor waits for it.

use std::time::Duration;

use super::Engine;
use crate::supervisor::event::{Event, Mono, RunId};
use crate::sys::clock;
use crate::sys::diag::{self, Connection, State, Work};
use crate::sys::proc;

/// The first look is followed by another after this long, and each by one after twice as long, up to the second.
const FIRST: Duration = Duration::from_millis(2);
const LAST: Duration = Duration::from_millis(50);

/// A client that has connected and has said nothing for this long is not about to: it keeps a connection for later.
const FRESH: Duration = Duration::from_millis(500);

/// All runs that are drained.
#[derive(Debug, Default)]
pub(super) struct Drains(Vec<Drain>);

#[derive(Debug)]
struct Drain {
    run: RunId,
    began: Mono,
    next: Mono,
    wait: Duration,
    /// Handshakes that were half open when it began, by cookie: they may end at this run's slots. None: not looked yet.
    opening: Option<Vec<u64>>,
    /// What was unclear at the last look, and may be so only because the kernel's clock is slow.
    unclear: Vec<u64>,
}

impl Drains {
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.0.iter().map(|drain| drain.next).min()
    }
}

impl Engine {
    /// Waits until this run has nothing to do any more.
    pub(super) fn drain(&mut self, run: RunId) {
        let now = clock::now();
        self.drains.0.push(Drain { run, began: now, next: now, wait: FIRST, opening: None, unclear: Vec::new() });
    }

    /// The run is over, or is not waited for any more.
    pub(super) fn stop_draining(&mut self, run: RunId) {
        self.drains.0.retain(|drain| drain.run != run);
    }

    /// Looks at those whose time has come.
    pub(super) fn mind_drains(&mut self) {
        let now = clock::now();
        let due: Vec<RunId> = self.drains.0.iter().filter(|drain| drain.next <= now).map(|drain| drain.run).collect();
        if due.is_empty() {
            return;
        }
        self.look_around();
        for run in due {
            let Some(at) = self.drains.0.iter().position(|drain| drain.run == run) else { continue };
            let mut drain = self.drains.0.swap_remove(at);
            if self.is_drained(&mut drain, now) {
                self.happened(Event::Drained { run });
            } else {
                drain.next = now.after(drain.wait);
                drain.wait = (drain.wait * 2).min(LAST);
                self.drains.0.push(drain);
            }
        }
    }

    fn is_drained(&self, drain: &mut Drain, now: Mono) -> bool {
        // First: what is accepted after that is seen below, where nothing new comes.
        if self.slots.waiting(drain.run) > 0 && drain.opening.is_some() {
            return false;
        }
        let mut connections = Vec::new();
        for port in self.slots.ports(drain.run) {
            // What the kernel does not tell cannot be waited for; what waits at the slots can.
            connections.extend(diag::connections(port).unwrap_or_default());
        }
        let opening = |one: &&Connection| one.state == State::Opening;
        let first = || connections.iter().filter(opening).map(|one| one.cookie).collect::<Vec<_>>();
        let before = drain.opening.get_or_insert_with(first);
        // Half open, or open by now and accepted by nobody: it may be at this run's slots.
        let is_late = |one: &Connection| one.inode == 0 && before.contains(&one.cookie);
        if connections.iter().any(is_late) || self.slots.waiting(drain.run) > 0 {
            return false;
        }
        let young = now.since(drain.began) < FRESH;
        let unclear = std::mem::take(&mut drain.unclear);
        connections.retain(|one| match one.work {
            Work::Busy => true,
            Work::Fresh => young,
            Work::Idle => false,
            Work::Unclear => !unclear.contains(&one.cookie),
        });
        connections.retain(|one| one.state != State::Opening && one.inode != 0);
        if connections.is_empty() {
            return true;
        }
        let own = proc::sockets_of_all(&self.tree(drain.run));
        connections.retain(|one| own.as_ref().is_none_or(|own| own.contains(&one.inode)));
        drain.unclear = connections.iter().filter(|one| one.work == Work::Unclear).map(|one| one.cookie).collect();
        connections.is_empty()
    }
}
