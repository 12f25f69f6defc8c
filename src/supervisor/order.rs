//! Who waits for whom: `after` and `requires` when starting, the reverse when pm3 stops.
//!
//! `after` is order alone: it waits until the other is online or has ended for good. `requires` waits until the other
//! is online (a one-shot: finished well), starts it if nobody else would, and is errored while the other is errored or,
//! being a service, has ended by itself: nobody waits for what does not come. It recovers with the other. Systemd's
//! words (systemd.unit(5)), where `requires` implies the order too.

use super::Supervisor;
use super::app::App;
use super::instance::{Goal, Instance, State};

/// Whether an app may start, as far as others are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// Waits for this app.
    Waits(Box<str>),
    /// This app, which it requires, has failed for good with this code.
    Broken(Box<str>, u8),
}

impl Supervisor {
    /// One that is on its way out for good is none any more.
    pub(super) fn app(&self, name: &str) -> Option<&App> {
        self.apps.iter().find(|app| *app.spec.name == *name && !app.gone)
    }

    /// An app that is not there any more holds nobody up.
    pub(super) fn readiness(&self, app: &App) -> Readiness {
        let mut waits = None;
        for name in &app.spec.requires {
            let Some(other) = self.app(name) else { continue };
            if let Some(code) = other.failed_code() {
                return Readiness::Broken(name.clone(), code);
            }
            if !other.is_up() {
                waits = waits.or(Some(name));
            }
        }
        for name in &app.spec.after {
            if self.app(name).is_some_and(|other| !other.is_up() && !other.is_out()) {
                waits = waits.or(Some(name));
            }
        }
        waits.map_or(Readiness::Ready, |name| Readiness::Waits(name.clone()))
    }

    /// Whether a restart of this app may begin: a new run could start now, and no app that it waits for is about to be
    /// restarted as well.
    pub(super) fn may_roll(&self, app: &App) -> bool {
        let rolls =
            |name| self.app(name).is_some_and(|other| other.rolls() && self.readiness(other) == Readiness::Ready);
        self.readiness(app) == Readiness::Ready
            && !app.spec.after.iter().chain(&app.spec.requires).any(|name| rolls(name))
    }

    /// What keeps an app waiting and will not come up by itself, at the end of the chain of those who wait.
    pub(super) fn stuck_on(&self, app: &App) -> Option<Box<str>> {
        let Readiness::Waits(name) = self.readiness(app) else { return None };
        let other = self.app(&name)?;
        if other.is_out() {
            return Some(name);
        }
        // One that is to be replaced, and cannot be before what it waits for is there, comes no further either.
        let idles = |one: &Instance| one.is_over() || matches!(one.state, State::Waiting { .. }) || one.roll.is_some();
        if !other.serving().all(idles) {
            return None;
        }
        match self.readiness(other) {
            Readiness::Broken(name, _) => Some(name),
            Readiness::Ready | Readiness::Waits(_) => self.stuck_on(other),
        }
    }

    pub(super) fn has_processes(&self) -> bool {
        self.apps.iter().any(App::has_processes)
    }

    /// For each app whether it has to wait at the end: something that was started after it still has processes. Directly
    /// or through others, which may have no process of their own, as a one-shot that is done.
    pub(super) fn needed(&self) -> Vec<bool> {
        let mut needed = vec![false; self.apps.len()];
        let mut ahead: Vec<&App> = self.apps.iter().filter(|app| app.has_processes()).collect();
        while let Some(app) = ahead.pop() {
            for name in app.spec.after.iter().chain(&app.spec.requires) {
                let mut others = self.apps.iter().zip(&mut needed);
                let other = others.find(|(other, _)| other.spec.name == *name && !other.gone);
                if let Some((other, needed)) = other.filter(|(_, needed)| !**needed) {
                    *needed = true;
                    ahead.push(other);
                }
            }
        }
        needed
    }

    /// Starts what would not start by itself, because something that runs requires it. All along a chain at once: nobody
    /// shall think that an app of it stays away.
    pub(super) fn pull_in(&mut self) {
        // Spares follow the others.
        let is_idle = |one: &Instance| one.goal == Goal::Idle && !one.spare;
        let idles = |app: &App| app.instances.iter().any(is_idle);
        while self.apps.iter().any(idles) {
            let wanted = self.apps.iter().filter(|app| app.instances.iter().any(|one| one.goal == Goal::Run));
            let wanted: Vec<Box<str>> = wanted.flat_map(|app| &app.spec.requires).cloned().collect();
            let apps = self.apps.iter_mut().filter(|app| wanted.contains(&app.spec.name));
            let mut idle = apps.flat_map(|app| &mut app.instances).filter(|one| is_idle(one)).peekable();
            if idle.peek().is_none() {
                return;
            }
            idle.for_each(Instance::start);
        }
    }
}
