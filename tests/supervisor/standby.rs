//! Spares, told step by step: when one takes over, what follows from it meanwhile, and how it ends.

use pm3::supervisor::Supervisor;
use pm3::supervisor::event::{
    ClientId, Count, Effect, End, Event, Failure, Half, InstanceId, Millis, Oom, Outcome, RunId, Scope, Sig, Stage,
    Verb, Wish,
};
use pm3::supervisor::spec::{AppSpec, Launch, Rare, Ready, RestartPolicy, Spec, Standby};

use crate::{app, booted, exited, lines, step};

const KILLED: End = End::Signal(Sig::KILL);
const HOUR: u64 = 3_600_000;

/// So many instances, and one spare.
fn spared(instances: u32) -> AppSpec {
    AppSpec { instances, standby: Some(Box::new(Standby { count: 1, ..Standby::default() })), ..app("web") }
}

/// The same, up for ten seconds: the last run is the spare's, and stands by.
fn standing(app: AppSpec) -> Supervisor {
    let spare = u64::from(app.instances) + 1;
    let (mut sup, _) = booted(vec![app]);
    assert_eq!(lines(&step(&mut sup, 10, stands_by(spare))).len(), 1);
    step(&mut sup, 10_000, Event::Tick);
    sup
}

fn stands_by(run: u64) -> Event {
    Event::StandsBy { run: RunId(run) }
}

fn ask(verb: Verb, target: &str) -> Event {
    let wish = Wish::Operate { verb, targets: vec![target.into()], shell: None, how: Default::default() };
    Event::Request { client: ClientId(1), wish, follows: false }
}

fn reply(out: &[Effect]) -> Option<&Outcome> {
    out.iter().find_map(|one| if let Effect::Reply { outcome, .. } = one { Some(outcome) } else { None })
}

/// What is done to runs, without what is said.
fn deeds(out: &[Effect]) -> Vec<String> {
    let deed = |one: &Effect| {
        if let Effect::Spawn { run, instance, .. } = one {
            Some(format!("spawn {} for {instance}", run.0))
        } else if let Effect::Signal { run, scope: Scope::Process, .. } = one {
            Some(format!("signal {}", run.0))
        } else if let Effect::Dismiss { run } = one {
            Some(format!("dismiss {}", run.0))
        } else if let Effect::TakeOver { run, from, .. } = one {
            Some(format!("{} takes over from {from}", run.0))
        } else {
            None
        }
    };
    out.iter().filter_map(deed).collect()
}

fn statuses(sup: &Supervisor) -> Vec<String> {
    sup.instances().map(|(_, one)| format!("{}{}", one.status(), if one.spare { "*" } else { "" })).collect()
}

#[test]
fn it_takes_over_in_the_step_in_which_an_instance_dies() {
    let mut sup = standing(spared(2));
    assert_eq!(statuses(&sup), ["online", "online", "standby*"]);
    let out = step(&mut sup, 10_001, exited(2, KILLED));
    assert!(out.contains(&Effect::TakeOver { run: RunId(3), from: InstanceId(1), half: Half::First }));
    assert_eq!(
        lines(&out)[..2],
        ["web-1: restarting: SIGKILL".to_owned(), "web-2: takes over from web-1: SIGKILL".to_owned()]
    );
    assert_eq!(deeds(&out), ["3 takes over from 1", "spawn 4 for 1"]);
    assert_eq!(statuses(&sup), ["online", "launching*", "launching"]);
    let out = step(&mut sup, 10_003, Event::Listening { run: RunId(3) });
    assert_eq!(lines(&out), ["web-2: online, pid 103"]);
    let out = step(&mut sup, 10_100, stands_by(4));
    assert_eq!(lines(&out), ["web-1: stands by, pid 104"]);
    assert_eq!(statuses(&sup), ["online", "standby*", "online"]);
    // And back.
    assert_eq!(deeds(&step(&mut sup, 20_000, exited(3, KILLED))), ["4 takes over from 2", "spawn 5 for 2"]);
}

