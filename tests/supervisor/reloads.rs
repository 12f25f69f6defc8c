//! Reloads, told step by step: a new run beside the old one, and what becomes of either.

use pm3::supervisor::Supervisor;
use pm3::supervisor::event::{
    ClientId, Count, Effect, End, Event, Half, Millis, Mono, Obstacle, Oom, Outcome, Rollout, RunId, Scope, Sig, Verb,
    Wish,
};
use pm3::supervisor::reload::Manner;
use pm3::supervisor::spec::{AppSpec, Kind, Restart, RestartPolicy, Spec, StopPolicy};
use pm3::supervisor::station::Station;

use crate::{app, exited, lines, step_and};

/// Old enough to be asked what it listens on, and a whole second later.
const GROWN: u64 = 1_000;
const PROVEN: u64 = GROWN + 1_000;

/// One step in which only starts are confirmed, and questions about sockets are answered: nothing is in the way.
fn step(sup: &mut Supervisor, ms: u64, event: Event) -> Vec<Effect> {
    step_with(sup, ms, event, None)
}

fn step_with(sup: &mut Supervisor, ms: u64, event: Event, obstacle: Option<Obstacle>) -> Vec<Effect> {
    step_and(sup, ms, event, |effect| {
        let Effect::Survey { run } = effect else { return None };
        Some(Event::Surveyed { run: *run, obstacle: obstacle.clone() })
    })
}

fn booted(apps: Vec<AppSpec>) -> Supervisor {
    let mut sup = Supervisor::new(Spec { apps, ..Spec::default() }, 1);
    step(&mut sup, 0, Event::Boot);
    sup
}

fn ask(verb: Verb, target: &str) -> Event {
    let wish = Wish::Operate { verb, targets: vec![target.into()], shell: None, how: Rollout::default() };
    Event::Request { client: ClientId(verb as u64), wish, follows: false }
}

fn reload(target: &str) -> Event {
    ask(Verb::Reload, target)
}

fn replies(out: &[Effect]) -> Vec<&Outcome> {
    out.iter().filter_map(|one| if let Effect::Reply { outcome, .. } = one { Some(outcome) } else { None }).collect()
}

fn stopped(out: &[Effect]) -> Vec<u64> {
    let run = |one: &Effect| {
        if let Effect::Signal { run, scope: Scope::Process, .. } = one { Some(run.0) } else { None }
    };
    out.iter().filter_map(run).collect()
}

fn spawned(out: &[Effect]) -> Vec<(u64, Half)> {
    out.iter()
        .filter_map(|one| if let Effect::Spawn { run, half, .. } = one { Some((run.0, *half)) } else { None })
        .collect()
}

#[test]
fn the_new_run_proves_itself_before_the_old_one_is_ended() {
    let mut sup = booted(vec![app("web")]);
    let out = step(&mut sup, GROWN, reload("web"));
    assert_eq!((spawned(&out), stopped(&out)), (vec![(2, Half::Second)], vec![]));
    assert_eq!(sup.deadline(), Some(Mono(PROVEN * 1_000_000)));
    let out = step(&mut sup, PROVEN, Event::Tick);
    assert_eq!(lines(&out)[0], "web: online, pid 102");
    assert_eq!((stopped(&out), replies(&out).len()), (vec![1], 0));
    let out = step(&mut sup, PROVEN + 1, exited(1, End::Code(0)));
    assert_eq!(replies(&out)[0].done, ["web".into()]);
    let (_, one) = sup.instances().next().unwrap();
    assert_eq!((one.restarts, one.pid(), one.second.is_none()), (1, 102, true));
    // The next one goes back to the first half.
    let out = step(&mut sup, 2 * PROVEN, reload("web"));
    assert_eq!(spawned(&out), [(3, Half::First)]);
}

#[test]
fn a_new_run_that_ends_leaves_the_old_ones_as_they_are() {
    let mut sup = booted(vec![AppSpec { instances: 3, ..app("web") }]);
    step(&mut sup, GROWN, reload("web"));
    let out = step(&mut sup, GROWN + 10, exited(4, End::Code(7)));
    assert!(stopped(&out).is_empty());
    let failed = &replies(&out)[0].failed;
    assert_eq!(&*failed[0], "web-0: reload failed: exit 7; pid 101 goes on");
    assert_eq!(
        failed[1..],
        ["web-1", "web-2"]
            .map(|who| { format!("{who}: keeps running as it is, another instance failed to restart").into() })
    );
    assert_eq!(sup.deadline(), None);
    // Another try is another try.
    let out = step(&mut sup, GROWN + 20, reload("web"));
    assert_eq!(spawned(&out), [(5, Half::Second)]);
}

