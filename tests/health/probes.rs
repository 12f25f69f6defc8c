//! Probes by HTTP, by TCP and by command: what they find, what comes of it, and what `pm3 health` says.

use std::os::fd::AsFd;
use std::os::unix::fs::chown;

use nix::poll::{PollFd, PollFlags, PollTimeout};

use crate::common::ns::Ns;
use crate::common::ports::free_port;
use crate::common::{PATIENCE, lacking};
use crate::world::{Init, World, app, both, has, has_not};

/// An app that answers by HTTP as the files of `dir` say, one for each instance, and its probe.
fn http(world: &World, port: u16, keys: &str, health: &str) -> String {
    let word = format!("http:0.0.0.0:{port}:{}", world.path(""));
    format!("{}[apps.health]\nhttp = \"/healthz\"\ninterval = 100\n{health}\n", app("web", &[&word], keys))
}

/// `pm3 health` with its code and its line.
fn health(init: &Init, words: &[&str]) -> (i32, String) {
    let (code, out, err) = init.pm3(&[&["health"], words].concat());
    assert!(err.is_empty(), "{err:?}");
    (code, out.join("\n"))
}

/// Waits until an app has said this line.
fn until(init: &mut Init, line: &str) {
    while init.proc.line() != line {}
}

#[test]
fn an_app_that_answers_with_an_error_is_replaced_until_it_is_well() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        world.write("0", "200");
        world.plan(&http(&world, port, "", "retries = 2"));
        let mut init = world.boot(ns);
        let old = init.online("web");
        until(&mut init, "healthy 0");
        world.write("0", "503");
        init.told(&format!("web: unhealthy after 2 probes: http 127.0.0.1:{port}/healthz: status 503"));
        init.told(&format!("web: starting a new process beside pid {old}: unhealthy: http 127.0.0.1:{port}/healthz"));
        world.write("0", "204");
        let new = init.online("web");
        init.told("gets no new connections");
        assert_ne!(new, old);
        assert!(init.row(0)["reason"].as_str().unwrap().starts_with("unhealthy: http"), "{}", init.row(0));
        init.stop(0);
    }
}

#[test]
fn a_probe_of_one_instance_reaches_that_instance() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        (0..3).for_each(|index| drop(world.write(&index.to_string(), "200")));
        world.plan(&http(&world, port, "instances = 3", "retries = 1"));
        let mut init = world.boot(ns);
        let mut healthy = ["healthy 0", "healthy 1", "healthy 2"].to_vec();
        while !healthy.is_empty() {
            let line = init.proc.line();
            healthy.retain(|one| *one != line);
        }
        world.write("1", "500");
        init.told("web-1: unhealthy");
        init.told("web-1: starting a new process beside pid");
        world.write("1", "200");
        init.told("web-1: online");
        let restarts = |id| init.row(id)["restarts"].as_u64().unwrap();
        assert_eq!((restarts(0), restarts(2)), (0, 0));
        assert!(restarts(1) >= 1);
        init.stop(0);
    }
}

#[test]
fn one_that_does_not_answer_in_time_is_not_well() {
    let (world, port) = (World::new(), free_port());
    world.write("0", "hang");
    world.plan(&http(&world, port, "overlap = false\nkill_timeout = 100", "retries = 1\ntimeout = 200"));
    let mut init = world.boot(Ns::pid1());
    init.told("web: unhealthy: no answer after 200 ms");
    init.stop(0);
}

