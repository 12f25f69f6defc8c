//! What clients may ask beyond names: apps of their own, more of them and fewer, signals, the end.

use pm3::supervisor::Supervisor;
use pm3::supervisor::event::{
    ClientId, Count, Effect, End, Event, InstanceId, Outcome, Reason, Rollout, RunId, Scope, Sig, Verb, Wish,
};
use pm3::supervisor::instance::{Goal, State};
use pm3::supervisor::spec::{AppSpec, ExitPolicy, Input, LogMode, Rare, RestartPolicy, Settings, Shell, Spec};

use crate::{app, booted, exited, lines, step_and};

/// One step in which starts are confirmed, and nobody has anything for itself alone.
fn step(sup: &mut Supervisor, ms: u64, event: Event) -> Vec<Effect> {
    step_and(sup, ms, event, |effect| {
        let Effect::Survey { run } = effect else { return None };
        Some(Event::Surveyed { run: *run, obstacle: None })
    })
}

fn ask(client: u64, wish: Wish) -> Event {
    Event::Request { client: ClientId(client), wish, follows: false }
}

fn operate(verb: Verb, targets: &[&str]) -> Event {
    let targets = targets.iter().map(|target| (*target).into()).collect();
    ask(1, Wish::Operate { verb, targets, shell: None, how: Rollout::default() })
}

fn scale(target: &str, to: Count) -> Event {
    ask(2, Wish::Scale { target: target.into(), to })
}

/// An app as a client sends it.
fn entry(name: &str) -> AppSpec {
    let mut app = app(name);
    app.launch.script = "/bin/app".into();
    app
}

fn apply(verb: Verb, apps: &[AppSpec]) -> Event {
    ask(3, Wish::Apply { verb, apps: apps.to_vec(), renew: false, how: Rollout::default() })
}

fn read_again(apps: &[AppSpec]) -> Event {
    Event::Planned { spec: Box::new(Spec { apps: apps.to_vec(), ..Spec::default() }) }
}

fn reply(out: &[Effect]) -> Outcome {
    let replies: Vec<&Outcome> = out
        .iter()
        .filter_map(|one| if let Effect::Reply { outcome, .. } = one { Some(outcome) } else { None })
        .collect();
    assert_eq!(replies.len(), 1, "one answer: {out:?}");
    // Who arrives first is told first.
    let mut outcome = replies[0].clone();
    outcome.done.sort();
    outcome
}

fn is_answered(out: &[Effect]) -> bool {
    out.iter().any(|one| matches!(one, Effect::Reply { .. }))
}

/// `name-index id` and the state of each instance.
fn rows(sup: &Supervisor) -> Vec<String> {
    sup.instances().map(|(app, one)| format!("{} {} {}", one.who(app), one.id, one.status())).collect()
}

fn done(names: &[&str]) -> Outcome {
    Outcome { done: names.iter().map(|name| (*name).into()).collect(), ..Outcome::default() }
}

fn failed(why: &[&str]) -> Outcome {
    Outcome { failed: why.iter().map(|line| (*line).into()).collect(), ..Outcome::default() }
}

/// Ends the run of the instance with this id.
fn end(sup: &mut Supervisor, ms: u64, id: u32) -> Vec<Effect> {
    let run = sup.instance(InstanceId(id)).unwrap().1.run().unwrap();
    step(sup, ms, exited(run.0, End::Code(0)))
}

#[test]
fn apps_of_a_client_live_beside_those_of_the_file() {
    let (mut sup, _) = booted(vec![app("db")]);
    let out = step(&mut sup, 1, apply(Verb::Start, &[entry("web"), entry("api")]));
    assert_eq!(reply(&out), done(&["api", "web"]));
    assert_eq!(rows(&sup), ["db 0 online", "web 1 online", "api 2 online"]);
    // The file speaks for its own apps alone, until it has one of that name.
    step(&mut sup, 2, read_again(&[app("cache"), entry("api")]));
    end(&mut sup, 3, 0);
    assert_eq!(rows(&sup), ["web 1 online", "api 2 online", "cache 3 online"]);
    let out = step(&mut sup, 4, read_again(&[app("cache")]));
    assert_eq!(lines(&out)[1], "api: stopping with SIGTERM: config changed");
}

