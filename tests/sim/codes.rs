//! With which codes apps fail and pm3 ends, as the model has it.

use pm3::supervisor::event::{Mono, RunId};
use pm3::supervisor::spec::{AppSpec, ExitPolicy};

use crate::model::{Gate, Goal, Model, Place, Status};

impl Model {
    /// With what an app failed those who require it: the code of the first of its instances to fail. Several where the
    /// model does not know who was first.
    pub(crate) fn failed_codes(&self, app: &AppSpec) -> Vec<u8> {
        let places: Vec<&Place> = self.of(&app.name).collect();
        let own = |one: &&Place| if let Gate::Errored { code, at } = one.gate { Some((at, code)) } else { None };
        let own: Vec<(Mono, u8)> = places.iter().filter_map(own).collect();
        if !own.is_empty() && places.iter().all(|one| one.held.is_none()) {
            return first_codes(&own);
        }
        let codes = |one: &&Place| match one.gate {
            Gate::Finished(code) => vec![code],
            _ => self.errored_codes(one),
        };
        places.iter().flat_map(codes).collect()
    }

    /// With what a place failed for good: its own code, or that of what it requires.
    pub(crate) fn errored_codes(&self, place: &Place) -> Vec<u8> {
        match (place.gate, self.status(place)) {
            (Gate::Errored { code, .. }, Status::Errored) => vec![code],
            (_, Status::Errored) => place.held.clone().unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// The codes of the apps that decide now that pm3 ends, if any does. DESIGN §6.
    pub(crate) fn decided(&self) -> Option<Vec<u8>> {
        let mut codes = Vec::new();
        for app in &self.spec.apps {
            if app.main && app.cron.is_none() && self.of(&app.name).count() > 0 {
                let ends: Vec<Vec<u8>> = self
                    .of(&app.name)
                    .map(|place| match place.gate {
                        Gate::Finished(code) if place.run.is_none() => vec![code],
                        _ => self.errored_codes(place),
                    })
                    .collect();
                if ends.iter().all(|codes| !codes.is_empty()) {
                    // Of several instances one that failed speaks for all.
                    if ends.iter().all(|codes| codes.contains(&0)) {
                        codes.push(0);
                    }
                    codes.extend(ends.into_iter().flatten().filter(|code| *code != 0));
                }
            }
            if app.exit_on_error {
                codes.extend(self.of(&app.name).flat_map(|place| self.errored_codes(place)));
            }
        }
        (!codes.is_empty()).then_some(codes)
    }

    /// The codes to end with if nothing is left that runs or will run again: the first own failure's, else that of who
    /// could not start for want of another.
    pub(crate) fn done(&self) -> Option<Vec<u8>> {
        let over = |place: &Place| place.goal != Goal::Stop && self.is_over(place);
        // Who deletes the last app may have another in mind.
        let done = !self.places.is_empty()
            && self.spec.apps.iter().all(|app| app.cron.is_none())
            && self.places.iter().all(over);
        if !done || self.last_run == RunId(0) || self.spec.settings.exit == ExitPolicy::Never {
            return None;
        }
        let own = |place: &Place| if let Gate::Errored { code, at } = place.gate { Some((at, code)) } else { None };
        let failures: Vec<(Mono, u8)> = self.places.iter().filter_map(own).collect();
        let held = self.places.iter().flat_map(|place| self.errored_codes(place));
        let codes = if failures.is_empty() { held.collect() } else { first_codes(&failures) };
        Some(if codes.is_empty() { vec![0] } else { codes })
    }
}

/// The codes of those that failed first, at the same moment.
fn first_codes(failures: &[(Mono, u8)]) -> Vec<u8> {
    let first = failures.iter().map(|(at, _)| *at).min();
    failures.iter().filter(|(at, _)| Some(*at) == first).map(|(_, code)| *code).collect()
}
