//! Clients that talk nonsense, too much, not at all, or do not listen.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use pm3::control::client::Client;
use pm3::control::limits::{
    ADMIN_REQUEST_MAX, CLIENTS_PER_UID_MAX, REPLY_MAX, REQUEST_MAX, UNFINISHED_MAX, UNREAD_MAX,
};
use pm3::control::{Problem, Refusal, Reply, Request, codec};
use pm3::engine::server::Incoming;
use pm3::supervisor::event::Verb;

use crate::desk::{Desk, ENDLESS, ROW, TALKATIVE, TOLD, hear, is_over, list, say};

const LIST: &str = "{\"version\":1,\"ask\":\"list\"}\n";
const PING: &str = "{\"version\":1,\"ask\":\"ping\"}\n";

fn endless() -> String {
    format!("{{\"version\":1,\"ask\":{{\"operate\":{{\"verb\":\"stop\",\"targets\":[\"{ENDLESS}\"]}}}}}}\n")
}

/// What a line of the server's means.
fn reply(line: &str) -> Reply {
    let mut reader = codec::Reader::of_replies();
    reader.push(line.as_bytes());
    reader.next().unwrap().expect("a whole line")
}

fn refusal(line: &str) -> Refusal {
    let Reply::Error(refusal) = reply(line) else { panic!("not refused: {line}") };
    refusal
}

/// A test with more connections than a process usually may have.
fn raise_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    assert!(hard >= 4096, "this test needs 4096 file descriptors; the hard limit is {hard}");
}

#[test]
fn a_person_can_take_part() {
    let desk = Desk::new();
    let stream = desk.connect();
    say(&stream, PING);
    assert_eq!(
        hear(&stream),
        format!("{{\"version\":1,\"reply\":{{\"pong\":{{\"release\":\"test\",\"pid\":{}}}}}}}\n", std::process::id())
    );
    say(&stream, "{\"ask\":{\"operate\":{\"verb\":\"start\",\"targets\":[\"a\",\"b\"]}}}\n");
    assert_eq!(hear(&stream), "{\"version\":1,\"reply\":{\"outcome\":{\"done\":[\"a\",\"b\"],\"failed\":[]}}}\n");
}

#[test]
fn garbage_gets_one_answer_and_the_door() {
    let desk = Desk::new();
    for text in ["\n", "hello\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "{\"ask\":\"list\"}\n", "\0\u{1}\u{2}\n{}\n"] {
        let stream = desk.connect();
        say(&stream, text);
        assert_eq!(refusal(&hear(&stream)).problem, Problem::Garbled, "{text:?}");
        assert!(is_over(&stream), "{text:?}");
    }
    let stream = desk.connect();
    say(&stream, "{\"version\":99,\"ask\":\"list\"}\n");
    assert_eq!(refusal(&hear(&stream)).problem, Problem::Version);
    assert!(is_over(&stream));
    desk.assert_answers();
}

#[test]
fn a_line_of_100_mb_is_not_listened_to() {
    let desk = Desk::new();
    let mut stream = desk.connect();
    let piece = vec![b'x'; 1 << 20];
    let taken = (0..100).take_while(|_| stream.write_all(&piece).is_ok()).count();
    assert!(taken < 8, "{taken} MB were taken of a line of at most {REQUEST_MAX} bytes");
    assert_eq!(refusal(&hear(&stream)).problem, Problem::Garbled);
    assert!(is_over(&stream));
    desk.assert_answers();
}

#[test]
fn half_a_line_keeps_nobody_waiting() {
    let desk = Desk::new();
    let halves: Vec<UnixStream> = (0..10).map(|_| desk.connect()).collect();
    halves.iter().for_each(|stream| say(stream, &LIST[..10]));
    desk.assert_answers();
    // And it is still half a line: the other half makes it whole.
    for stream in &halves {
        say(stream, &LIST[10..]);
        assert!(matches!(reply(&hear(stream)), Reply::List { .. }));
    }
}

#[test]
fn who_has_said_all_is_answered_all_the_same() {
    let desk = Desk::new();
    let stream = desk.connect();
    say(&stream, LIST);
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(matches!(reply(&hear(&stream)), Reply::List { .. }));
    assert!(is_over(&stream));
}

#[test]
fn requests_in_a_row_are_answered_in_a_row() {
    let desk = Desk::new();
    let stream = desk.connect();
    let count = 5_000;
    let mut asker = stream.try_clone().unwrap();
    let asking = thread::spawn(move || asker.write_all(PING.repeat(count).as_bytes()).unwrap());
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(&stream));
    for _ in 0..count {
        assert!(matches!(reply(&(lines.next().unwrap().unwrap() + "\n")), Reply::Pong { .. }));
    }
    asking.join().unwrap();
}

