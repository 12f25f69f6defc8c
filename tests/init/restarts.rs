//! When an app runs again, and when it does not: crashes, limits, one-shots, order, operators, schedules.

use pm3::supervisor::event::Sig;

use crate::common::ns::Ns;
use crate::world::{World, app, both, entry, has, has_not};

const ONCE: &str = "kind = \"oneshot\"";

fn idle(name: &str, keys: &str) -> String {
    app(name, &[&format!("say:{name} is up"), "pause"], keys)
}

/// pm3's lines about one app, without the pids.
fn about(log: &[String], name: &str) -> Vec<String> {
    let of_app = log.iter().filter_map(|line| {
        let text = line.strip_prefix("[pm3] ")?;
        let text = ["warn: ", "error: "].iter().find_map(|level| text.strip_prefix(level)).unwrap_or(text);
        Some(text.strip_prefix(name)?.strip_prefix(": ")?.split(", pid").next().unwrap().to_owned())
    });
    of_app.collect()
}

#[test]
fn a_crash_is_restarted_at_once_and_the_limit_is_the_end() {
    for ns in both() {
        let world = World::new();
        world.plan(&app("web", &["exit:3"], "max_restarts = 3\nmin_uptime = \"1h\""));
        let log = world.boot(ns).ends(3);
        let expected = [
            "online",
            "restarting: exit 3",
            "online",
            "restarting: exit 3",
            "online",
            "errored after 3 short runs, the last: exit 3",
        ];
        assert_eq!(about(&log, "web"), expected);
    }
}

#[test]
fn the_usual_limit_is_sixteen_short_runs() {
    let world = World::new();
    world.plan(&app("web", &["die:SEGV"], ""));
    let log = world.boot(Ns::pid1()).ends(139);
    has(&log, "web: errored after 16 short runs, the last: SIGSEGV");
    assert_eq!(log.iter().filter(|line| line.contains("web: restarting: SIGSEGV")).count(), 15);
}

#[test]
fn a_kill_is_restarted_at_once_and_a_term_once_it_is_clear_that_pm3_gets_none() {
    for ns in both() {
        let world = World::new();
        world.plan(&idle("web", ""));
        let mut init = world.boot(ns);
        for sig in [Sig::KILL, Sig::TERM, Sig::INT] {
            init.proc.expect("web is up");
            init.signal_inside(init.pid(0), sig);
            init.told(&format!("web: restarting: {sig}"));
        }
        init.proc.expect("web is up");
        assert_eq!((init.row(0)["restarts"].as_u64(), init.row(0)["reason"].as_str()), (Some(3), Some("SIGINT")));
        init.stop(0);
    }
}

#[test]
fn back_off_grows_by_half_and_the_limit_counts_under_it() {
    let world = World::new();
    world.plan(&app("web", &["exit:1"], "exp_backoff_restart_delay = 20\nmax_restarts = 6"));
    let log = world.boot(Ns::pid1()).ends(1);
    let waits: Vec<String> = about(&log, "web").into_iter().filter(|line| line.starts_with("restarting")).collect();
    let expected = [20, 30, 45, 67, 100].map(|ms| format!("restarting in {ms} ms: exit 1"));
    assert_eq!(waits, expected);
}

#[test]
fn a_restart_delay_is_the_same_each_time() {
    let world = World::new();
    world.plan(&app("web", &["exit:1"], "restart_delay = \"20ms\"\nmax_restarts = 3"));
    let log = world.boot(Ns::pid1()).ends(1);
    assert_eq!(log.iter().filter(|line| line.contains("web: restarting in 20 ms: exit 1")).count(), 2);
}

#[test]
fn a_run_that_is_long_enough_does_not_count() {
    let world = World::new();
    let mut gate = world.gate("gate");
    let pass = format!("gate:{}", gate.path);
    world.plan(&app("web", &[&pass, "exit:1"], "max_restarts = 2\nmin_uptime = 0"));
    let mut init = world.boot(Ns::pid1());
    for _ in 0..5 {
        init.told("web: online");
        gate.open();
        init.told("web: restarting: exit 1");
    }
    assert_eq!(init.row(0)["restarts"], 5);
    init.stop(0);
}

#[test]
fn autorestart_and_stop_exit_codes_say_which_ends_are_final() {
    for (word, keys, last) in [
        ("exit:0", "autorestart = \"on-failure\"", "finished, exit 0"),
        ("exit:0", "autorestart = \"never\"", "finished, exit 0"),
        ("exit:9", "autorestart = false", "errored: exit 9"),
        ("exit:9", "stop_exit_codes = [3, 9]", "finished, exit 9"),
        ("exit:9", "autorestart = \"on-failure\"\nmax_restarts = 1", "errored after 1 short runs, the last: exit 9"),
        ("exit:0", "autorestart = true\nmax_restarts = 1", "errored after 1 short runs, the last: exit 0"),
    ] {
        let world = World::new();
        world.plan(&app("job", &[word], keys));
        let mut init = world.boot(Ns::pid1());
        init.proc.end();
        assert_eq!(about(&init.proc.err_rest(), "job"), ["online", last], "{word} {keys}");
    }
}

