//! Spares: started, held where they bind their port, and there at once when an instance dies.

use pm3::supervisor::event::Sig;

use crate::clients::{HOME, Kept, Load, all_who_answer, ask, free_port};
use crate::common::lacking;
use crate::common::ns::Ns;
use crate::world::{Init, World, app, both, has, has_not};

/// `web` does these words, with a spare that stands by.
fn spared(ns: Ns, words: &[&str], keys: &str) -> (World, Init) {
    let world = World::new();
    world.plan(&app("web", words, &format!("standby = 1\n{keys}")));
    let mut init = world.boot(ns);
    init.told("stands by");
    (world, init)
}

/// It serves at a port.
fn served(ns: Ns, instances: u32, keys: &str) -> (World, Init, u16) {
    let port = free_port();
    let keys = format!("instances = {instances}\n{keys}");
    let (world, mut init) = spared(ns, &[&format!("serve:0.0.0.0:{port}")], &keys);
    init.lines(instances as usize);
    (world, init, port)
}

/// pm3 says all of these, in any order.
#[track_caller]
fn all_told(init: &mut Init, parts: &[&str]) {
    let mut left = parts.to_vec();
    while !left.is_empty() {
        let line = init.told("");
        left.retain(|part| !line.contains(part));
    }
}

/// The rows of instances in this state.
fn count(init: &Init, status: &str) -> usize {
    init.does(&["list", "--json"]).concat().matches(&format!("\"{status}\"")).count()
}

/// pm3 ends in time, and nobody has to be killed for that.
#[track_caller]
fn ends(init: Init) {
    has_not(&init.stop(0), "SIGKILL");
}

#[test]
fn a_spare_takes_over_from_an_instance_that_was_killed() {
    for ns in both() {
        let (_world, mut init, port) = served(ns, 1, "");
        assert_eq!((count(&init, "online"), count(&init, "standby")), (1, 1));
        assert_eq!(init.does(&["health"]), ["web: healthy"]);
        assert!(ask((HOME, port)).unwrap().ends_with(" 0"));
        init.signal_inside(init.pid(0), Sig::KILL);
        init.told("web-1: takes over from web-0: SIGKILL");
        all_told(&mut init, &["web-1: online", "web-0: stands by"]);
        assert!(ask((HOME, port)).unwrap().ends_with(" 1"));
        // And back.
        init.signal_inside(init.pid(1), Sig::KILL);
        all_told(&mut init, &["web-0: takes over from web-1: SIGKILL", "web-0: online", "web-1: stands by"]);
        assert!(ask((HOME, port)).unwrap().ends_with(" 0"));
        ends(init);
    }
}

#[test]
fn of_those_who_ask_while_instances_are_killed_only_whom_they_had_accepted_are_lost() {
    for instances in [1, 3] {
        for ns in both() {
            let (_world, mut init, port) = served(ns, instances, "");
            let load = Load::on(port, 4);
            for _ in 0..4 {
                let rows: serde_json::Value = serde_json::from_str(&init.does(&["list", "--json"]).concat()).unwrap();
                let serving = rows.as_array().unwrap().iter().find(|row| row["status"] == "online").unwrap();
                init.signal_inside(serving["pid"].as_u64().unwrap() as u32, Sig::KILL);
                init.told("takes over from");
                all_told(&mut init, &["online", "stands by"]);
            }
            let (answered, failed) = load.end();
            // None is refused, and none has waited for ever.
            let is_lost = |why: &String| why.contains("reset") || why.contains("end of file") || why.contains("pipe");
            assert!(failed.len() <= 4 && failed.iter().all(is_lost), "{failed:?} of {answered}");
            assert!(answered > 0);
            ends(init);
        }
    }
}

#[test]
fn who_waits_for_an_instance_that_dies_is_served_by_the_spare() {
    for ns in both() {
        let (world, mut init, port) = served(ns, 1, "");
        let gate = world.gate("gate");
        let mut busy = Kept::to(port);
        busy.send(&format!("gate {}", gate.path));
        let mut waiting: Vec<Kept> = (0..10).map(|_| Kept::to(port)).collect();
        waiting.iter_mut().for_each(|client| client.send("who"));
        init.signal_inside(init.pid(0), Sig::KILL);
        for client in &mut waiting {
            assert!(client.line().is_some_and(|who| who.ends_with(" 1")));
        }
        assert_eq!(busy.line(), None);
        init.told("takes over");
        ends(init);
    }
}

