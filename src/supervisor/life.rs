//! A run's life, from the order to start it until the last process of its tree is gone: its signals, its grace, what it
//! leaves behind. A life knows nothing of why it ends or what follows it; its instance does (`instance`).

use serde::{Deserialize, Serialize};

use super::event::{Effect, Millis, Mono, RunId, Scope, Sig};
use super::instance::{Next, Turn};
use super::spec::{AppSpec, StopPolicy};

/// One process lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    pub run: RunId,
    /// The main process; 0 until the fork.
    pub pid: u32,
    /// When its start was ordered, and from then on that its program executes, when it began to.
    pub since: Mono,
    /// When its start was ordered: what is older, the program has seen.
    pub ordered: Mono,
    pub phase: Phase,
    /// It listens at slots of pm3's.
    #[serde(default)]
    pub listens: bool,
    /// It has said that it is ready before anybody waited for that, as a spare may.
    #[serde(default)]
    pub said: bool,
}

/// How far a life has come. Each variant carries exactly what is true in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The start has been ordered.
    Launching,
    /// Its program executes and has not said yet that it is ready; `until`: so long that is waited for.
    Preparing {
        until: Mono,
    },
    /// It is a spare's, held where it opens its port. `until`: then another one is to stand by in its place.
    Standby {
        until: Option<Mono>,
    },
    Online,
    /// To be signalled when it has nothing to do any more for the clients that it has, or then.
    Draining {
        until: Mono,
    },
    /// Signalled. `kill_at` is the end of its grace; None once SIGKILL has been sent.
    Stopping {
        kill_at: Option<Mono>,
    },
    /// The main process is gone, others of its tree are not.
    Clearing {
        kill_at: Option<Mono>,
        next: Next,
    },
}

impl Life {
    pub(super) fn new(run: RunId, now: Mono) -> Life {
        Life { run, pid: 0, since: now, ordered: now, phase: Phase::Launching, listens: false, said: false }
    }

    /// It executes or is about to, and nobody has asked it to end.
    pub fn is_up_or_coming(&self) -> bool {
        match self.phase {
            Phase::Launching | Phase::Preparing { .. } | Phase::Standby { .. } | Phase::Online => true,
            Phase::Draining { .. } | Phase::Stopping { .. } | Phase::Clearing { .. } => false,
        }
    }

    /// It is not ready yet, and nobody has asked it to end.
    pub fn is_coming(&self) -> bool {
        match self.phase {
            Phase::Launching | Phase::Preparing { .. } | Phase::Standby { .. } => true,
            Phase::Online | Phase::Draining { .. } | Phase::Stopping { .. } | Phase::Clearing { .. } => false,
        }
    }

    /// Its main process has not been signalled.
    pub fn is_unsignalled(&self) -> bool {
        match self.phase {
            Phase::Launching
            | Phase::Preparing { .. }
            | Phase::Standby { .. }
            | Phase::Online
            | Phase::Draining { .. } => true,
            Phase::Stopping { .. } | Phase::Clearing { .. } => false,
        }
    }

    /// The pid of the main process, 0 without one.
    pub fn main(&self) -> u32 {
        match self.phase {
            Phase::Launching
            | Phase::Preparing { .. }
            | Phase::Standby { .. }
            | Phase::Online
            | Phase::Draining { .. }
            | Phase::Stopping { .. } => self.pid,
            Phase::Clearing { .. } => 0,
        }
    }

    /// The moment at which time itself changes something.
    pub(super) fn deadline(&self) -> Option<Mono> {
        match self.phase {
            Phase::Stopping { kill_at } | Phase::Clearing { kill_at, .. } => kill_at,
            Phase::Preparing { until } | Phase::Draining { until } => Some(until),
            Phase::Standby { until } => until,
            Phase::Launching | Phase::Online => None,
        }
    }

    /// The fork worked, or the program has named another main process.
    pub(super) fn spawned(&mut self, pid: u32) {
        self.pid = pid;
    }

    /// The program executes, and is online with that unless it has a time to say so, or to listen where that is
    /// `expected`; false if that is not wanted any more.
    pub(super) fn executed(&mut self, app: &AppSpec, expected: bool, now: Mono) -> bool {
        match self.phase {
            Phase::Launching => {
                let preparing = |span: Millis| Phase::Preparing { until: now.after(span.span()) };
                let within = app.prepares_within(expected);
                (self.since, self.phase) = (now, within.map_or(Phase::Online, preparing));
                // Sockets that it was handed are heard, whether it has looked at them or not.
                self.listens = !app.listen().is_empty();
                true
            }
            Phase::Preparing { .. }
            | Phase::Standby { .. }
            | Phase::Online
            | Phase::Draining { .. }
            | Phase::Stopping { .. }
            | Phase::Clearing { .. } => false,
        }
    }

