//! Probes and heartbeats, told step by step: when a run is looked at, what makes it unhealthy, and what comes of that.

use pm3::supervisor::Supervisor;
use pm3::supervisor::checkup::Condition;
use pm3::supervisor::event::{Effect, End, Event, Finding, Millis, Mono, RunId, Scope, Sig};
use pm3::supervisor::spec::{AppSpec, Health, Launch, Rare, Ready, Spec};

use crate::{app, booted, exited, lines, step};

/// Probed every ten seconds; three failures are too many. Two runs of it may be there at once.
fn probed(health: Health) -> AppSpec {
    AppSpec { overlap: Some(true), health: Some(Box::new(health)), ..app("web") }
}

fn usual() -> Health {
    Health { interval: Millis(10_000), ..Health::default() }
}

fn finds(run: u64, finding: Finding) -> Event {
    Event::Probed { run: RunId(run), finding }
}

fn ill(run: u64) -> Event {
    finds(run, Finding::Ill("status 503".into()))
}

fn probe(run: u64) -> Effect {
    Effect::Probe { run: RunId(run) }
}

fn due_ms(sup: &Supervisor) -> Option<u64> {
    sup.deadline().map(|Mono(at)| at / 1_000_000)
}

fn condition(sup: &Supervisor, run: u64) -> Option<(Condition, u32)> {
    sup.checkup(RunId(run)).map(|checkup| (checkup.condition, checkup.failed))
}

fn starts(out: &[Effect]) -> Vec<u64> {
    out.iter().filter_map(|one| if let Effect::Spawn { run, .. } = one { Some(run.0) } else { None }).collect()
}

fn stopped(out: &[Effect]) -> Vec<u64> {
    let run =
        |one: &Effect| if let Effect::Signal { run, scope: Scope::Process, .. } = one { Some(run.0) } else { None };
    out.iter().filter_map(run).collect()
}

#[test]
fn it_is_looked_at_an_interval_after_the_start_and_after_each_probe() {
    let (mut sup, out) = booted(vec![probed(usual())]);
    assert!(!out.contains(&probe(1)), "{out:?}");
    assert_eq!((due_ms(&sup), condition(&sup, 1)), (Some(10_000), Some((Condition::Starting, 0))));
    assert_eq!(step(&mut sup, 10_000, Event::Tick), [probe(1)]);
    // One at a time, however long it takes.
    assert_eq!((step(&mut sup, 25_000, Event::Tick), due_ms(&sup)), (vec![], None));
    assert_eq!(step(&mut sup, 26_000, finds(1, Finding::Well)), []);
    assert_eq!((due_ms(&sup), condition(&sup, 1)), (Some(36_000), Some((Condition::Healthy, 0))));
    // Nobody has asked for this one.
    assert_eq!((step(&mut sup, 27_000, ill(1)), condition(&sup, 1)), (vec![], Some((Condition::Healthy, 0))));
}

#[test]
fn so_many_failures_in_a_row_get_it_a_new_run() {
    let (mut sup, _) = booted(vec![probed(usual())]);
    let mut at = 0;
    let mut look = |sup: &mut Supervisor, event: Event| {
        at += 10_000;
        step(sup, at, Event::Tick);
        step(sup, at, event)
    };
    for event in [ill(1), ill(1), finds(1, Finding::Well), ill(1), finds(1, Finding::Unknown("no fork".into())), ill(1)]
    {
        assert_eq!(look(&mut sup, event), []);
    }
    assert_eq!(condition(&sup, 1), Some((Condition::Healthy, 2)));
    let out = look(&mut sup, ill(1));
    assert_eq!(
        lines(&out).iter().filter(|line| line.starts_with("web")).take(2).collect::<Vec<_>>(),
        [
            "web: unhealthy after 3 probes: status 503",
            "web: starting a new process beside pid 101: unhealthy: status 503"
        ]
    );
    assert_eq!((starts(&out), condition(&sup, 1)), (vec![2], Some((Condition::Unhealthy, 3))));
}

#[test]
fn what_a_probe_found_of_a_run_that_is_gone_says_nothing() {
    let (mut sup, _) = booted(vec![probed(usual())]);
    step(&mut sup, 10_000, Event::Tick);
    step(&mut sup, 10_001, exited(1, End::Code(1)));
    assert_eq!(condition(&sup, 1), None);
    assert_eq!((step(&mut sup, 10_002, ill(1)), condition(&sup, 2)), (vec![], Some((Condition::Starting, 0))));
}

