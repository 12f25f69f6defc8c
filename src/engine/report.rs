//! What pm3 tells of its instances: rows for `list`, lines for SIGUSR1.

use log::info;

use super::launch::{self, Origin};
use crate::control::Row;
use crate::supervisor::Supervisor;
use crate::supervisor::event::{Mono, RunId, Size};
use crate::supervisor::instance::{Instance, State};
use crate::supervisor::spec::AppSpec;

/// A row for each instance. Memory is measured now, by `usage`: the last sample may be old, or there is none.
pub(super) fn rows(
    supervisor: &Supervisor,
    origin: &Origin,
    now: Mono,
    usage: impl Fn(RunId, Option<u64>) -> u64,
) -> Vec<Row> {
    let rows = supervisor.instances().map(|(app, one)| {
        let mut row = row(app, one, origin, now);
        if let Some(run) = one.run().filter(|_| one.pid() > 0) {
            row.memory_bytes = usage(run, app.memory_limit);
        }
        row
    });
    rows.collect()
}

fn row(app: &AppSpec, one: &Instance, origin: &Origin, now: Mono) -> Row {
    let uptime = one.life().filter(|_| one.is_online()).map_or(0, |life| now.since(life.since).as_millis());
    Row {
        id: one.id.0,
        name: app.name.clone(),
        namespace: app.namespace.clone().unwrap_or_else(|| "default".into()),
        version: Box::default(),
        mode: "fork".into(),
        index: one.index,
        pid: one.pid(),
        status: one.status().into(),
        restarts: one.restarts,
        uptime_ms: u64::try_from(uptime).unwrap_or(u64::MAX),
        memory_bytes: one.usage,
        cpu: None,
        user: launch::user(app, origin).into(),
        watching: app.watch.is_some(),
        reason: reason(one),
        limit: app.memory_limit,
    }
}

fn reason(one: &Instance) -> Box<str> {
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
pub(super) fn log(supervisor: &Supervisor, origin: &Origin, now: Mono) {
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
