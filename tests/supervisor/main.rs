//! The supervisor's decisions, told step by step: stories of what it must not get wrong, corners that the simulation
//! (`tests/sim`) found, and one table of all states and events.

#![expect(clippy::unwrap_used, reason = "a test")]

mod chances;
mod clients;
mod corners;
mod health;
mod holds;
mod progress;
mod quarantine;
mod ready;
mod reloads;
mod rollouts;
mod standby;
mod states;
mod stories;
mod undecided;
mod watch;

use pm3::supervisor::Supervisor;
use pm3::supervisor::event::{Effect, End, Event, Mono, Oom, RunId};
use pm3::supervisor::spec::{AppSpec, Spec};

fn app(name: &str) -> AppSpec {
    AppSpec { name: name.into(), ..AppSpec::default() }
}

/// Boots these apps; every start works at once.
fn booted(apps: Vec<AppSpec>) -> (Supervisor, Vec<Effect>) {
    let mut sup = Supervisor::new(Spec { apps, ..Spec::default() }, 1);
    let out = step(&mut sup, 0, Event::Boot);
    (sup, out)
}

/// One step at this millisecond, and those that confirm the starts it asks for.
fn step(sup: &mut Supervisor, ms: u64, event: Event) -> Vec<Effect> {
    step_and(sup, ms, event, |_| None)
}

/// The same, where `answer` says what follows from effects that are no starts.
fn step_and(sup: &mut Supervisor, ms: u64, event: Event, answer: impl Fn(&Effect) -> Option<Event>) -> Vec<Effect> {
    let now = Mono(ms * 1_000_000);
    let mut all = Vec::new();
    let mut events = vec![event];
    while let Some(event) = events.pop() {
        let mut out = Vec::new();
        sup.step(now, event, &mut out);
        assert!(sup.deadline().is_none_or(|at| at > now), "the deadline must lie ahead");
        for effect in &out {
            if let Effect::Spawn { run, .. } = effect {
                events.push(Event::Executed { run: *run });
                events.push(Event::Spawned { run: *run, pid: 100 + run.0 as u32 });
            } else {
                events.extend(answer(effect));
            }
        }
        all.append(&mut out);
    }
    all
}

fn exited(run: u64, end: End) -> Event {
    Event::Exited { run: RunId(run), end, oom: Oom::No, leftovers: false }
}

fn lines(out: &[Effect]) -> Vec<String> {
    let line = |effect: &Effect| {
        if let Effect::Note(note) = effect { note.to_string() } else { format!("{effect:?}") }
    };
    out.iter().map(line).collect()
}