#[test]
fn what_is_there_already_is_changed_or_left_alone() {
    let (mut sup, _) = booted(vec![]);
    step(&mut sup, 1, apply(Verb::Start, &[entry("same"), entry("other"), entry("stopped"), entry("lenient")]));
    step(&mut sup, 2, operate(Verb::Stop, &["stopped"]));
    end(&mut sup, 3, 2);
    let (mut other, mut lenient) = (entry("other"), entry("lenient"));
    other.launch.args = ["--new".into()].into();
    other.overlap = Some(false);
    lenient.stop.timeout.0 = 60_000;
    let out = step(&mut sup, 4, apply(Verb::Start, &[entry("same"), other, entry("stopped"), lenient]));
    assert!(!is_answered(&out), "{out:?}");
    assert_eq!(
        lines(&out),
        [
            "Spawn { run: RunId(5), instance: InstanceId(2), half: First }",
            "Signal { run: RunId(2), sig: Sig(15), scope: Process }",
            "other: stopping with SIGTERM: config changed",
            "stopped: online, pid 105",
        ]
    );
    let out = reply(&end(&mut sup, 5, 1));
    assert_eq!(out.done.len(), 4);
    assert_eq!(out.said, ["same: runs already, and nothing about it has changed".into()]);
    assert_eq!(sup.apps()[3].spec.stop.timeout.0, 60_000);
}

#[test]
fn a_restart_of_described_apps_restarts_them_all_and_starts_who_is_missing() {
    let (mut sup, _) = booted(vec![]);
    step(&mut sup, 1, apply(Verb::Start, &[entry("a"), entry("b")]));
    let out = step(&mut sup, 2, apply(Verb::Restart, &[entry("a"), entry("c")]));
    assert!(lines(&out).contains(&"a: stopping with SIGTERM: operator".to_owned()), "{out:?}");
    assert_eq!(reply(&end(&mut sup, 3, 0)), done(&["a", "c"]));
    let restarts: Vec<u32> = sup.instances().map(|(_, one)| one.restarts).collect();
    assert_eq!(restarts, [1, 0, 0]);
}

#[test]
fn one_bad_app_and_nothing_is_done() {
    let (mut sup, _) = booted(vec![AppSpec { main: true, ..app("db") }]);
    let wants = |name: &str, other: &str| AppSpec { requires: [other.into()].into(), ..entry(name) };
    let cases: Vec<(Vec<AppSpec>, &str)> = vec![
        (vec![entry("a"), entry("a")], "a: there twice; each app needs a name of its own"),
        (vec![entry("a"), wants("b", "dv")], "b: waits for dv, and there is no such app, did you mean db?"),
        (vec![wants("a", "b"), wants("b", "a")], "none of these could start, each waits for the next: a, b"),
        (vec![AppSpec { main: true, ..entry("a") }], "a: main = true: db is main already, and pm3 ends with one"),
        (
            vec![entry("a"), AppSpec { instances: 16_383, ..entry("b") }],
            "16385 instances of all apps together, more than 16384",
        ),
        (vec![entry("")], "\"\": an app needs a name, a script and at least 1 instance"),
        (vec![entry("all")], "\"all\": an app needs a name, a script and at least 1 instance"),
        (vec![app("a")], "\"a\": an app needs a name, a script and at least 1 instance"),
        (vec![AppSpec { instances: 0, ..entry("a") }], "\"a\": an app needs a name, a script and at least 1 instance"),
    ];
    for (apps, why) in cases {
        let before = sup.clone();
        assert_eq!(reply(&step(&mut sup, 1, apply(Verb::Start, &apps))), failed(&[why]));
        assert_eq!(rows(&sup), rows(&before));
    }
    let out = step(&mut sup, 1, apply(Verb::Stop, &[entry("a")]));
    assert!(reply(&out).failed[0].contains("can be started, restarted or reloaded"));
    // A cycle through an app that is there.
    step(&mut sup, 2, apply(Verb::Start, &[wants("a", "db")]));
    let out = step(&mut sup, 3, apply(Verb::Start, &[wants("db", "a")]));
    assert_eq!(reply(&out), failed(&["none of these could start, each waits for the next: db, a"]));
}

