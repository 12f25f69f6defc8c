//! A simulation of the supervisor: thousands of small worlds with a virtual clock, each drawn from its seed, in which
//! processes crash, ignore signals and leave children behind while operators, platforms and files do what they like.
//! The oracle judges every step; planted mutants test the tests. A world never touches a real process or clock.
//!
//! `PM3_SIM_SEED=17 cargo test --test sim replay -- --nocapture` tells the story of one seed;
//! `PM3_SIM_SEEDS=1000000 cargo test --test sim fixed` tries more of them, `PM3_SIM_FRESH` others each time.
//! `PM3_SIM_SPARES` is the number of worlds with spares, `PM3_SIM_HOLDS` of those in which new runs are held; they have
//! seeds of their own (`PM3_SIM_HOLDS_SEED=17 cargo test --test sim holds -- --nocapture`).

#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test")]

mod allow;
mod asks;
mod codes;
mod dice;
mod entries;
mod health;
mod hear;
mod holds;
mod kernel;
mod model;
mod oracle;
mod plan;
mod run;
mod serve;
mod spares;
mod subject;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{SystemTime, UNIX_EPOCH};

use dice::Dice;
use subject::{MUTANTS, Mutant};
use world::{Trace, World};

/// Always the same worlds, so that a change of behaviour fails where it was made.
const FIXED_SEEDS: u64 = 10_000;

/// Further ones that showed a mistake once, of the supervisor or of the model.
const PINNED: &[u64] = &[
    1_882_660_313_110_069,
    1_882_660_313_143_983,
    1_882_661_276_681_767,
    1_882_661_276_819_789,
    1_882_661_276_836_686,
    1_882_661_276_862_776,
    1_882_664_099_391_088,
    1_882_664_692_877_693,
    1_882_662_186_813_681,
    // A request is called off, and what its instance is replaced for afterwards is something else.
    1_882_670_804_021_677,
    1_882_670_804_039_890,
    // The file asks for more failures than have made a run unhealthy.
    1_882_670_804_026_773,
    // A reload comes while the last new run is on its way, which is done at once.
    1_882_670_804_031_557,
    // One is not ready in time in the moment in which it is known of another that its new run can begin.
    7_072,
    // One is silent in the moment in which the new run of another fails, which calls off its own.
    1_882_676_525_093_338,
    // One is asked what it listens on before its new run comes, while its app is scaled down.
    1_882_676_525_011_445,
];

/// Worlds that nobody has seen before; their seeds are printed.
const FRESH_SEEDS: u64 = 500;

/// A mutant has to be caught by one of the first that many worlds.
const MUTANT_SEEDS: u64 = 300;

/// So many worlds are enough for everything to come up.
const EVENTFUL_SEEDS: u64 = 3_000;

/// What was wrong in this world, if anything was; a panic of the supervisor counts. Ok: the number of steps.
fn verdict(dice: Dice, mutant: Option<Mutant>, trace: Option<Trace>) -> Result<u32, String> {
    let play = || World::new(dice, mutant, trace).run();
    catch_unwind(AssertUnwindSafe(play)).unwrap_or_else(|_| Err("panicked".into()))
}

/// The story of one world, and how it ended.
fn story(dice: Dice) -> (Vec<String>, Result<u32, String>) {
    let trace = Trace::default();
    let verdict = verdict(dice, None, Some(trace.clone()));
    (trace.take(), verdict)
}

/// Plays all these worlds, each known by a name for it. If some fail, the shortest story of the first few is told.
fn check(name: &str, again: &str, worlds: impl Iterator<Item = (u64, Dice)>) {
    let (mut count, mut steps, mut failures) = (0, 0u64, Vec::new());
    for (seed, dice) in worlds {
        count += 1;
        match verdict(dice.clone(), None, None) {
            Ok(taken) => steps += u64::from(taken),
            Err(why) => failures.push((seed, dice, why)),
        }
    }
    println!("{name}: {count} worlds, {steps} steps");
    let told = failures.iter().take(20).map(|(seed, dice, why)| (story(dice.clone()).0, seed, why));
    let Some((story, seed, why)) = told.min_by_key(|(story, _, _)| story.len()) else { return };
    let list: Vec<String> = failures.iter().take(20).map(|(seed, _, why)| format!("seed {seed}: {why}")).collect();
    panic!(
        "{} of {count} worlds went wrong:\n{}\n\n{}\n\nseed {seed}: {why}\n\nagain: {again}",
        failures.len(),
        list.join("\n"),
        story.join("\n"),
    );
}

fn check_seeds(name: &str, seeds: impl Iterator<Item = u64>) {
    let again = "PM3_SIM_SEED=<seed> cargo test --test sim replay -- --nocapture";
    check(name, again, seeds.map(|seed| (seed, Dice::new(seed))));
}

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")))
}

#[test]
fn fixed_seeds() {
    check_seeds("fixed", (0..env("PM3_SIM_SEEDS").unwrap_or(FIXED_SEEDS)).chain(PINNED.iter().copied()));
}

