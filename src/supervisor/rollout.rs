//! Restarts that go one instance of an app at a time: memory, schedule, a changed file, an operator.
//!
//! An instance is marked with the reason (`Instance::roll`) and waits for its turn. The turn is over when its new run
//! is online, or when it is clear that none comes. If a new launch fails for good, the others keep running as they
//! are: a broken change must not take down what works. Nor does a turn begin while an app that this one waits for is
//! away: the new run could not start. So a restart of everything goes in the order of starting.

use super::app::App;
use super::event::{Effect, InstanceId, Note, Reason, What};
use super::instance::{Goal, Instance, State, Turn};

impl App {
    /// Moves the rollout on; true if anything changed. `ready`: a new run could start now.
    pub(super) fn roll(&mut self, ready: bool, turn: &mut Turn<'_>) -> bool {
        let before = self.rolling;
        if let Some(id) = self.rolling {
            if self.instances.iter().any(|one| one.id == id && is_in_transit(one)) {
                return false;
            }
            self.rolling = None;
            if self.instances.iter().any(|one| one.id == id && matches!(one.state, State::Errored { .. })) {
                self.halt(turn);
            }
        }
        let Some(next) = self.instances.iter_mut().find(|one| ready && one.roll.is_some() && can_roll(one)) else {
            return self.rolling != before;
        };
        let reason = next.roll.take().map_or(Reason::Operator, |reason| *reason);
        next.stop(reason, &self.spec, turn);
        self.rolling = Some(next.id);
        true
    }

    fn halt(&mut self, turn: &mut Turn<'_>) {
        let mut held = 0u32;
        for one in &mut self.instances {
            if one
                .roll
                .as_deref()
                .is_some_and(|reason| matches!(reason, Reason::Changed | Reason::Operator | Reason::Watched(_)))
            {
                one.roll = None;
                held += 1;
            }
        }
        if held > 0 {
            let text = format!("the first restarted instance failed, {held} more keep running as they are");
            turn.out.push(Effect::Note(Note { who: self.spec.name.clone(), what: What::Pm3(text.into()) }));
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
    one.goal == Goal::Run && one.is_online()
}

/// Neither back nor given up.
fn is_in_transit(one: &Instance) -> bool {
    one.goal == Goal::Run
        && match one.state {
            State::Alive(_) => !one.is_online(),
            State::Waiting { .. } | State::Settling { .. } | State::Backoff { .. } => true,
            State::Stopped | State::Errored { .. } | State::Finished { .. } => false,
        }
}
