//! What stands where Kubernetes looks when a container has ended, `termination_log`: why, and what the app said last.

use pm3::supervisor::event::Sig;

use crate::common::ns::Ns;
use crate::until;
use crate::world::{World, app, entry};

/// As much as Kubernetes reads.
const MOST: usize = 4096;

/// pm3's settings with such a file, which is there already as it is there.
fn settings(world: &World) -> String {
    format!("[pm3]\ntermination_log = {:?}\n", world.write("termination-log", "of another container"))
}

#[test]
fn a_failure_is_told_with_the_last_lines_of_whose_it_is() {
    let world = World::new();
    let script = "echo begun; echo 'Error: no such database' >&2; printf 'no end'; exit 3";
    let jobs = entry("job", "/bin/sh", &["-c", script], "kind = \"oneshot\"\nlog_mode = \"prefix\"")
        + &app("well", &["say:well"], "kind = \"oneshot\"\nlog_mode = \"prefix\"");
    world.plan(&(settings(&world) + &jobs));
    world.boot(Ns::pid1()).ends(3);
    let told = world.read("termination-log");
    let mut lines: Vec<&str> = told.lines().collect();
    // The two streams come as they come.
    lines[2..].sort_unstable();
    let reason = ["pm3: exit 3: nothing is left to run, job was the first to fail", "job: exit 3"];
    assert_eq!(lines, [&reason[..], &["Error: no such database", "begun", "no end"]].concat(), "{told:?}");
    assert!(told.ends_with('\n'));
}

#[test]
fn no_more_is_told_than_is_read_and_that_is_the_end() {
    for (name, script, last) in [
        ("many", "i=0; while [ $$i -lt 500 ]; do echo line $$i; i=$$((i+1)); done; exit 1", "line 499\n"),
        // Of one that is too long, the beginning.
        ("long", "printf 'panicked at %05000d' 7; exit 1", "0"),
        ("none", "exit 1", "main: exit 1\n"),
    ] {
        let world = World::new();
        let keys = "main = true\nautorestart = \"never\"\nlog_mode = \"raw\"";
        world.plan(&(settings(&world) + &entry("main", "/bin/sh", &["-c", script], keys)));
        let mut init = world.boot(Ns::pid1());
        init.ends(1);
        let told = world.read("termination-log");
        assert!(told.starts_with("pm3: exit 1: main, the main app, ended with 1\nmain: exit 1\n"), "{name}: {told}");
        assert!(told.ends_with(last) && told.len() <= MOST, "{name}: {} bytes, {told}", told.len());
        assert!(name == "none" || told.len() > MOST - 10, "{name}: {} bytes", told.len());
        assert_eq!(told.contains("\npanicked at 000"), name == "long");
    }
}

#[test]
fn an_app_that_gives_up_is_told_of_while_others_go_on() {
    let world = World::new();
    let crashes = "max_restarts = 2\nmin_uptime = \"1h\"\nlog_mode = \"raw\"";
    let apps = app("crashes", &["say:what is wrong", "exit:7"], crashes)
        + &app("other", &["say:up", "pause"], "requires = [\"crashes\"]\nautostart = true")
        + &app("third", &["pause"], "");
    world.plan(&(settings(&world) + &apps));
    let mut init = world.boot(Ns::pid1());
    let note = init.told("crashes: errored after 2 short runs, the last: exit 7");
    let note = note.split_once("error: ").unwrap().1;
    let expected = format!("pm3: {note}\nwhat is wrong\nwhat is wrong\n");
    until("it is told", || world.read("termination-log") == expected);
    // Asked to end, pm3 ends well.
    init.stop(0);
    assert_eq!(world.read("termination-log"), "pm3: exit 0: SIGTERM\n");
}

#[test]
fn it_is_told_to_a_logger_that_is_stuck_too() {
    let world = World::new();
    let mut gate = world.gate("gate");
    let words = ["say:one", &format!("gate:{}", gate.path), "say:two", "exit:3"];
    world.plan(&(settings(&world) + &app("main", &words, "main = true\nautorestart = \"never\"\nlog_mode = \"raw\"")));
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("one");
    let [logger] = &crate::roles::roles(&init.proc)[..] else { panic!("one logger") };
    init.signal_inside(logger.parse().unwrap(), Sig::STOP);
    gate.open();
    init.ends(3);
    assert_eq!(world.read("termination-log"), "pm3: exit 3: main, the main app, ended with 3\nmain: exit 3\n");
}