#[test]
fn others_wait_for_a_one_shot_that_must_succeed() {
    for ns in both() {
        let world = World::new();
        let mut gate = world.gate("gate");
        let migrate = app("migrate", &["say:migrating", &format!("gate:{}", gate.path), "exit:0"], ONCE);
        world.plan(&(idle("web", "requires = \"migrate\"\ninstances = 2") + &migrate));
        let mut init = world.boot(ns);
        init.told("web-0: waiting for migrate");
        init.proc.expect("migrating");
        assert_eq!(init.row(0)["status"], "waiting");
        gate.open();
        init.told("migrate: finished, exit 0");
        assert_eq!(init.lines(2), ["web is up", "web is up"]);
        init.stop(0);
    }
}

#[test]
fn what_requires_a_failure_fails_with_it_and_recovers_with_it() {
    let world = World::new();
    let migrate = ["first:MARK", "[", "exit:5", "]", "exit:0"];
    let migrate = migrate.map(|word| word.replace("MARK", &world.path("mark")));
    let migrate = app("migrate", &migrate.each_ref().map(String::as_str), ONCE);
    let off = "[pm3]\nexit_policy = \"never\"\n".to_owned();
    world.plan(&(off + &idle("web", "requires = \"migrate\"") + &idle("after", "after = \"migrate\"") + &migrate));
    let mut init = world.boot(Ns::pid1());
    init.told("migrate: errored: exit 5");
    init.told("web: errored: requires migrate");
    // Order alone is satisfied with an end.
    init.proc.expect("after is up");
    assert_eq!(init.row(0)["reason"], "requires migrate");
    init.does(&["start", "migrate"]);
    init.proc.expect("web is up");
    init.stop(0);
}

#[test]
fn a_service_is_waited_for_until_it_is_online() {
    let world = World::new();
    world.plan(&(idle("c", "after = [\"b\"]") + &idle("b", "requires = \"a\"") + &idle("a", "autostart = false")));
    let mut init = world.boot(Ns::pid1());
    // What is required is started, though it would not start by itself.
    for name in ["a", "b", "c"] {
        init.told(&format!("{name}: online"));
    }
    init.stop(0);
}

#[test]
fn operators_stop_start_and_restart() {
    for ns in both() {
        let world = World::new();
        world.plan(&(idle("web", "instances = 2\nnamespace = \"site\"") + &idle("off", "autostart = false")));
        let mut init = world.boot(ns);
        init.lines(2);
        let mut said = init.does(&["stop", "site"]);
        said.truncate(3);
        // Whoever ends first is told first.
        said[1..].sort_unstable();
        assert_eq!(
            said,
            ["[PM3] Applying action stop on app [site](ids: [ 0, 1 ])", "[PM3] [web](0) ✓", "[PM3] [web](1) ✓"]
        );
        // Stopped by a person is not over: pm3 stays, for the person to start it again.
        assert_eq!(init.row(1)["status"], "stopped");
        init.does(&["start", "1", "off"]);
        assert_eq!(init.lines(2), ["off is up", "web is up"]);
        let pid = init.pid(1);
        init.does(&["restart", "web"]);
        assert_eq!(init.lines(2), ["web is up", "web is up"]);
        let row = init.row(1);
        assert_ne!(row["pid"], pid);
        assert_eq!((row["status"].as_str(), row["reason"].as_str()), (Some("online"), Some("operator")));
        let (code, _, err) = init.pm3(&["restart", "wbe"]);
        assert_eq!((code, &*err.concat()), (1, "[PM3][ERROR] wbe: no such app, namespace or id; did you mean web?"));
        init.stop(0);
    }
}

#[test]
fn an_operators_start_forgives_old_crashes() {
    let world = World::new();
    let crash =
        ["first:MARK", "[", "exit:1", "]", "say:up", "pause"].map(|word| word.replace("MARK", &world.path("m")));
    let off = "[pm3]\nexit_policy = \"never\"\n".to_owned();
    world.plan(&(off + &app("web", &crash.each_ref().map(String::as_str), "max_restarts = 1")));
    let mut init = world.boot(Ns::pid1());
    init.told("web: errored after 1 short runs");
    init.does(&["start", "web"]);
    init.proc.expect("up");
    assert_eq!(init.row(0)["status"], "online");
    init.stop(0);
}

