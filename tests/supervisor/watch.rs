//! What becomes of an app whose files have changed.

use pm3::supervisor::Supervisor;
use pm3::supervisor::event::{ClientId, Effect, End, Event, Millis, Mono, Rollout, Sig, Verb, Wish};
use pm3::supervisor::spec::{AppSpec, Restart, RestartPolicy, Watch};

use crate::{app, booted, exited, lines, step};

fn watched(name: &str) -> AppSpec {
    AppSpec { watch: Some(Box::default()), ..app(name) }
}

fn changed(path: &str, at_ms: u64) -> Event {
    Event::FilesChanged { app: "web".into(), path: path.into(), at: Mono(at_ms * 1_000_000) }
}

fn ask(verb: Verb) -> Event {
    Event::Request {
        client: ClientId(1),
        wish: Wish::Operate { verb, targets: vec!["web".into()], shell: None, how: Rollout::default() },
        follows: false,
    }
}

fn said(out: &[Effect]) -> Vec<Box<str>> {
    let outcome =
        |one: &Effect| if let Effect::Reply { outcome, .. } = one { Some(outcome.said.clone()) } else { None };
    out.iter().filter_map(outcome).flatten().collect()
}

fn names(sup: &Supervisor) -> Vec<&str> {
    sup.watched().map(|(app, _)| &*app.name).collect()
}

#[test]
fn one_instance_after_the_other_is_restarted() {
    let (mut sup, _) = booted(vec![AppSpec { instances: 2, ..watched("web") }]);
    let out = step(&mut sup, 5_000, changed("src/index.js", 4_900));
    assert_eq!(lines(&out)[1..], ["web-0: stopping with SIGTERM: watch: src/index.js"]);
    let out = step(&mut sup, 5_001, exited(1, End::Signal(Sig::TERM)));
    let expected = [
        "Spawn { run: RunId(3), instance: InstanceId(0), half: First }",
        "web-0: online, pid 103",
        "Signal { run: RunId(2), sig: Sig(15), scope: Process }",
        "web-1: stopping with SIGTERM: watch: src/index.js",
    ];
    assert_eq!(lines(&out), expected);
    step(&mut sup, 5_002, exited(2, End::Code(0)));
    assert!(sup.instances().all(|(_, one)| one.restarts == 1 && one.is_online()));
}

#[test]
fn a_run_that_began_after_the_change_stays() {
    let (mut sup, _) = booted(vec![watched("web")]);
    step(&mut sup, 5_000, changed("a", 4_900));
    // What it wrote while it stopped is told when the next one runs.
    step(&mut sup, 5_001, exited(1, End::Code(0)));
    assert_eq!(step(&mut sup, 5_150, changed("state.json", 5_000)), []);
    let out = step(&mut sup, 5_200, changed("a", 5_002));
    assert_eq!(lines(&out)[1], "web: stopping with SIGTERM: watch: a");
}

#[test]
fn a_change_while_it_stops_is_seen_by_the_next_run_anyhow() {
    let (mut sup, _) = booted(vec![watched("web")]);
    step(&mut sup, 5_000, changed("a", 4_900));
    assert_eq!(step(&mut sup, 5_001, changed("b", 5_001)), []);
    let out = step(&mut sup, 5_002, exited(1, End::Code(0)));
    assert_eq!(lines(&out), ["Spawn { run: RunId(2), instance: InstanceId(0), half: First }", "web: online, pid 102"]);
}

#[test]
fn what_has_given_up_or_waits_starts_at_once() {
    let policy = |max_restarts, backoff| RestartPolicy { max_restarts, backoff: Millis(backoff), ..Default::default() };
    let done = RestartPolicy { when: Restart::Never, ..Default::default() };
    for (restart, code, before) in
        [(policy(1, 0), 3, "errored"), (policy(16, 9_000), 3, "waiting restart"), (done, 0, "finished")]
    {
        let (mut sup, _) =
            booted(vec![AppSpec { restart: restart.into(), exit_on_error: false, ..watched("web") }, app("other")]);
        step(&mut sup, 5, exited(1, End::Code(code)));
        let status = |sup: &Supervisor| sup.instances().next().map(|(_, one)| one.status());
        assert_eq!(status(&sup), Some(before));
        let out = step(&mut sup, 50, changed("a", 40));
        let lines = lines(&out);
        assert_eq!(lines[0], "web: restarting: watch: a", "{before}");
        assert!(lines[1].starts_with("Spawn"), "{before}: {lines:?}");
        assert_eq!(status(&sup), Some("online"), "{before}");
    }
}

