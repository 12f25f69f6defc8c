//! `pm3 logs`, `flush` and `reload-logs`, as they are typed.

use std::fs;
use std::process::{Child, Stdio};

use pm3::supervisor::event::Sig;

use crate::common::PM3;
use crate::common::deeds::Gate;
use crate::common::lines::Lines;
use crate::common::ns::Ns;
use crate::common::tty::Terminal;
use crate::common::world::World as Machine;
use crate::until;
use crate::world::{Init, World, app, both, entry};

/// An app that says a line each time the gate is opened: one to begin with, then the words.
fn talker(gate: &Gate, words: &[&str]) -> Vec<String> {
    let wait = format!("gate:{}", gate.path);
    let mut all = vec!["say:up".to_owned()];
    for word in words {
        all.extend([wait.clone(), format!("say:{word}")]);
    }
    all.push("pause".to_owned());
    all
}

fn boot(world: &World, ns: Ns, apps: &[(&str, &[String])]) -> Init {
    let entry = |(name, words): &(&str, &[String])| {
        app(name, &words.iter().map(String::as_str).collect::<Vec<_>>(), "log_mode = \"raw\"")
    };
    world.plan(&apps.iter().map(entry).collect::<String>());
    let mut init = world.boot(ns);
    (0..apps.len()).for_each(|_| init.proc.expect("up"));
    init
}

#[test]
fn logs_are_shown_in_pm2s_words() {
    for ns in both() {
        let world = World::new();
        let gate = world.gate("gate");
        let init = boot(&world, ns, &[("web", &talker(&gate, &[])), ("worker", &talker(&gate, &[]))]);
        assert_eq!(
            init.does(&["logs", "web", "--nostream"]),
            ["[TAILING] Tailing last 15 lines for [web] process (change the value with --lines option)", "0|web | up"]
        );
        let all = init.does(&["logs", "--nostream", "--lines", "3"]);
        let [head, rest @ ..] = &all[..] else { panic!("{all:?}") };
        assert_eq!(head, "[TAILING] Tailing last 3 lines for [all] processes (change the value with --lines option)");
        let mut rest = rest.to_vec();
        rest.sort();
        assert_eq!(rest, ["0|web    | up", "1|worker | up"]);
        assert_eq!(init.does(&["logs", "1", "--nostream", "--raw"]), ["up"]);
        assert_eq!(init.does(&["logs", "web", "--nostream", "--raw", "--err"]), Vec::<String>::new());
        assert_eq!(init.does(&["logs", "web", "--nostream", "--raw", "--lines", "0"]), Vec::<String>::new());
        let json = init.does(&["logs", "web", "--nostream", "--json"]).concat();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (&json["message"], &json["app_name"], &json["process_id"]),
            (&"up".into(), &"web".into(), &0.into())
        );
        let formatted = init.does(&["logs", "web", "--nostream", "--format"]).concat();
        assert!(
            formatted.starts_with("timestamp=20") && formatted.ends_with("app=web id=0 type=out message=up"),
            "{formatted}"
        );
        assert_eq!(init.does(&["logs", "--nostream", "--raw", "--timestamp=[at]", "web"]), ["at: up"]);
        let dated = init.does(&["logs", "--nostream", "--raw", "--timestamp", "web"]).concat();
        assert!(dated.starts_with("20") && dated.ends_with(": up"), "{dated}");
        assert_eq!(init.does(&["logs", "web", "--nostream", "--raw", "--highlight", "p"]), ["u\u{1b}[7mp\u{1b}[27m"]);
        assert_eq!(init.does(&["logs", "web", "--nostream", "--raw", "--since", "1h"]), ["up"]);
        assert_eq!(
            init.does(&["logs", "web", "--nostream", "--raw", "--since", "2099-01-01 00:00:00"]),
            Vec::<String>::new()
        );
        init.stop(0);
    }
}

