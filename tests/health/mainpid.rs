//! Apps that name their main process themselves (`MAINPID`): what they were started with leaves, or stays and reaps it.

use pm3::supervisor::event::Sig;

use crate::common::ns::Ns;
use crate::until;
use crate::world::{Init, World, app, both, has_not};

const KEYS: &str = "ready = \"notify\"\nlisten_timeout = \"1h\"";

/// The pid in the app's next line, from `ids`.
fn ids(init: &mut Init) -> u32 {
    let line = init.proc.line();
    let pid = line.strip_prefix("ids pid=").and_then(|rest| rest.split(' ').next()).map(str::parse);
    pid.unwrap_or_else(|| panic!("{line}")).unwrap()
}

/// Waits until a process has ended, inside, reaped or not.
fn gone_or_zombie(init: &Init, pid: u32) {
    let script = format!("! grep -q '^State:.[^Z]' /proc/{pid}/status");
    until("the process has ended", || init.proc.inside(&["/bin/sh", "-c", &script], &[]).0 == 0);
}

/// Waits until a process is gone, inside.
fn gone(init: &Init, pid: u32) {
    until("the process is gone", || init.proc.inside(&["/bin/sh", "-c", &format!("kill -0 {pid}")], &[]).0 != 0);
}

#[test]
fn one_that_leaves_a_server_behind_goes_on_as_that() {
    for ns in both() {
        let world = World::new();
        let mut gate = world.gate("gate");
        let wait = format!("gate:{}", world.path("gate"));
        let server = ["child", "[", "listen", "ids", "notify:READY=1;MAINPID=@", "hear:TERM", "say:bye", "exit:7", "]"];
        world.plan(&app("web", &[&["ids"], &server[..], &[&wait]].concat(), KEYS));
        let mut init = world.boot(ns);
        let mut pids = [ids(&mut init), ids(&mut init)];
        let main = init.online("web");
        pids.sort_unstable();
        let [first, server] = pids;
        assert_eq!((main, init.pid(0)), (server, server));
        gate.open();
        gone(&init, first);
        let row = init.row(0);
        assert_eq!((&row["status"], &row["pid"], &row["restarts"]), (&"online".into(), &server.into(), &0.into()));
        // Its end is the run's, with its code, though it is not what was started.
        init.signal_inside(server, Sig::KILL);
        init.told("web: restarting: SIGKILL");
        let mut pids = [ids(&mut init), ids(&mut init)];
        pids.sort_unstable();
        assert_eq!(init.online("web"), pids[1]);
        gate.open();
        gone(&init, pids[0]);
        init.signal(Sig::TERM);
        init.proc.expect("heard SIGTERM");
        init.proc.expect("bye");
        has_not(&init.ends(0), "its main process ended");
    }
}

#[test]
fn one_whose_first_process_stays_ends_with_the_one_that_was_named() {
    // The parent reaps it, or never does.
    for (reaps, then) in [(true, &["reap"][..]), (false, &[])] {
        let world = World::new();
        let mut gate = world.gate("gate");
        let wait = format!("gate:{}", world.path("gate"));
        let server = ["child", "[", "ids", "notify:READY=1;MAINPID=@", &wait, "exit:7", "]"];
        let words = [&["listen:TERM"], &server[..], then, &["hear:TERM", "say:left"]].concat();
        world.plan(&app("web", &words, &format!("{KEYS}\nautorestart = \"never\"")));
        let mut init = world.boot(Ns::pid1());
        let server = ids(&mut init);
        assert_eq!(init.online("web"), server);
        gate.open();
        init.told("web: its main process ended, sending SIGTERM to those it left");
        let reaped = reaps.then_some("reaped code 7");
        for line in reaped.into_iter().chain(["heard SIGTERM", "left"]) {
            init.proc.expect(line);
        }
        // Nobody was told how it ended but its parent; that is no end to be content with.
        init.told("web: errored: exit code unknown");
        init.ends(1);
    }
}

#[test]
fn signals_go_to_the_process_that_was_named() {
    let world = World::new();
    let server = ["child", "[", "listen", "ids", "notify:READY=1;MAINPID=@", "hear:TERM", "say:server ends", "]"];
    let words = [&["listen:TERM"], &server[..], &["hear:TERM", "say:first ends"]].concat();
    world.plan(&app("web", &words, KEYS));
    let mut init = world.boot(Ns::pid1());
    let server = ids(&mut init);
    assert_eq!(init.online("web"), server);
    init.does(&["sendSignal", "SIGUSR1", "web"]);
    init.proc.expect("heard SIGUSR1");
    let mut restart = init.begins(&["restart", "web"]);
    // One after the other: the first process is one of those that the main one leaves.
    for line in ["heard SIGTERM", "server ends", "heard SIGTERM", "first ends"] {
        init.proc.expect(line);
    }
    assert_ne!(ids(&mut init), server);
    assert!(restart.wait().unwrap().success());
    init.stop(0);
}