#[test]
fn what_an_operator_stopped_stays_stopped_and_is_not_watched() {
    let (mut sup, _) = booted(vec![watched("web"), app("other")]);
    assert_eq!(names(&sup), ["web"]);
    step(&mut sup, 5, ask(Verb::Stop));
    assert_eq!(names(&sup), [] as [&str; 0]);
    step(&mut sup, 6, exited(1, End::Code(0)));
    assert_eq!(step(&mut sup, 7, changed("a", 7)), []);
    step(&mut sup, 8, ask(Verb::Start));
    assert_eq!(names(&sup), ["web"]);
}

#[test]
fn watching_is_switched_by_hand() {
    let (mut sup, _) = booted(vec![app("web"), AppSpec { watch: Some(Box::default()), ..app("other") }]);
    assert_eq!(names(&sup), ["other"]);
    assert_eq!(step(&mut sup, 1, changed("a", 1)), []);
    let out = step(&mut sup, 2, ask(Verb::Watch));
    assert_eq!(said(&out), ["web: is restarted when its files change".into()]);
    assert_eq!(names(&sup), ["web", "other"]);
    let out = step(&mut sup, 3, ask(Verb::Watch));
    assert_eq!(said(&out), ["web: is not watched any more".into()]);
    assert_eq!(names(&sup), ["other"]);
    assert_eq!(step(&mut sup, 4, changed("a", 4)), []);
}

#[test]
fn what_was_configured_comes_back_with_the_watching() {
    let watch = Watch { ignore: ["logs".into()].into(), ..Watch::default() };
    let (mut sup, _) = booted(vec![AppSpec { watch: Some(Box::new(watch.clone())), ..app("web") }]);
    step(&mut sup, 1, ask(Verb::Watch));
    assert_eq!(names(&sup), [] as [&str; 0]);
    step(&mut sup, 2, ask(Verb::Watch));
    assert_eq!(sup.watched().map(|(_, watch)| watch.clone()).collect::<Vec<_>>(), [watch]);
}

#[test]
fn a_broken_change_does_not_take_down_what_runs() {
    let (mut sup, _) = booted(vec![AppSpec { instances: 2, ..watched("web") }]);
    step(&mut sup, 5_000, changed("a", 4_900));
    // Its program cannot be started any more.
    let mut out = Vec::new();
    sup.step(Mono(5_001_000_000), exited(1, End::Code(0)), &mut out);
    let failure = pm3::supervisor::event::Failure {
        stage: pm3::supervisor::event::Stage::Exec,
        object: "web".into(),
        errno: 2,
        why: "no such file or directory".into(),
        passing: false,
    };
    let out = step(&mut sup, 5_002, Event::SpawnFailed { run: pm3::supervisor::event::RunId(3), failure });
    let last = lines(&out).pop();
    assert_eq!(last.as_deref(), Some("web: the first restarted instance failed, 1 more keep running as they are"));
    // The next save is a new attempt for all of them.
    let out = step(&mut sup, 6_000, changed("a", 5_900));
    assert_eq!(lines(&out)[0], "web-0: restarting: watch: a");
}

#[test]
fn nobody_is_restarted_when_pm3_ends_and_strangers_are_nobody() {
    let (mut sup, _) = booted(vec![watched("web")]);
    let unknown = Event::FilesChanged { app: "gone".into(), path: "a".into(), at: Mono(u64::MAX) };
    assert_eq!(step(&mut sup, 1, unknown), []);
    step(&mut sup, 2, Event::Signal { sig: Sig::TERM, by_kernel: false });
    assert_eq!(step(&mut sup, 3, changed("a", 3)), []);
}

