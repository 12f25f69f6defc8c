//! Spares: instances that are started and held where they open their port, each to take the place of one that dies.
//!
//! An app with `standby = 1` has one instance more. It is started as the others, and when its program binds a port that is
//! to be pm3's, that call stays without an answer: everything is loaded, and its main thread stands still. When the run of
//! another instance ends by itself, both change their roles in the same step: the spare is given the sockets of the dead
//! one, with all who wait there, and its answer; and the dead one starts again as the spare, once it may. Which of them is
//! the spare is all that changes: each keeps its number, its name and its log.
//!
//! A spare serves nobody, so nothing follows from it: it makes no app up, and none down; it is not measured, probed or
//! drained; nobody ends with its code. It runs while there is somebody to stand by for. New runs for old ones come to it
//! first, and always the old one ends first: nobody misses it, and a program that does not even start shows there.

use serde::{Deserialize, Serialize};

use super::Supervisor;
use super::app::App;
use super::event::{Effect, Failure, Half, InstanceId, Millis, Mono, Reason, RunId, Stage, What};
use super::instance::{Goal, Instance, Next, State, Turn};
use super::life::{Life, Phase};
use super::policy::{self, Ended};
use super::reload::Manner;
use super::spec::{AppSpec, Restart};

/// Instances that are started and held where they open their port, each to take the place of one that dies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Standby {
    pub count: u32,
    /// One that has stood by for so long is replaced; zero: never.
    pub max_age: Millis,
}

impl Default for Standby {
    /// An hour: what a program holds open while it stands by, as connections to a database, is closed by others sooner or
    /// later, and its main thread cannot see to it.
    fn default() -> Standby {
        Standby { count: 0, max_age: Millis(3_600_000) }
    }
}

impl AppSpec {
    /// How many spares stand by, besides `instances`.
    pub fn spares(&self) -> u32 {
        self.standby.as_deref().map_or(0, |standby| standby.count)
    }

    /// It has several instances, which need names and files of their own.
    pub fn is_several(&self) -> bool {
        self.instances.saturating_add(self.spares()) > 1
    }
}

impl Supervisor {
    /// Lets spares that stand by take the places of those that have ended by themselves; true if one did.
    pub(super) fn hand_over(&mut self, now: Mono, out: &mut Vec<Effect>) -> bool {
        self.each_spared(now, out, |app, turn| {
            let mut changed = false;
            while app.hand_over(turn) {
                changed = true;
            }
            changed
        })
    }

    /// Starts spares where there is somebody to stand by for, and ends them where nobody is left; true if one was.
    pub(super) fn mind_spares(&mut self, now: Mono, out: &mut Vec<Effect>) -> bool {
        self.each_spared(now, out, App::mind_spares)
    }

    /// Each app that has spares; true if anything changed for one.
    fn each_spared(
        &mut self,
        now: Mono,
        out: &mut Vec<Effect>,
        mut act: impl FnMut(&mut App, &mut Turn<'_>) -> bool,
    ) -> bool {
        // Nothing of this waits for a random time.
        let (settle, random) = (self.settings.settle, 0);
        let spared = self.apps.iter_mut().filter(|app| app.instances.iter().any(|one| one.spare));
        let mut changed = false;
        spared.for_each(|app| changed |= act(app, &mut Turn { now, settle, random, out }));
        changed
    }
}

impl App {
    /// The first spare that stands by takes the place of the first instance that has ended by itself, if there are both.
    fn hand_over(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(to) = self.instances.iter().position(Instance::is_standing_by) else { return false };
        let is_dead = |one: &Instance| one.is_to_be_followed(&self.spec);
        let Some(from) = self.instances.iter().position(is_dead) else { return false };
        let Some(dead) = self.instances.get_mut(from) else { return false };
        dead.spare = true;
        let (id, half, who) = (dead.id, dead.half, dead.who(&self.spec));
        let reason = dead.past.last().map_or(Reason::Operator, |past| past.reason.clone());
        let lost = matches!(dead.state, State::Errored { .. });
        if let Some(spare) = self.instances.get_mut(to) {
            spare.take_over((id, half), What::TakesOver { from: who, reason }, &self.spec, turn);
        }
        if let Some(dead) = self.instances.get(from).filter(|_| lost) {
            dead.tell_lost(&self.spec, turn);
        }
        true
    }

    fn mind_spares(&mut self, turn: &mut Turn<'_>) -> bool {
        let is_needed = self.serving().any(|one| one.goal == Goal::Run && !one.is_over());
        let mut changed = false;
        for one in self.instances.iter_mut().filter(|one| one.spare) {
            match one.goal {
                Goal::Idle if is_needed => one.start(),
                Goal::Run if !is_needed && !one.is_over() => {
                    one.goal = Goal::Idle;
                    one.stop(Reason::Needless, false, &self.spec, turn);
                }
                Goal::Run | Goal::Idle | Goal::Stop | Goal::Remove => continue,
            }
            changed = true;
        }
        changed
    }
}

impl Instance {
    /// It is a spare that could take another one's place now.
    pub fn is_standing_by(&self) -> bool {
        let stands = self.life().is_some_and(|life| matches!(life.phase, Phase::Standby { .. }));
        self.spare && stands && self.goal == Goal::Run
    }

