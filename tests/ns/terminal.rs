//! `pm3 run` at a terminal: as PID 1 of a container with one (`docker run -t`), and as a job of somebody's shell.

use std::fs::{self, DirEntry};

use pm3::supervisor::event::{End, Sig};

use super::{both, run};
use crate::common::ns::{Ns, Proc};
use crate::common::this_binary;
use crate::common::tty::Terminal;

/// pm3 as a job of a shell at a terminal.
fn job(place: &str, flags: &[&str], script: &[&str]) -> (Terminal, Proc) {
    let (terminal, slave) = Terminal::open();
    let mut argv = vec![this_binary(), "shell".to_owned(), place.to_owned(), "--".to_owned()];
    argv.extend(run(flags, script));
    (terminal, Ns::second().terminal(slave).start(&argv))
}

/// pm3 as PID 1, leader of the terminal's session.
fn first(flags: &[&str], script: &[&str]) -> (Terminal, Proc) {
    let (terminal, slave) = Terminal::open();
    (terminal, Ns::pid1().terminal(slave).start(&run(flags, script)))
}

#[test]
fn point_09_the_command_is_a_group_of_its_own_in_the_foreground() {
    let (mut terminal, mut pm3) = first(&[], &["foreground", "ids"]);
    terminal.expect("foreground yes");
    terminal.expect("ids pid=2 ppid=1 group=2 session=1");
    assert_eq!(pm3.end(), End::Code(0));

    let (mut terminal, mut shell) = job("fg", &[], &["foreground"]);
    terminal.expect("foreground yes");
    terminal.expect("shell: ended code 0, foreground job");
    assert_eq!(shell.end(), End::Code(0));
}

#[test]
fn point_09_stdin_need_not_be_the_terminal_and_dev_may_be_empty() {
    for settings in [
        &["open:0:/dev/null"][..],
        &["open:0:/dev/null", "open:2:/dev/null"],
        &["hide:/dev"],
        &["hide:/dev", "open:0:/"],
    ] {
        let (mut terminal, slave) = Terminal::open();
        let ns = settings.iter().fold(Ns::pid1().terminal(slave), |ns, word| ns.with(word));
        let mut pm3 = ns.start(&run(&[], &["foreground", "line", "listen", "say:listening", "hear:INT"]));
        terminal.expect("foreground yes");
        if settings == ["hide:/dev"] {
            // The command may read from it.
            terminal.press("typed\n");
            terminal.expect("line typed");
        } else {
            assert!(["line end", "line failed: Is a directory (os error 21)"].contains(&&*terminal.line()));
        }
        terminal.expect("listening");
        terminal.press("\x03");
        terminal.expect("heard SIGINT");
        assert_eq!(pm3.end(), End::Code(0), "{settings:?}");
    }
}

#[test]
fn point_09_control_c_arrives_exactly_once() {
    // A second one would overtake what the command sends to pm3 after the first: the lower number comes first.
    let again = |pid: &str| format!("send:{pid}:USR1:1");
    for flags in [&[][..], &["-g"]] {
        let (mut terminal, mut pm3) = first(flags, &["listen", "say:ready", "hear:INT", &again("1"), "hear:USR1"]);
        terminal.expect("ready");
        terminal.press("\x03");
        terminal.expect("heard SIGINT");
        terminal.expect("heard SIGUSR1");
        assert_eq!(pm3.end(), End::Code(0));

        let script = ["listen", "ids", "say:ready", "hear:INT", &again("3"), "hear:USR1"];
        let (mut terminal, mut shell) = job("fg", flags, &script);
        terminal.expect("ids pid=4 ppid=3 group=4 session=2");
        terminal.expect("ready");
        terminal.press("\x03");
        terminal.expect("heard SIGINT");
        terminal.expect("heard SIGUSR1");
        terminal.expect("shell: ended code 0, foreground job");
        assert_eq!(shell.end(), End::Code(0));
    }
}

/// Two lines whose order is nobody's business.
fn expect_both(terminal: &mut Terminal, lines: [&str; 2]) {
    let mut got = [terminal.line(), terminal.line()];
    got.sort();
    assert_eq!(got, lines);
}

