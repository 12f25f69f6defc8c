//! Two runs of one instance. A reload starts a second run on the other half of the instance's pair; the first serves
//! until the second has proven itself, and is ended then. Whatever goes wrong with the second, the first goes on.
//!
//! The second run is on trial from the moment its program executes until it has lived for `policy::trial`: a program
//! that cannot read its settings or connect to its database ends sooner. Then it is admitted: it becomes the
//! instance's run, and the first one leaves. If the first ends by itself meanwhile, the second takes over at once.
//!
//! The second run of an app that says when it is ready (`wait_ready`) is on no trial: it is admitted when it says so,
//! and has failed if it does not in time. PM2 goes on then, and ends a process that works for one that may never.
//!
//! Before that, the engine is asked whether anything of the first run stands in the second one's way (`Survey`), as a
//! port does that only one process can own. Then the first is ended before the second starts, as for a restart.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::{Effect, End, Failure, Half, Mono, Obstacle, Reason, RunId, What};
use super::hold::Share;
use super::instance::{Exit, Instance, Next, State, Turn};
use super::life::{Life, Phase};
use super::policy;
use super::spec::AppSpec;

/// A reload that failed is not begun again by itself sooner than this: a memory limit would ask for it each second.
const RETRY: Duration = Duration::from_secs(15);

/// How an instance gets a new run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Manner {
    /// The old run is ended, then the new one starts.
    OldFirst,
    /// The new run starts beside the old one, which is ended when the new one has proven itself.
    NewFirst,
}

/// An instance is to get a new run, as soon as it is its turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Roll {
    pub reason: Reason,
    pub manner: Manner,
    pub survey: Survey,
    /// So many at once, if the request said so.
    #[serde(default)]
    pub parallel: Option<u32>,
    /// The new run is to be held (`hold`), with this share of new connections.
    #[serde(default)]
    pub share: Option<Share>,
    /// An operator has said which manner.
    #[serde(default)]
    pub is_asked: bool,
}

/// What is known of whether a second run can be beside the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Survey {
    /// The run is so young that it may not have bound its port yet.
    Early {
        until: Mono,
    },
    Due,
    Asked,
    Known(Option<Obstacle>),
}

/// The run on the other half of the pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Second {
    pub life: Life,
    /// Why there is to be a new run, or why this one ends.
    pub reason: Reason,
    pub part: Part,
}

/// What a second run is there for. While it is to follow the instance's run, that one is online.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Part {
    /// It has to prove itself, and follows then, or is held if it has a `share` of new connections.
    Trial {
        /// None before its program executes, and for one that says itself when it is ready.
        until: Option<Mono>,
        share: Option<Share>,
    },
    /// It has proven itself and serves; the instance's run is kept until it is decided about both.
    Held(Share),
    /// It was held and is not well, for this reason.
    Ailing(Reason),
    /// It has been asked to end.
    Leaving,
}

impl Second {
    /// It is to follow the instance's run.
    fn is_successor(&self) -> bool {
        match self.part {
            Part::Trial { .. } | Part::Held(_) | Part::Ailing(_) => true,
            Part::Leaving => false,
        }
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        let trial = if let Part::Trial { until, .. } = self.part { until } else { None };
        self.life.deadline().or(trial)
    }
}

impl Roll {
    pub(super) fn deadline(&self) -> Option<Mono> {
        match self.survey {
            Survey::Early { until } => Some(until),
            Survey::Due | Survey::Asked | Survey::Known(_) => None,
        }
    }

    /// The question is out, or has been answered and the answer waits to be acted on.
    pub(super) fn is_surveyed(&self) -> bool {
        match self.survey {
            Survey::Asked | Survey::Known(_) => true,
            Survey::Early { .. } | Survey::Due => false,
        }
    }
}

impl Instance {
    /// The run that is to follow the instance's run, which is still there.
    pub fn successor(&self) -> Option<&Second> {
        self.second.as_deref().filter(|second| second.is_successor())
    }

    /// It has a new run that is held beside the old one.
    pub fn held(&self) -> Option<&Second> {
        self.second.as_deref().filter(|second| second.held().is_some())
    }

    /// A run on the other half has still to end.
    pub fn has_leaver(&self) -> bool {
        self.second.as_deref().is_some_and(|second| !second.is_successor())
    }

