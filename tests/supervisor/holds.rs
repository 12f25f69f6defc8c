//! New runs that are held beside the old ones, told step by step: rollback and canary, and all that may come between.

use pm3::supervisor::Supervisor;
use pm3::supervisor::event::{
    Amount, Care, ClientId, Count, Effect, End, Event, Finding, Half, InstanceId, Millis, Mono, Obstacle, Outcome,
    Rollout, RunId, Scope, Sig, Verb, Wish,
};
use pm3::supervisor::spec::{AppSpec, Health, Rare, Ready, Spec, Standby};
use pm3::supervisor::station::Station;

use crate::{app, exited, lines, step_and};

pub(crate) const GROWN: u64 = 1_000;
pub(crate) const PROVEN: u64 = GROWN + 1_000;
pub(crate) const LATER: u64 = 10_000;

fn step_with(sup: &mut Supervisor, ms: u64, event: Event, obstacle: Option<Obstacle>) -> Vec<Effect> {
    // The state goes on after packing, at any moment.
    let packed = serde_json::to_string(sup).unwrap();
    *sup = serde_json::from_str(&packed).unwrap();
    step_and(sup, ms, event, |effect| {
        let Effect::Survey { run } = effect else { return None };
        Some(Event::Surveyed { run: *run, obstacle: obstacle.clone() })
    })
}

pub(crate) fn step(sup: &mut Supervisor, ms: u64, event: Event) -> Vec<Effect> {
    step_with(sup, ms, event, None)
}

pub(crate) fn booted(app: AppSpec) -> Supervisor {
    let mut sup = Supervisor::new(Spec { apps: vec![app], ..Spec::default() }, 1);
    step(&mut sup, 0, Event::Boot);
    sup
}

pub(crate) fn web(instances: u32) -> AppSpec {
    let mut web = AppSpec { instances, ..app("web") };
    web.launch.script = "/bin/web".into();
    web
}

/// The same with other arguments.
pub(crate) fn changed(instances: u32) -> AppSpec {
    let mut web = web(instances);
    web.launch.args = ["--new".into()].into();
    web
}

pub(crate) fn wish(wish: Wish) -> Event {
    Event::Request { client: ClientId(7), wish, follows: false }
}

pub(crate) fn ask(verb: Verb, care: Option<Care>) -> Event {
    let how = Rollout { care, parallel: None };
    wish(Wish::Operate { verb, targets: vec!["web".into()], shell: None, how })
}

pub(crate) fn bring(app: AppSpec, care: Option<Care>) -> Event {
    wish(Wish::Apply { verb: Verb::Reload, apps: vec![app], renew: false, how: Rollout { care, parallel: None } })
}

pub(crate) const ROLLBACK: Option<Care> = Some(Care::Rollback);
pub(crate) const CANARY: Option<Care> = Some(Care::Canary(Amount::Percent(5)));

pub(crate) fn replies(out: &[Effect]) -> Vec<&Outcome> {
    out.iter().filter_map(|one| if let Effect::Reply { outcome, .. } = one { Some(outcome) } else { None }).collect()
}

/// What was refused or failed, of the one reply.
pub(crate) fn failed(out: &[Effect]) -> Vec<String> {
    let found = replies(out);
    assert_eq!(found.len(), 1, "{out:?}");
    found[0].failed.iter().map(ToString::to_string).collect()
}

pub(crate) fn stopped(out: &[Effect]) -> Vec<u64> {
    let run = |one: &Effect| {
        if let Effect::Signal { run, scope: Scope::Process, .. } = one { Some(run.0) } else { None }
    };
    out.iter().filter_map(run).collect()
}

pub(crate) fn spawned(out: &[Effect]) -> Vec<u64> {
    out.iter().filter_map(|one| if let Effect::Spawn { run, .. } = one { Some(run.0) } else { None }).collect()
}

/// The stations of each instance's own half and of the other one.
fn stations(sup: &Supervisor) -> Vec<(Station, Station)> {
    sup.instances().map(|(_, one)| (one.station(one.half), one.station(one.half.other()))).collect()
}

fn pids(sup: &Supervisor) -> Vec<u32> {
    sup.instances().map(|(_, one)| one.pid()).collect()
}

