//! What pm3 tells of its instances: rows for `list`, all about them for `show`, lines for SIGUSR1.

use std::path::PathBuf;
use std::time::Duration;

use log::info;

use super::cpu::Looks;
use super::launch::{self, Origin};
use super::{Engine, sample};
use crate::control::{Described, Detail, MASKED, Past, Reply, Row, is_harmless};
use crate::supervisor::Supervisor;
use crate::supervisor::app::{self, App};
use crate::supervisor::checkup::Checkup;
use crate::supervisor::event::{End, Mono, Outcome, RunId, Share, Size};
use crate::supervisor::history;
use crate::supervisor::instance::{Goal, Instance, State};
use crate::supervisor::spec::AppSpec;
use crate::sys::clock;
use crate::sys::proc::{self, Sockets};

/// Both clocks at one moment: what happened is remembered by the one that nobody sets, and told by the other.
#[derive(Clone, Copy)]
struct Now {
    mono: Mono,
    unix_ms: u64,
}

impl Now {
    fn get() -> Now {
        Now { mono: clock::now(), unix_ms: clock::unix_ms() }
    }

    fn unix(self, at: Mono) -> u64 {
        self.unix_ms.saturating_sub(millis(self.mono.since(at)))
    }
}

impl Engine {
    /// A row for each instance, as of the last `look_around`.
    pub(super) fn rows(&mut self) -> Vec<Row> {
        let now = Now::get();
        self.looking(|engine, looks| {
            engine.supervisor.instances().map(|(app, one)| engine.measured(app, one, now, looks).0).collect()
        })
    }

    /// Does something with the looks at how busy runs are. Those at runs that have ended are forgotten, whatever is asked
    /// for and however often.
    fn looking<T>(&mut self, act: impl FnOnce(&Engine, &mut Looks) -> T) -> T {
        let mut looks = std::mem::take(&mut self.looks);
        let done = act(self, &mut looks);
        let mut runs: Vec<RunId> = self.supervisor.instances().filter_map(|(_, one)| one.run()).collect();
        runs.sort_unstable();
        looks.keep(&runs);
        self.looks = looks;
        done
    }

    /// Memory and processor time are measured now: the last sample may be old, or there is none. Also the processes
    /// that were measured.
    fn measured(&self, app: &AppSpec, one: &Instance, now: Now, looks: &mut Looks) -> (Row, Vec<u32>) {
        let mut row = row(app, one, &self.origin, now);
        row.script = text(launch::script(app, self.supervisor.settings()));
        if self.slots.serve(one.id) || one.is_standing_by() {
            row.mode = "cluster".into();
        }
        row.says = one.run().map(|run| self.notices.said(run)).unwrap_or_default();
        if let Some(checkup) = self.checkup(app, one) {
            row.health = checkup.condition.word().into();
        }
        let Some(life) = one.life().filter(|life| life.main() > 0) else { return (row, Vec::new()) };
        let tree = self.tree(life.run);
        row.memory_bytes = sample::usage(&tree, app.memory_limit);
        row.cpu = Some(looks.percent(life.run, life.ordered, now.mono, proc::cpu_ms(&tree)));
        (row, tree)
    }

    /// What is known of how an instance's run is, where there are probes.
    fn checkup(&self, app: &AppSpec, one: &Instance) -> Option<&Checkup> {
        app.health.as_ref().and_then(|_| self.supervisor.checkup(one.run()?))
    }

    /// All about the targets' instances, as of the last `look_around`.
    pub(super) fn described(&mut self, targets: &[Box<str>], secrets: bool) -> Reply {
        let (now, mut outcome) = (Now::get(), Outcome::default());
        let ids = self.supervisor.resolve_all(targets, &mut outcome);
        let is_meant = |one: &&Instance| targets.is_empty() || ids.binary_search(&one.id).is_ok();
        let apps = self.looking(|engine, looks| {
            let mut sockets = Sockets::new();
            let mut detail = |app: &App, one: &Instance| {
                let (row, tree) = engine.measured(&app.spec, one, now, looks);
                Detail { row, sockets: sockets.of(&tree), ..engine.detail(app, one, now) }
            };
            let apps = engine.supervisor.apps().iter().map(|app| {
                let instances = app.instances.iter().filter(is_meant).map(|one| detail(app, one)).collect();
                Described { spec: told(&app.spec, secrets), by_client: app.origin == app::Origin::Client, instances }
            });
            apps.filter(|app| !app.instances.is_empty()).collect()
        });
        Reply::Described { apps, failed: outcome.failed }
    }

