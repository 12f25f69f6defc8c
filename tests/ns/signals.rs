//! Signals on their way through `pm3 run`: all that can be caught arrive, none is lost early or in a storm, and what
//! the flags change is changed.

use std::fs;

use pm3::supervisor::event::{End, Sig};

use super::{both, run};
use crate::common::app;
use crate::common::ns::{Ns, Proc};

/// What a program may catch, and pm3 passes on.
fn catchable() -> impl Iterator<Item = Sig> + Clone {
    (1..=64).map(Sig).filter(|sig| ![Sig::KILL, Sig::STOP, Sig::CHLD].contains(sig))
}

#[test]
fn point_07_everything_that_can_be_caught_is_forwarded() {
    for flags in [&[][..], &["-g"]] {
        for ns in both() {
            let script = ["listen", "say:ready", "hear:RTMAX", "exit:9"];
            let mut pm3 = ns.start(&run(flags, &script));
            pm3.expect("ready");
            for sig in catchable() {
                pm3.signal(sig);
                // Each alone: stop signals and SIGCONT cancel each other while they wait.
                pm3.expect(&format!("heard {sig}"));
            }
            assert_eq!(pm3.end(), End::Code(9));
        }
    }
}

#[test]
fn point_07_sigchld_is_not_forwarded() {
    for ns in both() {
        let mut pm3 = ns.start(&run(&[], &["listen", "say:ready", "hear:WINCH"]));
        pm3.expect("ready");
        pm3.signal(Sig::CHLD);
        // The higher number is taken after it.
        pm3.signal(Sig(28));
        pm3.expect("heard SIGWINCH");
        assert_eq!(pm3.end(), End::Code(0));
    }
}

#[test]
fn point_07_realtime_signals_are_queued_and_counted() {
    for ns in both() {
        let mut pm3 = ns.start(&run(&[], &["listen", "say:ready", "line", "tally:RTMAX"]));
        pm3.expect("ready");
        for _ in 0..500 {
            pm3.signal(Sig(36));
        }
        pm3.signal(Sig(64));
        pm3.write("all are sent\n");
        pm3.expect("line all are sent");
        pm3.expect("tally SIGRTMIN+2=500 SIGRTMIN+30=1");
        assert_eq!(pm3.end(), End::Code(0));
    }
}

#[test]
fn point_07_a_kill_that_is_refused_is_not_fatal() {
    // EPERM, as for a command that has become another user.
    for flags in [&[][..], &["-g"]] {
        for ns in both() {
            let mut pm3 = ns.with("refuse:kill").start(&run(flags, &["say:ready", "line", "exit:8"]));
            pm3.expect("ready");
            pm3.signal(Sig::TERM);
            pm3.signal(Sig::HUP);
            pm3.write("still here\n");
            pm3.expect("line still here");
            assert_eq!(pm3.end(), End::Code(8));
        }
    }
}

#[test]
fn point_07_fault_signals_from_outside_do_not_kill_pm3() {
    for ns in both() {
        let mut pm3 = ns.start(&run(&[], &["deaf", "say:ready", "line", "exit:8"]));
        pm3.expect("ready");
        for sig in ["SEGV", "BUS", "FPE", "ILL", "TRAP", "SYS", "ABRT", "XCPU", "QUIT"] {
            pm3.signal(Sig::parse(sig).unwrap());
        }
        pm3.write("still here\n");
        pm3.expect("line still here");
        assert_eq!(pm3.end(), End::Code(8));
    }
}

/// Waits until pm3 has its signals blocked: the moment from which on it loses none. Nobody tells of it, so this asks
/// again and again. While pm3 waits for signals its mask shows as empty.
fn until_blocked(pm3: &Proc) {
    const TERM: u64 = 1 << 14;
    let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", pm3.pid)).unwrap();
    let waits = format!("{} ", libc::SYS_rt_sigtimedwait);
    loop {
        let text = read("status");
        let mask = text.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        if u64::from_str_radix(mask.trim(), 16).unwrap() & TERM != 0 || read("syscall").starts_with(&waits) {
            return;
        }
    }
}

#[test]
fn point_03_no_early_sigterm_is_lost() {
    // From pm3's first instruction on: the harness blocks TERM before it executes pm3. And from the moment that pm3
    // blocks it by itself. Either the command hears it, or it ends by it before it can.
    for flags in [&[][..], &["-g"]] {
        for blocked in [true, false] {
            for ns in (0..60).flat_map(|_| both()) {
                let ns = if blocked { ns.with("block:TERM") } else { ns };
                let mut pm3 = ns.start(&run(flags, &["pause"]));
                if !blocked {
                    until_blocked(&pm3);
                }
                pm3.signal(Sig::TERM);
                assert_eq!(pm3.end(), End::Code(143), "{flags:?} {blocked}");
            }
        }
    }
}

