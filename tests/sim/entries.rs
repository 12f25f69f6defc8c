//! What the model knows of apps as such: entries that cannot be, entries that meet an app that is there, and how many
//! instances there have to be.

use std::rc::Rc;

use pm3::supervisor::event::InstanceId;
use pm3::supervisor::spec::{AppSpec, Kind};

use crate::model::{Goal, Model, Place, Status};

/// What is known of an app besides its entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) of_file: bool,
    /// How many instances its entry asks for, where an operator wants another number.
    pub(crate) asked: Option<u32>,
}

impl Model {
    /// How many instances of an app there have to be: one that is scaled to none keeps a row.
    pub(crate) fn wanted(app: &AppSpec) -> usize {
        app.instances.max(1) as usize
    }

    /// Why these apps cannot be taken, if they cannot.
    pub(crate) fn objection(&self, entries: &[AppSpec]) -> Option<&'static str> {
        let is_new = |app: &&AppSpec| entries.iter().all(|entry| entry.name != app.name);
        let all: Vec<&AppSpec> = entries.iter().chain(self.spec.apps.iter().filter(is_new)).collect();
        let find = |name: &str| all.iter().find(|app| *app.name == *name).copied();
        let twice = |(at, entry): (usize, &AppSpec)| entries[..at].iter().any(|other| other.name == entry.name);
        let awaited = |app: &AppSpec| app.after.iter().chain(&app.requires).cloned().collect::<Vec<_>>();
        // Whoever is reached from itself by some chain waits for itself.
        let circles = |app: &&AppSpec| {
            let (mut ahead, mut seen) = (awaited(app), Vec::new());
            while let Some(name) = ahead.pop() {
                if name == app.name {
                    return true;
                }
                if !seen.contains(&name) {
                    ahead.extend(find(&name).map(awaited).unwrap_or_default());
                    seen.push(name);
                }
            }
            false
        };
        if entries.iter().enumerate().any(twice) {
            Some("a name is there twice")
        } else if entries.iter().any(|entry| entry.instances == 0 || entry.name.is_empty()) {
            Some("an app lacks something")
        } else if entries.iter().flat_map(awaited).any(|name| find(&name).is_none()) {
            Some("an app waits for one that is not there")
        } else if all.iter().filter(|app| app.main).count() > 1 {
            Some("two are main")
        } else if all.iter().any(circles) {
            Some("some wait in a circle")
        } else {
            None
        }
    }

    /// An entry as it applies to an app that may be there: what an operator said of the number of instances stays while
    /// the entry asks for the same as before, and each app keeps its shell.
    pub(crate) fn adapt(&mut self, mut entry: AppSpec) -> AppSpec {
        let Some(app) = self.spec.apps.iter().find(|app| app.name == entry.name) else { return entry };
        entry.launch.shell = app.launch.shell.clone();
        if let Some(known) = self.known.get_mut(&entry.name) {
            if known.asked == Some(entry.instances) {
                entry.instances = app.instances;
            } else {
                known.asked = None;
            }
        }
        entry
    }

    /// An operator wants so many instances of an app.
    pub(crate) fn resize(&mut self, name: &str, count: u32) {
        let (Some(app), Some(known)) =
            (self.spec.apps.iter_mut().find(|app| *app.name == *name), self.known.get_mut(name))
        else {
            return;
        };
        let asked = known.asked.unwrap_or(app.instances);
        known.asked = (asked != count).then_some(asked);
        app.instances = count;
        let app = app.clone();
        self.each_of(&app);
    }

    /// Gives all instances of an app its entry.
    pub(crate) fn each_of(&mut self, app: &AppSpec) {
        let entry = Rc::new(app.clone());
        for place in self.places.iter_mut().filter(|place| place.spec.name == app.name) {
            place.spec = Rc::clone(&entry);
        }
    }

    /// Targets as PM2 looks them up: name, then namespace, then id.
    pub(crate) fn resolve(&self, target: &str) -> Vec<InstanceId> {
        let chosen = |of: &dyn Fn(&Place) -> bool| -> Vec<InstanceId> {
            let kept = self.places.iter().filter(|place| place.goal != Goal::Remove);
            kept.filter(|place| of(place)).map(|place| place.id).collect()
        };
        let named = chosen(&|place| target == "all" || *place.spec.name == *target);
        let spaced = chosen(&|place| place.spec.namespace.as_deref().unwrap_or("default") == target);
        let numbered = chosen(&|place| target.parse() == Ok(place.id.0));
        [named, spaced, numbered].into_iter().find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// Waits to start, or to be restarted, if only through others, for a one-shot that is online.
    pub(crate) fn waits_for_endless(&self, place: &Place) -> bool {
        let is_endless = |app: &AppSpec| {
            let mut places = self.of(&app.name);
            app.kind == Kind::Oneshot && places.any(|place| self.status(place) == Status::Online)
        };
        let mut apps = self.spec.apps.iter().filter(|app| self.waits_for(&place.spec, &app.name));
        (self.status(place) == Status::Waiting || place.mark.is_some()) && apps.any(is_endless)
    }
}