/// The arguments with which this run was started.
pub(crate) fn args(sup: &Supervisor, run: u64) -> String {
    sup.of_run(RunId(run)).unwrap().0.launch.args.join(" ")
}

/// Two instances whose new runs, 3 and 4, are held, one after the other, so that all are decided about at `PROVEN + 1_000`.
fn rolling_back(next: Option<AppSpec>) -> Supervisor {
    let mut sup = booted(web(2));
    let event = next.map_or_else(|| ask(Verb::Reload, ROLLBACK), |next| bring(next, ROLLBACK));
    assert_eq!(spawned(&step(&mut sup, GROWN, event)), [3]);
    let out = step(&mut sup, PROVEN, Event::Tick);
    assert_eq!((spawned(&out), stopped(&out)), (vec![4], vec![]));
    assert_eq!(lines(&out)[0], "web-0: the new process, pid 103, serves and is held beside pid 101");
    sup
}

#[test]
fn with_rollback_all_new_runs_take_over_at_once() {
    let mut sup = rolling_back(None);
    // The new one serves in place of the old one, which is kept.
    assert_eq!(stations(&sup), [(Station::Aside, Station::Serving), (Station::Serving, Station::Aside)]);
    let out = step(&mut sup, PROVEN + 1_000, Event::Tick);
    assert_eq!((stopped(&out), replies(&out).len()), (vec![1, 2], 0));
    assert_eq!(pids(&sup), [103, 104]);
    step(&mut sup, PROVEN + 1_001, exited(1, End::Code(0)));
    let out = step(&mut sup, PROVEN + 1_002, exited(2, End::Code(0)));
    assert_eq!(replies(&out)[0].done, ["web-0".into(), "web-1".into()]);
    // And it is a matter of the past.
    assert_eq!(spawned(&step(&mut sup, LATER, ask(Verb::Reload, None))), [5]);
}

#[test]
fn with_rollback_one_that_fails_takes_all_new_runs_back() {
    for next in [None, Some(changed(2))] {
        let mut sup = rolling_back(next.clone());
        let out = step(&mut sup, PROVEN + 10, exited(4, End::Code(7)));
        assert_eq!(stopped(&out), [3]);
        assert!(
            lines(&out).contains(&"web: 1 new process is taken back, the old ones go on: reload failed: exit 7".into())
        );
        assert_eq!(
            failed(&out),
            ["web-0: reload failed: taken back; pid 101 goes on", "web-1: reload failed: exit 7; pid 102 goes on"]
        );
        assert_eq!(stations(&sup), [(Station::Serving, Station::Aside), (Station::Serving, Station::Gone)]);
        step(&mut sup, PROVEN + 20, exited(3, End::Code(0)));
        assert_eq!((pids(&sup), sup.deadline()), (vec![101, 102], None));
        // Nothing of a changed entry has come into force: who ends comes back as it was.
        let out = step(&mut sup, LATER, exited(1, End::Code(1)));
        assert_eq!((spawned(&out), args(&sup, 5)), (vec![5], String::new()));
    }
}

#[test]
fn a_changed_entry_comes_into_force_when_all_have_taken_over() {
    let mut sup = rolling_back(Some(changed(3)));
    assert_eq!((args(&sup, 1), args(&sup, 3)), (String::new(), "--new".into()));
    let out = step(&mut sup, PROVEN + 1_000, Event::Tick);
    // The third instance, which the entry asks for, comes now.
    assert_eq!((stopped(&out), spawned(&out)), (vec![1, 2], vec![5]));
    assert_eq!((args(&sup, 5), sup.apps()[0].spec.instances), ("--new".into(), 3));
    step(&mut sup, PROVEN + 1_001, exited(1, End::Code(0)));
    let out = step(&mut sup, PROVEN + 1_002, exited(2, End::Code(0)));
    assert_eq!((replies(&out)[0].failed.len(), spawned(&out)), (0, vec![]));
}

