//! PM2's cheat sheet, line by line: each is typed to a shell as README.md shows it, with `NAME` as a name like any other,
//! against real processes and real output. Every line is tried in both worlds: in a container whose PID 1 is pm3, and on
//! a bare machine, where the first command starts the supervisor in the background. The last test holds the README's
//! table against the lines that were tried here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::process::Stdio;
use std::time::{Duration, Instant};

use common::lines::Lines;
use common::needs;
use common::world::{Process, Said, World, field};
use pm3::supervisor::event::Sig;

/// For each entry its lines, which it must type, and what must come of it; a test in each world.
macro_rules! sheet {
    ($($name:ident($world:ident): [$($line:literal),* $(,)?] $body:block)*) => {
        mod lines {
            use super::*;
            $(pub(super) fn $name($world: &mut World) $body)*
        }
        mod in_a_container {
            use super::*;
            $(#[test] fn $name() { try_it(World::container, lines::$name, &[$($line),*]); })*
        }
        mod on_a_bare_machine {
            use super::*;
            $(#[test] fn $name() { try_it(World::bare, lines::$name, &[$($line),*]); })*
        }
        /// All lines of the sheet that are tried here.
        const TRIED: &[&str] = &[$($($line),*),*];
    };
}

fn try_it(world: fn() -> World, entry: fn(&mut World), lines: &[&str]) {
    let (Some(_), Some(python)) = (needs("node", 1), needs("python3", 1)) else { return };
    let mut world = world();
    // Not every machine has it under this name.
    world.program("python", &python);
    for app in ["index.js", "hello-world.py"] {
        world.app(app, app);
    }
    entry(&mut world);
    for line in lines {
        assert!(world.has_typed(line), "{line:?} was not typed");
    }
    world.end();
}

/// Starts `index.js` as NAME, and returns its pid.
#[track_caller]
fn start(world: &mut World) -> i32 {
    world.types("pm3 start index.js --name NAME").ok();
    up(world, "NAME 0")
}

/// Waits until this instance tells that it is up, and returns its pid.
#[track_caller]
fn up(world: &mut World, instance: &str) -> i32 {
    field(&world.told(&format!("up {instance} ")), "pid").parse().unwrap()
}

/// Whether the row of this app is as in PM2's table.
#[track_caller]
fn shows(world: &World, name: &str, status: &str, pid: i32) {
    let row = world.row(name);
    assert_eq!((&*row["status"], &*row["pid"]), (status, &*pid.to_string()), "{row:?}");
}

/// The names in the order of the table.
fn names(said: &Said) -> Vec<String> {
    common::world::Row::all(&said.out).into_iter().map(|row| row["name"].clone()).collect()
}

/// How many instances `max` is.
fn processors() -> usize {
    pm3::sys::cgroup::cpus() as usize
}

/// What an unfinished verb says: one line with what is missing, not that it is unknown.
fn is_announced(said: Said) {
    let said = said.lacks("unrecognized").lacks("unexpected");
    assert!(said.code != 0 && said.err.trim_end().lines().count() == 1, "{said:#?}");
}

sheet! {
    version(world): ["pm3 --version"] {
        let said = world.types("pm3 --version").ok();
        assert_eq!(said.out, concat!(env!("CARGO_PKG_VERSION"), "\n"));
        assert!(world.processes().is_empty(), "asking for the version started something");
    }

    update(world): ["pm3 update"] {
        start(world);
        is_announced(world.types("pm3 update"));
        assert_eq!(world.row("NAME")["status"], "online");
    }

    start_a_script(world): ["pm3 start index.js"] {
        let said = world.types("pm3 start index.js").ok().says("[PM3]");
        let pid = up(world, "index 0");
        assert_eq!(names(&said), ["index"], "{said:?}");
        shows(world, "index", "online", pid);
        // It is a session of its own, in the directory where the command was typed.
        let process = Process::read(world.outside(pid)).unwrap();
        let cwd = std::fs::read_link(format!("/proc/{}/cwd", process.outside)).unwrap();
        assert_eq!(cwd, std::fs::canonicalize(world.at("")).unwrap());

        // The same once more is a mistake, with what to do.
        world.types("pm3 start index.js").ends(1).says("pm3 restart index").says("-f");
        shows(world, "index", "online", pid);
    }

    start_with_a_name(world): ["pm3 start index.js --name NAME"] {
        let pid = start(world);
        shows(world, "NAME", "online", pid);
    }

    start_all(world): ["pm3 start all"] {
        let pid = start(world);
        world.types("pm3 start index.js --name other").ok();
        up(world, "other 0");
        world.types("pm3 stop other").ok();
        world.types("pm3 start all").ok();
        let other = up(world, "other 0");
        shows(world, "other", "online", other);
        // What runs is left alone.
        shows(world, "NAME", "online", pid);
    }

    start_and_watch(world): ["pm3 start index.js --name NAME --watch"] {
        world.types("pm3 start index.js --name NAME --watch").ok();
        let first = up(world, "NAME 0");
        assert_eq!(world.row("NAME")["watching"], "enabled");
        world.file("new.js", "// a change\n");
        let second = up(world, "NAME 0");
        assert_ne!(first, second);
        // Folders that come later are watched too; those that everybody has are not.
        for folder in ["node_modules", ".git", "lib"] {
            std::fs::create_dir(world.at(folder)).unwrap();
            world.file(&format!("{folder}/new.js"), "");
        }
        assert_ne!(up(world, "NAME 0"), second);
        world.types("pm3 why NAME").ok().says("lib").lacks("node_modules").lacks(".git");
    }

    stop(world): ["pm3 stop NAME"] {
        start(world);
        world.types("pm3 stop NAME").ok().says("stopped");
        world.told("bye NAME 0 ");
        shows(world, "NAME", "stopped", 0);
    }

    stop_all(world): ["pm3 stop all"] {
        start(world);
        world.types("pm3 start hello-world.py").ok();
        up(world, "hello-world 0");
        world.types("pm3 stop all").ok();
        world.told("bye NAME 0 ");
        world.told("bye hello-world 0 ");
        shows(world, "NAME", "stopped", 0);
        shows(world, "hello-world", "stopped", 0);
    }

    delete(world): ["pm3 delete NAME"] {
        start(world);
        world.types("pm3 delete NAME").ok();
        world.told("bye NAME 0 ");
        assert!(world.rows().is_empty());
        world.types("pm3 delete NAME").ends(1).says("NAME");
    }

    restart(world): ["pm3 restart NAME"] {
        let first = start(world);
        world.types("pm3 restart NAME").ok();
        world.told("bye NAME 0 ");
        let second = up(world, "NAME 0");
        assert_ne!(first, second);
        shows(world, "NAME", "online", second);
        assert_eq!(world.row("NAME")["↺"], "1");
    }

    reload(world): ["pm3 reload NAME"] {
        let first = start(world);
        world.types("pm3 reload NAME").ok();
        // The new one is up before the old one is asked to leave.
        let told = world.untaken();
        let order: Vec<&str> = told.iter().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(order, ["up", "bye"], "{told:?}");
        let second: i32 = field(&told[0], "pid").parse().unwrap();
        assert_eq!(field(&told[1], "pid"), first.to_string());
        shows(world, "NAME", "online", second);
    }

    list(world): [
        "pm3 list", "pm3 ls", "pm3 list --sort name:desc", "pm3 list --sort name:asc", "pm3 list --sort id:desc",
    ] {
        for name in ["banana", "apple", "cherry"] {
            world.types(&format!("pm3 start index.js --name {name}")).ok();
            up(world, &format!("{name} 0"));
        }
        let columns = "│ id │ name   │ namespace │ version │ mode │ pid";
        for line in ["pm3 list", "pm3 ls"] {
            assert_eq!(names(&world.types(line).ok().says(columns)), ["apple", "banana", "cherry"], "{line}");
        }
        for (line, order) in [
            ("pm3 list --sort name:desc", ["cherry", "banana", "apple"]),
            ("pm3 list --sort name:asc", ["apple", "banana", "cherry"]),
            ("pm3 list --sort id:desc", ["cherry", "apple", "banana"]),
        ] {
            assert_eq!(names(&world.types(line).ok()), order, "{line}");
        }
        world.types("pm3 list --sort colour:desc").ends(64).says("colour");
    }

    show(world): ["pm3 show NAME"] {
        let pid = start(world);
        let said = world.types("pm3 show NAME").ok();
        let script = world.at("index.js");
        for text in ["online", "NAME", "index.js", "script path", "exec cwd", "interpreter", &script, &pid.to_string()] {
            assert!(said.out.contains(text), "no {text:?} in {said:#?}");
        }
        world.types("pm3 show NAMES").ends(1).says("NAME");
    }

    logs(world): ["pm3 logs NAME"] {
        start(world);
        let mut follower = world.typing("pm3 logs NAME").stdout(Stdio::piped()).spawn().unwrap();
        let mut out = Lines::new("pm3 logs", follower.stdout.take().unwrap());
        // What was said before, and what comes.
        let has = |out: &mut Lines| while !out.next().unwrap().ends_with("| NAME 0 is up") {};
        has(&mut out);
        world.types("pm3 restart NAME").ok();
        has(&mut out);
        follower.kill().unwrap();
        follower.wait().unwrap();
    }

    monit(world): ["pm3 monit"] {
        start(world);
        is_announced(world.types("pm3 monit"));
    }

    plus(world): ["pm3 plus"] {
        start(world);
        is_announced(world.types("pm3 plus"));
    }

    instances(world): ["pm3 start index.js --instances 2 --name NAME"] {
        world.types("pm3 start index.js --instances 2 --name NAME").ok();
        let pids = [up(world, "NAME 0"), up(world, "NAME 1")];
        let shown: Vec<String> = world.rows().into_iter().map(|row| row["pid"].clone()).collect();
        assert_eq!(shown, pids.map(|pid| pid.to_string()));
    }

    instances_as_many_as_processors(world): [
        "pm3 start index.js --instances max --name NAME", "pm3 start index.js --instances 0 --name NAME",
    ] {
        for line in ["pm3 start index.js --instances max --name NAME", "pm3 start index.js --instances 0 --name NAME"] {
            world.types(line).ok();
            for instance in 0..processors() {
                up(world, &format!("NAME {instance}"));
            }
            assert_eq!(world.rows().len(), processors(), "{line}");
            world.types("pm3 delete NAME").ok();
        }
        world.types("pm3 start index.js --instances some --name NAME").ends(64).says("some");
        assert!(world.rows().is_empty());
    }

    instances_in_short(world): ["pm3 start index.js -i 2"] {
        world.types("pm3 start index.js -i 2").ok();
        up(world, "index 0");
        up(world, "index 1");
        assert_eq!(world.rows().len(), 2);
    }

    scale(world): ["pm3 scale NAME 3", "pm3 scale NAME +3"] {
        let first = start(world);
        world.types("pm3 scale NAME 3").ok();
        up(world, "NAME 1");
        up(world, "NAME 2");
        assert_eq!(world.rows().len(), 3);
        world.types("pm3 scale NAME +3").ok();
        for instance in ["NAME 3", "NAME 4", "NAME 5"] {
            up(world, instance);
        }
        let rows = world.rows();
        assert_eq!(rows.len(), 6);
        // Whoever ran goes on.
        assert_eq!(rows[0]["pid"], first.to_string());
        world.types("pm3 scale NAME 1").ok();
        assert_eq!(world.rows().len(), 1);
    }

    a_file_of_apps(world): [
        "pm3 start ecosystem.config.js", "pm3 restart ecosystem.config.js", "pm3 stop ecosystem.config.js",
        "pm3 delete ecosystem.config.js",
    ] {
        for (file, text) in FILES {
            world.file(file, text);
            world.types(&format!("pm3 start {file}")).ok();
            let first = [up(world, "app-1 0"), up(world, "app-2 0")];
            shows(world, "app-1", "online", first[0]);
            shows(world, "app-2", "online", first[1]);

            world.types(&format!("pm3 restart {file}")).ok();
            let second = [up(world, "app-1 0"), up(world, "app-2 0")];
            assert!(first[0] != second[0] && first[1] != second[1], "{file}");
            shows(world, "app-1", "online", second[0]);

            world.types(&format!("pm3 stop {file}")).ok();
            shows(world, "app-1", "stopped", 0);
            shows(world, "app-2", "stopped", 0);

            world.types(&format!("pm3 delete {file}")).ok();
            assert!(world.rows().is_empty(), "{file}");
            std::fs::remove_file(world.at(file)).unwrap();
        }
    }

    some_apps_of_a_file(world): [
        "pm3 start ecosystem.config.yml --only app-1", "pm3 start ecosystem.config.yml --only \"app-1,app-2\"",
    ] {
        world.file("ecosystem.config.yml", YAML);
        world.types("pm3 start ecosystem.config.yml --only app-1").ok();
        let first = up(world, "app-1 0");
        assert_eq!(world.rows().len(), 1);
        world.types("pm3 start ecosystem.config.yml --only \"app-1,app-2\"").ok();
        up(world, "app-2 0");
        assert_eq!(world.rows().len(), 2);
        shows(world, "app-1", "online", first);
        // Every name is tried.
        world.types("pm3 delete ecosystem.config.yml --only app-2").ok();
        let said = world.types("pm3 start ecosystem.config.yml --only \"app-2,app-3\"").ends(1);
        said.says("--only app-3: there is no such app, did you mean app-1?");
        up(world, "app-2 0");
        world.types("pm3 stop ecosystem.config.yml --only app-3,app-1").ends(1).says("--only app-3");
        shows(world, "app-1", "stopped", 0);
    }

    an_environment_of_a_file(world): [
        "pm3 start ecosystem.config.yml --env homolog", "pm3 start ecosystem.config.yml --env prod",
    ] {
        world.file("ecosystem.config.yml", YAML);
        world.types("pm3 start ecosystem.config.yml --env homolog").ok();
        assert_eq!(field(&world.told("up app-1 0 "), "stage"), "homolog");
        // The file says something else now, so the app is restarted.
        world.types("pm3 start ecosystem.config.yml --env prod").ok();
        assert_eq!(field(&world.told("up app-1 0 "), "stage"), "prod");
        world.types("pm3 restart ecosystem.config.yml").ok();
        assert_eq!(field(&world.told("up app-1 0 "), "stage"), "dev");
    }

    memory(world): ["pm3 start index.js --name NAME --max-memory-restart 20M"] {
        world.types("pm3 start index.js --name NAME --max-memory-restart 20M").ok();
        let first = up(world, "NAME 0");
        world.signal(first, Sig::USR2);
        let second = up(world, "NAME 0");
        assert_ne!(first, second);
        world.types("pm3 why NAME").ok().says("memory ").says(" over 20M");
    }

    restart_delay(world): ["pm3 start index.js --name NAME --restart-delay 100"] {
        world.types("pm3 start index.js --name NAME --restart-delay 100").ok();
        assert!(back_after_a_crash(world) >= Duration::from_millis(100));
        assert!(back_after_a_crash(world) >= Duration::from_millis(100));
        assert_eq!(world.row("NAME")["↺"], "2");
    }

    restart_delay_that_grows(world): ["pm3 start index.js --name NAME --exp-backoff-restart-delay 100"] {
        world.types("pm3 start index.js --name NAME --exp-backoff-restart-delay 100").ok();
        for wait in [100, 150, 225] {
            let took = back_after_a_crash(world);
            assert!(took >= Duration::from_millis(wait), "{took:?} instead of {wait} ms");
        }
    }

    python(world): ["pm3 start hello-world.py --interpreter=python"] {
        world.types("pm3 start hello-world.py --interpreter=python").ok();
        let pid = up(world, "hello-world 0");
        shows(world, "hello-world", "online", pid);
        world.types("pm3 stop hello-world").ok();
        world.told("bye hello-world 0 ");
    }
}

/// Kills NAME as soon as it is up, and waits until it is up again; how long that took.
#[track_caller]
fn back_after_a_crash(world: &mut World) -> Duration {
    let pid = match world.row("NAME")["pid"].parse().unwrap() {
        0 => up(world, "NAME 0"),
        pid => pid,
    };
    world.untaken();
    let killed = Instant::now();
    world.signal(pid, Sig::KILL);
    up(world, "NAME 0");
    killed.elapsed()
}

const YAML: &str = "\
apps:
  - name: app-1
    script: index.js
    env:
      STAGE: dev
    env_homolog:
      STAGE: homolog
    env_prod:
      STAGE: prod
  - name: app-2
    script: hello-world.py
    interpreter: python3
";

/// The same two apps in each form that a file may have.
const FILES: &[(&str, &str)] = &[
    (
        "ecosystem.config.js",
        "module.exports = { apps: [{ name: 'app-1', script: './index.js' }, { name: 'app-2', script: 'hello-world.py' }] }\n",
    ),
    (
        "ecosystem.config.cjs",
        "module.exports = { apps: ['app-1', 'app-2'].map((name) => ({ name, script: 'index.js' })) }\n",
    ),
    (
        "ecosystem.config.mjs",
        "export default { apps: ['app-1', 'app-2'].map((name) => ({ name, script: 'index.js' })) }\n",
    ),
    (
        "ecosystem.json",
        "// the apps\n[{ \"name\": \"app-1\", \"script\": \"index.js\" }, { \"name\": \"app-2\", \"script\": \"hello-world.py\" }]\n",
    ),
    ("ecosystem.yml", YAML),
    ("ecosystem.yaml", YAML),
    (
        "ecosystem.toml",
        "[[apps]]\nname = \"app-1\"\nscript = \"index.js\"\n\n[[apps]]\nname = \"app-2\"\nscript = \"hello-world.py\"\n",
    ),
];

/// The table in README.md and the lines above are the same.
#[test]
fn the_readme_shows_what_is_tried() {
    let readme = include_str!("../README.md");
    let shown: Vec<&str> = readme.lines().filter_map(|line| line.strip_prefix("| `pm3 ")?.split('`').next()).collect();
    for line in TRIED {
        let words = line.strip_prefix("pm3 ").unwrap();
        assert!(shown.contains(&words), "README.md does not show `{line}`");
    }
}
