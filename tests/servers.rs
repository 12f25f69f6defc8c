//! Real servers, unmodified, from their own packages, clustered: several processes of each serve one port, and while
//! they are reloaded, restarted and scaled under load no request fails. Needs node, npm, python3, nginx, go and rustc,
//! and the packages that `tests/servers/install` brings.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "cluster/clients.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod clients;
mod common;
#[path = "servers/http.rs"]
mod http;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "init/world.rs"]
mod world;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use clients::{Load, free_port};
use common::ns::Ns;
use common::{needs, needs_one_of};
use world::{Init, World};

/// Clients at a time. The machine is busy with starting processes meanwhile.
const CLIENTS: usize = 3;

/// Questions after which each of four has answered, but for once in 10^15.
const QUESTIONS: usize = 128;

/// Where a server is to listen.
struct Place {
    /// 0.0.0.0 or `::`.
    host: IpAddr,
    port: u16,
}

impl Place {
    fn all() -> [Place; 2] {
        let hosts: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        hosts.map(|host| Place { host, port: free_port() })
    }

    /// As `HOST:PORT`, or `[HOST]:PORT`.
    fn address(&self) -> String {
        SocketAddr::from((self.host, self.port)).to_string()
    }

    /// The addresses at which clients find it: `::` is for both families.
    fn found_at(&self) -> Vec<SocketAddr> {
        let mut hosts: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into()];
        hosts.extend(self.host.is_ipv6().then_some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        hosts.into_iter().map(|host| (host, self.port).into()).collect()
    }
}

/// The file of this name in `tests/servers`.
fn ours(name: &str) -> String {
    fs::canonicalize("tests/servers").unwrap().join(name).into_os_string().into_string().unwrap()
}

/// The folder with the packages.
fn packages() -> PathBuf {
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    fs::canonicalize(target).unwrap().join("servers")
}

/// One that `tests/servers/install` brings, or None.
fn package(name: &str) -> Option<PathBuf> {
    let name_here = format!("{name} (tests/servers/install brings it)");
    needs_one_of(&name_here, ["node_modules", "python"].map(|kind| packages().join(kind).join(name)), 1)
}

/// A server under pm3: two processes at first.
struct Served {
    place: Place,
    init: Init,
    world: World,
}

impl Served {
    fn new(place: Place, what: &str) -> Served {
        let world = World::new();
        for name in ["http.js", "package.json"] {
            fs::copy(ours(name), world.path(name)).unwrap();
        }
        for instance in 0..4 {
            fs::create_dir(world.path(&instance.to_string())).unwrap();
            world.write(&format!("{instance}/index.html"), &instance.to_string());
        }
        world
            .write("nginx.conf", &fs::read_to_string(ours("nginx.conf")).unwrap().replace("ADDRESS", &place.address()));
        let cwd = world.path("");
        let keys = ["out_file", "error_file"].map(|key| format!("{key} = {:?}\n", world.path("said"))).concat();
        world.plan(&format!("[[apps]]\nname = \"web\"\n{what}\ncwd = {cwd:?}\ninstances = 2\n{keys}"));
        let ns = Ns::pid1()
            .env("PM3_LOG", "debug")
            .env("HOST", &place.host.to_string())
            .env("PORT", &place.port.to_string())
            .env("ADDRESS", &place.address())
            .env("NODE_PATH", packages().join("node_modules").to_str().unwrap())
            .env("PYTHONPATH", packages().join("python").to_str().unwrap())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("npm_config_update_notifier", "false")
            .env("HOME", &world.path(""));
        let mut init = world.boot(ns);
        for _ in 0..2 {
            init.told("Listening");
        }
        Served { place, init, world }
    }

    /// pm3 does it while clients ask, and all of them are answered.
    #[track_caller]
    fn does(&mut self, words: &[&str]) {
        let at = self.place.found_at();
        let at = at[at.len() - 1];
        let load = Load::asking(CLIENTS, move || http::ask(at));
        self.init.does(words);
        let (answered, failed) = load.end();
        let (count, all) = (failed.len(), answered + failed.len());
        assert!(failed.is_empty(), "{words:?}: {count} of {all} failed: {failed:#?}\n{}", self.story());
        assert!(answered > 0, "nobody asked");
    }