#[test]
fn who_does_not_read_before_asking_again_is_heard() {
    let desk = Desk::new();
    let stream = desk.connect();
    say(&stream, &(PING.to_owned() + &endless()));
    assert!(matches!(desk.seen(), Incoming::Asked { .. }));
}

#[test]
fn a_long_request_is_read_to_its_end() {
    let desk = Desk::new();
    let stream = desk.connect();
    let targets = vec!["\"a-target-with-a-name\""; REQUEST_MAX / 25].join(",");
    let line = format!("{{\"version\":1,\"ask\":{{\"operate\":{{\"verb\":\"stop\",\"targets\":[{targets}]}}}}}}\n");
    assert!(line.len() > REQUEST_MAX * 3 / 4, "{}", line.len());
    say(&stream, &line);
    let Reply::Outcome(outcome) = reply(&hear(&stream)) else { panic!("no outcome") };
    assert_eq!(outcome.done.len(), REQUEST_MAX / 25);
}

#[test]
fn who_gets_no_answer_in_time_is_told_so() {
    let desk = Desk::new();
    let mut client = desk.client().unwrap();
    let request =
        Request::Operate { verb: Verb::Stop, targets: vec![ENDLESS.into()], environ: None, how: Default::default() };
    let error = client.ask(&request, Some(std::time::Duration::from_millis(1))).unwrap_err();
    assert!(error.to_string().ends_with("no answer within 0 s; is pm3 stopped?"), "{error}");
}

#[test]
fn who_does_not_read_what_is_told_on_the_way_has_the_reply_all_the_same() {
    let desk = Desk::new();
    let stream = desk.connect();
    let ask = format!(r#""ask":{{"operate":{{"verb":"reload","targets":["{TALKATIVE}"]}}}}"#);
    say(&stream, &format!("{{\"version\":1,\"progress\":true,{ask}}}\n"));
    // By then it has been told, as far as there was room.
    desk.assert_answers();
    let mut told = Vec::new();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(&stream));
    let outcome = loop {
        let next = reply(&(lines.next().unwrap().unwrap() + "\n"));
        let Reply::Progress(news) = next else { break next };
        told.push(news.over);
    };
    assert!(matches!(outcome, Reply::Outcome(outcome) if outcome.done == [TALKATIVE.into()]));
    assert!(told.len() > 100 && told.len() < TOLD as usize, "{} of {TOLD} were kept", told.len());
    assert!(
        told.iter().zip(0..).all(|(over, at)| *over == at),
        "what comes too late is left out, not what came before"
    );
    // Who says nothing of it hears nothing of it; nor does it last beyond the one request.
    for words in ["", "\"progress\":false,"] {
        say(&stream, &format!("{{{words}{ask}}}\n"));
        assert!(matches!(reply(&(lines.next().unwrap().unwrap() + "\n")), Reply::Outcome(_)));
    }
}

