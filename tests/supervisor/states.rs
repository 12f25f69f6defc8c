//! One table of what an instance makes of each event in each of its states: `states.txt`. A change of semantics is a
//! readable difference there. Every state is reached by events, and a run's events come only where there is a run.

use std::fmt::Write;
use std::time::Duration;

use expect_test::expect_file;
use pm3::supervisor::Supervisor;
use pm3::supervisor::event::{
    Amount, Care, ClientId, Count, Effect, End, Event, Failure, Half, InstanceId, Millis, Mono, Obstacle, Oom, Rollout,
    RunId, Scope, Sig, Stage, Verb, Wish,
};
use pm3::supervisor::instance::{Goal, Instance, Next, State};
use pm3::supervisor::life::{Life, Phase};
use pm3::supervisor::reload::{Manner, Part, Survey};
use pm3::supervisor::spec::{
    AppSpec, ExitPolicy, Launch, Rare, Ready, RestartPolicy, Settings, Spec, Standby, StopPolicy,
};

/// `web`, whose states the table is about, and `db`, which it requires.
struct Play {
    sup: Supervisor,
    /// The instance that is meant: the first, or the spare.
    id: InstanceId,
    spec: Spec,
    now: Mono,
}

const DB: RunId = RunId(1);

impl Play {
    fn new(autostart: bool, waits_for_word: bool, spare: bool) -> Play {
        let rare =
            Box::new(Rare { ready: if waits_for_word { Ready::Message } else { Ready::Executing }, ..Rare::default() });
        let web = AppSpec {
            name: "web".into(),
            launch: Launch { script: "/bin/web".into(), rare: Some(rare), ..Launch::default() },
            autostart,
            requires: ["db".into()].into(),
            memory_limit: Some(20 << 20),
            restart: RestartPolicy {
                backoff: Millis(100),
                max_restarts: 3,
                stop_exit_codes: vec![3],
                ..RestartPolicy::default()
            }
            .into(),
            stop: StopPolicy { timeout: Millis(2_000), ..StopPolicy::default() },
            cron: Some("0 4 * * *".into()),
            standby: spare.then(|| Box::new(Standby { count: 1, ..Standby::default() })),
            ..AppSpec::default()
        };
        let db = AppSpec { name: "db".into(), ..AppSpec::default() };
        let settings = Settings { exit: ExitPolicy::Never, ..Settings::default() };
        let spec = Spec { apps: vec![web, db], settings };
        let mut play = Play { sup: Supervisor::new(spec.clone(), 1), id: InstanceId(0), spec, now: Mono(0) };
        play.step(Event::Boot);
        play.id = play.sup.instances().find(|(app, one)| *app.name == *"web" && one.spare == spare).unwrap().1.id;
        play
    }

    /// One step, a millisecond after the last.
    fn step(&mut self, event: Event) -> Vec<Effect> {
        self.pass(1);
        let mut out = Vec::new();
        self.sup.step(self.now, event, &mut out);
        out
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.after(Duration::from_millis(ms));
    }

    fn web(&self) -> &Instance {
        self.sup.instance(self.id).unwrap().1
    }

    /// The run of the instance that a spare stands by for.
    fn first(&self) -> Option<RunId> {
        self.sup.instances().find(|(app, one)| *app.name == *"web" && one.id != self.id).and_then(|(_, one)| one.run())
    }

