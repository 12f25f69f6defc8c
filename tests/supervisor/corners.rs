//! Corners that the simulation found, each as the shortest story that shows it.

use pm3::supervisor::Supervisor;
use pm3::supervisor::event::{
    ClientId, Count, Effect, End, Event, Failure, InstanceId, Millis, Mono, Oom, Outcome, Rollout, RunId, Scope, Sig,
    Stage, Verb, Wish,
};
use pm3::supervisor::spec::{AppSpec, ExitPolicy, Kind, Restart, RestartPolicy, Settings, Spec, StopPolicy};

use crate::{app, booted, exited, lines, step};

const MS: u64 = 1_000_000;

/// One step in which nothing is confirmed that it asks for.
fn bare(sup: &mut Supervisor, ms: u64, event: Event) -> Vec<Effect> {
    let mut out = Vec::new();
    sup.step(Mono(ms * MS), event, &mut out);
    assert!(sup.deadline().is_none_or(|at| at > Mono(ms * MS)), "the deadline must lie ahead");
    out
}

fn term() -> Event {
    Event::Signal { sig: Sig::TERM, by_kernel: false }
}

fn planned(apps: Vec<AppSpec>) -> Event {
    Event::Planned { spec: Box::new(Spec { apps, ..Spec::default() }) }
}

fn ask(client: u64, verb: Verb, targets: &[&str]) -> Event {
    let targets = targets.iter().map(|target| (*target).into()).collect();
    Event::Request {
        client: ClientId(client),
        wish: Wish::Operate { verb, targets, shell: None, how: Rollout::default() },
        follows: false,
    }
}

fn refused(run: u64, passing: bool) -> Event {
    let failure = Failure { stage: Stage::Fork, object: "".into(), errno: 11, why: "try again".into(), passing };
    Event::SpawnFailed { run: RunId(run), failure }
}

fn requiring(name: &str, other: &str) -> AppSpec {
    AppSpec { requires: [other.into()].into(), ..app(name) }
}

/// The runs that are asked to stop, and the instances that are started.
fn signalled(out: &[Effect]) -> Vec<u64> {
    out.iter().filter_map(|one| if let Effect::Signal { run, .. } = one { Some(run.0) } else { None }).collect()
}

fn spawned(out: &[Effect]) -> Vec<u32> {
    out.iter()
        .filter_map(|one| if let Effect::Spawn { instance, .. } = one { Some(instance.0) } else { None })
        .collect()
}

fn reply(out: &[Effect]) -> Option<&Outcome> {
    out.iter().find_map(|one| if let Effect::Reply { outcome, .. } = one { Some(outcome) } else { None })
}

fn exit(out: &[Effect]) -> Option<u8> {
    out.iter().find_map(|one| if let Effect::Exit { code, .. } = one { Some(*code) } else { None })
}

#[test]
fn an_app_that_comes_back_into_the_file_starts_beside_its_dying_instances() {
    let (mut sup, _) = booted(vec![app("db"), app("web")]);
    step(&mut sup, 1, planned(vec![app("db")]));
    let out = step(&mut sup, 2, planned(vec![app("db"), app("web")]));
    assert_eq!(spawned(&out), [2]);
    step(&mut sup, 3, exited(2, End::Code(0)));
    let ids: Vec<InstanceId> = sup.instances().map(|(_, one)| one.id).collect();
    assert_eq!(ids, [InstanceId(0), InstanceId(2)]);
}

#[test]
fn a_schedule_that_comes_too_late_is_not_waited_for() {
    let nightly = || AppSpec { cron: Some("0 4 * * *".into()), ..app("web") };
    let late = || Event::Scheduled { app: "web".into(), at: Some(Mono(MS)) };
    let (mut sup, _) = booted(vec![nightly(), app("db")]);
    bare(&mut sup, 1, planned(vec![app("web"), app("db")]));
    assert_eq!(bare(&mut sup, 2, late()), []);
    bare(&mut sup, 3, planned(vec![nightly(), app("db")]));
    bare(&mut sup, 4, planned(vec![app("db")]));
    assert_eq!(bare(&mut sup, 5, late()), []);
    bare(&mut sup, 6, term());
    assert_eq!(bare(&mut sup, 7, late()), []);
}