#[test]
fn all_of_it_survives_packing() {
    let mut sup = standing(spared(1));
    for event in [stands_by(2), exited(1, KILLED)] {
        let packed = serde_json::to_string(&sup).unwrap();
        assert_eq!(serde_json::from_str::<Supervisor>(&packed).unwrap(), sup);
        step(&mut sup, 10_001, event);
    }
    assert_eq!(statuses(&sup), ["launching*", "launching"]);
}

#[test]
fn one_that_comes_later_takes_over_from_who_waits_to_be_restarted() {
    let delay = RestartPolicy { delay: Millis(5_000), ..RestartPolicy::default() };
    let (mut sup, _) = booted(vec![AppSpec { restart: delay.into(), ..spared(1) }]);
    assert!(deeds(&step(&mut sup, 2_000, exited(1, KILLED))).is_empty());
    assert_eq!(statuses(&sup), ["waiting restart", "launching*"]);
    assert_eq!(deeds(&step(&mut sup, 2_500, stands_by(2))), ["2 takes over from 0"]);
    assert_eq!(statuses(&sup), ["waiting restart*", "launching"]);
    // What has died is judged as ever.
    assert_eq!(deeds(&step(&mut sup, 7_000, Event::Tick)), ["spawn 3 for 0"]);
}

#[test]
fn who_may_be_told_to_stop_is_followed_at_once_and_judged_later() {
    let mut sup = standing(spared(1));
    let out = step(&mut sup, 10_001, exited(1, End::Signal(Sig::TERM)));
    assert_eq!(deeds(&out), ["2 takes over from 0"]);
    assert_eq!(deeds(&step(&mut sup, 10_201, Event::Tick)), ["spawn 3 for 0"]);
}

#[test]
fn processes_that_a_dead_instance_leaves_hold_nobody_up() {
    let mut sup = standing(spared(1));
    let out = step(&mut sup, 10_001, Event::Exited { run: RunId(1), end: KILLED, oom: Oom::Yes, leftovers: true });
    assert_eq!(deeds(&out), ["2 takes over from 0"]);
    assert!(lines(&out).contains(&"web-1: takes over from web-0: oom".to_owned()));
    assert_eq!(deeds(&step(&mut sup, 10_050, Event::Cleared { run: RunId(1) })), ["spawn 3 for 0"]);
}

#[test]
fn an_end_for_good_is_followed_by_nobody_and_ends_the_spare() {
    let done = RestartPolicy { stop_exit_codes: vec![3], ..RestartPolicy::default() };
    let mut sup = standing(AppSpec { restart: done.into(), ..spared(1) });
    let out = step(&mut sup, 10_001, exited(1, End::Code(3)));
    assert_eq!(deeds(&out), ["dismiss 2", "signal 2"]);
    assert!(
        lines(&out).contains(&"web-1: stopping with SIGTERM: nobody is left to stand by for".to_owned()),
        "{out:?}"
    );
    // Nothing is left to run, and a spare's code is nobody's.
    step(&mut sup, 10_002, exited(2, End::Code(1)));
    let out = step(&mut sup, 10_003, Event::Childless);
    assert!(matches!(out.last(), Some(Effect::Exit { code: 3 | 0, .. })), "{out:?}");
}

#[test]
fn a_spare_makes_no_app_up_and_pm3_does_not_end_with_its_code() {
    let needs = AppSpec { requires: ["web".into()].into(), ..app("api") };
    let main = AppSpec { main: true, exit_on_error: true, ..spared(1) };
    let slow = Rare { ready: Ready::Listening, ..Rare::default() };
    let main = AppSpec { launch: Launch { rare: Some(Box::new(slow)), ..Launch::default() }, ..main };
    let (mut sup, _) = booted(vec![main, needs]);
    assert!(deeds(&step(&mut sup, 10, stands_by(2))).is_empty());
    assert_eq!(statuses(&sup), ["launching", "standby*", "waiting"]);
    assert_eq!(deeds(&step(&mut sup, 20, Event::Listening { run: RunId(1) })), ["spawn 3 for 2"]);
    // It crashes for good, and nobody minds.
    for run in [2].into_iter().chain(4..19) {
        step(&mut sup, 30, exited(run, End::Code(9)));
    }
    assert_eq!(statuses(&sup), ["online", "errored*", "online"]);
    step(&mut sup, 40, Event::Signal { sig: Sig::TERM, by_kernel: false });
    step(&mut sup, 41, exited(3, End::Code(0)));
    step(&mut sup, 42, exited(1, End::Code(0)));
    let out = step(&mut sup, 43, Event::Childless);
    assert!(matches!(out.last(), Some(Effect::Exit { code: 0, .. })), "{out:?}");
}

