//! What a client hears of its request before the reply: one line for what happens to each instance, in the same step.

use pm3::supervisor::Supervisor;
use pm3::supervisor::event::{ClientId, Count, Effect, End, Event, Mono, Obstacle, RunId, Scope, Sig, Verb, Wish};
use pm3::supervisor::spec::{AppSpec, Launch, Rare, Ready, Spec, StopPolicy};

use crate::{app, exited, step_and};

const FOLLOWER: ClientId = ClientId(1);
/// Old enough to be asked what it listens on.
const GROWN: u64 = 1_000;

fn step(sup: &mut Supervisor, ms: u64, event: Event) -> Vec<Effect> {
    step_and(sup, ms, event, |effect| {
        let Effect::Survey { run } = effect else { return None };
        Some(Event::Surveyed { run: *run, obstacle: None::<Obstacle> })
    })
}

fn booted(apps: Vec<AppSpec>) -> Supervisor {
    let mut sup = Supervisor::new(Spec { apps, ..Spec::default() }, 1);
    step(&mut sup, 0, Event::Boot);
    sup
}

fn asks(wish: Wish) -> Event {
    Event::Request { client: FOLLOWER, wish, follows: true }
}

fn operates(verb: Verb, targets: &[&str]) -> Event {
    asks(Wish::Operate {
        verb,
        targets: targets.iter().map(|target| (*target).into()).collect(),
        shell: None,
        how: Default::default(),
    })
}

/// What the follower is told: how many are over, who, the step, after how long, and the text; and that it is answered.
fn told(out: &[Effect]) -> Vec<String> {
    let line = |one: &Effect| {
        if let Effect::Reply { outcome, .. } = one {
            return Some(format!("reply {} {}", outcome.done.len(), outcome.failed.len()));
        }
        let Effect::Progress { client, news } = one else { return None };
        assert_eq!(*client, FOLLOWER);
        let id = news.id.map_or("-".into(), |id| id.to_string());
        let line = format!("{}/{} {id} {:?} {} {}", news.over, news.of, news.step, news.after.0, news.text);
        Some(line.trim_end().to_owned())
    };
    out.iter().filter_map(line).collect()
}

#[test]
fn a_reload_is_told_step_by_step() {
    let mut sup = booted(vec![AppSpec { instances: 2, ..app("web") }]);
    let out = step(&mut sup, GROWN, operates(Verb::Reload, &["web"]));
    assert_eq!(
        told(&out),
        [
            "0/2 - Asked 0",
            "0/2 0 Starts 0 starting a new process beside pid 101",
            "0/2 0 Trial 0 pid 103 runs and takes over if it lives for 1 s"
        ]
    );
    let out = step(&mut sup, 2 * GROWN, Event::Tick);
    assert_eq!(
        told(&out),
        ["0/2 0 Online 1000 online, pid 103", "0/2 0 Yields 1000 the old process stops with SIGTERM"]
    );
    // The next one's turn begins in the step in which this one's ends.
    let out = step(&mut sup, 2 * GROWN + 5, exited(1, End::Code(0)));
    assert_eq!(told(&out)[..2], ["1/2 0 Done 1005", "1/2 1 Starts 0 starting a new process beside pid 102"]);
    step(&mut sup, 4 * GROWN, Event::Tick);
    let out = step(&mut sup, 4 * GROWN + 5, exited(2, End::Code(0)));
    assert_eq!(told(&out), ["2/2 1 Done 2000", "reply 2 0"]);
}

#[test]
fn a_drain_is_told_and_whose_it_is() {
    let stop = StopPolicy { drain: pm3::supervisor::event::Millis(5_000), ..StopPolicy::default() };
    let mut sup = booted(vec![AppSpec { instances: 2, stop, ..app("web") }]);
    for run in [1, 2] {
        step(&mut sup, 10, Event::Listening { run: RunId(run) });
    }
    let out = step(&mut sup, GROWN, operates(Verb::Restart, &["web"]));
    let drains = "0/2 0 Drains 0 the old process drains, for 5 s at most";
    assert_eq!(told(&out), ["0/2 - Asked 0", drains]);
    let out = step(&mut sup, GROWN + 7, Event::Drained { run: RunId(1) });
    assert_eq!(told(&out), ["0/2 0 Yields 7 the old process stops with SIGTERM"]);
    // Nobody takes the place of one that is to go.
    let mut sup = booted(vec![AppSpec { instances: 2, stop: sup.apps()[0].spec.stop.clone(), ..app("web") }]);
    for run in [1, 2] {
        step(&mut sup, 10, Event::Listening { run: RunId(run) });
    }
    let out = step(&mut sup, GROWN, asks(Wish::Scale { target: "web".into(), to: Count::Down(1) }));
    assert_eq!(told(&out), ["0/1 - Asked 0", "0/1 1 Drains 0 drains, for 5 s at most"]);
}