/// A reload of `web`, which is old enough, has started a second run.
fn reloading(web: AppSpec) -> Supervisor {
    let (mut sup, _) = booted(vec![web]);
    crate::step_and(&mut sup, 5_000, ask(Verb::Reload), |one| {
        let Effect::Survey { run } = one else { return None };
        Some(Event::Surveyed { run: *run, obstacle: None })
    });
    assert!(sup.instances().all(|(_, one)| one.successor().is_some()));
    sup
}

#[test]
fn a_change_during_a_reload_ends_nothing_that_works() {
    let mut sup = reloading(watched("web"));
    assert_eq!(step(&mut sup, 5_500, changed("a", 5_400)), []);
    // The one that is on its way has not seen it all; when it has taken over, another follows.
    let out = step(&mut sup, 6_000, Event::Tick);
    assert_eq!(lines(&out)[0], "web: online, pid 102");
    let out = step(&mut sup, 6_001, exited(1, End::Code(0)));
    assert!(lines(&out).iter().any(|line| line.starts_with("Survey")), "{out:?}");
}

#[test]
fn a_change_does_not_make_a_restart_of_a_reload_that_is_to_come() {
    let (mut sup, _) = booted(vec![watched("web")]);
    // Too young to be asked what it listens on.
    assert_eq!(step(&mut sup, 10, ask(Verb::Reload)), []);
    assert_eq!(step(&mut sup, 500, changed("a", 400)), []);
    let out = step(&mut sup, 1_000, Event::Tick);
    assert!(lines(&out)[0].starts_with("Survey"), "{out:?}");
}

#[test]
fn a_change_comes_to_be_whatever_becomes_of_a_request() {
    let (mut sup, _) = booted(vec![app("db"), AppSpec { requires: ["db".into()].into(), ..watched("web") }]);
    step(
        &mut sup,
        1,
        Event::Request {
            client: ClientId(2),
            wish: Wish::Operate { verb: Verb::Stop, targets: vec!["db".into()], shell: None, how: Rollout::default() },
            follows: false,
        },
    );
    step(&mut sup, 2, exited(1, End::Code(0)));
    // Neither can begin without db; the request is told so and called off.
    step(&mut sup, 500, changed("a", 400));
    step(&mut sup, 501, ask(Verb::Restart));
    let out = step(
        &mut sup,
        600,
        Event::Request {
            client: ClientId(3),
            wish: Wish::Operate { verb: Verb::Start, targets: vec!["db".into()], shell: None, how: Rollout::default() },
            follows: false,
        },
    );
    assert!(lines(&out).contains(&"web: stopping with SIGTERM: watch: a".into()), "{out:?}");
}

#[test]
fn a_change_while_the_tree_of_a_crashed_run_is_cleared_starts_it_anew() {
    let never = RestartPolicy { when: Restart::Never, ..Default::default() };
    let (mut sup, _) = booted(vec![AppSpec { restart: never.into(), ..watched("web") }, app("other")]);
    let crash = Event::Exited {
        run: pm3::supervisor::event::RunId(1),
        end: End::Code(1),
        oom: pm3::supervisor::event::Oom::No,
        leftovers: true,
    };
    step(&mut sup, 500, crash);
    let out = step(&mut sup, 700, changed("a", 550));
    assert_eq!(lines(&out), ["web: restarting: watch: a"]);
    let out = step(&mut sup, 800, Event::Cleared { run: pm3::supervisor::event::RunId(1) });
    assert!(lines(&out)[0].starts_with("Spawn"), "{out:?}");
}

#[test]
fn a_change_tells_nobody_who_is_held_by_another_that_he_starts() {
    let never = RestartPolicy { when: Restart::Never, ..Default::default() };
    let db = AppSpec { restart: never.into(), ..app("db") };
    let slow = RestartPolicy { delay: Millis(10), ..Default::default() };
    let web = AppSpec { requires: ["db".into()].into(), restart: slow.into(), ..watched("web") };
    let (mut sup, _) = booted(vec![db, web, app("other")]);
    step(&mut sup, 10, exited(1, End::Code(1)));
    step(&mut sup, 20, exited(3, End::Code(1)));
    step(&mut sup, 30, Event::Tick);
    assert_eq!(sup.instances().nth(1).map(|(_, one)| one.status()), Some("errored"));
    assert_eq!(step(&mut sup, 40, changed("a", 35)), []);
}