#[test]
fn pm3_health_is_an_exit_code_and_a_line_that_says_why() {
    let (world, port) = (World::new(), free_port());
    world.write("0", "200");
    // A reload that cannot be: what is ill stays, to be looked at.
    let keys = "autorestart = \"never\"\nkill_timeout = \"1h\"\noverlap = false";
    let word = format!("http:127.0.0.1:{port}:{}", world.path(""));
    let entry = app("web", &["deaf", &word], keys);
    world.plan(&format!(
        "[pm3]\nstop_budget = 300\n{entry}[apps.health]\nhttp = \"/\"\ninterval = \"1h\"\nstart_period = \"1h\"\nstart_interval = 100\n\
         retries = 1\n{}{}",
        app("plain", &["pause"], ""),
        app("job", &["exit:0"], "kind = \"oneshot\"")
    ));
    world.write("0", "503");
    let mut init = world.boot(Ns::pid1());
    init.told("job: finished");
    until(&mut init, "asked 0");
    assert_eq!(health(&init, &["plain"]), (0, "plain: healthy".into()));
    assert_eq!(init.row(0)["health"], "starting");
    let (code, line) = health(&init, &[]);
    assert_eq!((code, line.starts_with("web: starting")), (1, true), "{line}");
    assert_eq!(health(&init, &["job"]), (1, "job: finished".into()));
    assert_eq!(init.pm3(&["health", "nobody"]).0, 1);
    world.write("0", "200");
    until(&mut init, "healthy 0");
    // Once it has been told.
    while health(&init, &["web"]).0 != 0 {}
    assert_eq!(health(&init, &[]), (0, "healthy: 2 apps".into()));
    has(&init.does(&["show", "web"]), "http where it listens, /; every 60 min, within 30 s; one failure is too many");
    init.does(&["stop", "plain"]);
    assert_eq!(health(&init, &[]), (0, "web: healthy".into()));
    assert_eq!(health(&init, &["plain"]), (1, "plain: stopped".into()));
    init.stop(137);
}

#[test]
fn a_command_says_it_with_its_code_and_its_first_line() {
    let world = World::new();
    let script =
        "head -c 300000 /dev/zero | tr '\\\\0' x; echo; test -e well || { echo 'the db is down' >&2; exit 3; }";
    world.plan(&format!(
        "{}[apps.health]\nexec = [\"/bin/sh\", \"-c\", \"{script}\"]\ninterval = 100\nretries = 2\n",
        app("web", &["pause"], &format!("cwd = {:?}\nkill_timeout = 0", world.path("")))
    ));
    let mut init = world.boot(Ns::pid1());
    init.told("web: unhealthy after 2 probes: exec /bin/sh: exit 3: xxxxx");
    world.write("well", "");
    init.told("web: online");
    while health(&init, &[]).0 != 0 {}
    init.stop(0);
}

#[test]
fn a_command_that_takes_too_long_is_ended_with_all_that_it_has_started() {
    let world = World::new();
    let fifo = world.fifo("held");
    let script = "exec 3< held; sleep 1000 & wait";
    world.plan(&format!(
        "{}[apps.health]\nexec = [\"/bin/sh\", \"-c\", \"{script}\"]\ninterval = 100\ntimeout = 300\nretries = 1\n",
        app("web", &["pause"], &format!("cwd = {:?}\nkill_timeout = 0\nrestart_delay = \"1h\"", world.path("")))
    ));
    let mut init = world.boot(Ns::pid1());
    let held = fifo.opened();
    init.told("web: unhealthy: no answer after 300 ms");
    // Whoever had the other end is gone.
    let mut ends = [PollFd::new(held.as_fd(), PollFlags::empty())];
    let patience = PollTimeout::try_from(PATIENCE).unwrap();
    assert_eq!(nix::poll::poll(&mut ends, patience), Ok(1));
    init.stop(0);
}

#[test]
fn a_probe_that_is_under_way_does_not_hold_up_the_end() {
    let world = World::new();
    let fifo = world.fifo("held");
    world.plan(&format!(
        "{}[apps.health]\nexec = \"sh -c 'exec 3< held; sleep 1000'\"\ninterval = 100\ntimeout = \"1h\"\n",
        app("web", &["pause"], &format!("cwd = {:?}", world.path("")))
    ));
    let init = world.boot(Ns::pid1());
    let _held = fifo.opened();
    // The probe itself hears no SIGTERM.
    has_not(&init.stop(0), "sending SIGKILL");
}

