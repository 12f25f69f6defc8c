//! The logger as a role of init: it is there when it is needed, comes back, and goes last.

use pm3::supervisor::event::Sig;

use crate::common::ns::Ns;
use crate::world::{World, app, both, has, has_not};

#[test]
fn output_is_passed_on_to_the_last_byte() {
    for ns in both() {
        let world = World::new();
        world.plan(&app("web", &["listen", "say:up", "hear:TERM", "say:down"], "log_mode = \"raw\""));
        let mut init = world.boot(ns);
        init.proc.expect("up");
        init.signal(Sig::TERM);
        init.proc.expect("heard SIGTERM");
        init.proc.expect("down");
        init.ends(0);
        assert!(init.proc.rest().is_empty());
    }
}

#[test]
fn an_init_that_ends_by_itself_waits_for_the_last_line() {
    for ns in both() {
        let world = World::new();
        world.plan(&app("job", &["say:done", "exit:3"], "log_mode = \"prefix\"\nautorestart = \"never\""));
        let mut init = world.boot(ns);
        init.ends(3);
        assert_eq!(init.proc.rest(), ["0|job | done"]);
    }
}

#[test]
fn an_init_without_need_of_one_has_no_logger() {
    let world = World::new();
    world.plan(&app("web", &["say:up", "zombies", "pause"], "log_mode = \"inherit\""));
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("up");
    assert_eq!(roles(&init.proc), Vec::<String>::new());
    has_not(&init.stop(0), "logger");
}

#[test]
fn a_logger_that_dies_is_replaced_and_nothing_in_the_pipes_is_lost() {
    for ns in both() {
        let world = World::new();
        let mut gate = world.gate("gate");
        let wait = format!("gate:{}", gate.path);
        world.plan(&app("web", &["say:one", &wait, "say:two", &wait, "say:three", "pause"], "log_mode = \"raw\""));
        let mut init = world.boot(ns);
        init.proc.expect("one");
        for line in ["two", "three"] {
            let [logger] = &roles(&init.proc)[..] else { panic!("one logger") };
            init.signal_inside(logger.parse().unwrap(), Sig::KILL);
            init.told("the logger ended (SIGKILL), replacing it");
            gate.open();
            init.proc.expect(line);
        }
        // It is no app: it is not listed, and pm3 ends as if it were not there.
        assert_eq!(init.does(&["list", "--json"]).iter().filter(|line| line.contains("\"id\"")).count(), 1);
        let log = init.stop(0);
        has(&log, "exit 0");
        has_not(&log, "process is left");
    }
}

#[test]
fn one_that_is_stopped_does_not_use_up_what_pm3_may_take_to_end() {
    for ns in both() {
        let world = World::new();
        let mut gate = world.gate("gate");
        let wait = format!("gate:{}", gate.path);
        let words = ["say:one", "listen", &wait, "say:two", "hear:TERM", "exit:0"];
        // Far more than this test waits for anything.
        world.plan(&(app("web", &words, "log_mode = \"raw\"") + "[pm3]\nstop_budget = \"1h\"\n"));
        let mut init = world.boot(ns);
        init.proc.expect("one");
        let [logger] = &roles(&init.proc)[..] else { panic!("one logger") };
        init.signal_inside(logger.parse().unwrap(), Sig::STOP);
        gate.open();
        init.signal(Sig::TERM);
        init.told("exit 0");
        init.told("the logger has not finished in time, killing it");
        init.told("bytes of output are lost, of web and maybe others: no logger has moved them");
        init.ends(0);
    }
}