    /// It is what it is to be: online, or a spare that stands by.
    pub fn is_in_place(&self) -> bool {
        self.is_online() || self.is_standing_by()
    }

    /// Its run has ended by itself, and another is to follow it, or should: one that has failed for good is no less missed.
    fn is_to_be_followed(&self, app: &AppSpec) -> bool {
        let follows = |ended: &Ended| !policy::is_final(app, ended.end);
        let has_ended = match &self.state {
            State::Alive(Life { phase: Phase::Clearing { next: Next::Judge { ended, .. }, .. }, .. })
            | State::Settling { ended, .. } => follows(ended),
            State::Backoff { .. } => true,
            State::Errored { .. } => !self.is_held_by_another(),
            State::Waiting { .. } | State::Alive(_) | State::Stopped | State::Finished { .. } => false,
        };
        has_ended && !self.spare && self.goal == Goal::Run && app.restart.when != Restart::Never
    }

    /// Its program opens its port, and is held there.
    pub(super) fn stands_by(&mut self, run: RunId, app: &AppSpec, turn: &mut Turn<'_>) {
        let State::Alive(life) = &mut self.state else { return };
        match life.phase {
            _ if life.run != run => {}
            Phase::Preparing { .. } if self.spare => {
                let age = app.standby.as_deref().map_or(Millis::ZERO, |standby| standby.max_age);
                let until = (age > Millis::ZERO).then(|| turn.now.after(age.span()));
                let pid = life.pid;
                life.phase = Phase::Standby { until };
                self.note(app, turn, What::StandsBy { pid });
                self.mark_anew(app, turn.now);
            }
            // It was asked to end before anybody knew that it cannot hear that.
            Phase::Stopping { .. } => turn.out.push(Effect::Dismiss { run }),
            Phase::Launching
            | Phase::Preparing { .. }
            | Phase::Standby { .. }
            | Phase::Online
            | Phase::Draining { .. }
            | Phase::Clearing { .. } => {}
        }
    }

    /// Its program opens a port, and cannot be held there.
    pub(super) fn refused(&mut self, run: RunId, why: Box<str>, app: &AppSpec, turn: &mut Turn<'_>) {
        if self.spare && self.run() == Some(run) && self.is_up_or_coming() {
            self.unfit(why, app, turn);
        }
    }

    /// Why it cannot be a spare, if that is what a start failed at.
    pub(super) fn failed_to_stand_by(&self, failure: &Failure) -> Option<Reason> {
        let is_held_back = self.spare && failure.stage == Stage::Intercept && !failure.passing;
        let whole = format!("{}: {}", failure.object, failure.why);
        is_held_back.then(|| Reason::Unfit(whole.trim_start_matches(": ").into()))
    }

    /// It is of no use as a spare: it ends, and is not tried again until somebody wants that.
    pub(super) fn unfit(&mut self, why: Box<str>, app: &AppSpec, turn: &mut Turn<'_>) {
        self.stop(Reason::Unfit(why), false, app, turn);
    }

    /// It ends or has ended because it is of no use as a spare.
    pub(super) fn is_unfit(&self) -> bool {
        match self.reason.as_deref() {
            Some(Reason::Killed { why, .. }) => matches!(**why, Reason::Unfit(_)),
            reason => matches!(reason, Some(Reason::Unfit(_))),
        }
    }

    /// It has stood by for long enough: a fresh one is to do so, in its turn.
    pub(super) fn aged(&mut self, app: &AppSpec, turn: &mut Turn<'_>) {
        let State::Alive(life) = &mut self.state else { return };
        life.phase = Phase::Standby { until: None };
        if self.roll.is_none() {
            let age = app.standby.as_deref().map_or(Millis::ZERO, |standby| standby.max_age);
            self.mark(Reason::Aged(age), Manner::OldFirst, app, turn.now);
        }
    }

    /// It takes the place of another one. From now on it is judged as if it had begun just now: what it did before was to
    /// wait.
    fn take_over(&mut self, (from, half): (InstanceId, Half), what: What, app: &AppSpec, turn: &mut Turn<'_>) {
        let State::Alive(life) = &mut self.state else { return };
        let word = app.ready_within().filter(|_| !life.said);
        let until = turn.now.after(word.unwrap_or(app.listens_within()).span());
        (life.since, life.phase) = (turn.now, Phase::Preparing { until });
        let run = life.run;
        self.spare = false;
        self.note(app, turn, what);
        turn.out.push(Effect::TakeOver { run, from, half });
        self.mark_anew(app, turn.now);
    }

    /// It is no spare any more, though it is to be one.
    pub(super) fn tell_lost(&self, app: &AppSpec, turn: &mut Turn<'_>) {
        self.note(app, turn, What::Pm3("no spare any more, until it is restarted".into()));
    }
}
