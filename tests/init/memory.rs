//! The memory limit: over a run's whole tree, one instance at a time, with a reason that says how much it was.

use pm3::supervisor::event::Sig;

use crate::common::ns::Ns;
use crate::world::{World, app, both, has, has_not};

/// Looks often, so that tests are short.
const OFTEN: &str = "[pm3]\nsample_interval = \"100ms\"\n";

/// The words that the first run of each instance does, and no later one.
fn first<'a>(mark: &'a str, words: &[&'a str]) -> Vec<&'a str> {
    [&[mark, "["], words, &["]", "say:up", "pause"]].concat()
}

fn mark(world: &World) -> String {
    format!("first:{}", world.path("mark"))
}

/// `memory 30.1M over 20M` at the end of a line: how much it was.
fn used(line: &str) -> f64 {
    let used = line.split_once("memory ").and_then(|(_, rest)| rest.strip_suffix("M over 20M"));
    used.unwrap_or_else(|| panic!("no reason with memory in {line:?}")).parse().unwrap()
}

#[test]
fn an_app_over_its_limit_is_restarted_and_says_why() {
    for ns in both() {
        let world = World::new();
        let mark = mark(&world);
        let words = first(&mark, &["grow:30", "pause"]);
        world.plan(&(OFTEN.to_owned() + &app("web", &words, "max_memory_restart = \"20M\"")));
        let mut init = world.boot(ns);
        let line = init.told("web: stopping with SIGTERM: memory ");
        // It may have been seen on its way there.
        assert!((20.0..40.0).contains(&used(&line)), "{line}");
        init.proc.expect("up");
        assert_eq!(init.row(0)["reason"], line.split_once("SIGTERM: ").unwrap().1);
        assert_eq!(init.row(0)["limit"], 20 << 20);
        has_not(&init.stop(0), "memory");
    }
}

#[test]
fn the_whole_tree_counts_and_goes() {
    // A child, and a grandchild that left the session: neither alone is over the limit.
    for ns in both() {
        let world = World::new();
        let mut holders = world.holders("holders");
        let hold = format!("hold:{}", world.path("holders"));
        let child = ["child", "[", &hold, "grow:12", "pause", "]"];
        let orphan = ["orphan", "[", &hold, "grow:12", "pause", "]"];
        let mark = mark(&world);
        let words = first(&mark, &[&child[..], &orphan, &["pause"]].concat());
        world.plan(&(OFTEN.to_owned() + &app("web", &words, "max_memory_restart = \"20M\"")));
        let mut init = world.boot(ns);
        let line = init.told("web: stopping with SIGTERM: memory ");
        assert!((20.0..34.0).contains(&used(&line)), "{line}");
        // They are gone before the next run begins.
        init.proc.expect("up");
        assert_eq!(holders.rest(), ["held", "held"]);
        init.stop(0);
    }
}

#[test]
fn the_list_shows_what_the_whole_tree_holds() {
    let world = World::new();
    let words = ["child", "[", "grow:12", "child", "[", "grow:12", "say:grown", "pause", "]", "pause", "]", "pause"];
    world.plan(&(app("web", &words, "") + &app("small", &["pause"], "")));
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("grown");
    let held = |row: serde_json::Value| row["memory_bytes"].as_u64().unwrap() >> 20;
    assert!((24..48).contains(&held(init.row(0))) && held(init.row(1)) < 12);
    init.stop(0);
}

#[test]
fn instances_go_one_at_a_time() {
    let world = World::new();
    let mark = mark(&world);
    let words = first(&mark, &["grow:30", "pause"]);
    world.plan(&(OFTEN.to_owned() + &app("web", &words, "max_memory_restart = \"20M\"\ninstances = 3")));
    let mut init = world.boot(Ns::pid1());
    init.lines(3);
    init.signal(Sig::TERM);
    init.ends(0);
    let log = &init.proc.err().taken;
    let stops = positions(log, "over 20M");
    let starts = &positions(log, "online")[3..];
    // Each stop but the first comes after the start that follows the one before.
    assert_eq!(stops.len(), 3, "{log:#?}");
    assert!(starts[0] < stops[1] && starts[1] < stops[2], "{log:#?}");
}

fn positions(log: &[String], part: &str) -> Vec<usize> {
    log.iter().enumerate().filter(|(_, line)| line.contains(part)).map(|(at, _)| at).collect()
}

#[test]
fn shared_pages_are_charged_once() {
    // A preforking server: five processes over the same 12 MiB would be 60 if each were charged.
    let world = World::new();
    let child = ["child", "[", "say:forked", "pause", "]"];
    let words = [&["grow:12"], &child[..], &child, &child, &child, &["pause"]].concat();
    let limited = OFTEN.to_owned() + &app("web", &words, "max_memory_restart = \"20M\"");
    world.plan(&limited);
    let mut init = world.boot(Ns::pid1());
    init.lines(4);
    // A client is shown the same number that the limit is compared with.
    let bytes = init.row(0)["memory_bytes"].as_u64().unwrap();
    assert!((12 << 20..20 << 20).contains(&bytes), "{bytes}");
    // Several samples later it is still the same run: the other app tells the time.
    let pid = init.pid(0);
    world.plan(&(limited + &app("clock", &["exit:1"], "restart_delay = 150\nmax_restarts = 4")));
    init.signal(Sig::HUP);
    init.told("clock: errored after 4 short runs");
    assert_eq!(init.pid(0), pid);
    has_not(&init.stop(0), "memory");
}

#[test]
fn a_percentage_needs_a_limit_to_be_a_share_of() {
    // Whichever the machine has, the answer is a plan or a reason.
    let world = World::new();
    world.plan(&app("web", &["say:up", "pause"], "max_memory_restart = \"80%\""));
    let mut init = world.boot(Ns::pid1());
    let line = init.proc.err_line();
    if line.contains("there is no memory limit here") {
        init.ends(78);
    } else {
        init.proc.expect("up");
        assert!(init.row(0)["limit"].as_u64().unwrap() > 0);
        has(&init.stop(0), "web: stopped");
    }
}