#[test]
fn fresh_seeds() {
    let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() << 20;
    check_seeds(&format!("fresh from {start}"), start..start + env("PM3_SIM_FRESH").unwrap_or(FRESH_SEEDS));
}

/// Worlds whose every choice is a byte of input, as a fuzzer gives them: many that no seed draws.
#[test]
fn bytes_instead_of_seeds() {
    let bytes = |seed| {
        let mut dice = Dice::new(seed);
        let (most, longest) = (dice.pick(&[1, 4, 256]), dice.pick(&[10, 100, 1_000]));
        let bytes: Vec<u8> = (0..dice.below(longest)).map(|_| dice.below(most) as u8).collect();
        (seed, Dice::from_bytes(&bytes))
    };
    check("bytes", "the stories of bytes are told only here", (0..FRESH_SEEDS).map(bytes));
}

#[test]
fn replay() {
    let Some(seed) = env("PM3_SIM_SEED") else { return };
    let (story, verdict) = story(Dice::new(seed));
    println!("{}\nseed {seed}: {verdict:?}", story.join("\n"));
}

/// Each mistake has to be noticed, else nobody would notice if somebody made it.
#[test]
fn every_mutant_is_caught() {
    let mut survivors = Vec::new();
    for mutant in MUTANTS {
        let notice = |seed| verdict(Dice::new(seed), Some(*mutant), None).err().map(|why| (seed, why));
        match (0..MUTANT_SEEDS).find_map(notice) {
            Some((seed, why)) => println!("{mutant:?}: caught by seed {seed}: {why}"),
            None => survivors.push(mutant),
        }
    }
    assert!(survivors.is_empty(), "nobody noticed {survivors:?} in {MUTANT_SEEDS} worlds");
}

/// Worlds in which nothing much happens would prove nothing: each of these has to come up.
#[test]
fn the_worlds_are_eventful() {
    let unseen = unseen(EVENTFUL, EVENTFUL_SEEDS, |seed| story(Dice::new(seed)).0);
    assert!(unseen.is_empty(), "never seen in {EVENTFUL_SEEDS} worlds: {unseen:?}");
}

/// The words that none of the stories of so many worlds has. When all have been seen, no more is told.
fn unseen(words: &[&'static str], worlds: u64, story: impl Fn(u64) -> Vec<String>) -> Vec<&'static str> {
    let mut unseen = words.to_vec();
    for seed in 0..worlds {
        let story = story(seed).join("\n");
        unseen.retain(|word| !story.contains(word));
        if unseen.is_empty() {
            println!("all was seen in {} worlds", seed + 1);
            break;
        }
    }
    unseen
}

/// Words of the stories that `the_worlds_are_eventful` looks for.
const EVENTFUL: &[&str] = &[
    "waiting for",
    "finished, exit",
    "errored after 3 short runs",
    "errored: start failed at exec",
    "errored: requires",
    "restarting in 15000 ms",
    "restarting: SIGTERM",
    "probably oom",
    ": oom",
    "stopping with SIGINT: operator",
    ": memory",
    ": cron",
    ": config changed",
    ": watch: index.js",
    "restarting: watch: ",
    "is restarted when its files change",
    "is not watched any more",
    "keep running as they are",
    "starting a new process beside pid",
    "takes over if it lives for",
    "takes over if it is ready within",
    "taken for online",
    "reload failed: not ready after 3 s",
    "its new process takes over at once",
    "Listening {",
    "Drained {",
    "in quarantine for",
    "out of quarantine",
    "gets no new connections",
    "has 100 ms for those it has",
    "reload failed: not ready after 30 s",
    "not ready after 30000 ms, taken for online",
    "the new process failed",
    "the new process was done, exit 0; pid",
    "reload failed: exit",
    "reload failed: start failed",
    "it owns port 3000",
    "still there after its grace",
    "its main process ended",
    "again, signalling all apps at once",
    "the stop budget is over",
    "some processes cannot be killed",
    "is errored, its code is",
    "the main app, ended with",
    "nothing is left to run",
    "the first to fail",
    "Exit { code: 0, reason: \"SIG",
    "Exit { code: 137, reason: \"SIG",
    "Exit { code: 143, reason: \"SIG",
    "by_kernel: true",
    "was started again meanwhile",
    "was stopped meanwhile",
    "keeps running as it is",
    "which is not running; start",
    "no such app, namespace or id",
    "pm3 is stopping",
    "there is no app",
    "runs already, and nothing about it has changed",
    "at least 1 instance",
    "each waits for the next",
    "is main already",
    "there twice",
    "waits for nobody",
    "fewer cannot be",
    "has 1 instance already",
    "has no process",
    "stopping: a client's request",
    "done: [\"pm3\"]",
    "unhealthy after 2 probes",
    "unhealthy: as the dice fell",
    "healthy again",
    "no heartbeat for",
    "it asked for a restart",
    "Moved {",
    "packed and unpacked",
    "faults stop",
    "the goal is reached",
];
