//! Runs that follow short ones: others get their connections until they have lived for longer.

use pm3::supervisor::Supervisor;
use pm3::supervisor::event::{ClientId, End, Event, Half, Millis, Mono, Rollout, RunId, Verb, Wish};
use pm3::supervisor::spec::{AppSpec, RestartPolicy};
use pm3::supervisor::station::Station;

use crate::{app, booted, exited, lines, step};

fn stations(sup: &Supervisor) -> Vec<Station> {
    sup.instances().map(|(_, one)| one.station(one.half)).collect()
}

fn at(ms: u64) -> Option<Mono> {
    Some(Mono(ms * 1_000_000))
}

/// Two instances that listen, of which the second has crashed so often, 10 ms after each start; the run that it has now,
/// and when it began.
fn crashed(times: u64, web: AppSpec) -> (Supervisor, u64, u64) {
    let (mut sup, _) = booted(vec![AppSpec { instances: 2, ..web }]);
    let mut run = 2;
    (1..=run).for_each(|run| drop(step(&mut sup, 0, Event::Listening { run: RunId(run) })));
    for crash in 1..=times {
        step(&mut sup, crash * 10, exited(run, End::Code(1)));
        run += 1;
    }
    (sup, run, times * 10)
}

#[test]
fn two_short_runs_are_no_accident_and_the_next_one_has_to_live_for_longer() {
    let (mut sup, run, _) = crashed(1, app("web"));
    step(&mut sup, 11, Event::Listening { run: RunId(run) });
    assert_eq!((stations(&sup), sup.deadline()), (vec![Station::Serving; 2], None));

    let (mut sup, run, began) = crashed(2, app("web"));
    assert_eq!(stations(&sup), [Station::Serving, Station::Proving]);
    let out = step(&mut sup, began + 1, Event::Listening { run: RunId(run) });
    let told = "web-1: in quarantine for 999 ms after 2 short runs, others get its connections";
    assert_eq!(lines(&out), [told]);
    assert_eq!(sup.deadline(), at(began + 1_000));
    let out = step(&mut sup, began + 1_000, Event::Tick);
    assert_eq!(lines(&out), ["web-1: out of quarantine, has lived for 1000 ms"]);
    assert_eq!((stations(&sup), sup.deadline()), (vec![Station::Serving; 2], None));
    // The next crash is the first again.
    step(&mut sup, began + 1_001, exited(run, End::Code(1)));
    step(&mut sup, began + 1_002, exited(run + 1, End::Code(1)));
    assert_eq!(stations(&sup), [Station::Serving; 2]);
}

#[test]
fn nothing_is_told_of_one_that_others_cannot_serve_for() {
    // It does not listen.
    let (mut sup, _, began) = crashed(2, app("web"));
    assert_eq!(lines(&step(&mut sup, began + 1_000, Event::Tick)), Vec::<String>::new());
    // It took longer to listen than it has to live.
    let (mut sup, run, began) = crashed(2, app("web"));
    step(&mut sup, began + 1_000, Event::Tick);
    assert_eq!(lines(&step(&mut sup, began + 1_500, Event::Listening { run: RunId(run) })), Vec::<String>::new());
    // It is the only one.
    let (mut sup, _) = booted(vec![app("web")]);
    (1..=2).for_each(|run| drop(step(&mut sup, run, exited(run, End::Code(1)))));
    assert_eq!(lines(&step(&mut sup, 3, Event::Listening { run: RunId(3) })), Vec::<String>::new());
    assert_eq!(lines(&step(&mut sup, 1_002, Event::Tick)), Vec::<String>::new());
    assert_eq!(stations(&sup), [Station::Serving]);
}

#[test]
fn an_operator_who_starts_it_anew_forgives_it() {
    for verb in [Verb::Restart, Verb::Reload, Verb::Start, Verb::Reset] {
        let (mut sup, run, began) = crashed(2, app("web"));
        step(&mut sup, began + 1, Event::Listening { run: RunId(run) });
        let wish = Wish::Operate { verb, targets: vec!["1".into()], shell: None, how: Rollout::default() };
        step(&mut sup, began + 2, Event::Request { client: ClientId(1), wish, follows: false });
        let mine = sup.instances().nth(1).map(|(_, one)| [Half::First, Half::Second].map(|half| one.station(half)));
        assert!(!mine.unwrap().contains(&Station::Proving), "{verb:?}");
    }
}

#[test]
fn a_run_without_a_least_time_to_live_is_never_short() {
    let restart = RestartPolicy { min_uptime: Millis::ZERO, ..RestartPolicy::default() };
    let (sup, ..) = crashed(5, AppSpec { restart: restart.into(), ..app("web") });
    assert_eq!((stations(&sup), sup.deadline()), (vec![Station::Serving; 2], None));
}
