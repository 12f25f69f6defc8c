//! What a user looks at, from the real binary: through terminals of several widths, and as programs read it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::process::{Child, Stdio};

use common::tty::Terminal;
use common::world::World;
use common::{PM3, ROLE, this_binary};
use pm3::control::{Described, Row};
use pm3::supervisor::event::Sig;

const SECRET: &str = "hunter2-is-a-secret";

/// Two instances that run, one that crashes until it is given up, one that cannot be started, one that nobody starts.
fn world() -> World {
    let app = this_binary();
    let entry = |name: &str, words: &str, more: &str| {
        format!(
            r#"
            [[apps]]
            name = "{name}"
            script = "{app}"
            args = ["app", {words}]
            env = {{ {ROLE} = "1", SECRET = "{SECRET}", NODE_ENV = "homolog" }}
            {more}
            "#
        )
    };
    let plan = [
        entry("web", r#""pause""#, "instances = 2"),
        entry("crash", r#""say:going down", "exit:3""#, "max_restarts = 3"),
        entry("lost", r#""pause""#, "cwd = \"/no/such/directory\""),
        entry("wild", r#""\u001b[2J\u0007", "漢字", "\u202e""#, "autostart = false"),
    ];
    let mut world = World::container_with(&plan.concat());
    while !world.log().next().unwrap().contains("crash: errored") {}
    // Output has a way of its own, and comes later.
    for _ in 0..3 {
        assert!(world.output().ends_with("going down"));
    }
    world
}

/// A command of the world with its input and output on a terminal of this size.
fn at_terminal(world: &World, words: &str, columns: u16, rows: u16) -> (Terminal, Child) {
    let (terminal, other) = Terminal::open();
    terminal.resize(columns, rows);
    let argv: Vec<&str> = [PM3].into_iter().chain(words.split_whitespace()).collect();
    let mut command = world.command(&argv);
    command.stdin(Stdio::from(other.try_clone().unwrap())).stderr(Stdio::from(other.try_clone().unwrap()));
    let child = command.stdout(Stdio::from(other)).spawn().unwrap();
    (terminal, child)
}

/// What a terminal of this width shows of a command that ends well.
fn seen(world: &World, words: &str, columns: u16) -> String {
    let (mut terminal, mut child) = at_terminal(world, words, columns, 24);
    let text = terminal.screen.text();
    assert!(child.wait().unwrap().success(), "{words}: {text}");
    text
}

/// Without colours.
fn plain(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut plain = parts.next().unwrap().to_owned();
    for part in parts {
        let (code, rest) = part.split_once('m').unwrap_or_else(|| panic!("not a colour: {part:?}"));
        assert!(code.chars().all(|c| c.is_ascii_digit() || c == ';'), "not a colour: {part:?}");
        plain += rest;
    }
    plain
}

/// Columns, for texts whose wide letters are known: those of the plan.
fn columns(line: &str) -> usize {
    line.chars().map(|letter| if "漢字".contains(letter) { 2 } else { 1 }).sum()
}

#[test]
fn every_page_fits_every_terminal_and_moves_no_cursor() {
    let world = world();
    for width in [20, 33, 58, 80, 100, 133, 134, 200] {
        for words in ["list", "ls -m", "show all", "why", "why all"] {
            let text = plain(&seen(&world, words, width));
            for line in text.lines() {
                assert!(columns(line) <= width.into(), "{words} at {width}: {line:?}\n{text}");
                assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{words} at {width}: {line:?}");
            }
            assert!(text.contains("crash"), "{words} at {width}: {text}");
        }
    }
    world.end();
}

#[test]
fn colors_are_for_terminals_whose_owner_wants_them() {
    let mut world = world();
    assert!(seen(&world, "list", 120).contains("\x1b[1;32monline"));
    assert!(seen(&world, "show web", 120).contains("\x1b[1;7m Describing process with id 0 - name web "));
    for words in ["list", "show all", "why", "env web", "ls -m"] {
        world.pm3(words).ok().lacks("\x1b");
    }
    world.set("TERM", "dumb");
    assert!(!seen(&world, "list", 120).contains('\x1b'));
    world.set("TERM", "xterm");
    assert!(seen(&world, "list", 120).contains('\x1b'));
    assert!(!seen(&world, "list --no-color", 120).contains('\x1b'));
    world.set("NO_COLOR", "1");
    for words in ["list", "show all", "why", "env web"] {
        assert!(!seen(&world, words, 120).contains('\x1b'), "{words}");
    }
    world.end();
}

#[test]
fn the_table_has_pm2s_words_and_the_last_reason() {
    let world = world();
    let table = world.pm3("list").ok().out;
    let words = |start: &str| {
        let lines = table.lines().map(|line| line.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" "));
        lines.into_iter().find(|line| line.contains(start)).unwrap_or_else(|| panic!("no {start} in {table}"))
    };
    let heads = "id name namespace version mode pid uptime ↺ status cpu mem user watching last reason";
    assert_eq!(words("id name"), heads);
    assert!(words(" crash ").starts_with("2 crash default N/A fork 0 0 2 errored 0% 0b "), "{table}");
    assert!(words(" crash ").ends_with(" disabled exit 3"), "{table}");
    assert!(
        words(" lost ").ends_with("start failed at chdir /no/such/directory: no such file or directory"),
        "{table}"
    );
    let rows: Vec<Row> = serde_json::from_str(&world.pm3("ls --json").ok().out).unwrap();
    let ids: Vec<(u32, &str)> = rows.iter().map(|row| (row.id, &*row.name)).collect();
    assert_eq!(ids, [(0, "web"), (1, "web"), (2, "crash"), (3, "lost"), (4, "wild")]);
    let sorted = world.pm3("ls --sort id:desc").ok().out;
    let (first, last) = (sorted.find(" wild ").unwrap(), sorted.find(" crash ").unwrap());
    assert!(first < last, "{sorted}");
    world.pm3("ls --sort nmae").ends(64).says("did you mean name?");
    world.pm3("ls --sort name:dsc").ends(64).says("did you mean desc?");
    world.end();
}

#[test]
fn secrets_are_shown_to_those_who_ask_for_them() {
    let world = world();
    for words in [
        "list",
        "ls --json",
        "ls -m",
        "show all",
        "show all --json",
        "why",
        "why --json",
        "env all",
        "env all --json",
        "jlist",
        "prettylist",
    ] {
        world.pm3(words).ok().lacks(SECRET);
    }
    for words in [
        "show web --secrets",
        "show web --json --secrets",
        "env web --secrets",
        "env 4 --secrets",
        "jlist --secrets",
        "prettylist --secrets",
    ] {
        world.pm3(words).ok().says(SECRET);
    }
    // What is no secret is no riddle.
    world.pm3("show 0").ok().says("│ node env").says("homolog");
    world.pm3("env 0").ok().says("NODE_ENV: homolog\n").says("SECRET: ***\n").says("NODE_APP_INSTANCE: 0\n");
    world.pm3("env 1").ok().says("NODE_APP_INSTANCE: 1\n").says("--secrets");
    world.end();
}

#[test]
fn why_tells_what_happened_and_what_comes() {
    let world = world();
    let out = world.pm3("why crash").ok().out;
    assert_eq!(out.matches("exit 3").count(), 3, "{out}");
    assert_eq!(out.matches("started again at once").count(), 2, "{out}");
    assert!(out.contains("It is not started again, after 3 short runs; `pm3 restart crash` tries anew.\n"), "{out}");
    assert!(out.ends_with("Its last lines of output:\n  going down\n  going down\n  going down\n"), "{out}");
    world.pm3("show crash").ok().says(" Last lines of output \n  going down\n");
    world.pm3("why lost").ok().says("start failed at chdir").says("did not run");
    world.pm3("why web").ok().says("web-0 (id 0): online").says("web-1 (id 1): online").says("no run of it has ended");
    world.pm3("stop web").ok();
    world.pm3("why 1").ok().says("operator").says("until `pm3 start web`");
    let told: serde_json::Value = serde_json::from_str(&world.pm3("why crash --json").ok().out).unwrap();
    assert_eq!((&told[0]["exit_code"], &told[0]["short_runs"]), (&3.into(), &3.into()), "{told}");
    assert_eq!(told[0]["runs"].as_array().unwrap().len(), 3);
    assert_eq!(told[0]["runs"][2]["reason"], "exit 3");
    assert_eq!(told[0]["output"][0]["text"], "going down");
    world.end();
}

#[test]
fn numbers_come_alone() {
    let world = world();
    assert_eq!(world.pm3("id web").ok().out, "[ 0, 1 ]\n");
    let pids = world.pm3("pid web").ok().out;
    let of_rows: Vec<Row> = serde_json::from_str(&world.pm3("ls --json").ok().out).unwrap();
    let expected: String =
        of_rows.iter().filter(|row| &*row.name == "web").map(|row| format!("{}\n", row.pid)).collect();
    assert_eq!(pids, expected);
    // Nothing that has no process: `kill 0` would be the caller's own end.
    assert_eq!(world.pm3("pid").ok().out, expected);
    assert_eq!(world.pm3("pid crash").ok().out, "");
    world.end();
}

#[test]
fn tools_for_pm2_find_what_they_look_for() {
    let world = world();
    let text = world.pm3("jlist").ok().out;
    assert_eq!(text.lines().count(), 1);
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    let web = &list[1];
    for (at, value) in [
        ("/name", "web".into()),
        ("/pm_id", 1.into()),
        ("/pm2_env/status", "online".into()),
        ("/pm2_env/NODE_APP_INSTANCE", 1.into()),
        ("/pm2_env/instances", 2.into()),
        ("/pm2_env/restart_time", 0.into()),
        ("/pm2_env/exec_mode", "fork_mode".into()),
        ("/pm2_env/pm_exec_path", this_binary().into()),
        ("/pm2_env/env/SECRET", "***".into()),
    ] {
        assert_eq!(web.pointer(at), Some(&value), "{at} in {web:#}");
    }
    assert!(web["pid"].as_u64() > Some(0) && web["monit"]["memory"].as_u64() > Some(0), "{web:#}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let up = u128::from(web["pm2_env"]["pm_uptime"].as_u64().unwrap());
    assert!((now - 60_000..=now).contains(&up), "{up}");
    assert_eq!(list[2]["pm2_env"]["exit_code"], 3);
    let pretty: serde_json::Value = serde_json::from_str(&world.pm3("prettylist").ok().out).unwrap();
    assert_eq!(pretty.as_array().unwrap().len(), 5);
    world.end();
}

#[test]
fn a_target_that_names_nothing_is_an_error_beside_the_others() {
    let world = world();
    for verb in ["show", "why", "env", "pid", "id"] {
        world.pm3(&format!("{verb} wbe")).ends(1).says("[PM3][ERROR] wbe: ").says("did you mean web?");
    }
    world.pm3("id /^(web|crash)$/").ok().says("[ 0, 1, 2 ]\n");
    world.pm3("show /^we/ --json").ok().says("web").lacks("crash");
    world.pm3("why /nobody/").ends(1).says("/nobody/: no app's name matches").lacks("web");
    world.pm3("id wbe web 99").ends(1).says("[ 0, 1 ]\n").says("99: ");
    world.end();
}

#[test]
fn a_list_that_is_watched_follows_until_interrupted() {
    let world = world();
    let (mut terminal, mut child) = at_terminal(&world, "list --watch", 100, 24);
    // The terminal's other screen, without cursor.
    let screen = &mut terminal.screen;
    assert_eq!(screen.until("\x1b[2J"), "\x1b[?1049h\x1b[?25l\x1b[2J");
    screen.until("└");
    world.pm3("stop web").ok();
    // Only what has changed is written, and nothing is wiped before it.
    let redrawn = screen.until("stopped");
    assert!(!redrawn.contains("\x1b[2J"), "{redrawn:?}");
    assert!(!terminal.echoes());

    // A new size, and the whole page for it.
    terminal.resize(60, 6);
    let watcher = world.processes().into_iter().find(|process| process.line.ends_with("list --watch")).unwrap();
    world.signal(watcher.inside, Sig::WINCH);
    let page = terminal.screen.until("more lines");
    assert!(page.contains("\x1b[2J") && page.contains("\x1b[6;1H…"), "{page:?}");

    world.signal(watcher.inside, Sig::INT);
    let rest = terminal.screen.text();
    assert!(rest.ends_with("\x1b[?25h\x1b[?1049l"), "{rest:?}");
    assert!(child.wait().unwrap().success());
    world.end();
}

#[test]
fn without_a_terminal_nothing_is_watched() {
    let world = world();
    world.pm3("list --watch").ends(64).says("--watch needs a terminal");
    world.end();
}

#[test]
fn what_does_not_fit_into_one_answer_comes_in_parts() {
    // Each says several times that this is missing.
    let path = format!("/{}", "not-there-at-all".repeat(15)).repeat(16);
    let entry = |name: &str, more: &str| {
        format!("[[apps]]\nname = \"{name}\"\nscript = \"/nothing\"\nautostart = false\n{more}\n")
    };
    let many = entry("many", &format!("cwd = \"{path}\"\ninstances = 600"));
    let world = World::container_with(&(many + &entry("one", "")));
    // It is answered when every one of them has failed.
    world.run(&["/bin/sh", "-c", &format!("{PM3} start all -s 2>/dev/null")]).ends(1);
    let told = world.pm3("show all --json").ok().out;
    assert!(told.len() > 4 << 20, "{} bytes fit into an answer", told.len());
    let apps: Vec<Described> = serde_json::from_str(&told).unwrap();
    let counts: Vec<(&str, usize)> = apps.iter().map(|app| (&*app.spec.name, app.instances.len())).collect();
    assert_eq!(counts, [("many", 600), ("one", 1)]);
    let said = world.pm3("id many nobody one").ends(1).says("nobody: ");
    assert!(said.out.starts_with("[ 0, 1, 2, ") && said.out.ends_with(", 599, 600 ]\n"), "{}", said.out);
    world.end();
}
