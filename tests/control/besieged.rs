//! An init whose helpers are stuck and whose clients mean ill: it loses nothing by it, and nobody else waits.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use pm3::control::client::{Error, Told};
use pm3::control::limits::TARGETS_MAX;
use pm3::control::logs::{Event, Query};
use pm3::control::{Problem, Reply, Request};
use pm3::supervisor::event::{Mono, RunId, Sig, Verb};
use pm3::supervisor::spec::{LogMode, Rare};

use crate::apps::entry;
use crate::common::PATIENCE;
use crate::common::deeds::poured;
use crate::common::ns::signal;
use crate::desk::{dial, hear, is_over, say};
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

const LIST: &str = "{\"version\":1,\"ask\":\"list\"}\n";

/// Clients that are let in.
fn let_in(init: &Init, count: usize) -> Vec<UnixStream> {
    let one = || {
        let stream = dial(&init.socket()).unwrap();
        say(&stream, "{\"version\":1,\"ask\":\"ping\"}\n");
        assert!(hear(&stream).contains("pong"));
        stream
    };
    (0..count).map(|_| one()).collect()
}

/// Stops init. That is asked for at once, and comes to be when init gets a processor.
fn stop(init: &Init) {
    signal(init.pid(), Sig::STOP);
    let begun = Instant::now();
    let is_stopped = || fs::read_to_string(format!("/proc/{}/stat", init.pid())).unwrap().contains(") T ");
    while !is_stopped() {
        assert!(begun.elapsed() < PATIENCE, "init does not stop");
        thread::yield_now();
    }
}

/// The next line, for which nobody waits in a read: the kernel leaves a signal out (`answer_signals`) where it wakes a
/// reader instead.
fn hear_signalled(stream: &UnixStream) -> String {
    let begun = Instant::now();
    let mut polled = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    while nix::poll::poll(&mut polled, PollTimeout::from(100u8)).unwrap() == 0 {
        assert!(begun.elapsed() < PATIENCE, "no answer");
    }
    hear(stream)
}

/// Has the kernel send init this signal in the moment in which init's next answer to this client is sent (fcntl(2)): so it
/// comes between that answer and whatever init does next.
fn answer_signals(stream: &UnixStream, init: &Init, sig: Sig) {
    const F_SETSIG: i32 = 10;
    for (command, value) in [(libc::F_SETOWN, init.pid()), (F_SETSIG, sig.0.into()), (libc::F_SETFL, libc::O_ASYNC)] {
        // SAFETY: these commands take numbers.
        assert_eq!(unsafe { libc::fcntl(stream.as_raw_fd(), command, value) }, 0);
    }
}

#[test]
fn what_happens_does_not_wait_for_all_who_only_look() {
    let mut init = Init::start();
    init.client().operate(Verb::Start, vec!["deaf".into()], None).unwrap();
    while init.out.next().unwrap() != "deaf" {}
    let clients = let_in(&init, 4);
    stop(&init);
    clients.iter().for_each(|client| say(client, LIST));
    // All ask at once. The first answer, whose ever it is, brings a signal, which is acted on before the next one.
    clients.iter().for_each(|client| answer_signals(client, &init, Sig::TERM));
    signal(init.pid(), Sig::CONT);
    let before = clients.iter().filter(|client| !hear_signalled(client).contains("\"stopping\"")).count();
    assert_eq!(before, 1);
}

#[test]
fn who_asks_without_end_has_no_more_turns_than_others() {
    const MANY: usize = 200;
    let init = Init::start();
    let clients = let_in(&init, 2);
    stop(&init);
    say(&clients[0], &LIST.repeat(MANY));
    say(&clients[1], LIST);
    // Nothing more is answered after the second one was.
    answer_signals(&clients[1], &init, Sig::STOP);
    signal(init.pid(), Sig::CONT);
    assert!(hear_signalled(&clients[1]).contains("\"list\""));
    let mut first = &clients[0];
    first.set_nonblocking(true).unwrap();
    let (mut heard, mut piece) = (Vec::new(), [0; 4 << 10]);
    while let Ok(count) = first.read(&mut piece) {
        heard.extend_from_slice(&piece[..count]);
    }
    let turns = heard.iter().filter(|byte| **byte == b'\n').count();
    assert!(turns <= 1, "{turns}");
    first.set_nonblocking(false).unwrap();
    signal(init.pid(), Sig::CONT);
    // The rest has not been forgotten.
    let more = BufReader::new(first).lines().take(MANY - turns);
    assert!(more.into_iter().all(|line| line.unwrap().contains("\"list\"")));
}

#[test]
fn who_leaves_is_not_answered() {
    let init = Init::start();
    let clients = let_in(&init, 5);
    stop(&init);
    clients.iter().for_each(|client| say(client, LIST));
    let (last, gone) = clients.split_last().unwrap();
    gone.iter().for_each(|client| client.shutdown(Shutdown::Both).unwrap());
    signal(init.pid(), Sig::CONT);
    assert!(hear(last).contains("\"list\""));
    drop(clients);
    assert_eq!(init.client().list().unwrap().len(), 4);
}

#[test]
fn a_request_names_no_more_than_there_can_be() {
    let init = Init::start();
    let ask = |count: usize| {
        let targets = (0..count).map(|at| at.to_string().into()).collect();
        init.client().ask(&Request::Describe { targets, secrets: true }, Some(PATIENCE))
    };
    let Ok(Reply::Described { apps, failed }) = ask(TARGETS_MAX) else { panic!("not described") };
    assert_eq!((apps.len(), failed.len()), (3, TARGETS_MAX - 4));
    let Err(Error::Refused(refusal)) = ask(TARGETS_MAX + 1) else { panic!("let through") };
    assert_eq!(refusal.problem, Problem::TooLong);
    assert_eq!(&*refusal.why, "16385 targets are more than the 16384 of a request");
}

#[test]
fn beside_all_who_are_there_an_unknown_one_is_told() {
    let init = Init::start();
    let query = Query { targets: vec!["all".into(), "nobody".into()], ..Query::default() };
    let Ok(Reply::Outcome(outcome)) = init.client().ask(&Request::Logs(query), Some(PATIENCE)) else { panic!("shown") };
    assert_eq!(outcome.failed, ["nobody: no such app, namespace or id; `pm3 list` shows what there is".into()]);
}

#[test]
fn no_client_tells_what_pm3s_own_processes_tell() {
    let init = Init::start();
    let changed = Request::Changed { app: "web".into(), path: "\u{1b}[2J".repeat(999).into(), at: Mono(u64::MAX) };
    let ready = Request::Ready { runs: (0..3_000).map(RunId).collect() };
    for request in [changed, ready] {
        let refused = init.client().ask(&request, Some(PATIENCE));
        let Err(Error::Refused(refusal)) = refused else { panic!("{refused:?}") };
        assert_eq!(refusal.problem, Problem::NotAllowed);
    }
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
    assert_eq!(init.client().recent(vec!["talks".into()], 9).unwrap().lines.len(), 1);
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
    while client.recent(vec!["much".into()], 1).unwrap().lines.iter().all(|line| *line.text != *last) {
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
