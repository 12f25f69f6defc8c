//! An init whose helpers are stuck and whose clients mean ill: it loses nothing by it, and nobody else waits.

use std::fs;
use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use pm3::control::client::{Error, Told};
use pm3::control::logs::{Event, Query};
use pm3::control::{Problem, Request};
use pm3::supervisor::event::{Mono, Sig, Verb};
use pm3::supervisor::spec::{LogMode, Rare};

use crate::apps::entry;
use crate::common::PATIENCE;
use crate::common::deeds::poured;
use crate::common::ns::signal;
use crate::desk::{dial, is_over, say};
use crate::real::Init;

/// The process that init has under this name, as soon as it has taken it.
fn child(init: &Init, name: &str) -> i32 {
    let parent = format!("PPid:\t{}", init.pid());
    let is_it = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line == parent) && status.lines().next() == Some(&format!("Name:\t{name}"))
    };
    let begun = Instant::now();
    loop {
        let mut pids =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        if let Some(pid) = pids.find(is_it) {
            return pid;
        }
        assert!(begun.elapsed() < PATIENCE, "init has no {name}");
        thread::yield_now();
    }
}

#[test]
fn a_logger_that_is_stopped_costs_init_no_descriptors() {
    const FILES: u64 = 384;
    let init = Init::with_limit(Some(FILES));
    let mut app = entry("again", &["pause"]);
    app.launch.output.mode = LogMode::Raw;
    let mut client = init.client();
    let outcome = client.apply(Verb::Start, vec![app], None, false).unwrap();
    assert_eq!(outcome.failed, []);
    let stopped = child(&init, "pm3-logger");
    signal(stopped, Sig::STOP);
    // What the socket's buffer takes in, and as much again as there are descriptors.
    for turn in 0..200 + FILES {
        let outcome = client.operate(Verb::Restart, vec!["again".into()], None).unwrap();
        assert_eq!(outcome.failed, [], "turn {turn}");
    }
    // It was replaced: it had not listened.
    assert_ne!(child(&init, "pm3-logger"), stopped);
}

#[test]
fn no_client_tells_that_files_have_changed() {
    let init = Init::start();
    let changed = Request::Changed { app: "web".into(), path: "\u{1b}[2J".repeat(999).into(), at: Mono(u64::MAX) };
    let refused = init.client().ask(&changed, Some(PATIENCE));
    let Err(Error::Refused(refusal)) = refused else { panic!("{refused:?}") };
    assert_eq!(refusal.problem, Problem::NotAllowed);
}

#[test]
fn a_reader_that_does_not_stop_talking_is_not_listened_to() {
    let init = Init::start();
    let mut app = entry("talks", &["say:up", "pause"]);
    app.launch.output.mode = LogMode::Raw;
    init.client().apply(Verb::Start, vec![app], None, false).unwrap();
    let mut stream = dial(&init.socket()).unwrap();
    say(&stream, "{\"version\":1,\"ask\":{\"logs\":{\"targets\":[\"talks\"],\"follow\":true}}}\n");
    let (mut heard, mut piece) = (String::new(), [0; 1 << 10]);
    while !(heard.contains("live") && heard.contains("\"up\"")) {
        let count = stream.read(&mut piece).unwrap();
        heard += std::str::from_utf8(&piece[..count]).unwrap();
    }
    // A stray line is nothing.
    say(&stream, "hello?\n");
    let mut said = 0;
    while stream.write_all(&[b'x'; 64 << 10]).is_ok() {
        said += 1;
        assert!(said < 1_000, "still listening");
    }
    assert!(is_over(&stream));
    assert_eq!(init.client().recent(vec!["talks".into()], 9).unwrap().len(), 1);
}

#[test]
fn a_client_is_shown_so_much_of_the_past_and_no_more() {
    const MIB: usize = 4;
    let init = Init::start();
    let mut app = entry("much", &[&format!("pour:{MIB}"), "pause"]);
    app.launch.output.mode = LogMode::Raw;
    app.launch.output.out = Some("/dev/null".into());
    app.launch.rare = Some(Box::new(Rare { log_memory: Some(8 << 20), ..Rare::default() }));
    let client = init.client();
    init.client().apply(Verb::Start, vec![app], None, false).unwrap();
    let lines = (MIB << 20) / poured(0).len();
    let last = String::from_utf8(poured(lines - 1)[..127].to_vec()).unwrap();
    let begun = Instant::now();
    while client.recent(vec!["much".into()], 1).unwrap().iter().all(|line| *line.text != *last) {
        assert!(begun.elapsed() < PATIENCE, "it never came");
        thread::yield_now();
    }
    let mut logs = client.logs(Query { targets: vec!["much".into()], ..Query::default() }).unwrap();
    let (mut missed, mut shown) = (0, 0);
    'all: loop {
        for told in logs.next(Some(Duration::from_secs(30))).unwrap() {
            match told {
                // The oldest are missing.
                Told::Event(Event::Missed { lines }) if shown == 0 => missed += usize::try_from(lines).unwrap(),
                Told::Event(Event::Line(_)) => shown += 1,
                Told::Event(other) => panic!("{other:?}"),
                Told::End(_) => break 'all,
            }
        }
    }
    assert_eq!(missed + shown, lines);
    assert!(shown * poured(0).len() <= 2 << 20 && shown > 1_000, "{shown}");
}