#[test]
fn a_shell_is_kept_until_it_is_renewed() {
    let shell = |text: &str| Shell::from(vec![("COLOR".into(), Some(text.into()))]);
    let with = |text| {
        let mut app = entry("web");
        app.launch.shell = shell(text);
        app.overlap = Some(false);
        app
    };
    let now = |sup: &Supervisor| sup.apps()[0].spec.launch.shell.clone();
    let (mut sup, _) = booted(vec![]);
    step(&mut sup, 1, apply(Verb::Start, &[with("red")]));
    let out = step(&mut sup, 2, apply(Verb::Start, &[with("blue")]));
    assert_eq!((reply(&out).said.len(), now(&sup)), (1, shell("red")));
    let out = step(
        &mut sup,
        3,
        ask(4, Wish::Apply { verb: Verb::Start, apps: vec![with("blue")], renew: true, how: Rollout::default() }),
    );
    assert_eq!((lines(&out).len(), now(&sup)), (2, shell("blue")), "{out:?}");
    end(&mut sup, 4, 0);
    let wish = Wish::Operate {
        verb: Verb::Restart,
        targets: vec!["web".into()],
        shell: Some(shell("green")),
        how: Rollout::default(),
    };
    step(&mut sup, 5, ask(5, wish));
    assert_eq!(now(&sup), shell("green"));
    // The file has no say in it.
    step(&mut sup, 6, read_again(&[entry("web")]));
    assert_eq!(now(&sup), shell("green"));
    step(&mut sup, 7, operate(Verb::Delete, &["web"]));
    step(&mut sup, 8, apply(Verb::Start, &[with("white")]));
    assert_eq!(now(&sup), shell("white"));
    // Nor has what is deleted, while it still ends.
    step(&mut sup, 9, operate(Verb::Delete, &["web"]));
    step(&mut sup, 10, read_again(&[entry("web")]));
    assert_eq!(now(&sup), Shell::default());
}

#[test]
fn what_is_deleted_is_stopped_and_forgotten() {
    let (mut sup, _) = booted(vec![AppSpec { instances: 2, ..app("web") }, app("db")]);
    assert!(!is_answered(&step(&mut sup, 1, operate(Verb::Delete, &["web"]))));
    assert!(!is_answered(&end(&mut sup, 2, 1)));
    assert_eq!(reply(&end(&mut sup, 3, 0)), done(&["web-0", "web-1"]));
    assert_eq!(rows(&sup), ["db 2 online"]);
    assert_eq!(reply(&step(&mut sup, 4, operate(Verb::Stop, &["web"]))).failed.len(), 1);
    // One of several: the others are as many as the app now has.
    let (mut sup, _) = booted(vec![AppSpec { instances: 3, ..app("web") }]);
    step(&mut sup, 1, operate(Verb::Delete, &["1"]));
    assert_eq!(reply(&end(&mut sup, 2, 1)), done(&["web-1"]));
    assert_eq!(sup.apps()[0].spec.instances, 2);
    step(&mut sup, 3, read_again(&[AppSpec { instances: 3, ..app("web") }]));
    assert_eq!(rows(&sup), ["web-0 0 online", "web-2 2 online"]);
}