#[test]
fn what_is_unknown_or_not_collected_is_an_error() {
    let world = World::new();
    world.plan(
        &(app("web", &["say:up", "pause"], "log_mode = \"raw\"")
            + &app("own", &["say:up", "pause"], "log_mode = \"inherit\"")),
    );
    let mut init = world.boot(Ns::pid1());
    init.lines(2);
    let check = |words: &[&str], expected: &str| {
        let (code, out, err) = init.pm3(words);
        assert_eq!((code, err.join("\n").as_str()), (1, expected), "{out:?}");
    };
    check(&["logs", "wbe"], "[PM3][ERROR] wbe: no such app, namespace or id; did you mean web?");
    check(
        &["logs", "web", "7", "--nostream"],
        "[PM3][ERROR] 7: no such app, namespace or id; `pm3 list` shows what there is",
    );
    check(&["logs", "own"], "[PM3][ERROR] own: its output is not collected: its log_mode is inherit or none");
    check(&["flush", "wbe"], "[PM3][ERROR] wbe: no such app, namespace or id; did you mean web?");
    check(&["logs", "/^b/"], "[PM3][ERROR] /^b/: no app's name matches; `pm3 list` shows what there is");
    assert_eq!(init.does(&["logs", "--nostream", "--raw"]), ["up"]);
    assert_eq!(init.does(&["logs", "/^w.b$/", "--nostream", "--raw"]), ["up"]);
    init.stop(0);
}

#[test]
fn in_the_background_output_goes_into_pm2s_files() {
    let world = Machine::bare();
    world.file("hello.sh", "echo hello; echo trouble >&2; exec sleep 1000\n");
    world.pm3("start hello.sh").ok();
    let read = |name: &str| fs::read_to_string(world.home(&format!("home/logs/{name}"))).unwrap_or_default();
    until("it is written", || read("hello-out.log") == "hello\n" && read("hello-error.log") == "trouble\n");
    world.pm3("logs hello --nostream --out").ok().says("0|hello | hello\n").lacks("trouble");
    world.pm3("flush").ok().says("[hello] flushed");
    assert_eq!((read("hello-out.log"), read("hello-error.log")), (String::new(), String::new()));
    world.end();
}

#[test]
fn in_the_background_a_file_for_both_is_beside_pm2s() {
    let world = Machine::bare();
    world.file("hello.sh", "echo hello; echo trouble >&2; exec sleep 1000\n");
    world.pm3("start hello.sh -l both.log --log-type raw").ok();
    let read = |path: String| fs::read_to_string(path).unwrap_or_default();
    let own = |name: &str| read(world.home(&format!("home/logs/hello-{name}.log")));
    until("it is written", || {
        own("out") == "hello\n" && own("error") == "trouble\n" && read(world.at("both.log")).len() == 14
    });
    let both = read(world.at("both.log"));
    assert!(both.contains("hello\n") && both.contains("trouble\n"), "{both:?}");
    world.pm3("show hello").ok().says("entire log path").says("both.log").says("hello-out.log");
    world.pm3("flush").ok();
    assert_eq!((own("out"), own("error"), read(world.at("both.log"))), Default::default());
    world.end();
}

