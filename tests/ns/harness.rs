//! The tests' own machinery, tried on plain programs: what it says about a program must be true before it says
//! anything about pm3.

use std::process::Command;

use pm3::supervisor::event::{End, Sig};

use crate::common::ns::Ns;
use crate::common::tty::Terminal;
use crate::common::{ROLE, app, this_binary};

#[test]
fn an_app_is_pid_1_where_asked_for_and_its_end_is_told() {
    let mut first = Ns::pid1().start(&app(&["ids", "uid", "exit:7"]));
    first.expect("ids pid=1 ppid=0 group=0 session=0");
    first.expect("uid 0");
    assert_eq!(first.end(), End::Code(7));

    let mut second = Ns::second().with("uid:1000").start(&app(&["ids", "uid", "die:KILL"]));
    second.expect("ids pid=2 ppid=0 group=0 session=0");
    second.expect("uid 1000");
    assert_eq!(second.end(), End::Signal(Sig::KILL));
}

#[test]
fn an_app_hears_signals_and_reads_lines() {
    let mut app = Ns::second().start(&app(&["listen", "say:ready", "hear:TERM", "line", "line"]));
    app.expect("ready");
    app.signal(Sig(34));
    app.expect("heard SIGRTMIN");
    app.signal(Sig::TERM);
    app.expect("heard SIGTERM");
    app.write("hello\n");
    app.expect("line hello");
    app.stdin = None;
    app.expect("line end");
    assert_eq!(app.end(), End::Code(0));
}

#[test]
fn settings_reach_the_program() {
    let start = Ns::second().with("close:0").with("open:7:/").with("ignore:HUP").with("block:TERM").with("hide:/dev");
    let mut app = start.env("COLOUR", "red").start(&app(&["fds", "signals", "env:COLOUR", "env:NONE", "foreground"]));
    app.expect("fds 1 2 7");
    app.expect("signals blocked=4000 ignored=1");
    app.expect("COLOUR=red");
    app.expect("NONE unset");
    app.expect("foreground none");
    assert_eq!(app.end(), End::Code(0));
}

#[test]
fn the_shell_stops_and_continues_its_job() {
    let (mut terminal, slave) = Terminal::open();
    let mut argv = vec![this_binary(), "shell".to_owned(), "fg".to_owned(), "--".to_owned()];
    argv.extend(app(&["foreground", "line", "foreground", "exit:3"]));
    let mut shell = Ns::second().terminal(slave).start(&argv);
    terminal.expect("foreground yes");
    terminal.press("\x1a");
    terminal.expect("shell: stopped SIGTSTP");
    terminal.press("bg\n");
    terminal.expect("shell: continued");
    terminal.press("wait\n");
    terminal.expect("shell: stopped SIGTTIN");
    terminal.press("fg\n");
    terminal.expect("shell: continued");
    terminal.press("typed\n");
    terminal.expect("line typed");
    terminal.expect("foreground yes");
    terminal.expect("shell: ended code 3, foreground job");
    assert_eq!(shell.end(), End::Code(0));
}

#[test]
fn tests_that_cannot_run_are_counted_and_fail_in_ci() {
    let try_it = |ci: &str| Command::new(this_binary()).arg("needs").env(ROLE, "1").env("PM3_CI", ci).output().unwrap();
    let counted = try_it("");
    assert_eq!(String::from_utf8_lossy(&counted.stderr), "NOT RUN: 37 tests need no such program\n");
    assert!(counted.status.success());
    let failed = try_it("1");
    assert!(String::from_utf8_lossy(&failed.stderr).contains("no such program is missing, and PM3_CI=1 wants it"));
    assert!(!failed.status.success());
}