#[test]
fn nobody_listens_and_tcp_says_so() {
    let (world, port) = (World::new(), free_port());
    world.plan(&format!(
        "{}[apps.health]\ntcp = {port}\ninterval = 100\nretries = 1\n",
        app("web", &["pause"], "kill_timeout = 0\nrestart_delay = \"1h\"")
    ));
    let mut init = world.boot(Ns::pid1());
    init.told(&format!("web: unhealthy: tcp 127.0.0.1:{port}: connection refused"));
    init.stop(0);
    let world = World::new();
    world.plan(&format!(
        "{}[apps.health]\ntcp = true\ninterval = 100\nretries = 1\n",
        app("web", &["pause"], "kill_timeout = 0\nrestart_delay = \"1h\"")
    ));
    let mut init = world.boot(Ns::pid1().unless_given(&["PORT"]));
    init.told("web: unhealthy: it listens at no port that pm3 knows of; set port in [apps.health]");
    init.stop(0);
}

#[test]
fn it_is_ready_when_its_first_probe_succeeds_and_so_is_the_next_one() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        world.write("0", "503");
        world.plan(&http(&world, port, "ready = \"health\"\nlisten_timeout = \"1h\"", "start_interval = 100"));
        let mut init = world.boot(ns);
        until(&mut init, "asked 0");
        until(&mut init, "asked 0");
        assert_eq!(init.row(0)["status"], "launching");
        world.write("0", "200");
        let old = init.online("web");
        let out = init.does(&["reload", "web"]);
        assert!(!out.is_empty());
        assert_ne!(init.online("web"), old);
        init.stop(0);
    }
}

#[test]
fn a_command_that_leaves_something_behind_that_never_stops_talking_has_answered() {
    let world = World::new();
    // It talks until nobody listens any more.
    let keys = "health = { exec = [\"/bin/sh\", \"-c\", \"for i in 1 2 3 4 5 6 7 8; do cat /dev/zero & done; exit 0\"], interval = \"100ms\", timeout = \"1h\" }";
    world.plan(&app("web", &["pause"], &format!("{keys}\nready = \"health\"\nlisten_timeout = \"1h\"")));
    let mut init = world.boot(Ns::pid1());
    init.told("web: online");
    init.stop(0);
}

/// What `pm3 health` says of an app, once all of its probes say something.
fn verdict(init: &Init) -> (i32, String) {
    loop {
        let said = health(init, &["web"]);
        if said.1 == "web: healthy" || said.1.contains("unhealthy") {
            return said;
        }
    }
}

#[test]
fn a_port_of_all_addresses_is_probed_without_ipv6_too() {
    for has_ipv6 in [true, false] {
        for probe in ["tcp = true".to_owned(), format!("tcp = {}", free_port())] {
            let (world, port) = (World::new(), free_port());
            let port = probe.strip_prefix("tcp = ").and_then(|given| given.parse().ok()).unwrap_or(port);
            let web = app("web", &["activated:3"], &format!("listen = \":{port}\"\ninstances = 2"));
            world.plan(&format!("{web}[apps.health]\n{probe}\ninterval = 100\nretries = 1\n"));
            let mut init = world.boot(if has_ipv6 { Ns::pid1() } else { Ns::pid1().with("refuse:ipv6") });
            init.lines(2);
            assert_eq!(verdict(&init), (0, "web: healthy".into()), "{probe}");
            init.stop(0);
        }
    }
}

#[test]
fn a_probe_has_the_ids_of_its_app_and_no_more() {
    if !nix::unistd::geteuid().is_root() {
        return lacking("root", 1);
    }
    let world = World::new();
    for (name, id) in [("mine", 65_534), ("others", 65_533)] {
        chown(world.write(name, ""), Some(id), Some(id)).unwrap();
    }
    // To be its own is a matter of the effective ids: test(1).
    let script = "test -O mine && test -G mine && test ! -O others && test ! -r /proc/1/environ";
    let keys = format!("user = \"65534\"\ngroup = \"65534\"\ncwd = {:?}", world.path(""));
    world.plan(&format!(
        "{}[apps.health]\nexec = [\"/bin/sh\", \"-c\", \"{script}\"]\ninterval = 100\nretries = 1\n",
        app("web", &["pause"], &keys)
    ));
    let mut init = world.boot(Ns::pid1().with("rooted"));
    init.told("web: online");
    assert_eq!(verdict(&init), (0, "web: healthy".into()));
    init.stop(0);
}