#[test]
fn an_app_that_is_deleted_while_it_restarts_is_gone_for_good() {
    let (mut sup, _) = booted(vec![app("web"), app("db")]);
    step(
        &mut sup,
        1,
        ask(
            7,
            Wish::Operate { verb: Verb::Restart, targets: vec!["web".into()], shell: None, how: Rollout::default() },
        ),
    );
    let out = step(&mut sup, 2, operate(Verb::Delete, &["web"]));
    assert_eq!(reply(&out), failed(&["web: was stopped meanwhile"]));
    assert_eq!(reply(&end(&mut sup, 3, 0)), done(&["web"]));
    assert_eq!(rows(&sup), ["db 1 online"]);
}

#[test]
fn ids_start_over_when_the_list_is_empty_and_pm3_stays() {
    let (mut sup, _) = booted(vec![app("web")]);
    step(&mut sup, 1, operate(Verb::Delete, &["all"]));
    let out = end(&mut sup, 2, 0);
    assert_eq!(out.len(), 2, "a note and an answer: {out:?}");
    let out = step(&mut sup, 3, operate(Verb::Restart, &["all"]));
    assert_eq!(reply(&out), Outcome { said: vec!["there is no app".into()], ..Outcome::default() });
    step(&mut sup, 4, apply(Verb::Start, &[entry("api")]));
    step(&mut sup, 5, apply(Verb::Start, &[entry("web")]));
    step(&mut sup, 6, operate(Verb::Delete, &["api"]));
    end(&mut sup, 7, 0);
    step(&mut sup, 8, apply(Verb::Start, &[entry("api")]));
    assert_eq!(rows(&sup), ["web 1 online", "api 2 online"]);
}

#[test]
fn scaling_takes_the_lowest_free_number_and_gives_up_the_newest() {
    let (mut sup, _) = booted(vec![app("web"), app("db")]);
    assert_eq!(reply(&step(&mut sup, 1, scale("web", Count::Up(2)))), done(&["web-1", "web-2"]));
    step(&mut sup, 2, operate(Verb::Delete, &["2"]));
    end(&mut sup, 3, 2);
    assert_eq!(reply(&step(&mut sup, 4, scale("web", Count::Exactly(3)))), done(&["web-1"]));
    assert_eq!(rows(&sup), ["web-0 0 online", "web-2 3 online", "web-1 4 online", "db 1 online"]);
    assert!(!is_answered(&step(&mut sup, 5, scale("web", Count::Down(1)))));
    assert_eq!(reply(&end(&mut sup, 6, 4)), done(&["web-1"]));
    let out = step(&mut sup, 7, scale("web", Count::Exactly(2)));
    assert_eq!(reply(&out).said, ["web: has 2 instances already".into()]);
    let out = step(&mut sup, 8, scale("web", Count::Down(3)));
    assert_eq!(reply(&out), failed(&["web: has 2 instances, 3 fewer cannot be"]));
    for (to, count) in
        [(Count::Up(u32::MAX), u32::MAX), (Count::Up(16_382), 16_385), (Count::Exactly(u32::MAX), u32::MAX)]
    {
        let out = step(&mut sup, 9, scale("web", to));
        let why = format!("web: {count} instances of all apps together, more than 16384");
        assert_eq!(reply(&out), failed(&[&why]));
    }
    let out = step(&mut sup, 10, scale("wbe", Count::Up(1)));
    assert_eq!(reply(&out), failed(&["wbe: no such app, namespace or id; did you mean web?"]));
}

#[test]
fn an_app_that_is_scaled_to_none_stays_in_the_list() {
    let (mut sup, _) = booted(vec![AppSpec { instances: 2, ..app("web") }]);
    step(&mut sup, 1, scale("web", Count::Exactly(0)));
    end(&mut sup, 2, 0);
    assert_eq!(reply(&end(&mut sup, 3, 1)), done(&["web", "web-1"]));
    assert_eq!(rows(&sup), ["web 0 stopped"]);
    // Nor does it speak for the end of pm3: somebody keeps it to start it again.
    step(&mut sup, 4, read_again(&[AppSpec { instances: 2, ..app("web") }]));
    assert_eq!(rows(&sup), ["web 0 stopped"]);
    assert_eq!(reply(&step(&mut sup, 5, operate(Verb::Start, &["web"]))), done(&["web"]));
    assert_eq!(sup.apps()[0].spec.instances, 1);
    step(&mut sup, 6, scale("web", Count::Exactly(0)));
    end(&mut sup, 7, 0);
    assert_eq!(reply(&step(&mut sup, 8, scale("web", Count::Up(2)))), done(&["web-0", "web-1"]));
    // Another number in the file takes back what an operator said.
    step(&mut sup, 9, scale("web", Count::Exactly(0)));
    end(&mut sup, 10, 0);
    end(&mut sup, 10, 2);
    step(&mut sup, 11, read_again(&[AppSpec { instances: 3, ..app("web") }]));
    assert_eq!(rows(&sup), ["web-0 0 online", "web-1 3 online", "web-2 4 online"]);
}

