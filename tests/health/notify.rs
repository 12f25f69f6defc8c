//! What apps say themselves: by sd_notify, by a newline on a descriptor, and by heartbeats that stop.

use crate::common::lacking;
use crate::common::ns::Ns;
use crate::world::{World, app, both, has};

#[test]
fn it_is_ready_when_it_says_so_and_its_status_is_shown() {
    for ns in both() {
        let world = World::new();
        let mut gate = world.gate("gate");
        let words = [
            "env:WATCHDOG_USEC",
            "notify:STATUS=warming up",
            &format!("gate:{}", world.path("gate")),
            "notify:READY=1;STATUS=3 clients;MAINPID=1",
            "say:said",
            "pause",
        ];
        world.plan(
            &(app("web", &words, "ready = \"notify\"\nlisten_timeout = \"1h\"")
                + &app("api", &["say:api", "pause"], "requires = [\"web\"]")),
        );
        let mut init = world.boot(ns);
        init.proc.expect("WATCHDOG_USEC unset");
        while init.row(0)["says"] != "warming up" {}
        assert_eq!(init.row(0)["status"], "launching");
        gate.open();
        init.told("web: online");
        let mut said = init.lines(2);
        said.sort();
        assert_eq!(said, ["api", "said"]);
        assert_eq!(init.row(0)["says"], "3 clients");
        let shown = init.does(&["show", "web"]);
        has(&shown, "3 clients");
        has(&shown, "it says READY=1; that may take 60 min");
        // It is the run's: the next one has said nothing.
        let mut restart = init.begins(&["restart", "web"]);
        init.told("web: stopping");
        while init.row(0)["says"] != "warming up" {}
        gate.open();
        assert!(restart.wait().unwrap().success());
        init.stop(0);
    }
}

#[test]
fn a_new_process_takes_over_when_it_says_that_it_is_ready() {
    let world = World::new();
    let mut gate = world.gate("gate");
    let words = [&format!("gate:{}", world.path("gate")), "notify:READY=1", "pause"];
    world.plan(&app("web", &words, "ready = \"notify\"\nlisten_timeout = \"1h\""));
    let mut init = world.boot(Ns::pid1());
    gate.open();
    let old = init.online("web");
    let mut reload = init.begins(&["reload", "web"]);
    init.told("web: the new process, pid");
    assert_eq!(init.pid(0), old);
    gate.open();
    assert_ne!(init.online("web"), old);
    assert!(reload.wait().unwrap().success());
    init.stop(0);
}

#[test]
fn what_is_no_message_of_the_apps_does_no_harm() {
    let world = World::new();
    let long = "x".repeat(5_000);
    let words = [
        &*format!("notify:READY=1;{long}"),
        "notify:ready=1;READY=0;;FDSTORE=1",
        "notify:READY=1",
        "say:ready",
        "pause",
    ];
    world.plan(&app("web", &words, "ready = \"notify\"\nlisten_timeout = \"1h\""));
    let mut init = world.boot(Ns::pid1());
    init.told("web: online");
    init.proc.expect("ready");
    init.stop(0);
}

#[test]
fn one_whose_heart_stops_is_replaced_and_one_whose_heart_beats_is_not() {
    let world = World::new();
    world.plan(
        &(app("good", &["env:WATCHDOG_USEC", "beats:20"], "watchdog = \"2s\"")
            + &app("bad", &["notify:WATCHDOG=1", "pause"], "watchdog = 100")
            + &app("ill", &["notify:WATCHDOG=trigger", "pause"], "watchdog = \"1h\"\nrestart_delay = 10")),
    );
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("WATCHDOG_USEC=2000000");
    init.told("ill: stopping with SIGTERM: watchdog: it asked for a restart");
    for _ in 0..25 {
        init.told("bad: stopping with SIGTERM: watchdog: no heartbeat for 100 ms");
    }
    assert_eq!(init.row(0)["restarts"], 0);
    assert_eq!(init.row(1)["reason"], "watchdog: no heartbeat for 100 ms");
    init.stop(0);
}

#[test]
fn a_newline_on_a_descriptor_makes_it_ready_as_in_s6() {
    for number in [3, 5, 9] {
        let world = World::new();
        let mut gate = world.gate("gate");
        let script =
            format!("printf no >&{number}; head -c 1 gate; echo >&{number}; exec {number}>&-; exec sleep 1000");
        world.plan(&format!(
            "[[apps]]\nname = \"web\"\nscript = \"/bin/sh\"\nargs = [\"-c\", {script:?}]\ncwd = {:?}\n\
             ready = \"fd:{number}\"\nlisten_timeout = \"1h\"\n",
            world.path("")
        ));
        let mut init = world.boot(Ns::pid1());
        init.told("pm3 ");
        assert_eq!(init.row(0)["status"], "launching");
        gate.open();
        init.told("web: online");
        init.stop(0);
    }
}

