//! Random plans, and random changes to a plan: what an operator might write into the file. Every plan is one that
//! `config` would let pass: known names, no circles, at least one instance, at most one main app.

use pm3::supervisor::event::{Millis, Sig};
use pm3::supervisor::spec::{
    Amount, AppSpec, ExitPolicy, Health, Kind, Launch, Rare, Ready, Restart, RestartPolicy, RollPolicy, Settings,
    Shell, Spec, Standby, StopPolicy, Watch,
};

use crate::dice::Dice;

/// In the order of who may wait for whom: each only for earlier ones.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

pub(crate) const NAMESPACES: [&str; 2] = ["front", "back"];

pub(crate) const MEMORY_LIMIT: u64 = 20 << 20;

pub(crate) fn random(dice: &mut Dice) -> Spec {
    let mut spec = Spec { apps: Vec::new(), settings: settings(dice) };
    for _ in 0..dice.between(1, 4) {
        add(dice, &mut spec);
    }
    spec
}

/// What the file may say after an edit; now and then the same as before.
pub(crate) fn changed(dice: &mut Dice, old: &Spec) -> Spec {
    let mut spec = old.clone();
    for _ in 0..dice.below(4) {
        let at = dice.below(spec.apps.len() as u64) as usize;
        match dice.below(6) {
            0 => add(dice, &mut spec),
            1 if spec.apps.len() > 1 => {
                let gone = spec.apps.remove(at).name;
                for app in &mut spec.apps {
                    app.after = app.after.iter().filter(|name| **name != gone).cloned().collect();
                    app.requires = app.requires.iter().filter(|name| **name != gone).cloned().collect();
                }
            }
            2 => spec.apps[at].launch.args = [format!("{}", dice.below(1000)).into()].into(),
            3 => spec.apps[at].instances = dice.between(1, 4) as u32,
            4 => {
                let name = spec.apps[at].name.clone();
                let launch = spec.apps[at].launch.clone();
                spec.apps[at] = lawful(AppSpec { launch, ..app(dice, &name, &spec.apps) });
            }
            _ => spec.settings = settings(dice),
        }
    }
    spec
}

/// What a client brings: apps that are there, changed or not, and new ones. Now and then they cannot be.
pub(crate) fn batch(dice: &mut Dice, there: &Spec) -> Vec<AppSpec> {
    let mut batch: Vec<AppSpec> = Vec::new();
    for _ in 0..dice.pick(&[1, 1, 2, 3, 0]) {
        let name = dice.pick(&NAMES);
        let known = there.apps.iter().find(|app| *app.name == *name);
        let mut entry = match known {
            Some(known) if dice.chance(60) => known.clone(),
            _ => AppSpec { main: false, ..app(dice, name, &there.apps) },
        };
        match dice.below(6) {
            0 => entry.launch.args = [format!("{}", dice.below(1000)).into()].into(),
            1 => entry.instances = dice.between(1, 4) as u32,
            _ => {}
        }
        entry.launch.shell = shell(dice);
        if dice.chance(10) {
            spoil(dice, &mut entry);
        }
        batch.retain(|other| other.name != entry.name);
        if dice.chance(5) {
            batch.push(entry.clone());
        }
        batch.push(entry);
    }
    batch
}

/// Makes something of it that pm3 has to refuse, as a rule.
fn spoil(dice: &mut Dice, entry: &mut AppSpec) {
    match dice.below(4) {
        0 => entry.requires = ["nobody".into()].into(),
        1 => entry.after = [dice.pick(&NAMES).into()].into(),
        2 => entry.main = true,
        _ => entry.instances = 0,
    }
}

pub(crate) fn shell(dice: &mut Dice) -> Shell {
    let value = dice.pick(&[None, Some("red"), Some("blue")]);
    Shell::from(vec![("COLOR".into(), value.map(Box::from))])
}

fn add(dice: &mut Dice, spec: &mut Spec) {
    let free: Vec<&str> = NAMES.into_iter().filter(|name| spec.apps.iter().all(|app| *app.name != **name)).collect();
    if free.is_empty() {
        return;
    }
    let name = dice.pick(&free);
    let new = app(dice, name, &spec.apps);
    let at = dice.below(spec.apps.len() as u64 + 1) as usize;
    spec.apps.insert(at, new);
}

fn settings(dice: &mut Dice) -> Settings {
    Settings {
        stop_budget: Millis(dice.pick(&[300, 2_000, 9_000])),
        exit: if dice.chance(25) { ExitPolicy::Never } else { ExitPolicy::WhenDone },
        settle: Millis(dice.pick(&[0, 50, 200, 200, 200])),
        sample_interval: Millis(dice.pick(&[200, 1_000])),
        ..Settings::default()
    }
}

