//! One port and several processes: whoever asks is answered by one of them, and who wants its own port has it.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::clients::{HOME, all_who_answer, ask, free_port};
use crate::common::ns::Ns;
use crate::world::{World, app, both, has};

#[test]
fn instances_share_the_port_that_their_program_opens() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        world.plan(&app("web", &[&format!("serve:0.0.0.0:{port}")], "instances = 3"));
        let mut init = world.boot(ns);
        init.lines(3);
        assert_eq!(all_who_answer((HOME, port), 3), ["0", "1", "2"]);
        init.does(&["scale", "web", "4"]);
        init.proc.line();
        assert_eq!(all_who_answer((HOME, port), 4), ["0", "1", "2", "3"]);
        // Nobody listens any more, at once.
        init.does(&["stop", "web"]);
        assert!(ask((HOME, port)).is_err());
        init.does(&["start", "web"]);
        init.lines(4);
        assert_eq!(all_who_answer((HOME, port), 4), ["0", "1", "2", "3"]);
        init.stop(0);
    }
}

#[test]
fn a_connection_does_not_wake_pm3() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        world.plan(&app("web", &[&format!("serve:127.0.0.1:{port}")], "instances = 2"));
        let mut init = world.boot(ns);
        init.lines(2);
        let status = format!("/proc/{}/status", init.proc.pid);
        let woken = || {
            let text = std::fs::read_to_string(&status).unwrap();
            let count = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            count.unwrap().trim().parse::<u32>().unwrap()
        };
        let before = woken();
        (0..500).for_each(|_| drop(ask((HOME, port)).unwrap()));
        // What it does on its own account meanwhile is little.
        let times = woken() - before;
        assert!(times < 50, "{times} times for 500 connections");
        init.stop(0);
    }
}

#[test]
fn both_families_are_heard_at_the_address_of_both() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        world.plan(&app("web", &[&format!("serve:[::]:{port}")], "instances = 2"));
        let mut init = world.boot(ns);
        init.lines(2);
        assert_eq!(all_who_answer((Ipv4Addr::LOCALHOST, port), 2), ["0", "1"]);
        assert_eq!(all_who_answer((Ipv6Addr::LOCALHOST, port), 2), ["0", "1"]);
        init.stop(0);
    }
}

#[test]
fn a_child_of_the_main_process_may_be_the_server() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        let words = ["child", "[", &format!("serve:127.0.0.1:{port}"), "]", "reap"];
        world.plan(&app("web", &words, "instances = 2"));
        let mut init = world.boot(ns);
        init.lines(2);
        assert_eq!(all_who_answer((HOME, port), 2), ["0", "1"]);
        init.stop(0);
    }
}

#[test]
fn a_program_that_asks_whether_its_socket_listens_is_seen_to() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        world.plan(&app("web", &[&format!("wary:127.0.0.1:{port}")], "instances = 2\nlisten_timeout = \"20s\""));
        let mut init = world.boot(ns);
        init.lines(2);
        assert_eq!(all_who_answer((HOME, port), 2), ["0", "1"]);
        init.does(&["reload", "web"]);
        assert_eq!(all_who_answer((HOME, port), 2), ["0", "1"]);
        init.stop(0);
    }
}

#[test]
fn who_wants_its_own_port_has_it() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        world.plan(&app("web", &[&format!("serve:127.0.0.1:{port}")], "exec_mode = \"fork\"\nmax_restarts = 1"));
        let mut init = world.boot(ns);
        init.proc.expect(&format!("serves 127.0.0.1:{port}"));
        let (_, out, _) = init.pm3(&["reload", "web"]);
        assert!(out.iter().any(|line| line.contains(&format!("it owns port {port}"))), "{out:#?}");
        init.proc.expect(&format!("serves 127.0.0.1:{port}"));
        init.stop(0);
    }
}

#[test]
fn who_is_to_have_its_own_port_from_now_on_has_it() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        let words = [format!("serve:127.0.0.1:{port}")];
        world.plan(&app("web", &[&words[0]], ""));
        let mut init = world.boot(ns);
        init.lines(1);
        world.plan(&app("web", &[&words[0]], "exec_mode = \"fork\"\nmax_restarts = 1"));
        init.signal(pm3::supervisor::event::Sig::HUP);
        init.told("file read again");
        init.proc.expect(&format!("serves 127.0.0.1:{port}"));
        has(&init.does(&["show", "web"]), "exec_mode is fork");
        init.stop(0);
    }
}

#[test]
fn one_more_of_those_that_own_a_port_says_whose_it_is() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        world.plan(&app("web", &[&format!("serve:127.0.0.1:{port}")], "exec_mode = \"fork\"\nmax_restarts = 1"));
        let mut init = world.boot(ns);
        init.proc.expect(&format!("serves 127.0.0.1:{port}"));
        let (code, _, err) = init.pm3(&["scale", "web", "2"]);
        assert_eq!((code, err.len()), (1, 1), "{err:#?}");
        // It panics before its main function.
        assert_eq!(
            err[0],
            format!(
                "[PM3][ERROR] web-1: SIGABRT; web-0 may be in its way, it owns port {port}: exec_mode = \"cluster\" \
                 shares TCP ports, increment_var = \"PORT\" gives each instance its own"
            )
        );
        // The first one goes on, and the others can be taken back.
        assert!(ask((HOME, port)).unwrap().ends_with(" 0"));
        init.does(&["scale", "web", "1"]);
        init.stop(0);
    }
}

#[test]
fn one_more_may_have_a_port_of_its_own() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        let words = [&*format!("first:{}", world.path("first")), "[", &format!("serve:127.0.0.1:{port}"), "]", "pause"];
        world.plan(&app("web", &words, "exec_mode = \"fork\"\nmin_uptime = 100"));
        let mut init = world.boot(ns);
        init.proc.expect(&format!("serves 127.0.0.1:{port}"));
        has(&init.does(&["scale", "web", "+1"]), "[web](1) ✓");
        init.stop(0);
    }
}

#[test]
fn where_calls_cannot_be_held_one_more_says_where_to_look() {
    let (world, port) = (World::new(), free_port());
    world.plan(&app("web", &[&format!("serve:127.0.0.1:{port}")], "max_restarts = 1"));
    let mut init = world.boot(Ns::pid1().with("refuse:seccomp"));
    init.proc.expect(&format!("serves 127.0.0.1:{port}"));
    let (code, _, err) = init.pm3(&["scale", "web", "2"]);
    assert_eq!(code, 1);
    has(&err, &format!("it owns port {port}: `pm3 show web` says why it is not shared"));
    init.stop(0);
}
