//! What is bounded: how much an app may write, how long a line is, who waits for whom, and what all that takes of memory.

use std::collections::BTreeMap;
use std::fs;

use pm3::supervisor::event::Sig;

use crate::common::deeds::poured;
use crate::common::ns::Ns;
use crate::until;
use crate::world::{Init, World, app, entry, has, has_not};

/// The text of the line with this number that `pour` writes.
fn text(number: usize) -> String {
    String::from_utf8(poured(number)[..127].to_vec()).unwrap()
}

#[test]
fn what_is_beyond_the_rate_is_dropped_counted_and_told() {
    const POURED: usize = (1 << 20) / 128;
    let world = World::new();
    let file = |name: &str| format!("out_file = {:?}", world.path(name));
    // Two instances share what their app may write; the other app writes what it wants.
    let rated = format!(
        "kind = \"oneshot\"\nlog_mode = \"raw\"\ninstances = 2\nmerge_logs = true\nlog_rate = \"100/h\"\n{}",
        file("a.log")
    );
    world.plan(
        &(app("a", &["pour:1", "say:over"], &rated)
            + &app("b", &["pour:1", "pause"], &format!("log_mode = \"raw\"\n{}", file("b.log")))),
    );
    let mut init = world.boot(Ns::pid1());
    init.told("a: more output than its log_rate, 100/h; what is beyond is dropped");
    // It is remembered all the same: an app that dies in a flood has its last words.
    (0..2).for_each(|_| drop(init.told(": finished")));
    until("it has said all", || init.pm3(&["logs", "a", "--nostream", "--raw", "--lines", "1"]).1 == ["over"]);
    until("the other's are all there", || fs::metadata(world.path("b.log")).is_ok_and(|file| file.len() == 1 << 20));
    let kept = world.read("a.log");
    assert_eq!(kept.lines().count(), 100);
    assert!(kept.lines().all(|line| line.len() == 127 && line[12..] == text(0)[12..]), "{kept}");
    let log = init.stop(0);
    let (lines, bytes) = (2 * (POURED + 1) - 100, 2 * (POURED * 128 + "over\n".len()) - 100 * 128);
    has(&log, &format!("a: {lines} lines of output ({bytes} bytes) were dropped, beyond its log_rate of 100/h"));
    assert_eq!(log.iter().filter(|line| line.contains("were dropped")).count(), 1);
}

#[test]
fn a_rate_that_is_changed_holds_from_the_next_start_on() {
    let world = World::new();
    let plan = |keys: &str| world.plan(&app("a", &["say:one", "say:two", "say:three", "pause"], keys));
    plan("log_mode = \"raw\"\nlog_rate = \"2/h\"");
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("one");
    init.proc.expect("two");
    init.told("more output than its log_rate, 2/h");
    plan("log_mode = \"raw\"");
    init.signal(Sig::HUP);
    ["one", "two", "three"].into_iter().for_each(|line| init.proc.expect(line));
    init.told("a: 1 line of output (6 bytes) were dropped, beyond its log_rate of 2/h");
    init.stop(0);
}

#[test]
fn no_line_is_longer_than_asked_for_in_any_form() {
    const MOST: usize = 300;
    let world = World::new();
    // Letters, quotes that JSON makes longer, characters of two bytes, bytes that are no text, and a line that is short.
    let words =
        [&"x".repeat(1_000), &"\"".repeat(500), &"ä".repeat(333), "short", &"a\\001".repeat(200), &"\\377".repeat(500)];
    let script: String = words.iter().map(|word| format!("printf '{word}\\n';")).collect();
    for mode in ["raw", "prefix", "json"] {
        let keys = format!(
            "kind = \"oneshot\"\nlog_mode = \"{mode}\"\nlog_line_max = {MOST}\nlog_file = {:?}",
            world.path(mode)
        );
        world.plan(&entry("a", "/bin/sh", &["-c", &script], &keys));
        world.boot(Ns::pid1()).ends(0);
        let text = fs::read(world.path(mode)).unwrap();
        let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        assert!(lines.iter().all(|line| line.len() <= MOST), "{mode}: {lines:?}");
        // Not shorter than it has to be, either: the six lines are no more than so many pieces.
        assert!((14..40).contains(&lines.len()), "{mode}: {}", lines.len());
        let (mut whole, mut count) = (Vec::new(), 0);
        for line in lines {
            let (message, is_cut) = message(mode, line);
            whole.extend(message);
            if !is_cut {
                whole.push(b'\n');
                count += 1;
            }
        }
        assert_eq!(count, words.len(), "{mode}");
        let (junk, bad) =
            (b"a\x01".repeat(200), if mode == "json" { "\u{fffd}".repeat(500).into() } else { b"\xff".repeat(500) });
        let expected = [words[0].as_bytes(), words[1].as_bytes(), words[2].as_bytes(), b"short", &junk, &bad];
        assert_eq!(
            whole.escape_ascii().to_string(),
            (expected.join(&b'\n').escape_ascii().to_string() + "\\n"),
            "{mode}"
        );
    }
}

/// What an app wrote, of a line in this form, and whether it goes on.
fn message(mode: &str, line: &[u8]) -> (Vec<u8>, bool) {
    if mode == "json" {
        let object: serde_json::Value = serde_json::from_slice(line).unwrap();
        return (object["message"].as_str().unwrap().into(), object["cut"] == true);
    }
    let line = line.strip_suffix(b"\n").unwrap();
    let line = line.strip_prefix(if mode == "prefix" { &b"0|a | "[..] } else { b"" }).unwrap();
    line.strip_suffix(" …".as_bytes()).map_or((line.to_vec(), false), |line| (line.to_vec(), true))
}