#[test]
fn what_cannot_be_beside_another_is_not_held() {
    let mut sup = booted(web(2));
    let out = step_with(&mut sup, GROWN, ask(Verb::Reload, ROLLBACK), Some(Obstacle::Port(3000)));
    let told = "reload failed: it owns port 3000, so no new process can be beside it; pid 101 goes on";
    assert_eq!(failed(&out)[0], format!("web-0: {told}"));
    assert_eq!((spawned(&out), stopped(&out), pids(&sup)), (vec![], vec![], vec![101, 102]));
    let mut sup = booted(AppSpec { overlap: Some(false), ..web(1) });
    let out = step(&mut sup, GROWN, ask(Verb::Reload, CANARY));
    assert_eq!(failed(&out), ["web: overlap is off, so no new process can be beside an old one; reload it as usual"]);
    step(&mut sup, GROWN, ask(Verb::Stop, None));
    let mut sup = booted(web(1));
    step(&mut sup, GROWN, ask(Verb::Stop, None));
    step(&mut sup, GROWN + 1, exited(1, End::Code(0)));
    let out = step(&mut sup, GROWN + 2, ask(Verb::Reload, CANARY));
    assert_eq!(failed(&out), ["web: does not run, so there is nothing to hold; `pm3 start web` starts it"]);
}

#[test]
fn who_is_so_young_that_it_does_not_listen_yet_is_waited_for() {
    for care in [ROLLBACK, CANARY] {
        for owned in [false, true] {
            let mut sup = booted(web(2));
            let listening = |run| Event::Listening { run: RunId(run) };
            assert_eq!(spawned(&step(&mut sup, 10, ask(Verb::Reload, care))), [0; 0]);
            // What it owns is known when it listens, or when it has lived for long enough.
            let out = step_with(&mut sup, 20, listening(1), owned.then_some(Obstacle::Port(3000)));
            if owned {
                let told = "reload failed: it owns port 3000, so no new process can be beside it; pid 101 goes on";
                assert_eq!(failed(&out)[0], format!("web-0: {told}"));
                assert_eq!((spawned(&out), stopped(&out), pids(&sup)), (vec![], vec![], vec![101, 102]));
                continue;
            }
            assert_eq!((spawned(&out), stopped(&out)), (vec![3], vec![]));
            assert_eq!(stopped(&step(&mut sup, 30, listening(2))), [0; 0]);
            let out = step(&mut sup, 40, listening(3));
            assert_eq!(lines(&out)[0], "web-0: the new process, pid 103, serves and is held beside pid 101");
            let out = step(&mut sup, 50, exited(if care == CANARY { 3 } else { 4 }, End::Code(7)));
            // The old ones are there.
            assert_eq!((spawned(&out), pids(&sup)), (vec![], vec![101, 102]), "{care:?}");
            assert!(lines(&out).iter().any(|line| line.contains("the old ones go on")), "{out:?}");
        }
    }
}

#[test]
fn what_else_wants_a_new_run_of_one_that_is_waited_for_does_not_end_it_first() {
    let at = Mono(5_000_000_000);
    let changed = Event::FilesChanged { app: "web".into(), path: "index.js".into(), at };
    let big = Event::Usage { run: RunId(1), bytes: 30 << 20 };
    for care in [ROLLBACK, CANARY] {
        for event in [changed.clone(), big.clone()] {
            let mut sup = booted(AppSpec { watch: Some(Box::default()), memory_limit: Some(20 << 20), ..web(1) });
            step(&mut sup, 10, ask(Verb::Reload, care));
            assert_eq!(stopped(&step(&mut sup, 20, event)), [0; 0]);
            let out = step(&mut sup, 30, Event::Listening { run: RunId(1) });
            assert_eq!((spawned(&out), stopped(&out)), (vec![2], vec![]));
        }
    }
}

#[test]
fn who_is_not_ready_yet_is_waited_for_and_nobody_waits_for_one_that_never_is() {
    let booted = || {
        let mut web = web(1);
        web.launch.rare = Some(Rare { ready: Ready::Message, ..Rare::default() }.into());
        let mut sup = Supervisor::new(Spec { apps: vec![web, app("other")], ..Spec::default() }, 1);
        step(&mut sup, 0, Event::Boot);
        sup
    };
    for care in [ROLLBACK, CANARY] {
        let mut sup = booted();
        assert_eq!(spawned(&step(&mut sup, 10, ask(Verb::Reload, care))), [0; 0]);
        assert_eq!(spawned(&step(&mut sup, GROWN, Event::Ready { run: RunId(1) })), [3]);
        let mut sup = booted();
        step(&mut sup, 10, ask(Verb::Reload, care));
        let mut out = Vec::new();
        for run in [1].into_iter().chain(3..=17) {
            out = step(&mut sup, 10 + run, exited(run, End::Code(7)));
        }
        assert_eq!((failed(&out), sup.apps()[0].hold.is_none()), (vec!["web: exit 7".to_owned()], true));
    }
}

