//! New runs that come one instance of an app at a time, or a few (`pace`): reload, restart, memory, schedule, a changed
//! file.
//!
//! An instance is marked with the reason (`Instance::roll`) and waits for its turn. The turn is over when its new run
//! is online and its old one gone, or when it is clear that no new one comes. If that failed for good, those whose turn
//! has not begun keep running as they are: a broken change must not take down what works. Nor does a turn begin while an
//! app that this one waits for is away: the new run could not start. So a restart of everything goes in the order of
//! starting.

use super::app::App;
use super::event::{Effect, Note, Reason, RunId, What};
use super::instance::{Goal, Instance, State, Turn};
use super::reload::{Manner, Roll, Survey};
use super::spec::AppSpec;

impl App {
    /// Moves the rollout on; true if anything changed. `ready`: a new run could start now.
    pub(super) fn roll(&mut self, ready: bool, last_run: &mut RunId, turn: &mut Turn<'_>) -> bool {
        let mut changed = self.give_up(turn);
        for at in 0..self.instances.len() {
            let Some(one) = self.instances.get(at).filter(|one| one.rolling) else { continue };
            let may_miss = one.roll.as_deref().is_some_and(|roll| self.may_miss(roll));
            let App { spec, instances, .. } = self;
            let Some(one) = instances.get_mut(at) else { continue };
            if ready && goes_on(one, may_miss, spec, last_run, turn) {
                self.note_held(at);
                changed = true;
            } else if !is_in_transit(one) {
                one.rolling = false;
                changed = true;
            }
        }
        for at in 0..self.instances.len() {
            let next = self.instances.get(at).filter(|one| ready && !one.rolling && can_roll(one));
            let has_room = next.is_some_and(|one| self.may_begin(one));
            let App { spec, instances, .. } = self;
            let Some(next) = instances.get_mut(at).filter(|_| has_room) else { continue };
            next.rolling = true;
            begin(next, spec, last_run, turn);
            self.note_held(at);
            changed = true;
        }
        changed
    }

    /// There is room for its turn. Spares come first, one at a time: what comes to nothing shows there, where nobody is
    /// served.
    fn may_begin(&self, next: &Instance) -> bool {
        let spares = || self.instances.iter().filter(|one| one.spare);
        if next.spare {
            return !spares().any(|one| one.rolling);
        }
        let is_first = !spares().any(|one| one.rolling || can_roll(one));
        is_first && next.roll.as_deref().is_some_and(|roll| self.has_room(roll))
    }

    /// Ends the turns of those whose new runs have failed, before any other goes on; true if there are such.
    fn give_up(&mut self, turn: &mut Turn<'_>) -> bool {
        let is_errored = |one: &Instance| matches!(one.state, State::Errored { .. }) && !one.is_unfit();
        let has_failed = |one: &Instance| one.rolling && (one.has_failed_to_reload() || is_errored(one));
        let mut failed = self.instances.iter_mut().filter(|one| has_failed(one)).peekable();
        let gives_up = failed.peek().is_some();
        failed.for_each(|one| one.rolling = false);
        if gives_up {
            self.halt(turn);
        }
        gives_up
    }

    fn halt(&mut self, turn: &mut Turn<'_>) {
        let mut held = 0u32;
        for one in &mut self.instances {
            let is_of_the_roll =
                |roll: &Roll| matches!(roll.reason, Reason::Changed | Reason::Operator | Reason::Watched(_));
            if one.roll.as_deref().is_some_and(is_of_the_roll) {
                one.roll = None;
                held += 1;
            }
        }
        if held > 0 {
            let text = format!("the first restarted instance failed, {held} more keep running as they are");
            turn.out.push(Effect::Note(Note { who: self.spec.name.clone(), id: None, what: What::Pm3(text.into()) }));
        }
    }

    /// Some instance has its turn or waits for it, and not for a decision.
    pub(super) fn rolls(&self) -> bool {
        let waits = |one: &Instance| one.roll.is_some() && one.is_up_or_coming() && one.held().is_none();
        self.instances.iter().any(|one| one.rolling || waits(one))
    }
}

