//! Decides what pm3 does. Pure: no I/O, no clock, no randomness, no logging, no unsafe; time comes in with each event.
//!
//! The contract: call [`Supervisor::step`] with whatever happened, perform every effect it returned, in order, then
//! ask [`Supervisor::deadline`] and send [`Event::Tick`] when it has come. After a step the deadline lies strictly in
//! the future. Each `Spawn` is answered by `Spawned` and `Executed` or by `SpawnFailed`; each `Request` by one
//! `Reply`; nothing comes after `Exit`. The whole state is serde data and goes on after packing and unpacking.
//!
//! An event changes the one instance it is about; then everything is driven until nothing changes any more. A drive
//! looks at all instances: a thousand cost about two microseconds, which no index would repay.

use serde::{Deserialize, Serialize};

pub mod app;
pub mod apply;
pub mod checkup;
pub mod event;
pub mod graph;
pub mod history;
pub mod hold;
pub mod instance;
pub mod life;
pub mod near;
pub mod note;
pub mod order;
pub mod output;
pub mod pace;
pub mod packing;
pub mod pending;
pub mod policy;
pub mod progress;
pub mod reload;
pub mod request;
pub mod rollout;
mod room;
pub mod schedule;
pub mod seldom;
pub mod serving;
pub mod shutdown;
pub mod signal;
pub mod spec;
pub mod standby;
pub mod station;
pub mod texts;
pub mod time;
pub mod watch;

use app::{App, Origin};
use checkup::Checkup;
use event::{Effect, Event, InstanceId, Mono, Note, Obstacle, Reason, RunId, Sig, What};
use instance::{Exit, Goal, Instance, State, Turn};
use order::Readiness;
use pending::Pending;
use shutdown::Ending;
use spec::{AppSpec, Settings, Spec};

/// All that pm3 knows and intends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Supervisor {
    settings: Settings,
    apps: Vec<App>,
    /// The newest run.
    last_run: RunId,
    next_instance: u32,
    /// As many as pm3 can hold for its apps' output; None: any number.
    descriptors: Option<u64>,
    /// State of the generator for jitter.
    random: u64,
    pending: Vec<Pending>,
    sample_at: Option<Mono>,
    /// Sorted by run.
    checkups: Vec<Checkup>,
    ending: Option<Ending>,
    /// `Exit` is out.
    ended: bool,
}

impl Default for Supervisor {
    fn default() -> Supervisor {
        Supervisor::new(Spec::default(), 1)
    }
}

impl Supervisor {
    /// A supervisor that has started nothing yet. `seed` is for jitter alone.
    pub fn new(spec: Spec, seed: u64) -> Supervisor {
        Supervisor {
            settings: spec.settings,
            apps: spec.apps.into_iter().map(|app| App::new(app, Origin::File)).collect(),
            last_run: RunId(0),
            next_instance: 0,
            descriptors: None,
            random: seed | 1,
            pending: Vec::new(),
            sample_at: None,
            checkups: Vec::new(),
            ending: None,
            ended: false,
        }
    }

    /// Takes one event in and appends what is to be done about it, in order.
    pub fn step(&mut self, now: Mono, event: Event, out: &mut Vec<Effect>) {
        if self.ended {
            return;
        }
        let before = out.len();
        self.take(now, event, out);
        if !self.ended {
            self.drive(now, before, out);
        }
    }

    /// When `Event::Tick` is wanted next; None: not before something else happens.
    pub fn deadline(&self) -> Option<Mono> {
        if self.ended {
            return None;
        }
        let instances = self.instances().filter_map(|(app, one)| one.deadline(app));
        let schedules = self.apps.iter().filter_map(|app| app.cron_at);
        let checkups = self.checkups.iter().filter_map(Checkup::deadline);
        let holds = self.apps.iter().filter_map(|app| app.hold.as_deref()?.until).filter(|_| !self.is_ending());
        let waits = self.pending.iter().flat_map(|request| &request.waits).filter_map(pending::Wait::deadline);
        let own = [self.sample_at, self.ending.as_ref().and_then(Ending::deadline)];
        instances.chain(schedules).chain(checkups).chain(holds).chain(waits).chain(own.into_iter().flatten()).min()
    }

