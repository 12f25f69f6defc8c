//! While it is not decided about new runs that are held: who waits for that and who does not, and what a decision brings.

use pm3::supervisor::Supervisor;
use pm3::supervisor::event::{ClientId, End, Event, Mono, Rollout, Verb, Wish};
use pm3::supervisor::spec::{AppSpec, Spec};

use crate::holds::{
    CANARY, GROWN, LATER, PROVEN, ROLLBACK, args, ask, booted, bring, changed, failed, replies, sampling, spawned,
    step, stopped, web, wish,
};
use crate::{app, exited};

/// `web`, which needs `db`, and `api`, which comes after it: the runs 1 to 3.
fn chain() -> Supervisor {
    let db = app("db");
    let web = AppSpec { requires: ["db".into()].into(), cron: Some("0 3 * * *".into()), ..web(1) };
    let api = AppSpec { after: ["web".into()].into(), ..app("api") };
    let mut sup = Supervisor::new(Spec { apps: vec![db, web, api], ..Spec::default() }, 1);
    step(&mut sup, 0, Event::Boot);
    sup
}

fn operate(verb: Verb, target: &str) -> Event {
    let how = Rollout::default();
    let wish = Wish::Operate { verb, targets: vec![target.into()], shell: None, how };
    Event::Request { client: ClientId(9), wish, follows: false }
}

#[test]
fn a_promoted_entry_brings_as_many_instances_as_it_says() {
    let mut sup = booted(web(1));
    assert_eq!(spawned(&step(&mut sup, GROWN, bring(changed(3), CANARY))), [2]);
    step(&mut sup, PROVEN, Event::Tick);
    let out = step(&mut sup, LATER, ask(Verb::Promote, None));
    assert_eq!((stopped(&out), spawned(&out), args(&sup, 4)), (vec![1], vec![3, 4], "--new".into()));
    let out = step(&mut sup, LATER + 1, exited(1, End::Code(0)));
    assert_eq!((replies(&out)[0].done.len(), replies(&out)[0].failed.len()), (3, 0));

    let mut sup = sampling(3, Some(changed(1)));
    assert_eq!(stopped(&step(&mut sup, LATER, ask(Verb::Promote, None))), [1, 3, 2]);
    step(&mut sup, LATER + 1, exited(3, End::Code(0)));
    step(&mut sup, LATER + 1, exited(2, End::Code(0)));
    let out = step(&mut sup, LATER + 1, exited(1, End::Code(0)));
    assert_eq!((replies(&out)[0].done.len(), sup.instances().count()), (1, 1));
}

#[test]
fn who_asks_for_care_hears_that_what_the_app_needs_is_away() {
    for care in [ROLLBACK, CANARY] {
        let mut sup = chain();
        assert_eq!(spawned(&step(&mut sup, 10, ask(Verb::Reload, care))), [0; 0]);
        let out = step(&mut sup, 11, operate(Verb::Stop, "db"));
        assert!(replies(&out).is_empty() && stopped(&out) == [1]);
        let out = step(&mut sup, 12, exited(1, End::Code(0)));
        let told = replies(&out).into_iter().flat_map(|outcome| outcome.failed.clone()).collect::<Vec<_>>();
        assert_eq!(told, ["web: waits for db, which is not running; start db too".into()], "{care:?}");
        // What was said not to come does not come later.
        assert_eq!(spawned(&step(&mut sup, LATER, operate(Verb::Start, "db"))), [4]);
        assert!(sup.apps()[1].hold.is_none());
        assert_eq!(spawned(&step(&mut sup, LATER + GROWN, Event::Tick)), [0; 0]);
    }
}

#[test]
fn one_that_has_taken_over_early_has_to_prove_itself_all_the_same() {
    for crashes in [false, true] {
        let mut sup = booted(web(2));
        step(&mut sup, GROWN, ask(Verb::Reload, ROLLBACK));
        assert_eq!(spawned(&step(&mut sup, PROVEN, Event::Tick)), [4]);
        // Its old run ends when it has hardly begun.
        let out = step(&mut sup, PROVEN + 500, exited(2, End::Code(1)));
        assert_eq!((stopped(&out), sup.apps()[0].hold.is_some()), (vec![], true));
        if crashes {
            let out = step(&mut sup, PROVEN + 600, exited(4, End::Code(7)));
            assert_eq!((stopped(&out), spawned(&out), sup.apps()[0].hold.is_none()), (vec![3], vec![5], true));
        } else {
            assert_eq!(sup.deadline(), Some(Mono((PROVEN + 1_000) * 1_000_000)));
            assert_eq!(stopped(&step(&mut sup, PROVEN + 1_000, Event::Tick)), [1]);
        }
    }
}

#[test]
fn what_comes_after_the_decision_keeps_nobody_else_waiting() {
    let mut sup = chain();
    step(&mut sup, GROWN, ask(Verb::Reload, CANARY));
    step(&mut sup, PROVEN, Event::Tick);
    let at = Some(Mono(LATER * 1_000_000));
    step(&mut sup, LATER - 1, Event::Scheduled { app: "web".into(), at });
    assert_eq!(stopped(&step(&mut sup, LATER, Event::Tick)), [0; 0]);
    assert!(sup.apps()[1].instances[0].roll.is_some());
    assert_eq!(stopped(&step(&mut sup, LATER + 1, operate(Verb::Restart, "api"))), [3]);
}

#[test]
fn who_only_wants_an_app_to_run_does_not_wait_for_what_is_to_be_held() {
    let mut sup = booted(web(1));
    step(&mut sup, 10, ask(Verb::Reload, CANARY));
    let same = Wish::Apply { verb: Verb::Start, apps: vec![web(1)], renew: false, how: Rollout::default() };
    let out = step(&mut sup, 11, wish(same));
    assert_eq!(replies(&out)[0].done.len(), 1);
    // And who wants something else hears that it does not come now.
    let out = step(&mut sup, 12, operate(Verb::Restart, "web"));
    assert!(failed(&out)[0].starts_with("web: new processes are held beside the old ones"), "{out:?}");
}