#[test]
fn a_port_has_one_owner() {
    let mut sup = booted(vec![AppSpec { instances: 2, ..app("web") }]);
    let port = Some(Obstacle::Port(3000));
    let out = step_with(&mut sup, GROWN, reload("web"), port.clone());
    assert_eq!((spawned(&out), stopped(&out)), (vec![], vec![1]));
    step_with(&mut sup, GROWN + 1, exited(1, End::Code(0)), port.clone());
    let out = step_with(&mut sup, GROWN + 2, exited(2, End::Code(0)), port);
    let told = "web: it owns port 3000, so the old process was ended first";
    assert_eq!((replies(&out)[0].done.len(), &*replies(&out)[0].said), (2, &[told.into()][..]));
}

#[test]
fn a_run_that_has_just_begun_is_given_the_time_to_bind_its_port() {
    let mut sup = booted(vec![app("web")]);
    assert_eq!(step(&mut sup, 1, reload("web")), []);
    assert_eq!(sup.deadline(), Some(Mono(GROWN * 1_000_000)));
    let out = step(&mut sup, GROWN, Event::Tick);
    assert_eq!(out[0], Effect::Survey { run: RunId(1) });
}

#[test]
fn jobs_and_apps_that_say_so_do_not_overlap() {
    let never = RestartPolicy { when: Restart::Never, ..RestartPolicy::default() };
    for (app, why) in [
        (AppSpec { kind: Kind::Oneshot, ..app("web") }, "it runs to its end"),
        (AppSpec { restart: never.into(), ..app("web") }, "it runs to its end"),
        (AppSpec { overlap: Some(false), ..app("web") }, "overlap is off"),
    ] {
        let mut sup = booted(vec![app]);
        assert_eq!(stopped(&step(&mut sup, GROWN, reload("web"))), [1]);
        let out = step(&mut sup, GROWN + 1, exited(1, End::Code(0)));
        let told = format!("web: {why}, so the old process is ended first");
        assert_eq!(replies(&out)[0].said, [told.into()]);
    }
    // Nobody is asked where the entry says that it may, and the new run comes first for a schedule, too.
    let mut sup = booted(vec![AppSpec { overlap: Some(true), cron: Some("0 4 * * *".into()), ..app("web") }]);
    let out = step(&mut sup, 5, Event::Scheduled { app: "web".into(), at: Some(Mono(5_000_000)) });
    assert_eq!((spawned(&out), stopped(&out)), (vec![(2, Half::Second)], vec![]));
}

#[test]
fn whoever_ends_during_a_reload_is_followed_at_once() {
    let mut sup = booted(vec![app("web")]);
    step(&mut sup, GROWN, reload("web"));
    let out = step(&mut sup, GROWN + 1, exited(1, End::Signal(Sig::KILL)));
    assert_eq!(lines(&out)[..2], ["web: SIGKILL, its new process takes over at once", "web: online, pid 102"]);
    assert_eq!(replies(&out)[0].done, ["web".into()]);
    // It is the app's run now, and its crash is one.
    let out = step(&mut sup, GROWN + 2, exited(2, End::Code(1)));
    assert_eq!(lines(&out)[0], "web: restarting: exit 1");
    assert_eq!(spawned(&out), [(3, Half::Second)]);
}

#[test]
fn a_restart_a_stop_and_a_delete_end_both_runs() {
    for verb in [Verb::Restart, Verb::Stop, Verb::Delete] {
        let mut sup = booted(vec![app("web"), app("db")]);
        step(&mut sup, GROWN, reload("web"));
        assert_eq!(stopped(&step(&mut sup, GROWN + 1, ask(verb, "web"))), [1, 3], "{verb:?}");
        let out = step(&mut sup, GROWN + 2, exited(1, End::Code(0)));
        assert!(spawned(&out).is_empty() && replies(&out).is_empty(), "{verb:?}: {out:?}");
        let out = step(&mut sup, GROWN + 3, exited(3, End::Code(0)));
        let runs = spawned(&out).len();
        assert_eq!((runs, replies(&out)[0].done.len()), (usize::from(verb == Verb::Restart), 1), "{verb:?}");
    }
}

