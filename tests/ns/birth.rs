//! How the command of `pm3 run` starts, whatever pm3 itself was given: signals, descriptors, terminals, roots; what
//! pm3 keeps of it; and what is said when it does not start.

use std::fs;
use std::path::Path;

use pm3::supervisor::event::{End, Sig};

use super::{both, run, run_command};
use crate::common::ns::Ns;
use crate::common::{PM3, app, this_binary};

fn words(text: &[&str]) -> Vec<String> {
    text.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn point_04_sigchld_inherited_as_ignored_or_blocked_is_no_trap() {
    for setting in ["ignore:CHLD", "block:CHLD"] {
        for ns in both() {
            let mut pm3 =
                ns.with(setting).start(&run(&[], &["signals", "child", "[", "exit:3", "]", "reap", "exit:4"]));
            pm3.expect("signals blocked=0 ignored=0");
            pm3.expect("reaped code 3");
            assert_eq!(pm3.end(), End::Code(4), "{setting}");
        }
    }
}

/// Signals 32 and 33 belong to libc, and its own calls leave them alone.
const GIVEN: [&str; 6] = ["ignore:HUP", "ignore:32", "ignore:PIPE", "block:TERM", "block:33", "block:RTMAX"];

#[test]
fn point_06_the_command_starts_with_an_empty_mask_and_default_dispositions() {
    for ns in both() {
        let given = GIVEN.into_iter().fold(ns, Ns::with);
        let mut pm3 = given.start(&run(&[], &["signals"]));
        pm3.expect("signals blocked=0 ignored=0");
        assert_eq!(pm3.end(), End::Code(0));
    }
}

#[test]
fn point_06_or_with_the_inherited_ones_where_asked_for() {
    for ns in both() {
        let given = GIVEN.into_iter().fold(ns, Ns::with);
        let mut pm3 = given.start(&run(&["--inherit-signals"], &["signals"]));
        let bits = |numbers: [u32; 3]| numbers.iter().fold(0u64, |set, number| set | 1 << (number - 1));
        pm3.expect(&format!("signals blocked={:x} ignored={:x}", bits([15, 33, 64]), bits([1, 32, 13])));
        assert_eq!(pm3.end(), End::Code(0));
    }
}

#[test]
fn point_12_closed_stdio_does_no_harm() {
    // Whoever has no stdout can still exit with a code.
    for closed in [&["close:0"][..], &["close:1"], &["close:2"], &["close:0", "close:1", "close:2"]] {
        for hidden in [&[][..], &["hide:/dev"]] {
            for ns in both() {
                let ns = closed.iter().chain(hidden).fold(ns, |ns, word| ns.with(word));
                assert_eq!(ns.start(&run(&[], &["exit:5"])).end(), End::Code(5), "{closed:?} {hidden:?}");
            }
        }
    }
}

#[test]
fn point_12_what_is_closed_stays_apart_from_pm3s_own_files() {
    // Were the pipe by which pm3 learns of the exec to get number 2, a complaint would be taken for a failure.
    for ns in both() {
        let closed = ns.with("close:0").with("close:2").with("hide:/dev");
        assert_eq!(closed.start(&run_command(&[], &words(&["/nope"]))).end(), End::Code(127));
    }
}

#[test]
fn point_12_it_works_without_proc_dev_and_a_writable_root_as_any_uid() {
    for settings in [
        &["hide:/proc"][..],
        &["hide:/dev"],
        &["readonly"],
        &["uid:65534"],
        &["uid:1000", "hide:/proc", "hide:/dev", "readonly"],
    ] {
        for ns in both() {
            let ns = settings.iter().fold(ns, |ns, word| ns.with(word));
            let mut pm3 = ns.start(&run(&[], &["listen", "say:ready", "hear:TERM", "exit:6"]));
            pm3.expect("ready");
            pm3.signal(Sig::TERM);
            pm3.expect("heard SIGTERM");
            assert_eq!(pm3.end(), End::Code(6), "{settings:?}");
        }
    }
}

#[test]
fn point_13_descriptors_are_passed_on_and_not_kept() {
    for ns in both() {
        let mut pm3 = ns.with("open:3:/").with("open:9:/").start(&run(&[], &["fds", "line"]));
        pm3.expect("fds 0 1 2 3 9");
        pm3.until_asleep();
        let mut kept: Vec<String> = fs::read_dir(format!("/proc/{}/fd", pm3.pid))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        kept.sort();
        assert_eq!(kept, ["0", "1", "2"]);
        pm3.write("go on\n");
        pm3.expect("line go on");
        assert_eq!(pm3.end(), End::Code(0));
    }
}

#[test]
fn point_13_pm3_leaves_the_directory_and_the_command_does_not() {
    let here = std::env::temp_dir().canonicalize().unwrap();
    let script = format!("cd {} && exec \"$@\"", here.display());
    for ns in both() {
        let mut argv = words(&["/bin/sh", "-c", &script, "sh"]);
        argv.extend(run(&[], &["cwd", "line"]));
        let mut pm3 = ns.start(&argv);
        pm3.expect(&format!("cwd {}", here.display()));
        pm3.until_asleep();
        assert_eq!(fs::read_link(format!("/proc/{}/cwd", pm3.pid)).unwrap(), Path::new("/"));
        pm3.write("\n");
        assert_eq!(pm3.end(), End::Code(0));
    }
}

#[test]
fn point_13_an_idle_pm3_waits_without_a_timeout() {
    for ns in both() {
        let mut pm3 = ns.start(&run(&[], &["say:ready", "line"]));
        pm3.expect("ready");
        pm3.until_asleep();
        let tasks = fs::read_dir(format!("/proc/{}/task", pm3.pid)).unwrap().count();
        assert_eq!(tasks, 1, "no thread does its own waiting");
        pm3.write("\n");
        assert_eq!(pm3.end(), End::Code(0));
    }
}

#[test]
fn point_13_listen_pid_names_the_command() {
    // The shell's pid becomes pm3's by exec.
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
    for (ns, pid) in both().into_iter().zip(["2", "3"]) {
        let mut argv = words(&["/bin/sh", "-c", script, "sh"]);
        argv.extend(run(&[], &["ids", "env:LISTEN_PID", "env:LISTEN_FDS"]));
        let mut pm3 = ns.start(&argv);
        assert!(pm3.line().starts_with(&format!("ids pid={pid} ")));
        pm3.expect(&format!("LISTEN_PID={pid}"));
        pm3.expect("LISTEN_FDS=1");
        assert_eq!(pm3.end(), End::Code(0));
    }
    // One that is meant for somebody else stays as it is.
    let mut pm3 = Ns::pid1().env("LISTEN_PID", "77").start(&run(&[], &["env:LISTEN_PID"]));
    pm3.expect("LISTEN_PID=77");
    assert_eq!(pm3.end(), End::Code(0));
}

#[test]
fn point_14_flags_end_at_the_first_word_that_is_none() {
    for flags in [&[][..], &["-g"], &["--"], &["-w", "--"]] {
        let mut argv = words(&[PM3, "run"]);
        argv.extend(words(flags));
        argv.extend(words(&["sh", "-c", "echo $1; exit 3", "-w", "-g"]));
        let mut pm3 = Ns::pid1().start(&argv);
        pm3.expect("-g");
        assert_eq!(pm3.end(), End::Code(3), "{flags:?}");
    }
}

#[test]
fn point_05_a_command_that_does_not_start_is_named() {
    let cases = [
        ("nope", "exec nope: not found in PATH", 127),
        ("/nope", "exec /nope: no such file or directory", 127),
        ("/etc/passwd", "exec /etc/passwd: permission denied", 126),
        ("/etc", "exec /etc: is a directory", 126),
        ("", "exec: no such file or directory", 127),
    ];
    for (command, why, code) in cases {
        for ns in both() {
            // Directories that anybody may search: one that may not be is another failure.
            let mut pm3 = ns.env("PATH", "/usr/bin:/bin").start(&run_command(&[], &words(&[command])));
            assert_eq!(pm3.err_rest(), [format!("pm3: run: start failed at {why}")]);
            assert_eq!(pm3.end(), End::Code(code), "{command:?}");
        }
    }
}

#[test]
fn point_05_also_when_stderr_is_broken() {
    for (program, code) in [("/nope", 127), ("/etc/passwd", 126)] {
        for setting in ["close:2", "open:2:/dev/null", "open:2:/"] {
            for ns in both() {
                assert_eq!(ns.with(setting).start(&run_command(&[], &words(&[program]))).end(), End::Code(code));
            }
        }
        // A pipe that nobody reads: pm3 itself must not die of SIGPIPE.
        let mut argv = words(&["/bin/sh", "-c", "\"$@\" 2>&1 >/dev/null | :; exit 0", "sh"]);
        argv.extend(run_command(&[], &words(&[program])));
        assert_eq!(Ns::pid1().start(&argv).end(), End::Code(0));
    }
}

#[test]
fn point_05_a_fork_that_fails_is_told() {
    for ns in both() {
        let mut pm3 = ns.with("refuse:clone").start(&run(&[], &["exit:0"]));
        let text = "pm3: run: start failed at fork: resource temporarily unavailable";
        assert_eq!(pm3.err_rest(), [text]);
        assert_eq!(pm3.end(), End::Code(126));
    }
}

#[test]
fn a_mistake_in_the_flags_starts_nothing() {
    for (flags, why) in [
        (&["-r", "TERM"][..], "--rewrite TERM: expected FROM:TO, such as TERM:QUIT, or HUP:0 to drop it"),
        (&["--grup"], "unknown flag --grup: see pm3 run --help, or put -- before the command"),
    ] {
        let mut pm3 = Ns::pid1().start(&run(flags, &["say:started"]));
        assert_eq!(pm3.err_rest(), [format!("pm3: run: {why}")]);
        assert_eq!(pm3.rest(), [""; 0]);
        assert_eq!(pm3.end(), End::Code(64));
    }
    let mut pm3 = Ns::pid1().start(&words(&[PM3, "run", "-g"]));
    assert_eq!(pm3.err_rest(), ["pm3: run: no command given: pm3 run [flags] -- CMD [ARG …]"]);
    assert_eq!(pm3.end(), End::Code(64));
}

#[test]
fn help_needs_no_command() {
    let mut pm3 = Ns::pid1().start(&words(&[PM3, "run", "--help"]));
    assert!(pm3.rest().iter().any(|line| line.contains("--kill-timeout")));
    assert_eq!(pm3.end(), End::Code(0));
}

#[test]
fn the_command_has_a_process_group_of_its_own_in_pm3s_session() {
    // The session is not of this namespace, so its number reads 0.
    let mut pm3 = Ns::pid1().start(&run(&[], &["ids"]));
    pm3.expect("ids pid=2 ppid=1 group=2 session=0");
    assert_eq!(pm3.end(), End::Code(0));
}

#[test]
fn a_program_is_found_in_the_path() {
    let dir = Path::new(&this_binary()).parent().unwrap().to_owned();
    let name = Path::new(&this_binary()).file_name().unwrap().to_str().unwrap().to_owned();
    let mut command = app(&["say:found"]);
    command[0] = name;
    let mut pm3 = Ns::pid1().env("PATH", &format!("/nonexistent:{}", dir.display())).start(&run_command(&[], &command));
    pm3.expect("found");
    assert_eq!(pm3.end(), End::Code(0));
}
