//! How `pm3 init` ends: who decides, with which code, in which order, and how soon.

use pm3::supervisor::event::{End, Sig};

use crate::common::ns::Ns;
use crate::common::tty::Terminal;
use crate::world::{World, app, both, has, has_not};

/// An app that does not end by itself.
fn idle(name: &str, keys: &str) -> String {
    app(name, &[&format!("say:{name} is up"), "pause"], keys)
}

/// An app that nothing but SIGKILL ends.
fn deaf(name: &str, keys: &str) -> String {
    app(name, &["deaf", &format!("say:{name} is up"), "pause"], keys)
}

#[test]
fn the_main_apps_code_is_pm3s() {
    let cases =
        [("exit:0", 0), ("exit:7", 7), ("exit:255", 255), ("die:KILL", 137), ("die:SEGV", 139), ("die:RTMIN", 162)];
    for (word, code) in cases {
        for ns in both() {
            let world = World::new();
            let main = app("job", &[word], "main = true\nautorestart = \"never\"");
            world.plan(&(main + &idle("beside", "")));
            let log = world.boot(ns).ends(code);
            let last = format!("[pm3] exit {code}: job, the main app, ended with {code}");
            assert_eq!(log.last(), Some(&last), "{log:#?}");
        }
    }
}

#[test]
fn an_errored_app_decides_where_it_may() {
    let world = World::new();
    let crashing = app("web", &["exit:4"], "max_restarts = 2\nexit_on_error = true");
    world.plan(&(crashing + &idle("beside", "")));
    let log = world.boot(Ns::pid1()).ends(4);
    has(&log, "beside: stopped");
    assert_eq!(log.last().unwrap(), "[pm3] exit 4: web is errored, its code is 4");
}

#[test]
fn with_nothing_left_pm3_ends_with_0() {
    for ns in both() {
        let world = World::new();
        let once = "kind = \"oneshot\"";
        let off = idle("off", "autostart = false");
        world.plan(&(app("one", &["exit:0"], once) + &app("two", &["exit:0"], once) + &off));
        let log = world.boot(ns).ends(0);
        assert_eq!(log.last().unwrap(), "[pm3] exit 0: nothing is left to run");
    }
}

#[test]
fn with_nothing_left_the_first_failure_is_pm3s_code() {
    let world = World::new();
    let mut gate = world.gate("gate");
    let second = app("second", &[&format!("gate:{}", gate.path), "exit:3"], "autorestart = \"never\"");
    world.plan(&(second + &app("first", &["die:KILL"], "autorestart = \"never\"")));
    let mut init = world.boot(Ns::pid1());
    init.told("first: errored: SIGKILL");
    gate.open();
    assert_eq!(init.ends(137).last().unwrap(), "[pm3] exit 137: nothing is left to run, first was the first to fail");
}

#[test]
fn never_means_never() {
    let world = World::new();
    world.plan(&("[pm3]\nexit_policy = \"never\"\n".to_owned() + &app("job", &["exit:3"], "kind = \"oneshot\"")));
    let mut init = world.boot(Ns::pid1());
    init.told("job: errored: exit 3");
    assert!(init.does(&["ping"])[0].starts_with("pong from pm3"));
    init.stop(0);
}

#[test]
fn four_signals_stop_and_0_is_the_code() {
    for sig in ["TERM", "INT", "QUIT", "PWR"].map(|name| Sig::parse(name).unwrap()) {
        for ns in both() {
            let world = World::new();
            world.plan(&idle("web", ""));
            let mut init = world.boot(ns);
            init.proc.expect("web is up");
            init.signal(sig);
            init.told(&format!("stopping: {sig}"));
            init.told("web: stopping with SIGTERM: shutdown");
            assert_eq!(init.ends(0).last().unwrap(), &format!("[pm3] exit 0: {sig}"));
        }
    }
}

#[test]
fn a_requested_stop_ends_with_mains_code() {
    for (words, code) in [(&["listen", "say:up", "hear:TERM", "exit:5"][..], 5), (&["say:up", "pause"], 143)] {
        let world = World::new();
        world.plan(&(app("job", words, "main = true") + &idle("beside", "")));
        let mut init = world.boot(Ns::pid1());
        init.lines(2);
        init.stop(code);
    }
}

#[test]
fn a_spent_budget_is_137() {
    for ns in both() {
        let world = World::new();
        world.plan(&("[pm3]\nstop_budget = \"300ms\"\n".to_owned() + &deaf("web", "kill_timeout = \"1h\"")));
        let mut init = world.boot(ns);
        init.proc.expect("web is up");
        has(&init.stop(137), "the stop budget is over, killing what is left");
    }
}

#[test]
fn an_app_killed_within_the_budget_is_no_failure_of_the_stop() {
    let world = World::new();
    world.plan(&deaf("web", "kill_timeout = \"100ms\""));
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("web is up");
    has(&init.stop(0), "web: still there after its grace, sending SIGKILL");
}

