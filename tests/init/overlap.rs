//! Reload: a new process beside the old one, and which of them stays. What a file that changed does takes the same way,
//! and nobody waits for it: so that is what is interrupted here.

use pm3::supervisor::event::Sig;

use crate::common::ns::Ns;
use crate::world::{Init, World, app, both, has, has_not};

/// A trial that is over soon, where a test waits for its end.
const BRIEF: &str = "min_uptime = 200";

/// Says that it is up, and which signal ends it.
const POLITE: [&str; 3] = ["listen:TERM", "say:up", "hear:TERM"];

/// A part of the log must not come before the other does.
#[track_caller]
fn before(log: &[String], first: &str, second: &str) {
    let at =
        |part: &str| log.iter().position(|line| line.contains(part)).unwrap_or_else(|| panic!("{part:?}: {log:#?}"));
    assert!(at(first) < at(second), "{first:?} and {second:?} in {log:#?}");
}

/// `web` is being reloaded because its entry changed; the new process has begun, and is on trial.
fn on_trial(world: &World, ns: Ns, keys: &str) -> (Init, [u32; 2]) {
    let web = |keys: &str| app("web", &POLITE, keys) + &app("db", &["pause"], "");
    world.plan(&web(keys));
    let mut init = world.boot(ns);
    init.proc.expect("up");
    let old = init.online("web");
    world.plan(&web(&format!("{keys}\nenv = {{ A = 1 }}")));
    init.signal(Sig::HUP);
    let line = init.told("web: the new process, pid ");
    let new = line.split("pid ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    init.proc.expect("up");
    (init, [old, new])
}

#[test]
fn the_old_process_is_there_until_the_new_one_has_proven_itself() {
    for ns in both() {
        let world = World::new();
        world.plan(&app("web", &POLITE, BRIEF));
        let mut init = world.boot(ns);
        init.proc.expect("up");
        let old = init.online("web");
        init.does(&["reload", "web"]);
        // The new one has come up before the old one was told to go.
        init.proc.expect("up");
        init.proc.expect("heard SIGTERM");
        let row = init.row(0);
        assert_eq!((row["restarts"].as_u64(), row["reason"].as_str()), (Some(1), Some("operator")));
        assert_ne!(row["pid"], old);
        init.stop(0);
    }
}

#[test]
fn a_new_process_that_ends_leaves_the_old_one() {
    for (words, why) in [("exit:7", "exit 7"), ("die:SEGV", "SIGSEGV")] {
        let world = World::new();
        let first = format!("first:{}", world.path("mark"));
        world.plan(&app("web", &[&first, "[", "say:up", "pause", "]", words], BRIEF));
        let mut init = world.boot(Ns::pid1());
        init.proc.expect("up");
        let old = init.online("web");
        let (code, _, err) = init.pm3(&["reload", "web"]);
        assert_eq!(code, 1, "{err:?}");
        has(&err, &format!("web: reload failed: {why}; pid {old} goes on"));
        let row = init.row(0);
        assert_eq!((&row["pid"], &row["status"]), (&old.into(), &"online".into()));
        assert_eq!(
            (row["restarts"].as_u64(), row["reason"].as_str()),
            (Some(0), Some(&*format!("reload failed: {why}")))
        );
        has_not(&init.stop(0), "restarting");
    }
}

#[test]
fn a_program_that_owns_a_port_is_ended_first() {
    let world = World::new();
    world.plan(&app("web", &["bind", "listen:TERM", "say:up", "hear:TERM"], BRIEF));
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("up");
    let (code, out, err) = init.pm3(&["reload", "web"]);
    assert_eq!(code, 0, "{out:?} {err:?}");
    let told = [out, err].concat();
    has(&told, "web: it owns port ");
    has(&told, ", so the old process was ended first");
    init.proc.expect("heard SIGTERM");
    init.proc.expect("up");
    init.stop(0);
}

#[test]
fn a_socket_of_a_child_counts_and_one_that_the_entry_allows_does_not() {
    let world = World::new();
    let words = ["child", "[", "bind", "say:bound", "pause", "]", "listen:TERM", "hear:TERM"];
    world.plan(&(app("web", &words, BRIEF) + &app("shared", &words, &format!("{BRIEF}\noverlap = true"))));
    let mut init = world.boot(Ns::pid1());
    init.lines(2);
    let (_, out, err) = init.pm3(&["reload", "web"]);
    has(&[out, err].concat(), "web: it owns port ");
    let (_, out, err) = init.pm3(&["reload", "shared"]);
    has_not(&[out, err].concat(), "it owns port");
    init.stop(0);
}

#[test]
fn who_is_killed_meanwhile_is_followed_at_once() {
    for ns in both() {
        let world = World::new();
        let (mut init, [old, new]) = on_trial(&world, ns, "min_uptime = 3000");
        assert_eq!(init.pid(0), old);
        init.signal_inside(old, Sig::KILL);
        init.told("web: SIGKILL, its new process takes over at once");
        assert_eq!(init.online("web"), new);
        assert_eq!((init.pid(0), init.row(0)["restarts"].as_u64()), (new, Some(1)));
        init.stop(0);
    }
}

#[test]
fn pm3_takes_both_with_it() {
    for ns in both() {
        let world = World::new();
        let (mut init, _) = on_trial(&world, ns, "min_uptime = 3000");
        init.signal(Sig::TERM);
        assert_eq!(init.lines(2), ["heard SIGTERM", "heard SIGTERM"]);
        let log = init.ends(0);
        has_not(&log, "web: online");
        has(&log, "web: stopped");
    }
}

#[test]
fn a_stop_and_a_restart_end_both() {
    for verb in ["stop", "restart", "delete"] {
        let world = World::new();
        let (mut init, [old, new]) = on_trial(&world, Ns::pid1(), "min_uptime = 3000");
        init.does(&[verb, "web"]);
        assert_eq!(init.lines(2), ["heard SIGTERM", "heard SIGTERM"]);
        if verb == "restart" {
            init.proc.expect("up");
            let third = init.pid(0);
            assert!(third != old && third != new, "{old} {new} {third}");
        }
        init.stop(0);
    }
}

#[test]
fn a_second_reload_waits_for_the_first() {
    let world = World::new();
    let (mut init, [_, new]) = on_trial(&world, Ns::pid1(), "min_uptime = 300");
    init.does(&["reload", "web"]);
    // In this order: the first is over before the second begins.
    for line in ["heard SIGTERM", "up", "heard SIGTERM"] {
        init.proc.expect(line);
    }
    assert_eq!(init.row(0)["restarts"], 2);
    assert_ne!(init.pid(0), new);
    init.stop(0);
}

#[test]
fn a_reload_of_everything_goes_in_the_order_of_starting() {
    let world = World::new();
    let keys = |more: &str| format!("{BRIEF}\n{more}");
    world.plan(
        &(app("web", &["pause"], &keys("requires = [\"db\"]\ninstances = 2")) + &app("db", &["pause"], &keys(""))),
    );
    let mut init = world.boot(Ns::pid1());
    for _ in 0..3 {
        init.told(": online, pid ");
    }
    init.does(&["reload", "all"]);
    init.signal(Sig::TERM);
    init.ends(0);
    let log = init.proc.err().taken.clone();
    before(&log, "db: stopping with SIGTERM: operator", "web-0: starting a new process beside pid");
    before(&log, "web-0: stopping with SIGTERM: operator", "web-1: starting a new process beside pid");
}