#[test]
fn what_an_operator_scaled_stays_until_the_file_asks_for_another_number() {
    let of = |instances| AppSpec { instances, ..app("web") };
    let (mut sup, _) = booted(vec![of(2)]);
    step(&mut sup, 1, scale("web", Count::Exactly(3)));
    step(&mut sup, 2, operate(Verb::Restart, &["web"]));
    step(&mut sup, 3, read_again(&[of(2)]));
    assert_eq!(sup.instances().count(), 3);
    let mut changed = of(2);
    changed.stop.timeout.0 = 1;
    step(&mut sup, 4, read_again(&[changed]));
    assert_eq!((sup.instances().count(), sup.apps()[0].spec.stop.timeout.0), (3, 1));
    step(&mut sup, 5, read_again(&[of(4)]));
    assert_eq!(sup.instances().count(), 4);
    // Back to what the file says is no choice of an operator's any more.
    step(&mut sup, 6, scale("web", Count::Up(1)));
    step(&mut sup, 7, scale("web", Count::Down(1)));
    step(&mut sup, 8, read_again(&[of(5)]));
    step(&mut sup, 9, read_again(&[of(4)]));
    let kept = sup.instances().filter(|(_, one)| one.goal == Goal::Run).count();
    assert_eq!(kept, 4);
}

#[test]
fn who_is_given_up_in_the_midst_of_a_restart_holds_nobody_up() {
    let (mut sup, _) = booted(vec![AppSpec { instances: 3, ..app("web") }]);
    step(&mut sup, 1, operate(Verb::Restart, &["web"]));
    let out = step(&mut sup, 2, ask(9, Wish::Scale { target: "web".into(), to: Count::Exactly(1) }));
    assert_eq!(out.iter().filter(|one| matches!(one, Effect::Signal { .. })).count(), 2, "{out:?}");
    let told = end(&mut sup, 3, 0);
    assert_eq!(reply(&told).failed.len(), 2, "{told:?}");
    end(&mut sup, 4, 1);
    assert_eq!(reply(&end(&mut sup, 5, 2)), done(&["web-1", "web-2"]));
    assert_eq!(rows(&sup), ["web 0 online"]);
}

#[test]
fn a_reset_forgets_crashes_and_keeps_the_history() {
    let (mut sup, _) = booted(vec![app("web")]);
    for run in 1..=3 {
        step(&mut sup, 10 * run, exited(run, End::Code(7)));
    }
    assert_eq!(reply(&step(&mut sup, 50, operate(Verb::Reset, &["web"]))), done(&["web"]));
    let (_, one) = sup.instances().next().unwrap();
    assert_eq!((one.restarts, one.record.unstable, one.past.len()), (0, 0, 3));
}