    /// All apps, in the order of the file, then as clients brought them.
    pub fn apps(&self) -> &[App] {
        &self.apps
    }

    /// All instances with their apps, in the same order.
    pub fn instances(&self) -> impl Iterator<Item = (&AppSpec, &Instance)> {
        self.apps.iter().flat_map(|app| app.instances.iter().map(|one| (&app.spec, one)))
    }

    /// The instance with this id and its app: how to launch it.
    pub fn instance(&self, id: InstanceId) -> Option<(&AppSpec, &Instance)> {
        self.instances().find(|(_, one)| one.id == id)
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// pm3 is on its way out.
    pub fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Some app has a schedule: the engine has to watch the wall clock.
    pub fn has_schedules(&self) -> bool {
        self.apps.iter().any(|app| app.spec.cron.is_some())
    }

    fn take(&mut self, now: Mono, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::Boot => {
                self.fit(now, out);
                self.ask_schedules(out);
            }
            Event::Spawned { run, pid } | Event::Moved { run, pid } => {
                self.with_run(run, now, out, |one, _, _| one.spawned(run, pid));
            }
            Event::Executed { run } => self.with_run(run, now, out, |one, app, turn| one.executed(run, app, turn)),
            Event::Ready { run } => self.with_run(run, now, out, |one, app, turn| one.ready(run, app, turn)),
            Event::Listening { run } => self.with_run(run, now, out, |one, app, turn| one.listening(run, app, turn)),
            Event::Drained { run } => self.with_run(run, now, out, |one, app, turn| one.drained(run, app, turn)),
            // Whoever outlived its run is held by nobody.
            Event::StandsBy { run } | Event::Unfit { run, .. }
                if self.instances().all(|(_, one)| !one.has_run(run)) => {}
            Event::StandsBy { run } => self.with_run(run, now, out, |one, app, turn| one.stands_by(run, app, turn)),
            Event::Unfit { run, why } => {
                self.with_run(run, now, out, |one, app, turn| one.refused(run, why, app, turn))
            }
            Event::SpawnFailed { run, failure } => {
                self.with_run(run, now, out, |one, app, turn| one.spawn_failed(run, failure, app, turn));
            }
            Event::Exited { run, end, oom, leftovers } => {
                let exit = Exit { end, oom, leftovers };
                self.with_run(run, now, out, |one, app, turn| one.exited(run, exit, app, turn));
            }
            // Nobody waits for what outlived a run without `tree`.
            Event::Cleared { run } if self.instances().all(|(_, one)| !one.has_run(run)) => {}
            Event::Cleared { run } => self.with_run(run, now, out, |one, app, turn| one.cleared(run, app, turn)),
            Event::Surveyed { run, obstacle } => self.surveyed(run, obstacle, out),
            Event::Usage { run, bytes } => self.usage(run, bytes, now),
            Event::Probed { run, finding } => self.probed(run, finding, now, out),
            Event::Heartbeat { run, well } => self.heartbeat(run, well, now),
            Event::Request { client, wish, follows } => self.request(client, wish, follows, now, out),
            Event::ClientGone { client } => self.forget_client(client),
            Event::Signal { sig, by_kernel } => self.signal(sig, by_kernel, now, out),
            Event::Planned { spec } => self.plan(*spec, now, out),
            // The answer may come after pm3 began to end, or after the file dropped the app or its schedule.
            Event::Scheduled { app, at } if !self.is_ending() => {
                let mut scheduled = self.apps.iter_mut().filter(|known| known.spec.cron.is_some() && !known.gone);
                if let Some(app) = scheduled.find(|known| known.spec.name == app) {
                    app.cron_at = at;
                }
            }
            Event::Scheduled { .. } => {}
            Event::FilesChanged { app, path, at } if !self.is_ending() => self.files_changed(&app, &path, at, now, out),
            Event::FilesChanged { .. } => {}
            Event::ClockChanged => self.ask_schedules(out),
            Event::Childless => self.childless(now, out),
            Event::Tick => {}
        }
    }