    /// Its last reload failed, and the old run goes on.
    pub fn has_failed_to_reload(&self) -> bool {
        matches!(self.reason.as_deref(), Some(Reason::Reload(_)))
    }

    /// The new run of its last reload was done at once, with this end, and the old one goes on.
    pub fn new_was_done(&self) -> Option<End> {
        if let Some(Reason::Done(end)) = self.reason.as_deref() { Some(*end) } else { None }
    }

    /// Wants a new run for it, in its turn.
    pub(super) fn mark(&mut self, reason: Reason, manner: Manner, app: &AppSpec, now: Mono) {
        let is_asked = manner == Manner::NewFirst && app.overlap != Some(true);
        let young = self.life().filter(|life| is_asked && self.is_online() && !life.listens);
        let survey = match young.map(|life| life.since.after(policy::trial(app).span())) {
            Some(until) if until > now => Survey::Early { until },
            Some(_) | None => Survey::Due,
        };
        self.roll = Some(Box::new(Roll { reason, manner, survey, parallel: None, share: None, is_asked: false }));
        self.forget_failed_reload();
    }

    /// What is wanted of it is wanted of its new run.
    pub(super) fn mark_anew(&mut self, app: &AppSpec, now: Mono) {
        if let Some(roll) = self.roll.take() {
            self.mark(roll.reason, roll.manner, app, now);
            self.roll.iter_mut().for_each(|anew| {
                (anew.parallel, anew.share, anew.is_asked) = (roll.parallel, roll.share, roll.is_asked);
            });
        }
    }

    /// It listens by now: what was to end first, as nobody was known to have clients there, may have them.
    pub(super) fn mark_for_clients(&mut self, app: &AppSpec, now: Mono) {
        let Some(roll) = self.roll.as_deref_mut().filter(|roll| !roll.is_asked && roll.share.is_none()) else { return };
        let manner = policy::manner(app, &roll.reason, true);
        if manner != roll.manner {
            roll.manner = manner;
            self.mark_anew(app, now);
        }
    }

    /// There is another try.
    fn forget_failed_reload(&mut self) {
        if self.has_failed_to_reload() || self.new_was_done().is_some() {
            self.reason = None;
        }
    }

    /// Whether a new run that nobody asked for may be tried.
    pub(super) fn may_retry(&self, now: Mono) -> bool {
        self.record.retry_at <= now
    }

    /// Asks what stands in a second run's way.
    pub(super) fn survey(&mut self, turn: &mut Turn<'_>) {
        if let (Some(run), Some(roll)) = (self.run(), &mut self.roll) {
            roll.survey = Survey::Asked;
            turn.out.push(Effect::Survey { run });
        }
        self.forget_failed_reload();
    }

