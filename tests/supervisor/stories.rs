//! A few short stories, one for each thing that a supervisor must not get wrong. The long ones are in `tests/sim`.

use pm3::supervisor::Supervisor;
use pm3::supervisor::event::{ClientId, Effect, End, Event, Millis, Mono, Rollout, RunId, Scope, Sig, Verb, Wish};
use pm3::supervisor::spec::{AppSpec, Spec};

use crate::{app, booted, exited, lines, step};

fn ask(client: u64, verb: Verb, targets: Vec<Box<str>>) -> Event {
    Event::Request {
        client: ClientId(client),
        wish: Wish::Operate { verb, targets, shell: None, how: Rollout::default() },
        follows: false,
    }
}

#[test]
fn a_crashed_app_runs_again_at_once() {
    let (mut sup, out) = booted(vec![app("web")]);
    assert_eq!(lines(&out), ["Spawn { run: RunId(1), instance: InstanceId(0), half: First }", "web: online, pid 101"]);
    let out = step(&mut sup, 5, exited(1, End::Code(1)));
    let expected = [
        "web: restarting: exit 1",
        "Spawn { run: RunId(2), instance: InstanceId(0), half: First }",
        "web: online, pid 102",
    ];
    assert_eq!(lines(&out), expected);
}

#[test]
fn a_term_that_everyone_gets_is_a_stop_and_not_a_crash() {
    let (mut sup, _) = booted(vec![app("web")]);
    assert!(step(&mut sup, 5, exited(1, End::Signal(Sig::TERM))).is_empty());
    let out = step(&mut sup, 9, Event::Signal { sig: Sig::TERM, by_kernel: false });
    assert_eq!(lines(&out), ["stopping: SIGTERM", "web: stopped", "Sweep { sig: Sig(15) }"]);
    let out = step(&mut sup, 10, Event::Childless);
    assert_eq!(out, [Effect::Exit { code: 0, reason: "SIGTERM".into() }]);
}

#[test]
fn apps_stop_in_reverse_order() {
    let web = AppSpec { after: ["db".into()].into(), ..app("web") };
    let (mut sup, out) = booted(vec![web, app("db")]);
    assert_eq!(lines(&out)[0], "web: waiting for db");
    let out = step(&mut sup, 5, Event::Signal { sig: Sig::INT, by_kernel: false });
    let signalled = |out: &[Effect]| {
        let run = |effect: &Effect| {
            if let Effect::Signal { run, scope: Scope::Process, .. } = effect { Some(run.0) } else { None }
        };
        out.iter().filter_map(run).collect::<Vec<_>>()
    };
    assert_eq!(signalled(&out), [2]);
    assert_eq!(signalled(&step(&mut sup, 6, exited(2, End::Code(0)))), [1]);
}

#[test]
fn a_restart_is_answered_when_the_new_run_is_online() {
    let (mut sup, _) = booted(vec![AppSpec { instances: 2, ..app("web") }]);
    let ask = ask(7, Verb::Restart, vec!["web".into(), "wbe".into()]);
    let replies = |out: &[Effect]| out.iter().filter(|one| matches!(one, Effect::Reply { .. })).count();
    assert_eq!(replies(&step(&mut sup, 5, ask)), 0);
    assert_eq!(replies(&step(&mut sup, 6, exited(1, End::Code(0)))), 0);
    let out = step(&mut sup, 7, exited(2, End::Code(0)));
    let outcome = out.iter().find_map(|one| if let Effect::Reply { outcome, .. } = one { Some(outcome) } else { None });
    let outcome = outcome.unwrap();
    assert_eq!(outcome.done, ["web-0".into(), "web-1".into()]);
    assert_eq!(outcome.failed, ["wbe: no such app, namespace or id; did you mean web?".into()]);
}

#[test]
fn over_its_memory_limit_it_is_restarted_for_that_reason() {
    let limited = AppSpec { memory_limit: Some(20 << 20), ..app("web") };
    let (mut sup, _) = booted(vec![limited]);
    assert_eq!(sup.deadline(), Some(Mono(0).after(Millis(1_000).span())));
    assert_eq!(step(&mut sup, 1_000, Event::Tick), [Effect::Sample { runs: vec![RunId(1)] }]);
    let out = step(&mut sup, 1_001, Event::Usage { run: RunId(1), bytes: 24_222_106 });
    assert_eq!(lines(&out)[1], "web: stopping with SIGTERM: memory 23.1M over 20M");
}

#[test]
fn the_state_survives_packing() {
    let (mut sup, _) = booted(vec![app("web")]);
    step(&mut sup, 5, exited(1, End::Code(1)));
    let packed = serde_json::to_string(&sup).unwrap();
    assert_eq!(serde_json::from_str::<Supervisor>(&packed).unwrap(), sup);
}

#[test]
fn a_target_counts_once_and_a_few_unknown_ones_are_guessed() {
    let (mut sup, _) = booted(vec![app("worker")]);
    let unknown: Vec<Box<str>> = (0..10).map(|n| format!("workr{n}").into()).collect();
    let targets = [&["all".into(), "worker".into(), "all".into()][..], &unknown, &unknown].concat();
    let out = step(&mut sup, 5_000, ask(1, Verb::Start, targets));
    let Some(Effect::Reply { outcome, .. }) = out.last() else { panic!("no answer: {out:?}") };
    assert_eq!(outcome.done, ["worker".into()]);
    assert_eq!(outcome.failed.len(), 10);
    let guessed: Vec<bool> = outcome.failed.iter().map(|line| line.ends_with("did you mean worker?")).collect();
    assert_eq!(guessed, [[true; 8].as_slice(), &[false; 2]].concat(), "{outcome:?}");
}

#[test]
fn an_app_that_is_on_its_way_out_is_not_suggested() {
    let (mut sup, _) = booted(vec![app("web"), app("worker")]);
    step(&mut sup, 1, Event::Planned { spec: Box::new(Spec { apps: vec![app("worker")], ..Spec::default() }) });
    let out = step(&mut sup, 2, ask(1, Verb::Stop, vec!["web".into()]));
    let Some(Effect::Reply { outcome, .. }) = out.last() else { panic!("no answer: {out:?}") };
    assert_eq!(outcome.failed, ["web: no such app, namespace or id; `pm3 list` shows what there is".into()]);
}
