//! What a line looks like, and where it goes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use pm3::supervisor::event::Sig;

use crate::common::ns::Ns;
use crate::common::tty::Terminal;
use crate::world::{World, app, entry, has, has_not};

/// Without a mode for all apps: what is usual.
fn usual() -> Ns {
    Ns::pid1().env("PM3_LOG_MODE", "")
}

#[test]
fn one_app_is_passed_on_and_several_have_their_names() {
    let world = World::new();
    world.plan(&app("web", &["say:up", "pause"], ""));
    let mut init = world.boot(usual());
    init.proc.expect("up");
    // A second one makes names necessary, and they stand in line.
    let gate = world.gate("gate");
    world.plan(
        &(app("web", &["say:up", "pause"], "")
            + &app("worker", &["say:up", &format!("gate:{}", gate.path), "pause"], "")),
    );
    init.signal(Sig::HUP);
    init.proc.expect("1|worker | up");
    init.does(&["restart", "web"]);
    init.proc.expect("0|web    | up");
    init.stop(0);
}

#[test]
fn a_variable_sets_the_form_of_all() {
    let world = World::new();
    world.plan(&app("web", &["say:up", "pause"], ""));
    let mut init = world.boot(Ns::pid1().env("PM3_LOG_MODE", "json"));
    let line: serde_json::Value = serde_json::from_str(&init.proc.line()).unwrap();
    assert_eq!((&line["app"], &line["message"]), (&"web".into(), &"up".into()));
    // And of what pm3 says, so that whoever reads both can read all.
    let log = init.stop(0);
    let lines: Vec<serde_json::Value> = log.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let end = lines.iter().find(|line| line["message"] == "exit 0: SIGTERM").unwrap();
    assert_eq!((&end["app"], &end["level"]), (&"pm3".into(), &"info".into()));
    assert!(end["time"].as_str().unwrap().ends_with('Z'));
    let mut init = world.boot(Ns::pid1().env("PM3_LOG_MODE", "jsno"));
    let line = init.proc.err_line();
    assert!(line.contains("log_mode from $PM3_LOG_MODE, jsno: expected auto, raw, prefix, json"), "{line}");
    init.ends(78);
}

#[test]
fn streams_stay_apart() {
    let world = World::new();
    let script = "echo to out; echo to err >&2";
    world.plan(&entry("a", "/bin/sh", &["-c", script], "kind = \"oneshot\"\nlog_mode = \"prefix\""));
    let mut init = world.boot(Ns::pid1());
    let log = init.ends(0);
    assert_eq!(init.proc.rest(), ["0|a | to out"]);
    has(&log, "0|a | to err");
}

#[test]
fn json_tells_whose_it_is_and_takes_objects_as_they_are() {
    let world = World::new();
    let script = "echo plain; echo '{\"level\": 30, \"msg\": \"hi\"}'; printf '\\377bad'; echo err >&2";
    world.plan(&entry("a", "/bin/sh", &["-c", script], "kind = \"oneshot\"\nlog_mode = \"json\""));
    let mut init = world.boot(Ns::pid1());
    let log = init.ends(0);
    let lines: Vec<serde_json::Value> =
        init.proc.rest().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let messages: Vec<&serde_json::Value> = lines.iter().map(|line| &line["message"]).collect();
    assert_eq!(
        messages,
        [&serde_json::json!("plain"), &serde_json::json!({"level": 30, "msg": "hi"}), &"\u{fffd}bad".into()]
    );
    assert!(lines.iter().all(|line| line["stream"] == "stdout" && line["id"] == 0 && line["pid"].as_u64() > Some(1)));
    assert!(lines.iter().all(|line| line["time"].as_str().unwrap().ends_with('Z')));
    has(&log, "\"stream\":\"stderr\"");
}

#[test]
fn a_date_stands_before_each_line() {
    let world = World::new();
    world.plan(
        &(app("a", &["say:x"], "kind = \"oneshot\"\ntime = true\nlog_mode = \"raw\"")
            + &app(
                "b",
                &["say:y"],
                "kind = \"oneshot\"\nlog_date_format = \"[at] YYYY\"\nafter = [\"a\"]\nlog_mode = \"prefix\"",
            )),
    );
    let mut init = world.boot(Ns::pid1());
    init.ends(0);
    let mut lines = init.proc.rest();
    // Of two pipes that have something nobody knows which had it first.
    lines.sort();
    let year = |text: &str| text.len() == 4 && text.starts_with("20");
    let [b, a] = &lines[..] else { panic!("{lines:?}") };
    assert!(a.ends_with(": x") && year(&a[..4]) && a.as_bytes()[10] == b'T', "{a}");
    assert!(b.starts_with("1|b | at 20") && b.ends_with(": y"), "{b}");
}

