//! What programs do that are not well behaved, and ports that are somebody else's.

use std::net::TcpListener;

use crate::clients::{HOME, Kept, Load, all_who_answer, ask, free_port};
use crate::common::ns::Ns;
use crate::common::{PM3, lacking};
use crate::world::{Init, World, app, both, entry, has};

#[test]
fn a_port_of_somebody_else_is_not_to_be_had() {
    for ns in both() {
        let world = World::new();
        let other = TcpListener::bind((HOME, 0)).unwrap();
        let port = other.local_addr().unwrap().port();
        world.plan(&app("web", &[&format!("try:0.0.0.0:{port}"), &format!("try:127.0.0.1:{port}"), "pause"], ""));
        let mut init = world.boot(ns);
        init.proc.expect(&format!("0.0.0.0:{port} address already in use"));
        init.proc.expect(&format!("127.0.0.1:{port} address already in use"));
        init.stop(0);
    }
}

#[test]
fn nor_is_the_port_of_another_app() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        let first = app("web", &[&format!("serve:0.0.0.0:{port}")], "");
        let other = [&*format!("try:127.0.0.1:{port}"), &format!("try:[::]:{port}"), "pause"];
        world.plan(&(first + &app("other", &other, "after = [\"web\"]\nautostart = false")));
        let mut init = world.boot(ns);
        init.proc.expect(&format!("serves 0.0.0.0:{port}"));
        init.does(&["start", "other"]);
        init.proc.expect(&format!("127.0.0.1:{port} address already in use"));
        init.proc.expect(&format!("[::]:{port} address already in use"));
        assert!(ask((HOME, port)).unwrap().ends_with(" 0"));
        init.stop(0);
    }
}

#[test]
fn sockets_of_other_kinds_are_left_alone() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        let path = world.path("socket");
        world.plan(&app("web", &["try:127.0.0.1:0", &format!("udp:{port}"), &format!("unix:{path}"), "pause"], ""));
        let mut init = world.boot(ns);
        init.proc.expect("127.0.0.1:0 ok");
        init.proc.expect(&format!("udp {port} ok"));
        init.proc.expect("unix ok");
        init.stop(0);
    }
}

#[test]
fn a_program_cannot_shrink_what_may_wait() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        world.plan(&app("web", &[&format!("backlog:127.0.0.1:{port}:1"), "pause"], ""));
        let mut init = world.boot(ns);
        init.proc.line();
        let waiting: Vec<Kept> = (0..50).map(|_| Kept::to(port)).collect();
        assert_eq!(waiting.len(), 50);
        init.stop(0);
    }
}

#[test]
fn a_slot_that_was_shut_down_is_there_again() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        world.plan(&app("web", &[&format!("serve:127.0.0.1:{port}")], "instances = 3"));
        let mut init = world.boot(ns);
        init.lines(3);
        let mut client = Kept::to(port);
        client.send("shutdown");
        let who = client.line().unwrap();
        let others: Vec<String> = (0..3).map(|n| n.to_string()).collect();
        assert_eq!(all_who_answer((HOME, port), 3), others, "after {who}");
        init.stop(0);
    }
}

#[test]
fn where_calls_cannot_be_held_ports_are_a_programs_own_and_that_is_shown() {
    // By an old kernel, and by a sandbox.
    for (refusal, why) in
        [("refuse:seccomp", "function not implemented"), ("forbid:seccomp", "operation not permitted")]
    {
        for ns in both() {
            let (world, port) = (World::new(), free_port());
            world.plan(&app("web", &[&format!("serve:127.0.0.1:{port}")], ""));
            let mut init = world.boot(ns.with(refusal));
            init.proc.expect(&format!("serves 127.0.0.1:{port}"));
            has(&init.does(&["show", "web"]), &format!("its own: seccomp: {why}"));
            let (code, out, err) = init.pm3(&["reload", "web"]);
            assert_eq!(code, 0, "{err:?}");
            has(&[out, err].concat(), &format!("it owns port {port}"));
            init.stop(0);
        }
    }
}

#[test]
fn a_pm3_inside_of_pm3_leaves_the_ports_to_the_outer_one() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        let inner = app("web", &[&format!("serve:127.0.0.1:{port}")], "instances = 2");
        let file = world.write("inner.toml", &inner);
        let home = world.path("inner");
        let keys = format!("env = {{ PM3_HOME = {home:?} }}");
        world.plan(&entry("inner", PM3, &["init", &file], &keys));
        let mut init = world.boot(ns);
        // All that the inner one starts is one app to the outer one, and shares one slot.
        init.lines(2);
        let show = init.proc.inside(&[PM3, "show", "0"], &[("PM3_HOME", &home)]).1;
        has(&show, "its own: seccomp: device or resource busy");
        assert!(ask((HOME, port)).is_ok());
        init.stop(0);
    }
}

#[test]
fn who_dies_while_it_begins_to_listen_harms_nobody() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        let words = [&*format!("dies:127.0.0.1:{port}:100"), &format!("serve:127.0.0.1:{port}")];
        world.plan(&app("web", &words, "instances = 2"));
        let mut init = world.boot(ns);
        init.lines(4);
        assert_eq!(all_who_answer((HOME, port), 2), ["0", "1"]);
        init.stop(0);
    }
}

