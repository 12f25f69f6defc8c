//! What a client hears of its request before the reply: one line for what happens to each instance, in the same step.

use pm3::supervisor::Supervisor;
use pm3::supervisor::event::{ClientId, Count, Effect, End, Event, Mono, Obstacle, RunId, Scope, Sig, Verb, Wish};
use pm3::supervisor::spec::{AppSpec, Launch, Rare, Ready, RestartPolicy, Spec, StopPolicy};

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

/// One more of an app whose instance 0 has this for itself: what is told until the new one has lived for its trial, or
/// has ended with 1 after 300 ms.
fn one_more(keys: AppSpec, obstacle: Option<Obstacle>, ends: bool) -> Vec<String> {
    let restart = RestartPolicy { max_restarts: 1, ..RestartPolicy::default() };
    let mut sup = booted(vec![AppSpec { restart: restart.into(), ..keys }]);
    let answer = |effect: &Effect| {
        let Effect::Survey { run } = effect else { return None };
        assert_eq!(*run, RunId(1));
        Some(Event::Surveyed { run: *run, obstacle: obstacle.clone() })
    };
    let scale = asks(Wish::Scale { target: "web".into(), to: Count::Up(1) });
    let mut out = step_and(&mut sup, GROWN, scale, answer);
    let replied = |out: &[Effect]| out.iter().any(|one| matches!(one, Effect::Reply { .. }));
    if !replied(&out) && ends {
        out.extend(step(&mut sup, GROWN + 300, exited(2, End::Code(1))));
    }
    while !replied(&out) {
        let at = sup.deadline().unwrap().0 / 1_000_000;
        out.extend(step(&mut sup, at, Event::Tick));
    }
    let lines = told(&out);
    lines.into_iter().filter(|line| !line.contains("Asked") && !line.contains("Online")).collect()
}

#[test]
fn one_more_that_may_collide_is_done_when_it_has_lived() {
    let port = || Some(Obstacle::Port(3000));
    assert_eq!(one_more(app("web"), None, true), ["1/1 1 Done 0", "reply 1 0"], "nothing is in its way");
    assert_eq!(one_more(app("web"), port(), false), ["1/1 1 Done 1000", "reply 1 0"]);
    let failed = |keys, obstacle| one_more(keys, obstacle, true)[0].clone();
    let rare = Some(Box::new(Rare { fork: true, ..Rare::default() }));
    let fork = AppSpec { launch: Launch { rare, ..Launch::default() }, ..app("web") };
    assert_eq!(
        failed(fork, port()),
        "1/1 1 Failed 300 web-1: exit 1; web-0 may be in its way, it owns port 3000: exec_mode = \"cluster\" shares TCP \
         ports, increment_var = \"PORT\" gives each instance its own"
    );
    assert!(failed(app("web"), port()).contains("`pm3 show web` says why it is not shared"));
    let socket = Some(Obstacle::Socket("/run/web.sock".into()));
    assert!(
        failed(app("web"), socket).contains("it owns the socket /run/web.sock: each instance needs one of its own")
    );
    // What cannot be seen is no reason to speak of.
    let unseen = failed(app("web"), Some(Obstacle::Unseen("no right".into())));
    assert_eq!(unseen, "1/1 1 Failed 300 web-1: exit 1");
}

#[test]
fn one_more_is_answered_even_if_the_other_is_gone_before_it_is_known() {
    let mut sup = booted(vec![app("web")]);
    let scale = asks(Wish::Scale { target: "web".into(), to: Count::Up(1) });
    let out = step_and(&mut sup, GROWN, scale, |_| None);
    assert!(!out.iter().any(|one| matches!(one, Effect::Reply { .. })), "{out:?}");
    let out = step(&mut sup, GROWN + 1, exited(1, End::Code(1)));
    assert_eq!(told(&out), ["1/1 1 Done 1", "reply 1 0"]);
}
