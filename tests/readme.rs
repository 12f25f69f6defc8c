//! What README.md shows is true: its files check, its messages are what pm3 prints, its commands exist.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

const PM3: &str = env!("CARGO_BIN_EXE_pm3");
const README: &str = include_str!("../README.md");

/// A directory of this test's own, gone when it is over.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("readme-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Place(dir)
    }

    fn pm3(&self, words: &[&str]) -> Output {
        Command::new(PM3).args(words).current_dir(&self.0).output().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The fenced blocks of one language.
fn blocks(language: &str) -> Vec<&str> {
    let open = format!("```{language}\n");
    README.split(&open).skip(1).filter_map(|rest| rest.split("\n```").next()).collect()
}

/// Lines that stand indented, without the indent.
fn indented() -> impl Iterator<Item = &'static str> {
    README.lines().filter_map(|line| line.strip_prefix("    "))
}

#[test]
fn its_toml_files_check() {
    let place = Place::new("toml");
    let files = blocks("toml");
    assert!(!files.is_empty());
    for file in files {
        // A machine without a memory limit has no percentage of it.
        fs::write(place.0.join("pm3.toml"), file.replace("\"80%\"", "\"80M\"")).unwrap();
        let checked = place.pm3(&["check"]);
        assert!(checked.status.success(), "{}\n{file}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[test]
fn its_mistakes_are_what_check_prints() {
    let place = Place::new("mistakes");
    let file =
        "[[apps]]\nname = \"web\"\nscript = \"server.js\"\nautorestart = \"allways\"\nmax_memory_restat = \"20M\"\n";
    fs::write(place.0.join("shop.toml"), file).unwrap();
    let shown: Vec<&str> = indented()
        .skip_while(|line| *line != "$ pm3 check shop.toml")
        .skip(1)
        .take_while(|line| line.starts_with("shop"))
        .collect();
    assert_eq!(shown.len(), 2);
    let checked = place.pm3(&["check", "shop.toml"]);
    assert_eq!(checked.status.code(), Some(78));
    let printed = String::from_utf8(checked.stderr).unwrap();
    assert_eq!(printed.lines().collect::<Vec<_>>(), shown);
}

#[test]
fn its_verbs_exist() {
    let place = Place::new("verbs");
    let words = README.split('`').filter_map(|code| code.strip_prefix("pm3 "));
    let verbs: Vec<&str> = words.filter_map(|rest| rest.split_whitespace().next()).collect();
    let mut seen = 0;
    for verb in verbs.iter().filter(|verb| verb.chars().all(char::is_lowercase)) {
        assert!(place.pm3(&[verb, "--help"]).status.success(), "pm3 {verb}");
        seen += 1;
    }
    assert!(seen > 8, "the README speaks of {seen} verbs");
}

#[test]
fn its_files_are_there() {
    let links = README.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for path in links.filter(|link| !link.starts_with("http")) {
        assert!(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path).exists(), "{path}");
    }
}