#[test]
fn failures_in_the_start_period_do_not_count_unless_it_was_well_before() {
    let health = Health { start_period: Millis(30_000), start_interval: Millis(2_000), retries: 1, ..usual() };
    let (mut sup, _) = booted(vec![probed(health.clone())]);
    for second in [2, 4, 6] {
        assert_eq!(due_ms(&sup), Some(second * 1_000));
        assert_eq!(step(&mut sup, second * 1_000, Event::Tick), [probe(1)]);
        assert_eq!(
            (step(&mut sup, second * 1_000, ill(1)), condition(&sup, 1)),
            (vec![], Some((Condition::Starting, 0)))
        );
    }
    step(&mut sup, 8_000, Event::Tick);
    step(&mut sup, 8_000, finds(1, Finding::Well));
    // From now on at its usual pace, and every failure counts.
    assert_eq!(step(&mut sup, 18_000, Event::Tick), [probe(1)]);
    assert_eq!(starts(&step(&mut sup, 18_001, ill(1))), [2]);

    let (mut sup, _) = booted(vec![probed(health)]);
    step(&mut sup, 2_000, Event::Tick);
    assert_eq!(starts(&step(&mut sup, 30_000, ill(1))), [2]);
}

#[test]
fn a_reload_that_fails_is_tried_again_later_and_the_old_run_goes_on() {
    let (mut sup, _) = booted(vec![probed(Health { retries: 1, interval: Millis(5_000), ..usual() })]);
    step(&mut sup, 5_000, Event::Tick);
    assert_eq!(starts(&step(&mut sup, 5_000, ill(1))), [2]);
    step(&mut sup, 5_500, exited(2, End::Code(1)));
    for (second, begun) in [(10, vec![]), (15, vec![]), (20, vec![]), (25, vec![3])] {
        step(&mut sup, second * 1_000, Event::Tick);
        assert_eq!(starts(&step(&mut sup, second * 1_000, ill(1))), begun, "{second}");
    }
    // It is looked at all the same, and may get well again.
    step(&mut sup, 25_500, exited(3, End::Code(1)));
    step(&mut sup, 30_000, Event::Tick);
    assert_eq!(lines(&step(&mut sup, 30_001, finds(1, Finding::Well))), ["web: healthy again"]);
}

fn ready_when_healthy() -> AppSpec {
    let rare = Rare { ready: Ready::Healthy, listen_timeout: Some(Millis(4_000)), ..Rare::default() };
    AppSpec { launch: Launch { rare: Some(Box::new(rare)), ..Launch::default() }, ..probed(usual()) }
}

#[test]
fn where_the_first_good_probe_is_what_makes_it_ready_it_is_looked_at_at_once() {
    let (mut sup, out) = booted(vec![ready_when_healthy()]);
    assert!(out.contains(&probe(1)), "{out:?}");
    let mut at = 1;
    for pause in [100, 200, 400, 800] {
        // Nothing counts before it is ready.
        assert_eq!((step(&mut sup, at, ill(1)), condition(&sup, 1)), (vec![], Some((Condition::Starting, 0))));
        at += pause;
        assert_eq!((due_ms(&sup), step(&mut sup, at, Event::Tick)), (Some(at), vec![probe(1)]));
    }
    assert_eq!(lines(&step(&mut sup, at, finds(1, Finding::Well))), ["web: online, pid 101"]);
    assert_eq!((due_ms(&sup), condition(&sup, 1)), (Some(at + 10_000), Some((Condition::Healthy, 0))));

    // The next run is looked at before it takes over, and the old one meanwhile.
    let out = step(&mut sup, at, Event::FilesChanged { app: "web".into(), path: "x".into(), at: Mono(u64::MAX) });
    assert_eq!(starts(&out), [] as [u64; 0]);
    let verb = pm3::supervisor::event::Verb::Reload;
    let wish = pm3::supervisor::event::Wish::Operate {
        verb,
        targets: vec!["web".into()],
        shell: None,
        how: pm3::supervisor::event::Rollout::default(),
    };
    let out = step(&mut sup, at, Event::Request { client: Default::default(), wish, follows: false });
    assert!(out.contains(&probe(2)), "{out:?}");
    assert_eq!(stopped(&step(&mut sup, at + 1, finds(2, Finding::Well))), [1]);
    assert_eq!((condition(&sup, 1), condition(&sup, 2)), (None, Some((Condition::Healthy, 0))));
}

