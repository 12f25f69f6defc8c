//! What README.md shows is true: its sessions print what they show, its files check, its messages are what pm3 prints,
//! its verbs and files exist. The lines of its cheat sheet are tried in `cheatsheet.rs`.
//!
//! The sessions are run here and not by a crate: they need a machine of their own, apps, and a terminal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use common::tty::Terminal;
use common::world::World;
use common::{PM3, needs};

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

/// What a person types after `$ ` and sees then, command by command.
fn steps(session: &str) -> Vec<(&str, String)> {
    let mut steps: Vec<(&str, String)> = Vec::new();
    for line in session.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(typed), _) => steps.push((typed, String::new())),
            (None, Some((_, output))) => *output += &format!("{line}\n"),
            (None, None) => panic!("{line:?} comes before any command"),
        }
    }
    steps
}

/// A text without what is another one each time: numbers and their units of size, and the widths that follow from them.
fn lasting(text: &str) -> String {
    let mut lasting = String::new();
    for char in text.chars() {
        let char = if char.is_ascii_digit() { '0' } else { char };
        let repeats = matches!(char, ' ' | '─' | '0') && lasting.ends_with(char);
        if !repeats {
            lasting.push(char);
        }
    }
    for (one, other) in [("0.0", "0"), ("0kb", "0b"), ("0mb", "0b"), ("0s │", "0 │")] {
        lasting = lasting.replace(one, other);
    }
    lasting
}

#[test]
fn its_sessions_print_what_they_show() {
    if needs("node", 1).is_none() {
        return;
    }
    let sessions = blocks("console");
    assert!(!sessions.is_empty());
    for session in sessions {
        let mut world = World::bare();
        world.unset("PM3_HOME");
        world.set("NO_COLOR", "1");
        world.app("index.js", "index.js");
        let home = world.home("").trim_end_matches('/').to_owned();
        for (typed, shown) in steps(session) {
            let (mut terminal, slave) = Terminal::open();
            let mut command = world.typing(typed);
            command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
            let mut child = command.spawn().unwrap();
            drop(command);
            let printed = terminal.screen.text().replace(&home, "/home/you").replace("root", "you");
            child.wait().unwrap();
            assert_eq!(lasting(&printed), lasting(&shown), "$ {typed}\n{printed}");
        }
        world.end();
    }
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
    assert!(seen > 40, "the README speaks of {seen} verbs");
}

#[test]
fn its_files_are_there() {
    // `[web](0)` in a session is no link.
    let text = blocks("console").into_iter().fold(README.to_owned(), |text, session| text.replace(session, ""));
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for path in links.filter(|link| !link.starts_with("http")) {
        assert!(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path).exists(), "{path}");
    }
}