#[test]
fn a_program_may_have_several_ports() {
    for ns in both() {
        let (world, first, second) = (World::new(), free_port(), free_port());
        let words = ["child", "[", &format!("serve:127.0.0.1:{first}"), "]", &format!("serve:127.0.0.1:{second}")];
        world.plan(&app("web", &words, "instances = 2"));
        let mut init = world.boot(ns);
        init.lines(4);
        init.does(&["reload", "web"]);
        init.lines(4);
        assert_eq!(all_who_answer((HOME, first), 2), ["0", "1"]);
        assert_eq!(all_who_answer((HOME, second), 2), ["0", "1"]);
        init.stop(0);
    }
}

#[test]
fn a_program_that_binds_a_port_twice_has_one_socket_twice() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        let tried = format!("try:127.0.0.1:{port}");
        world.plan(&app("web", &[&tried, &tried, &format!("serve:127.0.0.1:{port}")], "instances = 2"));
        let mut init = world.boot(ns);
        let said = |init: &mut Init| {
            let lines = init.lines(6);
            let ok = lines.iter().filter(|line| **line == format!("127.0.0.1:{port} ok")).count();
            assert_eq!(ok, 4, "{lines:?}");
        };
        said(&mut init);
        assert_eq!(all_who_answer((HOME, port), 2), ["0", "1"]);
        // Nobody waits at one of those that it does not look at.
        let load = Load::on(port, 2);
        for verb in ["reload", "restart"] {
            init.does(&[verb, "web"]);
            said(&mut init);
        }
        let (answered, failed) = load.end();
        assert_eq!((answered > 0, failed), (true, vec![]));
        init.stop(0);
    }
}

#[test]
fn who_may_not_have_a_privileged_port_does_not_get_it() {
    if !nix::unistd::geteuid().is_root() {
        // Then pm3 may not have it either.
        return lacking("root", 1);
    }
    let world = World::new();
    let first: u16 = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .map_or(1024, |text| text.trim().parse().unwrap());
    if first == 0 {
        // Here nobody needs a right for any port.
        return;
    }
    let tried = format!("127.0.0.1:{}", first - 1);
    let poor = app("poor", &[&format!("try:{tried}"), "pause"], "user = \"65534\"");
    let rich = app("rich", &[&format!("serve:{tried}")], "instances = 2\nafter = [\"poor\"]");
    world.plan(&(poor + &rich));
    let mut init = world.boot(Ns::pid1().with("rooted"));
    assert_eq!(
        init.lines(3),
        [format!("{tried} permission denied"), format!("serves {tried}"), format!("serves {tried}")]
    );
    init.stop(0);
}

#[test]
fn a_program_of_another_user_shares_its_port_too() {
    if !nix::unistd::geteuid().is_root() {
        return lacking("root", 1);
    }
    // As in a container, where root may not look into the processes of others; and as on a machine, where it may.
    for ns in [Ns::pid1().with("rooted"), Ns::pid1().with("rooted").with("docker")] {
        let (world, port) = (World::new(), free_port());
        world.plan(&app("web", &[&format!("serve:127.0.0.1:{port}")], "instances = 2\nuser = \"65534\""));
        let mut init = world.boot(ns);
        init.lines(2);
        assert_eq!(all_who_answer((HOME, port), 2), ["0", "1"]);
        init.does(&["reload", "web"]);
        init.lines(2);
        assert_eq!(all_who_answer((HOME, port), 2), ["0", "1"]);
        init.stop(0);
    }
}

#[test]
fn a_program_that_hides_keeps_its_own_port_and_that_is_shown() {
    if !nix::unistd::geteuid().is_root() {
        return lacking("root", 1);
    }
    let (world, port) = (World::new(), free_port());
    world.plan(&app("web", &["hidden", &format!("serve:127.0.0.1:{port}")], "user = \"65534\""));
    let mut init = world.boot(Ns::pid1().with("rooted").with("docker"));
    init.proc.expect(&format!("serves 127.0.0.1:{port}"));
    assert!(ask((HOME, port)).is_ok());
    has(&init.does(&["show", "web"]), "its own: seccomp: permission denied");
    init.stop(0);
}

#[test]
fn a_server_that_was_forked_away_is_reloaded_with_its_program() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        // Forked twice, in a session of its own: nobody's child, but of the same run.
        let words = ["orphan", "[", &format!("serve:127.0.0.1:{port}"), "]", "pause"];
        world.plan(&app("web", &words, "instances = 2"));
        let mut init = world.boot(ns);
        init.lines(2);
        assert_eq!(all_who_answer((HOME, port), 2), ["0", "1"]);
        let load = Load::on(port, 2);
        for verb in ["reload", "restart"] {
            init.does(&[verb, "web"]);
            init.lines(2);
        }
        let (answered, failed) = load.end();
        assert_eq!((answered > 0, failed), (true, vec![]));
        assert_eq!(all_who_answer((HOME, port), 2), ["0", "1"]);
        init.does(&["stop", "web"]);
        assert!(ask((HOME, port)).is_err());
        init.stop(0);
    }
}
