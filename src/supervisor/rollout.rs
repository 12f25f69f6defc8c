//! New runs that come one instance of an app at a time: reload, restart, memory, schedule, a changed file.
//!
//! An instance is marked with the reason (`Instance::roll`) and waits for its turn. The turn is over when its new run
//! is online and its old one gone, or when it is clear that no new one comes. If that failed for good, the others keep
//! running as they are: a broken change must not take down what works. Nor does a turn begin while an app that this one
//! waits for is away: the new run could not start. So a restart of everything goes in the order of starting.

use super::app::App;
use super::event::{Effect, InstanceId, Note, Reason, RunId, What};
use super::instance::{Goal, Instance, State, Turn};
use super::reload::{Manner, Roll, Survey};
use super::spec::AppSpec;

impl App {
    /// Moves the rollout on; true if anything changed. `ready`: a new run could start now.
    pub(super) fn roll(&mut self, ready: bool, last_run: &mut RunId, turn: &mut Turn<'_>) -> bool {
        let before = self.rolling;
        if let Some(one) = self.instances.iter_mut().find(|one| Some(one.id) == before) {
            if one.has_failed_to_reload() || matches!(one.state, State::Errored { .. }) {
                self.halt(turn);
            } else if ready && goes_on(one, &self.spec, last_run, turn) {
                return true;
            } else if is_in_transit(one) {
                return false;
            }
        }
        self.rolling = None;
        let Some(next) = self.instances.iter_mut().find(|one| ready && can_roll(one)) else {
            return self.rolling != before;
        };
        self.rolling = Some(next.id);
        begin(next, &self.spec, last_run, turn);
        true
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

    /// Some instance has its turn or waits for it.
    pub(super) fn rolls(&self) -> bool {
        self.rolling.is_some() || self.instances.iter().any(|one| one.roll.is_some() && one.is_up_or_coming())
    }

    /// Waits for its turn, or has it.
    pub(super) fn is_rolling(&self, id: InstanceId) -> bool {
        self.rolling == Some(id) || self.instances.iter().any(|one| one.id == id && one.roll.is_some())
    }
}

fn can_roll(one: &Instance) -> bool {
    let is_free = |roll: &Roll| match roll.manner {
        // Whatever is on the other half ends with it.
        Manner::OldFirst => is_replaceable(one),
        Manner::NewFirst => one.second.is_none() && roll.survey == Survey::Due,
    };
    one.goal == Goal::Run && one.is_online() && one.roll.as_deref().is_some_and(is_free)
}

/// Its run may be asked to end. While an old one still serves its last clients on the other half, new ones could be kept
/// from neither.
fn is_replaceable(one: &Instance) -> bool {
    !(one.listens() && one.has_leaver() && one.second.as_deref().is_some_and(|second| second.life.listens))
}

/// Its turn begins.
fn begin(one: &mut Instance, app: &AppSpec, last_run: &mut RunId, turn: &mut Turn<'_>) {
    match one.roll.as_deref() {
        // Whoever wrote that knows what the program can do.
        Some(Roll { manner: Manner::NewFirst, .. }) if app.overlap == Some(true) => {
            start_second(one, app, last_run, turn)
        }
        Some(Roll { manner: Manner::NewFirst, .. }) => one.survey(turn),
        Some(Roll { manner: Manner::OldFirst, .. }) | None => replace(one, app, turn),
    }
}

/// Acts on what has become known, or has been asked for, since its turn began; true if anything was done.
fn goes_on(one: &mut Instance, app: &AppSpec, last_run: &mut RunId, turn: &mut Turn<'_>) -> bool {
    if one.goal != Goal::Run || !one.is_online() {
        return false;
    }
    match one.roll.as_deref() {
        // A restart that was asked for in the middle of a reload ends both runs.
        Some(Roll { manner: Manner::OldFirst, .. }) if is_replaceable(one) => replace(one, app, turn),
        Some(Roll { manner: Manner::OldFirst, .. }) => return false,
        Some(Roll { survey: Survey::Known(Some(_)), .. }) => replace(one, app, turn),
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
    let reason = one.roll.take().map_or(Reason::Operator, |roll| roll.reason);
    *last_run = RunId(last_run.0.saturating_add(1));
    one.launch_second(*last_run, reason, app, turn);
}

/// Neither back nor given up, or with two runs.
fn is_in_transit(one: &Instance) -> bool {
    one.goal == Goal::Run
        && match one.state {
            State::Alive(_) if one.is_online() => {
                one.second.is_some() || one.roll.as_deref().is_some_and(Roll::is_surveyed)
            }
            State::Alive(_) | State::Waiting { .. } | State::Settling { .. } | State::Backoff { .. } => true,
            State::Stopped | State::Errored { .. } | State::Finished { .. } => false,
        }
}
