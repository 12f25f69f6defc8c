//! The clients of tests/bench/cluster: each asks one question after the other, as soon as the one before is answered.
//!
//!   load PORT HOW CLIENTS
//!
//! HOW is `new` (a connection for each request), `keep` (one connection for all, and a new one when it is closed), or
//! `retry` (the same, but a request whose reused connection closed before the first byte of an answer is sent once more
//! on a new one, as RFC 9112 §9.3.1 lets clients do). Ends when stdin does, and then prints one line a fact: how many
//! requests were answered, how many failed and how, what the slowest took, and how many each process answered.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A request that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq)]
enum How {
    New,
    Keep,
    Retry,
}

/// What came of the requests of one client, or of all.
#[derive(Default)]
struct Tally {
    answered: u64,
    failed: BTreeMap<String, u64>,
    slowest: Duration,
    by: BTreeMap<String, u64>,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [port, how, clients] = words.as_slice() else { panic!("load PORT HOW CLIENTS") };
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().expect("a port")));
    let how = match how.as_str() {
        "new" => How::New,
        "keep" => How::Keep,
        "retry" => How::Retry,
        other => panic!("{other}: expected new, keep or retry"),
    };
    let over = Arc::new(AtomicBool::new(false));
    let client = |_| {
        let over = Arc::clone(&over);
        std::thread::spawn(move || ask_on(at, how, &over))
    };
    let clients: Vec<_> = (0..clients.parse().expect("a number of clients")).map(client).collect();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    over.store(true, Ordering::Relaxed);
    let mut all = Tally::default();
    for client in clients {
        all.add(client.join().expect("a client does not panic"));
    }
    println!("answered {}\nslowest {}", all.answered, all.slowest.as_micros());
    all.failed.iter().for_each(|(why, count)| println!("failed {why} {count}"));
    all.by.iter().for_each(|(who, count)| println!("by {who} {count}"));
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.answered += other.answered;
        self.slowest = self.slowest.max(other.slowest);
        for (into, from) in [(&mut self.failed, other.failed), (&mut self.by, other.by)] {
            from.into_iter().for_each(|(what, count)| *into.entry(what).or_default() += count);
        }
    }
}

fn ask_on(at: SocketAddr, how: How, over: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    let mut kept = None;
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        match ask(at, how, &mut kept) {
            Ok(who) => {
                tally.answered += 1;
                *tally.by.entry(who).or_default() += 1;
            }
            Err(error) => *tally.failed.entry(name(&error).to_owned()).or_default() += 1,
        }
        tally.slowest = tally.slowest.max(began.elapsed());
    }
    tally
}

fn name(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::ConnectionRefused => "refused",
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "reset",
        ErrorKind::UnexpectedEof => "closed",
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "hung",
        _ => "otherwise",
    }
}

/// One request. The connection is kept for the next one where both sides want that.
fn ask(at: SocketAddr, how: How, kept: &mut Option<TcpStream>) -> Result<String> {
    if let Some(server) = kept.take() {
        match exchange(server, how, kept) {
            Err((_, 0)) if how == How::Retry => {}
            done => return done.map_err(|(error, _)| error),
        }
    }
    let server = TcpStream::connect_timeout(&at, PATIENCE)?;
    server.set_read_timeout(Some(PATIENCE))?;
    server.set_nodelay(true)?;
    exchange(server, how, kept).map_err(|(error, _)| error)
}

/// What the server answers; or why it does not, after so many bytes.
fn exchange(mut server: TcpStream, how: How, kept: &mut Option<TcpStream>) -> std::result::Result<String, (Error, usize)> {
    let mut answer = Vec::new();
    let keeps = how != How::New;
    let wish = if keeps { "keep-alive" } else { "close" };
    let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: {wish}\r\n\r\n");
    let mut room = [0; 4096];
    server.write_all(request.as_bytes()).map_err(|error| (error, 0))?;
    loop {
        if let Some((closes, who)) = whole(&answer).map_err(|error| (error, answer.len()))? {
            *kept = (keeps && !closes).then_some(server);
            return Ok(who);
        }
        match server.read(&mut room) {
            Ok(0) => return Err((ErrorKind::UnexpectedEof.into(), answer.len())),
            Ok(count) => answer.extend_from_slice(&room[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err((error, answer.len())),
        }
    }
}

/// The body of a whole answer with 200, and whether the server closes the connection.
fn whole(answer: &[u8]) -> Result<Option<(bool, String)>> {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Ok(None) };
    let field = |name: &str| {
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let length = field("content-length").and_then(|length| length.parse::<usize>().ok());
    let (Some(length), Some("200")) = (length, head.split(' ').nth(1)) else { return Err(ErrorKind::InvalidData.into()) };
    let closes = field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Ok((body.len() >= length).then(|| (closes, body.to_owned())))
}