#[test]
fn nobody_waits_for_a_tree_that_may_stay() {
    let stop = StopPolicy { tree: false, ..StopPolicy::default() };
    let (mut sup, _) = booted(vec![AppSpec { stop, ..app("web") }]);
    let out = step(&mut sup, 1, Event::Exited { run: RunId(1), end: End::Code(1), oom: Oom::No, leftovers: true });
    assert_eq!((signalled(&out), spawned(&out)), (vec![], vec![0]));
    assert_eq!(bare(&mut sup, 2, Event::Cleared { run: RunId(1) }), []);
}

#[test]
fn what_is_left_of_a_tree_is_killed_as_a_tree_whatever_the_file_says_by_then() {
    let (mut sup, _) = booted(vec![app("web")]);
    step(&mut sup, 1, Event::Exited { run: RunId(1), end: End::Code(1), oom: Oom::No, leftovers: true });
    let stop = StopPolicy { tree: false, ..StopPolicy::default() };
    step(&mut sup, 2, planned(vec![AppSpec { stop, ..app("web") }]));
    let out = bare(&mut sup, 8_001, Event::Tick);
    assert_eq!(out[0], Effect::Signal { run: RunId(1), sig: Sig::KILL, scope: Scope::Tree });
}

#[test]
fn pm3_ends_with_the_code_of_the_app_that_failed_not_of_one_that_requires_it() {
    let restart = RestartPolicy { when: Restart::Never, ..RestartPolicy::default() };
    let web = AppSpec { exit_on_error: true, ..requiring("web", "db") };
    let (mut sup, _) = booted(vec![web, AppSpec { restart: restart.into(), kind: Kind::Oneshot, ..app("db") }]);
    let out = step(&mut sup, 1, exited(1, End::Code(42)));
    assert!(lines(&out).contains(&"web: errored: requires db".to_owned()), "{out:?}");
    assert_eq!(exit(&bare(&mut sup, 2, Event::Childless)), Some(42));
}

#[test]
fn a_start_that_is_refused_for_now_keeps_the_turn_in_a_rollout() {
    let (mut sup, _) = booted(vec![AppSpec { instances: 2, ..app("web") }]);
    assert_eq!(signalled(&step(&mut sup, 1, ask(1, Verb::Restart, &["web"]))), [1]);
    bare(&mut sup, 2, exited(1, End::Code(0)));
    assert!(signalled(&bare(&mut sup, 3, refused(3, true))).is_empty());
    assert_eq!(spawned(&bare(&mut sup, 103, Event::Tick)), [0]);
    assert_eq!(signalled(&bare(&mut sup, 104, Event::Executed { run: RunId(4) })), [2]);
}

#[test]
fn a_restart_of_everything_goes_in_the_order_of_starting() {
    let (mut sup, _) = booted(vec![requiring("web", "db"), app("db")]);
    assert_eq!(signalled(&step(&mut sup, 1, ask(1, Verb::Restart, &["all"]))), [1]);
    assert_eq!(signalled(&step(&mut sup, 2, exited(1, End::Code(0)))), [2]);
    let out = step(&mut sup, 3, exited(2, End::Code(0)));
    assert_eq!(reply(&out).unwrap().done, ["db".into(), "web".into()]);
}

#[test]
fn who_asks_for_what_waits_for_something_stopped_is_told_so() {
    let chain = vec![requiring("web", "api"), requiring("api", "db"), app("db")];
    let (mut sup, _) = booted(chain);
    step(&mut sup, 1, ask(1, Verb::Stop, &["all"]));
    (1..=3).for_each(|run| drop(step(&mut sup, 2, exited(run, End::Code(0)))));
    let out = step(&mut sup, 3, ask(2, Verb::Start, &["web", "api"]));
    let told = "waits for db, which is not running; start db too";
    assert_eq!(reply(&out).unwrap().failed, [format!("web: {told}").into(), format!("api: {told}").into()]);
}