#[test]
fn files_get_what_was_written_and_nothing_is_in_front_of_it() {
    let world = World::new();
    let keys =
        format!("kind = \"oneshot\"\nout_file = {:?}\nerror_file = {:?}", world.path("out.log"), world.path("err.log"));
    world.plan(
        &(entry("a", "/bin/sh", &["-c", "echo to out; echo to err >&2; printf open"], &keys)
            + &app("b", &["say:b"], "kind = \"oneshot\"")),
    );
    let mut init = world.boot(usual());
    init.ends(0);
    assert_eq!(world.read("out.log"), "to out\nopen");
    assert_eq!(world.read("err.log"), "to err\n");
    assert_eq!(fs::metadata(world.path("out.log")).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(init.proc.rest(), ["1|b | b"]);
}

#[test]
fn instances_have_files_of_their_own_unless_they_are_merged() {
    let world = World::new();
    let keys = |merge: bool, name: &str| {
        let file = world.path(name);
        format!("kind = \"oneshot\"\ninstances = 2\nlog_file = {file:?}\nmerge_logs = {merge}\nlog_mode = \"prefix\"")
    };
    world
        .plan(&(app("apart", &["say:x"], &keys(false, "apart.log")) + &app("one", &["say:y"], &keys(true, "one.log"))));
    let mut init = world.boot(Ns::pid1());
    init.ends(0);
    assert_eq!(world.read("apart-0.log"), "0|apart | x\n");
    assert!(world.read("apart-1.log").ends_with("1|apart | x\n"));
    let mut merged: Vec<String> = world.read("one.log").lines().map(str::to_owned).collect();
    merged.sort();
    // How wide names are depends on who is still there.
    let merged: Vec<String> = merged.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(merged, ["2|one | y", "3|one | y"]);
}

#[test]
fn a_file_for_both_streams_is_beside_the_others() {
    let world = World::new();
    let script = "echo to out; echo to err >&2";
    let job = |name: &str, keys: &str| {
        let path = |key: &str| format!("{key} = {:?}\n", world.path(&format!("{name}-{key}")));
        let keys: String = keys
            .split(' ')
            .map(|key| if key.starts_with("own") { "out_file = \"/dev/stdout\"\n".to_owned() } else { path(key) })
            .collect();
        entry(name, "/bin/sh", &["-c", script], &format!("kind = \"oneshot\"\nlog_mode = \"prefix\"\n{keys}"))
    };
    world.plan(
        &(job("alone", "log_file")
            + &job("one", "out_file log_file")
            + &job("full", "out_file error_file log_file")
            + &job("mine", "own log_file")),
    );
    let mut init = world.boot(Ns::pid1());
    let log = init.ends(0);
    // However wide the names of those are that were there at the moment.
    let tight = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let sorted = |name: &str| {
        let mut lines: Vec<String> = world.read(name).lines().map(tight).collect();
        lines.sort();
        lines
    };
    for (id, name) in [(0, "alone"), (1, "one"), (2, "full"), (3, "mine")] {
        let both = [format!("{id}|{name} | to err"), format!("{id}|{name} | to out")];
        assert_eq!(sorted(&format!("{name}-log_file")), both);
    }
    assert_eq!(
        (sorted("one-out_file"), sorted("full-out_file")),
        (vec!["1|one | to out".into()], vec!["2|full | to out".into()])
    );
    assert_eq!(sorted("full-error_file"), ["2|full | to err"]);
    // Where there is a file, nothing goes to pm3's own, unless that is one of them.
    let own: Vec<String> = init.proc.rest().iter().map(|line| tight(line)).collect();
    assert_eq!(own, ["3|mine | to out"]);
    has_not(&log, "to err");
}

#[test]
fn a_directory_for_all_files_has_pm2s_names() {
    let world = World::new();
    let dir = world.path("logs");
    let text =
        app("web", &["say:x"], "kind = \"oneshot\"") + &app("two", &["say:y"], "kind = \"oneshot\"\ninstances = 2");
    world.plan(&format!("{text}[pm3]\nlog_dir = {dir:?}\n"));
    let mut init = world.boot(usual());
    init.ends(0);
    assert!(init.proc.rest().is_empty());
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    // Also those that nothing was written to: people follow them.
    let both = ["two-error-1.log", "two-error-2.log", "two-out-1.log", "two-out-2.log", "web-error.log", "web-out.log"];
    assert_eq!(names, both);
    assert_eq!(world.read("logs/web-out.log"), "x\n");
}

#[test]
fn a_file_is_its_users_and_not_opened_through_a_link() {
    if !nix::unistd::geteuid().is_root() {
        return crate::common::lacking("root", 1);
    }
    let world = World::new();
    let target = world.write("target", "");
    std::os::unix::fs::symlink(&target, world.path("link.log")).unwrap();
    fs::create_dir(world.path("mine")).unwrap();
    std::os::unix::fs::chown(world.path("mine"), Some(65_534), Some(65_534)).unwrap();
    let open_again = "echo one; echo two > /dev/stdout; echo three >> /proc/self/fd/1";
    let of_user = "kind = \"oneshot\"\nuser = \"65534\"\ngroup = \"65534\"\nlog_mode = \"raw\"";
    let mine = format!("{of_user}\nout_file = {:?}", world.path("mine/out.log"));
    let link = format!("{of_user}\nout_file = {:?}", world.path("link.log"));
    world.plan(
        &(entry("mine", "/bin/sh", &["-c", open_again], &mine)
            + &entry("link", "/bin/sh", &["-c", "echo lost"], &link)),
    );
    let mut init = world.boot(Ns::pid1().with("rooted"));
    let log = init.ends(0);
    assert_eq!(world.read("mine/out.log"), "one\ntwo\nthree\n");
    let file = fs::metadata(world.path("mine/out.log")).unwrap();
    assert_eq!((file.uid(), file.gid()), (65_534, 65_534));
    assert_eq!(world.read("target"), "");
    has(&log, "link.log: too many symbolic links");
    has_not(&log, "mine/out.log");
}

#[test]
fn a_directory_that_is_missing_is_made() {
    let world = World::new();
    let keys = format!("kind = \"oneshot\"\nout_file = {:?}", world.path("not/there/yet/a.log"));
    world.plan(&app("a", &["say:x"], &keys));
    let mut init = world.boot(usual());
    let log = init.ends(0);
    assert_eq!(world.read("not/there/yet/a.log"), "x\n");
    let expected = 0o755 & fs::metadata(&world.dir).unwrap().permissions().mode();
    for name in ["not", "not/there", "not/there/yet"] {
        assert_eq!(fs::metadata(world.path(name)).unwrap().permissions().mode() & 0o777, expected & 0o777, "{name}");
    }
    has_not(&log, "a.log");
}

#[test]
fn a_directory_is_made_with_the_rights_of_its_user() {
    if !nix::unistd::geteuid().is_root() {
        return crate::common::lacking("root", 1);
    }
    let world = World::new();
    for name in ["mine", "roots"] {
        fs::create_dir(world.path(name)).unwrap();
        fs::set_permissions(world.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::os::unix::fs::chown(world.path("mine"), Some(65_534), Some(65_534)).unwrap();
    std::os::unix::fs::symlink(world.path("roots"), world.path("mine/link")).unwrap();
    let of_user = "kind = \"oneshot\"\nuser = \"65534\"\ngroup = \"65534\"\nlog_mode = \"raw\"";
    let keys = |file: &str| format!("{of_user}\nout_file = {:?}", world.path(file));
    world.plan(
        &(entry("mine", "/bin/sh", &["-c", "echo one"], &keys("mine/new/out.log"))
            + &entry("link", "/bin/sh", &["-c", "echo lost"], &keys("mine/link/new/out.log"))),
    );
    let mut init = world.boot(Ns::pid1().with("rooted"));
    let log = init.ends(0);
    assert_eq!(world.read("mine/new/out.log"), "one\n");
    let made = fs::metadata(world.path("mine/new")).unwrap();
    assert_eq!((made.uid(), made.gid(), made.permissions().mode() & 0o777), (65_534, 65_534, 0o755));
    // The link leads to where this user may make nothing, so pm3 makes nothing there either.
    assert_eq!(fs::read_dir(world.path("roots")).unwrap().count(), 0);
    has(&log, "link/new/out.log: its directory cannot be made: permission denied; output for it is dropped");
    has(&log, "1 line of output (5 bytes)");
}

#[test]
fn whoever_holds_its_output_itself_has_no_logger_in_between() {
    let world = World::new();
    let file = world.path("own.log");
    world.plan(&app("a", &["say:x"], &format!("kind = \"oneshot\"\nlog_mode = \"inherit\"\nout_file = {file:?}")));
    let mut init = world.boot(Ns::pid1());
    init.ends(0);
    assert_eq!(world.read("own.log"), "x\n");
}

#[test]
fn prefixes_are_in_color_at_a_terminal_whose_owner_wants_it() {
    let script = "echo to out; echo to err >&2; sleep 1000";
    for (ns, out, err) in [
        (Ns::pid1(), "\x1b[32m0|web | \x1b[0mto out", "\x1b[31m0|web | \x1b[0mto err"),
        (Ns::pid1().env("NO_COLOR", "1"), "0|web | to out", "0|web | to err"),
    ] {
        let world = World::new();
        world.plan(&entry("web", "/bin/sh", &["-c", script], "log_mode = \"prefix\""));
        let (mut terminal, slave) = Terminal::open();
        let init = world.boot(ns.terminal(slave));
        let mut lines: Vec<String> =
            std::iter::repeat_with(|| terminal.line()).filter(|line| line.contains("to ")).take(2).collect();
        lines.sort_by_key(|line| line.ends_with("err"));
        assert_eq!(lines, [out, err]);
        init.signal(Sig::TERM);
        terminal.screen.until("exit 0: SIGTERM");
    }
}
