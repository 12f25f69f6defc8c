//! What is said of a request while it is under way: line by line in a pipe, in place on a terminal, and not at all to who
//! wants silence.

use std::fs::File;
use std::io::Write;
use std::process::{Child, Stdio};

use pm3::supervisor::event::Sig;

use crate::common::lines::Lines;
use crate::common::tty::Terminal;
use crate::common::world::World;
use crate::send::{fifo, owns_terminal};
use crate::{container, rows, statuses, write};

/// Says that it is up; asked to end, it says so and ends when it is let go through the gate.
const SLOW: &str = "#!/bin/sh\ntrap 'kill $!; wait $!; echo ending > \"$TELL\"; read -r word < gate; exit 0' TERM\n\
                    echo up > \"$TELL\"\nwhile :; do sleep 1000 & wait; done\n";

const CLEAR: &str = "\r\x1b[K";

/// So many instances of the slow app, and their gate.
fn slow(instances: u32) -> (World, File) {
    let mut world = container();
    write(&world, "slow.sh", SLOW);
    let gate = fifo(&world, "gate");
    world.pm3(&format!("start slow.sh -i {instances} --kill-timeout 60000")).ok();
    (0..instances).for_each(|_| drop(world.told("up")));
    (world, gate)
}

/// Lets one go that is about to end.
fn let_go(world: &mut World, gate: &mut File) {
    world.told("ending");
    gate.write_all(b"go\n").unwrap();
}

/// A command at a terminal of its own, of 80 columns.
fn at_terminal(world: &mut World, words: &[&str]) -> (Terminal, Child) {
    let (terminal, slave) = Terminal::open();
    terminal.resize(80, 24);
    world.set("TERM", "xterm");
    let mut command = world.command(words);
    owns_terminal(&mut command, &slave);
    (terminal, command.spawn().unwrap())
}

/// What stands on the screen, line by line: what was written over is gone.
fn screen(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.rsplit(CLEAR).next().unwrap_or_default()).collect()
}

/// `12 ms`, `1.5 s`.
fn is_span(text: &str) -> bool {
    let (number, unit) = text.split_once(' ').unwrap_or_default();
    number.parse::<f64>().is_ok() && matches!(unit, "ms" | "s")
}