    /// What is known of an instance without looking at its processes.
    fn detail(&self, app: &App, one: &Instance, now: Now) -> Detail {
        let begun = one.life().map(|life| life.since).or_else(|| one.past.last().map(|past| past.began));
        let next_start = match one.state {
            State::Backoff { until } => Some(until),
            State::Waiting { .. }
            | State::Alive(_)
            | State::Settling { .. }
            | State::Stopped
            | State::Errored { .. }
            | State::Finished { .. } => app.cron_at,
        };
        let files = launch::files(&app.spec, one, self.supervisor.settings());
        Detail {
            started_ms: begun.map_or(0, |at| now.unix(at)),
            short_runs: one.record.unstable,
            quarantine_ms: one.quarantined_until(&app.spec).map(|at| millis(at.since(now.mono))),
            next_start_ms: next_start.map(|at| millis(at.since(now.mono))),
            runs: one.past.iter().map(|past| told_run(past, now)).collect(),
            cwd: text(launch::directory(&app.spec, self.supervisor.settings())),
            out_file: files.out.map(text),
            err_file: files.err.map(text),
            log_file: files.both.map(text),
            ports: self.ports(&app.spec, one),
            resets: self.slots.resets(one.id),
            ailment: self.checkup(&app.spec, one).map(|checkup| checkup.why.clone()).unwrap_or_default(),
            exit_code: one.last_end.map(End::exit_code),
            ..Detail::default()
        }
    }
}

/// A path for clients to see.
fn text(path: PathBuf) -> Box<str> {
    path.to_string_lossy().into()
}

fn told_run(past: &history::Past, now: Now) -> Past {
    let (began_ms, lasted_ms) = (now.unix(past.began), u64::from(past.lasted.0));
    Past { pid: past.pid, began_ms, lasted_ms, reason: past.reason.to_string().into() }
}

/// An app's entry as clients may see it.
fn told(app: &AppSpec, secrets: bool) -> AppSpec {
    let mut app = app.clone();
    if app.instances == 0 {
        (app.instances, app.autostart) = (1, false);
    }
    if !secrets {
        let own = app.launch.env.iter();
        app.launch.env = own.map(|(name, value)| (name, if is_harmless(name) { value } else { MASKED })).collect();
        let mut shell = app.launch.shell.variables().to_vec();
        let masked = shell.iter_mut().filter(|(name, _)| !is_harmless(name)).flat_map(|(_, value)| value);
        masked.for_each(|value| *value = MASKED.into());
        app.launch.shell = shell.into();
    }
    app
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn row(app: &AppSpec, one: &Instance, origin: &Origin, now: Now) -> Row {
    let online = one.life().filter(|_| one.is_online());
    let uptime = online.map_or_else(Duration::default, |life| now.mono.since(life.since));
    Row {
        id: one.id.0,
        name: app.name.clone(),
        namespace: app.namespace.clone().unwrap_or_else(|| "default".into()),
        version: Box::default(),
        script: Box::default(),
        mode: "fork".into(),
        index: one.index,
        spare: one.spare,
        pid: one.pid(),
        status: one.status().into(),
        restarts: one.restarts,
        uptime_ms: millis(uptime),
        memory_bytes: one.usage,
        cpu: None,
        user: launch::user(app, origin).into(),
        health: Box::default(),
        says: Box::default(),
        watching: app.is_watched() && one.goal == Goal::Run,
        held: held(one),
        reason: reason(one),
        limit: app.memory_limit,
        created_ms: now.unix(one.created),
    }
}

/// The new process that is kept beside the old one, and what it gets.
fn held(one: &Instance) -> Box<str> {
    let Some((pid, share)) = one.held().and_then(|second| Some((second.life.main(), second.held()?))) else {
        return Box::default();
    };
    match share {
        Share::Whole => format!("pid {pid} serves, and is held beside pid {}", one.pid()),
        Share::Equal => format!("pid {pid} is held beside pid {}", one.pid()),
        Share::Percent(percent) => format!("pid {pid} is held beside pid {}, for {percent} %", one.pid()),
    }
    .into()
}

fn reason(one: &Instance) -> Box<str> {
    let held = held(one);
    if !held.is_empty() {
        return held;
    }
    match &one.state {
        State::Waiting { on: Some(other) } => format!("waits for {other}").into(),
        State::Waiting { on: None }
        | State::Alive(_)
        | State::Settling { .. }
        | State::Backoff { .. }
        | State::Stopped
        | State::Errored { .. }
        | State::Finished { .. } => one.reason.as_ref().map(|reason| reason.to_string().into()).unwrap_or_default(),
    }
}

/// A line for each instance.
pub(super) fn log(supervisor: &Supervisor, origin: &Origin) {
    let now = Now::get();
    for (app, one) in supervisor.instances() {
        let row = row(app, one, origin, now);
        let memory = if row.memory_bytes > 0 { format!(", memory {}", Size(row.memory_bytes)) } else { String::new() };
        let pid = if row.pid > 0 { format!(", pid {}", row.pid) } else { String::new() };
        let last = if row.reason.is_empty() { String::new() } else { format!(", last: {}", row.reason) };
        info!(
            "{}: id {}, {}{pid}, up {} s, {} restarts{memory}{last}",
            one.who(app),
            row.id,
            row.status,
            row.uptime_ms / 1_000,
            row.restarts
        );
    }
}