#[test]
fn who_is_to_block_waits_for_a_stdout_that_takes_nothing_and_nobody_else_does() {
    const MIB: usize = 2;
    let world = World::new();
    let (file, done) = (world.path("other.log"), world.path("done"));
    let blocks = "log_mode = \"raw\"\nlog_on_full = \"block\"";
    world.plan(
        &(app("waits", &[&format!("pour:{MIB}"), &format!("touch:{done}"), "pause"], blocks)
            + &app("other", &["pour:8", "say:over", "pause"], &format!("{blocks}\nout_file = {file:?}"))),
    );
    // Nobody reads pm3's stdout.
    let mut init = world.boot(Ns::pid1());
    init.told("stdout takes nothing; those who write to it wait");
    until("who writes elsewhere goes on", || fs::read(&file).is_ok_and(|text| text.ends_with(b"over\n")));
    assert!(!fs::exists(&done).unwrap());
    // Nothing is lost, so nothing is told of it; and pm3 answers.
    let (code, lines, err) = init.pm3(&["logs", "waits", "--nostream", "--raw", "--lines", "1"]);
    assert_eq!((code, lines.len(), err), (0, 1, vec![]));
    for number in 0..(MIB << 20) / 128 {
        init.proc.expect(&text(number));
    }
    until("it goes on", || fs::exists(&done).unwrap());
    let log = init.stop(0);
    ["dropped", "lost"].into_iter().for_each(|word| has_not(&log, word));
}

#[test]
fn who_is_not_to_block_goes_on_beside_one_who_is() {
    let world = World::new();
    let done = world.path("done");
    let flood = |name: &str, keys: &str| {
        app(name, &["pour:2", &format!("touch:{done}-{name}"), "pause"], &format!("log_mode = \"raw\"\n{keys}"))
    };
    world.plan(&(flood("waits", "log_on_full = \"block\"") + &flood("drops", "")));
    let mut init = world.boot(Ns::pid1());
    init.told("stdout takes nothing; output for it is dropped until it does, but with log_on_full = \"block\" those who write to it wait");
    until("it could write all it had", || fs::exists(format!("{done}-drops")).unwrap());
    assert!(!fs::exists(format!("{done}-waits")).unwrap());
    // pm3 ends all the same, and says what did not arrive.
    let log = init.stop(0);
    has(&log, "exit 0");
    has(&log, "stdout: ");
}

/// The value of a line of the logger's status, in kB.
fn logger_kb(init: &Init, key: &str) -> u64 {
    let [logger] = &crate::roles::roles(&init.proc)[..] else { panic!("one logger") };
    let script =
        format!("while read -r key value _; do case $key in {key}:) echo $value;; esac; done < /proc/{logger}/status");
    init.proc.inside(&["/bin/sh", "-c", &script], &[]).1.concat().parse().unwrap()
}

#[test]
fn a_line_of_a_gigabyte_takes_no_memory() {
    let world = World::new();
    let mut gate = world.gate("gate");
    let endless = |name: &str, mode: &str, mib: u32| {
        let words = [format!("gate:{}", gate.path), format!("smear:{mib}"), format!("touch:{}", world.path(name))];
        let words = [&*words[0], &words[1], &words[2], "pause"];
        app(name, &words, &format!("log_mode = \"{mode}\"\nout_file = \"/dev/null\""))
    };
    let apps = [("whole", "prefix", 1_024), ("raw", "raw", 128), ("json", "json", 16)];
    world.plan(
        &(apps.map(|(name, mode, mib)| endless(name, mode, mib)).concat()
            + &app("first", &["say:first", "pause"], "log_mode = \"prefix\"")),
    );
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("3|first | first");
    let before = logger_kb(&init, "VmPeak");
    apps.iter().for_each(|_| gate.open());
    until("all is written", || apps.iter().all(|(name, ..)| fs::exists(world.path(name)).unwrap()));
    let after = logger_kb(&init, "VmPeak");
    // What is remembered of three apps, what is read at once and the lines that have begun, in a few sizes.
    assert!(after - before < 2_048, "{before} kB, then {after} kB");
    let (_, lines, _) = init.pm3(&["logs", "whole", "--nostream", "--raw", "--lines", "1"]);
    assert_eq!(lines, ["x".repeat(32 << 10)]);
    has_not(&init.stop(0), "logger");
}

#[test]
fn a_hundred_that_write_at_once_are_all_heard_whole_and_in_order() {
    const APPS: usize = 100;
    const MIB: usize = 1;
    let world = World::new();
    let mut gate = world.gate("gate");
    let words = [format!("gate:{}", gate.path), format!("pour:{MIB}")];
    let words = [&*words[0], &words[1]];
    world.plan(&app(
        "a",
        &words,
        &format!(
            "kind = \"oneshot\"\ninstances = {APPS}\nlog_mode = \"prefix\"\nmerge_logs = true\nout_file = {:?}",
            world.path("all.log")
        ),
    ));
    let mut init = world.boot(Ns::pid1());
    (0..APPS).for_each(|_| drop(init.told("online")));
    (0..APPS).for_each(|_| gate.open());
    let log = init.ends(0);
    ["dropped", "lost"].into_iter().for_each(|word| has_not(&log, word));
    let mut next: BTreeMap<String, usize> = BTreeMap::new();
    for line in world.read("all.log").lines() {
        let (who, rest) = line.split_once(" | ").unwrap_or_else(|| panic!("{line:?}"));
        let next = next.entry(who.trim().to_owned()).or_default();
        assert_eq!(rest, text(*next), "{who}");
        *next += 1;
    }
    assert_eq!(next.len(), APPS);
    assert!(next.values().all(|count| *count == (MIB << 20) / 128), "{next:?}");
}