#[test]
fn a_restart_that_was_said_to_have_failed_does_not_come_later() {
    let web = AppSpec { instances: 2, ..requiring("web", "db") };
    let (mut sup, _) = booted(vec![web, app("db")]);
    assert_eq!(signalled(&step(&mut sup, 1, ask(1, Verb::Restart, &["web"]))), [2]);
    step(&mut sup, 2, ask(2, Verb::Stop, &["db"]));
    step(&mut sup, 3, exited(1, End::Code(0)));
    let out = step(&mut sup, 4, exited(2, End::Code(0)));
    assert_eq!(reply(&out).unwrap().failed.len(), 2, "{out:?}");
    let out = step(&mut sup, 5, ask(3, Verb::Start, &["db"]));
    assert_eq!((spawned(&out), signalled(&out)), (vec![2, 0], vec![]));
}

#[test]
fn a_database_outlives_what_was_started_after_its_migration() {
    let migrate = AppSpec { kind: Kind::Oneshot, ..requiring("migrate", "db") };
    let restart = RestartPolicy { when: Restart::Never, ..RestartPolicy::default() };
    let (mut sup, _) =
        booted(vec![app("db"), AppSpec { restart: restart.into(), ..migrate }, requiring("web", "migrate")]);
    step(&mut sup, 1, exited(2, End::Code(0)));
    assert_eq!(signalled(&step(&mut sup, 2, term())), [3]);
    assert_eq!(signalled(&step(&mut sup, 3, exited(3, End::Code(0)))), [1]);
}

#[test]
fn a_chain_of_required_apps_is_pulled_in_before_anybody_who_comes_after_one() {
    let idle = |app: AppSpec| AppSpec { autostart: false, ..app };
    let log = AppSpec { after: ["db".into()].into(), ..app("log") };
    let (_, out) = booted(vec![log, requiring("web", "api"), idle(requiring("api", "db")), idle(app("db"))]);
    assert_eq!(spawned(&out), [3, 0, 2, 1]);
}

#[test]
fn the_exit_code_says_killed_only_if_somebody_was() {
    let budget = |apps| Spec { apps, settings: Settings { stop_budget: Millis(100), ..Settings::default() } };
    let code = |last_words: Event| {
        let mut sup = Supervisor::new(budget(vec![app("web")]), 1);
        step(&mut sup, 0, Event::Boot);
        step(&mut sup, 1, term());
        // pm3 looks again only after the budget is over.
        step(&mut sup, 200, last_words);
        exit(&bare(&mut sup, 201, Event::Childless)).or_else(|| exit(&bare(&mut sup, 701, Event::Tick)))
    };
    assert_eq!(code(exited(1, End::Code(0))), Some(0));
    assert_eq!(code(Event::Tick), Some(137));
}

#[test]
fn nothing_comes_after_the_exit() {
    let (mut sup, _) = booted(vec![app("web")]);
    step(&mut sup, 1, term());
    step(&mut sup, 2, exited(1, End::Code(0)));
    // So late that the sweep's own grace is over too.
    let out = bare(&mut sup, 60_000, Event::Childless);
    assert!(matches!(out[..], [Effect::Exit { code: 0, .. }]), "{out:?}");
}

#[test]
fn who_insists_waits_for_no_grace_of_strays() {
    let (mut sup, _) = booted(vec![app("web")]);
    step(&mut sup, 1, term());
    step(&mut sup, 2, exited(1, End::Code(0)));
    let interrupt = || Event::Signal { sig: Sig::INT, by_kernel: false };
    assert_eq!(lines(&bare(&mut sup, 3, interrupt())), ["SIGINT again, signalling all apps at once"]);
    assert_eq!(bare(&mut sup, 4, interrupt()), [Effect::Sweep { sig: Sig::KILL }]);
}

#[test]
fn who_decides_that_pm3_ends_does_so_before_anybody_is_restarted() {
    let nightly = AppSpec { cron: Some("0 4 * * *".into()), ..app("web") };
    let main = AppSpec { main: true, ..app("main") };
    let restart = RestartPolicy { when: Restart::Never, ..RestartPolicy::default() };
    let (mut sup, _) = booted(vec![nightly, AppSpec { restart: restart.into(), ..main }]);
    bare(&mut sup, 1, Event::Scheduled { app: "web".into(), at: Some(Mono(5 * MS)) });
    let out = bare(&mut sup, 5, exited(2, End::Code(3)));
    assert_eq!(lines(&out)[3..], ["web: stopping with SIGTERM: shutdown"], "{out:?}");
}

