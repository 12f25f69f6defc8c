//! Apps that say themselves when they are ready, told step by step: who waits for the word, and what if it never comes.

use pm3::supervisor::Supervisor;
use pm3::supervisor::event::{
    ClientId, Count, Effect, End, Event, Millis, Mono, Outcome, Rollout, RunId, Scope, Sig, Verb, Wish,
};
use pm3::supervisor::spec::{AppSpec, Launch, Rare, Ready, RestartPolicy};

use crate::{app, booted, exited, lines, step};

/// Says when it is ready, within a second; two runs of it may be there at once.
fn speaking(name: &str) -> AppSpec {
    let rare = Box::new(Rare { ready: Ready::Message, listen_timeout: Some(Millis(1_000)), ..Rare::default() });
    AppSpec { overlap: Some(true), launch: Launch { rare: Some(rare), ..Launch::default() }, ..app(name) }
}

fn ready(run: u64) -> Event {
    Event::Ready { run: RunId(run) }
}

fn ask(verb: Verb) -> Event {
    Event::Request {
        client: ClientId(1),
        wish: Wish::Operate { verb, targets: vec!["web".into()], shell: None, how: Rollout::default() },
        follows: false,
    }
}

fn reply(out: &[Effect]) -> Option<&Outcome> {
    out.iter().find_map(|one| if let Effect::Reply { outcome, .. } = one { Some(outcome) } else { None })
}

fn stopped(out: &[Effect]) -> Vec<u64> {
    let run = |one: &Effect| {
        if let Effect::Signal { run, scope: Scope::Process, .. } = one { Some(run.0) } else { None }
    };
    out.iter().filter_map(run).collect()
}

fn status(sup: &Supervisor) -> &'static str {
    sup.instances().next().unwrap().1.status()
}

/// `web` is ready, and is being reloaded: its second run executes since the third second.
fn reloading() -> Supervisor {
    let (mut sup, _) = booted(vec![speaking("web")]);
    step(&mut sup, 10, ready(1));
    let out = step(&mut sup, 3_000, ask(Verb::Reload));
    assert!(reply(&out).is_none() && stopped(&out).is_empty(), "{out:?}");
    sup
}

#[test]
fn it_is_online_when_it_says_so_and_whoever_waits_for_it_starts_then() {
    let api = AppSpec { requires: ["web".into()].into(), ..app("api") };
    let (mut sup, out) = booted(vec![speaking("web"), api]);
    assert_eq!(lines(&out).iter().filter(|line| line.contains("online")).count(), 0, "{out:?}");
    assert_eq!((status(&sup), sup.deadline()), ("launching", Some(Mono(1_000_000_000))));
    assert!(reply(&step(&mut sup, 5, ask(Verb::Start))).is_none());
    let out = step(&mut sup, 999, ready(1));
    assert_eq!(lines(&out)[0], "web: online, pid 101");
    assert_eq!(reply(&out).map(|outcome| outcome.done.len()), Some(1));
    assert!(out.iter().any(|one| matches!(one, Effect::Spawn { run: RunId(2), .. })), "{out:?}");
    assert_eq!((status(&sup), sup.deadline()), ("online", None));
    // Said twice, it is the same.
    assert_eq!(step(&mut sup, 1_000, ready(1)), []);
}

#[test]
fn a_restart_goes_on_with_the_next_instance_when_the_first_is_ready() {
    let (mut sup, _) = booted(vec![AppSpec { instances: 2, ..speaking("web") }]);
    step(&mut sup, 1, ready(1));
    step(&mut sup, 2, ready(2));
    assert_eq!(stopped(&step(&mut sup, 3, ask(Verb::Restart))), [1]);
    assert!(stopped(&step(&mut sup, 4, exited(1, End::Code(0)))).is_empty());
    assert_eq!(stopped(&step(&mut sup, 5, ready(3))), [2]);
    assert!(reply(&step(&mut sup, 6, exited(2, End::Code(0)))).is_none());
    assert_eq!(reply(&step(&mut sup, 7, ready(4))).map(|outcome| outcome.done.len()), Some(2));
}

#[test]
fn one_more_of_those_that_listen_is_online_when_it_listens() {
    let (mut sup, _) = booted(vec![app("web")]);
    step(&mut sup, 1, Event::Listening { run: RunId(1) });
    let scale =
        |to| Event::Request { client: ClientId(1), wish: Wish::Scale { target: "web".into(), to }, follows: false };
    let out = step(&mut sup, 2, scale(Count::Exactly(2)));
    assert!(reply(&out).is_none() && !lines(&out).iter().any(|line| line.contains("online")), "{out:?}");
    let out = step(&mut sup, 3, Event::Listening { run: RunId(2) });
    assert_eq!(reply(&out).map(|outcome| outcome.done.len()), Some(1), "{out:?}");
}