#[test]
fn what_outlives_the_main_process_is_ended_before_the_next_run() {
    for ns in both() {
        let world = World::new();
        let mut holders = world.holders("holders");
        let mut gate = world.gate("gate");
        let (hold, pass) = (format!("hold:{}", world.path("holders")), format!("gate:{}", gate.path));
        let first = format!("first:{}", world.path("mark"));
        // A child that ignores the stop signal, and one in a session of its own.
        let words = [
            &first,
            "[",
            "child",
            "[",
            "deaf",
            &hold,
            "say:left",
            "pause",
            "]",
            "orphan",
            "[",
            &hold,
            "say:left",
            "pause",
            "]",
            &pass,
            "exit:1",
            "]",
            "say:again",
            "pause",
        ];
        world.plan(&app("web", &words, "kill_timeout = \"50ms\""));
        let mut init = world.boot(ns);
        assert_eq!(init.lines(2), ["left", "left"]);
        gate.open();
        init.told("web: its main process ended, sending SIGTERM to those it left");
        init.told("web: still there after its grace, sending SIGKILL");
        init.told("web: restarting: exit 1");
        assert_eq!(holders.rest(), ["held", "held"]);
        init.proc.expect("again");
        init.stop(0);
    }
}

#[test]
fn what_makes_new_processes_while_it_is_killed_is_killed_too() {
    for ns in both() {
        let world = World::new();
        let one = ["orphan", "[", "deaf", "flee", "]"];
        let words = [&one.repeat(4)[..], &["say:up", "pause"]].concat();
        world.plan(&app("web", &words, "kill_timeout = \"100ms\""));
        let mut init = world.boot(ns);
        init.proc.expect("up");
        // Who makes orphans faster than they are reaped does not keep pm3 from the others.
        init.does(&["ping"]);
        init.does(&["stop", "web"]);
        has_not(&init.stop(0), "left, sending");
    }
}

#[test]
fn without_treekill_what_is_left_stays() {
    let world = World::new();
    let mut gate = world.gate("gate");
    let pass = format!("gate:{}", gate.path);
    let first = format!("first:{}", world.path("mark"));
    let words = [
        &*first,
        "[",
        "orphan",
        "[",
        "say:left",
        &pass,
        "say:alive",
        "pause",
        "]",
        &pass,
        "exit:1",
        "]",
        "say:again",
        "pause",
    ];
    world.plan(&app("web", &words, "treekill = false"));
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("left");
    // Both wait at the gate; the app's own process may be second.
    gate.open();
    gate.open();
    assert_eq!(init.lines(2), ["again", "alive"]);
    init.does(&["restart", "web"]);
    init.proc.expect("again");
    // At the very end nothing stays.
    has(&init.stop(0), "1 process is left, sending SIGTERM");
}

#[test]
fn a_stop_signal_goes_to_the_main_process_alone() {
    let world = World::new();
    // A master that drains its workers itself; signalled behind its back, they would be gone before.
    let worker = ["child", "[", "say:worker", "hear:USR1", "exit:4", "]"];
    let master = ["say:master", "hear:TERM", "group:USR1", "reap", "exit:0"];
    world.plan(&app("web", &[&["listen"], &worker[..], &master].concat(), ""));
    let mut init = world.boot(Ns::pid1());
    assert_eq!(init.lines(2), ["master", "worker"]);
    init.signal(Sig::TERM);
    assert_eq!(init.lines(3), ["heard SIGTERM", "heard SIGUSR1", "reaped code 4"]);
    has_not(&init.ends(0), "web: its main process ended");
}

#[test]
fn a_schedule_restarts_each_second() {
    let world = World::new();
    world.plan(
        &(idle("web", "cron_restart = \"* * * * * *\"")
            + &app("job", &["say:job", "exit:0"], "kind = \"oneshot\"\ncron_restart = \"* * * * * *\"")),
    );
    let mut init = world.boot(Ns::pid1());
    for _ in 0..2 {
        init.told("web: stopping with SIGTERM: cron");
        init.told("web: online");
    }
    init.does(&["stop", "web"]);
    // A one-shot runs at each occurrence, and what a person stopped stays stopped.
    let finished = |init: &mut crate::world::Init| init.told("job: finished, exit 0");
    for _ in 0..2 {
        finished(&mut init);
    }
    assert_eq!(init.row(0)["status"], "stopped");
    assert!(init.row(0)["restarts"].as_u64().unwrap() >= 2);
    init.stop(0);
}

#[test]
fn an_app_that_stops_itself_is_left_alone() {
    let world = World::new();
    let nap = entry("nap", "/bin/sh", &["-c", "kill -STOP $$$$; echo awake"], "kind = \"oneshot\"");
    world.plan(&(nap + &idle("web", "")));
    let mut init = world.boot(Ns::pid1());
    let pid = init.online("nap");
    while !stopped(&init, pid) {
        std::thread::yield_now();
    }
    // Nobody has taken it for dead.
    assert_eq!(init.row(0)["status"], "online");
    init.signal_inside(pid, Sig::CONT);
    assert_eq!(init.lines(2), ["awake", "web is up"]);
    init.told("nap: finished, exit 0");
    init.stop(0);
}

fn stopped(init: &crate::world::Init, pid: u32) -> bool {
    let (_, out, _) = init.proc.inside(&["/bin/sh", "-c", &format!("read line < /proc/{pid}/stat; echo $line")], &[]);
    out.concat().contains(") T ")
}