/// So many instances, of which the first has its new run held with 5 %.
pub(crate) fn sampling(instances: u32, next: Option<AppSpec>) -> Supervisor {
    let mut sup = booted(web(instances));
    let event = next.map_or_else(|| ask(Verb::Reload, CANARY), |next| bring(next, CANARY));
    let new = u64::from(instances) + 1;
    assert_eq!(spawned(&step(&mut sup, GROWN, event)), [new]);
    let out = step(&mut sup, PROVEN, Event::Tick);
    assert_eq!((replies(&out)[0].done.len(), stopped(&out), sup.deadline()), (1, vec![], None));
    sup
}

#[test]
fn a_canary_waits_for_a_decision() {
    let sup = sampling(3, None);
    assert_eq!(stations(&sup)[0], (Station::Serving, Station::Sampling(5)));
    assert_eq!(stations(&sup)[1], (Station::Serving, Station::Gone));
    // Of one alone, too; and a number of instances is that number, and shares as any other.
    assert_eq!(stations(&sampling(1, None)), [(Station::Serving, Station::Sampling(5))]);
    let mut sup = booted(web(3));
    step(&mut sup, GROWN, ask(Verb::Reload, Some(Care::Canary(Amount::Count(2)))));
    step(&mut sup, PROVEN, Event::Tick);
    let out = step(&mut sup, PROVEN + 1_000, Event::Tick);
    let said = "web: 2 of 3 instances have a new process beside the old one, which shares no port of pm3's with it, and \
                gets what it gets; `pm3 reload web --promote` goes on, `pm3 reload web --abort` takes it back";
    assert_eq!((replies(&out)[0].done.len(), &*replies(&out)[0].said), (2, &[said.into()][..]));
    assert_eq!(stations(&sup)[1], (Station::Serving, Station::Serving));
}

#[test]
fn a_promoted_canary_takes_over_and_the_others_follow() {
    for next in [None, Some(changed(3))] {
        let mut sup = sampling(3, next.clone());
        let out = step(&mut sup, LATER, ask(Verb::Promote, None));
        assert_eq!((stopped(&out), spawned(&out), pids(&sup)[0]), (vec![1], vec![], 104));
        let out = step(&mut sup, LATER + 1, exited(1, End::Code(0)));
        assert_eq!(spawned(&out), [5]);
        assert_eq!(stopped(&step(&mut sup, LATER + 1_001, Event::Tick)), [2]);
        assert_eq!(spawned(&step(&mut sup, LATER + 1_002, exited(2, End::Code(0)))), [6]);
        step(&mut sup, LATER + 2_002, Event::Tick);
        let out = step(&mut sup, LATER + 2_003, exited(3, End::Code(0)));
        assert_eq!((replies(&out)[0].done.len(), replies(&out)[0].failed.len()), (3, 0));
        let expected = if next.is_some() { "--new" } else { "" };
        assert_eq!([4, 5, 6].map(|run| args(&sup, run)), [expected; 3]);
    }
}

#[test]
fn an_aborted_canary_leaves_all_as_it_was() {
    for next in [None, Some(changed(3))] {
        let mut sup = sampling(3, next);
        let out = step(&mut sup, LATER, ask(Verb::Abort, None));
        assert_eq!((stopped(&out), replies(&out).len()), (vec![4], 0));
        let out = step(&mut sup, LATER + 1, exited(4, End::Code(0)));
        assert_eq!((replies(&out)[0].done.len(), failed(&out).len()), (1, 0));
        assert_eq!((pids(&sup), args(&sup, 1)), (vec![101, 102, 103], String::new()));
        assert_eq!(sup.apps()[0].spec, web(3));
    }
}

