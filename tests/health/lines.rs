//! Apps that are ready when a line of their output has a text in it. The logger looks for it, and may be killed meanwhile.

use std::fs;

use pm3::supervisor::event::Sig;

use crate::common::deeds::poured;
use crate::common::ns::{Ns, Proc};
use crate::until;
use crate::world::{World, app, both, entry, has};

/// An app that does what the shell script says, and is ready when it writes `Server listening`.
fn web(world: &World, script: &str, keys: &str) -> String {
    let keys = format!("cwd = {:?}\nready = \"line:Server listening\"\n{keys}", world.path(""));
    let keys = if keys.contains("log_mode") { keys } else { format!("{keys}\nlog_mode = \"raw\"") };
    let keys = if keys.contains("listen_timeout") { keys } else { format!("{keys}\nlisten_timeout = \"1h\"") };
    entry(
        "web",
        "/bin/sh",
        &["-c", &format!("pass() {{ head -c 1 \"$1\" >/dev/null; }}; {script}; exec sleep 1000")],
        &keys,
    )
}

/// The pid of the logger, inside, as soon as there is one.
fn logger(proc: &Proc) -> u32 {
    let script =
        "for pid in /proc/[0-9]*; do read -r name < $pid/comm && case $name in pm3-l*) echo ${pid#/proc/};; esac; done";
    let mut found = None;
    until("there is a logger", || {
        found = proc.inside(&["/bin/sh", "-c", script], &[]).1.first().and_then(|pid| pid.parse().ok());
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn it_is_ready_when_a_line_has_the_text_and_what_waits_for_it_starts() {
    for (ns, mode) in both().into_iter().zip(["prefix", "json"]) {
        let world = World::new();
        let mut gate = world.gate("gate");
        let script =
            "echo Server listens; echo server listening; pass gate; echo \"12:00 Server listening at :80\" >&2";
        let late = app("late", &["pause"], "requires = [\"web\"]");
        world.plan(&(web(&world, script, &format!("log_mode = {mode:?}")) + &late));
        let mut init = world.boot(ns);
        has(&[init.proc.line()], "Server listens");
        has(&[init.proc.line()], "server listening");
        assert_eq!(init.row(0)["status"], "launching");
        assert_eq!(init.row(1)["status"], "waiting");
        has(&init.does(&["show", "web"]), "it writes a line with \"Server listening\"; that may take 60 min");
        gate.open();
        init.told("web: online");
        init.told("late: online");
        init.stop(0);
    }
}

#[test]
fn it_may_come_in_pieces_and_without_an_end_and_go_to_any_place() {
    for keys in
        ["", "out_file = \"/dev/null\"\nerror_file = \"/dev/null\"", "log_date_format = \"YYYY\"", "log_file = \"log\""]
    {
        let world = World::new();
        let mut gate = world.gate("gate");
        let script = "printf 'x\\nServer Server li'; pass gate; printf sten; pass gate; printf ing";
        world.plan(&web(&world, script, keys));
        let mut init = world.boot(Ns::pid1());
        gate.open();
        init.told("pm3 ");
        assert_eq!(init.row(0)["status"], "launching");
        gate.open();
        init.told("web: online");
        init.stop(0);
    }
}

#[test]
fn a_logger_that_is_killed_in_the_midst_loses_nothing() {
    for ns in both() {
        let world = World::new();
        let mut gate = world.gate("gate");
        let script = "echo begun; printf 'Server lis'; pass gate; printf ten; pass gate; echo ing at last";
        world.plan(&web(&world, script, ""));
        let mut init = world.boot(ns);
        init.proc.expect("begun");
        for _ in 0..2 {
            init.signal_inside(logger(&init.proc), Sig::KILL);
            init.told("the logger ended (SIGKILL), replacing it");
            assert_eq!(init.row(0)["status"], "launching");
            gate.open();
        }
        init.told("web: online");
        init.proc.expect("Server listening at last");
        init.stop(0);
    }
}

#[test]
fn what_a_logger_has_told_counts_though_it_is_dead_when_init_hears_it() {
    for _ in 0..5 {
        let world = World::new();
        let mut gate = world.gate("gate");
        world.plan(&web(&world, "echo begun; pass gate; echo Server listening", ""));
        let mut init = world.boot(Ns::second());
        init.proc.expect("begun");
        let logger = logger(&init.proc);
        // At hand before init stands still.
        let mut killer = init.proc.visitor(&["/bin/sh", "-c", &format!("read -r _; kill -9 {logger}")]);
        let mut killer = killer.stdin(std::process::Stdio::piped()).spawn().unwrap();
        init.signal(Sig::STOP);
        gate.open();
        // It is moved when it has been told, and not before.
        init.proc.expect("Server listening");
        drop(killer.stdin.take());
        assert!(killer.wait().unwrap().success());
        init.signal(Sig::CONT);
        init.told("web: online");
        init.stop(0);
    }
}

#[test]
fn the_old_process_does_not_say_it_for_the_new_one() {
    let world = World::new();
    let (mut old, mut new) = (world.gate("old"), world.gate("new"));
    let first = "echo Server listening; pass old; echo Server listening; echo Server listening >&2";
    let second = "echo next; pass new; echo Server listening";
    world.plan(&web(&world, &format!("if mkdir first; then {first}; else {second}; fi"), "overlap = true"));
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("Server listening");
    let pid = init.online("web");
    let mut reload = init.begins(&["reload", "web"]);
    init.told("takes over if it is ready within 3600000 ms");
    init.proc.expect("next");
    old.open();
    init.proc.expect("Server listening");
    // Also for a logger that is told of both.
    init.signal_inside(logger(&init.proc), Sig::KILL);
    init.told("the logger ended (SIGKILL), replacing it");
    assert_eq!(init.pid(0), pid);
    new.open();
    assert_ne!(init.online("web"), pid);
    assert!(reload.wait().unwrap().success());
    init.stop(0);
}

#[test]
fn a_text_that_never_comes_makes_it_late_and_holds_nothing_back() {
    let world = World::new();
    world.plan(&web(&world, "printf 'Server lis'", "listen_timeout = 200\nout_file = \"log\"\noverlap = true"));
    let mut init = world.boot(Ns::pid1());
    init.told("web: not ready after 200 ms, taken for online; see listen_timeout");
    // What might have become the text is written like all else when nobody waits for it any more.
    until("the output is written", || world.read("log") == "Server lis");
    let old = init.online("web");
    let (code, _, err) = init.pm3(&["reload", "web"]);
    assert_ne!(code, 0);
    has(&err, "not ready after 200 ms");
    assert_eq!(init.pid(0), old);
    init.stop(0);
}

#[test]
fn a_process_that_ends_leaves_nothing_in_its_pipe() {
    let world = World::new();
    world.plan(&web(&world, "printf 'Server lis'; exit 3", "out_file = \"log\"\nautorestart = false"));
    let mut init = world.boot(Ns::pid1());
    init.ends(3);
    assert_eq!(world.read("log"), "Server lis");
}

#[test]
fn much_output_before_it_harms_nobody() {
    let mib = 8;
    let world = World::new();
    let keys = "ready = \"line:Server listening\"\nlog_mode = \"raw\"\nlisten_timeout = \"1h\"";
    world.plan(&app("web", &[&format!("pour:{mib}"), "say:Server listening", "pause"], keys));
    let mut init = world.boot(Ns::pid1());
    for number in 0..(mib << 20) / poured(0).len() {
        let line = poured(number);
        init.proc.expect(std::str::from_utf8(&line).unwrap().trim_end());
    }
    init.proc.expect("Server listening");
    init.told("web: online");
    init.stop(0);
    // And in one line.
    let world = World::new();
    world.plan(&web(&world, "head -c 4194304 /dev/zero; printf 'Server listening'", "out_file = \"log\""));
    let mut init = world.boot(Ns::pid1());
    init.told("web: online");
    until("all is written", || fs::metadata(world.path("log")).unwrap().len() == (4 << 20) + 16);
    init.stop(0);
}

#[test]
fn a_crowd_is_told_of_one_by_one() {
    let world = World::new();
    world.plan(&web(&world, "printf 'Server '; pass gate; echo listening", "instances = 40"));
    let mut gate = world.gate("gate");
    let mut init = world.boot(Ns::pid1());
    (0..40).for_each(|_| gate.open());
    for _ in 0..40 {
        init.told(": online, pid ");
    }
    init.stop(0);
}
