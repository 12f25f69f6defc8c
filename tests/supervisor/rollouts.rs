//! How many instances get new runs at once, told step by step.

use pm3::supervisor::Supervisor;
use pm3::supervisor::event::{ClientId, Effect, End, Event, Millis, Obstacle, Rollout, RunId, Scope, Verb, Wish};
use pm3::supervisor::spec::{Amount, AppSpec, Launch, Rare, Ready, RollPolicy, Spec};

use crate::{app, exited, step_and};

/// Old enough to be asked what it listens on, and a whole second later.
const GROWN: u64 = 1_000;
const PROVEN: u64 = GROWN + 1_000;

/// One step in which starts are confirmed, and nothing is in a second run's way but this.
fn step_with(sup: &mut Supervisor, ms: u64, event: Event, obstacle: Option<Obstacle>) -> Vec<Effect> {
    step_and(sup, ms, event, |effect| {
        let Effect::Survey { run } = effect else { return None };
        Some(Event::Surveyed { run: *run, obstacle: obstacle.clone() })
    })
}

fn step(sup: &mut Supervisor, ms: u64, event: Event) -> Vec<Effect> {
    step_with(sup, ms, event, None)
}

/// `web`, so many times.
fn web(instances: u32, max_surge: Amount, max_unavailable: Amount) -> Supervisor {
    let roll = RollPolicy { max_surge, max_unavailable }.into();
    let apps = vec![AppSpec { instances, roll, ..app("web") }];
    let mut sup = Supervisor::new(Spec { apps, ..Spec::default() }, 1);
    step(&mut sup, 0, Event::Boot);
    sup
}

fn ask(verb: Verb, parallel: Option<u32>) -> Event {
    let how = Rollout { parallel, care: None };
    let wish = Wish::Operate { verb, targets: vec!["web".into()], shell: None, how };
    Event::Request { client: ClientId(verb as u64), wish, follows: false }
}

fn spawned(out: &[Effect]) -> Vec<u64> {
    out.iter().filter_map(|one| if let Effect::Spawn { run, .. } = one { Some(run.0) } else { None }).collect()
}

fn stopped(out: &[Effect]) -> Vec<u64> {
    let run = |one: &Effect| {
        if let Effect::Signal { run, scope: Scope::Process, .. } = one { Some(run.0) } else { None }
    };
    out.iter().filter_map(run).collect()
}

/// What was done and what failed, of the one reply.
fn reply(out: &[Effect]) -> (usize, usize) {
    let outcome = |one: &Effect| if let Effect::Reply { outcome, .. } = one { Some(outcome.clone()) } else { None };
    let replies: Vec<_> = out.iter().filter_map(outcome).collect();
    assert_eq!(replies.len(), 1, "{out:?}");
    (replies[0].done.len(), replies[0].failed.len())
}

#[test]
fn as_many_new_runs_come_at_once_as_the_surge_allows() {
    for (surge, parallel) in [(Amount::Count(2), None), (Amount::Percent(40), None), (Amount::Count(1), Some(2))] {
        let mut sup = web(5, surge, Amount::Count(5));
        assert_eq!(spawned(&step(&mut sup, GROWN, ask(Verb::Reload, parallel))), [6, 7]);
        assert_eq!(stopped(&step(&mut sup, PROVEN, Event::Tick)), [1, 2]);
        // Each that is gone makes room for one.
        assert_eq!(spawned(&step(&mut sup, PROVEN + 1, exited(2, End::Code(0)))), [8]);
        assert_eq!(spawned(&step(&mut sup, PROVEN + 1, exited(1, End::Code(0)))), [9]);
        assert_eq!(stopped(&step(&mut sup, PROVEN + 1_001, Event::Tick)), [3, 4]);
        assert_eq!(spawned(&step(&mut sup, PROVEN + 1_002, exited(3, End::Code(0)))), [10]);
        assert_eq!(spawned(&step(&mut sup, PROVEN + 1_002, exited(4, End::Code(0)))), [0; 0]);
        assert_eq!(stopped(&step(&mut sup, PROVEN + 2_002, Event::Tick)), [5]);
        assert_eq!(reply(&step(&mut sup, PROVEN + 2_003, exited(5, End::Code(0)))), (5, 0));
    }
}