#[test]
fn what_is_told_on_the_way_comes_before_the_answer() {
    let desk = Desk::new();
    let mut client = desk.client().unwrap();
    let heard = Arc::new(AtomicU32::new(0));
    let hears = Arc::clone(&heard);
    client.follow(Some(Box::new(move |news| {
        assert_eq!(news.of, TOLD);
        hears.fetch_add(1, Ordering::Relaxed);
    })));
    let reload = |client: &mut Client| client.operate(Verb::Reload, vec![TALKATIVE.into()], None).unwrap();
    assert_eq!(reload(&mut client).done, [TALKATIVE.into()]);
    let heard = heard.load(Ordering::Relaxed);
    assert!(heard > 100, "{heard}");
    client.follow(None);
    assert_eq!(reload(&mut client).done, [TALKATIVE.into()]);
}

#[test]
fn who_goes_while_pm3_works_is_known_to_be_gone() {
    let desk = Desk::new();
    let stream = desk.connect();
    say(&stream, &endless());
    let Incoming::Asked { client, request, .. } = desk.seen() else { panic!("not asked") };
    assert_eq!(
        request,
        Request::Operate { verb: Verb::Stop, targets: vec![ENDLESS.into()], environ: None, how: Default::default() }
    );
    drop(stream);
    assert_eq!(desk.seen(), Incoming::Gone { client });
}

#[test]
fn who_asks_and_goes_at_once_has_asked() {
    let desk = Desk::new();
    let stream = desk.connect();
    say(&stream, &endless());
    drop(stream);
    let Incoming::Asked { client, .. } = desk.seen() else { panic!("not asked") };
    assert_eq!(desk.seen(), Incoming::Gone { client });
}

#[test]
fn a_thousand_who_never_read_get_no_more_than_their_share() {
    raise_limit();
    // More than the kernel takes for a client that does not read.
    let desk = Desk::with_rows(250_000 / ROW);
    let mut deaf = Vec::new();
    for turn in 0..1_000 {
        let stream = desk.connect();
        // One that was cut off meanwhile cannot be told anything.
        let _ = (&stream).write_all(if turn % 10 == 0 { LIST } else { PING }.as_bytes());
        deaf.push(stream);
        if turn % 100 == 50 {
            desk.assert_answers();
        }
    }
    desk.assert_answers();
    deaf.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
    let still_open = deaf.iter().filter(|stream| !is_cut_off(stream)).count();
    assert!(still_open <= CLIENTS_PER_UID_MAX, "{still_open} of a thousand are still open");
}