#[test]
fn pm3_takes_both_with_it_and_nobody_takes_over_meanwhile() {
    let api = AppSpec { requires: ["web".into()].into(), ..app("api") };
    let mut sup = booted(vec![app("web"), api]);
    step(&mut sup, GROWN, reload("web"));
    // The new run goes at once; the old one is needed by `api` until that is gone.
    let out = step(&mut sup, GROWN + 1, Event::Signal { sig: Sig::TERM, by_kernel: false });
    assert_eq!(stopped(&out), [3, 2]);
    assert!(stopped(&step(&mut sup, PROVEN, exited(3, End::Code(0)))).is_empty());
    assert_eq!(stopped(&step(&mut sup, PROVEN + 1, exited(2, End::Code(0)))), [1]);
    let out = step(&mut sup, PROVEN + 2, exited(1, End::Code(0)));
    assert_eq!(lines(&out), ["web: stopped", "Sweep { sig: Sig(15) }"]);
}

#[test]
fn a_second_reload_comes_after_the_first() {
    let mut sup = booted(vec![app("web")]);
    step(&mut sup, GROWN, reload("web"));
    assert_eq!(spawned(&step(&mut sup, GROWN + 1, ask(Verb::Reload, "0"))), []);
    step(&mut sup, PROVEN, Event::Tick);
    let out = step(&mut sup, PROVEN + 1, exited(1, End::Code(0)));
    assert_eq!((replies(&out).len(), spawned(&out)), (1, vec![(3, Half::First)]));
    step(&mut sup, PROVEN + 1_001, Event::Tick);
    assert_eq!(replies(&step(&mut sup, PROVEN + 1_002, exited(2, End::Code(0)))).len(), 1);
}

#[test]
fn what_a_reload_leaves_behind_is_killed_like_any_other() {
    let stop = StopPolicy { timeout: Millis(100), ..StopPolicy::default() };
    let mut sup = booted(vec![AppSpec { stop, ..app("web") }]);
    step(&mut sup, GROWN, reload("web"));
    step(&mut sup, PROVEN, Event::Tick);
    let out = step(&mut sup, PROVEN + 100, Event::Tick);
    assert_eq!(out[0], Effect::Signal { run: RunId(1), sig: Sig::KILL, scope: Scope::Tree });
    assert_eq!(replies(&step(&mut sup, PROVEN + 101, exited(1, End::Signal(Sig::KILL)))).len(), 1);
}

#[test]
fn a_memory_limit_is_not_answered_with_one_failing_start_after_the_other() {
    let limited = AppSpec { memory_limit: Some(20 << 20), overlap: Some(true), ..app("web") };
    let mut sup = booted(vec![limited]);
    let over = |sup: &mut Supervisor, ms| step(sup, ms, Event::Usage { run: RunId(1), bytes: 30 << 20 });
    assert_eq!(spawned(&over(&mut sup, 10)).len(), 1);
    step(&mut sup, 20, exited(2, End::Code(1)));
    assert_eq!(spawned(&over(&mut sup, 15_019)), []);
    assert_eq!(spawned(&over(&mut sup, 15_020)).len(), 1);
}

#[test]
fn a_changed_entry_that_does_not_start_takes_nothing_down() {
    let mut sup = booted(vec![app("web")]);
    let mut changed = app("web");
    changed.launch.args = ["--new".into()].into();
    let planned = Event::Planned { spec: Box::new(Spec { apps: vec![changed], ..Spec::default() }) };
    assert_eq!(spawned(&step(&mut sup, GROWN, planned)).len(), 1);
    let out = step(&mut sup, GROWN + 1, exited(2, End::Code(1)));
    assert_eq!(lines(&out), ["web: the new process failed, pid 101 goes on: exit 1"]);
    assert!(sup.instances().all(|(_, one)| one.is_online()));
}

#[test]
fn without_a_trial_the_new_run_takes_over_at_once() {
    let restart = RestartPolicy { min_uptime: Millis::ZERO, ..RestartPolicy::default() };
    let mut sup = booted(vec![AppSpec { restart: restart.into(), ..app("web") }]);
    let out = step(&mut sup, 1, reload("web"));
    assert_eq!((spawned(&out), stopped(&out)), (vec![(2, Half::Second)], vec![1]));
}

/// There may be thousands of instances, and few of them are ever being reloaded at once: what a reload needs is boxed.
#[test]
fn an_instance_that_is_not_reloaded_pays_little_for_it() {
    let size = size_of::<pm3::supervisor::instance::Instance>();
    assert!(size <= 160, "{size} bytes");
}

/// A reload of two instances that may end with 3.
fn reloading_some_that_may_end() -> Supervisor {
    let restart = RestartPolicy { stop_exit_codes: vec![3], ..RestartPolicy::default() };
    let mut sup = booted(vec![AppSpec { instances: 2, restart: restart.into(), ..app("web") }]);
    assert_eq!(spawned(&step(&mut sup, GROWN, reload("web"))), [(3, Half::Second)]);
    sup
}

