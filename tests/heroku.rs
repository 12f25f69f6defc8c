//! `conf/heroku/` in a dyno: a pid namespace whose PID 1 is not pm3, a user who is not root, the Procfile's own line under
//! `/bin/sh -c`. A dyno ends as Heroku ends it: SIGTERM to every process in it at once, in whatever order, perhaps twice;
//! what is there after 30 s would be killed. Needs node and python3.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::lines::Lines;
use common::ns::{Ns, signal};
use common::world::{Process, World, field};
use common::{PATIENCE, needs};
use pm3::supervisor::event::Sig;

/// What Heroku gives a dyno to end.
const GRACE: Duration = Duration::from_secs(30);

/// A running dyno.
struct Dyno {
    world: World,
    shell: Child,
    log: Lines,
}

/// Who is signalled first.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// pm3, then the apps.
    Pm3First,
    /// The apps, then pm3.
    Pm3Last,
    /// pm3 in between, and everybody a second time.
    Twice,
}

impl Dyno {
    /// The files as they are, or with a change; None where node or python3 is missing.
    fn start(change: impl Fn(String) -> String, config: &[(&str, &str)]) -> Option<Dyno> {
        let (node, python) = (needs("node", 1), needs("python3", 1));
        if node.is_none() || python.is_none() {
            return None;
        }
        let mut world = World::bare_in(Ns::pid1().with("uid:1000"));
        world.unset("PM3_HOME");
        world.set("DYNO", "web.1");
        // Any that is free.
        world.set("PORT", "0");
        world.set("MEMORY_AVAILABLE", "512");
        for (name, value) in config {
            world.set(name, value);
        }
        world.app("index.js", "server.js");
        world.app("hello-world.py", "clock.py");
        world.file("pm3.toml", &change(fs::read_to_string("conf/heroku/pm3.toml").unwrap()));

        Some(Dyno::boot(world, &procfile("web")))
    }

    /// Runs a process type's command in this world.
    fn boot(world: World, line: &str) -> Dyno {
        let mut command = world.command(&["/bin/sh", "-c", line]);
        let mut shell = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Lines::new("pm3's log", shell.stderr.take().unwrap());
        Dyno { world, shell, log }
    }

    /// Heroku's end of a dyno.
    fn signal_all(&self, order: Order) {
        // Its logger is one of the others, and must not mind.
        let (pm3, apps): (Vec<Process>, Vec<Process>) =
            self.world.processes().into_iter().partition(|process| process.line.starts_with("pm3 init"));
        assert!(pm3.len() == 1 && apps.len() >= 2, "{pm3:?} {apps:?}");
        let (first, rest) = apps.split_at(1);
        let all: Vec<&Process> = match order {
            Order::Pm3First => pm3.iter().chain(&apps).collect(),
            Order::Pm3Last => apps.iter().chain(&pm3).collect(),
            Order::Twice => first.iter().chain(&pm3).chain(rest).collect(),
        };
        for process in &all {
            signal(process.outside, Sig::TERM);
        }
        if let Order::Twice = order {
            for process in all {
                // Whoever has left already hears nothing, which is as good.
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(process.outside), nix::sys::signal::SIGTERM);
            }
        }
    }

    /// Waits for the end of the Procfile's command: its code, pm3's lines, and what apps told that no test has taken.
    fn end(mut self) -> (i32, Vec<String>, Vec<String>) {
        let log = self.log.rest();
        let code = self.shell.wait().unwrap().code().unwrap();
        let left: Vec<Process> = self.world.processes().into_iter().filter(|process| !process.is_gone()).collect();
        assert!(left.is_empty(), "left behind: {left:#?}; pm3's log: {log:#?}");
        (code, log, self.world.untaken())
    }
}

/// The command of a process type.
fn procfile(kind: &str) -> String {
    let text = fs::read_to_string("conf/heroku/Procfile").unwrap();
    let commands: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(&format!("{kind}: "))).collect();
    assert_eq!(commands.len(), 1, "{text}");
    commands[0].to_owned()
}

fn as_it_is(text: String) -> String {
    text
}

/// Everybody drains, the request at hand too; nobody is started again; the exit code is the web server's.
fn drains(order: Order) {
    let Some(mut dyno) = Dyno::start(as_it_is, &[]) else { return };
    let port: u16 = field(&dyno.world.told("up web 0 "), "port").parse().unwrap();
    dyno.world.told("up clock 0 ");
    let mut request = TcpStream::connect(("127.0.0.1", port)).unwrap();
    request.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(request, "GET /last HTTP/1.0\r\n\r\n").unwrap();
    // The server has one thread: once it answers this, it has the other at hand.
    let mut other = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(other, "GET / HTTP/1.0\r\n\r\n").unwrap();
    other.read_to_string(&mut String::new()).unwrap();

    dyno.signal_all(order);
    dyno.world.told("bye web 0 ");
    dyno.world.told("bye clock 0 ");
    let mut answer = String::new();
    request.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("the last one\n"), "{answer}");
    let (code, log, told) = dyno.end();
    assert_eq!(code, 0, "{log:#?}");
    assert_eq!(told, [""; 0], "{order:?}: {log:#?}");
    assert!(!log.iter().any(|line| line.contains("restarting")), "{order:?}: {log:#?}");
}

