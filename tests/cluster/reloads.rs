//! New processes for old ones under load: nobody who asks is turned away.

use pm3::supervisor::event::Sig;

use crate::clients::{HOME, Kept, Load, all_who_answer, ask, free_port};
use crate::common::ns::Ns;
use crate::world::{Init, World, app, both, has};

/// `web` serves at a port; nothing in it handles TERM.
fn served(ns: Ns, instances: u32, keys: &str) -> (World, Init, u16) {
    let (world, port) = (World::new(), free_port());
    world.plan(&app("web", &[&format!("serve:0.0.0.0:{port}")], &format!("instances = {instances}\n{keys}")));
    let mut init = world.boot(ns);
    init.lines(instances as usize);
    (world, init, port)
}

#[test]
fn no_question_is_left_without_an_answer() {
    for instances in [1, 2] {
        for ns in both() {
            let (_world, init, port) = served(ns, instances, "");
            let load = Load::on(port, 4);
            for words in [
                &["reload", "web"][..],
                &["restart", "web"],
                &["scale", "web", "4"],
                &["reload", "web"],
                &["scale", "web", "1"],
                &["restart", "web"],
                &["reload", "web"],
            ] {
                init.does(words);
            }
            let (answered, failed) = load.end();
            assert_eq!(failed, Vec::<String>::new(), "of {answered}");
            assert!(answered > 0);
            init.stop(0);
        }
    }
}

#[test]
fn what_waits_for_a_process_that_was_killed_is_served_by_the_next() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        let first = format!("first:{}", world.path("first"));
        let words = [&*first, "[", &format!("backlog:127.0.0.1:{port}:9"), "pause", "]"];
        world.plan(&app("web", &[&words[..], &[&format!("serve:127.0.0.1:{port}")]].concat(), ""));
        let mut init = world.boot(ns);
        init.proc.expect("listens");
        let old = init.pid(0);
        let mut early: Vec<Kept> = (0..10).map(|_| Kept::to(port)).collect();
        early.iter_mut().for_each(|client| client.send("who"));
        init.signal_inside(old, Sig::KILL);
        for client in &mut early {
            assert!(client.line().is_some_and(|who| who.ends_with(" 0")));
        }
        init.stop(0);
    }
}

#[test]
fn a_question_that_was_asked_is_answered_before_the_old_process_ends() {
    for verb in ["reload", "restart"] {
        for ns in both() {
            let (world, mut init, port) = served(ns, 1, "drain = \"20s\"");
            let mut gate = world.gate("gate");
            let old = ask((HOME, port)).unwrap();
            let mut slow = Kept::to(port);
            slow.send(&format!("gate {}", gate.path));
            let asked = init.begins(&[verb, "web"]);
            init.told("web: gets no new connections");
            gate.open();
            assert_eq!(slow.line(), Some(old.clone()));
            assert_eq!(slow.line(), None);
            assert!(asked.wait_with_output().unwrap().status.success());
            assert_ne!(ask((HOME, port)).unwrap(), old);
            init.stop(0);
        }
    }
}

#[test]
fn who_keeps_a_connection_for_later_holds_nobody_up() {
    for ns in both() {
        let (_world, mut init, port) = served(ns, 1, "drain = \"10m\"");
        let mut idle = Kept::to(port);
        idle.send("keep");
        idle.line().expect("an answer");
        init.does(&["reload", "web"]);
        init.told("web: stopping with SIGTERM");
        assert_eq!(idle.line(), None);
        init.stop(0);
    }
}

#[test]
fn a_new_process_that_never_listens_leaves_the_old_one() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        let first = format!("first:{}", world.path("first"));
        let words = [&*first, "[", &format!("serve:0.0.0.0:{port}"), "]", "pause"];
        world.plan(&app("web", &words, "listen_timeout = 300"));
        let mut init = world.boot(ns);
        init.proc.line();
        let before = ask((HOME, port)).unwrap();
        let (code, _, err) = init.pm3(&["reload", "web"]);
        assert_ne!(code, 0);
        has(&err, "not ready after 300 ms");
        assert_eq!(ask((HOME, port)).unwrap(), before);
        init.stop(0);
    }
}