#[test]
fn a_spare_is_told_that_it_gets_no_port_before_it_is_asked_to_end() {
    for verb in ["stop", "delete", "restart"] {
        for ns in both() {
            let tried = format!("127.0.0.1:{}", free_port());
            let (_world, mut init) = spared(ns, &["listen:TERM", &format!("try:{tried}"), "hear:TERM"], "");
            init.proc.expect(&format!("{tried} ok"));
            init.does(&[verb, "1"]);
            init.proc.expect(&format!("{tried} operation canceled"));
            init.proc.expect("heard SIGTERM");
            ends(init);
        }
    }
}

#[test]
fn pm3_stops_spares_as_others_with_the_handlers_that_they_have() {
    for ns in both() {
        let tried = format!("127.0.0.1:{}", free_port());
        let (_world, mut init) = spared(ns, &["handles:TERM", &format!("try:{tried}"), "pause"], "");
        init.proc.expect(&format!("{tried} ok"));
        init.signal(Sig::TERM);
        has_not(&init.ends(0), "SIGKILL");
        let mut said = init.proc.rest();
        // It may have heard that it gets no port before that.
        said.retain(|line| line.starts_with("handled"));
        assert_eq!(said, ["handled SIGTERM", "handled SIGTERM"]);
    }
}

#[test]
fn a_child_of_the_main_process_may_be_held() {
    for ns in both() {
        let port = free_port();
        let words = ["child", "[", &format!("serve:127.0.0.1:{port}"), "]", "reap"];
        let (_world, mut init) = spared(ns, &words, "");
        init.lines(1);
        init.signal_inside(init.pid(0), Sig::KILL);
        all_told(&mut init, &["web-1: takes over from web-0: SIGKILL", "web-1: online", "web-0: stands by"]);
        assert!(ask((HOME, port)).unwrap().ends_with(" 1"));
        ends(init);
    }
}

#[test]
fn all_ports_are_taken_over_and_others_are_not_held() {
    for ns in both() {
        let (first, second) = (free_port(), free_port());
        let [first_at, second_at] = [first, second].map(|port| format!("127.0.0.1:{port}"));
        let words = ["try:127.0.0.1:0", "try:[::1]:0", &format!("try:{first_at}"), &format!("serve:{second_at}")];
        let (_world, mut init) = spared(ns, &words, "");
        init.lines(2 + 2 + 2);
        let early = Kept::to(first);
        init.signal_inside(init.pid(0), Sig::KILL);
        all_told(&mut init, &["web-1: takes over", "web-1: online", "web-0: stands by"]);
        assert!(ask((HOME, second)).unwrap().ends_with(" 1"));
        // Who waited there waits still, as nobody accepts.
        drop((early, Kept::to(first)));
        ends(init);
    }
}

#[test]
fn a_spare_is_replaced_after_a_while() {
    for ns in both() {
        let (_world, mut init, port) = served(ns, 1, "standby_max_age = \"1s\"");
        let old = init.pid(1);
        init.told("web-1: stopping with SIGTERM: stood by for 1 s");
        init.told("web-1: stands by");
        assert_ne!(init.pid(1), old);
        assert!(ask((HOME, port)).unwrap().ends_with(" 0"));
        has(&init.does(&["why", "1"]), "stood by for 1 s");
        ends(init);
    }
}

#[test]
fn spares_are_replaced_with_the_others_and_nobody_notices() {
    for ns in both() {
        let (_world, mut init, port) = served(ns, 2, "");
        let load = Load::on(port, 4);
        for words in [&["reload", "web"][..], &["scale", "web", "3"], &["restart", "web"], &["scale", "web", "1"]] {
            let old = init.pid(2);
            init.does(words);
            assert_eq!(init.pid(2) == old, words[0] == "scale", "{words:?}");
            assert_eq!(init.row(2)["status"], "standby");
        }
        let (answered, failed) = load.end();
        assert_eq!((answered > 0, failed), (true, vec![]));
        assert_eq!(all_who_answer((HOME, port), 1), ["0"]);
        // There is one as long as somebody needs it.
        init.does(&["stop", "0"]);
        init.told("web-2: stopping with SIGTERM: nobody is left to stand by for");
        assert!(ask((HOME, port)).is_err());
        init.does(&["start", "0"]);
        init.told("web-2: stands by");
        ends(init);
    }
}