#[test]
fn who_has_failed_for_good_is_followed_and_stands_by_no_more() {
    let once = RestartPolicy { max_restarts: 1, ..RestartPolicy::default() };
    let app = AppSpec { restart: once.into(), exit_on_error: true, ..spared(1) };
    let (mut sup, _) = booted(vec![app]);
    step(&mut sup, 10, stands_by(2));
    let out = step(&mut sup, 20, exited(1, End::Code(7)));
    assert_eq!(deeds(&out), ["2 takes over from 0"]);
    let told = ["web-0: errored after 1 short runs, the last: exit 7", "web-1: takes over from web-0: exit 7"];
    assert_eq!(lines(&out)[..2], told.map(str::to_owned));
    assert_eq!(lines(&out).last().unwrap(), "web-0: no spare any more, until it is restarted");
    assert_eq!(statuses(&sup), ["errored*", "launching"]);
    step(&mut sup, 30, Event::Listening { run: RunId(2) });
    // What it did before it took over was to wait: this is a short run.
    let out = step(&mut sup, 900, exited(2, End::Code(7)));
    assert!(lines(&out).contains(&"web-1: errored after 1 short runs, the last: exit 7".to_owned()), "{out:?}");
    assert!(lines(&out).iter().any(|line| line.contains("web is errored, its code is 7")), "{out:?}");
}

#[test]
fn it_is_told_that_it_gets_no_port_before_it_is_asked_to_end() {
    let without = Spec { apps: vec![AppSpec { standby: None, ..spared(2) }], ..Spec::default() };
    for event in [
        ask(Verb::Stop, "2"),
        ask(Verb::Delete, "2"),
        ask(Verb::Restart, "2"),
        Event::Request { client: ClientId(1), wish: Wish::Quit, follows: false },
        Event::Planned { spec: Box::new(without) },
    ] {
        let mut sup = standing(spared(2));
        let out = deeds(&step(&mut sup, 10_001, event));
        let at = out.iter().position(|deed| deed == "dismiss 3").unwrap();
        assert_eq!(out[at + 1], "signal 3", "{out:?}");
    }
    // It may be asked to end before anybody knows that it is held.
    let (mut sup, _) = booted(vec![spared(1)]);
    assert_eq!(deeds(&step(&mut sup, 5, ask(Verb::Stop, "1"))), ["signal 2"]);
    assert_eq!(deeds(&step(&mut sup, 6, stands_by(2))), ["dismiss 2"]);
}

#[test]
fn one_that_has_stood_by_for_long_is_replaced_in_its_turn() {
    let two = Standby { count: 2, max_age: Millis(60_000) };
    let (mut sup, _) = booted(vec![AppSpec { standby: Some(Box::new(two)), ..spared(1) }]);
    step(&mut sup, 10, stands_by(2));
    step(&mut sup, 10, stands_by(3));
    let out = step(&mut sup, 60_010, Event::Tick);
    assert_eq!(deeds(&out), ["dismiss 2", "signal 2"]);
    assert_eq!(lines(&out).last().unwrap(), "web-1: stopping with SIGTERM: stood by for 60 s");
    assert_eq!(deeds(&step(&mut sup, 60_020, exited(2, End::Code(1)))), ["spawn 4 for 1"]);
    assert_eq!(deeds(&step(&mut sup, 60_100, stands_by(4))), ["dismiss 3", "signal 3"]);
    let (_, one) = sup.instances().nth(1).unwrap();
    assert_eq!(one.past[0].reason.to_string(), "stood by for 60 s");
    // Or never.
    let never = Standby { count: 1, max_age: Millis::ZERO };
    let sup = standing(AppSpec { standby: Some(Box::new(never)), ..spared(1) });
    assert_eq!(sup.deadline(), None);
    // An hour, where nothing is said.
    assert_eq!(standing(spared(1)).deadline().map(|at| at.0 / 1_000_000), Some(HOUR + 10));
}