#[test]
fn only_the_descriptor_that_it_is_told_of_is_open_in_it() {
    let world = World::new();
    world.plan(&app("web", &["fds", "pause"], "ready = \"fd:200\"\nlisten_timeout = 100"));
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("fds 0 1 2 200");
    init.stop(0);
}

#[test]
fn it_is_ready_when_it_listens() {
    let world = World::new();
    let mut gate = world.gate("gate");
    let words = [&*format!("gate:{}", world.path("gate")), "try:127.0.0.1:0", "try:127.0.0.1:64123", "pause"];
    world.plan(&app("web", &words, "ready = \"listen\"\nlisten_timeout = \"1h\""));
    let mut init = world.boot(Ns::pid1());
    init.told("pm3 ");
    assert_eq!(init.row(0)["status"], "launching");
    gate.open();
    init.told("web: online");
    init.stop(0);
}

#[test]
fn one_that_stands_still_is_replaced_though_it_hears_no_signal() {
    let world = World::new();
    world.plan(&app("web", &["say:up", "stop:STOP"], "watchdog = 100\nkill_timeout = 100\nrestart_delay = 10"));
    let mut init = world.boot(Ns::pid1());
    for _ in 0..2 {
        init.proc.expect("up");
        init.told("web: stopping with SIGTERM: watchdog: no heartbeat for 100 ms");
        init.told("web: still there after its grace, sending SIGKILL");
    }
    init.stop(0);
}

#[test]
fn one_that_never_stops_talking_holds_nobody_up() {
    let world = World::new();
    // Each of them as fast as it goes.
    let flood = |text: &str| {
        format!("[[apps]]\nscript = {:?}\nargs = [\"app\", \"floods:{text}\"]", crate::common::this_binary())
    };
    let floods: String = ["WATCHDOG=1", "MAINPID=1", "STATUS=x;RELOADING=1;READY=1", "WATCHDOG=trigger", "x"]
        .iter()
        .enumerate()
        .map(|(at, text)| flood(text) + &format!("\nname = \"flood{at}\"\nwatchdog = \"1h\"\noverlap = true\n"))
        .collect();
    let words = ["notify:READY=1", "say:up", "pause"];
    world.plan(&(floods + &app("web", &words, "ready = \"notify\"\nlisten_timeout = \"1h\"")));
    let mut init = world.boot(Ns::pid1());
    init.told("web: online");
    init.proc.expect("up");
    for _ in 0..3 {
        init.does(&["restart", "web"]);
        init.proc.expect("up");
    }
    assert_eq!(init.row(5)["status"], "online");
    init.stop(0);
}

#[test]
fn nobody_takes_the_name_of_a_socket_that_is_to_come() {
    let world = World::new();
    let words = ["notify:READY=1", "pause"];
    let keys = "ready = \"notify\"\nlisten_timeout = \"1h\"\nrequires = [\"squatter\"]";
    world.plan(
        &(app("squatter", &["squats:100", "notify:READY=1", "pause"], "ready = \"notify\"\nlisten_timeout = \"1h\"")
            + &app("web", &words, keys)),
    );
    let mut init = world.boot(Ns::pid1());
    init.told("web: online");
    init.stop(0);
}

#[test]
fn what_another_user_says_in_its_name_is_not_heard() {
    if !nix::unistd::geteuid().is_root() {
        return lacking("root", 1);
    }
    let world = World::new();
    let mut gate = world.gate("gate");
    let words = ["env:NOTIFY_SOCKET", &format!("gate:{}", gate.path), "notify:STATUS=true;READY=1", "pause"];
    let web = app("web", &words, "ready = \"notify\"\nlisten_timeout = \"1h\"\nuser = \"65534\"");
    world.plan(&web);
    let mut init = world.boot(Ns::pid1().with("rooted"));
    let line = init.proc.line();
    let address = line.strip_prefix("NOTIFY_SOCKET=").unwrap();
    let keys = format!("env = {{ NOTIFY_SOCKET = {address:?} }}\nuser = \"65533\"\ngroup = \"65533\"");
    world.plan(&(web + &app("liar", &["notify:STATUS=a lie;READY=1", "say:liar", "pause"], &keys)));
    init.signal(pm3::supervisor::event::Sig::HUP);
    init.proc.expect("liar");
    // It was sent before, and what was sent is heard before anybody is answered.
    let row = init.row(0);
    assert_eq!((&row["status"], row.get("says")), (&"launching".into(), None), "{row}");
    gate.open();
    init.told("web: online");
    while init.row(0)["says"] != "true" {}
    init.stop(0);
}