#[test]
fn one_that_dies_as_it_finishes_is_replaced_once() {
    let world = World::new();
    let mut gate = world.gate("gate");
    let wait = format!("gate:{}", gate.path);
    let words = ["say:one", "listen", &wait, "say:two", "hear:TERM", "exit:0"];
    world.plan(&app("web", &words, "log_mode = \"raw\""));
    let mut init = world.boot(Ns::second());
    init.proc.expect("one");
    let [logger] = &roles(&init.proc)[..] else { panic!("one logger") };
    init.signal_inside(logger.parse().unwrap(), Sig::STOP);
    // At hand before it is needed, as a logger that is stopped is not waited for long.
    let mut killer = init.proc.visitor(&["/bin/sh", "-c", &format!("read -r _; kill -9 {logger}")]);
    let mut killer = killer.stdin(std::process::Stdio::piped()).spawn().unwrap();
    gate.open();
    init.signal(Sig::TERM);
    init.told("exit 0");
    drop(killer.stdin.take());
    assert!(killer.wait().unwrap().success());
    init.proc.expect("two");
    init.proc.expect("heard SIGTERM");
    has_not(&init.ends(0), "lost");
}

#[test]
fn what_everybody_gets_does_not_end_it() {
    let world = World::new();
    let words = ["deaf", "say:up", "pause"];
    world.plan(&app("web", &words, "log_mode = \"raw\"\nkill_timeout = \"100ms\""));
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("up");
    for name in ["INT", "HUP", "QUIT", "USR1", "USR2", "PIPE", "XFSZ", "TERM"] {
        let [logger] = &roles(&init.proc)[..] else { panic!("one logger") };
        init.signal_inside(logger.parse().unwrap(), Sig::parse(name).unwrap());
    }
    has_not(&init.stop(0), "logger");
}

#[test]
fn a_term_to_everybody_leaves_it_until_the_last_byte_of_the_last_app() {
    // As Heroku does it, and `kill -TERM -1`.
    for ns in both() {
        let world = World::new();
        let mut gate = world.gate("gate");
        let wait = format!("gate:{}", gate.path);
        let words = ["listen", "say:up", "hear:TERM", &wait, "pour:1", "say:last"];
        world.plan(&(app("slow", &words, "log_mode = \"raw\"") + &app("quick", &["pause"], "log_mode = \"raw\"")));
        let mut init = world.boot(ns);
        init.proc.expect("up");
        let everybody =
            "for pid in /proc/[0-9]*; do pid=${pid#/proc/}; [ $pid = $$ ] || kill -TERM $pid; done 2>/dev/null; :";
        let (code, ..) = init.proc.inside(&["/bin/sh", "-c", everybody], &[]);
        assert_eq!(code, 0);
        init.proc.expect("heard SIGTERM");
        init.told("quick: stopped");
        gate.open();
        for number in 0..(1 << 20) / 128 {
            assert_eq!(init.proc.line().as_bytes(), &crate::common::deeds::poured(number)[..127]);
        }
        init.proc.expect("last");
        let log = init.ends(0);
        ["logger", "lost", "dropped"].into_iter().for_each(|word| has_not(&log, word));
        assert!(init.proc.rest().is_empty());
    }
}

/// The pids of pm3's roles, inside.
pub(crate) fn roles(proc: &crate::common::ns::Proc) -> Vec<String> {
    let script =
        "for pid in /proc/[0-9]*; do read -r name < $pid/comm && case $name in pm3-*) echo ${pid#/proc/};; esac; done";
    let (_, lines, _) = proc.inside(&["/bin/sh", "-c", script], &[]);
    lines
}

#[test]
fn what_does_not_fit_into_the_table_of_descriptors_is_refused_with_the_number() {
    let world = World::new();
    let keys = "instances = 40\nlog_mode = \"raw\"";
    world.plan(&app("many", &["say:up", "pause"], keys));
    let mut init = world.boot(Ns::pid1().with("nofile:64:64"));
    let line = init.told("start failed at prepare: collecting its output would take ");
    assert!(line.contains("file descriptors, of 64; raise the limit (ulimit -n), or set log_mode"), "{line}");
    // The others run, and an operator is answered.
    init.proc.expect("up");
    assert_eq!(init.row(0)["status"], "online");
    init.stop(0);
}
