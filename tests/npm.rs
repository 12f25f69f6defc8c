//! The npm packages of `conf/npm/`, packed and installed as people do it: into a project, from a registry, and for all
//! (`-g`). What is installed is pm3 and nothing else: its exit codes and signals go through, and Node does not stay where
//! it can be replaced (`process.execve`, from 22.15 on). Needs node and npm; `PM3_NODE` may name a newer node.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use common::deeds::Gate;
use common::lines::Lines;
use common::ns::{Ns, signal};
use common::tty::Terminal;
use common::world::{Process, World};
use common::{app, lacking, needs, this_binary};
use pm3::supervisor::event::Sig;

/// The one place where the name stands.
fn name() -> String {
    let text = fs::read_to_string("conf/npm/package.json").unwrap();
    let description: serde_json::Value = serde_json::from_str(&text).unwrap();
    description["name"].as_str().unwrap().to_owned()
}

/// A bare machine with an empty project, and the tarballs in `dist`. Its `node` is this one.
struct Project {
    world: World,
    name: String,
}

impl Project {
    /// None where npm is missing.
    fn new(node: &Path) -> Option<Project> {
        needs("npm", 1)?;
        let mut world = World::bare();
        world.program("node", node);
        // The installed one is the only one.
        fs::remove_file(world.home("bin/pm3")).unwrap();
        // Nothing of whoever runs the tests, and nothing from outside.
        world.set("NPM_CONFIG_USERCONFIG", "/dev/null");
        for (option, value) in
            [("offline", "true"), ("audit", "false"), ("fund", "false"), ("update_notifier", "false")]
        {
            world.set(&format!("npm_config_{option}"), value);
        }
        world.set("name", "app");
        world.set("NODE_APP_INSTANCE", "0");
        world.app("index.js", "index.js");
        fs::create_dir(world.at("dist")).unwrap();
        for tarball in fs::read_dir(packed(node)).unwrap().map(|entry| entry.unwrap()) {
            fs::copy(tarball.path(), world.at(&format!("dist/{}", tarball.file_name().to_str().unwrap()))).unwrap();
        }
        Some(Project { world, name: name() })
    }

    /// The paths of those tarballs that are for this machine, for `npm install`.
    fn tarballs(&self) -> Vec<String> {
        let names = fs::read_dir(self.world.at("dist")).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| format!("./dist/{}", name.to_str().unwrap()));
        let mut files: Vec<String> = names.filter(|name| !name.contains(&format!("linux-{OTHER}"))).collect();
        files.sort();
        assert_eq!(files.len(), 2, "{files:?}");
        files
    }

    fn install(&self) {
        let tarballs = self.tarballs();
        let words: Vec<&str> = ["npm", "install"].into_iter().chain(tarballs.iter().map(String::as_str)).collect();
        self.world.run(&words).ok();
    }

    /// Starts the installed `pm3 run` with a command, and returns the first process of it, seen from the test.
    fn run(&self, command: &[&str]) -> (Child, Lines) {
        let words = [&["node_modules/.bin/pm3", "run", "--"], command].concat();
        let mut child = self.world.command(&words).stdout(Stdio::piped()).spawn().unwrap();
        let out = Lines::new("stdout of pm3", child.stdout.take().unwrap());
        (child, out)
    }

    /// The process that was started by this one.
    fn child_of(&self, parent: u32) -> Process {
        let mut children = self.world.processes().into_iter().filter(|process| process.parent == parent as i32);
        let (Some(child), None) = (children.next(), children.next()) else { panic!("no child, or several") };
        child
    }
}

/// What npm calls this machine's processor, and another one; with the other's number in a binary, elf(5).
const OWN: &str = if cfg!(target_arch = "x86_64") { "x64" } else { "arm64" };
const OTHER: &str = if cfg!(target_arch = "x86_64") { "arm64" } else { "x64" };
const OTHERS_NUMBER: u8 = if cfg!(target_arch = "x86_64") { 183 } else { 62 };