#[test]
fn point_03_nor_one_that_comes_before_the_command_listens() {
    for ns in (0..50).flat_map(|_| both()) {
        // With the inherited mask the command finds TERM blocked, and so what came while it was started.
        let mut pm3 = ns.with("block:TERM").start(&run(&["--inherit-signals"], &["listen", "hear", "exit:3"]));
        pm3.signal(Sig::TERM);
        pm3.expect("heard SIGTERM");
        assert_eq!(pm3.end(), End::Code(3));
    }
}

#[test]
fn point_08_signals_are_rewritten_and_dropped() {
    for ns in both() {
        let flags = ["-r", "TERM:QUIT", "--rewrite=HUP:0", "-rUSR1:RTMIN+5", "--rewrite", "10:USR2"];
        let mut pm3 = ns.start(&run(&flags, &["listen", "say:ready", "hear:QUIT"]));
        pm3.expect("ready");
        pm3.signal(Sig::HUP);
        pm3.signal(Sig::USR1);
        pm3.expect("heard SIGUSR2");
        pm3.signal(Sig::INT);
        pm3.expect("heard SIGINT");
        pm3.signal(Sig::TERM);
        pm3.expect("heard SIGQUIT");
        assert_eq!(pm3.end(), End::Code(0));
    }
}

#[test]
fn point_08_the_child_alone_is_signalled_and_with_a_flag_its_group() {
    // Both tell what they hear: the command ends by it, the other member of its group with the leftovers.
    let script = ["listen", "child", "[", "say:member ready", "hear:TERM", "]", "hear:USR1"];
    for (flags, heard) in [(&[][..], 1), (&["-g"][..], 2)] {
        for ns in both() {
            let mut pm3 = ns.start(&run(flags, &script));
            pm3.expect("member ready");
            pm3.signal(Sig::USR1);
            let lines = pm3.rest();
            assert_eq!(lines.iter().filter(|line| *line == "heard SIGUSR1").count(), heard, "{flags:?}: {lines:?}");
            assert_eq!(pm3.end(), End::Code(0));
        }
    }
}

#[test]
fn point_08_the_death_of_the_parent_is_a_signal() {
    // pm3's parent is a child of PID 1, and ends when it has read a line.
    for sig in ["USR1", "TERM"] {
        let command = run(&["-p", sig], &["listen", "say:ready", "hear"]);
        let pm3: Vec<&str> = command.iter().map(String::as_str).collect();
        let parent = [&["child", "[", "child", "[", "exec", "["], &pm3[..], &["]", "]", "line", "]"]].concat();
        let mut first = Ns::pid1().start(&app(&[&parent[..], &["reap", "line"]].concat()));
        first.expect("ready");
        first.write("the parent's\n");
        let mut lines = [first.line(), first.line(), first.line()];
        lines.sort();
        assert_eq!(lines, [&format!("heard SIG{sig}"), "line the parent's", "reaped code 0"]);
        first.write("\n");
        assert_eq!(first.end(), End::Code(0));
    }
}

#[test]
fn point_15_a_storm_loses_neither_its_last_signal_nor_the_exit() {
    for flags in [&[][..], &["-g"]] {
        for ns in both() {
            let mut pm3 = ns.start(&run(flags, &["listen", "say:ready", "tally:TERM", "exit:7"]));
            pm3.expect("ready");
            for sig in catchable().filter(|sig| *sig != Sig::TERM).cycle().take(10_000) {
                pm3.signal(sig);
            }
            pm3.signal(Sig::TERM);
            let tally = pm3.line();
            assert!(tally.contains(" SIGTERM=1"), "{tally}");
            assert_eq!(pm3.end(), End::Code(7));
        }
    }
}

#[test]
fn point_15_an_exit_is_seen_in_the_middle_of_a_storm() {
    for (ns, pid) in both().into_iter().zip(["1", "2"]) {
        // A bystander sends while the command ends; the bystander is left behind, and ended too.
        let storm = format!("storm:{pid}:100000");
        let script = ["deaf", "orphan", "[", "say:blowing", &storm, "pause", "]", "line", "exit:7"];
        let mut pm3 = ns.start(&run(&["--kill-timeout", "0"], &script));
        pm3.expect("blowing");
        pm3.write("end\n");
        pm3.expect("line end");
        assert_eq!(pm3.end(), End::Code(7));
    }
}
