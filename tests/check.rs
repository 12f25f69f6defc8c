//! What configuration files mean, and what is said about those that are wrong: tables of cases with the plan, or all
//! mistakes, as `pm3 check` shows them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use expect_test::Expect;
use pm3::config::{self, Facts, Mistake};
use pm3::supervisor::spec::{AppSpec, Spec};

mod common;

#[path = "config/bad.rs"]
mod bad;
#[path = "config/env.rs"]
mod env;
#[path = "config/files.rs"]
mod files;
#[path = "config/forms.rs"]
mod forms;
#[path = "config/good.rs"]
mod good;
#[path = "config/keys.rs"]
mod keys;
#[path = "config/options.rs"]
mod options;
#[path = "config/scripts.rs"]
mod scripts;
#[path = "config/strange.rs"]
mod strange;
#[path = "config/write.rs"]
mod write;

/// A machine with four processors and 1000 MiB.
fn facts() -> Facts {
    let env = [("PATH", "/nowhere"), ("HOME", "/root"), ("PORT", "5000"), ("EMPTY", ""), ("TWO", "a b")];
    Facts {
        cpus: 4,
        memory_limit: Some(1000 << 20),
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        start_dir: "/srv".into(),
    }
}

/// For files that are no scripts.
fn no_node(_: &[&OsStr], _: config::Complete<'_>) -> Result<Vec<u8>, String> {
    panic!("nothing here is to be evaluated")
}

fn show(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(|mistake| format!("{mistake}\n")).collect()
}

/// The plan or the mistakes of a text, which is read with the indentation of the test taken away.
fn check(text: &str, expect: Expect) {
    let text = text.strip_prefix('\n').unwrap_or(text).replace("\n        ", "\n");
    let text = text.trim_start_matches(' ');
    match config::parse("pm3.toml", text, None, &facts()) {
        Ok(spec) => expect.assert_eq(&config::plan_text(&spec)),
        Err(mistakes) => expect.assert_eq(&show(&mistakes)),
    }
}

fn spec(text: &str) -> Spec {
    config::parse("pm3.toml", text, None, &facts()).map_err(|mistakes| show(&mistakes)).unwrap()
}

fn app(text: &str) -> AppSpec {
    spec(&format!("[[apps]]\n{text}")).apps.remove(0)
}

/// The words that are started.
fn words(text: &str) -> Vec<String> {
    let launch = app(text).launch;
    launch.words().map(ToString::to_string).collect()
}

/// All that is wrong with an app, without the place.
fn wrong(text: &str) -> String {
    let mistakes = config::parse("pm3.toml", &format!("[[apps]]\n{text}"), None, &facts()).expect_err(text);
    mistakes.iter().map(|mistake| format!("{}\n", mistake.text)).collect()
}

/// xorshift64: the same numbers for the same seed, everywhere.
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Rng {
        Rng(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

/// A directory that is gone after the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pm3-check-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.0.join(name), content).unwrap();
    }

    fn facts(&self) -> Facts {
        Facts { start_dir: self.0.clone(), ..facts() }
    }

    /// A message with the directory's own name taken out.
    fn neutral(&self, text: &str) -> String {
        text.replace(&self.0.display().to_string(), "DIR")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// All TOML files below a directory.
fn toml_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let of = |path: PathBuf| if path.is_dir() { toml_files(&path) } else { vec![path] };
    entries.flat_map(of).filter(|path| path.extension().is_some_and(|ending| ending == "toml")).collect()
}