#[test]
fn point_09_control_z_stops_the_job_and_fg_continues_it() {
    for flags in [&[][..], &["-g"]] {
        let continued = ["hear:CONT"; 3];
        let script = [&["listen:CONT", "say:ready"], &continued[..], &["line", "foreground", "exit:3"]].concat();
        let (mut terminal, mut shell) = job("fg", flags, &script);
        terminal.expect("ready");
        for _ in continued {
            terminal.press("\x1a");
            terminal.expect("shell: stopped SIGTSTP");
            terminal.press("fg\n");
            // A ^Z before it hears of it is lost, as in any shell: SIGCONT takes stop signals away that wait.
            expect_both(&mut terminal, ["heard SIGCONT", "shell: continued"]);
        }
        terminal.press("typed\n");
        terminal.expect("line typed");
        terminal.expect("foreground yes");
        terminal.expect("shell: ended code 3, foreground job");
        assert_eq!(shell.end(), End::Code(0));
    }
}

#[test]
fn point_09_a_job_that_stops_itself_is_seen_to_stop() {
    // SIGSTOP cannot be refused where nobody would continue pm3, so it stops by the polite one.
    for (word, seen) in [("stop:STOP", "SIGTSTP"), ("stop:TSTP", "SIGTSTP"), ("stop:TTOU", "SIGTTOU")] {
        let (mut terminal, mut shell) = job("bg", &[], &[word, "say:again"]);
        terminal.press("wait\n");
        terminal.expect(&format!("shell: stopped {seen}"));
        terminal.press("fg\n");
        terminal.expect("shell: continued");
        terminal.expect("again");
        terminal.expect("shell: ended code 0, foreground job");
        assert_eq!(shell.end(), End::Code(0));
    }
}

#[test]
fn point_09_bg_continues_a_stopped_job_and_reading_stops_it_again() {
    let (mut terminal, mut shell) = job("fg", &[], &["say:ready", "line", "foreground"]);
    terminal.expect("ready");
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
    terminal.expect("shell: ended code 0, foreground job");
    assert_eq!(shell.end(), End::Code(0));
}

#[test]
fn point_09_the_foreground_is_not_stolen_from_the_background() {
    let (mut terminal, mut shell) = job("bg", &[], &["foreground", "line", "foreground"]);
    terminal.expect("foreground no");
    terminal.press("wait\n");
    terminal.expect("shell: stopped SIGTTIN");
    terminal.press("fg\n");
    terminal.expect("shell: continued");
    terminal.press("typed\n");
    terminal.expect("line typed");
    terminal.expect("foreground yes");
    terminal.expect("shell: ended code 0, foreground job");
    assert_eq!(shell.end(), End::Code(0));
}

#[test]
fn point_09_a_job_that_came_to_the_foreground_gets_it_when_it_reads() {
    let (mut terminal, mut shell) = job("bg", &[], &["listen:CONT", "foreground", "hear:CONT", "line", "foreground"]);
    terminal.expect("foreground no");
    terminal.press("fg\n");
    expect_both(&mut terminal, ["heard SIGCONT", "shell: continued"]);
    terminal.press("typed\n");
    terminal.expect("line typed");
    terminal.expect("foreground yes");
    terminal.expect("shell: ended code 0, foreground job");
    assert_eq!(shell.end(), End::Code(0));
}

#[test]
fn point_09_a_job_that_came_to_the_foreground_can_be_stopped() {
    // The command has not touched the terminal, so the terminal stops pm3's own process group.
    let (mut terminal, mut shell) = job("bg", &[], &["listen:CONT", "say:ready", "hear:CONT", "line"]);
    terminal.expect("ready");
    terminal.press("fg\n");
    expect_both(&mut terminal, ["heard SIGCONT", "shell: continued"]);
    terminal.press("\x1a");
    terminal.expect("shell: stopped SIGTSTP");
    terminal.press("fg\n");
    terminal.expect("shell: continued");
    terminal.press("typed\n");
    terminal.expect("line typed");
    terminal.expect("shell: ended code 0, foreground job");
    assert_eq!(shell.end(), End::Code(0));
}

#[test]
fn point_09_a_stop_that_overtakes_a_cont_is_no_trap() {
    let (mut terminal, mut shell) = job("fg", &[], &["say:ready", "pause"]);
    terminal.expect("ready");
    terminal.press("\x1a");
    terminal.expect("shell: stopped SIGTSTP");
    // The bad moment is a microsecond long, and some tens of them after the SIGCONT.
    for moment in 0..1000 {
        terminal.press(&format!("jolt {}\n", moment * 7 % 4000));
        terminal.expect("shell: stopped SIGTSTP");
    }
    terminal.press("kill SIGTERM\n");
    terminal.press("fg\n");
    terminal.expect("shell: continued");
    terminal.expect("shell: ended code 143, foreground job");
    assert_eq!(shell.end(), End::Code(0));
}