#[test]
fn a_canary_that_ends_or_is_not_well_is_taken_back_by_itself() {
    let mut sup = sampling(3, Some(changed(3)));
    let out = step(&mut sup, LATER, exited(4, End::Signal(Sig(11))));
    assert!(lines(&out).contains(&"web: nothing new is left, the old ones go on: reload failed: SIGSEGV".into()));
    assert_eq!((pids(&sup), sup.apps()[0].hold.is_none()), (vec![101, 102, 103], true));
    let out = step(&mut sup, LATER + 1, ask(Verb::Promote, None));
    let told = "web: nothing is held; `pm3 reload web --canary 5%` holds new processes beside the old ones";
    assert_eq!(failed(&out), [told]);

    let health = Some(Box::new(Health { retries: 1, ..Health::default() }));
    let mut sup = booted(AppSpec { health, ..web(2) });
    step(&mut sup, GROWN, ask(Verb::Reload, CANARY));
    step(&mut sup, PROVEN, Event::Tick);
    let out = step(&mut sup, GROWN + 30_000, Event::Tick);
    assert!(out.contains(&Effect::Probe { run: RunId(3) }), "{out:?}");
    let ill = Event::Probed { run: RunId(3), finding: Finding::Ill("refused".into()) };
    let out = step(&mut sup, GROWN + 30_001, ill);
    assert_eq!((stopped(&out), pids(&sup)), (vec![3], vec![101, 102]));
    assert!(lines(&out).iter().any(|line| line.ends_with("the old ones go on: unhealthy: refused")), "{out:?}");
}

#[test]
fn the_old_run_of_a_canary_may_end_and_the_new_one_takes_over() {
    let mut sup = sampling(2, Some(changed(2)));
    let out = step(&mut sup, LATER, exited(1, End::Code(1)));
    assert_eq!((lines(&out)[0].as_str(), spawned(&out)), ("web-0: exit 1, its new process takes over at once", vec![]));
    // It is not decided yet: who was not tried comes back as it was, and so does this one after all.
    let out = step(&mut sup, LATER + 1, exited(2, End::Code(1)));
    assert_eq!((spawned(&out), args(&sup, 4), args(&sup, 3)), (vec![4], String::new(), "--new".into()));
    let out = step(&mut sup, LATER + 2_000, ask(Verb::Abort, None));
    assert_eq!((spawned(&out), args(&sup, 5)), (vec![5], String::new()));
    step(&mut sup, LATER + 3_000, Event::Tick);
    let out = step(&mut sup, LATER + 3_001, exited(3, End::Code(0)));
    assert_eq!(replies(&out)[0].done.len(), 1);
    assert_eq!(pids(&sup), [105, 104]);
}

#[test]
fn other_orders_in_the_midst_are_refused_or_do_what_they_say() {
    for order in
        [ask(Verb::Reload, None), ask(Verb::Restart, None), ask(Verb::Reload, ROLLBACK), bring(changed(3), None)]
    {
        let mut sup = sampling(3, None);
        let told = "web: new processes are held beside the old ones; `pm3 reload web --promote` goes on with them, \
                    `pm3 reload web --abort` takes them back";
        let out = step(&mut sup, LATER, order);
        assert_eq!((failed(&out), spawned(&out), stopped(&out)), (vec![told.to_owned()], vec![], vec![]));
    }
    let mut sup = sampling(3, None);
    // It goes on while the app grows and shrinks.
    let scale = |count| wish(Wish::Scale { target: "web".into(), to: Count::Exactly(count) });
    assert_eq!(spawned(&step(&mut sup, LATER, scale(4))), [5]);
    assert_eq!(stopped(&step(&mut sup, LATER + 1, scale(2))), [5, 3]);
    assert_eq!(stations(&sup)[0], (Station::Serving, Station::Sampling(5)));
    // Both runs of one that is stopped, and with the last that is held it is over.
    assert_eq!(stopped(&step(&mut sup, LATER + 2, ask(Verb::Stop, None))), [1, 4, 2]);
    assert!(sup.apps()[0].hold.is_none());
}