    fn signal(&mut self, sig: Sig, by_kernel: bool, now: Mono, out: &mut Vec<Effect>) {
        match sig {
            Sig::TERM | Sig::INT | Sig::QUIT | Sig::PWR => self.stop_signal(sig, now, out),
            // The terminal is gone, and with it whoever was watching.
            Sig::HUP if by_kernel => self.stop_signal(sig, now, out),
            Sig::HUP if self.is_ending() => {}
            Sig::HUP => out.push(Effect::ReadPlan),
            Sig::USR1 => out.push(Effect::Report),
            Sig::USR2 => Supervisor::tell("SIGUSR2 is ignored: this version cannot replace itself in place", out),
            _ => {}
        }
    }

    /// The file was read again: new apps start, vanished ones stop, changed ones change, the rest is left alone. So are
    /// the apps of clients, unless the file has one of that name by now: then it is the file's.
    fn plan(&mut self, spec: Spec, now: Mono, out: &mut Vec<Effect>) {
        if self.is_ending() {
            return;
        }
        self.settings = spec.settings;
        let (mut same, mut changed, mut new, mut gone) = (0u32, 0u32, 0u32, 0u32);
        self.each_app(now, out, |app, turn| {
            if spec.apps.iter().any(|kept| kept.name == app.spec.name) || app.gone || app.origin == Origin::Client {
                return;
            }
            app.gone = true;
            gone += 1;
            for one in &mut app.instances {
                one.goal = Goal::Remove;
                one.stop(Reason::Changed, false, &app.spec, turn);
            }
        });
        for entry in spec.apps {
            let Some(app) = self.apps.iter_mut().find(|app| app.spec.name == entry.name) else {
                self.apps.push(App::new(entry, Origin::File));
                new += 1;
                continue;
            };
            app.origin = Origin::File;
            let (entry, chosen) = app.adapted(entry);
            // What is tried is not in force yet, and is not undone because a file says the same.
            let is_tried = app.hold.as_deref().is_some_and(|hold| hold.next.as_deref() == Some(&entry));
            if !is_tried && app.spec != entry {
                let mut turn = Turn { now, settle: self.settings.settle, random: 0, out };
                app.take_back(Some(Reason::Changed.to_string()), &mut turn);
            }
            app.entry_instances = chosen.filter(|_| !is_tried).or(app.entry_instances.filter(|_| is_tried));
            if is_tried || app.spec == entry && !app.gone {
                same += 1;
            } else {
                app.change(entry, now);
                changed += 1;
            }
        }
        let text = format!("file read again: {new} new, {changed} changed, {gone} gone, {same} unchanged");
        Supervisor::tell(&text, out);
        self.fit(now, out);
        self.ask_schedules(out);
    }

    fn fit(&mut self, now: Mono, out: &mut Vec<Effect>) {
        let mut next = self.next_instance;
        self.each_app(now, out, |app, turn| {
            if !app.gone {
                app.fit(app.first_goal(), &Reason::Changed, &mut next, turn);
            }
        });
        self.next_instance = next;
    }

    /// What stands in the way of a second run is told in the log, and to those who asked for one.
    fn surveyed(&mut self, run: RunId, obstacle: Option<Obstacle>, out: &mut Vec<Effect>) {
        self.found_beside(run, obstacle.as_ref());
        let mut instances =
            self.apps.iter_mut().flat_map(|app| app.instances.iter_mut().map(|one| (&app.spec.name, one)));
        let Some((name, one)) = instances.find(|(_, one)| one.run() == Some(run)) else { return };
        let is_held = one.roll.as_deref().is_some_and(|roll| roll.share.is_some());
        let why = obstacle.as_ref().filter(|_| !is_held).map(|why| format!("{why}, so the old process"));
        if one.surveyed(obstacle)
            && let Some(why) = why
        {
            out.push(Effect::Note(Note {
                who: name.clone(),
                id: None,
                what: What::Pm3(format!("{why} ends first").into()),
            }));
            let (id, told) = (one.id, format!("{name}: {why} was ended first"));
            self.say(id, &told);
        }
    }