#[test]
fn each_app_gets_its_own_signal() {
    let world = World::new();
    world.plan(&app("web", &["listen", "say:up", "hear:USR2", "exit:0"], "kill_signal = \"USR2\""));
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("up");
    init.signal(Sig::TERM);
    init.proc.expect("heard SIGUSR2");
    init.ends(0);
}

/// `web` waits for `db`, and stays for as long as nobody opens its gate.
fn ordered(world: &World, gate: &str) -> String {
    let gate = format!("gate:{}", world.path(gate));
    app("web", &["listen", "say:web is up", "hear:TERM", &gate, "exit:0"], "after = \"db\"") + &idle("db", "")
}

#[test]
fn apps_stop_in_reverse_order() {
    let world = World::new();
    let mut gate = world.gate("gate");
    world.plan(&ordered(&world, "gate"));
    let mut init = world.boot(Ns::pid1());
    init.lines(2);
    init.signal(Sig::TERM);
    init.told("web: stopping");
    // TERM has arrived, web is still there, and db has not been asked.
    init.proc.expect("heard SIGTERM");
    assert_eq!(init.row(1)["status"], "online");
    gate.open();
    init.tells("web: stopped");
    init.told("db: stopping");
    init.ends(0);
}

#[test]
fn a_second_term_drops_the_order() {
    let world = World::new();
    let mut gate = world.gate("gate");
    world.plan(&ordered(&world, "gate"));
    let mut init = world.boot(Ns::pid1());
    init.lines(2);
    init.signal(Sig::TERM);
    init.told("web: stopping");
    init.signal(Sig::TERM);
    init.tells("SIGTERM again, signalling all apps at once");
    init.tells("db: stopping with SIGTERM: shutdown");
    init.tells("db: stopped");
    gate.open();
    init.ends(0);
}

#[test]
fn a_third_int_kills() {
    let world = World::new();
    world.plan(&deaf("web", "kill_timeout = \"1h\""));
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("web is up");
    for told in ["web: stopping", "SIGINT again"] {
        init.signal(Sig::INT);
        init.told(told);
    }
    init.signal(Sig::INT);
    init.told("web: still there after its grace, sending SIGKILL");
    init.ends(137);
}

#[test]
fn a_third_term_shortens_nobodys_grace() {
    let world = World::new();
    let mut gate = world.gate("gate");
    let patient = app("web", &["deaf", "say:up", &format!("gate:{}", gate.path), "exit:0"], "");
    world.plan(&patient);
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("up");
    for told in ["web: stopping", "SIGTERM again"] {
        init.signal(Sig::TERM);
        init.told(told);
    }
    init.signal(Sig::TERM);
    // By the time that a client is answered, the signal before it has been acted on.
    assert_eq!(init.row(0)["status"], "stopping");
    gate.open();
    let log = init.ends(0);
    assert!(!log.concat().contains("SIGKILL"), "{log:#?}");
}

#[test]
fn a_term_that_comes_before_the_apps_is_kept() {
    for ns in both() {
        let world = World::new();
        let fifo = world.fifo("slow");
        world.plan(&idle("web", &format!("env_file = {:?}", world.path("slow"))));
        let mut init = world.boot(ns);
        // pm3 is still reading its file.
        let held = fifo.opened();
        init.signal(Sig::TERM);
        drop(held);
        has(&init.ends(0), "exit 0: SIGTERM");
    }
}

#[test]
fn a_lost_terminal_is_a_stop() {
    for ns in both() {
        let world = World::new();
        world.plan(&app("job", &["say:up", "pause"], "main = true"));
        let (mut terminal, slave) = Terminal::open();
        let mut init = world.boot(ns.terminal(slave));
        while terminal.line() != "up" {}
        drop(terminal);
        // Not pm3's own death by the signal: it has asked its app to end, and has that one's code.
        assert_eq!(init.proc.end(), End::Code(143));
    }
}

#[test]
fn a_ctrl_c_is_a_stop_that_only_pm3_hears() {
    for ns in both() {
        let world = World::new();
        world.plan(&app("web", &["listen", "say:up", "hear:TERM", "exit:0"], ""));
        let (mut terminal, slave) = Terminal::open();
        let mut init = world.boot(ns.terminal(slave));
        while terminal.line() != "up" {}
        terminal.press("\x03");
        let screen = terminal.screen.rest();
        for line in ["[pm3] stopping: SIGINT", "heard SIGTERM", "[pm3] web: stopped", "[pm3] exit 0: SIGINT"] {
            has(&screen, line);
        }
        has_not(&screen, "heard SIGINT");
        assert_eq!(init.proc.end(), End::Code(0));
    }
}

