//! Apps that a client brings: described as in a file, started beside those of pm3's own file. All of them are taken, or
//! none: what they mean for each other and for those that are there is looked at before anything changes.

use std::collections::BTreeMap;

use super::Supervisor;
use super::app::{App, Origin};
use super::event::{Effect, Mono, Verb};
use super::graph;
use super::hold::Wanted;
use super::instance::{Goal, Turn};
use super::near::nearest;
use super::pending::Pending;
use super::request::Order;
use super::spec::AppSpec;

impl Supervisor {
    pub(super) fn apply(
        &mut self,
        order: Order,
        entries: Vec<AppSpec>,
        renew: bool,
        pending: &mut Pending,
        now: Mono,
        out: &mut Vec<Effect>,
    ) {
        pending.outcome.failed = self.objections(order, &entries);
        if !pending.outcome.failed.is_empty() {
            return;
        }
        let last_run = self.last_run;
        let mut names: Vec<Box<str>> = entries.iter().map(|entry| entry.name.clone()).collect();
        for entry in entries {
            let known = self.apps.iter_mut().find(|app| app.spec.name == entry.name);
            let brought = entry.launch.shell.clone();
            let Some(app) = known else {
                self.apps.push(App::new(entry, Origin::Client));
                continue;
            };
            let is_new = app.gone;
            let own = entry.instances;
            let (mut entry, chosen) = app.adapted(entry);
            if renew {
                entry.launch.shell = brought;
            }
            if let (Verb::Reload, Some(care), false) = (order.verb, order.how.care, is_new) {
                let next = (entry != app.spec).then_some((entry, own));
                names.retain(|name| *name != app.spec.name);
                app.hold(Wanted { care, parallel: order.how.parallel, next }, |_| true, last_run, pending, now);
                continue;
            }
            app.entry_instances = chosen;
            if is_new {
                app.origin = Origin::Client;
            }
            let (settle, random) = (self.settings.settle, self.draw());
            let Some(app) = self.apps.iter_mut().find(|app| app.spec.name == entry.name) else { continue };
            app.take(order, entry, pending, &mut Turn { now, settle, random, out });
        }
        self.fit(now, out);
        self.ask_missing_schedules(out);
        self.wait_for_all(&names, last_run, pending);
    }

    /// Why these apps cannot be there together with those that are, a line for each reason.
    fn objections(&self, order: Order, entries: &[AppSpec]) -> Vec<Box<str>> {
        if !matches!(order.verb, Verb::Start | Verb::Restart | Verb::Reload) {
            return vec![
                "apps can be started, restarted or reloaded; name those that are there for anything else".into(),
            ];
        }
        let mut found: Vec<Box<str>> = Vec::new();
        let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
        let mut all: Vec<&AppSpec> = Vec::new();
        for entry in entries {
            let name = &*entry.name;
            if name.is_empty() || name == "all" || entry.instances == 0 || entry.launch.script.is_empty() {
                found.push(format!("{name:?}: an app needs a name, a script and at least 1 instance").into());
            } else if by_name.insert(name, all.len()).is_some() {
                found.push(format!("{name}: there twice; each app needs a name of its own").into());
            }
            all.push(entry);
        }
        for app in self.apps.iter().filter(|app| !app.gone) {
            match entries.iter().find(|entry| entry.name == app.spec.name) {
                Some(entry) => found.extend(app.objection(order, entry).map(Box::from)),
                None => all.push(&app.spec),
            }
        }
        by_name = all.iter().enumerate().map(|(at, app)| (&*app.name, at)).collect();
        let mut mains = all.iter().filter(|app| app.main);
        if let (Some(first), Some(second)) = (mains.next(), mains.next()) {
            found.push(
                format!("{}: main = true: {} is main already, and pm3 ends with one", first.name, second.name).into(),
            );
        }
        found.extend(self.crowding(all.iter().map(|app| (*app, app.instances))).map(Box::from));
        let awaited = |app: &&AppSpec| app.after.iter().chain(&app.requires).cloned().collect::<Vec<Box<str>>>();
        for entry in entries {
            for name in awaited(&entry).iter().filter(|name| !by_name.contains_key(&***name)) {
                let hint = nearest(name, by_name.keys().copied());
                let hint = hint.map(|near| format!(", did you mean {near}?")).unwrap_or_default();
                found.push(format!("{}: waits for {name}, and there is no such app{hint}", entry.name).into());
            }
        }
        let edges = |app: &&AppSpec| awaited(app).iter().filter_map(|name| by_name.get(&**name).copied()).collect();
        if let Some(circle) = graph::cycle(&all.iter().map(edges).collect::<Vec<Vec<usize>>>()) {
            let way: Vec<&str> = circle.iter().filter_map(|at| all.get(*at)).map(|app| &*app.name).collect();
            found.push(format!("none of these could start, each waits for the next: {}", way.join(", ")).into());
        }
        found
    }
}

impl App {
    /// Why this entry cannot be taken over now, because of runs that are held or are to be.
    fn objection(&self, order: Order, entry: &AppSpec) -> Option<String> {
        if order.verb == Verb::Reload && order.how.care.is_some() {
            return self.bars_hold(entry, |_| true);
        }
        let is_left_alone = order.verb == Verb::Start && self.adapted(entry.clone()).0 == self.spec;
        self.is_held().filter(|_| !is_left_alone)
    }

    /// Takes over the entry of a client, and does with what is there as the verb says.
    fn take(&mut self, order: Order, entry: AppSpec, pending: &mut Pending, turn: &mut Turn<'_>) {
        let Order { verb, .. } = order;
        let same = self.spec == entry && !self.gone;
        if !same {
            self.change(entry, turn.now);
        }
        self.warn_of_gap(verb, |_| true, pending);
        let mut left_alone = same && verb == Verb::Start;
        for one in &mut self.instances {
            match one.goal {
                Goal::Remove => {}
                // Not to be started by itself, and nobody has asked for it by name.
                Goal::Idle if !self.spec.autostart => {}
                Goal::Run | Goal::Idle | Goal::Stop => {
                    let runs = one.is_up_or_coming();
                    left_alone &= runs;
                    if !(runs && verb == Verb::Start) {
                        one.obey(order, false, &self.spec, turn);
                    }
                }
            }
        }
        self.revive();
        if left_alone {
            pending.say(format!("{}: runs already, and nothing about it has changed", self.spec.name));
        }
    }
}