    fn usage(&mut self, run: RunId, bytes: u64, now: Mono) {
        for app in &mut self.apps {
            let App { spec, instances, hold, .. } = app;
            let entry = hold::entry(spec, hold.as_deref(), run);
            for one in instances.iter_mut().filter(|one| one.has_run(run)) {
                if one.run() == Some(run) {
                    one.usage = bytes;
                }
                if let Some(limit) = entry.memory_limit.filter(|limit| bytes > *limit) {
                    one.renew_for(run, Reason::Memory { used: bytes, limit }, entry, now);
                }
            }
        }
    }

    /// Drives everything until nothing changes any more. What is in `out` from `before` on is of this step.
    fn drive(&mut self, now: Mono, before: usize, out: &mut Vec<Effect>) {
        // A failure can travel along a chain of `requires`, one app a pass; the rest settles in a few.
        let passes = self.apps.len().saturating_add(8);
        for _ in 0..passes {
            if !self.pass(now, out) || self.ended {
                break;
            }
        }
        if !self.ended {
            self.answer(now, before, out);
            if self.is_ending() {
                self.checkups.clear();
            } else {
                self.order_samples(now, out);
            }
        }
    }

    fn pass(&mut self, now: Mono, out: &mut Vec<Effect>) -> bool {
        // First: who ended in this step may be about to start anew.
        let mut changed = !self.is_ending() && self.hand_over(now, out);
        self.each(now, out, |one, app, turn| {
            if one.deadline(app).is_some_and(|at| at <= turn.now) {
                one.due(app, turn);
                changed = true;
            }
        });
        if self.is_ending() {
            return self.end(now, out) || changed;
        }
        self.apps.retain_mut(|app| {
            let vanishes = |one: &Instance| one.goal == Goal::Remove && one.is_over();
            app.instances.retain(|one| !vanishes(one));
            !app.gone || !app.instances.is_empty()
        });
        if self.apps.is_empty() {
            // As PM2: ids are not reused, and start over when the list is empty.
            self.next_instance = 0;
        }
        // Nobody decides with the failure of another that has been forgiven.
        self.release_held();
        if let Some((code, reason)) = self.decided() {
            self.begin_ending(Some(code), &reason, now, out);
            return true;
        }
        self.each_app(now, out, |app, turn| {
            if app.instances.iter().all(|one| one.goal != Goal::Run) {
                app.instances.iter_mut().for_each(|one| changed |= one.hurry(&app.spec, turn));
            }
        });
        changed |= self.run_schedules(now, out);
        changed |= self.mind_checkups(now, out);
        changed |= self.mind_holds(now, out);
        self.pull_in();
        changed |= self.mind_spares(now, out);
        changed |= self.start_ready(now, out);
        // Who could not start may decide that pm3 ends; then nobody is restarted any more.
        if changed {
            return true;
        }
        for at in 0..self.apps.len() {
            let ready = self.apps.get(at).is_some_and(|app| app.rolls() && self.may_roll(app));
            let (settle, random, mut last_run) = (self.settings.settle, self.draw(), self.last_run);
            if let Some(app) = self.apps.get_mut(at) {
                changed |= app.roll(ready, &mut last_run, &mut Turn { now, settle, random, out });
            }
            self.last_run = last_run;
        }
        if changed {
            return true;
        }
        let Some((code, reason)) = self.done() else { return false };
        self.begin_ending(Some(code), &reason, now, out);
        true
    }