fn app(dice: &mut Dice, name: &str, others: &[AppSpec]) -> AppSpec {
    let main = dice.chance(20) && others.iter().all(|other| !other.main || *other.name == *name);
    let kind = if dice.chance(20) { Kind::Oneshot } else { Kind::Service };
    let restarts: &[Restart] = match kind {
        Kind::Service => &[Restart::Always, Restart::Always, Restart::Always, Restart::OnFailure, Restart::Never],
        Kind::Oneshot => &[Restart::OnFailure, Restart::Never],
    };
    lawful(AppSpec {
        name: name.into(),
        namespace: dice.chance(40).then(|| dice.pick(&NAMESPACES).into()),
        kind,
        instances: dice.pick(&[1, 1, 2, 3]),
        autostart: dice.chance(85),
        restart: RestartPolicy {
            when: dice.pick(restarts),
            delay: Millis(dice.pick(&[0, 0, 0, 100, 2_000])),
            backoff: Millis(dice.pick(&[0, 0, 100, 500, 7_000])),
            jitter_percent: dice.pick(&[0, 0, 30, 100]),
            max_restarts: dice.pick(&[1, 2, 3, 16]),
            min_uptime: Millis(dice.pick(&[100, 1_000, 1_000, 5_000])),
            stop_exit_codes: if dice.chance(20) { vec![3] } else { Vec::new() },
        }
        .into(),
        stop: StopPolicy {
            signal: dice.pick(&[Sig::TERM, Sig::TERM, Sig::INT, Sig::QUIT, Sig::KILL]),
            timeout: Millis(dice.pick(&[0, 100, 1_000, 8_000])),
            tree: dice.chance(75),
            drain: Millis(dice.aside(1).pick(&[0, 100, 5_000, 5_000])),
        },
        roll: roll(dice.aside(7)).into(),
        after: earlier(dice, name, others),
        requires: earlier(dice, name, others),
        main,
        exit_on_error: dice.chance(15),
        memory_limit: dice.chance(25).then_some(MEMORY_LIMIT),
        cron: dice.chance(15).then(|| "*/5 * * * * *".into()),
        overlap: dice.pick(&[None, None, None, Some(true), Some(false)]),
        watch: dice.chance(40).then(|| Box::new(Watch { off: dice.chance(20), ..Watch::default() })),
        health: health(&mut dice.aside(3)),
        standby: None,
        launch: Launch { script: "script".into(), rare: rare(dice), ..Launch::default() },
    })
}

/// How many instances get new runs at once; mostly one.
fn roll(mut dice: Dice) -> RollPolicy {
    let usual = dice.chance(60);
    let mut amount = || dice.pick(&[Amount::Count(1), Amount::Count(2), Amount::Count(3), Amount::Percent(60)]);
    let policy = RollPolicy { max_surge: amount(), max_unavailable: amount() };
    if usual { RollPolicy::default() } else { policy }
}

/// An entry without what `config` would not let pass.
fn lawful(mut app: AppSpec) -> AppSpec {
    app.health.take_if(|_| app.kind == Kind::Oneshot);
    if let Some(rare) = &mut app.launch.rare {
        rare.watchdog.take_if(|_| app.kind == Kind::Oneshot);
        if rare.ready == Ready::Healthy && app.health.is_none() || rare.ready == Ready::Listening && rare.fork {
            rare.ready = Ready::Executing;
        }
    }
    app
}

/// Now and then somebody wants to know whether it is well.
fn health(dice: &mut Dice) -> Option<Box<Health>> {
    dice.chance(20).then(|| {
        Box::new(Health {
            interval: Millis(dice.pick(&[2_000, 20_000, 60_000])),
            retries: dice.pick(&[1, 2, 3]),
            start_period: Millis(dice.pick(&[0, 0, 3_000, 40_000])),
            start_interval: Millis(dice.pick(&[700, 5_000])),
            ..Health::default()
        })
    })
}

/// Whether it says itself when it is ready, and how long it may take to be so, or to listen; whether it says that it is
/// alive; whether its sockets are handed to it, or are its own.
fn rare(dice: &mut Dice) -> Option<Box<Rare>> {
    let word = dice.pick(&[None, None, Some(Millis(100)), Some(Millis(3_000))]);
    let mut aside = dice.aside(2);
    let within = word.or(aside.pick(&[None, Some(Millis(100)), Some(Millis(3_000))]));
    let otherwise = aside.pick(&[Ready::Executing, Ready::Executing, Ready::Listening, Ready::Healthy]);
    let ready = if word.is_some() { Ready::Message } else { otherwise };
    let ready = if within.is_some() { ready } else { Ready::Executing };
    let watchdog = aside.chance(10).then(|| Millis(aside.pick(&[2_000, 10_000])));
    let listen = if aside.chance(10) { [LISTENS.into()].into() } else { Box::default() };
    let fork = aside.chance(5);
    let rare = Rare { ready, listen_timeout: within, watchdog, listen, fork, ..Rare::default() };
    (rare != Rare::default()).then(|| Box::new(rare))
}

/// Where an app is to be reached whose sockets are handed to it.
const LISTENS: &str = "tcp://127.0.0.1:3000";

/// Some of the apps that come earlier in the alphabet, so that nobody waits in a circle.
fn earlier(dice: &mut Dice, name: &str, others: &[AppSpec]) -> Box<[Box<str>]> {
    let names: Vec<Box<str>> = others.iter().map(|app| app.name.clone()).filter(|other| **other < *name).collect();
    names.into_iter().filter(|_| dice.chance(25)).collect()
}

/// Gives spares to apps that may have some, and takes them from others; now and then it leaves one as it is.
pub(crate) fn spare(dice: &mut Dice, apps: &mut [AppSpec]) {
    for app in apps {
        let is_held = app.listen().is_empty() && !app.owns_ports();
        let may = app.kind == Kind::Service && app.restart.when != Restart::Never && is_held;
        if !may {
            app.standby = None;
        } else if dice.chance(50) {
            let max_age = Millis(dice.pick(&[0, 1_000, 4_000, 60_000]));
            let count = dice.pick(&[1, 1, 2, 0]);
            app.standby = (count > 0).then(|| Box::new(Standby { count, max_age }));
        }
    }
}
