//! Much output, places that do not take it, and loggers that die in the middle: nothing is mixed, and what is lost is told.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;

use pm3::supervisor::event::Sig;

use crate::common::ns::Ns;
use crate::until;
use crate::world::{World, app, entry, has, has_not};

/// The lines of `count` numbered lines of an app.
fn numbered(name: &str, count: u32) -> String {
    format!(
        "i=0; while [ $$i -lt {count} ]; do echo \"{name} $$i of some length, to fill pipes soon\"; i=$$((i+1)); done"
    )
}

/// The number in such a line; it must be as it was written.
#[track_caller]
fn number(line: &str, name: &str) -> u32 {
    let number = line
        .strip_prefix(&format!("{name} "))
        .and_then(|rest| rest.strip_suffix(" of some length, to fill pipes soon"));
    number.unwrap_or_else(|| panic!("not a line of {name}: {line:?}")).parse().unwrap()
}

#[test]
fn lines_of_several_apps_are_never_mixed_and_all_are_there() {
    const COUNT: u32 = 20_000;
    let world = World::new();
    let keys = "kind = \"oneshot\"\nlog_mode = \"raw\"";
    let names = ["one", "two", "three"];
    let apps = names.map(|name| entry(name, "/bin/sh", &["-c", &numbered(name, COUNT)], keys));
    world.plan(&apps.concat());
    let mut init = world.boot(Ns::pid1());
    let mut next: BTreeMap<&str, u32> = names.map(|name| (name, 0)).into();
    for _ in 0..3 * COUNT {
        let line = init.proc.line();
        let name =
            *next.keys().find(|name| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{line:?}"));
        assert_eq!(number(&line, name), next[name]);
        *next.get_mut(name).unwrap() += 1;
    }
    init.ends(0);
    assert!(init.proc.rest().is_empty());
}

#[test]
fn a_hundred_megabytes_arrive() {
    let world = World::new();
    let file = world.path("big.log");
    // Lines of a hundred bytes, made fast: the first ten thousand, a hundred times.
    let keys = format!("kind = \"oneshot\"\nlog_mode = \"raw\"\nout_file = {file:?}");
    world.plan(&app("big", &["pour:100"], &keys));
    let mut init = world.boot(Ns::pid1());
    init.ends(0);
    let mut text = Vec::new();
    fs::File::open(&file).unwrap().read_to_end(&mut text).unwrap();
    assert_eq!(text.len(), 100 << 20);
    assert!(text.chunks(128).enumerate().all(|(at, line)| line == crate::common::deeds::poured(at).as_slice()));
}

#[test]
fn a_logger_that_is_killed_again_and_again_loses_no_more_than_it_has_read() {
    const KILLS: usize = 8;
    let world = World::new();
    let file = world.path("a.log");
    world.plan(&app("a", &["pour:64", "say:over", "pause"], &format!("log_mode = \"raw\"\nout_file = {file:?}")));
    let mut init = world.boot(Ns::pid1());
    for _ in 0..KILLS {
        let before = fs::metadata(&file).map_or(0, |file| file.len());
        until("some has arrived", || fs::metadata(&file).is_ok_and(|file| file.len() > before));
        let loggers = crate::roles::roles(&init.proc);
        init.signal_inside(loggers[0].parse().unwrap(), Sig::KILL);
        init.told("the logger ended (SIGKILL), replacing it");
    }
    until("the last line is there", || fs::read(&file).is_ok_and(|text| text.ends_with(b"over\n")));
    let text = fs::read(&file).unwrap();
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    // What is lost is at most what was read at once, each time; nothing comes twice or out of order.
    let numbers: Vec<usize> =
        lines.iter().filter_map(|line| std::str::from_utf8(line.get(..12)?).ok()?.trim().parse().ok()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
    let whole = (64usize << 20) / 128;
    assert!(whole - numbers.len() <= KILLS * ((64 << 10) / 128 + 2), "{} of {whole}", numbers.len());
    init.stop(0);
}

#[test]
fn a_place_that_takes_nothing_stops_nobody_else() {
    let world = World::new();
    let file = world.path("other.log");
    let flood = numbered("stuck", 20_000);
    world.plan(
        &(entry(
            "stuck",
            "/bin/sh",
            &["-c", &format!("{flood}; echo done > {}; sleep 1000", world.path("mark"))],
            "log_mode = \"raw\"",
        ) + &app("other", &["say:here", "pause"], &format!("log_mode = \"raw\"\nlog_file = {file:?}"))),
    );
    // Nobody reads pm3's stdout.
    let mut init = world.boot(Ns::pid1());
    init.told("stdout takes nothing; output for it is dropped until it does");
    until("the app could write all it had", || fs::exists(world.path("mark")).unwrap());
    assert_eq!(world.read("other.log"), "here\n");
    // It remembers them all the same.
    let (_, last, err) = init.pm3(&["logs", "stuck", "--raw", "--nostream", "--lines", "1"]);
    assert_eq!(number(&last.concat(), "stuck"), 19_999);
    assert_eq!(err, ["[PM3][WARN] [stuck](0) output is lost: stdout takes nothing"]);
    // Once it takes something again, the count is told, and later lines come.
    let mut next = 0;
    while next < 20_000 {
        let line = init.proc.line();
        if !line.starts_with("stuck ") {
            break;
        }
        assert_eq!(number(&line, "stuck"), next);
        next += 1;
        if next == 1_000 {
            break;
        }
    }
    let told = init.told("lines of output (");
    assert!(told.contains("stdout: ") && told.contains("were dropped"), "{told}");
    drop(init);
}

#[test]
fn a_closed_stdout_is_told_once_and_harms_nobody() {
    let world = World::new();
    let file = world.path("other.log");
    let keys = format!("log_mode = \"raw\"\nlog_file = {file:?}");
    world.plan(
        &(app("a", &["say:lost", "say:lost"], "kind = \"oneshot\"\nlog_mode = \"raw\"")
            + &app("other", &["say:here"], &format!("kind = \"oneshot\"\nafter = [\"a\"]\n{keys}"))),
    );
    let mut init = world.boot(Ns::pid1().with("close:1"));
    let log = init.ends(0);
    assert_eq!(world.read("other.log"), "here\n");
    has_not(&log, "panicked");
}

#[test]
fn bytes_that_are_no_text_pass_unchanged() {
    let world = World::new();
    let file = world.path("bin");
    let script = "printf '\\000\\001\\377\\n\\n\\r\\n'; printf 'no end\\200'";
    world.plan(&entry(
        "a",
        "/bin/sh",
        &["-c", script],
        &format!("kind = \"oneshot\"\nlog_mode = \"raw\"\nout_file = {file:?}"),
    ));
    let mut init = world.boot(Ns::pid1());
    init.ends(0);
    assert_eq!(fs::read(&file).unwrap(), b"\0\x01\xff\n\n\r\nno end\x80");
}

#[test]
fn a_root_without_a_place_to_write_needs_none() {
    let world = World::new();
    world.plan(&app("web", &["say:up", "pause"], ""));
    let mut init = world.boot(Ns::pid1().with("readonly").env("PM3_LOG_MODE", "prefix"));
    init.proc.expect("0|web | up");
    let words = ["logs", "--raw", "--nostream"];
    let (code, out, err) = init.proc.inside(&[&[crate::common::PM3], &words[..]].concat(), &[]);
    assert_eq!((code, out), (0, vec!["up".to_owned()]), "{err:?}");
    init.stop(0);
}

#[test]
fn a_file_that_cannot_be_written_is_told_and_tried_again() {
    let world = World::new();
    let mut gate = world.gate("gate");
    // No directory can be made there.
    let dir = world.write("later", "");
    let wait = format!("gate:{}", gate.path);
    let words = ["say:one", &wait, "say:two", "pause"];
    world.plan(&app("a", &words, &format!("log_mode = \"raw\"\nout_file = \"{dir}/a.log\"")));
    let mut init = world.boot(Ns::pid1());
    init.told("later/a.log: not a directory; output for it is dropped until that works");
    // The first line has been dropped by the time that somebody is shown it.
    until("it has said it", || init.pm3(&["logs", "--nostream", "--raw", "--out"]).1 == ["one"]);
    fs::remove_file(&dir).unwrap();
    gate.open();
    let told = init.told("were dropped");
    assert!(told.contains("1 line of output (4 bytes)"), "{told}");
    until("it is there", || fs::read_to_string(format!("{dir}/a.log")).is_ok_and(|text| text == "two\n"));
    let log = init.stop(0);
    has(&log, "exit 0");
}

/// Makes the logger's table of descriptors so small, or large.
fn restrict_logger(init: &crate::world::Init, limit: u32) {
    limit_logger(init, &format!("nofile:{limit}"));
}

fn limit_logger(init: &crate::world::Init, limit: &str) {
    let [logger] = &crate::roles::roles(&init.proc)[..] else { panic!("one logger") };
    let words = crate::common::app(&[&format!("restrict:{logger}:{limit}")]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (code, out, err) = init.proc.inside(&words, &[(crate::common::ROLE, "1")]);
    assert!(code == 0 && out.concat().starts_with("was "), "{out:?} {err:?}");
}

#[test]
fn a_file_for_which_there_is_no_descriptor_is_waited_for_and_nothing_is_lost() {
    let world = World::new();
    let mut gate = world.gate("gate");
    let dir = world.write("later", "");
    let wait = format!("gate:{}", gate.path);
    let words = ["say:one", &wait, "say:two", &wait, "say:three", "pause"];
    world.plan(&app("a", &words, &format!("log_mode = \"raw\"\nout_file = \"{dir}/a.log\"")));
    let mut init = world.boot(Ns::pid1());
    init.told("later/a.log: not a directory");
    until("it has said it", || init.pm3(&["logs", "--nostream", "--raw", "--out"]).1 == ["one"]);
    restrict_logger(&init, 3);
    fs::remove_file(&dir).unwrap();
    gate.open();
    init.told("a.log: too many open files; output for it waits");
    restrict_logger(&init, 1_024);
    gate.open();
    until("both are there", || fs::read_to_string(format!("{dir}/a.log")).is_ok_and(|text| text == "two\nthree\n"));
    let log = init.stop(0);
    // What was dropped before that is told.
    has_not(&log, "2 lines of output");
}

#[test]
fn a_file_that_may_not_grow_ends_with_a_whole_line_and_kills_nobody() {
    const LIMIT: usize = 100_000;
    let world = World::new();
    let mut gate = world.gate("gate");
    let file = world.path("a.log");
    let wait = format!("gate:{}", gate.path);
    let words = ["say:first", &wait, "pour:1", "say:last", &wait, "say:after", "pause"];
    world.plan(&app("a", &words, &format!("log_mode = \"raw\"\nout_file = {file:?}")));
    let mut init = world.boot(Ns::pid1());
    until("it is there", || fs::exists(&file).unwrap() && world.read("a.log") == "first\n");
    // What RLIMIT_FSIZE forbids comes with a SIGXFSZ, whose default is the end.
    limit_logger(&init, &format!("fsize:{LIMIT}"));
    gate.open();
    init.told("a.log: file too large; output for it is dropped until that works");
    until("all has been said", || init.pm3(&["logs", "--nostream", "--raw", "--lines", "1"]).1 == ["last"]);
    assert_eq!(fs::metadata(&file).unwrap().len(), LIMIT as u64);
    limit_logger(&init, &format!("fsize:{}", u32::MAX));
    gate.open();
    let told = init.told("were dropped");
    until("what comes next is there", || world.read("a.log").ends_with("\nafter\n"));
    let text = fs::read(&file).unwrap();
    let text = text.strip_prefix(b"first\n").unwrap().strip_suffix(b"after\n").unwrap();
    // The line that had begun has been written to its end.
    let kept = (LIMIT - "first\n".len()).div_ceil(128);
    assert_eq!(text.len(), kept * 128);
    assert!(text.chunks(128).enumerate().all(|(at, line)| line == crate::common::deeds::poured(at).as_slice()));
    let (lines, bytes) = ((1 << 20) / 128 - kept + 1, (1 << 20) - text.len() + "last\n".len());
    assert!(told.ends_with(&format!("a.log: {lines} lines of output ({bytes} bytes) were dropped")), "{told}");
    has_not(&init.stop(0), "logger");
}

#[test]
fn a_logger_that_cannot_take_a_pipe_leaves_everything_to_another() {
    let world = World::new();
    let mut gate = world.gate("gate");
    let file = world.path("a.log");
    let wait = format!("gate:{}", gate.path);
    let words = ["say:one", &wait, "say:two", "pause"];
    let keys = |file: &str| format!("log_mode = \"prefix\"\nout_file = {file:?}");
    world.plan(
        &(app("a", &words, &keys(&file))
            + &app("b", &["say:three", "pause"], &format!("autostart = false\n{}", keys(&world.path("b.log"))))),
    );
    let mut init = world.boot(Ns::pid1());
    until("one is there", || fs::read_to_string(&file).is_ok_and(|text| text.ends_with("one\n")));
    restrict_logger(&init, 3);
    let (code, ..) = init.pm3(&["start", "b"]);
    assert_eq!(code, 0);
    init.told("logger: too many open files");
    init.told("the logger ended (exit 1), replacing it");
    gate.open();
    until("two is there", || fs::read_to_string(&file).is_ok_and(|text| text == "0|a | one\n0|a | two\n"));
    until("three is there", || fs::exists(world.path("b.log")).unwrap() && world.read("b.log") == "1|b | three\n");
    init.stop(0);
}

#[test]
fn more_files_than_descriptors_are_written_in_turn() {
    const APPS: usize = 18;
    const LINES: u32 = 300;
    let world = World::new();
    let script = format!(
        "i=0; while [ $$i -lt {LINES} ]; do echo out $$i; echo err $$i >&2; i=$$((i+1)); done; echo over; sleep 1000"
    );
    let keys = format!(
        "instances = {APPS}\nlog_mode = \"raw\"\nout_file = {:?}\nerror_file = {:?}",
        world.path("o.log"),
        world.path("e.log")
    );
    world.plan(&entry("a", "/bin/sh", &["-c", &script], &keys));
    let mut init = world.boot(Ns::pid1().with("nofile:80:80"));
    (0..APPS).for_each(|_| drop(init.told("online")));
    for id in 0..APPS {
        let (out, err) = (format!("o-{id}.log"), format!("e-{id}.log"));
        until("all is written", || fs::exists(world.path(&out)).unwrap() && world.read(&out).ends_with("over\n"));
        let numbered = |word: &str| (0..LINES).map(|number| format!("{word} {number}\n")).collect::<String>();
        assert_eq!(world.read(&out), numbered("out") + "over\n");
        until("all errors are written", || {
            fs::exists(world.path(&err)).unwrap() && world.read(&err) == numbered("err")
        });
    }
    let log = init.stop(0);
    ["logger", "too many open files", "lost", "dropped"].into_iter().for_each(|word| has_not(&log, word));
}

#[test]
fn the_last_words_of_an_app_that_is_deleted_are_not_lost_with_the_logger() {
    let world = World::new();
    let words = ["say:up", "listen", "hear:TERM", "say:last"];
    world.plan(&(app("gone", &words, "log_mode = \"prefix\"") + &app("stay", &["say:up", "pause"], "")));
    let mut init = world.boot(Ns::pid1().env("PM3_LOG_MODE", "raw"));
    init.lines(2);
    let [logger] = &crate::roles::roles(&init.proc)[..] else { panic!("one logger") };
    init.signal_inside(logger.parse().unwrap(), Sig::STOP);
    let (code, ..) = init.pm3(&["delete", "gone"]);
    assert_eq!(code, 0);
    init.signal_inside(logger.parse().unwrap(), Sig::KILL);
    init.told("replacing it");
    init.proc.expect("0|gone | heard SIGTERM");
    init.proc.expect("0|gone | last");
    has_not(&init.stop(0), "lost");
}

#[test]
fn the_standard_places_are_what_they_are_called() {
    // An app whose user is not pm3's may open its stdout again.
    if !nix::unistd::geteuid().is_root() {
        return crate::common::lacking("root", 1);
    }
    let world = World::new();
    let keys = "kind = \"oneshot\"\nuser = \"65534\"\ngroup = \"65534\"\nlog_mode = \"raw\"";
    world.plan(&entry("a", "/bin/sh", &["-c", "echo one > /dev/stdout; echo two > /dev/stderr"], keys));
    let mut init = world.boot(Ns::pid1().with("rooted"));
    let log = init.ends(0);
    assert_eq!(init.proc.rest(), ["one"]);
    has(&log, "two");
}
