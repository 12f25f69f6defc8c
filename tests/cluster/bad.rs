//! What programs do that are not well behaved, and ports that are somebody else's.

use std::net::TcpListener;

use crate::clients::{HOME, Kept, all_who_answer, ask, free_port};
use crate::world::{World, app, both};

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