    /// The events that lead from a fresh start to the state of this name.
    fn reach(name: &str) -> Play {
        let mut play = Play::new(name != "never started", name.ends_with("preparing"), name.starts_with("spare"));
        let waits = ["never started", "waiting", "held"].contains(&name);
        if name == "held" {
            play.step(refused(DB, false));
        } else {
            play.step(Event::Spawned { run: DB, pid: 10 });
            if !waits {
                play.step(Event::Executed { run: DB });
            }
        }
        if let Some(run) = play.first() {
            play.step(Event::Spawned { run, pid: 15 });
            play.step(Event::Executed { run });
        }
        if let Some(run) = play.web().run().filter(|_| name != "start ordered") {
            play.step(Event::Spawned { run, pid: 20 });
            if !["launching", "errored"].contains(&name) {
                play.step(Event::Executed { run });
            }
        }
        let run = play.web().run().unwrap_or_default();
        // Both are at the same point of their way.
        let reload = name.replace("preparing", "on trial");
        if let Some(stage) = RELOADS.iter().position(|stage| *stage == reload) {
            if reload != name {
                play.step(Event::Ready { run });
            }
            play.pass(1_000);
            play.step(ask(Verb::Reload));
            let next = RunId(run.0 + 1);
            let stages = [
                vec![Event::Surveyed { run, obstacle: None }],
                vec![Event::Spawned { run: next, pid: 30 }, Event::Executed { run: next }],
                vec![Event::Tick],
            ];
            for event in stages.into_iter().take(stage).flatten() {
                if event == Event::Tick {
                    play.pass(1_000);
                }
                play.step(event);
            }
            return play;
        }
        let next = RunId(run.0 + 1);
        let (listening, free) = (Event::Listening { run }, Event::Surveyed { run, obstacle: None });
        let follows = [Event::Spawned { run: next, pid: 30 }, Event::Executed { run: next }];
        let path: Vec<Event> = match name {
            "never started" | "waiting" | "held" | "start ordered" | "launching" | "preparing" | "online" => vec![],
            "spare, on its way" => vec![],
            "spare, stands by" => vec![Event::StandsBy { run }],
            "canary, held" => {
                let asked = [Event::Listening { run }, canary(), free];
                asked.into_iter().chain(follows).chain([Event::Listening { run: next }]).collect()
            }
            "errored" => vec![refused(run, false)],
            "stopping" => vec![ask(Verb::Stop)],
            "stopping to restart" => vec![ask(Verb::Restart)],
            "stopping, killed" => vec![ask(Verb::Stop), Event::Tick],
            "clearing after a crash" => vec![exited(run, End::Code(1), true)],
            "clearing after a stop" => vec![ask(Verb::Stop), exited(run, End::Code(0), true)],
            "settling" => vec![exited(run, End::Signal(Sig::TERM), false)],
            "backing off" => vec![exited(run, End::Code(1), false)],
            "stopped" => vec![ask(Verb::Stop), exited(run, End::Code(0), false)],
            "finished" => vec![exited(run, End::Code(3), false)],
            "listening" => vec![listening],
            "draining to restart" => vec![listening, ask(Verb::Restart)],
            "preparing to listen" => {
                let ends = [listening, ask(Verb::Restart), Event::Drained { run }, exited(run, End::Code(0), false)];
                ends.into_iter().chain(follows).collect()
            }
            "reload, new run to listen" => [listening, ask(Verb::Reload), free].into_iter().chain(follows).collect(),
            "reload, old run draining" => {
                let listens = [Event::Listening { run: next }];
                [listening, ask(Verb::Reload), free].into_iter().chain(follows).chain(listens).collect()
            }
            other => panic!("nobody knows the way to {other}"),
        };
        for event in path {
            if event == Event::Tick {
                play.pass(2_000);
            }
            play.step(event);
        }
        play
    }

