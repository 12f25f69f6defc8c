//! New processes that are kept beside the old ones, under load: who gets how much, and nobody is turned away whatever is
//! decided.

use std::collections::BTreeMap;

use pm3::supervisor::event::Sig;

use crate::clients::{HOME, Kept, Load, ask, free_port, in_a_network_of_its_own};
use crate::common::deeds::Gate;
use crate::common::ns::Ns;
use crate::world::{Init, World, app, both, has};

/// `web` serves at a port; nothing in it handles TERM.
fn served(ns: Ns, instances: u32) -> (World, Init, u16) {
    let (world, port) = (World::new(), free_port());
    world.plan(&app("web", &[&format!("serve:0.0.0.0:{port}")], &format!("instances = {instances}")));
    let mut init = world.boot(ns);
    init.lines(instances as usize);
    (world, init, port)
}

/// Who answers how often, by pid.
fn answers(port: u16, times: usize) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for _ in 0..times {
        let answer = ask((HOME, port)).unwrap();
        let (pid, _) = answer.split_once(' ').unwrap();
        *found.entry(pid.to_owned()).or_default() += 1;
    }
    found
}

/// The processes that answer, each often enough that none is missed.
fn pids(port: u16) -> Vec<String> {
    answers(port, 400).into_keys().collect()
}

#[test]
fn a_canary_gets_its_share_and_no_more_until_it_is_decided() {
    for ns in both() {
        let (_world, init, port) = served(ns, 2);
        let old = pids(port);
        assert_eq!(old.len(), 2);
        let load = Load::on(port, 2);
        let said = init.does(&["reload", "web", "--canary", "20%"]);
        has(&said, "web: 1 of 2 instances have a new process beside the old one, with 20 % of new connections");
        has(&said, "`pm3 reload web --promote` goes on");
        let counts = answers(port, 1_000);
        assert_eq!(counts.len(), 3, "{counts:?}");
        let new: usize = counts.iter().filter(|(pid, _)| !old.contains(pid)).map(|(_, count)| count).sum();
        // 200 are expected, with a deviation of 13.
        assert!((120..=280).contains(&new), "{counts:?}");
        has(&init.does(&["list"]), "is held beside pid");
        has(&init.does(&["show", "web"]), "for 20 %");
        has(&init.does(&["jlist"]), "is held beside pid");
        let (code, _, err) = init.pm3(&["reload", "web"]);
        assert_eq!(code, 1);
        has(&err, "`pm3 reload web --promote` goes on with them");
        init.does(&["reload", "web", "--abort"]);
        assert_eq!(pids(port), old);
        let (code, _, err) = init.pm3(&["reload", "web", "--abort"]);
        assert_eq!(code, 1);
        has(&err, "web: nothing is held");
        init.does(&["reload", "web", "--canary", "100%"]);
        assert!(pids(port).iter().all(|pid| !old.contains(pid)));
        init.does(&["reload", "web", "--promote"]);
        assert!(pids(port).iter().all(|pid| !old.contains(pid)));
        let (answered, failed) = load.end();
        assert_eq!(failed, Vec::<String>::new(), "of {answered}");
        init.stop(0);
    }
}

#[test]
fn a_promoted_canary_takes_all_others_with_it() {
    for instances in [1, 3] {
        for ns in both() {
            let (_world, init, port) = served(ns, instances);
            let old = pids(port);
            let load = Load::on(port, 2);
            init.does(&["reload", "web", "--canary", "1"]);
            assert_eq!(pids(port).len(), instances as usize + 1);
            init.does(&["reload", "web", "--promote"]);
            let new = pids(port);
            assert_eq!(new.len(), instances as usize);
            assert!(new.iter().all(|pid| !old.contains(pid)), "{new:?}");
            let (answered, failed) = load.end();
            assert_eq!(failed, Vec::<String>::new(), "of {answered}");
            init.stop(0);
        }
    }
}

#[test]
fn a_reload_that_fails_in_the_end_is_taken_back_as_a_whole() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        let serve = format!("serve:0.0.0.0:{port}");
        world.plan(&app("web", &[&serve], "instances = 2"));
        let mut init = world.boot(ns);
        init.lines(2);
        let old = pids(port);
        let load = Load::on(port, 2);
        // With settings of which the first new process is well and the second one is not.
        let first = format!("first:{}", world.path("first"));
        world.write("first-1", "");
        world.plan(&app("web", &[&first, "[", &serve, "]", "exit:7"], "instances = 2"));
        let file = world.path("pm3.toml");
        let (code, out, err) = init.pm3(&["reload", &file, "--rollback"]);
        assert_eq!(code, 1, "{out:?}");
        has(&err, "reload failed: taken back");
        has(&err, "reload failed: exit 7");
        assert_eq!(pids(port), old);
        init.told("web: 1 new process is taken back, the old ones go on");
        // What is in force is what was.
        world.plan(&app("web", &[&serve], "instances = 2"));
        init.does(&["reload", "web", "--rollback"]);
        let new = pids(port);
        assert!(new.len() == 2 && new.iter().all(|pid| !old.contains(pid)), "{new:?}");
        let (answered, failed) = load.end();
        assert_eq!(failed, Vec::<String>::new(), "of {answered}");
        init.stop(0);
    }
}

