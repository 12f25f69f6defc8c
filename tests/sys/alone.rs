//! The smallest test harness in which each test is a process: `cargo test --test sys` runs all, with words only those
//! whose names hold one of them. The rest of libtest's options is accepted and means nothing here.

use std::os::unix::fs::PermissionsExt;
use std::process::{self, Command, ExitCode, Output, exit};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::{env, fs, iter, thread};

/// A test: its name, and what to do.
pub type Test = (&'static str, fn());

/// Lists functions with their names.
#[macro_export]
macro_rules! tests {
    ($list:ident: $($name:ident),+ $(,)?) => {
        pub const $list: &[$crate::alone::Test] = &[$((concat!(module_path!(), "::", stringify!($name)), $name)),+];
    };
}

/// The argument that makes this program run one test itself.
const ALONE: &str = "--alone";

/// The variable with a directory for the test's files, which is removed behind it.
pub const SCRATCH: &str = "PM3_TEST_SCRATCH";

/// The exit code of a test that cannot run here.
const NOT_RUN: i32 = 77;

/// `parts` are run when a test starts this program with [`part`]'s command line, and never by themselves.
pub fn run(groups: &[&[Test]], parts: &[&[Test]]) -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let tests = || groups.iter().copied().flatten();
    if let [flag, wanted] = args.as_slice()
        && flag == ALONE
    {
        let (_, test) = tests()
            .chain(parts.iter().copied().flatten())
            .find(|(name, _)| name.ends_with(wanted.as_str()))
            .expect("a test's name");
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
    let result = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {result}. {} passed; {failed} failed", chosen.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The command line on which this program runs a part.
pub fn part(name: &str) -> [String; 3] {
    [crate::common::this_binary(), ALONE.into(), name.into()]
}

/// For a test that cannot run here: it is counted, and fails with `PM3_CI=1`.
pub fn not_run(need: &str) -> ! {
    println!("{need}");
    exit(NOT_RUN)
}

fn run_all(tests: &[&Test]) -> usize {
    let next = AtomicUsize::new(0);
    let left_out = Mutex::new(Vec::new());
    let work = || {
        let mine = iter::from_fn(|| tests.get(next.fetch_add(1, Ordering::Relaxed)));
        mine.filter(|(name, _)| !run_one(name, &left_out)).count()
    };
    let workers = thread::available_parallelism().map_or(1, Into::into);
    let failed = thread::scope(|scope| {
        let workers: Vec<_> = iter::repeat_with(|| scope.spawn(work)).take(workers).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker does not panic")).sum()
    });
    let mut left_out = left_out.into_inner().unwrap_or_else(PoisonError::into_inner);
    left_out.sort();
    for same in left_out.chunk_by(|a, b| a == b) {
        println!("NOT RUN: {} tests need {}", same.len(), same[0]);
    }
    failed
}

fn run_one(name: &str, left_out: &Mutex<Vec<String>>) -> bool {
    let scratch = env::temp_dir().join(format!("pm3-{}-{}", process::id(), name.replace("::", "-")));
    fs::create_dir(&scratch).expect("a scratch directory");
    // Some tests become other users.
    fs::set_permissions(&scratch, fs::Permissions::from_mode(0o777)).expect("our own directory");
    let mut command = Command::new(crate::common::this_binary());
    command.args([ALONE, name]).env(SCRATCH, &scratch);
    let Output { status, stdout, stderr } = command.output().expect("this program can be started");
    let _ = fs::remove_dir_all(scratch);
    let wanted = env::var_os("PM3_CI").is_some_and(|set| set == "1");
    if status.code() == Some(NOT_RUN) && !wanted {
        println!("test {name} ... not run");
        left_out.lock().unwrap().push(String::from_utf8_lossy(&stdout).trim().to_owned());
        return true;
    }
    let details = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    // One write each: two tests may end at once.
    if status.success() {
        println!("test {name} ... ok");
    } else {
        println!("test {name} ... FAILED, {status}\n{details}");
    }
    status.success()
}