    fn event(&self, name: &str) -> Option<Event> {
        let (name, run) = match name.strip_prefix("other run: ") {
            Some(name) => (name, self.web().second.as_ref().map(|second| second.life.run)),
            None => (name, self.web().run()),
        };
        let of_run = |event: fn(RunId) -> Event| run.map(event);
        match name {
            "spawned" => of_run(|run| Event::Spawned { run, pid: 20 }),
            "executed" => of_run(|run| Event::Executed { run }),
            "says it is ready" => of_run(|run| Event::Ready { run }),
            "listening" => of_run(|run| Event::Listening { run }),
            "drained" => of_run(|run| Event::Drained { run }),
            "start refused for now" => of_run(|run| refused(run, true)),
            "start failed" => of_run(|run| refused(run, false)),
            "exit 0" => of_run(|run| exited(run, End::Code(0), false)),
            "exit 3, a stop code" => of_run(|run| exited(run, End::Code(3), false)),
            "exit 1" => of_run(|run| exited(run, End::Code(1), false)),
            "exit 1 with leftovers" => of_run(|run| exited(run, End::Code(1), true)),
            "TERM from outside" => of_run(|run| exited(run, End::Signal(Sig::TERM), false)),
            "leftovers gone" => of_run(|run| Event::Cleared { run }),
            "stands by" => of_run(|run| Event::StandsBy { run }),
            "cannot stand by" => of_run(|run| Event::Unfit { run, why: "its port is its own".into() }),
            "another main process" => of_run(|run| Event::Moved { run, pid: 25 }),
            "other instance: exit 1" => self.first().map(|run| exited(run, End::Code(1), false)),
            "survey: free" => of_run(|run| Event::Surveyed { run, obstacle: None }),
            "survey: port" => of_run(|run| Event::Surveyed { run, obstacle: Some(Obstacle::Port(3000)) }),
            "over the memory limit" => of_run(|run| Event::Usage { run, bytes: 30 << 20 }),
            "request: start" => Some(ask(Verb::Start)),
            "request: stop" => Some(ask(Verb::Stop)),
            "request: restart" => Some(ask(Verb::Restart)),
            "request: reload" => Some(ask(Verb::Reload)),
            "request: canary" => Some(canary()),
            "request: promote" => Some(decide(PROMOTE, Verb::Promote)),
            "request: abort" => Some(decide(ABORT, Verb::Abort)),
            "request: delete" => Some(ask(Verb::Delete)),
            "request: reset" => Some(ask(Verb::Reset)),
            "request: a signal" => Some(wish(SIGNAL, Wish::Signal { sig: Sig::USR2, targets: vec!["web".into()] })),
            "request: scale to 0" => Some(wish(SCALE, Wish::Scale { target: "web".into(), to: Count::Exactly(0) })),
            "request: scale +1" => Some(wish(SCALE, Wish::Scale { target: "web".into(), to: Count::Up(1) })),
            "apply: start same" => Some(self.applied(Verb::Start, |_| {})),
            "apply: start new" => Some(self.applied(Verb::Start, |web| web.launch.args = ["--new".into()].into())),
            "apply: restart same" => Some(self.applied(Verb::Restart, |_| {})),
            "apply: restart new" => Some(self.applied(Verb::Restart, |web| web.launch.args = ["--new".into()].into())),
            "its time comes" => self.web().deadline(&self.spec.apps[0]).map(|_| Event::Tick),
            "cron" => Some(Event::Scheduled { app: "web".into(), at: Some(self.now) }),
            "file: new arguments" => Some(self.planned(|web| web.launch.args = ["--new".into()].into())),
            "file: new stop signal" => Some(self.planned(|web| web.stop.signal = Sig::INT)),
            "file: app gone" => Some(Event::Planned {
                spec: Box::new(Spec { apps: vec![self.spec.apps[1].clone()], ..self.spec.clone() }),
            }),
            "pm3 gets TERM" => Some(Event::Signal { sig: Sig::TERM, by_kernel: false }),
            other => panic!("nobody knows {other}"),
        }
    }

    /// A client brings the app as the file has it, changed by `edit`.
    fn applied(&self, verb: Verb, edit: fn(&mut AppSpec)) -> Event {
        let mut web = self.spec.apps[0].clone();
        edit(&mut web);
        wish(APPLY, Wish::Apply { verb, apps: vec![web], renew: false, how: Rollout::default() })
    }

    fn planned(&self, edit: fn(&mut AppSpec)) -> Event {
        let mut spec = self.spec.clone();
        edit(&mut spec.apps[0]);
        Event::Planned { spec: Box::new(spec) }
    }
}