#[test]
fn all_instances_serve_after_a_reload() {
    for ns in both() {
        let (_world, mut init, port) = served(ns, 3, "");
        init.does(&["reload", "web"]);
        init.lines(3);
        assert_eq!(all_who_answer((HOME, port), 3), ["0", "1", "2"]);
        init.stop(0);
    }
}

#[test]
fn a_new_process_may_listen_elsewhere() {
    for ns in both() {
        let (world, old, new) = (World::new(), free_port(), free_port());
        let web = |port| app("web", &[&format!("serve:127.0.0.1:{port}")], "instances = 2");
        world.plan(&web(old));
        let mut init = world.boot(ns);
        init.lines(2);
        world.plan(&web(new));
        init.signal(Sig::HUP);
        init.lines(2);
        init.told("web-1: stopping");
        assert_eq!(all_who_answer((HOME, new), 2), ["0", "1"]);
        while ask((HOME, old)).is_ok() {}
        init.stop(0);
    }
}

#[test]
fn a_new_process_that_ends_at_once_leaves_the_old_one() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        let first = format!("first:{}", world.path("first"));
        let words = [&*first, "[", &format!("serve:0.0.0.0:{port}"), "]", "exit:7"];
        world.plan(&app("web", &words, "instances = 2"));
        let mut init = world.boot(ns);
        init.lines(2);
        let load = Load::on(port, 2);
        let (code, _, err) = init.pm3(&["reload", "web"]);
        assert_eq!(code, 1);
        has(&err, "exit 7");
        let (answered, failed) = load.end();
        assert_eq!((answered > 0, failed), (true, vec![]));
        assert_eq!(all_who_answer((HOME, port), 2), ["0", "1"]);
        init.stop(0);
    }
}

#[test]
fn two_reloads_at_a_time_are_one_after_the_other() {
    for ns in both() {
        let (_world, init, port) = served(ns, 2, "");
        let load = Load::on(port, 2);
        let verbs: Vec<_> = (0..3).map(|_| init.begins(&["reload", "web"])).collect();
        for verb in verbs {
            assert!(verb.wait_with_output().unwrap().status.success());
        }
        let (answered, failed) = load.end();
        assert_eq!((answered > 0, failed), (true, vec![]));
        // Each instance has one process.
        let rows = init.does(&["list", "--json"]).concat();
        assert_eq!(rows.matches("\"online\"").count(), 2, "{rows}");
        init.stop(0);
    }
}

#[test]
fn a_handshake_that_was_half_open_is_not_left_hanging() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        world.plan(&app("web", &[&format!("defer:127.0.0.1:{port}")], "drain = 300"));
        let mut init = world.boot(ns);
        init.lines(1);
        // It has shaken hands as far as it knows, and the server waits for its first word.
        let (mut early, mut late) = (Kept::to(port), Kept::to(port));
        let reload = init.begins(&["reload", "web"]);
        init.told("web: gets no new connections");
        early.send("who");
        assert!(early.line().is_some());
        assert!(reload.wait_with_output().unwrap().status.success());
        // What it waited for is gone.
        late.send("who");
        assert_eq!(late.line(), None);
        init.told("1 connection that waited at");
        has(&init.does(&["show", "web"]), "1 connection that waited for a process that did not come");
        has(&init.does(&["jlist"]), "\"reset_connections\":1");
        // It is counted while the instance is known.
        init.does(&["restart", "web"]);
        has(&init.does(&["jlist"]), "\"reset_connections\":1");
        init.stop(0);
    }
}

#[test]
fn pm3_may_be_stopped_in_the_midst_of_a_reload() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        let first = format!("first:{}", world.path("first"));
        let words = [&*first, "[", &format!("serve:0.0.0.0:{port}"), "]", "pause"];
        world.plan(&app("web", &words, "instances = 2"));
        let mut init = world.boot(ns);
        init.lines(2);
        let mut reload = init.begins(&["reload", "web"]);
        init.told("takes over if it is ready");
        init.stop(0);
        assert!(!reload.wait().unwrap().success());
        assert!(ask((HOME, port)).is_err());
    }
}