#[test]
fn in_a_pipe_each_thing_is_a_line_at_once() {
    let (mut world, mut gate) = slow(2);
    let mut command = world.command(&["pm3", "restart", "slow", "--mini-list"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = Lines::new("stdout of restart", child.stdout.take().unwrap());
    for line in
        ["Use --update-env to update environment variables", "Applying action restart on app [slow](ids: [ 0, 1 ])"]
    {
        assert_eq!(out.next().unwrap(), format!("[PM3] {line}"));
    }
    for id in 0..2 {
        // It is there while the old process is.
        assert_eq!(out.next().unwrap(), format!("[PM3] [slow]({id}) the old process stops with SIGTERM"));
        let_go(&mut world, &mut gate);
        let done = out.next().unwrap();
        let took = done.strip_prefix(&format!("[PM3] [slow]({id}) ✓ "));
        assert!(took.is_some_and(is_span), "{done:?}");
    }
    assert!(!out.text().contains('✓'), "told twice");
    assert!(child.wait().unwrap().success());
    // What is asked for and nothing else needs no words on the way.
    let stops = world.command(&["pm3", "stop", "slow"]).stdout(Stdio::piped()).spawn().unwrap();
    (0..2).for_each(|_| let_go(&mut world, &mut gate));
    let said = String::from_utf8(stops.wait_with_output().unwrap().stdout).unwrap();
    let mut lines: Vec<&str> = said.lines().take(3).collect();
    lines[1..].sort_unstable();
    assert_eq!(
        lines,
        ["[PM3] Applying action stop on app [slow](ids: [ 0, 1 ])", "[PM3] [slow](0) ✓", "[PM3] [slow](1) ✓"]
    );
    world.end();
}

#[test]
fn who_wants_silence_hears_nothing_but_failures() {
    let (mut world, mut gate) = slow(1);
    let restart =
        world.command(&["pm3", "restart", "slow", "-s"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let_go(&mut world, &mut gate);
    let said = restart.unwrap().wait_with_output().unwrap();
    assert!(said.status.success() && said.stdout.is_empty() && said.stderr.is_empty(), "{said:?}");
    world.told("up");
    write(&world, "slow.sh", "exit 3");
    let said = world.pm3("reload slow -s").ends(1);
    assert_eq!(said.out, "");
    assert!(
        said.err.starts_with("[PM3][ERROR] slow: reload failed: exit 3; pid ") && said.err.lines().count() == 1,
        "{said:#?}"
    );
    gate.write_all(b"go\n").unwrap();
    world.end();
}

#[test]
fn a_failure_is_said_once_and_when_it_happens() {
    let (mut world, mut gate) = slow(2);
    write(&world, "slow.sh", "echo fails > \"$TELL\"; exit 3");
    let said = world.pm3("reload slow").ends(1).says("starting a new process beside pid ");
    let errors: Vec<&str> = said.err.lines().collect();
    assert_eq!(errors.len(), 2, "{said:#?}");
    // It is the turn of whichever is old enough first.
    let held = "keeps running as it is, another instance failed to restart";
    let fits = |failed: usize| {
        errors[failed].starts_with(&format!("[PM3][ERROR] slow-{failed}: reload failed: exit 3; pid "))
            && errors[1 - failed] == format!("[PM3][ERROR] slow-{}: {held}", 1 - failed)
    };
    assert!(fits(0) || fits(1), "{said:#?}");
    assert!(!said.out.contains('✓'), "{said:#?}");
    world.told("fails");
    gate.write_all(b"go\ngo\n").unwrap();
    world.end();
}

#[test]
fn on_a_terminal_one_line_changes_in_place() {
    let (mut world, mut gate) = slow(3);
    let (mut terminal, mut child) = at_terminal(&mut world, &["pm3", "restart", "slow"]);
    let mut text = String::new();
    for over in 0..3 {
        text +=
            &terminal.screen.until(&format!("{CLEAR}[PM3] {over}/3 [slow]({over}) the old process stops with SIGTERM"));
        let_go(&mut world, &mut gate);
    }
    text += &terminal.screen.text();
    assert!(child.wait().unwrap().success(), "{text}");
    for written in text.split(['\r', '\n']) {
        let shown = written.trim_start_matches("\x1b[K");
        assert!(shown.contains('\x1b') || shown.chars().count() <= 80, "too wide: {shown:?}");
    }
    let lines = screen(&text);
    assert_eq!(lines[1], "[PM3] Applying action restart on app [slow](ids: [ 0, 1, 2 ])");
    for id in 0..3 {
        let took = lines[2 + id].strip_prefix(&format!("[PM3] [slow]({id}) ✓ "));
        assert!(took.is_some_and(is_span), "{lines:#?}");
    }
    assert!(lines[5].starts_with('┌'), "{lines:#?}");
    (0..3).for_each(|_| gate.write_all(b"go\n").unwrap());
    world.end();
}

#[test]
fn what_was_asked_for_goes_on_without_who_asked() {
    let (mut world, mut gate) = slow(2);
    let (mut terminal, mut child) = at_terminal(&mut world, &["pm3", "restart", "slow"]);
    terminal.screen.until("the old process stops with SIGTERM");
    // Not by ^C: that would end the one who entered the world for it, too, and with it the session.
    let client = world.processes().into_iter().find(|process| process.line.ends_with("restart slow")).unwrap();
    world.signal(client.inside, Sig::INT);
    let rest = terminal.screen.text();
    let said = "[PM3] interrupted: what was asked for goes on; `pm3 list` shows how far it is";
    assert!(screen(&rest).contains(&said), "{rest:?}");
    // It ends as by the signal, which is what a shell looks at.
    assert!(rest.contains("SIGINT") && !child.wait().unwrap().success(), "{rest:?}");
    for _ in 0..2 {
        let_go(&mut world, &mut gate);
        world.told("up");
    }
    assert_eq!(statuses(&world), ["slow online", "slow online"]);
    assert!(rows(&world).iter().all(|row| row.restarts == 1));
    (0..2).for_each(|_| gate.write_all(b"go\n").unwrap());
    world.end();
}