#[test]
fn a_new_program_that_does_not_start_shows_at_the_spare() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        let first = format!("first:{}", world.path("first"));
        let words = [&*first, "[", &format!("serve:0.0.0.0:{port}"), "]", "exit:7"];
        world.plan(&app("web", &words, "instances = 2\nstandby = 1\nmax_restarts = 1"));
        let mut init = world.boot(ns);
        init.told("stands by");
        init.lines(2);
        let load = Load::on(port, 2);
        let (code, _, err) = init.pm3(&["reload", "web"]);
        assert_eq!(code, 1);
        has(&err, "exit 7");
        let (answered, failed) = load.end();
        assert_eq!((answered > 0, failed), (true, vec![]));
        assert_eq!(all_who_answer((HOME, port), 2), ["0", "1"]);
        ends(init);
    }
}

#[test]
fn where_calls_cannot_be_held_there_is_no_spare_and_that_is_shown() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        world.plan(&app("web", &[&format!("serve:127.0.0.1:{port}")], "standby = 1"));
        let mut init = world.boot(ns.with("refuse:seccomp"));
        let why = "cannot stand by: seccomp: function not implemented";
        init.told(&format!("web-1: errored: {why}"));
        init.proc.expect(&format!("serves 127.0.0.1:{port}"));
        assert!(ask((HOME, port)).unwrap().ends_with(" 0"));
        has(&init.does(&["show", "web"]), why);
        assert_eq!(init.does(&["health"]), ["web: healthy"]);
        // To ask for it again is no mistake.
        let (code, out, err) = init.pm3(&["start", "web"]);
        assert_eq!(code, 0, "{out:?} {err:?}");
        has(&[out, err].concat(), why);
        ends(init);
    }
}

#[test]
fn a_program_that_opens_no_port_is_no_spare() {
    for ns in both() {
        let world = World::new();
        world.plan(&app("web", &["pause"], "standby = 1\nlisten_timeout = 300"));
        let mut init = world.boot(ns);
        let why = "cannot stand by: opened no port within 300 ms, see listen_timeout";
        init.told(&format!("web-1: errored: {why}"));
        has(&init.does(&["show", "web"]), why);
        assert_eq!(count(&init, "online"), 1);
        ends(init);
    }
}

#[test]
fn a_spare_of_another_user_is_held_if_it_can_be_looked_at() {
    if !nix::unistd::geteuid().is_root() {
        return lacking("root", 1);
    }
    for ns in [Ns::pid1().with("rooted"), Ns::pid1().with("rooted").with("docker")] {
        let port = free_port();
        let keys = "user = \"65534\"";
        let (_world, mut init) = spared(ns, &[&format!("serve:127.0.0.1:{port}")], keys);
        init.lines(1);
        init.signal_inside(init.pid(0), Sig::KILL);
        all_told(&mut init, &["web-1: takes over from web-0: SIGKILL", "web-1: online", "web-0: stands by"]);
        assert!(ask((HOME, port)).unwrap().ends_with(" 1"));
        ends(init);
    }
    let (world, port) = (World::new(), free_port());
    let tried = format!("try:127.0.0.1:{port}");
    world.plan(&app("web", &["hidden", "listen:TERM", &tried, "hear:TERM"], "user = \"65534\"\nstandby = 1"));
    let mut init = world.boot(Ns::pid1().with("rooted").with("docker"));
    // It is told so, and does not take the port of the one that serves.
    init.told("web-1: errored: cannot stand by: seccomp: permission denied");
    let (served, told) = (format!("127.0.0.1:{port} ok"), format!("127.0.0.1:{port} operation canceled"));
    assert_eq!(init.lines(3), [served, told, "heard SIGTERM".to_owned()]);
    ends(init);
}