/// `pm3 logs` at work, inside.
struct Follower {
    child: Child,
    lines: Lines,
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Follower {
    fn next(&mut self) -> Option<String> {
        self.lines.next()
    }
}

fn following(world: &World, init: &Init, words: &[&str]) -> Follower {
    // Both streams in one, so that what is told of lines stands at its place between them.
    let argv = ["/bin/sh", "-c", "exec \"$@\" 2>&1", "sh", PM3, "logs"];
    let argv: Vec<&str> = argv.iter().chain(words).copied().collect();
    let mut command = init.proc.visitor(&argv);
    command.env("PM3_HOME", &world.dir).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = Lines::new("pm3 logs", child.stdout.take().unwrap());
    Follower { child, lines }
}

#[test]
fn logs_follow_through_restarts_and_end_with_the_app() {
    let world = World::new();
    let mut gate = world.gate("gate");
    let mut init = boot(&world, Ns::pid1(), &[("web", &talker(&gate, &["two"])), ("worker", &talker(&gate, &[]))]);
    let mut logs = following(&world, &init, &["web", "--raw"]);
    assert_eq!(logs.next().unwrap(), "up");
    gate.open();
    assert_eq!(logs.next().unwrap(), "two");
    init.proc.expect("two");
    init.does(&["restart", "web"]);
    assert_eq!(logs.next().unwrap(), "up");
    world.plan(&app("worker", &["say:up", "pause"], "log_mode = \"raw\""));
    init.signal(Sig::HUP);
    init.told("web: stopped");
    assert_eq!(logs.next().unwrap(), "[PM3] [web](0) was deleted");
    assert_eq!(logs.next(), None);
    init.stop(0);
}

#[test]
fn several_are_followed_until_the_last_of_them_is_deleted() {
    let world = World::new();
    let (mut a, mut b) = (world.gate("a"), world.gate("b"));
    let one = |name: &str, gate: &Gate| {
        let wait = crate::common::app(&[&format!("gate:{}", gate.path)]).join(" ");
        let script = format!("echo {name} up; echo {name} err >&2; {wait}; echo two; echo two err >&2; {wait}");
        let script = format!("{script}; echo {name} again; sleep 1000");
        entry(name, "/bin/sh", &["-c", &script], "log_mode = \"raw\"")
    };
    world.plan(&(one("a", &a) + &one("b", &b) + &app("c", &["say:c up", "pause"], "log_mode = \"raw\"")));
    let mut init = world.boot(Ns::pid1());
    init.lines(3);
    (0..2).for_each(|_| drop(init.told(" err")));
    // Each as somebody would who looks for something. Of c nothing comes.
    let mut grep = following_from(&world, &init, &["a", "b", "--grep", "a", "--raw", "--out"], "a up");
    let mut err = following(&world, &init, &["a", "b", "--err", "--format"]);
    let mut messages = || {
        let line = err.next().unwrap();
        let (fields, message) = line.split_once(" message=").unwrap();
        let [time, app, _, "type=err"] = fields.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert!(time.starts_with("timestamp=20"), "{line}");
        format!("{app} {message}")
    };
    let mut both = [messages(), messages()];
    both.sort();
    assert_eq!(both, ["app=a a err", "app=b b err"]);
    let head = "[TAILING] Tailing last 15 lines for [b, a] process (change the value with --lines option)";
    let words = ["b", "a", "--timestamp", "[at]", "--highlight", "two", "--out"];
    let mut dated = following_from(&world, &init, &words, head);
    let mut lines = vec![dated.next().unwrap(), dated.next().unwrap()];
    for (name, gate) in [("a", &mut a), ("b", &mut b)] {
        gate.open();
        assert_eq!(messages(), format!("app={name} two err"));
        lines.push(dated.next().unwrap());
        gate.open();
        assert_eq!(grep.next().unwrap(), format!("{name} again"));
        lines.push(dated.next().unwrap());
    }
    lines[..2].sort();
    let two = "\u{1b}[7mtwo\u{1b}[27m";
    let expected = ["0|a | at: a up", "1|b | at: b up", &format!("0|a | at: {two}"), "0|a | at: a again"];
    assert_eq!(lines, [&expected[..], &[&*format!("1|b | at: {two}"), "1|b | at: b again"]].concat());
    // A restart changes nothing; the end comes with the last of them.
    init.does(&["restart", "a"]);
    assert_eq!(grep.next().unwrap(), "a up");
    init.does(&["delete", "b"]);
    init.does(&["delete", "a"]);
    for mut follower in [err, grep, dated] {
        let rest = std::iter::from_fn(|| follower.next()).filter(|line| line.starts_with("[PM3]"));
        assert_eq!(rest.collect::<Vec<_>>(), ["[PM3] [b](1) was deleted", "[PM3] [a](0) was deleted"]);
        assert!(follower.child.wait().unwrap().success());
    }
    init.stop(0);
}

#[test]
fn a_reload_is_followed_to_the_new_process() {
    let world = World::new();
    let init = boot(&world, Ns::pid1(), &[("web", &talker(&world.gate("gate"), &[]))]);
    let mut logs = following_from(&world, &init, &["web", "--raw"], "up");
    init.does(&["reload", "web"]);
    assert_eq!(logs.next().unwrap(), "up");
    init.stop(0);
}

#[test]
fn at_a_terminal_the_names_of_streams_have_their_colors() {
    let world = World::new();
    world.plan(&entry("a", "/bin/sh", &["-c", "echo one; echo two >&2; sleep 1000"], "log_mode = \"raw\""));
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("one");
    init.told("two");
    let shown = |variable: &str| {
        let (mut terminal, slave) = Terminal::open();
        let mut command = init.proc.visitor(&[PM3, "logs", "a", "--nostream"]);
        command.env("PM3_HOME", &world.dir).env("TERM", "xterm").env_remove("NO_COLOR").env(variable, "1");
        let stdio = || Stdio::from(slave.try_clone().unwrap());
        let mut child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().unwrap();
        drop((command, slave));
        let mut lines = terminal.screen.rest();
        assert!(child.wait().unwrap().success());
        lines.sort();
        lines
    };
    let lines = shown("SOME_OTHER");
    let prefixed = |color: u32, text: &str| format!("\x1b[{color}m0|a | \x1b[0m{text}");
    assert_eq!(lines[..2], [prefixed(31, "two"), prefixed(32, "one")]);
    assert_eq!(shown("NO_COLOR")[..2], ["0|a | one", "0|a | two"]);
    init.stop(0);
}

#[test]
fn logs_find_the_logger_again() {
    let world = World::new();
    let mut gate = world.gate("gate");
    let mut init = boot(&world, Ns::pid1(), &[("web", &talker(&gate, &["two", "three"]))]);
    let mut logs = following(&world, &init, &["--raw"]);
    assert_eq!(logs.next().unwrap(), "up");
    let [logger] = &crate::roles::roles(&init.proc)[..] else { panic!("one logger") };
    init.signal_inside(logger.parse().unwrap(), Sig::KILL);
    init.told("the logger ended");
    gate.open();
    assert_eq!(logs.next().unwrap(), "two");
    gate.open();
    assert_eq!(logs.next().unwrap(), "three");
    // With pm3 they end, too.
    init.stop(0);
    assert_eq!(logs.next(), None);
}

#[test]
fn a_search_finds_what_is_further_back() {
    let world = World::new();
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do echo line $$i; done; echo err 1 >&2; sleep 1000";
    world.plan(&entry("a", "/bin/sh", &["-c", script], "log_mode = \"raw\""));
    let mut init = world.boot(Ns::pid1());
    init.lines(20);
    init.told("err 1");
    assert_eq!(init.does(&["logs", "--nostream", "--raw", "--grep", "line 1", "--lines", "2"]), ["line 18", "line 19"]);
    assert_eq!(init.does(&["logs", "--nostream", "--raw", "--err"]), ["err 1"]);
    assert_eq!(init.does(&["logs", "--nostream", "--raw", "--out", "--lines", "1"]), ["line 20"]);
    init.stop(0);
}

#[test]
fn what_was_written_before_a_flush_is_flushed() {
    let world = World::new();
    let mut gate = world.gate("gate");
    let mut holders = world.holders("held");
    let (wait, held) = (format!("gate:{}", gate.path), format!("hold:{}", world.path("held")));
    let words = ["say:up", &wait, "say:two", &held, &wait, "say:three", "pause"];
    world.plan(&app("web", &words, &format!("log_mode = \"raw\"\nlog_file = {:?}", world.path("web.log"))));
    let mut init = world.boot(Ns::pid1().env("PM3_LOG", "debug"));
    init.told("web: online");
    drop(following_from(&world, &init, &["--raw"], "up"));
    // The line and the wish are both there when the logger wakes up.
    let [logger] = &crate::roles::roles(&init.proc)[..] else { panic!("one logger") };
    init.signal_inside(logger.parse().unwrap(), Sig::STOP);
    gate.open();
    assert_eq!(holders.next().unwrap(), "held");
    let mut flush = init.proc.visitor(&[PM3, "flush"]);
    let mut flush = flush.env("PM3_HOME", &world.dir).stdout(Stdio::null()).spawn().unwrap();
    init.told("→ logger: Serve(Served { ask: Flush");
    init.signal_inside(logger.parse().unwrap(), Sig::CONT);
    assert!(flush.wait().unwrap().success());
    gate.open();
    until("three is there", || world.read("web.log").ends_with("three\n"));
    assert_eq!(world.read("web.log"), "three\n");
    assert_eq!(init.does(&["logs", "--nostream", "--raw"]), ["three"]);
    init.stop(0);
}

#[test]
fn flush_empties_files_and_memory() {
    let world = World::new();
    let mut gate = world.gate("gate");
    let file = world.path("web.log");
    let words = talker(&gate, &["two", "three"]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    world.plan(&app("web", &words, &format!("log_mode = \"raw\"\nlog_file = {file:?}")));
    let mut init = world.boot(Ns::pid1());
    init.told("web: online");
    let mut logs = following_from(&world, &init, &["--raw"], "up");
    assert_eq!(init.does(&["flush", "web"]), ["[PM3] [web] flushed"]);
    assert_eq!(world.read("web.log"), "");
    assert_eq!(init.does(&["logs", "--nostream", "--raw"]), Vec::<String>::new());
    gate.open();
    assert_eq!(logs.next().unwrap(), "two");
    assert_eq!(world.read("web.log"), "two\n");

    // Moved away by somebody else: the old file is written to until it is told.
    fs::rename(&file, world.path("old.log")).unwrap();
    assert_eq!(init.does(&["reload-logs"]), ["[PM3] [all] log files opened again"]);
    gate.open();
    assert_eq!(logs.next().unwrap(), "three");
    assert_eq!((world.read("old.log"), world.read("web.log")), ("two\n".into(), "three\n".into()));
    init.stop(0);
}

/// As `following`, once this line has been shown.
fn following_from(world: &World, init: &Init, words: &[&str], line: &str) -> Follower {
    let mut logs = following(world, init, words);
    assert_eq!(logs.next().unwrap(), line);
    logs
}

#[test]
fn output_that_does_not_arrive_is_told_where_one_looks() {
    let machine = Machine::bare();
    let blocked = machine.file("blocked", "");
    let why = format!("output is lost: cannot write to {blocked}/a.log: not a directory");
    for (name, script) in [("stays", "echo up; sleep 1000"), ("ends", "echo up")] {
        machine.file(&format!("{name}.sh"), script);
        let words = format!("start {name}.sh --interpreter sh --no-autorestart -o {blocked}/a.log");
        let said = machine.pm3(&words).ok();
        assert!(said.err.contains(&format!("[PM3][WARN] [{name}] runs, but its {why}")), "{said:?}");
        machine.pm3(&format!("show {name}")).ok().says("output is lost").says("a.log: not a directory");
        machine.pm3(&format!("show {name} --json")).ok().says(&format!("cannot write to {blocked}/a.log"));
        let said = machine.pm3(&format!("logs {name} --nostream --raw")).ok().says("up");
        assert!(said.err.contains(&why), "{said:?}");
    }
    // Another is not blamed for it, and once the place is there all is well.
    machine.file("other.sh", "sleep 1000");
    let said = machine.pm3("start other.sh --interpreter sh").ok();
    assert!(!said.err.contains("lost"), "{said:?}");
    fs::remove_file(&blocked).unwrap();
    let said = machine.pm3("restart stays").ok();
    assert!(!said.err.contains("lost"), "{said:?}");
    machine.pm3("show stays").ok().lacks("output is lost");
    machine.end();
}

#[test]
fn a_reader_that_does_not_read_holds_nobody_up_and_is_told_what_it_missed() {
    let world = World::new();
    let flood = "i=0; while [ $$i -lt 40000 ]; do echo \"a line of some length that is number $$i\"; i=$$((i+1)); done; sleep 1000";
    let keys = format!("autostart = false\nlog_mode = \"raw\"\nlog_file = {:?}", world.path("a.log"));
    world.plan(&(entry("a", "/bin/sh", &["-c", flood], &keys) + &app("b", &["say:up", "pause"], "log_mode = \"raw\"")));
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("up");
    // What it shows goes into a pipe that nobody reads for now.
    let mut logs = following(&world, &init, &["--json"]);
    assert!(logs.next().unwrap().contains("\"up\""));
    init.does(&["start", "a"]);
    let last = "a line of some length that is number 39999\n";
    let path = world.path("a.log");
    until("the flood is over", || fs::read_to_string(&path).is_ok_and(|text| text.ends_with(last)));
    assert_eq!(world.read("a.log").lines().count(), 40_000);
    let first = logs.next().unwrap();
    assert!(first.contains("number 0\""), "{first}");
    let (mut next, mut missed) = (1, 0);
    while next < 40_000 {
        let line = logs.next().unwrap();
        if let Some(told) = line.strip_prefix("[PM3][WARN] ") {
            let count: u32 = told.split(' ').next().unwrap().parse().unwrap();
            (next, missed) = (next + count, missed + count);
        } else {
            assert!(line.contains(&format!("number {next}\"")), "{next}: {line}");
            next += 1;
        }
    }
    // None comes twice, and none is lost in silence.
    assert!(next == 40_000 && missed > 0, "{next} {missed}");
    init.stop(0);
}