#[test]
fn the_last_ten_runs_are_remembered_with_their_reasons() {
    let settings = Settings { exit: ExitPolicy::Never, ..Settings::default() };
    let restart = RestartPolicy { max_restarts: 99, ..RestartPolicy::default() };
    let mut sup = Supervisor::new(Spec { apps: vec![AppSpec { restart: restart.into(), ..app("web") }], settings }, 1);
    step(&mut sup, 0, Event::Boot);
    for run in 1..=12 {
        step(&mut sup, 10 * run, exited(run, End::Code(7)));
    }
    step(&mut sup, 500, operate(Verb::Stop, &["web"]));
    end(&mut sup, 600, 0);
    let (_, one) = sup.instances().next().unwrap();
    let last = &one.past[9];
    assert_eq!((one.past.len(), last.pid, last.lasted.0, &last.reason), (10, 113, 480, &Reason::Operator));
    assert_eq!((one.past[0].pid, &one.past[0].reason), (104, &Reason::Ended(End::Code(7))));
}

#[test]
fn a_signal_goes_to_main_processes_and_to_no_others() {
    let (mut sup, _) = booted(vec![AppSpec { instances: 2, ..app("web") }, app("db")]);
    step(&mut sup, 1, operate(Verb::Stop, &["db"]));
    end(&mut sup, 2, 2);
    let wish = Wish::Signal { sig: Sig::USR2, targets: vec!["web".into(), "db".into(), "nobody".into()] };
    let out = step(&mut sup, 3, ask(1, wish));
    let to = |run| Effect::Signal { run: RunId(run), sig: Sig::USR2, scope: Scope::Process };
    assert_eq!(out[..2], [to(1), to(2)]);
    let outcome = reply(&out);
    assert_eq!(outcome.done, ["web-0".into(), "web-1".into()]);
    assert_eq!(outcome.failed[1], "db: has no process, it is stopped".into());
    assert!(sup.instances().take(2).all(|(_, one)| matches!(one.state, State::Alive(_)) && one.is_online()));
}

#[test]
fn who_asks_for_the_end_is_answered_just_before_it() {
    let (mut sup, _) = booted(vec![app("web")]);
    let out = step(&mut sup, 1, ask(1, Wish::Quit));
    assert!(lines(&out)[0].starts_with("stopping: "), "{out:?}");
    // Another one joins in; whoever asks for anything else is refused.
    assert!(!is_answered(&step(&mut sup, 2, ask(2, Wish::Quit))));
    let out = step(&mut sup, 2, apply(Verb::Start, &[entry("late")]));
    assert_eq!(reply(&out), failed(&["pm3 is stopping"]));
    assert!(!is_answered(&end(&mut sup, 3, 0)));
    let out = step(&mut sup, 4, Event::Childless);
    let reply = |client| Effect::Reply { client: ClientId(client), outcome: done(&["pm3"]) };
    assert_eq!(out[..2], [reply(1), reply(2)]);
    assert!(matches!(out[2], Effect::Exit { code: 0, .. }), "{out:?}");
}

#[test]
fn a_thousand_apps_come_in_one_request() {
    let (mut sup, _) = booted(vec![]);
    let apps: Vec<AppSpec> = (0..1_000).map(|at| entry(&format!("app{at}"))).collect();
    let outcome = reply(&step(&mut sup, 1, apply(Verb::Start, &apps)));
    assert_eq!((outcome.done.len(), outcome.failed.len()), (1_000, 0));
    let outcome = reply(&step(&mut sup, 2, apply(Verb::Start, &apps)));
    assert_eq!((outcome.done.len(), outcome.said.len()), (1_000, 1_000));
}