const STATES: &[&str] = &[
    "never started",
    "waiting",
    "held",
    "start ordered",
    "launching",
    "preparing",
    "online",
    "listening",
    "spare, on its way",
    "spare, stands by",
    "canary, held",
    "draining to restart",
    "preparing to listen",
    "stopping",
    "stopping to restart",
    "stopping, killed",
    "clearing after a crash",
    "clearing after a stop",
    "settling",
    "backing off",
    "stopped",
    "errored",
    "finished",
    "reload, surveying",
    "reload, new run ordered",
    "reload, new run on trial",
    "reload, new run preparing",
    "reload, old run leaving",
    "reload, new run to listen",
    "reload, old run draining",
];

/// The stages of a reload, each an event further than the last.
const RELOADS: [&str; 4] =
    ["reload, surveying", "reload, new run ordered", "reload, new run on trial", "reload, old run leaving"];

const EVENTS: &[&str] = &[
    "spawned",
    "executed",
    "says it is ready",
    "listening",
    "drained",
    "stands by",
    "cannot stand by",
    "another main process",
    "start refused for now",
    "start failed",
    "exit 0",
    "exit 3, a stop code",
    "exit 1",
    "exit 1 with leftovers",
    "TERM from outside",
    "leftovers gone",
    "other run: spawned",
    "other run: executed",
    "other run: says it is ready",
    "other run: listening",
    "other run: drained",
    "other run: start failed",
    "other run: exit 1",
    "other run: exit 1 with leftovers",
    "other run: leftovers gone",
    "other run: over the memory limit",
    "other instance: exit 1",
    "survey: free",
    "survey: port",
    "over the memory limit",
    "request: start",
    "request: stop",
    "request: restart",
    "request: reload",
    "request: canary",
    "request: promote",
    "request: abort",
    "request: delete",
    "request: reset",
    "request: a signal",
    "request: scale to 0",
    "request: scale +1",
    "apply: start same",
    "apply: start new",
    "apply: restart same",
    "apply: restart new",
    "its time comes",
    "cron",
    "file: new arguments",
    "file: new stop signal",
    "file: app gone",
    "pm3 gets TERM",
];

/// Can these two meet? What was executed is not executed again, and who has not ended leaves nothing.
fn may_happen(play: &Play, name: &str) -> bool {
    let (web, waits_for_word) = (play.web(), play.spec.apps[0].ready_within().is_some());
    let (event, life) = match name.strip_prefix("other run: ") {
        Some(event) => (event, web.second.as_ref().map(|second| &second.life)),
        None => (name, web.life()),
    };
    let phase = life.map(|life| life.phase);
    let launching = phase == Some(Phase::Launching);
    let clearing = matches!(phase, Some(Phase::Clearing { .. }));
    let forked = life.is_some_and(|life| life.main() != 0);
    let stands = matches!(phase, Some(Phase::Standby { .. }));
    match event {
        "survey: free" | "survey: port" => web.roll.as_ref().is_some_and(|roll| roll.survey == Survey::Asked),
        "spawned" | "start refused for now" => launching && !forked,
        "executed" => launching && forked,
        "says it is ready" => waits_for_word && matches!(phase, Some(Phase::Preparing { .. })),
        "stands by" | "cannot stand by" => web.spare && (stands || matches!(phase, Some(Phase::Preparing { .. }))),
        "another main process" => forked && life.is_some_and(Life::is_unsignalled) && phase == Some(Phase::Online),
        "listening" => forked && !launching && !web.spare && life.is_some_and(|life| !life.listens),
        "drained" => matches!(phase, Some(Phase::Draining { .. })),
        "start failed" => launching,
        "leftovers gone" => clearing,
        "exit 0" | "exit 3, a stop code" | "exit 1" | "exit 1 with leftovers" | "TERM from outside" => forked,
        "over the memory limit" => forked && !launching && !web.spare && (event == name || web.held().is_some()),
        "request: canary" | "request: promote" | "request: abort" => web.is_online(),
        _ => true,
    }
}