#[test]
fn a_file_that_says_something_else_takes_a_canary_back() {
    let plan = |app: AppSpec| Event::Planned { spec: Box::new(Spec { apps: vec![app], ..Spec::default() }) };
    let mut sup = sampling(2, Some(changed(2)));
    for same in [web(2), changed(2)] {
        let out = step(&mut sup, LATER, plan(same));
        assert_eq!((spawned(&out), stopped(&out), sup.apps()[0].hold.is_some()), (vec![], vec![], true));
    }
    let mut other = web(2);
    other.launch.args = ["--other".into()].into();
    let out = step(&mut sup, LATER + 1, plan(other));
    assert_eq!((stopped(&out), sup.apps()[0].hold.is_none()), (vec![3], true));
    // The other instance has its turn already.
    assert_eq!((spawned(&out), args(&sup, 4)), (vec![4], "--other".into()));
}

#[test]
fn pm3_takes_all_with_it() {
    let mut sup = sampling(1, None);
    let out = step(&mut sup, LATER, Event::Signal { sig: Sig::TERM, by_kernel: false });
    assert_eq!(stopped(&out), [2, 1]);
}

#[test]
fn a_rollback_that_is_under_way_can_be_taken_back() {
    let mut sup = rolling_back(None);
    let out = step(&mut sup, PROVEN + 1, ask(Verb::Promote, None));
    assert!(failed(&out)[0].starts_with("web: a reload with --rollback is under way"), "{out:?}");
    let out = step(&mut sup, PROVEN + 2, ask(Verb::Abort, None));
    assert_eq!(stopped(&out), [3, 4]);
    let half = sup.instances().next().unwrap().1.half;
    assert_eq!(half, Half::First);
}

#[test]
fn who_only_wants_it_to_run_does_not_wait_for_a_decision() {
    let mut sup = sampling(2, None);
    assert_eq!(replies(&step(&mut sup, LATER, ask(Verb::Start, None)))[0].done.len(), 2);
    let same = Wish::Apply { verb: Verb::Start, apps: vec![web(2)], renew: false, how: Rollout::default() };
    assert_eq!(replies(&step(&mut sup, LATER + 1, wish(same)))[0].done.len(), 2);
}

#[test]
fn a_canary_has_a_memory_limit_too() {
    let mut sup = booted(AppSpec { memory_limit: Some(20 << 20), ..web(2) });
    step(&mut sup, GROWN, ask(Verb::Reload, CANARY));
    let out = step(&mut sup, PROVEN, Event::Tick);
    let sampled =
        |out: &[Effect]| out.iter().any(|one| matches!(one, Effect::Sample { runs } if runs.contains(&RunId(3))));
    assert!(sampled(&out) || sampled(&step(&mut sup, PROVEN + 1_000, Event::Tick)));
    let out = step(&mut sup, LATER, Event::Usage { run: RunId(3), bytes: 30 << 20 });
    assert_eq!((stopped(&out), pids(&sup)), (vec![3], vec![101, 102]));
    assert!(lines(&out).iter().any(|line| line.ends_with("the old ones go on: memory 30M over 20M")), "{out:?}");
}

#[test]
fn files_that_change_while_a_canary_is_held_are_seen_by_its_new_run() {
    let watch = Some(Box::default());
    let mut sup = booted(AppSpec { watch, ..web(1) });
    step(&mut sup, GROWN, ask(Verb::Reload, CANARY));
    step(&mut sup, PROVEN, Event::Tick);
    let at = Mono(LATER * 1_000_000);
    step(&mut sup, LATER, Event::FilesChanged { app: "web".into(), path: "index.js".into(), at });
    step(&mut sup, LATER + 1, ask(Verb::Promote, None));
    let out = step(&mut sup, LATER + 2, exited(1, End::Code(0)));
    assert_eq!(spawned(&out), [3]);
}

/// Two instances with these, and whether they listen; the first one's new run, 3, is held.
fn minded(care: Option<Care>, listens: bool) -> Supervisor {
    let mut web = AppSpec { memory_limit: Some(20 << 20), cron: Some("0 3 * * *".into()), ..web(2) };
    web.launch.rare = Some(Rare { watchdog: Some(Millis(60_000)), ..Rare::default() }.into());
    let mut sup = booted(web);
    let listening = |run| Event::Listening { run: RunId(run) };
    [1, 2].into_iter().filter(|_| listens).for_each(|run| drop(step(&mut sup, 1, listening(run))));
    assert_eq!(spawned(&step(&mut sup, GROWN, ask(Verb::Reload, care))), [3]);
    let out = if listens { step(&mut sup, PROVEN, listening(3)) } else { step(&mut sup, PROVEN, Event::Tick) };
    assert_eq!(lines(&out)[0], "web-0: the new process, pid 103, serves and is held beside pid 101");
    sup
}