#[test]
fn a_new_process_takes_over_from_one_that_was_named() {
    let world = World::new();
    let server = ["heir", "[", "heir", "[", "listen", "ids", "notify:READY=1", "hear:TERM", "say:bye", "]", "]"];
    world.plan(&app("web", &server, &format!("{KEYS}\noverlap = true")));
    let mut init = world.boot(Ns::pid1());
    let old = ids(&mut init);
    assert_eq!(init.online("web"), old);
    let mut reload = init.begins(&["reload", "web"]);
    let new = ids(&mut init);
    assert_eq!(init.online("web"), new);
    init.proc.expect("heard SIGTERM");
    init.proc.expect("bye");
    assert!(reload.wait().unwrap().success());
    assert_eq!(init.pid(0), new);
    assert_eq!(init.row(0)["restarts"], 1);
    gone(&init, old);
    init.stop(0);
}

#[test]
fn who_names_another_and_ends_at_once_does_not_end_the_run() {
    for ns in both() {
        let world = World::new();
        let heirs = ["heir", "["].repeat(6);
        let words = [&heirs[..], &["notify:READY=1", "say:last", "pause"], &["]"; 6]].concat();
        world.plan(&app("web", &words, &format!("{KEYS}\ninstances = 20\nautorestart = \"never\"")));
        let mut init = world.boot(ns);
        for _ in 0..20 {
            init.proc.expect("last");
        }
        for id in 0..20 {
            until("it is ready", || init.row(id)["status"] == "online");
            assert_eq!(init.row(id)["restarts"], 0);
        }
        has_not(&init.stop(0), "does not count");
    }
}

#[test]
fn a_stranger_is_not_made_the_main_process() {
    let world = World::new();
    let other = app("other", &["ids", "child", "[", "ids", "pause", "]", "pause"], "");
    world.plan(&other);
    let mut init = world.boot(Ns::pid1());
    let others = [ids(&mut init), ids(&mut init)];
    let mut words = vec!["ids".to_owned()];
    words.extend([others[0], others[1], 0, 1, 4_000_000_000].map(|pid| format!("notify:MAINPID={pid}")));
    // What is no number says nothing.
    words.extend(["", "+1", " 1", "99999999999", "@x", "-1"].map(|text| format!("notify:MAINPID={text}")));
    // Nor does one that has ended and waits to be reaped: the parent's own word for it comes last.
    words.extend(["zombie", "notify:MAINPID=@;READY=1", "pause"].map(str::to_owned));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    world.plan(&(other.clone() + &app("web", &words, KEYS)));
    init.signal(Sig::HUP);
    let web = ids(&mut init);
    // Each is looked at as it comes; people are told once.
    init.told("web: MAINPID=");
    assert_eq!(init.online("web"), web);
    assert_eq!((init.pid(0), init.pid(1)), (others[0].min(others[1]), web));
    init.stop(0);
}

#[test]
fn one_that_has_ended_is_none() {
    let world = World::new();
    let mut gate = world.gate("gate");
    let words = ["notify:READY=1", "zombie", &format!("gate:{}", world.path("gate")), "notify:MAINPID=#", "pause"];
    world.plan(&app("web", &words, KEYS));
    let mut init = world.boot(Ns::pid1());
    let pid = init.online("web");
    gate.open();
    init.told("does not count: it is no process of this app that runs");
    assert_eq!(init.pid(0), pid);
    init.stop(0);
}

#[test]
fn the_first_process_can_be_named_again() {
    let world = World::new();
    let mut gate = world.gate("gate");
    let wait = format!("gate:{}", world.path("gate"));
    let child = ["child", "[", "notify:MAINPID=@;READY=1", "pause", "]"];
    let words = [&["ids"], &child[..], &[&wait, "notify:MAINPID=@", "say:named", "pause"]].concat();
    world.plan(&app("web", &words, KEYS));
    let mut init = world.boot(Ns::pid1());
    let first = ids(&mut init);
    let child = init.online("web");
    assert_ne!(child, first);
    gate.open();
    init.proc.expect("named");
    until("it is known", || init.pid(0) == first);
    // The child's end is its own affair.
    init.signal_inside(child, Sig::KILL);
    gone_or_zombie(&init, child);
    assert_eq!((init.pid(0), &init.row(0)["restarts"]), (first, &0.into()));
    init.signal_inside(first, Sig::KILL);
    init.told("web: restarting: SIGKILL");
    init.stop(0);
}

#[test]
fn who_has_been_asked_to_end_names_no_other() {
    let world = World::new();
    let words = [
        "notify:READY=1",
        "listen",
        "say:up",
        "hear:TERM",
        "heir",
        "[",
        "listen",
        "say:heir",
        "hear:TERM",
        "say:bye",
        "]",
    ];
    world.plan(&app("web", &words, KEYS));
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("up");
    init.signal(Sig::TERM);
    init.told("web: its main process ended, sending SIGTERM to those it left");
    init.proc.expect("heard SIGTERM");
    let mut said = init.lines(3);
    said.sort();
    assert_eq!(said, ["bye", "heard SIGTERM", "heir"]);
    init.ends(0);
}