#[test]
fn a_new_run_that_never_gets_well_does_not_replace_one_that_works() {
    let (mut sup, _) = booted(vec![ready_when_healthy()]);
    step(&mut sup, 1, finds(1, Finding::Well));
    let verb = pm3::supervisor::event::Verb::Reload;
    let wish = pm3::supervisor::event::Wish::Operate {
        verb,
        targets: vec!["web".into()],
        shell: None,
        how: pm3::supervisor::event::Rollout::default(),
    };
    step(&mut sup, 2, Event::Request { client: Default::default(), wish, follows: false });
    step(&mut sup, 3, ill(2));
    assert_eq!(stopped(&step(&mut sup, 4_002, Event::Tick)), [2]);
    assert_eq!(condition(&sup, 1), Some((Condition::Healthy, 0)));
}

fn watched() -> AppSpec {
    let rare = Rare { watchdog: Some(Millis(2_000)), ..Rare::default() };
    let launch = Launch { rare: Some(Box::new(rare)), ..Launch::default() };
    AppSpec { overlap: Some(true), launch, ..app("web") }
}

fn heartbeat(well: bool) -> Event {
    Event::Heartbeat { run: RunId(1), well }
}

#[test]
fn one_that_does_not_say_that_it_is_alive_is_replaced() {
    let (mut sup, _) = booted(vec![watched()]);
    assert_eq!(due_ms(&sup), Some(2_000));
    assert_eq!((step(&mut sup, 1_999, heartbeat(true)), due_ms(&sup)), (vec![], Some(3_999)));
    let out = step(&mut sup, 3_999, Event::Tick);
    assert_eq!(lines(&out)[1..2], ["web: starting a new process beside pid 101: watchdog: no heartbeat for 2 s"]);
    assert_eq!(starts(&out), [2]);
    assert_eq!(stopped(&step(&mut sup, 4_999, Event::Tick)), [1]);
    step(&mut sup, 5_000, exited(1, End::Signal(Sig::TERM)));
    // The new one has its own time, and nobody hears one that is not there.
    assert_eq!((step(&mut sup, 5_001, heartbeat(true)), due_ms(&sup)), (vec![], Some(5_999)));
}

#[test]
fn nobody_is_silent_because_pm3_was_away() {
    let (mut sup, _) = booted(vec![watched()]);
    step(&mut sup, 1_000, heartbeat(true));
    // A container that was paused for a minute; others' news come first.
    assert_eq!((step(&mut sup, 63_000, Event::ClockChanged), due_ms(&sup)), (vec![], Some(65_000)));
    assert_eq!((step(&mut sup, 64_000, heartbeat(true)), due_ms(&sup)), (vec![], Some(66_000)));
    // Again, and it says nothing any more: however late pm3 always is, it is found out.
    assert_eq!((step(&mut sup, 67_000, Event::Tick), due_ms(&sup)), (vec![], Some(69_000)));
    assert_eq!(starts(&step(&mut sup, 70_000, Event::Tick)), [2]);
}

#[test]
fn one_that_says_that_it_is_not_well_is_replaced_at_once() {
    let (mut sup, _) = booted(vec![watched()]);
    let out = step(&mut sup, 100, heartbeat(false));
    assert_eq!(starts(&out), [2]);
    assert!(lines(&out).iter().any(|line| line.ends_with("watchdog: it asked for a restart")), "{out:?}");
    // Once is enough.
    assert_eq!(step(&mut sup, 101, heartbeat(false)), []);
}

#[test]
fn nobody_is_looked_at_any_more_when_pm3_ends() {
    let both = AppSpec { health: Some(Box::new(usual())), ..watched() };
    let (mut sup, _) = booted(vec![both]);
    step(&mut sup, 1, Event::Signal { sig: Sig::TERM, by_kernel: false });
    assert_eq!(condition(&sup, 1), None);
    // The end of its grace.
    assert_eq!(due_ms(&sup), Some(8_001));
}

/// Two instances, of which the second has to wait until the first has its new run.
fn two(app: AppSpec) -> AppSpec {
    AppSpec { overlap: None, instances: 2, ..app }
}

fn gone(run: u64) -> Event {
    exited(run, End::Signal(Sig::TERM))
}

#[test]
fn one_that_gets_well_before_its_turn_is_left_alone() {
    let (mut sup, _) = booted(vec![two(probed(Health { retries: 1, interval: Millis(5_000), ..usual() }))]);
    step(&mut sup, 5_000, Event::Tick);
    assert_eq!(stopped(&step(&mut sup, 5_000, ill(1))), [1]);
    assert_eq!(stopped(&step(&mut sup, 5_000, ill(2))), [] as [u64; 0], "it is not its turn");
    step(&mut sup, 10_000, Event::Tick);
    step(&mut sup, 10_000, finds(2, Finding::Well));
    let out = step(&mut sup, 10_001, gone(1));
    assert_eq!((starts(&out), stopped(&out)), (vec![3], vec![]));
}

