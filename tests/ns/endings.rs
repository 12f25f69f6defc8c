//! How `pm3 run` ends: with the command's code, and with nothing left of what the command started.

use std::time::Instant;

use pm3::supervisor::event::{End, Sig};

use super::{both, run};
use crate::common::app;
use crate::common::ns::Ns;

#[test]
fn point_01_the_main_child_is_seen_among_many_orphans() {
    // SIGCHLD coalesces: the ends of orphans and of the command may share one.
    for ns in (0..20).flat_map(|_| both()) {
        assert_eq!(ns.start(&run(&[], &["crowd:20", "exit:7"])).end(), End::Code(7));
    }
}

#[test]
fn point_01_children_may_predate_pm3() {
    // A zombie and an orphan's father become pm3; both are pm3's to reap.
    for ns in both() {
        let mut script = vec!["zombie", "zombie", "child", "[", "say:older", "line", "]", "exec", "["];
        let command = run(&[], &["say:younger", "pause"]);
        script.extend(command.iter().map(String::as_str));
        script.push("]");
        let mut pm3 = ns.start(&app(&script));
        let mut lines = [pm3.line(), pm3.line()];
        lines.sort();
        assert_eq!(lines, ["older", "younger"]);
        // The older one ends before the command does, and pm3 goes on.
        pm3.write("\n");
        pm3.expect("line ");
        pm3.signal(Sig::TERM);
        assert_eq!(pm3.end(), End::Code(143));
    }
}

#[test]
fn point_01_zombies_are_reaped_while_the_command_runs() {
    for ns in both() {
        let mut pm3 = ns.start(&run(&[], &["crowd:3", "zombies", "exit:2"]));
        pm3.expect("crowd 3");
        pm3.expect("zombies none");
        assert_eq!(pm3.end(), End::Code(2));
    }
}

#[test]
fn point_02_a_fast_child_is_waited_for() {
    for ns in (0..100).flat_map(|_| both()) {
        assert_eq!(ns.start(&run(&[], &["exit:1"])).end(), End::Code(1));
    }
}

#[test]
fn point_05_the_exit_code_is_the_commands() {
    let cases = [
        ("exit:0", 0),
        ("exit:1", 1),
        ("exit:127", 127),
        ("exit:255", 255),
        ("die:TERM", 143),
        ("die:KILL", 137),
        ("die:SEGV", 139),
        ("die:RTMIN", 162),
        ("die:RTMAX", 192),
    ];
    for (word, code) in cases {
        for ns in both() {
            assert_eq!(ns.start(&run(&[], &[word])).end(), End::Code(code), "{word}");
        }
    }
}

#[test]
fn point_05_some_codes_count_as_0() {
    for (word, code) in [("exit:3", 0), ("exit:4", 4), ("die:TERM", 0), ("die:INT", 130)] {
        for ns in both() {
            assert_eq!(ns.start(&run(&["-e", "3", "--remap=143"], &[word])).end(), End::Code(code), "{word}");
        }
    }
}

#[test]
fn point_10_what_is_left_in_any_session_gets_sigterm() {
    // Two leftovers in another session, one the other's child.
    let child = ["child", "[", "listen", "say:grandchild", "hear:TERM", "]"];
    let orphan = [&["orphan", "[", "listen"], &child[..], &["say:orphan", "hear:TERM", "]"]].concat();
    let script = [&orphan[..], &["line", "exit:4"]].concat();
    for ns in both() {
        let mut pm3 = ns.start(&run(&[], &script));
        let mut lines = [pm3.line(), pm3.line()];
        lines.sort();
        assert_eq!(lines, ["grandchild", "orphan"]);
        pm3.write("end\n");
        pm3.expect("line end");
        let mut lines = pm3.rest();
        lines.retain(|line| line != "heard SIGCHLD" && line != "heard SIGCONT");
        assert_eq!(lines, ["heard SIGTERM", "heard SIGTERM"]);
        assert_eq!(pm3.end(), End::Code(4));
    }
}

#[test]
fn point_10_a_stopped_leftover_is_continued_to_hear_it() {
    for ns in both() {
        let script = ["orphan", "[", "say:stopping", "stop:STOP", "]", "line", "zombies", "exit:4"];
        let mut pm3 = ns.start(&run(&["--kill-timeout", "1h"], &script));
        pm3.expect("stopping");
        pm3.write("end\n");
        pm3.expect("line end");
        pm3.expect("zombies none");
        assert_eq!(pm3.end(), End::Code(4));
    }
}

#[test]
fn point_10_the_deaf_are_killed_after_their_grace() {
    for ns in both() {
        let script = ["orphan", "[", "deaf", "say:deaf", "pause", "]", "line", "exit:4"];
        let mut pm3 = ns.start(&run(&["--kill-timeout", "200ms"], &script));
        pm3.expect("deaf");
        pm3.write("end\n");
        pm3.expect("line end");
        let start = Instant::now();
        assert_eq!(pm3.end(), End::Code(4));
        assert!(start.elapsed().as_millis() >= 200);
        // Nobody holds stdout any more, so nobody of them lives.
        assert_eq!(pm3.rest(), [""; 0]);
    }
}