#[test]
fn a_new_run_that_was_done_has_not_failed_and_the_old_one_goes_on() {
    let mut sup = reloading_some_that_may_end();
    let out = step(&mut sup, GROWN + 10, exited(3, End::Code(3)));
    assert_eq!(lines(&out)[0], "web-0: the new process was done, exit 3; pid 101 goes on");
    // Nobody is kept from his turn by that.
    assert_eq!((spawned(&out), stopped(&out)), (vec![(4, Half::Second)], vec![]));
    let out = step(&mut sup, GROWN + 20, exited(4, End::Code(3)));
    let outcome = replies(&out)[0];
    assert_eq!((outcome.done.len(), outcome.failed.len()), (2, 0), "{outcome:?}");
    assert_eq!(&*outcome.said[0], "web-0: reload: the new process was done, exit 3; pid 101 goes on");
    let (_, one) = sup.instances().next().unwrap();
    assert_eq!(
        one.reason.as_deref().map(ToString::to_string).as_deref(),
        Some("reload: the new process was done, exit 3")
    );
    // Another code is a failure.
    step(&mut sup, GROWN + 30, reload("web"));
    let out = step(&mut sup, GROWN + 40, exited(5, End::Code(4)));
    assert_eq!(&*replies(&out)[0].failed[0], "web-0: reload failed: exit 4; pid 101 goes on");
}

#[test]
fn who_is_done_during_a_reload_has_not_failed() {
    // The old one, before its turn has come; and the new one, after it has taken over.
    let mut sup = reloading_some_that_may_end();
    step(&mut sup, GROWN + 10, exited(2, End::Code(3)));
    step(&mut sup, PROVEN, Event::Tick);
    let out = step(&mut sup, PROVEN + 10, exited(3, End::Code(3)));
    let outcome = replies(&out)[0];
    assert_eq!((outcome.done.len(), outcome.failed.len()), (2, 0), "{outcome:?}");
    assert_eq!(*outcome.said, ["web-1: finished, exit 3".into(), "web-0: finished, exit 3".into()]);
}

#[test]
fn the_history_says_who_had_to_be_killed() {
    let past = |sup: &Supervisor| {
        let (_, one) = sup.instances().next().unwrap();
        one.past.iter().map(|past| past.reason.to_string()).collect::<Vec<_>>()
    };
    let last = |sup: &Supervisor| sup.instances().next().unwrap().1.reason.clone().unwrap().to_string();
    for (verb, sig, ms, expected) in [
        (Verb::Restart, Sig::TERM, 8_000, "operator, SIGKILL after 8 s"),
        (Verb::Restart, Sig::INT, 1_500, "operator, SIGKILL after 1.5 s"),
        (Verb::Stop, Sig::TERM, 150, "operator, SIGKILL after 150 ms"),
        (Verb::Stop, Sig::TERM, 0, "operator, SIGKILL after 0 ms"),
        // That is how it is asked.
        (Verb::Stop, Sig::KILL, 100, "operator"),
    ] {
        let stop = StopPolicy { signal: sig, timeout: Millis(ms), ..StopPolicy::default() };
        let mut sup = booted(vec![AppSpec { stop, ..app("web") }]);
        step(&mut sup, GROWN, ask(verb, "web"));
        step(&mut sup, GROWN + u64::from(ms), Event::Tick);
        step(&mut sup, GROWN + u64::from(ms) + 1, exited(1, End::Signal(Sig::KILL)));
        assert_eq!((past(&sup), last(&sup)), (vec![expected.to_owned()], expected.to_owned()));
    }
    // The old run of a reload; its end is that of the reload, however hard it was.
    let mut sup = booted(vec![app("web")]);
    step(&mut sup, GROWN, reload("web"));
    step(&mut sup, PROVEN, Event::Tick);
    step(&mut sup, PROVEN + 8_000, Event::Tick);
    let out = step(&mut sup, PROVEN + 8_001, exited(1, End::Signal(Sig::KILL)));
    assert_eq!((past(&sup), replies(&out)[0].failed.len()), (vec!["operator, SIGKILL after 8 s".to_owned()], 0));
    // The same, which outlives the one that has taken over.
    let mut sup = booted(vec![app("web")]);
    step(&mut sup, GROWN, reload("web"));
    step(&mut sup, PROVEN, Event::Tick);
    step(&mut sup, PROVEN + 1, Event::Planned { spec: Box::default() });
    step(&mut sup, PROVEN + 2, exited(2, End::Code(0)));
    step(&mut sup, PROVEN + 8_000, Event::Tick);
    assert_eq!((past(&sup), last(&sup)), (vec!["config changed".to_owned()], "operator, SIGKILL after 8 s".to_owned()));
    // One that ended in time, and left somebody who did not.
    let mut sup = booted(vec![app("web")]);
    step(&mut sup, GROWN, ask(Verb::Stop, "web"));
    step(&mut sup, GROWN + 1, Event::Exited { run: RunId(1), end: End::Code(0), oom: Oom::No, leftovers: true });
    step(&mut sup, GROWN + 8_000, Event::Tick);
    step(&mut sup, GROWN + 8_001, Event::Cleared { run: RunId(1) });
    assert_eq!(past(&sup), ["operator"]);
}