#[test]
fn what_is_due_besides_comes_although_it_gets_well() {
    let probed = probed(Health { retries: 1, interval: Millis(5_000), ..usual() });
    let (mut sup, _) = booted(vec![two(AppSpec { cron: Some("0 * * * *".into()), ..probed })]);
    step(&mut sup, 1, Event::Scheduled { app: "web".into(), at: Some(Mono(7_000_000_000)) });
    step(&mut sup, 5_000, Event::Tick);
    assert_eq!(stopped(&step(&mut sup, 5_000, ill(1))), [1]);
    step(&mut sup, 5_000, ill(2));
    step(&mut sup, 7_000, Event::Tick);
    step(&mut sup, 10_000, Event::Tick);
    step(&mut sup, 10_000, finds(2, Finding::Well));
    let out = step(&mut sup, 10_001, gone(1));
    assert_eq!((starts(&out), stopped(&out)), (vec![3], vec![2]));
    assert!(lines(&out).contains(&"web-1: stopping with SIGTERM: cron".into()), "{out:?}");
}

#[test]
fn a_heartbeat_in_time_for_its_turn_keeps_it_unless_it_wants_to_go() {
    for (wants_to_go, after) in [(false, vec![]), (true, vec![2])] {
        let (mut sup, _) = booted(vec![two(watched())]);
        assert_eq!(stopped(&step(&mut sup, 2_000, Event::Tick)), [1]);
        if wants_to_go {
            step(&mut sup, 2_001, Event::Heartbeat { run: RunId(2), well: false });
        }
        step(&mut sup, 2_002, Event::Heartbeat { run: RunId(2), well: true });
        assert_eq!(stopped(&step(&mut sup, 2_003, gone(1))), after);
    }
}

#[test]
fn there_are_never_two_probes_of_a_run_whatever_becomes_of_its_entry() {
    let plan = |app| Event::Planned { spec: Box::new(Spec { apps: vec![app], ..Spec::default() }) };
    let (mut sup, _) = booted(vec![probed(usual())]);
    assert_eq!(step(&mut sup, 10_000, Event::Tick), [probe(1)]);
    step(&mut sup, 10_100, plan(AppSpec { health: None, ..probed(usual()) }));
    assert_eq!(condition(&sup, 1), Some((Condition::Starting, 0)), "its answer is still to come");
    let out = step(&mut sup, 10_200, plan(probed(usual())));
    assert!(!out.contains(&probe(1)), "{out:?}");
    step(&mut sup, 10_300, finds(1, Finding::Well));
    assert_eq!((due_ms(&sup), condition(&sup, 1)), (Some(20_300), Some((Condition::Healthy, 0))));
}

#[test]
fn an_ailment_that_nobody_asks_about_any_more_replaces_nobody() {
    let health = Health { retries: 1, interval: Millis(5_000), ..usual() };
    let plan = |app| Event::Planned { spec: Box::new(Spec { apps: vec![app], ..Spec::default() }) };
    let (mut sup, _) = booted(vec![two(probed(health.clone()))]);
    step(&mut sup, 5_000, Event::Tick);
    step(&mut sup, 5_000, ill(1));
    step(&mut sup, 5_000, ill(2));
    step(&mut sup, 5_001, plan(two(AppSpec { health: None, ..probed(health) })));
    let out = step(&mut sup, 5_002, gone(1));
    assert_eq!((starts(&out), stopped(&out)), (vec![3], vec![]));
}

#[test]
fn a_failure_that_does_not_count_makes_nobody_unhealthy() {
    let health = Health { interval: Millis(5_000), start_interval: Millis(5_000), ..usual() };
    let (mut sup, _) = booted(vec![probed(health.clone())]);
    for at in [5_000, 10_000] {
        step(&mut sup, at, Event::Tick);
        step(&mut sup, at, ill(1));
    }
    assert_eq!(condition(&sup, 1), Some((Condition::Starting, 2)));
    let longer = probed(Health { retries: 2, start_period: Millis(60_000), ..health });
    step(&mut sup, 10_001, Event::Planned { spec: Box::new(Spec { apps: vec![longer], ..Spec::default() }) });
    step(&mut sup, 15_000, Event::Tick);
    assert_eq!((starts(&step(&mut sup, 15_000, ill(1))), condition(&sup, 1)), (vec![], Some((Condition::Starting, 2))));
}