#[test]
fn as_many_are_away_at_once_as_a_restart_may_take() {
    for (away, parallel) in [(Amount::Count(2), None), (Amount::Percent(59), None), (Amount::Count(4), Some(2))] {
        let mut sup = web(4, Amount::Count(4), away);
        assert_eq!(stopped(&step(&mut sup, GROWN, ask(Verb::Restart, parallel))), [1, 2]);
        let out = step(&mut sup, GROWN + 1, exited(2, End::Code(0)));
        assert_eq!((spawned(&out), stopped(&out)), (vec![5], vec![3]));
        let out = step(&mut sup, GROWN + 2, exited(1, End::Code(0)));
        assert_eq!((spawned(&out), stopped(&out)), (vec![6], vec![4]));
        step(&mut sup, GROWN + 3, exited(3, End::Code(0)));
        assert_eq!(reply(&step(&mut sup, GROWN + 4, exited(4, End::Code(0)))), (4, 0));
    }
}

#[test]
fn who_owns_a_port_is_away_and_counts_as_that() {
    let mut sup = web(3, Amount::Count(3), Amount::Count(1));
    let port = Some(Obstacle::Port(3000));
    // All are asked, and the one that has answered first is ended.
    let out = step_with(&mut sup, GROWN, ask(Verb::Reload, None), port.clone());
    assert_eq!((spawned(&out), stopped(&out)), (vec![], vec![3]));
    let out = step_with(&mut sup, GROWN + 1, exited(3, End::Code(0)), port.clone());
    assert_eq!((spawned(&out), stopped(&out)), (vec![4], vec![1]));
    let out = step_with(&mut sup, GROWN + 2, exited(1, End::Code(0)), port.clone());
    assert_eq!((spawned(&out), stopped(&out)), (vec![5], vec![2]));
    assert_eq!(reply(&step_with(&mut sup, GROWN + 3, exited(2, End::Code(0)), port)), (3, 0));
}

#[test]
fn a_failure_keeps_from_its_turn_whose_has_not_begun() {
    let mut sup = web(5, Amount::Count(2), Amount::Count(1));
    assert_eq!(spawned(&step(&mut sup, GROWN, ask(Verb::Reload, None))), [6, 7]);
    assert_eq!(stopped(&step(&mut sup, GROWN + 10, exited(6, End::Code(7)))), [0; 0]);
    // The other one goes on.
    assert_eq!(stopped(&step(&mut sup, PROVEN, Event::Tick)), [1]);
    let out = step(&mut sup, PROVEN + 1, exited(1, End::Code(0)));
    assert_eq!((spawned(&out), reply(&out)), (vec![], (1, 4)));
}

#[test]
fn a_restart_in_the_midst_of_a_wide_reload_takes_no_more_away_than_it_may() {
    let mut sup = web(3, Amount::Count(3), Amount::Count(1));
    assert_eq!(spawned(&step(&mut sup, GROWN, ask(Verb::Reload, None))), [4, 5, 6]);
    // Both runs of the first instance; the others keep the one that they have.
    assert_eq!(stopped(&step(&mut sup, GROWN + 1, ask(Verb::Restart, None))), [1, 6]);
    assert_eq!(stopped(&step(&mut sup, GROWN + 2, exited(6, End::Code(0)))), [0; 0]);
    let out = step(&mut sup, GROWN + 3, exited(1, End::Code(0)));
    assert_eq!((spawned(&out), stopped(&out)), (vec![7], vec![2, 5]));
}

#[test]
fn one_whose_new_run_fails_holds_back_whom_nothing_else_does() {
    let rare = Rare { ready: Ready::Message, listen_timeout: Some(Millis(100)), ..Rare::default() };
    let launch = Launch { rare: Some(Box::new(rare)), ..Launch::default() };
    let roll = RollPolicy { max_surge: Amount::Count(2), ..RollPolicy::default() }.into();
    let apps = vec![AppSpec { instances: 2, roll, launch, ..app("web") }];
    let mut sup = Supervisor::new(Spec { apps, ..Spec::default() }, 1);
    step(&mut sup, 0, Event::Boot);
    step(&mut sup, 1, Event::Ready { run: RunId(1) });
    step(&mut sup, 1, Event::Ready { run: RunId(2) });
    let free = |run| Event::Surveyed { run: RunId(run), obstacle: None };
    step_and(&mut sup, PROVEN, ask(Verb::Reload, None), |_| None);
    assert_eq!(spawned(&step(&mut sup, PROVEN, free(1))), [3]);
    // In the very moment in which it is known of one that it could begin, the other is not ready in time.
    let out = step(&mut sup, PROVEN + 100, free(2));
    assert_eq!((spawned(&out), stopped(&out)), (vec![], vec![3]));
}