fn listening(sup: &mut Supervisor, ms: u64, run: u64) -> Vec<Effect> {
    step(sup, ms, Event::Listening { run: RunId(run) })
}

fn stations(sup: &Supervisor, id: usize) -> [Station; 2] {
    let (_, one) = sup.instances().nth(id).unwrap();
    [Half::First, Half::Second].map(|half| one.station(half))
}

/// A run that serves on the second half, while the one before it is drained on the first.
fn reloaded_and_draining() -> Supervisor {
    let mut sup = booted(vec![app("web")]);
    listening(&mut sup, 1, 1);
    step(&mut sup, GROWN, reload("web"));
    listening(&mut sup, GROWN + 1, 2);
    assert_eq!(stations(&sup, 0), [Station::Aside, Station::Serving]);
    sup
}

#[test]
fn who_is_started_again_while_both_its_runs_leave_has_a_half_for_new_clients() {
    for first_to_end in [1, 2] {
        let mut sup = reloaded_and_draining();
        assert_eq!(stopped(&step(&mut sup, GROWN + 2, ask(Verb::Stop, "web"))), [2, 1]);
        assert_eq!(stations(&sup, 0), [Station::Aside; 2]);
        step(&mut sup, GROWN + 3, ask(Verb::Start, "web"));
        assert_eq!(stations(&sup, 0), [Station::Aside, Station::Coming]);
        step(&mut sup, GROWN + 4, exited(first_to_end, End::Code(0)));
        let out = step(&mut sup, GROWN + 5, exited(3 - first_to_end, End::Code(0)));
        // Where they wait, the next one comes, and waits to listen as those before it did.
        assert_eq!(spawned(&out), [(3, Half::Second)], "{first_to_end} is first");
        assert_eq!(stations(&sup, 0), [Station::Gone, Station::Coming]);
        listening(&mut sup, GROWN + 6, 3);
        assert_eq!(stations(&sup, 0), [Station::Gone, Station::Serving]);
    }
}

#[test]
fn who_is_drained_after_a_scale_down_does_not_outlast_the_others() {
    for verb in [Verb::Stop, Verb::Delete] {
        let mut sup = booted(vec![AppSpec { instances: 2, ..app("web") }]);
        (1..=2).for_each(|run| drop(listening(&mut sup, 1, run)));
        let wish = Wish::Scale { target: "web".into(), to: Count::Exactly(1) };
        let out = step(&mut sup, 2, Event::Request { client: ClientId(9), wish, follows: false });
        assert_eq!((stopped(&out), out.contains(&Effect::Drain { run: RunId(2) })), (vec![], true));
        assert_eq!(stopped(&step(&mut sup, 3, ask(verb, "web"))), [1, 2], "{verb:?}");
    }
}

#[test]
fn a_run_that_listens_when_its_turn_comes_is_replaced_as_one_that_has_clients() {
    let cron = AppSpec { cron: Some("0 4 * * *".into()), instances: 2, ..app("web") };
    for (verb, manner) in [(None, Manner::NewFirst), (Some(Verb::Restart), Manner::OldFirst)] {
        let mut sup = booted(vec![cron.clone()]);
        // Nobody is online, so no turn begins.
        let mut out = Vec::new();
        let due = Event::Scheduled { app: "web".into(), at: Some(Mono(5_000_000)) };
        sup.step(Mono(5_000_000), verb.map_or(due, |verb| ask(verb, "web")), &mut out);
        // The first one's turn has begun; the second waits for its own.
        let waits = |sup: &Supervisor| sup.instances().nth(1).and_then(|(_, one)| Some(one.roll.as_ref()?.manner));
        assert_eq!(waits(&sup), Some(Manner::OldFirst));
        listening(&mut sup, 6, 2);
        assert_eq!(waits(&sup), Some(manner), "{verb:?}");
    }
}