#[test]
fn point_09_the_foreground_is_given_back_at_the_end() {
    // A shell without job control runs pm3 and then another command in its own process group.
    let (mut terminal, slave) = Terminal::open();
    let mut argv = vec![this_binary(), "shell".to_owned(), "fg".to_owned(), "--".to_owned()];
    argv.extend(["/bin/sh", "-c", "\"$@\"; \"$0\" app foreground"].map(str::to_owned));
    argv.push(this_binary());
    argv.extend(run(&[], &["foreground"]));
    let mut shell = Ns::second().terminal(slave).start(&argv);
    terminal.expect("foreground yes");
    terminal.expect("foreground yes");
    terminal.expect("shell: ended code 0, foreground job");
    assert_eq!(shell.end(), End::Code(0));
}

/// Waits until pm3's child is stopped, or is not; nobody but its parent is told.
fn until(pm3: &Proc, stopped: bool) {
    let mine = format!(") T {} ", pm3.pid);
    let is_it = |entry: DirEntry| fs::read_to_string(entry.path().join("stat")).is_ok_and(|stat| stat.contains(&mine));
    while fs::read_dir("/proc").unwrap().flatten().any(is_it) != stopped {
        std::thread::yield_now();
    }
}

#[test]
fn point_09_control_z_and_cont_work_where_no_shell_watches() {
    for ns in both() {
        let (mut terminal, slave) = Terminal::open();
        let mut pm3 = ns.terminal(slave).start(&run(&[], &["say:ready", "line", "foreground", "exit:3"]));
        terminal.expect("ready");
        for _ in 0..3 {
            terminal.press("\x1a");
            until(&pm3, true);
            pm3.signal(Sig::CONT);
            until(&pm3, false);
        }
        terminal.press("typed\n");
        terminal.expect("line typed");
        terminal.expect("foreground yes");
        assert_eq!(pm3.end(), End::Code(3));
    }
}

#[test]
fn point_09_a_stopped_command_stays_so_for_other_signals() {
    for ns in both() {
        let (mut terminal, slave) = Terminal::open();
        let mut pm3 = ns.terminal(slave).start(&run(&[], &["say:ready", "pause"]));
        terminal.expect("ready");
        terminal.press("\x1a");
        until(&pm3, true);
        pm3.signal(Sig::USR1);
        pm3.until_asleep();
        until(&pm3, true);
        // It hears it now.
        pm3.signal(Sig::CONT);
        assert_eq!(pm3.end(), End::Code(128 + 10));
    }
}

#[test]
fn point_09_a_stopped_command_can_be_ended() {
    for ns in both() {
        let (mut terminal, slave) = Terminal::open();
        let mut pm3 = ns.terminal(slave).start(&run(&[], &["say:ready", "pause"]));
        terminal.expect("ready");
        terminal.press("\x1a");
        until(&pm3, true);
        pm3.signal(Sig::TERM);
        assert_eq!(pm3.end(), End::Code(143));
    }
}

#[test]
fn point_09_the_first_hup_is_passed_on_and_none_is_made_up() {
    for ns in both() {
        let (mut terminal, slave) = Terminal::open();
        let mut pm3 = ns.terminal(slave).start(&run(&[], &["listen", "say:ready", "hear:HUP", "hear:TERM", "exit:9"]));
        terminal.expect("ready");
        pm3.signal(Sig::HUP);
        terminal.expect("heard SIGHUP");
        pm3.signal(Sig::TERM);
        terminal.expect("heard SIGTERM");
        assert_eq!(pm3.end(), End::Code(9));
    }
}

#[test]
fn point_09_a_terminal_that_hangs_up_is_a_hup() {
    for ns in both() {
        let (mut terminal, slave) = Terminal::open();
        let mut pm3 = ns.terminal(slave).start(&run(&[], &["listen", "say:ready", "hear:HUP", "exit:9"]));
        terminal.expect("ready");
        drop(terminal);
        assert_eq!(pm3.end(), End::Code(9));
    }
}