fn ask(verb: Verb) -> Event {
    wish(verb as u64, Wish::Operate { verb, targets: vec!["web".into()], shell: None, how: Rollout::default() })
}

fn canary() -> Event {
    let how = Rollout { care: Some(Care::Canary(Amount::Percent(5))), parallel: None };
    wish(CANARY, Wish::Operate { verb: Verb::Reload, targets: vec!["web".into()], shell: None, how })
}

fn decide(asker: u64, verb: Verb) -> Event {
    wish(asker, Wish::Operate { verb, targets: vec!["web".into()], shell: None, how: Rollout::default() })
}

/// Who asks is known by what for: a verb's number, or one of these.
const ASKERS: [&str; 13] = [
    "start", "stop", "restart", "reload", "delete", "reset", "watch", "signal", "scale", "apply", "canary", "promote",
    "abort",
];
const SIGNAL: u64 = 7;
const SCALE: u64 = 8;
const APPLY: u64 = 9;
const CANARY: u64 = 10;
const PROMOTE: u64 = 11;
const ABORT: u64 = 12;

fn wish(asker: u64, wish: Wish) -> Event {
    Event::Request { client: ClientId(asker), wish, follows: false }
}

fn exited(run: RunId, end: End, leftovers: bool) -> Event {
    Event::Exited { run, end, oom: Oom::No, leftovers }
}

fn refused(run: RunId, passing: bool) -> Event {
    let (stage, errno, why) =
        if passing { (Stage::Fork, 11, "no more processes") } else { (Stage::Exec, 2, "no such file") };
    let failure = Failure { stage, object: "".into(), errno, why: why.into(), passing };
    Event::SpawnFailed { run, failure }
}

fn within(at: Option<Mono>, now: Mono) -> String {
    at.map_or("now".into(), |at| format!("in {} ms", at.since(now).as_millis()))
}

fn show_life(life: &Life, now: Mono) -> String {
    match life.phase {
        Phase::Launching => "launching".into(),
        Phase::Preparing { until } => format!("preparing, taken for ready {}", within(Some(until), now)),
        Phase::Standby { until } => {
            until.map_or("stands by".into(), |until| format!("stands by, aged {}", within(Some(until), now)))
        }
        Phase::Online if life.listens => "online, listens".into(),
        Phase::Online => "online".into(),
        Phase::Draining { until } => format!("draining, signalled {}", within(Some(until), now)),
        Phase::Stopping { kill_at: None } => "stopping, killed".into(),
        Phase::Stopping { kill_at } => format!("stopping, killed {}", within(kill_at, now)),
        Phase::Clearing { kill_at, next } => {
            let next = match next {
                Next::Goal => "follows its goal",
                Next::Judge { .. } => "is judged",
                Next::Forgiven => "is forgiven",
            };
            format!("clearing, killed {}, then {next}", within(kill_at, now))
        }
    }
}