#[test]
fn a_dyno_drains_if_pm3_hears_of_it_first() {
    drains(Order::Pm3First);
}

#[test]
fn a_dyno_drains_if_the_apps_hear_of_it_first() {
    drains(Order::Pm3Last);
}

#[test]
fn a_dyno_drains_if_everybody_is_told_twice() {
    drains(Order::Twice);
}

/// Apps that do not listen are ended in time. The times are a tenth of the file's, which must be short enough itself.
#[test]
fn a_deaf_dyno_ends_in_time() {
    let text = fs::read_to_string("conf/heroku/pm3.toml").unwrap();
    assert!(text.contains("stop_budget = \"25s\"") && text.contains("kill_timeout = \"20s\""));
    let tenth = |text: String| text.replace("25s", "2500ms").replace("20s", "2s");
    let Some(mut dyno) = Dyno::start(tenth, &[]) else { return };
    dyno.world.told("up web 0 ");
    dyno.world.told("up clock 0 ");
    // Stopped processes do nothing about a TERM.
    for process in dyno.world.processes().iter().filter(|process| !process.line.starts_with("pm3 ")) {
        signal(process.outside, Sig::STOP);
    }
    let began = Instant::now();
    dyno.signal_all(Order::Pm3Last);
    let (code, log, told) = dyno.end();
    let took = began.elapsed();
    // The web server was killed: that is its code.
    assert_eq!((code, told), (137, vec![]), "{log:#?}");
    assert!(took < GRACE / 10, "{took:?}: {log:#?}");
}

/// The dyno is what its web server is.
#[test]
fn a_crash_of_the_web_server_ends_the_dyno_with_its_code() {
    let Some(mut dyno) = Dyno::start(as_it_is, &[]) else { return };
    dyno.world.told("up web 0 ");
    dyno.world.told("up clock 0 ");
    let web = dyno.world.processes().into_iter().find(|process| process.line.ends_with("server.js")).unwrap();
    signal(web.outside, Sig(11));
    dyno.world.told("bye clock 0 ");
    let (code, log, told) = dyno.end();
    assert_eq!((code, told), (139, vec![]), "{log:#?}");
}

/// `$WEB_CONCURRENCY` counts where the file does not; `$DYNO` and `$PORT` are the apps' too.
#[test]
fn the_platform_says_how_many_servers_there_are() {
    let shared = |text: String| text.replace("instances = 1\n", "args = [\"$DYNO\", \"$PORT\"]\n");
    let Some(mut dyno) = Dyno::start(shared, &[("WEB_CONCURRENCY", "2"), ("PORT", "")]) else { return };
    for instance in ["0", "1"] {
        assert!(dyno.world.told(&format!("up web {instance} ")).ends_with("args=web.1,"));
    }
    dyno.world.told("up clock 0 ");
    let said = dyno.world.run(&["pm3", "list"]).ok();
    assert_eq!(said.out.matches("online").count(), 3, "{said:?}");
    let plan = dyno.world.run(&["pm3", "check", "pm3.toml"]).ok();
    plan.says("stopping takes 25s at most").says("memory   restarted above ");
    dyno.signal_all(Order::Twice);
    let (code, log, _) = dyno.end();
    assert_eq!(code, 0, "{log:#?}");
}

/// PM2's own files and words do in a Procfile: where `$DYNO` is set, `pm3 start` stays in the foreground.
#[test]
fn start_is_the_dynos_supervisor() {
    if needs("node", 1).is_none() {
        return;
    }
    let mut world = World::bare_in(Ns::pid1().with("uid:1000"));
    world.unset("PM3_HOME");
    world.set("DYNO", "web.1");
    world.app("index.js", "index.js");
    let file =
        "module.exports = { apps: [{ name: 'web', script: 'index.js' }, { name: 'other', script: 'index.js' }] }\n";
    world.file("ecosystem.config.js", file);
    let mut dyno = Dyno::boot(world, "exec pm3 start ecosystem.config.js");
    dyno.world.told("up web 0 ");
    dyno.world.told("up other 0 ");
    dyno.signal_all(Order::Twice);
    dyno.world.told("bye web 0 ");
    dyno.world.told("bye other 0 ");
    let (code, log, told) = dyno.end();
    assert_eq!((code, told), (0, vec![]), "{log:#?}");
}

/// A dyno tells its memory in the file of a control group of version 1, whether or not it shows the mount of it; else the
/// buildpack's variable counts.
#[test]
fn a_share_of_memory_is_one_of_the_dynos() {
    let mut world = World::bare_in(Ns::pid1().with("uid:1000").with("hide:/sys/fs/cgroup"));
    world.set("PORT", "5000");
    world.file("pm3.toml", &fs::read_to_string("conf/heroku/pm3.toml").unwrap());
    world.pm3("check pm3.toml").ends(78).says("$MEMORY_AVAILABLE");
    world.set("MEMORY_AVAILABLE", "1024");
    world.pm3("check pm3.toml").ok().says("restarted above 256M");
    let group = "mkdir /sys/fs/cgroup/memory && echo 536870912 >/sys/fs/cgroup/memory/memory.limit_in_bytes";
    world.run(&["/bin/sh", "-c", group]).ok();
    world.pm3("check pm3.toml").ok().says("restarted above 128M");
}