    /// The answer; true if it was waited for.
    pub(super) fn surveyed(&mut self, obstacle: Option<Obstacle>) -> bool {
        match &mut self.roll {
            Some(roll) if roll.survey == Survey::Asked => {
                roll.survey = Survey::Known(obstacle);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Orders the start of a second run beside the first.
    pub(super) fn launch_second(&mut self, run: RunId, reason: Reason, app: &AppSpec, turn: &mut Turn<'_>) {
        let share = self.roll.take().and_then(|roll| roll.share);
        self.forget_failed_reload();
        turn.out.push(Effect::Spawn { run, instance: self.id, half: self.half.other() });
        self.note(app, turn, What::Reloading { pid: self.pid(), reason: reason.clone() });
        let part = Part::Trial { until: None, share };
        self.second = Some(Box::new(Second { life: Life::new(run, turn.now), reason, part }));
    }

    /// Ends the run on the other half.
    pub(super) fn stop_second(&mut self, reason: Reason, gently: bool, app: &AppSpec, turn: &mut Turn<'_>) {
        if let Some(second) = &mut self.second
            && second.life.stop(&app.stop, gently, turn)
        {
            (second.reason, second.part) = (reason, Part::Leaving);
        }
    }

    /// Ends a run that was to be held, or is; its clients go back to the old one. `failed`: some run of those was bad.
    pub(super) fn take_second_back(&mut self, failed: bool, app: &AppSpec, turn: &mut Turn<'_>) {
        let Some(second) = &self.second else { return };
        let reason = if let Part::Ailing(why) = &second.part { why.clone() } else { Reason::TakenBack };
        let of_old = self.ailment_of_old().cloned();
        self.stop_second(reason.clone(), true, app, turn);
        if let Some(phase) = self.second.as_deref().map(|second| second.life.phase) {
            self.tell_leaving(phase, &reason, app, turn);
        }
        if failed {
            self.record.retry_at = turn.now.after(RETRY);
            self.reason = Some(Box::new(Reason::Reload(Box::new(of_old.unwrap_or(reason)))));
        }
    }

    /// Its new run was to be held, and cannot be beside it.
    pub(super) fn cannot_hold(&mut self, obstacle: Obstacle, app: &AppSpec, turn: &mut Turn<'_>) {
        self.roll = None;
        self.reload_failed(Reason::Owns(Box::new(obstacle)), app, turn);
    }

    /// The run on the other half, if it is this one.
    pub(super) fn second_mut(&mut self, run: RunId) -> Option<&mut Second> {
        self.second.as_deref_mut().filter(|second| second.life.run == run)
    }

    pub(super) fn second_executed(&mut self, app: &AppSpec, turn: &mut Turn<'_>) {
        // Where the first run listens, listening is what the second one has to do.
        let listens = self.life().is_some_and(|life| life.listens);
        let Some(second) = &mut self.second else { return };
        if second.life.executed(app, listens, turn.now) {
            let pid = second.life.pid;
            if let Some(span) = second.life.preparing() {
                return self.note(app, turn, What::Preparing { pid, span });
            }
            let span = policy::trial(app);
            if let Part::Trial { until, .. } = &mut second.part {
                *until = Some(turn.now.after(span.span()));
            }
            self.note(app, turn, What::OnTrial { pid, span });
        }
    }

    pub(super) fn second_ready(&mut self, app: &AppSpec, turn: &mut Turn<'_>) {
        if self.second.as_deref_mut().is_some_and(|second| second.life.ready()) {
            self.proven(app, turn);
        }
    }

    /// The new run has proven itself: it takes over, or is held.
    fn proven(&mut self, app: &AppSpec, turn: &mut Turn<'_>) {
        let second = self.second.as_deref_mut();
        match second.map(|second| (second.life.pid, &mut second.part)) {
            Some((pid, part @ Part::Trial { share: Some(_), .. })) => {
                let Part::Trial { share: Some(share), .. } = *part else { return };
                *part = Part::Held(share);
                self.note(app, turn, What::Held { pid, old: self.pid() });
            }
            Some((_, Part::Trial { share: None, .. })) => self.admit(app, turn),
            Some((_, Part::Held(_) | Part::Ailing(_) | Part::Leaving)) | None => {}
        }
    }

    pub(super) fn second_failed(&mut self, failure: Failure, app: &AppSpec, turn: &mut Turn<'_>) {
        let Some(second) = self.second.take() else { return };
        if second.is_successor() {
            let why = Reason::StartFailed(Box::new(failure));
            self.remember(&second.life, why.clone(), turn.now);
            self.reload_failed(why, app, turn);
        } else {
            self.remember(&second.life, second.reason.clone(), turn.now);
        }
    }

    pub(super) fn second_exited(&mut self, exit: Exit, app: &AppSpec, turn: &mut Turn<'_>) {
        let Some(mut second) = self.second.take() else { return };
        let failed = second.is_successor().then(|| Reason::of_end(exit.end, exit.oom));
        // One that is to be held has to be there.
        let may_be_done = second.share().is_none();
        self.remember(&second.life, failed.clone().unwrap_or_else(|| second.reason.clone()), turn.now);
        if exit.leftovers && app.stop.tree {
            let sig = second.life.clear(Next::Goal, &app.stop, turn);
            second.part = Part::Leaving;
            self.second = Some(second);
            self.note(app, turn, What::Leftovers { sig });
        }
        match failed {
            Some(_) if may_be_done && policy::is_final(app, exit.end) => self.was_done(exit.end, app, turn),
            Some(why) => self.reload_failed(why, app, turn),
            None => {}
        }
    }

    /// Time has come for what its deadline named.
    pub(super) fn second_due(&mut self, app: &AppSpec, turn: &mut Turn<'_>) {
        let Some(second) = &mut self.second else { return };
        if let Some(span) = second.life.preparing() {
            let why = Reason::NotReady(span);
            self.stop_second(why.clone(), false, app, turn);
            self.reload_failed(why, app, turn);
        } else if second.is_successor() {
            self.proven(app, turn);
        } else if let Phase::Draining { .. } = second.life.phase {
            let run = second.life.run;
            self.drained(run, app, turn);
        } else if second.life.kill(&app.stop, turn) {
            if second.life.is_stopping() {
                second.reason = policy::killed(app, second.reason.clone());
            }
            self.note(app, turn, What::Killing);
        }
    }

    /// The new run ended as the file lets it, so nothing has failed; but nor has it shown that it can do the old one's
    /// work, which goes on.
    fn was_done(&mut self, end: End, app: &AppSpec, turn: &mut Turn<'_>) {
        self.record.retry_at = turn.now.after(RETRY);
        self.note(app, turn, What::NewWasDone { end, pid: self.pid() });
        self.reason = Some(Box::new(Reason::Done(end)));
    }

    /// The old run goes on, as if nothing had been tried.
    fn reload_failed(&mut self, why: Reason, app: &AppSpec, turn: &mut Turn<'_>) {
        self.record.retry_at = turn.now.after(RETRY);
        self.note(app, turn, What::ReloadFailed { why: why.clone(), pid: self.pid() });
        self.reason = Some(Box::new(Reason::Reload(Box::new(why))));
    }

    /// The instance's run has ended by itself while its successor was on its way. True if there was one: it is the
    /// instance's run from now on, whether it has proven itself or not.
    pub(super) fn succeed(&mut self, exit: Exit, app: &AppSpec, turn: &mut Turn<'_>) -> bool {
        if self.successor().is_none() {
            return false;
        }
        let reason = Reason::of_end(exit.end, exit.oom);
        self.note(app, turn, What::Succeeded { reason: reason.clone() });
        let Some(mut old) = self.swap(app, turn.now) else { return false };
        self.remember(&old.life, reason.clone(), turn.now);
        self.reason = Some(Box::new(reason));
        if exit.leftovers && app.stop.tree {
            let sig = old.life.clear(Next::Goal, &app.stop, turn);
            old.part = Part::Leaving;
            self.second = Some(old);
            self.note(app, turn, What::Leftovers { sig });
        }
        self.tell_online(app, turn);
        true
    }

    /// The successor has proven itself, or is ready: it becomes the instance's run, and the old one is ended.
    pub(super) fn admit(&mut self, app: &AppSpec, turn: &mut Turn<'_>) {
        let Some(mut old) = self.swap(app, turn.now) else { return };
        self.reason = Some(Box::new(old.reason.clone()));
        self.tell_online(app, turn);
        if old.life.stop(&app.stop, true, turn) {
            self.tell_leaving(old.life.phase, &old.reason, app, turn);
        }
        self.second = Some(old);
    }

    /// Makes the successor the instance's run, and hands out what was that.
    fn swap(&mut self, app: &AppSpec, now: Mono) -> Option<Box<Second>> {
        let mut other = self.second.take()?;
        let State::Alive(old) = std::mem::replace(&mut self.state, State::Alive(other.life)) else {
            debug_assert!(false, "a successor to no run");
            return None;
        };
        self.half = self.half.other();
        self.restarts = self.restarts.saturating_add(1);
        self.usage = 0;
        // What was wrong with the old run, or its age, is over with it.
        self.roll.take_if(|roll| roll.reason == Reason::Cron || roll.reason.is_ailment());
        self.mark_anew(app, now);
        (other.life, other.part) = (old, Part::Leaving);
        Some(other)
    }

    pub(super) fn tell_online(&mut self, app: &AppSpec, turn: &mut Turn<'_>) {
        if let Some(pid) = self.life().filter(|life| life.phase == Phase::Online).map(|life| life.pid) {
            self.note(app, turn, What::Online { pid });
            self.tell_quarantine(app, turn);
        }
    }

    /// The instance's run is gone and nothing is to follow it by itself; what is left on the other half has still to
    /// end. True if something is.
    pub(super) fn fall_back(&mut self) -> bool {
        let Some(second) = self.second.take() else { return false };
        self.state = State::Alive(second.life);
        (self.half, self.stays) = (self.half.other(), false);
        // It was asked to end for a reason of its own, and that is what the history has of it.
        self.reason = Some(Box::new(second.reason));
        true
    }
}

impl Half {
    pub fn other(self) -> Half {
        match self {
            Half::First => Half::Second,
            Half::Second => Half::First,
        }
    }
}