#[test]
fn point_10_the_grace_ends_with_the_last_leftover() {
    for ns in both() {
        // An hour would be too long for the test's patience.
        let script = ["orphan", "[", "listen", "say:slow", "hear:TERM", "line", "]", "line", "exit:4"];
        let mut pm3 = ns.start(&run(&["--kill-timeout", "1h"], &script));
        pm3.expect("slow");
        pm3.write("end\n");
        pm3.expect("line end");
        let heard = pm3.line();
        assert_eq!(heard, "heard SIGTERM");
        pm3.write("end\n");
        pm3.expect("line end");
        assert_eq!(pm3.end(), End::Code(4));
    }
}

#[test]
fn point_10_a_second_sigterm_hastens() {
    for ns in both() {
        let script =
            ["orphan", "[", "listen", "say:deaf", "hear:TERM", "pause", "]", "listen", "say:ready", "hear:TERM"];
        let mut pm3 = ns.start(&run(&["--kill-timeout", "1h"], &script));
        let mut lines = [pm3.line(), pm3.line()];
        lines.sort();
        assert_eq!(lines, ["deaf", "ready"]);
        pm3.signal(Sig::TERM);
        // The command's, and then the leftover's: the command is gone.
        pm3.expect("heard SIGTERM");
        pm3.expect("heard SIGTERM");
        pm3.signal(Sig::TERM);
        assert_eq!(pm3.end(), End::Code(0));
    }
}

#[test]
fn point_10_the_first_request_to_stop_does_not_hasten() {
    for ns in both() {
        let script = ["orphan", "[", "listen", "say:slow", "hear:TERM", "line", "]", "line", "exit:4"];
        let mut pm3 = ns.start(&run(&["--kill-timeout", "1h"], &script));
        pm3.expect("slow");
        pm3.write("end\n");
        pm3.expect("line end");
        pm3.expect("heard SIGTERM");
        // The command had ended by itself.
        pm3.signal(Sig::TERM);
        pm3.write("still there\n");
        pm3.expect("line still there");
        assert_eq!(pm3.end(), End::Code(4));
    }
}

#[test]
fn point_08_leftovers_are_told_where_asked_for() {
    for ns in both() {
        let script = ["orphan", "[", "deaf", "say:deaf", "pause", "]", "line", "exit:4"];
        let mut pm3 = ns.start(&run(&["-w", "--kill-timeout", "1ms"], &script));
        pm3.expect("deaf");
        pm3.write("end\n");
        let lines = pm3.err_rest();
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(lines[0].starts_with("pm3: run: left behind, sending SIGTERM: "), "{lines:#?}");
        assert!(lines[1].starts_with("pm3: run: still there, sending SIGKILL: "), "{lines:#?}");
        assert_eq!(pm3.end(), End::Code(4));
    }
    // Silence without the flag, and where nothing is left.
    for (flags, script) in
        [(&["--kill-timeout", "1ms"][..], &["orphan", "[", "deaf", "pause", "]", "exit:4"][..]), (&["-w"], &["exit:4"])]
    {
        for ns in both() {
            let mut pm3 = ns.start(&run(flags, script));
            assert_eq!(pm3.err_rest(), [""; 0]);
            assert_eq!(pm3.end(), End::Code(4));
        }
    }
}

#[test]
fn point_11_a_stranger_is_left_alone() {
    // pm3 is one of two children; its orphans come to it, the other one is none of its business.
    let mut script = vec!["child", "[", "listen", "say:stranger", "hear:USR1", "]", "child", "[", "exec", "["];
    let command = run(&["--kill-timeout", "0"], &["orphan", "[", "ids", "deaf", "pause", "]", "line", "exit:4"]);
    script.extend(command.iter().map(String::as_str));
    script.extend(["]", "]", "reap", "send:2:USR1:1", "reap"]);
    let mut parent = Ns::pid1().start(&app(&script));
    let mut lines = [parent.line(), parent.line()];
    lines.sort();
    assert!(lines[0].starts_with("ids pid=") && lines[0].contains(" ppid=3 "), "adopted by pm3: {lines:?}");
    assert_eq!(lines[1], "stranger");
    parent.write("end\n");
    parent.expect("line end");
    parent.expect("reaped code 4");
    parent.expect("heard SIGUSR1");
    parent.expect("reaped code 0");
    assert_eq!(parent.end(), End::Code(0));
}

#[test]
fn point_11_not_being_pid_1_is_no_reason_to_warn() {
    let mut pm3 = Ns::second().start(&run(&["-w"], &["exit:0"]));
    assert_eq!(pm3.err_rest(), [""; 0]);
    assert_eq!(pm3.end(), End::Code(0));
}

#[test]
fn point_15_ten_thousand_orphans_are_reaped_at_once() {
    for ns in both() {
        let mut pm3 = ns.start(&run(&[], &["crowd:10000", "zombies", "exit:5"]));
        pm3.expect("crowd 10000");
        pm3.expect("zombies none");
        assert_eq!(pm3.end(), End::Code(5));
    }
}