/// What is wrong with the first run, and how that is told.
fn ailments() -> [(Event, &'static str); 2] {
    let run = RunId(1);
    [
        (Event::Usage { run, bytes: 30 << 20 }, "memory 30M over 20M"),
        (Event::Heartbeat { run, well: false }, "watchdog: it asked for a restart"),
    ]
}

#[test]
fn an_old_process_that_is_not_well_takes_a_canary_back_and_is_replaced() {
    for (event, why) in ailments() {
        let told = format!("the old ones go on: the old process of web-0 is to be replaced: {why}");
        let mut sup = minded(CANARY, false);
        let out = step(&mut sup, LATER, event.clone());
        assert!(lines(&out).iter().any(|line| line.ends_with(&told)), "{out:?}");
        assert_eq!((stopped(&out), sup.apps()[0].hold.is_none()), (vec![3, 1], true));
        step(&mut sup, LATER + 1, exited(1, End::Code(0)));
        assert_eq!(spawned(&step(&mut sup, LATER + 2, exited(3, End::Code(0)))), [4]);
        // Clients would miss it, so it serves until the next one does.
        let mut sup = minded(CANARY, true);
        let out = step(&mut sup, LATER, event);
        assert!(lines(&out).iter().any(|line| line.ends_with(&told)), "{out:?}");
        assert!(out.contains(&Effect::Drain { run: RunId(3) }));
        assert_eq!(stopped(&step(&mut sup, LATER + 1, Event::Drained { run: RunId(3) })), [3]);
        assert_eq!(spawned(&step(&mut sup, LATER + 2, exited(3, End::Code(0)))), [4]);
        let out = step(&mut sup, LATER + 3, Event::Listening { run: RunId(4) });
        assert!(out.contains(&Effect::Drain { run: RunId(1) }));
    }
}

#[test]
fn an_old_process_that_is_not_well_hinders_no_reload_that_replaces_it() {
    for (event, _) in ailments() {
        // All of it worked, and that was it.
        let mut sup = minded(ROLLBACK, false);
        assert_eq!(stopped(&step(&mut sup, PROVEN + 1, event.clone())), [0; 0]);
        assert_eq!(stopped(&step(&mut sup, PROVEN + 1_000, Event::Tick)), [1, 2]);
        step(&mut sup, PROVEN + 1_001, exited(1, End::Code(0)));
        let out = step(&mut sup, PROVEN + 1_002, exited(2, End::Code(0)));
        assert_eq!((replies(&out)[0].done.len(), spawned(&out), stopped(&out)), (2, vec![], vec![]));
        // It did not, and the old one is what it was.
        let mut sup = minded(ROLLBACK, false);
        step(&mut sup, PROVEN + 1, event);
        assert_eq!(stopped(&step(&mut sup, PROVEN + 2, exited(4, End::Code(7)))), [3, 1]);
        step(&mut sup, PROVEN + 3, exited(1, End::Code(0)));
        assert_eq!(spawned(&step(&mut sup, PROVEN + 4, exited(3, End::Code(0)))), [5]);
    }
}

#[test]
fn a_schedule_comes_for_the_old_process_of_a_canary_when_that_is_decided() {
    for verb in [Verb::Abort, Verb::Promote] {
        let mut sup = minded(CANARY, false);
        let at = Mono(LATER * 1_000_000);
        step(&mut sup, LATER - 1, Event::Scheduled { app: "web".into(), at: Some(at) });
        // The other one has its turn.
        assert_eq!(stopped(&step(&mut sup, LATER, Event::Tick)), [2]);
        assert_eq!(spawned(&step(&mut sup, LATER + 1, exited(2, End::Code(0)))), [4]);
        let out = step(&mut sup, LATER + 2_000, ask(verb, None));
        if verb == Verb::Abort {
            assert_eq!(stopped(&out), [3, 1]);
            step(&mut sup, LATER + 2_001, exited(1, End::Code(0)));
            assert_eq!(spawned(&step(&mut sup, LATER + 2_002, exited(3, End::Code(0)))), [5]);
        } else {
            assert_eq!(stopped(&out), [1]);
            // As it was begun before the one that is promoted.
            let out = step(&mut sup, LATER + 2_001, exited(1, End::Code(0)));
            assert_eq!((spawned(&out), sup.instances().next().unwrap().1.roll.is_some()), (vec![5], false));
        }
    }
}

/// An instance and a spare that stands by.
fn spared(care: Option<Care>) -> Supervisor {
    let standby = Some(Box::new(Standby { count: 1, ..Standby::default() }));
    let mut sup = booted(AppSpec { standby, ..web(1) });
    step(&mut sup, 1, Event::Listening { run: RunId(1) });
    step(&mut sup, 2, Event::StandsBy { run: RunId(2) });
    let out = step(&mut sup, GROWN, ask(Verb::Reload, care));
    assert_eq!((spawned(&out), replies(&out).len()), (vec![3], 0));
    sup
}

#[test]
fn a_spare_is_no_part_of_a_canary_and_follows_when_it_is_promoted() {
    let mut sup = spared(CANARY);
    let out = step(&mut sup, PROVEN, Event::Listening { run: RunId(3) });
    let said = "web: 1 of 1 instance has a new process beside the old one, with 5 % of new connections; \
                `pm3 reload web --promote` goes on, `pm3 reload web --abort` takes it back";
    assert_eq!((replies(&out)[0].done.len(), &*replies(&out)[0].said), (1, &[said.into()][..]));
    let spare = |sup: &Supervisor| sup.instances().find(|(_, one)| one.spare).unwrap().1.pid();
    assert_eq!(spare(&sup), 102);
    let out = step(&mut sup, LATER, ask(Verb::Promote, None));
    // What it would take over is not what it was started for.
    assert_eq!((stopped(&out), spare(&sup)), (vec![2], 102));
    assert_eq!(spawned(&step(&mut sup, LATER + 1, exited(2, End::Code(0)))), [4]);
    step(&mut sup, LATER + 2, Event::StandsBy { run: RunId(4) });
    step(&mut sup, LATER + 3, Event::Drained { run: RunId(1) });
    let out = step(&mut sup, LATER + 4, exited(1, End::Code(0)));
    assert_eq!((replies(&out)[0].done.len(), replies(&out)[0].failed.len()), (2, 0));
}

#[test]
fn the_new_process_of_a_canary_comes_before_a_spare_when_the_old_one_ends() {
    let mut sup = spared(CANARY);
    step(&mut sup, PROVEN, Event::Listening { run: RunId(3) });
    let out = step(&mut sup, LATER, exited(1, End::Code(1)));
    assert_eq!(lines(&out)[0], "web-0: exit 1, its new process takes over at once");
    // That one has failed, and is not tried any more.
    let out = step(&mut sup, LATER + 1, exited(3, End::Code(1)));
    assert!(out.contains(&Effect::TakeOver { run: RunId(2), from: InstanceId(0), half: Half::Second }), "{out:?}");
    assert!(lines(&out).iter().any(|line| line.ends_with("a spare has taken the place of web-0")), "{out:?}");
    assert!(sup.apps()[0].hold.is_none());
}

#[test]
fn who_wants_care_hears_of_a_spare_that_took_over_before_there_was_anything_to_hold() {
    for care in [ROLLBACK, CANARY] {
        let standby = Some(Box::new(Standby { count: 1, ..Standby::default() }));
        let mut sup = booted(AppSpec { standby, ..web(1) });
        step(&mut sup, 2, Event::StandsBy { run: RunId(2) });
        step(&mut sup, 3, ask(Verb::Reload, care));
        let out = step(&mut sup, 4, exited(1, End::Signal(Sig::KILL)));
        assert_eq!((failed(&out), spawned(&out)), (vec!["web-0: a spare has taken its place".into()], vec![3]));
        assert!(sup.apps()[0].hold.is_none());
    }
}