#[test]
fn a_canary_of_another_program_is_promoted_with_its_settings_or_leaves_no_trace() {
    for ns in both() {
        let (world, init, port) = served(ns, 2);
        let old = pids(port);
        let other = free_port();
        let serve = |port: u16| format!("serve:0.0.0.0:{port}");
        world.plan(&app("web", &[&serve(port), &serve(other)], "instances = 2"));
        let file = world.path("pm3.toml");
        let load = Load::on(port, 2);
        for decision in ["--abort", "--promote"] {
            init.does(&["reload", &file, "--canary", "50%"]);
            assert_eq!(pids(port).len(), 3);
            init.does(&["reload", "web", decision]);
            let now = pids(port);
            assert_eq!((now.len(), now == old), (2, decision == "--abort"), "{now:?}");
        }
        let (answered, failed) = load.end();
        assert_eq!(failed, Vec::<String>::new(), "of {answered}");
        init.stop(0);
    }
}

/// A canary that has all new connections dies; five wait at it, and so many of them are served by the old process.
fn served_when_a_canary_dies(ns: Ns) -> (usize, Vec<String>) {
    let (world, mut init, port) = served(ns, 1);
    let gate = world.gate("gate");
    let old = pids(port);
    init.does(&["reload", "web", "--canary", "100%"]);
    let new = pids(port);
    assert!(new.len() == 1 && new != old);
    let mut busy = Kept::to(port);
    busy.send(&format!("gate {}", gate.path));
    let mut waiting: Vec<Kept> = (0..5).map(|_| Kept::to(port)).collect();
    waiting.iter_mut().for_each(|client| client.send("who"));
    init.signal_inside(new[0].parse().unwrap(), Sig::KILL);
    assert_eq!(busy.line(), None);
    init.told("nothing new is left, the old ones go on: reload failed: SIGKILL");
    // By the second answer pm3 has done all that follows.
    (0..2).for_each(|_| drop(init.does(&["show", "web"])));
    // Who is handed on may wait until the next one comes: the kernel does not wake the server for him.
    assert_eq!(pids(port), old);
    let answers: Vec<String> = waiting.iter_mut().filter_map(Kept::line).collect();
    assert!(answers.iter().all(|who| who.starts_with(&old[0])), "{answers:?}");
    let shown = init.does(&["show", "web"]);
    init.stop(0);
    (answers.len(), shown)
}

#[test]
fn who_waits_at_a_canary_that_dies_is_told_at_once_and_that_is_counted() {
    for ns in both() {
        in_a_network_of_its_own("0", move || {
            let (served, shown) = served_when_a_canary_dies(ns);
            assert_eq!(served, 0);
            has(&shown, "5 connections that waited");
        });
    }
}

#[test]
fn who_waits_at_a_canary_that_dies_is_served_by_the_old_process_where_the_kernel_hands_him_on() {
    for ns in both() {
        in_a_network_of_its_own("1", move || {
            let (served, shown) = served_when_a_canary_dies(ns);
            assert_eq!(served, 5);
            assert!(!shown.concat().contains("that waited"), "{shown:?}");
        });
    }
}

/// The pids of two instances as soon as both are there.
fn both_online(init: &mut Init) -> [u32; 2] {
    (0..2).for_each(|_| drop(init.told(": online")));
    [0, 1].map(|id| init.pid(id))
}

/// As soon as this reload is under way, the gate opens for so many; what it says and its code.
fn reload_while_at_gate(init: &Init, care: &str, mut gate: Gate, count: usize) -> (i32, String) {
    let reload = init.begins(&["reload", "web", care]);
    // Nothing is held and promoted before the gate opens.
    while init.pm3(&["reload", "web", "--promote"]).2.concat().contains("nothing is held") {}
    (0..count).for_each(|_| gate.open());
    let said = reload.wait_with_output().unwrap();
    let text = [said.stdout, said.stderr].concat();
    (said.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[test]
fn a_reload_with_care_of_one_that_does_not_listen_yet_ends_nobody_first() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        let (gate, serve) = (world.gate("gate"), format!("serve:0.0.0.0:{port}"));
        world.plan(&app("web", &[&format!("gate:{}", gate.path), &serve], "instances = 2\nmin_uptime = \"3s\""));
        let mut init = world.boot(ns);
        let old = both_online(&mut init);
        let (code, said) = reload_while_at_gate(&init, "--canary=20%", gate, 3);
        assert!(code == 0 && said.contains("1 of 2 instances have a new process beside the old one"), "{said}");
        init.lines(3);
        assert_eq!(pids(port).len(), 3);
        assert_eq!([0, 1].map(|id| init.pid(id)), old);
        init.stop(0);
    }
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        let (gate, serve) = (world.gate("gate"), format!("serve:0.0.0.0:{port}"));
        // The first process of each instance is well, and no other is.
        let (first, at) = (format!("first:{}", world.path("first")), format!("gate:{}", gate.path));
        world.plan(&app("web", &[&first, "[", &at, &serve, "]", "exit:7"], "instances = 2\nmin_uptime = \"3s\""));
        let mut init = world.boot(ns);
        let old = both_online(&mut init);
        let (code, said) = reload_while_at_gate(&init, "--rollback", gate, 2);
        assert!(code == 1 && said.contains(": reload failed: exit 7; pid"), "{said}");
        init.lines(2);
        assert_eq!([0, 1].map(|id| init.pid(id)), old);
        assert_eq!(pids(port).len(), 2);
        init.stop(0);
    }
}