#[test]
fn a_main_app_that_fails_to_start_while_it_is_stopped_says_so() {
    let mut sup = Supervisor::new(Spec { apps: vec![AppSpec { main: true, ..app("web") }], ..Spec::default() }, 1);
    bare(&mut sup, 0, Event::Boot);
    bare(&mut sup, 1, term());
    bare(&mut sup, 2, refused(1, false));
    assert_eq!(exit(&bare(&mut sup, 3, Event::Childless)), Some(126));
}

#[test]
fn a_crash_is_not_held_against_whom_an_operator_starts() {
    let settings = Settings { exit: ExitPolicy::Never, ..Settings::default() };
    let restart = RestartPolicy { max_restarts: 1, ..RestartPolicy::default() };
    let mut sup = Supervisor::new(Spec { apps: vec![AppSpec { restart: restart.into(), ..app("web") }], settings }, 1);
    step(&mut sup, 0, Event::Boot);
    step(&mut sup, 1, Event::Exited { run: RunId(1), end: End::Code(1), oom: Oom::No, leftovers: true });
    step(&mut sup, 2, ask(1, Verb::Start, &["web"]));
    let out = step(&mut sup, 3, Event::Cleared { run: RunId(1) });
    assert_eq!(reply(&out).unwrap().done, ["web".into()]);
    assert!(sup.instances().all(|(_, one)| one.is_online()));
}

#[test]
fn who_asked_to_stop_what_the_file_drops_meanwhile_is_answered() {
    let (mut sup, _) = booted(vec![app("db"), app("web")]);
    step(&mut sup, 1, ask(1, Verb::Stop, &["web"]));
    assert_eq!(reply(&step(&mut sup, 2, planned(vec![app("db")]))), None);
    let out = step(&mut sup, 3, exited(2, End::Code(0)));
    assert_eq!(reply(&out).unwrap().done, ["web".into()]);
}

#[test]
fn more_requests_than_anybody_could_be_waiting_for_are_refused() {
    let mut sup = Supervisor::new(Spec { apps: vec![app("web")], ..Spec::default() }, 1);
    bare(&mut sup, 0, Event::Boot);
    for client in 0..256 {
        assert_eq!(bare(&mut sup, 1, ask(client, Verb::Start, &["web"])), []);
    }
    let out = bare(&mut sup, 1, ask(256, Verb::Start, &["web"]));
    assert_eq!(reply(&out).unwrap().failed, ["too many requests are under way, try again later".into()]);
    bare(&mut sup, 2, Event::ClientGone { client: ClientId(7) });
    assert_eq!(bare(&mut sup, 3, ask(257, Verb::Start, &["web"])), []);
}

#[test]
fn nobody_waits_for_ever_for_what_has_ended() {
    let on_failure = RestartPolicy { when: Restart::OnFailure, ..RestartPolicy::default() };
    let stops = RestartPolicy { stop_exit_codes: vec![3], ..on_failure.clone() };
    let service = AppSpec { restart: on_failure.into(), ..app("db") };
    let oneshot = AppSpec { restart: stops.into(), kind: Kind::Oneshot, ..app("db") };
    for (db, end) in [(service, 0), (oneshot, 3)] {
        let mut sup = Supervisor::new(Spec { apps: vec![db, requiring("web", "db")], ..Spec::default() }, 1);
        bare(&mut sup, 0, Event::Boot);
        let out = bare(&mut sup, 1, exited(1, End::Code(end)));
        assert!(lines(&out).contains(&"web: errored: requires db".to_owned()), "{out:?}");
        assert_eq!(exit(&bare(&mut sup, 2, Event::Childless)), Some(end));
    }
}

