//! `pm3 run` as the entry point of a container.

use super::common::tty::Terminal;
use super::podman::{IMAGE, rig, text};

/// The command line that makes pm3 run the app with this script.
fn run(words: &[&'static str]) -> Vec<&'static str> {
    [&["run", "--", "/app", "app"], words].concat()
}

#[test]
fn the_image_holds_pm3_and_nothing_else() {
    let Some(rig) = rig() else { return };
    let layers = rig.ask(&[
        "image",
        "inspect",
        "--format",
        "{{len .RootFS.Layers}} {{.Config.Entrypoint}} {{.Config.Cmd}}",
        IMAGE,
    ]);
    assert_eq!(layers, "1 [/pm3] [init]");
    let directory = rig.ask(&["image", "mount", IMAGE]);
    let names: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["pm3"]);
    rig.ask(&["image", "unmount", IMAGE]);
}

#[test]
fn there_is_no_shell_in_the_image() {
    let Some(rig) = rig() else { return };
    let mut sh = rig.run(&["--entrypoint", "/bin/sh"], &["-c", "exit 0"]);
    assert_eq!(sh.end(), 127, "{}", sh.err.so_far());
}

#[test]
fn the_container_ends_with_the_commands_code() {
    let Some(rig) = rig() else { return };
    for (word, code) in [("exit:0", 0), ("exit:7", 7), ("die:TERM", 143), ("die:KILL", 137), ("die:RTMIN+1", 163)] {
        let mut container = rig.run(&[], &run(&[word]));
        assert_eq!(container.end(), code, "{word}: {:?}", container.err.taken);
    }
}

#[test]
fn a_command_that_cannot_be_started_is_named() {
    let Some(rig) = rig() else { return };
    let plain = rig.file("no program\n");
    let mount = format!("{plain}:/plain:ro");
    for (program, code, why) in [("/missing", 127, "no such file"), ("/plain", 126, "permission denied")] {
        let mut container = rig.run(&["--volume", &mount], &["run", "--", program]);
        let line = container.told(program);
        assert!(line.to_lowercase().contains(why), "{line}");
        assert_eq!(container.end(), code);
    }
}

#[test]
fn stop_reaches_the_command_once_and_its_code_counts() {
    let Some(rig) = rig() else { return };
    let mut container = rig.run(&[], &run(&["listen", "say:ready", "tally:TERM", "exit:3"]));
    container.expect("ready");
    container.stop(10);
    container.expect("tally SIGTERM=1");
    assert_eq!(container.end(), 3);
}

#[test]
fn stop_ends_a_command_that_knows_no_signals() {
    let Some(rig) = rig() else { return };
    // As PID 1 itself it would ignore the signal, and the runtime would have to kill it.
    let mut container = rig.run(&[], &run(&["say:ready", "pause"]));
    container.expect("ready");
    container.stop(10);
    assert_eq!(container.end(), 143);
}

#[test]
fn a_deaf_command_is_killed_with_its_container() {
    let Some(rig) = rig() else { return };
    let mut container = rig.run(&[], &run(&["deaf", "say:ready", "pause"]));
    container.expect("ready");
    container.stop(1);
    assert_eq!(container.end(), 137);
}

#[test]
fn every_signal_of_podman_kill_is_passed_on() {
    let Some(rig) = rig() else { return };
    let mut container = rig.run(&[], &run(&["listen", "say:ready", "hear:TERM", "exit:0"]));
    container.expect("ready");
    for signal in ["HUP", "INT", "QUIT", "USR1", "WINCH", "SEGV", "RTMIN+3", "TERM"] {
        container.kill(signal);
        container.expect(&format!("heard SIG{signal}"));
    }
    assert_eq!(container.end(), 0);
}

#[test]
fn the_stop_signal_of_the_image_is_passed_on() {
    let Some(rig) = rig() else { return };
    let mut container = rig.run(&["--stop-signal", "QUIT"], &run(&["listen", "say:ready", "tally:QUIT", "exit:0"]));
    container.expect("ready");
    container.stop(10);
    container.expect("tally SIGQUIT=1");
    assert_eq!(container.end(), 0);
}

/// However the container is locked down, the app starts with clean signals, orphans are reaped, and stop works.
#[test]
fn a_locked_down_container_is_an_ordinary_one() {
    let Some(rig) = rig() else { return };
    let strict = ["--read-only", "--read-only-tmpfs=false"];
    let all = [&strict[..], &["--user", "1000", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]].concat();
    let cases: [(&str, &[&str]); 8] = [
        ("uid 0", &[]),
        ("uid 0", &strict),
        ("uid 1000", &["--user", "1000"]),
        ("uid 65534", &["--user", "65534:65534"]),
        ("uid 0", &["--cap-drop", "ALL"]),
        ("uid 0", &["--security-opt", "no-new-privileges"]),
        ("uid 0", &["--privileged"]),
        ("uid 1000", &all),
    ];
    for (uid, options) in cases {
        let words =
            ["uid", "signals", "orphan", "[", "exit:0", "]", "zombies", "listen", "say:ready", "hear:TERM", "exit:5"];
        let mut container = rig.run(options, &run(&words));
        for line in [uid, "signals blocked=0 ignored=0", "zombies none", "ready"] {
            container.expect(line);
        }
        container.stop(10);
        container.expect("heard SIGTERM");
        assert_eq!(container.end(), 5, "{options:?}: {:?}", container.err.taken);
        assert_eq!(container.err.taken, Vec::<String>::new(), "{options:?}: nothing to complain about");
    }
}

/// Kubernetes' shareProcessNamespace, ECS' initProcessEnabled: somebody else is PID 1.
#[test]
fn where_it_is_not_pid_1_it_reaps_all_the_same() {
    let Some(rig) = rig() else { return };
    let mut sandbox = rig.run(&[], &run(&["listen", "say:ready", "tally:TERM"]));
    sandbox.expect("ready");
    let namespace = format!("container:{}", sandbox.name);
    let words =
        ["child", "[", "orphan", "[", "exit:0", "]", "]", "reap", "zombies", "listen", "say:up", "hear:TERM", "exit:5"];
    let mut second = rig.run(&["--pid", &namespace], &run(&words));
    for line in ["reaped code 0", "zombies none", "up"] {
        second.expect(line);
    }
    second.stop(10);
    second.expect("heard SIGTERM");
    assert_eq!(second.end(), 5);
    assert_eq!(second.err.taken, Vec::<String>::new(), "that it is not PID 1 is normal there");
    // Its end, with whatever it sweeps away, leaves the other container alone.
    sandbox.stop(10);
    sandbox.expect("tally SIGTERM=1");
    assert_eq!(sandbox.end(), 0);
}

#[test]
fn under_another_init_everything_arrives_once() {
    let Some(rig) = rig() else { return };
    if super::common::needs("catatonit", 1).is_none() {
        return;
    }
    let mut container = rig.run(&["--init"], &run(&["listen", "say:ready", "tally:TERM", "exit:5"]));
    container.expect("ready");
    container.stop(10);
    container.expect("tally SIGTERM=1");
    assert_eq!(container.end(), 5);
    assert_eq!(container.err.taken, Vec::<String>::new());
}

#[test]
fn the_containers_terminal_belongs_to_the_command() {
    let Some(rig) = rig() else { return };
    let mut container = rig.run(&["--tty"], &run(&["foreground", "exit:6"]));
    container.expect("foreground yes");
    assert_eq!(container.end(), 6);
}

/// `podman run -it` in somebody's terminal: ^C is a key for the container's terminal, which makes one signal of it.
#[test]
fn control_c_arrives_once() {
    let Some(rig) = rig() else { return };
    let (mut terminal, slave) = Terminal::open();
    let words = ["listen", "foreground", "hear", "say:more", "tally:TERM", "exit:0"];
    let mut container = rig.start(slave, &["--interactive", "--tty"], IMAGE, &run(&words));
    container.expect("foreground yes");
    terminal.press("\x03");
    for line in ["^Cheard SIGINT", "more"] {
        container.expect(line);
    }
    container.stop(10);
    container.expect("tally SIGTERM=1");
    assert_eq!(container.end(), 0);
}

#[test]
fn without_arguments_or_a_file_it_says_where_it_looked() {
    let Some(rig) = rig() else { return };
    let mut container = rig.run(&[], &[]);
    let line = container.told("pm3.toml");
    assert!(line.contains("/etc/pm3.toml"), "{line}");
    assert_ne!(container.end(), 0);
}

#[test]
fn exec_finds_the_one_binary() {
    let Some(rig) = rig() else { return };
    let mut container = rig.run(&[], &run(&["say:ready", "pause"]));
    container.expect("ready");
    let version = container.exec(&[], &["/pm3", "--version"]);
    assert_eq!(text(&version), concat!(env!("CARGO_PKG_VERSION"), "\n"));
}