    /// Starts what waits and may start; fails what requires something that has failed.
    fn start_ready(&mut self, now: Mono, out: &mut Vec<Effect>) -> bool {
        self.release_held();
        let waits = |one: &Instance| matches!(one.state, State::Waiting { .. });
        let mut changed = false;
        for at in 0..self.apps.len() {
            let Some(app) = self.apps.get(at).filter(|app| app.instances.iter().any(waits)) else { continue };
            let readiness = self.readiness(app);
            let (settle, mut last_run) = (self.settings.settle, self.last_run);
            let random = self.draw();
            let Some(app) = self.apps.get_mut(at) else { continue };
            let mut turn = Turn { now, settle, random, out };
            for one in app.instances.iter_mut().filter(|one| waits(one)) {
                match &readiness {
                    Readiness::Ready => {
                        last_run = RunId(last_run.0.saturating_add(1));
                        one.launch(last_run, &mut turn);
                        changed = true;
                    }
                    Readiness::Waits(other) => changed |= one.wait(other, &app.spec, &mut turn),
                    Readiness::Broken(other, code) => changed |= one.hold(other, *code, &app.spec, &mut turn),
                }
            }
            self.last_run = last_run;
        }
        changed
    }

    /// Who is errored only for want of another waits again as soon as that one may come up. All along a chain, and before
    /// anybody starts: nobody shall think that an app of it stays away.
    fn release_held(&mut self) {
        let held = |one: &Instance| one.is_held_by_another() && one.goal == Goal::Run;
        let is_free = |known: &Supervisor, app: &App| {
            app.instances.iter().any(held) && !matches!(known.readiness(app), Readiness::Broken(..))
        };
        while let Some(at) = self.apps.iter().position(|app| is_free(self, app)) {
            let instances = self.apps.get_mut(at).into_iter().flat_map(|app| &mut app.instances);
            instances.filter(|one| held(one)).for_each(Instance::release);
        }
    }

    /// Each app, with a turn of its own.
    fn each_app(&mut self, now: Mono, out: &mut Vec<Effect>, mut act: impl FnMut(&mut App, &mut Turn<'_>)) {
        let settle = self.settings.settle;
        for at in 0..self.apps.len() {
            let random = self.draw();
            if let Some(app) = self.apps.get_mut(at) {
                act(app, &mut Turn { now, settle, random, out });
            }
        }
    }

    fn each(&mut self, now: Mono, out: &mut Vec<Effect>, mut act: impl FnMut(&mut Instance, &AppSpec, &mut Turn<'_>)) {
        let settle = self.settings.settle;
        let mut random = self.random;
        for app in &mut self.apps {
            for one in &mut app.instances {
                act(one, &app.spec, &mut Turn { now, settle, random: next(&mut random), out });
            }
        }
        self.random = random;
    }

    /// Applies what happened to a run. An event about an unknown run is a fault of the engine, not of the app.
    fn with_run(
        &mut self,
        run: RunId,
        now: Mono,
        out: &mut Vec<Effect>,
        act: impl FnOnce(&mut Instance, &AppSpec, &mut Turn<'_>),
    ) {
        let (settle, random) = (self.settings.settle, self.draw());
        for app in &mut self.apps {
            let App { spec, instances, hold, .. } = app;
            if let Some(one) = instances.iter_mut().find(|one| one.has_run(run)) {
                return act(one, hold::entry(spec, hold.as_deref(), run), &mut Turn { now, settle, random, out });
            }
        }
        debug_assert!(false, "an event about a run that nobody has: {run:?}");
        out.push(Effect::Note(Note {
            who: "pm3".into(),
            id: None,
            what: What::Fault(format!("unknown run {}", run.0).into()),
        }));
    }

    fn draw(&mut self) -> u32 {
        next(&mut self.random)
    }
}

/// Marsaglia's xorshift64: enough to keep restarts apart, and the same on every replay.
fn next(state: &mut u64) -> u32 {
    let mut x = *state | 1;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    *state = x;
    u32::try_from(x >> 32).unwrap_or(u32::MAX)
}
