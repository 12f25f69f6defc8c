//! One file with real programs, under the real binary as PID 1: a Node web server, a Python worker, a shell script, and
//! what must come before them (`tests/apps/`). As root and as any other user the same must happen.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use common::dir::Dir;
use common::ns::{Ns, Proc, signal};
use common::world::Process;
use common::{PATIENCE, PM3, needs};
use pm3::supervisor::event::{End, Sig};

/// pm3 with the apps of the file, and what they have said that no test has asked for yet.
struct Apps {
    dir: Dir,
    pm3: Proc,
    said: Vec<String>,
    told: Vec<String>,
}

impl Apps {
    /// Starts the file as this user; None where node or python3 is missing, told as not run.
    fn start(uid: u32) -> Option<Apps> {
        let (node, python) = (needs("node", 1), needs("python3", 1));
        (node.is_some() && python.is_some()).then(|| {
            let dir = Dir::new();
            let ns = Ns::pid1()
                .with(&format!("uid:{uid}"))
                .env("PM3_HOME", dir.path())
                .env("DIR", dir.path())
                .env("PM3_LOG_MODE", "raw");
            let pm3 = ns.start(&[PM3, "init", "tests/apps/pm3.toml"]);
            Apps { dir, pm3, said: Vec::new(), told: Vec::new() }
        })
    }

    /// Waits until some app has said a line with this in it, and takes it.
    #[track_caller]
    fn said(&mut self, text: &str) -> String {
        take(&mut self.said, text, || self.pm3.line())
    }

    /// The same, of pm3's own lines.
    #[track_caller]
    fn told(&mut self, text: &str) -> String {
        take(&mut self.told, text, || self.pm3.err_line())
    }

    /// The port on which this instance of the server says that it listens.
    #[track_caller]
    fn port(&mut self, instance: u32) -> u16 {
        let line = self.said(&format!("web {instance} listens on "));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    /// The pid, as seen from here, of the one process of pm3's namespace that is the wanted one.
    #[track_caller]
    fn find(&self, wanted: impl Fn(&Process) -> bool) -> i32 {
        let all = Process::all_beside(self.pm3.pid).into_iter();
        let mut found = all.filter(|process| wanted(process)).map(|process| process.outside);
        let (Some(pid), None) = (found.next(), found.next()) else { panic!("none or several are the wanted one") };
        pid
    }

    /// Brings the worker a job.
    fn job(&self, text: &str) {
        let mut queue = File::options().write(true).open(self.dir.at("queue")).unwrap();
        writeln!(queue, "{text}").unwrap();
    }
}

/// The first line with this text, of those that are there or else of those to come. What two apps say may come in any
/// order, so a line that is not wanted now is kept.
fn take(kept: &mut Vec<String>, text: &str, mut next: impl FnMut() -> String) -> String {
    if let Some(at) = kept.iter().position(|line| line.contains(text)) {
        return kept.remove(at);
    }
    loop {
        let line = next();
        if line.contains(text) {
            return line;
        }
        kept.push(line);
    }
}

/// The body of an answer; empty where the server ended instead of answering.
fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    match stream.read_to_string(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("GET {path}: {error}"),
    }
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

/// The pid in `… pid N …`.
fn pid(line: &str) -> i32 {
    line.split_whitespace().skip_while(|word| *word != "pid").nth(1).unwrap().parse().unwrap()
}

fn whole_life(uid: u32) {
    let Some(mut apps) = Apps::start(uid) else { return };

    // What comes first, then all others; each instance knows which one it is.
    apps.told("prepare: finished");
    let ports = [apps.port(0), apps.port(1)];
    for (instance, port) in ports.into_iter().enumerate() {
        let answer = get(port, "/");
        assert!(answer.starts_with(&format!("web {instance} pid ")) && answer.ends_with(" says hello\n"), "{answer}");
    }
    apps.said("worker pid ");
    let keeper = pid(&apps.said("keeper pid "));
    assert!(Path::new(&apps.dir.at("kept")).exists());
    apps.job("sums");
    apps.said("worker did sums");

    // A crash: the reason is told, another one comes, the rest goes on.
    let first = pid(&get(ports[0], "/"));
    assert_eq!(get(ports[0], "/crash"), "");
    apps.told("web-0: restarting: exit 9");
    let port = apps.port(0);
    assert_ne!(pid(&get(port, "/")), first);
    apps.job("crash");
    apps.told("worker: restarting: exit 1");
    apps.said("worker pid ");
    apps.job("more sums");
    apps.said("worker did more sums");

    // Memory: the one that grew is restarted, closing in order.
    assert!(get(ports[1], "/grow").starts_with("web 1"));
    let line = apps.told("web-1: stopping with SIGTERM: memory ");
    assert!(line.contains(" over 80M"), "{line}");
    apps.said("web 1 has closed");
    let second = apps.port(1);
    apps.job("grow");
    apps.told("worker: stopping with SIGTERM: memory ");
    apps.said("worker has finished");
    apps.said("worker pid ");

    // A script that ends leaves its child behind, which must not be there twice.
    let script = apps.find(|process| process.inside == keeper);
    let sleeper = apps.find(|process| process.parent == script);
    signal(script, Sig::USR1);
    apps.said("keeper gives up");
    apps.told("keeper: restarting: exit 3");
    apps.said("keeper pid ");
    assert!(!Path::new(&format!("/proc/{sleeper}")).exists(), "the ended script's child is still there");

    // The end: everybody closes in order, and that is a success.
    for port in [port, second] {
        assert!(get(port, "/").ends_with(" says hello\n"));
    }
    apps.pm3.signal(Sig::TERM);
    let said: Vec<String> = apps.pm3.rest();
    let log = apps.pm3.err_rest();
    for line in ["web 0 has closed", "web 1 has closed", "worker has finished", "keeper has tidied up"] {
        assert!(said.iter().any(|one| one == line), "{line:?} is missing: {said:#?}, pm3's log: {log:#?}");
    }
    // What started last ends first.
    let place = |line: &str| said.iter().position(|one| one == line);
    assert!(place("keeper has tidied up") < place("web 0 has closed"), "{said:#?}");
    assert!(!Path::new(&apps.dir.at("kept")).exists());
    assert_eq!(apps.pm3.end(), End::Code(0));
}

#[test]
fn real_apps_live_and_end_as_they_should_under_root() {
    whole_life(0);
}

#[test]
fn real_apps_live_and_end_as_they_should_under_any_uid() {
    whole_life(1000);
}

/// A server that is the point of the container takes it along, with its own exit code.
#[test]
fn the_main_app_ends_everything_with_its_code() {
    if needs("node", 1).is_none() {
        return;
    }
    let dir = Dir::new();
    let text = "[[apps]]\nname = \"web\"\nscript = \"tests/apps/server.js\"\nmain = true\nautorestart = \"never\"\nenv = { PORT = \"0\" }\n\n\
                [[apps]]\nname = \"keeper\"\nscript = \"tests/apps/keeper.sh\"\ninterpreter = \"none\"\n\
                env = { KEPT = \"${DIR}/kept\" }\n";
    let file = dir.file("pm3.toml", text);
    let ns = Ns::pid1().env("PM3_HOME", dir.path()).env("DIR", dir.path()).env("PM3_LOG_MODE", "raw");
    let mut apps = Apps { pm3: ns.start(&[PM3, "init", &file]), dir, said: Vec::new(), told: Vec::new() };
    let port = apps.port(0);
    apps.said("keeper pid ");
    assert_eq!(get(port, "/crash"), "");
    apps.said("keeper has tidied up");
    assert_eq!(apps.pm3.end(), End::Code(9));
}