#[test]
fn who_cannot_be_held_is_no_spare_and_the_others_serve() {
    let needs = Failure {
        stage: Stage::Intercept,
        object: "seccomp".into(),
        errno: 38,
        why: "function not implemented".into(),
        passing: false,
    };
    let (mut sup, _) = booted(vec![spared(1)]);
    step(&mut sup, 10, ask(Verb::Start, "web"));
    step(&mut sup, 11, exited(2, KILLED));
    let out = step(&mut sup, 12, Event::SpawnFailed { run: RunId(3), failure: needs });
    let told = "cannot stand by: seccomp: function not implemented";
    assert_eq!(lines(&out)[0], format!("web-1: errored after 1 short runs, the last: {told}"));
    assert_eq!(statuses(&sup), ["online", "errored*"]);
    let out = step(&mut sup, 13, ask(Verb::Start, "web"));
    assert_eq!(deeds(&out), ["spawn 4 for 1"]);
    let out = step(&mut sup, 14, Event::Unfit { run: RunId(4), why: "seccomp: permission denied".into() });
    assert_eq!(deeds(&out), ["signal 4"]);
    let out = step(&mut sup, 15, exited(4, End::Code(1)));
    let reply = reply(&out).unwrap();
    assert!(reply.failed.is_empty());
    assert_eq!(&*reply.said, ["web-1: cannot stand by: seccomp: permission denied".into()]);
    assert_eq!(statuses(&sup), ["online", "errored*"]);
}

#[test]
fn one_that_opens_no_port_is_no_spare() {
    let (mut sup, _) = booted(vec![spared(1)]);
    let out = step(&mut sup, 30_000, Event::Tick);
    assert_eq!(deeds(&out), ["signal 2"]);
    let out = step(&mut sup, 30_001, exited(2, End::Code(0)));
    assert_eq!(lines(&out)[0], "web-1: errored: cannot stand by: opened no port within 30 s, see listen_timeout");
    assert_eq!((statuses(&sup), sup.deadline()), (vec!["online".to_owned(), "errored*".to_owned()], None));
}

#[test]
fn a_successor_that_is_on_its_way_comes_before_a_spare() {
    let mut sup = standing(AppSpec { overlap: Some(true), ..spared(1) });
    step(&mut sup, 10_001, Event::Listening { run: RunId(1) });
    // The spare first, and as in a restart.
    assert_eq!(deeds(&step(&mut sup, 10_002, ask(Verb::Reload, "web"))), ["dismiss 2", "signal 2"]);
    assert_eq!(deeds(&step(&mut sup, 10_003, exited(2, End::Code(1)))), ["spawn 3 for 1"]);
    assert_eq!(deeds(&step(&mut sup, 10_100, stands_by(3))), ["spawn 4 for 0"]);
    assert!(deeds(&step(&mut sup, 10_101, exited(1, KILLED))).is_empty());
    step(&mut sup, 10_102, Event::Listening { run: RunId(4) });
    assert_eq!(statuses(&sup), ["online", "standby*"]);
}

#[test]
fn a_new_program_that_does_not_start_ends_with_the_spare() {
    let once = RestartPolicy { max_restarts: 1, ..RestartPolicy::default() };
    let mut sup = standing(AppSpec { restart: once.into(), ..spared(2) });
    step(&mut sup, 10_001, ask(Verb::Restart, "web"));
    step(&mut sup, 10_002, exited(3, End::Code(1)));
    let out = step(&mut sup, 10_003, exited(4, End::Code(7)));
    assert_eq!(reply(&out).unwrap().failed.len(), 3);
    assert_eq!(statuses(&sup), ["online", "online", "errored*"]);
}