/// The folder of the tarballs: of this machine's binary, of a foreign one, and of the command. They are packed once, as
/// the binary of a debug build is large.
fn packed(node: &Path) -> &'static Path {
    static PACKED: OnceLock<PathBuf> = OnceLock::new();
    PACKED.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("npm");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        // As much of a binary as tells what machine it is for.
        let mut foreign = fs::read(binary()).unwrap()[..64].to_vec();
        foreign[18] = OTHERS_NUMBER;
        foreign[56..58].fill(0);
        fs::write(folder.join("foreign"), foreign).unwrap();
        let dist = folder.join("dist");
        let mut pack = Command::new(node);
        pack.arg("conf/npm/pack.js").arg(&dist).arg(binary()).arg(folder.join("foreign"));
        let said = pack.output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        assert_eq!(String::from_utf8(said.stdout).unwrap().lines().count(), 3);
        dist
    })
}

/// The binary to pack: the release one, where there is one.
fn binary() -> String {
    std::env::var("PM3_BIN").unwrap_or_else(|_| common::PM3.to_owned())
}

/// A node that can be replaced by another program.
fn replaceable() -> Option<PathBuf> {
    let named = std::env::var_os("PM3_NODE").map(PathBuf::from);
    let found = named.into_iter().chain(needs("node", 1)).find(|node| {
        let said = Command::new(node).args(["-p", "typeof process.execve"]).output().unwrap();
        said.stdout == b"function\n"
    });
    if found.is_none() {
        assert!(std::env::var_os("PM3_CI").is_none_or(|set| set != "1"), "PM3_CI=1 wants a node with process.execve");
        lacking("node 22.15 or newer, in PATH or $PM3_NODE", 1);
    }
    found
}

/// A project whose node has no `process.execve`, whichever it is.
fn of_older_node() -> Option<Project> {
    let mut project = Project::new(&needs("node", 1)?)?;
    let old = project.world.file("old.js", "delete process.execve\n");
    project.world.set("NODE_OPTIONS", &format!("--require={old}"));
    project.install();
    Some(project)
}

/// The commands of a person who has installed it: exit codes are the app's, and npx finds it.
fn a_node_app_runs(project: &mut Project) {
    let world = &mut project.world;
    world.run(&["npx", "pm3", "--version"]).ok().says(env!("CARGO_PKG_VERSION"));
    world.file("seven.js", "process.exit(Number(process.argv[2]))\n");
    world.run(&["npx", "pm3", "run", "--", "node", "seven.js", "7"]).ends(7);
    world.run(&["node_modules/.bin/pm3", "run", "--", "node", "seven.js", "0"]).ok();
    world.run(&["node_modules/.bin/pm3", "run", "--", "no such program"]).ends(127).says("no such program");
    world.run(&["node_modules/.bin/pm3", "stap"]).ends(64).says("stop");

    // The first command starts a supervisor in the background, which is pm3 and no Node.
    world.run(&["npx", "pm3", "start", "index.js", "--name", "web"]).ok();
    world.told("up web 0 ");
    let supervisor = world.processes().into_iter().find(|process| process.line.contains("init --background")).unwrap();
    assert!(!supervisor.line.starts_with("node"), "{supervisor:?}");
    world.run(&["npx", "pm3", "list"]).ok().says("online");
    world.run(&["npx", "pm3", "kill"]).ok();
    world.told("bye web 0 ");
    assert!(world.processes().iter().all(Process::is_gone), "{:#?}", world.processes());

    // Through npx, as the line above; the app hears the end of the world from its pm3.
    let npx = world.command(&["npx", "pm3", "run", "--", "node", "index.js", "a b"]);
    let mut npx = { npx }.stdout(Stdio::null()).spawn().unwrap();
    assert!(world.told("up app 0 ").ends_with("args=a b"));
    let pm3 = world.processes().into_iter().find(|process| process.line.starts_with("pm3 run")).unwrap();
    world.signal(pm3.inside, Sig::TERM);
    world.told("bye app 0 ");
    assert_eq!(npx.wait().unwrap().code(), Some(0));
}