#[test]
fn a_failure_is_told_when_it_happens_and_is_the_line_of_the_reply() {
    let mut sup = booted(vec![AppSpec { instances: 2, ..app("web") }, app("other")]);
    step(&mut sup, GROWN, operates(Verb::Reload, &["web", "other"]));
    // The fifth run is web's: who was asked last has answered first.
    let out = step(&mut sup, GROWN + 10, exited(5, End::Code(7)));
    let failed = "web-0: reload failed: exit 7; pid 101 goes on";
    let held = "web-1: keeps running as it is, another instance failed to restart";
    assert_eq!(told(&out), [format!("1/3 0 Failed 10 {failed}"), format!("2/3 1 Failed 0 {held}")]);
    step(&mut sup, 2 * GROWN, Event::Tick);
    let out = step(&mut sup, 2 * GROWN + 3, exited(3, End::Code(0)));
    assert_eq!(told(&out), ["3/3 2 Done 1003", "reply 1 2"]);
    let Some(Effect::Reply { outcome, .. }) = out.last() else { panic!("no answer: {out:?}") };
    assert_eq!(*outcome.failed, [failed.into(), held.into()]);
}

#[test]
fn who_waits_for_another_says_for_whom_and_who_does_not_end_is_killed() {
    let mut late = app("late");
    late.after = ["slow"].map(Into::into).into();
    let rare = Some(Box::new(Rare { ready: Ready::Message, ..Rare::default() }));
    let slow = AppSpec { autostart: false, launch: Launch { rare, ..Launch::default() }, ..app("slow") };
    let mut sup = booted(vec![slow, AppSpec { autostart: false, ..late }]);
    let out = step(&mut sup, 0, operates(Verb::Start, &["all"]));
    assert_eq!(told(&out), ["0/2 - Asked 0", "0/2 1 Waits 0 waits for slow"], "{out:?}");
    let out = step(&mut sup, 50, Event::Ready { run: RunId(1) });
    assert_eq!(told(&out)[0], "1/2 0 Done 0");
    let out = step(&mut sup, GROWN, operates(Verb::Stop, &["late"]));
    assert_eq!(told(&out), ["0/1 - Asked 0", "0/1 1 Stops 0 stops with SIGTERM"]);
    let deadline = sup.deadline().unwrap().0 / 1_000_000;
    let out = step(&mut sup, deadline, Event::Tick);
    let after = deadline - GROWN;
    assert_eq!(told(&out), [format!("0/1 1 Odd {after} did not end in time, sending SIGKILL")]);
    assert!(out.iter().any(|one| matches!(one, Effect::Signal { sig: Sig::KILL, scope: Scope::Tree, .. })));
}

#[test]
fn nobody_is_told_who_did_not_ask_for_it_or_is_gone_or_has_all_at_once() {
    let mut sup = booted(vec![app("web")]);
    let silent =
        Wish::Operate { verb: Verb::Restart, targets: vec!["web".into()], shell: None, how: Default::default() };
    let out = step(&mut sup, GROWN, Event::Request { client: ClientId(7), wish: silent, follows: false });
    assert!(!out.iter().any(|one| matches!(one, Effect::Progress { .. })), "{out:?}");
    let out = step(&mut sup, GROWN, operates(Verb::Start, &["nobody"]));
    assert_eq!(told(&out), ["reply 0 1"]);
    step(&mut sup, GROWN + 1, exited(1, End::Code(0)));
    step(&mut sup, 3 * GROWN, operates(Verb::Reload, &["web"]));
    step(&mut sup, 3 * GROWN + 1, Event::ClientGone { client: FOLLOWER });
    let mut out = Vec::new();
    sup.step(Mono(9_000 * 1_000_000), Event::Tick, &mut out);
    assert!(!out.is_empty() && told(&out).is_empty(), "{out:?}");
}

/// A request is told of in the same way after pm3's state has been packed and unpacked.
#[test]
fn it_goes_on_after_packing() {
    let mut sup = booted(vec![app("web")]);
    step(&mut sup, GROWN, operates(Verb::Reload, &["web"]));
    let packed = serde_json::to_string(&sup).unwrap();
    let mut sup: Supervisor = serde_json::from_str(&packed).unwrap();
    step(&mut sup, 2 * GROWN, Event::Tick);
    let out = step(&mut sup, 2 * GROWN + 5, exited(1, End::Code(0)));
    assert_eq!(told(&out), ["1/1 0 Done 1005", "reply 1 0"]);
}