#[test]
fn who_takes_over_in_the_midst_of_a_reload_is_reloaded_too() {
    let mut sup = standing(spared(2));
    step(&mut sup, 10_001, ask(Verb::Restart, "0"));
    // It was asked to end: its own new run follows.
    assert_eq!(deeds(&step(&mut sup, 10_002, exited(1, End::Code(0)))), ["spawn 4 for 0"]);
    assert_eq!(statuses(&sup), ["online", "online", "standby*"]);
    step(&mut sup, 10_003, ask(Verb::Restart, "web"));
    step(&mut sup, 10_004, exited(3, End::Code(1)));
    step(&mut sup, 10_005, stands_by(5));
    // Its turn was about to come: the one that takes over has been replaced already.
    assert_eq!(deeds(&step(&mut sup, 10_006, exited(2, KILLED))), ["5 takes over from 1", "spawn 6 for 1"]);
}

#[test]
fn it_follows_those_for_whom_it_stands_by() {
    let mut sup = standing(spared(1));
    assert_eq!(deeds(&step(&mut sup, 10_001, ask(Verb::Stop, "0"))), ["signal 1", "dismiss 2", "signal 2"]);
    step(&mut sup, 10_002, exited(1, End::Code(0)));
    step(&mut sup, 10_003, exited(2, End::Code(1)));
    assert_eq!(statuses(&sup), ["stopped", "stopped*"]);
    assert_eq!(deeds(&step(&mut sup, 10_004, ask(Verb::Start, "0"))), ["spawn 3 for 0", "spawn 4 for 1"]);
    // What an operator has stopped stays so.
    step(&mut sup, 10_005, ask(Verb::Stop, "1"));
    step(&mut sup, 10_006, exited(4, End::Code(0)));
    assert!(deeds(&step(&mut sup, 10_007, ask(Verb::Restart, "0"))).contains(&"signal 3".to_owned()));
    step(&mut sup, 10_008, exited(3, End::Code(0)));
    assert_eq!(statuses(&sup), ["online", "stopped*"]);
    // And who is nobody's goes with the last.
    let out = step(&mut sup, 10_009, ask(Verb::Delete, "0"));
    assert!(reply(&out).is_none());
    step(&mut sup, 10_010, exited(5, End::Code(0)));
    assert_eq!(sup.apps().len(), 0);
}

#[test]
fn scale_leaves_the_spare_alone() {
    let scale = |to| Event::Request {
        client: ClientId(2),
        wish: Wish::Scale { target: "web".into(), to: Count::Exactly(to) },
        follows: false,
    };
    let mut sup = standing(spared(2));
    assert_eq!(deeds(&step(&mut sup, 10_001, scale(3))), ["spawn 4 for 3"]);
    assert_eq!(statuses(&sup), ["online", "online", "standby*", "online"]);
    assert_eq!(deeds(&step(&mut sup, 10_002, scale(1))), ["signal 4", "signal 2"]);
    step(&mut sup, 10_003, exited(2, End::Code(0)));
    step(&mut sup, 10_004, exited(4, End::Code(0)));
    assert_eq!(statuses(&sup), ["online", "standby*"]);
    assert_eq!(deeds(&step(&mut sup, 10_005, scale(0))), ["signal 1", "dismiss 3", "signal 3"]);
    step(&mut sup, 10_006, exited(1, End::Code(0)));
    step(&mut sup, 10_007, exited(3, End::Code(0)));
    assert_eq!(deeds(&step(&mut sup, 10_008, scale(2))), ["spawn 5 for 0", "spawn 6 for 2", "spawn 7 for 4"]);
}

#[test]
fn a_word_that_was_said_before_it_took_over_counts() {
    let rare = Box::new(Rare { ready: Ready::Notify, ..Rare::default() });
    let word = AppSpec { launch: Launch { rare: Some(rare), ..Launch::default() }, ..spared(1) };
    for early in [true, false] {
        let (mut sup, _) = booted(vec![word.clone()]);
        step(&mut sup, 5, Event::Ready { run: RunId(1) });
        if early {
            assert!(step(&mut sup, 6, Event::Ready { run: RunId(2) }).is_empty());
        }
        step(&mut sup, 7, stands_by(2));
        step(&mut sup, 2_000, exited(1, KILLED));
        step(&mut sup, 2_001, Event::Listening { run: RunId(2) });
        assert_eq!(statuses(&sup)[1], if early { "online" } else { "launching" });
        step(&mut sup, 2_002, Event::Ready { run: RunId(2) });
        assert_eq!(statuses(&sup)[1], "online");
    }
}
