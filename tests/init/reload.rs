//! SIGHUP: the file is read again, and only what has changed in it changes.

use pm3::supervisor::event::Sig;

use crate::common::ns::Ns;
use crate::world::{World, app, both, has, has_not};

fn idle(name: &str, keys: &str) -> String {
    app(name, &[&format!("say:{name} is up"), "pause"], keys)
}

#[test]
fn only_what_changed_changes() {
    for ns in both() {
        let world = World::new();
        world.plan(&(idle("same", "instances = 2") + &idle("changed", "instances = 2") + &idle("gone", "")));
        let mut init = world.boot(ns);
        init.lines(5);
        let before = [0, 1].map(|id| init.pid(id));
        world.plan(
            &(idle("same", "instances = 2") + &idle("changed", "instances = 2\nenv = { A = 1 }") + &idle("new", "")),
        );
        init.signal(Sig::HUP);
        init.told("file read again: 1 new, 1 changed, 1 gone, 1 unchanged");
        assert_eq!(init.lines(3), ["changed is up", "changed is up", "new is up"]);
        // The one that has been online for longer comes first. Both rolls are over when the second is online.
        let first = init.told("takes over if it lives").contains("changed-0");
        let (first, second) = if first { ("changed-0", "changed-1") } else { ("changed-1", "changed-0") };
        init.told(&format!("{first}: online"));
        init.told(&format!("{second}: online"));
        assert_eq!([0, 1].map(|id| init.pid(id)), before);
        let names: Vec<String> = init.does(&["list", "--json"]);
        has_not(&names, "\"gone\"");
        has(&names, "\"new\"");
        init.signal(Sig::TERM);
        init.ends(0);
        let log = init.proc.err().taken.clone();
        has(&log, "gone: stopping with SIGTERM: config changed");
        let at = |part: String| log.iter().rposition(|line| line.contains(&part)).unwrap();
        let stopping = at(format!("{second}: stopping with SIGTERM: config changed"));
        assert!(at(format!("{first}: online")) < stopping, "{log:#?}");
        has_not(&log, "same-0: stopping with SIGTERM: config changed");
    }
}

#[test]
fn a_file_with_mistakes_changes_nothing() {
    let world = World::new();
    world.plan(&idle("web", ""));
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("web is up");
    let before = init.row(0);
    world.plan("[[apps]]\nname = \"web\"\nscrpt = \"x\"\n");
    init.signal(Sig::HUP);
    init.told("pm3.toml:3:1: web: scrpt: unknown key, did you mean script?");
    init.told("the file is not valid, nothing was changed");
    std::fs::remove_file(world.path("pm3.toml")).unwrap();
    init.signal(Sig::HUP);
    init.told("cannot be read: no such file or directory");
    init.told("the file is not valid, nothing was changed");
    assert_eq!((&init.row(0)["pid"], init.row(0)["restarts"].as_u64()), (&before["pid"], Some(0)));
    // And a good one is taken after that.
    world.plan(&(idle("web", "") + &idle("new", "")));
    init.signal(Sig::HUP);
    init.told("file read again: 1 new, 0 changed, 0 gone, 1 unchanged");
    init.proc.expect("new is up");
    init.stop(0);
}

#[test]
fn a_change_that_does_not_start_leaves_everybody_running() {
    let world = World::new();
    world.plan(&idle("web", "instances = 3"));
    let mut init = world.boot(Ns::pid1());
    init.lines(3);
    let before = [0, 1, 2].map(|id| init.pid(id));
    world.plan(&idle("web", "instances = 3\ncwd = \"/nowhere\""));
    init.signal(Sig::HUP);
    // Whoever has been online for longest is the first to change.
    let line = init.told(": the new process failed, pid");
    init.told("web: the first restarted instance failed, 2 more keep running as they are");
    assert_eq!([0, 1, 2].map(|id| init.pid(id)), before);
    let first = (0..3).find(|id| line.contains(&format!("web-{id}: "))).unwrap();
    assert_eq!(init.row(first)["reason"], "reload failed: start failed at chdir /nowhere: no such file or directory");
    init.stop(0);
}