/// Signals that pm3 hands to its command, sent to the process that was started; the last one ends it.
fn signals_arrive(project: &Project) {
    let argv = app(&["listen", "say:ready", "hear:TERM", "exit:5"]);
    let (mut child, mut out) = project.run(&argv.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(out.next().unwrap(), "ready");
    let first = project.child_of(child.id());
    for sig in [Sig::HUP, Sig::INT, Sig::QUIT, Sig::USR1, Sig::USR2, Sig::PWR, Sig::TERM] {
        project.world.signal(first.inside, sig);
        assert_eq!(out.next().unwrap(), format!("heard {sig}"));
    }
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

#[test]
fn nothing_of_node_stays_where_it_can_be_replaced() {
    let Some(mut project) = replaceable().and_then(|node| Project::new(&node)) else { return };
    project.install();
    let (mut child, _) = project.run(&["node", "index.js"]);
    project.world.told("up app 0 ");
    let first = project.child_of(child.id());
    assert!(first.line.starts_with("pm3 run -- node"), "{first:?}");
    let all = project.world.processes();
    assert_eq!(all.len(), 2, "{all:#?}");
    project.world.signal(first.inside, Sig::TERM);
    project.world.told("bye app 0 ");
    assert_eq!(child.wait().unwrap().code(), Some(0));

    a_node_app_runs(&mut project);
    signals_arrive(&project);
}

#[test]
fn an_older_node_stays_and_hands_on() {
    let Some(mut project) = of_older_node() else { return };
    a_node_app_runs(&mut project);
    signals_arrive(&project);

    // pm3 itself is killed: whoever waits for Node is told so.
    let script = "node_modules/.bin/pm3 run -- node index.js; echo code $?";
    let mut shell = project.world.command(&["/bin/sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = Lines::new("stdout of the shell", shell.stdout.take().unwrap());
    project.world.told("up app 0 ");
    let pm3 = project.world.processes().into_iter().find(|process| process.line.starts_with("pm3 run")).unwrap();
    project.world.signal(pm3.inside, Sig::KILL);
    assert!(std::iter::from_fn(|| out.next()).any(|line| line == "code 137"));
    shell.wait().unwrap();
}

/// A terminal tells everybody in its foreground of a ^C: pm3 must not hear of it a second time, which would be haste.
#[test]
fn an_older_node_passes_no_key_on() {
    let Some(project) = of_older_node() else { return };
    let mut gate = Gate::new(project.world.at("gate"));
    let argv = app(&["listen", "say:ready", "hear:TERM", &format!("gate:{}", gate.path)]);
    let file = format!("[[apps]]\nname = \"app\"\ncommand = {:?}\n", argv.join(" "));
    let file = project.world.file("pm3.toml", &file);
    let (mut terminal, slave) = Terminal::open();
    let mut ns = Ns::second().terminal(slave).unless_given(&["PM3_HOME", "PM3_LOG", "RUST_LOG"]);
    for (name, value) in project.world.environment() {
        ns = ns.env(name, value);
    }
    let mut shell =
        ns.start(&[&this_binary(), "shell", "fg", "--", &project.world.at("node_modules/.bin/pm3"), "init", &file]);
    until(&mut terminal, "ready");
    terminal.press("\x03");
    until(&mut terminal, "[pm3] stopping: SIGINT");
    until(&mut terminal, "heard SIGTERM");
    // What is not a key is handed on, after all that came before.
    let node = Process::all_beside(shell.pid).into_iter().find(|process| process.line.starts_with("node ")).unwrap();
    signal(node.outside, Sig::TERM);
    until(&mut terminal, "SIGTERM again");
    gate.open();
    until(&mut terminal, "shell: ended code 0");
    shell.end();
    let seen = &terminal.screen.taken;
    assert!(!seen.iter().any(|line| line.contains("SIGINT again")), "{seen:#?}");
}

/// Waits for a line on the screen with this text.
fn until(terminal: &mut Terminal, text: &str) {
    while !terminal.line().contains(text) {}
}

/// From a registry each machine takes the package that fits, and none that does not. Nothing is run at install.
#[test]
fn a_registry_serves_each_machine_its_own_binary() {
    let Some(node) = needs("node", 1) else { return };
    let Some(mut project) = Project::new(&node) else { return };
    let script = fs::canonicalize("tests/apps/registry.js").unwrap();
    let mut registry = project.world.command(&["node", script.to_str().unwrap(), "dist"]);
    let mut registry = registry.stdout(Stdio::piped()).spawn().unwrap();
    let port = Lines::new("stdout of the registry", registry.stdout.take().unwrap()).next().unwrap();
    project.world.set("npm_config_registry", &format!("http://127.0.0.1:{port}/"));
    project.world.set("npm_config_offline", "false");
    project.world.run(&["npm", "install", &project.name]).ok();
    registry.kill().unwrap();
    registry.wait().unwrap();

    let folder = |cpu: &str| project.world.at(&format!("node_modules/{}-linux-{cpu}", project.name));
    assert!(Path::new(&folder(OWN)).join("pm3").is_file());
    assert!(!Path::new(&folder(OTHER)).exists());
    for package in [project.world.at(&format!("node_modules/{}", project.name)), folder(OWN)] {
        let text = fs::read_to_string(Path::new(&package).join("package.json")).unwrap();
        let description: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(description["version"], env!("CARGO_PKG_VERSION"));
        assert!(description.get("scripts").is_none(), "{text}");
    }
    project.world.run(&["npx", "--offline", "pm3", "--version"]).ok().says(env!("CARGO_PKG_VERSION"));

    // What lacks is named, with what to do.
    fs::remove_file(Path::new(&folder(OWN)).join("pm3")).unwrap();
    let told =
        format!("[PM3][ERROR] no binary for linux-{OWN}: the package {}-linux-{OWN} is not installed", project.name);
    project.world.run(&["node_modules/.bin/pm3", "list"]).ends(127).says(&told);
    fs::write(Path::new(&folder(OWN)).join("pm3"), "").unwrap();
    project.world.run(&["node_modules/.bin/pm3", "list"]).ends(126).says("EACCES");
}

#[test]
fn it_installs_for_all_projects() {
    let Some(node) = needs("node", 1) else { return };
    let Some(project) = Project::new(&node) else { return };
    let tarballs = project.tarballs();
    let words = ["npm", "install", "--global", "--prefix", "all"].into_iter();
    project.world.run(&words.chain(tarballs.iter().map(String::as_str)).collect::<Vec<_>>()).ok();
    project.world.run(&["all/bin/pm3", "--version"]).ok().says(env!("CARGO_PKG_VERSION"));
}

#[test]
fn what_cannot_be_packed_is_refused() {
    let Some(node) = needs("node", 1) else { return };
    let pack = |words: &[&str]| {
        let said = Command::new(&node).arg("conf/npm/pack.js").args(words).output().unwrap();
        (said.status.code().unwrap(), String::from_utf8(said.stderr).unwrap())
    };
    let own = binary();
    let out = std::env::temp_dir().join("pm3-npm-refused");
    let out = out.to_str().unwrap();
    for (words, why) in [
        (&["dist"][..], "usage"),
        (&[out, "Cargo.toml"], "Cargo.toml: no 64-bit ELF binary"),
        (&[out, &own, &own], "two binaries for one kind of machine"),
        (&[out, node.to_str().unwrap()], "not static"),
    ] {
        let (code, said) = pack(words);
        assert!(code == 1 && said.contains(why), "{words:?}: {said}");
        assert!(!Path::new(out).exists());
    }
}