#[test]
fn one_that_never_says_it_is_taken_for_online_in_the_end() {
    let (mut sup, _) = booted(vec![speaking("web")]);
    let out = step(&mut sup, 1_000, Event::Tick);
    assert_eq!(
        lines(&out),
        ["web: not ready after 1000 ms, taken for online; see listen_timeout", "web: online, pid 101"]
    );
    assert_eq!(step(&mut sup, 1_001, ready(1)), []);
}

#[test]
fn how_long_it_ran_counts_from_its_start() {
    let restart = RestartPolicy { max_restarts: 1, min_uptime: Millis(500), ..RestartPolicy::default() };
    for (ms, errs) in [(499, true), (500, false)] {
        let (mut sup, _) = booted(vec![AppSpec { restart: restart.clone().into(), ..speaking("web") }]);
        step(&mut sup, ms, exited(1, End::Code(1)));
        assert_eq!(status(&sup) == "errored", errs, "{ms}");
    }
}

#[test]
fn a_reload_ends_the_old_run_when_the_new_one_is_ready() {
    let mut sup = reloading();
    assert_eq!((status(&sup), sup.deadline()), ("online", Some(Mono(4_000_000_000))));
    let out = step(&mut sup, 3_001, ready(2));
    assert_eq!((lines(&out)[0].as_str(), stopped(&out)), ("web: online, pid 102", vec![1]));
    let out = step(&mut sup, 3_002, exited(1, End::Code(0)));
    assert_eq!(reply(&out).map(|outcome| outcome.done.len()), Some(1));
}

#[test]
fn a_new_run_that_is_not_ready_in_time_does_not_replace_one_that_works() {
    let mut sup = reloading();
    let out = step(&mut sup, 4_000, Event::Tick);
    assert_eq!(stopped(&out), [2]);
    assert!(lines(&out).contains(&"web: the new process failed, pid 101 goes on: not ready after 1 s".into()));
    let failed = reply(&out).map(|outcome| outcome.failed.clone()).unwrap_or_default();
    assert_eq!(failed, ["web: reload failed: not ready after 1 s; pid 101 goes on".into()]);
    // Too late.
    assert_eq!(step(&mut sup, 4_001, ready(2)), []);
    assert_eq!(step(&mut sup, 4_002, exited(2, End::Signal(Sig::TERM))), []);
    let (_, one) = sup.instances().next().unwrap();
    assert_eq!(
        (one.pid(), one.past.last().map(|past| past.reason.to_string())),
        (101, Some("not ready after 1 s".into()))
    );
}

#[test]
fn a_new_run_that_has_to_stand_in_is_launching_until_it_is_ready() {
    let mut sup = reloading();
    let out = step(&mut sup, 3_500, exited(1, End::Signal(Sig::KILL)));
    assert_eq!(lines(&out), ["web: SIGKILL, its new process takes over at once"]);
    assert_eq!(status(&sup), "launching");
    let out = step(&mut sup, 3_600, ready(2));
    assert_eq!((lines(&out)[0].as_str(), reply(&out).is_some()), ("web: online, pid 102", true));
}

#[test]
fn a_restart_or_reload_of_one_that_prepares_waits_for_its_word() {
    // Said, or never said.
    for (verb, word) in [(Verb::Restart, true), (Verb::Restart, false), (Verb::Reload, true), (Verb::Reload, false)] {
        let (mut sup, _) = booted(vec![speaking("web")]);
        let out = step(&mut sup, 500, ask(verb));
        assert!(reply(&out).is_none() && stopped(&out).is_empty(), "{out:?}");
        let out = if word { step(&mut sup, 900, ready(1)) } else { step(&mut sup, 1_000, Event::Tick) };
        let starts_beside = out.iter().any(|one| matches!(one, Effect::Spawn { run: RunId(2), .. }));
        assert_eq!((verb == Verb::Reload, reply(&out)), (starts_beside, None), "{out:?}");
        let old_goes = |out: &[Effect]| assert_eq!(stopped(out), [1], "{out:?}");
        if verb == Verb::Restart {
            old_goes(&out);
            assert!(reply(&step(&mut sup, 1_001, exited(1, End::Code(0)))).is_none());
            assert!(reply(&step(&mut sup, 1_002, ready(2))).is_some());
        } else {
            old_goes(&step(&mut sup, 1_001, ready(2)));
            assert!(reply(&step(&mut sup, 1_002, exited(1, End::Code(0)))).is_some());
        }
        assert_eq!(status(&sup), "online");
    }
}