#[test]
fn what_there_are_no_descriptors_for_is_refused_with_their_number() {
    let (mut sup, _) = booted(vec![app("web")]);
    sup.limit_descriptors(9);
    let mut quiet = entry("quiet");
    (quiet.instances, quiet.launch.output.mode) = (100, LogMode::None);
    assert_eq!(reply(&step(&mut sup, 1, apply(Verb::Start, &[quiet]))).done.len(), 100);
    let why =
        "file descriptors for the pipes of all apps together, more than 9; start pm3 with a higher limit (ulimit -n)";
    let out = step(&mut sup, 2, apply(Verb::Start, &[AppSpec { instances: 2, ..entry("api") }]));
    assert_eq!(reply(&out), failed(&[&format!("10 {why}")]));
    assert_eq!(reply(&step(&mut sup, 3, scale("web", Count::Exactly(4)))), failed(&[&format!("web: 10 {why}")]));
    assert_eq!(reply(&step(&mut sup, 4, scale("web", Count::Exactly(3)))), done(&["web-1", "web-2"]));
    // What it reads and how it says that it is ready count, too; its end of each is its own.
    let mut reads = entry("reads");
    reads.launch.output.mode = LogMode::None;
    reads.launch.rare = Some(Box::new(Rare { stdin: Input::Pipe, ..Rare::default() }));
    assert_eq!(reply(&step(&mut sup, 5, apply(Verb::Start, &[reads]))), failed(&[&format!("10 {why}")]));
    // Fewer are never refused.
    sup.limit_descriptors(0);
    step(&mut sup, 5, scale("web", Count::Exactly(2)));
    assert_eq!(reply(&end(&mut sup, 6, 102)), done(&["web-2"]));
}

type Is<'a> = &'a dyn Fn(&AppSpec, InstanceId) -> bool;

/// Whom a word means, by the rule as it is written: a name, else a namespace, else an id.
fn meant(sup: &Supervisor, word: &str) -> Vec<InstanceId> {
    let of = |is: Is<'_>| -> Vec<InstanceId> {
        sup.instances()
            .filter(|(app, one)| one.goal != Goal::Remove && is(app, one.id))
            .map(|(_, one)| one.id)
            .collect()
    };
    let ways: [Is<'_>; 4] = [
        &|_, _| word == "all",
        &|app, _| *app.name == *word,
        &|app, _| app.namespace.as_deref().unwrap_or("default") == word,
        &|_, id| word.parse() == Ok(id.0),
    ];
    ways.into_iter().map(of).find(|found| !found.is_empty()).unwrap_or_default()
}

#[test]
fn words_mean_names_then_namespaces_then_ids_however_many_there_are() {
    let in_space = |name: &str, space: &str| AppSpec { namespace: Some(space.into()), instances: 2, ..app(name) };
    let apps = vec![in_space("web", "shop"), in_space("shop", "3"), app("3"), in_space("7", "web"), app("all")];
    let (mut sup, _) = booted(apps);
    // On its way out, it is nobody's any more.
    step(&mut sup, 1, operate(Verb::Delete, &["1"]));
    assert_eq!(rows(&sup).len(), 8);
    let words =
        ["web", "shop", "3", "7", "all", "default", "0", "1", "2", "03", "+4", "4", "-1", "99", "", "we", "none"];
    let ask = |words: &[&str]| {
        let mut outcome = Outcome::default();
        let targets: Vec<Box<str>> = words.iter().map(|word| (*word).into()).collect();
        (sup.resolve_all(&targets, &mut outcome), outcome)
    };
    for one in words {
        for other in words {
            let (found, outcome) = ask(&[one, other, one]);
            let mut expected = [meant(&sup, one), meant(&sup, other)].concat();
            expected.sort();
            expected.dedup();
            assert_eq!(found, expected, "{one:?} {other:?}");
            let unknown = [one, other].into_iter().filter(|word| meant(&sup, word).is_empty());
            let unknown: std::collections::BTreeSet<&str> = unknown.collect();
            assert_eq!((outcome.failed.len(), outcome.said.len()), (unknown.len(), 0), "{one:?} {other:?}");
        }
    }
    // Each is tried, and told of in the order in which it was asked for.
    let (found, outcome) = ask(&["nobody", "0", "webb", "nobody"]);
    assert_eq!(found, [InstanceId(0)]);
    let why = ["nobody: no such app, namespace or id; `pm3 list` shows what there is"];
    let near = ["webb: no such app, namespace or id; did you mean web?"];
    assert_eq!(outcome, failed(&[why, near].concat()));
    let (none, _) = booted(vec![]);
    let mut outcome = Outcome::default();
    assert_eq!(none.resolve_all(&["all".into()], &mut outcome), []);
    assert_eq!(outcome.said, ["there is no app".into()]);
}