/// Reads all that is there: either the end comes, or there is nothing more for now.
fn is_cut_off(mut stream: &UnixStream) -> bool {
    let mut chunk = vec![0; 64 << 10];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn a_thousand_who_say_nothing_get_no_more_than_their_share() {
    raise_limit();
    let desk = Desk::new();
    let silent: Vec<UnixStream> = (0..1_000).map(|_| desk.connect()).collect();
    desk.assert_answers();
    silent.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
    let still_open = silent.iter().filter(|stream| !is_cut_off(stream)).count();
    assert!(still_open <= CLIENTS_PER_UID_MAX, "{still_open} of a thousand are still open");
}

#[test]
fn who_gives_way_is_told_so() {
    let desk = Desk::new();
    let first = desk.connect();
    say(&first, PING);
    assert!(matches!(reply(&hear(&first)), Reply::Pong { .. }));
    let others: Vec<UnixStream> = (0..CLIENTS_PER_UID_MAX).map(|_| desk.connect()).collect();
    assert_eq!(refusal(&hear(&first)).problem, Problem::Busy);
    assert!(is_over(&first));
    drop(others);
}

#[test]
fn who_waits_for_pm3_does_not_give_way() {
    let desk = Desk::new();
    let waiting: Vec<UnixStream> = (0..CLIENTS_PER_UID_MAX).map(|_| desk.connect()).collect();
    for stream in &waiting {
        say(stream, &endless());
        assert!(matches!(desk.seen(), Incoming::Asked { .. }));
    }
    let late = desk.connect();
    assert_eq!(refusal(&hear(&late)).problem, Problem::Busy);
    assert!(is_over(&late));
    // The client keeps asking until there is a place.
    thread::scope(|scope| {
        let asking = scope.spawn(|| desk.assert_answers());
        drop(waiting);
        asking.join().unwrap();
    });
}

#[test]
fn a_slow_reader_gets_all_of_it_and_holds_up_nobody() {
    let rows = 1_000_000 / ROW;
    let desk = Desk::with_rows(rows);
    let mut slow = desk.connect();
    say(&slow, LIST);
    let mut text = Vec::new();
    let mut byte = [0; 1];
    for turn in 0..2_000 {
        slow.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
        if turn % 500 == 0 {
            desk.assert_answers();
        }
    }
    let mut chunk = vec![0; 4 << 10];
    while text.last() != Some(&b'\n') {
        let count = slow.read(&mut chunk).unwrap();
        assert!(count > 0, "cut off after {} bytes", text.len());
        text.extend_from_slice(&chunk[..count]);
    }
    let Reply::List { rows: list } = reply(std::str::from_utf8(&text).unwrap()) else { panic!("no list") };
    assert_eq!(list.len(), rows);
    say(&slow, PING);
    assert!(matches!(reply(&hear(&slow)), Reply::Pong { .. }));
}

#[test]
fn unread_replies_have_a_bound_together() {
    // Each reply takes most of what one may.
    let rows = 3_000_000 / ROW;
    let desk = Desk::with_rows(rows);
    let length = codec::reply_line(&Reply::List { rows: list(rows) }).len();
    assert!(length < REPLY_MAX && length * 4 > UNREAD_MAX, "{length}");
    let deaf: Vec<UnixStream> = (0..5).map(|_| desk.connect()).collect();
    for stream in &deaf {
        say(stream, LIST);
        desk.assert_answers();
    }
    let whole = deaf.iter().filter(|stream| hear(stream).len() == length).count();
    assert!((1..=UNREAD_MAX / length).contains(&whole), "{whole} of 5 were kept for");
}

#[test]
fn half_requests_are_not_kept_without_bound() {
    let desk = Desk::new();
    let half = "x".repeat(ADMIN_REQUEST_MAX - 1);
    // Each is answered after the others have said their halves, so those have been read, or cut off.
    let streams: Vec<UnixStream> = (0..2 * UNFINISHED_MAX / ADMIN_REQUEST_MAX)
        .map(|_| {
            let stream = desk.connect();
            say(&stream, &half);
            desk.assert_answers();
            stream
        })
        .collect();
    let kept = streams.iter().filter(|stream| write_all(stream, b"x\n")).count();
    assert!((1..=UNFINISHED_MAX / ADMIN_REQUEST_MAX + 1).contains(&kept), "{kept} halves were kept");
    desk.assert_answers();
}

/// Whether the other side still reads.
fn write_all(mut stream: &UnixStream, bytes: &[u8]) -> bool {
    stream.write_all(bytes).is_ok()
}

#[test]
fn a_server_that_nobody_asks_does_not_wake() {
    use std::time::Duration;

    use mio::{Events, Poll};
    use pm3::engine::server::Server;
    use pm3::supervisor::spec::Settings;

    let mut poll = Poll::new().unwrap();
    let facts = crate::desk::facts(&crate::desk::abstract_name());
    let (mut server, places) = Server::open(&Settings::default(), &facts, false, poll.registry(), 0);
    assert_eq!(places.names.len(), 1);
    let connect = || crate::desk::dial(facts.socket.as_ref().unwrap()).unwrap();
    let connected: Vec<UnixStream> = (0..20).map(|_| connect()).collect();
    // Some have asked for what takes its time; all of them stay.
    connected.iter().take(5).for_each(|stream| say(stream, &endless()));
    let mut events = Events::with_capacity(64);
    let mut asked = Vec::new();
    loop {
        poll.poll(&mut events, Some(Duration::from_millis(200))).unwrap();
        if events.is_empty() {
            break;
        }
        events.iter().for_each(|event| server.ready(event, poll.registry(), &mut asked));
    }
    assert_eq!(asked.len(), 5);
}
