//! Many at once, and nothing at all: a hundred apps that stop, a thousand that start, ten thousand orphans, and a pm3
//! that has nothing to do and does nothing. How fast it is, is for the benchmarks to say.

use std::collections::BTreeSet;
use std::time::Instant;

use pm3::supervisor::event::Sig;

use crate::common::ns::Ns;
use crate::common::{PATIENCE, lacking};
use crate::world::{Init, World, app, both, has_not};

fn idle(name: &str, keys: &str) -> String {
    app(name, &[&format!("say:{name}"), "pause"], keys)
}

#[test]
fn a_hundred_apps_stop() {
    for ns in both() {
        let world = World::new();
        let names: Vec<String> = (0..100).map(|number| format!("app{number:02}")).collect();
        world.plan(&names.iter().map(|name| idle(name, "")).collect::<String>());
        let mut init = world.boot(ns);
        assert_eq!(init.lines(100), names);
        init.signal(Sig::TERM);
        let log = init.ends(0);
        let stopped: BTreeSet<&str> =
            log.iter().filter_map(|line| line.strip_prefix("[pm3] ")?.strip_suffix(": stopped")).collect();
        assert_eq!(stopped.len(), 100);
        has_not(&log, "SIGKILL");
    }
}

/// What pm3 has read so far, in calls (proc_pid_io(5)): most of it is about processes.
fn reads(init: &Init) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{}/io", init.proc.pid)).unwrap();
    io.lines().find_map(|line| line.strip_prefix("syscr: ")).unwrap().parse().unwrap()
}

#[test]
fn four_times_as_many_ends_are_four_times_the_work() {
    if !std::fs::exists("/proc/self/io").unwrap() {
        return lacking("/proc/PID/io (CONFIG_TASK_IO_ACCOUNTING)", 1);
    }
    let [few, many] = [50, 200].map(|count| {
        let world = World::new();
        // Each leaves somebody behind, who has to be found and to be ended.
        let words = ["child", "[", "pause", "]", "say:ready", "pause"];
        world.plan(&(0..count).map(|number| app(&format!("app{number}"), &words, "")).collect::<String>());
        let mut init = world.boot(Ns::pid1());
        init.lines(count);
        let before = reads(&init);
        init.does(&["stop", "all"]);
        let after = reads(&init);
        has_not(&init.stop(0), "SIGKILL");
        after - before
    });
    assert!(many < few * 6, "{few} reads for 50 apps, {many} for 200");
}

#[test]
fn a_thousand_instances_start_each_with_its_number() {
    let world = World::new();
    world.plan(&app("web", &["env:NODE_APP_INSTANCE", "pause"], "instances = 1000"));
    let mut init = world.boot(Ns::pid1());
    let told: BTreeSet<String> = init.lines(1000).into_iter().collect();
    let all: BTreeSet<String> = (0..1000).map(|number| format!("NODE_APP_INSTANCE={number}")).collect();
    assert_eq!(told, all);
    assert_eq!(init.row(999)["index"], 999);
    has_not(&init.stop(0), "SIGKILL");
}

#[test]
fn ten_thousand_orphans_are_reaped() {
    for (ns, count) in both().into_iter().zip([10_000, 1_000]) {
        let world = World::new();
        let crowd = format!("crowd:{count}");
        world.plan(&app("job", &[&crowd, "zombies", "exit:3"], "main = true\nautorestart = false"));
        let mut init = world.boot(ns);
        init.proc.expect(&crowd.replace(':', " "));
        init.proc.expect("zombies none");
        init.ends(3);
    }
}

/// How long pm3 is going to rest: the last number that epoll_wait(2) was given.
fn patience(init: &Init) -> i32 {
    let arguments = init.proc.idle_in(EPOLL_WAIT);
    u64::from_str_radix(arguments[3].trim_start_matches("0x"), 16).unwrap() as i32
}

/// Waits until pm3 rests for this long. Shortly after its last work it tidies up, once; nobody tells of that.
fn rests(init: &Init, enough: impl Fn(i32) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !enough(patience(init)) {
        assert!(Instant::now() < deadline, "pm3 always has something to wait for");
        std::thread::yield_now();
    }
}

#[cfg(target_arch = "x86_64")]
const EPOLL_WAIT: libc::c_long = libc::SYS_epoll_wait;
#[cfg(not(target_arch = "x86_64"))]
const EPOLL_WAIT: libc::c_long = libc::SYS_epoll_pwait;

#[test]
fn with_nothing_to_do_pm3_does_nothing() {
    let world = World::new();
    let mut gate = world.gate("gate");
    // Much happens in the meantime, and none of it is pm3's affair.
    let pass = format!("gate:{}", gate.path);
    let busy = ["busy:2000", "say:warm", &pass, "switches", "busy:2000", "switches", "pause"];
    let crashed = app("crashed", &["exit:1"], "autorestart = false");
    world.plan(&(app("busy", &busy, "") + &app("web", &["pause"], "instances = 10") + &crashed));
    let mut init = world.boot(Ns::pid1());
    init.told("crashed: errored");
    init.does(&["list"]);
    init.proc.expect("warm");
    rests(&init, |patience| patience == -1);
    gate.open();
    let before = init.proc.line();
    init.proc.expect(&before);
    assert_eq!(patience(&init), -1);
    init.stop(0);
}

#[test]
fn only_a_limit_or_a_schedule_lets_pm3_look_at_the_clock() {
    let world = World::new();
    world.plan(&(idle("limited", "max_memory_restart = \"1G\"") + &idle("yearly", "cron_restart = \"0 0 1 1 *\"")));
    let mut init = world.boot(Ns::pid1());
    init.lines(2);
    init.does(&["ping"]);
    let rest = patience(&init);
    assert!((0..=1_000).contains(&rest), "{rest}");
    // Nothing that runs has a limit now, and the next year is far.
    init.does(&["stop", "limited"]);
    rests(&init, |patience| patience > 1_000);
    world.plan(&idle("plain", ""));
    init.signal(Sig::HUP);
    init.proc.expect("plain");
    rests(&init, |patience| patience == -1);
    init.stop(0);
}