#[test]
fn more_or_fewer_instances_leave_the_rest_alone() {
    let world = World::new();
    world.plan(&idle("web", "instances = 2"));
    let mut init = world.boot(Ns::pid1());
    init.lines(2);
    let before = [0, 1].map(|id| init.pid(id));
    world.plan(&idle("web", "instances = 3"));
    init.signal(Sig::HUP);
    init.proc.expect("web is up");
    assert_eq!([0, 1].map(|id| init.pid(id)), before);
    assert_eq!(init.row(2)["index"], 2);
    world.plan(&idle("web", "instances = 1"));
    init.signal(Sig::HUP);
    for _ in 0..2 {
        init.told(": stopped");
    }
    assert_eq!(init.pid(0), before[0]);
    assert_eq!(init.does(&["list", "--json"]).concat().matches("\"id\"").count(), 1);
    // A new place gets the lowest free number, and an id that nobody had.
    world.plan(&idle("web", "instances = 2"));
    init.signal(Sig::HUP);
    init.proc.expect("web is up");
    assert_eq!((init.row(3)["index"].as_u64(), init.pid(0)), (Some(1), before[0]));
    init.stop(0);
}

/// An entry whose reading lasts for as long as somebody holds the FIFO `slow` open.
fn slow(world: &World) -> String {
    idle("web", &format!("env_file = {:?}", world.path("slow")))
}

#[test]
fn a_hup_while_the_file_is_read_is_not_lost() {
    let world = World::new();
    let fifo = world.fifo("slow");
    world.plan(&idle("web", ""));
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("web is up");
    world.plan(&slow(&world));
    init.signal(Sig::HUP);
    let held = fifo.opened();
    // That reading knows nothing of this.
    world.plan(&(idle("web", "") + &idle("new", "")));
    init.signal(Sig::HUP);
    init.does(&["ping"]);
    drop(held);
    init.told("file read again: 0 new, 0 changed, 0 gone, 1 unchanged");
    init.told("file read again: 1 new, 0 changed, 0 gone, 1 unchanged");
    init.stop(0);
}

#[test]
fn a_file_that_cannot_be_read_to_its_end_is_given_up() {
    let world = World::new();
    let fifo = world.fifo("slow");
    world.plan(&idle("web", ""));
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("web is up");
    world.plan(&slow(&world));
    init.signal(Sig::HUP);
    let _held = fifo.opened();
    // Nobody waits for it meanwhile.
    init.does(&["restart", "web"]);
    init.told("reading the file took longer than 5 s, nothing was changed");
    assert_eq!(init.row(0)["status"], "online");
    init.stop(0);
}

#[test]
fn a_reading_that_is_killed_is_said_to_be() {
    let world = World::new();
    let fifo = world.fifo("slow");
    world.plan(&idle("web", ""));
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("web is up");
    let web = init.pid(0);
    world.plan(&slow(&world));
    init.signal(Sig::HUP);
    let _held = fifo.opened();
    // PID 1's children are the app and its reader.
    let (_, out, _) = init.proc.inside(&["/bin/sh", "-c", "read line < /proc/1/task/1/children; echo $line"], &[]);
    let reader = out[0].split(' ').map(|pid| pid.parse().unwrap()).find(|pid| *pid != web).unwrap();
    init.signal_inside(reader, Sig::KILL);
    init.told("the child that reads the file died, killed by somebody or for want of memory, nothing was changed");
    assert_eq!(init.row(0)["status"], "online");
    init.stop(0);
}

#[test]
fn the_level_of_pm3s_lines_follows_the_file_and_shows_no_secrets() {
    let world = World::new();
    let web = app("web", &["say:up", "pause"], "env = { SECRET = \"xyzzy\" }");
    world.plan(&web);
    let mut init = world.boot(Ns::pid1().without("PM3_LOG").without("RUST_LOG"));
    init.told("web: online");
    world.plan(&format!("[pm3]\nlog_level = \"debug\"\n{web}"));
    init.signal(Sig::HUP);
    init.told("file read again");
    init.signal(Sig::TERM);
    init.told("debug: Exited");
    let log = init.ends(0);
    has_not(&log, "xyzzy");
    has_not(&init.proc.err().taken, "xyzzy");
}