/// A state in a few words, with spans instead of moments.
fn show(one: &Instance, now: Mono) -> String {
    let within = |at| within(at, now);
    let state = match &one.state {
        State::Waiting { on } => format!("waiting for {}", on.as_deref().unwrap_or("its turn")),
        State::Alive(life) => show_life(life, now),
        State::Settling { until, .. } => format!("settling, judged {}", within(Some(*until))),
        State::Backoff { until } => format!("backing off, runs {}", within(Some(*until))),
        State::Stopped => "stopped".into(),
        State::Errored { code, .. } => format!("errored with {code}"),
        State::Finished { code } => format!("finished with {code}"),
    };
    let goal = match one.goal {
        Goal::Run => "",
        Goal::Idle => " [idle]",
        Goal::Stop => " [to stop]",
        Goal::Remove => " [to be forgotten]",
    };
    let second = one.second.as_deref().map(|second| {
        let trial = if let Part::Trial { until, .. } = second.part { until } else { None };
        let trial = trial.map(|at| format!(", on trial, ready {}", within(Some(at)))).unwrap_or_default();
        let trial = if second.held().is_some() { ", held".to_owned() } else { trial };
        format!(" + {}{trial}", show_life(&second.life, now))
    });
    let roll = one.roll.as_deref().map(|roll| match (roll.manner, &roll.survey) {
        (Manner::OldFirst, _) => format!(" [restart: {}]", roll.reason),
        (Manner::NewFirst, Survey::Early { until }) => {
            format!(" [reload: {}, asks {}]", roll.reason, within(Some(*until)))
        }
        (Manner::NewFirst, Survey::Asked) => format!(" [reload: {}, has asked]", roll.reason),
        (Manner::NewFirst, Survey::Due | Survey::Known(_)) => format!(" [reload: {}]", roll.reason),
    });
    let goal = if one.spare { format!(" [spare]{goal}") } else { goal.to_owned() };
    format!("{state}{goal}{}{}", second.unwrap_or_default(), roll.unwrap_or_default())
}

fn show_effect(effect: &Effect) -> String {
    match effect {
        Effect::Spawn { half: Half::First, .. } => "spawn".into(),
        Effect::Spawn { half: Half::Second, .. } => "spawn on the other half".into(),
        Effect::Survey { .. } => "survey".into(),
        Effect::Drain { .. } => "drain".into(),
        Effect::TakeOver { .. } => "take over".into(),
        Effect::Dismiss { .. } => "dismiss".into(),
        Effect::Probe { .. } => "probe".into(),
        Effect::Signal { sig, scope: Scope::Process, run } if *run == DB => format!("{sig} to db"),
        Effect::Signal { sig, scope: Scope::Process, .. } => format!("{sig}"),
        Effect::Signal { sig, scope: Scope::Tree, .. } => format!("{sig} to the tree"),
        Effect::Sweep { sig } => format!("sweep with {sig}"),
        Effect::Sample { .. } => "sample".into(),
        Effect::Schedule { .. } => "ask for the schedule".into(),
        Effect::Progress { client, news } => format!("tell {}: {news:?}", ASKERS[client.0 as usize]),
        Effect::Reply { client, outcome } => {
            let verb = ASKERS[client.0 as usize];
            let failed: Vec<&str> = outcome.failed.iter().map(|line| &**line).collect();
            if failed.is_empty() {
                format!("reply to {verb}: done")
            } else {
                format!("reply to {verb}: {}", failed.join(", "))
            }
        }
        Effect::Note(note) => format!("“{note}”"),
        Effect::ReadPlan => "read the file".into(),
        Effect::Report => "report".into(),
        Effect::Exit { code, .. } => format!("exit with {code}"),
    }
}

#[test]
fn every_state_and_every_event() {
    let mut table = String::new();
    for state in STATES {
        let before = Play::reach(state);
        writeln!(table, "{state}: {}", show(before.web(), before.now)).unwrap();
        for name in EVENTS.iter().filter(|event| may_happen(&before, event)) {
            let mut play = Play::reach(state);
            let Some(event) = play.event(name) else { continue };
            if event == Event::Tick {
                play.now = play.web().deadline(&play.spec.apps[0]).unwrap();
            }
            let effects: Vec<String> = play.step(event).iter().map(show_effect).collect();
            let web = play.sup.instance(play.id);
            let after = web.map_or("forgotten".into(), |(_, web)| show(web, play.now));
            let effects = if effects.is_empty() { String::new() } else { format!(" | {}", effects.join(", ")) };
            writeln!(table, "    {name:<21} -> {after}{effects}").unwrap();
        }
        table.push('\n');
    }
    expect_file!["states.txt"].assert_eq(table.trim_end());
}