    /// So many answer, at each address.
    #[track_caller]
    fn answer(&mut self, count: usize) {
        for at in self.place.found_at() {
            let begun = std::time::Instant::now();
            // One that is still starting is no reason to fail.
            let who = loop {
                let all: std::io::Result<Vec<String>> = (0..QUESTIONS).map(|_| http::ask(at)).collect();
                let mut who = all.unwrap_or_else(|error| panic!("{at}: {error}\n{}", self.story()));
                who.sort();
                who.dedup();
                if who.len() == count || begun.elapsed() > common::PATIENCE {
                    break who;
                }
            };
            assert_eq!(who.len(), count, "{at}: {who:?}\n{}", self.story());
        }
    }

    /// What happened: the servers' own words, and pm3's last ones.
    fn story(&mut self) -> String {
        let told = self.init.proc.err().present().join("\n");
        format!("{}\n{told}", fs::read_to_string(self.world.path("said")).unwrap_or_default())
    }
}

/// A program with these arguments is clustered, at IPv4 and at `::`.
fn check(script: &str, args: &[&str]) {
    check_at(|_| command(script, args));
}

/// The keys of an entry that are a command.
fn command(script: &str, args: &[&str]) -> String {
    format!("script = {script:?}\nargs = {args:?}")
}

/// The same of an entry that has to know the place.
fn check_at(command: impl Fn(&Place) -> String) {
    for place in Place::all() {
        let command = command(&place);
        let mut served = Served::new(place, &command);
        served.answer(2);
        served.does(&["reload", "web"]);
        served.does(&["restart", "web"]);
        served.does(&["scale", "web", "4"]);
        served.answer(4);
        served.does(&["reload", "web"]);
        served.answer(4);
        served.does(&["restart", "web"]);
        served.answer(4);
        served.does(&["scale", "web", "2"]);
        served.answer(2);
        served.init.stop(0);
    }
}

#[test]
fn node_http() {
    if needs("node", 1).is_some() {
        check("http.js", &[]);
    }
}

#[test]
fn express() {
    if needs("node", 1).and(package("express")).is_some() {
        check(&ours("express.js"), &[]);
    }
}

#[test]
fn fastify() {
    if needs("node", 1).and(package("fastify")).is_some() {
        check(&ours("fastify.js"), &[]);
    }
}

#[test]
fn npm_start() {
    if needs("node", 1).and(needs("npm", 1)).is_some() {
        check("npm", &["start"]);
    }
}

#[test]
fn python_http_server() {
    if needs("python3", 1).is_some() {
        // Its folder tells who it is.
        let line = "exec python3 -m http.server $PORT --bind $HOST --directory $NODE_APP_INSTANCE";
        check_at(|_| format!("command = {line:?}\nshell = true"));
    }
}

#[test]
fn flask_under_gunicorn() {
    if needs("python3", 1).and(package("flask")).and(package("gunicorn")).is_some() {
        let words = ["-m", "gunicorn", "with_flask:app", "--workers", "2", "--chdir", &ours(""), "--bind"];
        check_at(|place| command("python3", &[&words[..], &[&place.address()]].concat()));
    }
}

#[test]
fn fastapi_under_uvicorn() {
    if needs("python3", 1).and(package("fastapi")).and(package("uvicorn")).is_some() {
        let words = ["-m", "uvicorn", "with_fastapi:app", "--app-dir", &ours("")];
        check_at(|place| {
            let at = ["--host", &place.host.to_string(), "--port", &place.port.to_string()];
            command("python3", &[&words[..], &at].concat())
        });
    }
}

#[test]
fn nginx() {
    if let Some(nginx) = needs_one_of("nginx", ["/usr/sbin/nginx", "/usr/bin/nginx"].map(PathBuf::from), 1) {
        check(nginx.to_str().unwrap(), &["-p", ".", "-c", "nginx.conf", "-e", "stderr", "-g", "daemon off;"]);
    }
}

#[test]
fn go_net_http() {
    if let Some(go) = needs("go", 1) {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
        let server = built(Command::new(go).env("GOCACHE", cache).args(["build", "-o"]), "go");
        check(&server, &[]);
    }
}

#[test]
fn a_static_server() {
    if let Some(rustc) = needs("rustc", 1) {
        let server = built(Command::new(rustc).args(["-C", "target-feature=+crt-static", "-o"]), "rs");
        check(&server, &[]);
    }
}

/// The server in this language, made by a command that still lacks the file to write and the one to read.
fn built(compiler: &mut Command, language: &str) -> String {
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("server-{language}"));
    let said = compiler.arg(&made).arg(ours(&format!("server.{language}"))).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    made.into_os_string().into_string().unwrap()
}