#[test]
fn what_the_file_has_dropped_does_not_speak_for_pm3() {
    let (mut sup, _) = booted(vec![AppSpec { main: true, ..app("web") }, app("db")]);
    step(&mut sup, 1, planned(vec![app("db")]));
    step(&mut sup, 2, term());
    step(&mut sup, 3, exited(1, End::Code(7)));
    step(&mut sup, 4, exited(2, End::Code(0)));
    assert_eq!(exit(&bare(&mut sup, 5, Event::Childless)), Some(0));
}

fn scale_all_down(client: u64) -> Event {
    Event::Request {
        client: ClientId(client),
        wish: Wish::Scale { target: "all".into(), to: Count::Down(1) },
        follows: false,
    }
}

fn statuses(sup: &Supervisor) -> Vec<(&str, &str)> {
    sup.instances().map(|(app, one)| (&*app.name, one.status())).collect()
}

/// Two instances of a main app, and what it requires.
fn main_of(db: AppSpec) -> Supervisor {
    let slow = RestartPolicy { delay: Millis(100), ..RestartPolicy::default() };
    booted(vec![AppSpec { main: true, instances: 2, restart: slow.into(), ..requiring("web", "db") }, db]).0
}

#[test]
fn a_failure_that_the_same_request_takes_back_does_not_end_pm3() {
    let never = RestartPolicy { when: Restart::Never, ..RestartPolicy::default() };
    let mut sup = main_of(AppSpec { restart: never.into(), ..app("db") });
    step(&mut sup, 1, exited(1, End::Code(3)));
    step(&mut sup, 2, exited(2, End::Code(1)));
    step(&mut sup, 101, exited(3, End::Code(1)));
    step(&mut sup, 102, Event::Tick);
    assert_eq!(statuses(&sup), [("web", "errored"), ("web", "waiting restart"), ("db", "errored")]);
    // The one that could still come up goes, and so does the reason why the other could not.
    step(&mut sup, 103, scale_all_down(1));
    assert_eq!((sup.is_ending(), statuses(&sup)), (false, vec![("web", "waiting"), ("db", "stopped")]));
}

#[test]
fn a_code_stays_what_it_was_when_the_app_failed() {
    let never = RestartPolicy { when: Restart::Never, ..RestartPolicy::default() };
    let mut sup = main_of(AppSpec { restart: never.into(), instances: 2, ..app("db") });
    step(&mut sup, 1, exited(2, End::Code(3)));
    step(&mut sup, 2, exited(1, End::Code(7)));
    step(&mut sup, 3, ask(1, Verb::Stop, &["1"]));
    step(&mut sup, 4, exited(4, End::Code(0)));
    step(&mut sup, 5, exited(3, End::Code(1)));
    step(&mut sup, 105, Event::Tick);
    assert_eq!(statuses(&sup), [("web", "errored"), ("web", "stopped"), ("db", "errored"), ("db", "errored")]);
    // Of the instances that failed first nothing is left.
    let out = step(&mut sup, 106, scale_all_down(2));
    assert!(lines(&out).contains(&"stopping: web, the main app, ended with 3".into()), "{out:?}");
}

#[test]
fn who_ends_when_its_schedule_starts_it_again_fails_nobody() {
    let restart = RestartPolicy { when: Restart::OnFailure, ..RestartPolicy::default() };
    let db = AppSpec { cron: Some("*/5 * * * * *".into()), restart: restart.into(), instances: 2, ..app("db") };
    for (at, ends) in [(5_000, false), (5_001, true)] {
        let mut sup = Supervisor::new(
            Spec { apps: vec![AppSpec { main: true, ..requiring("web", "db") }, db.clone()], ..Spec::default() },
            1,
        );
        bare(&mut sup, 0, Event::Boot);
        bare(&mut sup, 0, Event::Scheduled { app: "db".into(), at: Some(Mono(at * MS)) });
        bare(&mut sup, 1, refused(1, false));
        bare(&mut sup, 2, Event::Spawned { run: RunId(2), pid: 9 });
        let out = bare(&mut sup, 5_000, exited(2, End::Code(0)));
        assert_eq!((sup.is_ending(), spawned(&out)), (ends, if ends { vec![] } else { vec![1, 2] }), "{out:?}");
    }
}