    /// It is ready, or is taken for it; false if nobody waits for that.
    pub(super) fn ready(&mut self) -> bool {
        match self.phase {
            Phase::Preparing { .. } => {
                self.phase = Phase::Online;
                true
            }
            Phase::Launching
            | Phase::Standby { .. }
            | Phase::Online
            | Phase::Draining { .. }
            | Phase::Stopping { .. }
            | Phase::Clearing { .. } => false,
        }
    }

    /// It is ready before anybody waits for that; false, as nothing comes of it now.
    pub(super) fn is_ready_early(&mut self) -> bool {
        self.said |= self.is_up_or_coming();
        false
    }

    /// How long it may take to be ready, while that is waited for.
    pub(super) fn preparing(&self) -> Option<Millis> {
        match self.phase {
            Phase::Preparing { until } => Some(Millis::between(self.since, until)),
            Phase::Launching
            | Phase::Standby { .. }
            | Phase::Online
            | Phase::Draining { .. }
            | Phase::Stopping { .. }
            | Phase::Clearing { .. } => None,
        }
    }

    /// Its main process has been asked to end.
    pub(super) fn is_stopping(&self) -> bool {
        match self.phase {
            Phase::Stopping { .. } => true,
            Phase::Launching
            | Phase::Preparing { .. }
            | Phase::Standby { .. }
            | Phase::Online
            | Phase::Draining { .. }
            | Phase::Clearing { .. } => false,
        }
    }

    /// Asks the main process to end: at once, or when it is drained, where it has clients and somebody else serves for
    /// it (`gently`). False if its end is under way already.
    pub(super) fn stop(&mut self, policy: &StopPolicy, gently: bool, turn: &mut Turn<'_>) -> bool {
        if gently && self.listens && self.phase == Phase::Online && policy.drain > Millis::ZERO {
            turn.out.push(Effect::Drain { run: self.run });
            self.phase = Phase::Draining { until: turn.now.after(policy.drain.span()) };
            return true;
        }
        let asks = if gently { self.is_up_or_coming() } else { self.is_unsignalled() };
        if asks {
            self.signal(policy, turn);
        }
        asks
    }

    /// It has nothing to do any more, or had its time; false if nobody waits for that.
    pub(super) fn drained(&mut self, policy: &StopPolicy, turn: &mut Turn<'_>) -> bool {
        let drains = matches!(self.phase, Phase::Draining { .. });
        if drains {
            self.signal(policy, turn);
        }
        drains
    }

    fn signal(&mut self, policy: &StopPolicy, turn: &mut Turn<'_>) {
        if let Phase::Standby { .. } = self.phase {
            turn.out.push(Effect::Dismiss { run: self.run });
        }
        turn.out.push(Effect::Signal { run: self.run, sig: policy.signal, scope: Scope::Process });
        self.phase = Phase::Stopping { kill_at: Some(turn.now.after(policy.timeout.span())) };
    }

    /// Ends it without grace; false if that has been done.
    pub(super) fn kill(&mut self, policy: &StopPolicy, turn: &mut Turn<'_>) -> bool {
        let mut scope = if policy.tree { Scope::Tree } else { Scope::Process };
        match &mut self.phase {
            Phase::Launching
            | Phase::Preparing { .. }
            | Phase::Standby { .. }
            | Phase::Online
            | Phase::Draining { .. } => {
                self.phase = Phase::Stopping { kill_at: None };
            }
            Phase::Stopping { kill_at } if kill_at.is_some() => *kill_at = None,
            // There is no main process any more, whatever the file says by now.
            Phase::Clearing { kill_at, .. } if kill_at.is_some() => {
                *kill_at = None;
                scope = Scope::Tree;
            }
            Phase::Stopping { .. } | Phase::Clearing { .. } => return false,
        }
        turn.out.push(Effect::Signal { run: self.run, sig: Sig::KILL, scope });
        true
    }

    /// The main process is gone and others of its tree are not: asks them to go, too. The signal is the one that they
    /// got; `next` is what the instance does afterwards.
    pub(super) fn clear(&mut self, next: Next, policy: &StopPolicy, turn: &mut Turn<'_>) -> Sig {
        let kill_at = match self.phase {
            Phase::Launching
            | Phase::Preparing { .. }
            | Phase::Standby { .. }
            | Phase::Online
            | Phase::Draining { .. } => Some(turn.now.after(policy.timeout.span())),
            // After SIGKILL, whoever is left has been sent it with the main process.
            Phase::Stopping { kill_at } | Phase::Clearing { kill_at, .. } => kill_at,
        };
        // With no grace left, the tree gets SIGKILL once more: it may have grown since.
        let sig = if kill_at.is_some() { policy.signal } else { Sig::KILL };
        turn.out.push(Effect::Signal { run: self.run, sig, scope: Scope::Tree });
        self.phase = Phase::Clearing { kill_at, next };
        sig
    }
}
