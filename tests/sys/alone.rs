//! The smallest test harness in which each test is a process: `cargo test --test sys` runs all, with a word only those
//! whose name holds it. The rest of libtest's options is accepted and means nothing here.

use std::process::{Command, ExitCode, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, iter, thread};

/// A test: its name, and what to do.
pub type Test = (&'static str, fn());

/// Names a group's functions once.
#[macro_export]
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        pub const TESTS: &[$crate::alone::Test] = &[$((concat!(module_path!(), "::", stringify!($name)), $name)),+];
    };
}

/// The argument that makes this program run one test itself.
const ALONE: &str = "--alone";

pub fn run(groups: &[&[Test]]) -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let tests = || groups.iter().copied().flatten();
    if let [flag, wanted] = args.as_slice()
        && flag == ALONE
    {
        let (_, test) = tests().find(|(name, _)| name == wanted).expect("a test's name");
        test();
        return ExitCode::SUCCESS;
    }
    let words: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let chosen: Vec<&Test> =
        tests().filter(|(name, _)| words.is_empty() || words.iter().any(|word| name.contains(*word))).collect();
    if args.iter().any(|arg| arg == "--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests, each in a process of its own", chosen.len());
    let failed = run_all(&chosen);
    println!("\ntest result: {}. {} passed; {failed} failed", word(failed == 0), chosen.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_all(tests: &[&Test]) -> usize {
    let next = AtomicUsize::new(0);
    let work = || {
        let mine = iter::from_fn(|| tests.get(next.fetch_add(1, Ordering::Relaxed)));
        mine.filter(|(name, _)| !run_one(name)).count()
    };
    let workers = thread::available_parallelism().map_or(1, Into::into);
    thread::scope(|scope| {
        let workers: Vec<_> = iter::repeat_with(|| scope.spawn(work)).take(workers).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker does not panic")).sum()
    })
}

fn run_one(name: &str) -> bool {
    let program = env::current_exe().expect("a path to this program");
    let Output { status, stdout, stderr } = Command::new(program).args([ALONE, name]).output().expect("a process");
    let passed = status.success();
    let details = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    // One write: two tests may end at once.
    println!(
        "test {name} ... {}{}",
        word(passed),
        if passed { String::new() } else { format!(" {status}\n{details}") }
    );
    passed
}

fn word(passed: bool) -> &'static str {
    if passed { "ok" } else { "FAILED" }
}