#[test]
fn usr1_tells_the_state() {
    let world = World::new();
    world.plan(&(idle("web", "instances = 2") + &app("job", &["exit:0"], "kind = \"oneshot\"")));
    let mut init = world.boot(Ns::pid1());
    init.lines(2);
    init.told("job: finished, exit 0");
    let pid = init.pid(1);
    init.signal(Sig::USR1);
    let line = init.told("web-1: id 1, online");
    assert!(line.contains(&format!(", pid {pid}, up ")) && line.ends_with(" s, 0 restarts"), "{line}");
    assert!(init.told("job: id 2").contains("finished"));
    init.stop(0);
}

#[test]
fn the_reason_is_told_where_kubernetes_looks() {
    let world = World::new();
    let log = world.write("termination-log", "");
    world.plan(&(format!("[pm3]\ntermination_log = {log:?}\n") + &app("job", &["exit:3"], "kind = \"oneshot\"")));
    world.boot(Ns::pid1()).ends(3);
    let told = world.read("termination-log");
    assert_eq!(told, "pm3: exit 3: nothing is left to run, job was the first to fail\njob: exit 3\n");
}

#[test]
fn a_reason_that_cannot_be_told_holds_nobody_up_and_overwrites_nothing() {
    let world = World::new();
    let kept = world.write("kept", "kept");
    std::os::unix::fs::symlink(&kept, world.path("link")).unwrap();
    let _nobody_reads = world.fifo("fifo");
    for (name, why) in [("fifo", "no such device or address"), ("link", "too many symbolic links encountered")] {
        let settings = format!("[pm3]\ntermination_log = {:?}\n", world.path(name));
        world.plan(&(settings + &app("job", &["exit:3"], "kind = \"oneshot\"")));
        let log = world.boot(Ns::pid1()).ends(3);
        has(&log, &format!("cannot write the reason to termination_log {}: {why}", world.path(name)));
    }
    assert_eq!(world.read("kept"), "kept");
}

#[test]
fn what_is_left_in_other_sessions_is_ended_too() {
    for ns in both() {
        let world = World::new();
        let mut holders = world.holders("holders");
        let hold = format!("hold:{}", world.path("holders"));
        let mut gate = world.gate("gate");
        let pass = format!("gate:{}", gate.path);
        // One that listens, and one that neither does nor carries the run's mark.
        let polite = ["orphan", "[", &hold, "say:left", "pause", "]"];
        let rude = ["orphan", "[", &hold, "nameless", "[", "deaf", "say:left", "pause", "]", "]"];
        let words = [&polite[..], &rude, &[&pass, "exit:6"]].concat();
        let keys = "main = true\nautorestart = \"never\"\ntreekill = false";
        world.plan(&("[pm3]\nstop_budget = \"500ms\"\n".to_owned() + &app("job", &words, keys)));
        let mut init = world.boot(ns);
        init.lines(2);
        gate.open();
        let log = init.ends(6);
        has(&log, "2 processes are left, sending SIGTERM");
        has(&log, "1 process is left, sending SIGKILL");
        assert_eq!(holders.rest(), ["held", "held"]);
    }
}

#[test]
fn an_end_that_may_be_the_first_sign_of_a_stop_waits_for_it() {
    // Dead of the signal, or handled it and left as programs do.
    let leaves = |code| ["listen", "say:up", "hear:TERM", code];
    for (words, code) in [(&["say:up", "pause"][..], 143), (&leaves("exit:0"), 0), (&leaves("exit:143"), 143)] {
        let world = World::new();
        world.plan(&("[pm3]\nsettle_time = \"1h\"\n".to_owned() + &app("job", words, "main = true")));
        let mut init = world.boot(Ns::pid1());
        init.proc.expect("up");
        init.signal_inside(init.pid(0), Sig::TERM);
        // Nothing is said of it until it is clear what it was.
        while init.row(0)["status"] != "waiting restart" {
            assert_eq!(init.row(0)["restarts"], 0);
        }
        has_not(&init.stop(code), "restarting");
    }
}

/// The pids of init's children as this side sees them.
fn children(of: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

#[test]
fn a_term_that_everybody_gets_at_once_is_no_crash() {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut draw = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    for round in 0..100 {
        // The main app dies of the signal, or answers it with an exit of its own.
        let (words, code) =
            [(&["say:up", "pause"][..], 143), (&["listen", "say:up", "hear:TERM", "exit:0"], 0)][round % 2];
        let world = World::new();
        world.plan(&(app("job", words, "main = true") + &app("web", &["say:up", "pause"], "instances = 2")));
        let mut init = world.boot(if round % 4 < 2 { Ns::pid1() } else { Ns::second() });
        init.lines(3);
        let mut all = children(init.proc.pid);
        // The child that read the file may not be reaped yet.
        assert!(all.len() >= 3);
        all.push(init.proc.pid);
        while !all.is_empty() {
            let pid = all.remove(draw(all.len()));
            // It may be gone by now: pm3 has ended it, or has itself ended.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
        let log = init.ends(code);
        let crash = log.iter().find(|line| line.contains("restarting") || line.contains("errored"));
        assert_eq!(crash, None, "round {round}: {log:#?}");
    }
}