impl Instance {
    /// Waits for its turn, or has it.
    pub(super) fn is_rolling(&self) -> bool {
        self.rolling || self.roll.is_some()
    }
}

fn can_roll(one: &Instance) -> bool {
    let is_free = |roll: &Roll| match roll.manner {
        _ if one.spare => true,
        // Whatever is on the other half ends with it.
        Manner::OldFirst => is_replaceable(one),
        Manner::NewFirst => one.second.is_none() && roll.survey == Survey::Due,
    };
    one.goal == Goal::Run && one.is_in_place() && one.roll.as_deref().is_some_and(is_free)
}

/// Its run may be asked to end. While an old one still serves its last clients on the other half, new ones could be kept
/// from neither. Nor does it end with one that is held beside it.
fn is_replaceable(one: &Instance) -> bool {
    one.held().is_none()
        && !(one.listens() && one.has_leaver() && one.second.as_deref().is_some_and(|second| second.life.listens))
}

/// Its turn begins.
fn begin(one: &mut Instance, app: &AppSpec, last_run: &mut RunId, turn: &mut Turn<'_>) {
    match one.roll.as_deref() {
        _ if one.spare => replace(one, app, turn),
        // Whoever wrote that knows what the program can do.
        Some(Roll { manner: Manner::NewFirst, .. }) if app.overlap == Some(true) => {
            start_second(one, app, last_run, turn)
        }
        Some(Roll { manner: Manner::NewFirst, .. }) => one.survey(turn),
        Some(Roll { manner: Manner::OldFirst, .. }) | None => replace(one, app, turn),
    }
}

/// Acts on what has become known, or has been asked for, since its turn began; true if anything was done.
/// `may_miss`: it may be away for a while, as far as the others are there.
fn goes_on(one: &mut Instance, may_miss: bool, app: &AppSpec, last_run: &mut RunId, turn: &mut Turn<'_>) -> bool {
    if one.goal != Goal::Run || !one.is_in_place() {
        return false;
    }
    match one.roll.as_deref() {
        Some(_) if one.spare => return false,
        // A restart that was asked for in the middle of a reload ends both runs.
        Some(Roll { manner: Manner::OldFirst, .. }) if may_miss && one.second.is_some() && is_replaceable(one) => {
            replace(one, app, turn);
        }
        Some(Roll { survey: Survey::Known(Some(obstacle)), share: Some(_), .. }) => {
            let obstacle = obstacle.clone();
            one.cannot_hold(obstacle, app, turn);
        }
        Some(Roll { survey: Survey::Known(Some(_)), .. }) if may_miss => replace(one, app, turn),
        Some(Roll { manner: Manner::OldFirst, .. } | Roll { survey: Survey::Known(Some(_)), .. }) => return false,
        Some(Roll { survey: Survey::Known(None), .. }) => start_second(one, app, last_run, turn),
        Some(Roll { survey: Survey::Early { .. } | Survey::Due | Survey::Asked, .. }) | None => return false,
    }
    true
}

fn replace(one: &mut Instance, app: &AppSpec, turn: &mut Turn<'_>) {
    let reason = one.roll.take().map_or(Reason::Operator, |roll| roll.reason);
    one.stop(reason, true, app, turn);
}

fn start_second(one: &mut Instance, app: &AppSpec, last_run: &mut RunId, turn: &mut Turn<'_>) {
    let reason = one.roll.as_deref().map_or(Reason::Operator, |roll| roll.reason.clone());
    *last_run = RunId(last_run.0.saturating_add(1));
    one.launch_second(*last_run, reason, app, turn);
}

/// Neither back nor given up, or with two runs.
fn is_in_transit(one: &Instance) -> bool {
    one.goal == Goal::Run
        && match one.state {
            State::Alive(_) if one.is_in_place() => {
                one.second.is_some() && one.held().is_none() || one.roll.as_deref().is_some_and(Roll::is_surveyed)
            }
            State::Alive(_) | State::Waiting { .. } | State::Settling { .. } | State::Backoff { .. } => true,
            State::Stopped | State::Errored { .. } | State::Finished { .. } => false,
        }
}
