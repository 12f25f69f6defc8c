//! Runs that have clients: one that listens where others can reach it is enough to follow another, and is drained before it
//! is signalled, where somebody else serves for it. After a crash loop it gets clients only if nobody else serves, until it
//! has lived for longer. A run that does not listen has none of this.

use super::event::{Millis, Mono, Reason, RunId};
use super::instance::{Instance, State, Turn};
use super::life::{Life, Phase};
use super::note::What;
use super::policy;
use super::reload::{Roll, Survey};
use super::spec::AppSpec;

impl Instance {
    /// It listens at slots of pm3's.
    pub fn listens(&self) -> bool {
        self.life().is_some_and(|life| life.listens)
    }

    /// It listens wherever it is to be reached, which is enough of an app that does not say itself when it is ready.
    pub fn listening(&mut self, run: RunId, app: &AppSpec, turn: &mut Turn<'_>) {
        if let Some(second) = self.second_mut(run) {
            second.life.listens = true;
            if app.ready_within().is_none() {
                self.second_ready(app, turn);
            }
        } else if let State::Alive(life) = &mut self.state {
            life.listens = true;
            if (app.ready_within().is_none() || life.said) && life.ready() {
                self.came_online(app, turn);
            } else {
                self.tell_quarantine(app, turn);
            }
            self.mark_for_clients(app, turn.now);
            // There is nothing more to wait for before it is known what it owns.
            if let Some(Roll { survey: survey @ Survey::Early { .. }, .. }) = self.roll.as_deref_mut() {
                *survey = Survey::Due;
            }
        }
        self.stays |= self.both_leave();
    }

    /// It is online, but its last runs were short, and it has not lived for longer yet.
    pub fn is_proving(&self) -> bool {
        self.is_online() && policy::is_crash_loop(&self.record)
    }

    /// When it has lived for as long as the others did not; None: there is nothing to prove.
    pub fn proven_at(&self, app: &AppSpec) -> Option<Mono> {
        let life = self.life().filter(|_| self.is_proving());
        life.map(|life| life.since.after(app.restart.min_uptime.span()))
    }

    /// Until then others get its new connections, as far as there are others that serve.
    pub fn quarantined_until(&self, app: &AppSpec) -> Option<Mono> {
        self.proven_at(app).filter(|_| self.listens() && app.instances > 1)
    }

    /// It has begun to serve, as far as it is let.
    pub(super) fn tell_quarantine(&mut self, app: &AppSpec, turn: &mut Turn<'_>) {
        match self.quarantined_until(app) {
            Some(until) if until > turn.now => {
                let (unstable, span) = (self.record.unstable, Millis::between(turn.now, until));
                self.note(app, turn, What::Quarantined { unstable, span });
            }
            // It took that long to listen.
            Some(_) => self.record.unstable = 0,
            None => {}
        }
    }

    /// Its run is no short one any more, whenever it ends.
    pub(super) fn prove(&mut self, app: &AppSpec, turn: &mut Turn<'_>) {
        if self.quarantined_until(app).is_some() {
            self.note(app, turn, What::Proven { span: app.restart.min_uptime });
        }
        self.record.unstable = 0;
    }

    /// A run that is to end has nothing to do any more.
    pub fn drained(&mut self, run: RunId, app: &AppSpec, turn: &mut Turn<'_>) {
        let (life, reason) = match (self.second.as_deref_mut(), &mut self.state) {
            (Some(second), _) if second.life.run == run => (&mut second.life, Some(second.reason.clone())),
            (_, State::Alive(life)) => (life, self.reason.as_deref().cloned()),
            _ => return,
        };
        if life.drained(&app.stop, turn) {
            let reason = reason.unwrap_or(Reason::Operator);
            self.note(app, turn, What::Stopping { sig: app.stop.signal, reason });
        }
    }

    /// Ends what it drains: nobody serves in its place any more. True if there was something.
    pub(super) fn hurry(&mut self, app: &AppSpec, turn: &mut Turn<'_>) -> bool {
        let lives = [self.life(), self.second.as_deref().map(|second| &second.life)];
        let drains = |life: &&Life| matches!(life.phase, Phase::Draining { .. });
        let runs = lives.map(|life| life.filter(drains).map(|life| life.run));
        runs.into_iter().flatten().for_each(|run| self.drained(run, app, turn));
        runs != [None; 2]
    }

    /// Somebody has asked a run to end.
    pub(super) fn tell_leaving(&self, phase: Phase, reason: &Reason, app: &AppSpec, turn: &mut Turn<'_>) {
        let (reason, policy) = (reason.clone(), &app.stop);
        let what = match phase {
            Phase::Draining { .. } => What::Draining { reason, most: policy.drain },
            Phase::Launching
            | Phase::Preparing { .. }
            | Phase::Standby { .. }
            | Phase::Online
            | Phase::Stopping { .. }
            | Phase::Clearing { .. } => What::Stopping { sig: policy.signal, reason },
        };
        self.note(app, turn, what);
    }
}
