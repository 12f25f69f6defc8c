//! The clients of tests/bench/cluster: each asks one question after the other, as soon as the one before is answered; or,
//! with RATE, so many questions a second are asked by all of them, each at its moment, however long others take.
//!
//!   load PORT HOW CLIENTS [RATE]
//!
//! HOW is `new` (a connection for each request), `keep` (one connection for all, and a new one when it is closed), or
//! `retry` (the same, but a request whose reused connection closed before the first byte of an answer is sent once more
//! on a new one, as RFC 9112 §9.3.1 lets clients do). Ends when stdin does, and then prints one line a fact: how many
//! requests were answered, how many failed and how, what the slowest took, how many of a rate were late, and how many each
//! process answered. What a request of a rate takes is counted from its moment, also where no client was free for it.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A request that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request of a rate that is answered later than this is late: people notice.
const LATE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq)]
enum How {
    New,
    Keep,
    Retry,
}

/// When requests begin.
enum Pace {
    /// As soon as a client is free.
    Closed,
    /// At moments of their own, so far apart.
    Open { since: Instant, apart: Duration, next: AtomicU32 },
}

/// What came of the requests of one client, or of all.
#[derive(Default)]
struct Tally {
    answered: u64,
    failed: BTreeMap<String, u64>,
    slowest: Duration,
    late: u64,
    by: BTreeMap<String, u64>,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [port, how, clients, rate @ ..] = words.as_slice() else { panic!("load PORT HOW CLIENTS [RATE]") };
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().expect("a port")));
    let how = match how.as_str() {
        "new" => How::New,
        "keep" => How::Keep,
        "retry" => How::Retry,
        other => panic!("{other}: expected new, keep or retry"),
    };
    let pace = match rate {
        [] => Pace::Closed,
        [rate, ..] => {
            let apart = Duration::from_secs(1) / rate.parse().expect("a number of requests a second");
            Pace::Open { since: Instant::now(), apart, next: AtomicU32::new(0) }
        }
    };
    let (over, pace) = (Arc::new(AtomicBool::new(false)), Arc::new(pace));
    let client = |_| {
        let (over, pace) = (Arc::clone(&over), Arc::clone(&pace));
        std::thread::spawn(move || ask_on(at, how, &pace, &over))
    };
    let clients: Vec<_> = (0..clients.parse().expect("a number of clients")).map(client).collect();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    over.store(true, Ordering::Relaxed);
    clients.iter().for_each(|client| client.thread().unpark());
    let mut all = Tally::default();
    for client in clients {
        all.add(client.join().expect("a client does not panic"));
    }
    println!("answered {}\nslowest {}\nlate {}", all.answered, all.slowest.as_micros(), all.late);
    all.failed.iter().for_each(|(why, count)| println!("failed {why} {count}"));
    all.by.iter().for_each(|(who, count)| println!("by {who} {count}"));
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.answered += other.answered;
        self.late += other.late;
        self.slowest = self.slowest.max(other.slowest);
        for (into, from) in [(&mut self.failed, other.failed), (&mut self.by, other.by)] {
            from.into_iter().for_each(|(what, count)| *into.entry(what).or_default() += count);
        }
    }
}

impl Pace {
    /// Waits for the moment of the next request, unless all is over.
    fn moment(&self, over: &AtomicBool) -> Instant {
        match self {
            Pace::Closed => Instant::now(),
            Pace::Open { since, apart, next } => {
                let moment = *since + *apart * next.fetch_add(1, Ordering::Relaxed);
                let left = || moment.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
                while let Some(left) = left().filter(|_| !over.load(Ordering::Relaxed)) {
                    std::thread::park_timeout(left);
                }
                moment
            }
        }
    }

    fn is_late(&self, took: Duration) -> bool {
        matches!(self, Pace::Open { .. }) && took > LATE
    }
}

fn ask_on(at: SocketAddr, how: How, pace: &Pace, over: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    let mut kept = None;
    loop {
        let began = pace.moment(over);
        if over.load(Ordering::Relaxed) {
            return tally;
        }
        match ask(at, how, &mut kept) {
            Ok(who) => {
                tally.answered += 1;
                *tally.by.entry(who).or_default() += 1;
            }
            Err(error) => *tally.failed.entry(name(&error).to_owned()).or_default() += 1,
        }
        let took = began.elapsed();
        tally.slowest = tally.slowest.max(took);
        tally.late += u64::from(pace.is_late(took));
    }
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
            if keeps && !closes {
                *kept = Some(server);
            } else {
                reset(&server);
            }
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

/// Has closing end the connection at once, as nothing is left to say: a closed one stays for two minutes in the machine's
/// table of connections, and a full table drops new ones (socket(7), SO_LINGER).
fn reset(server: &TcpStream) {
    const SOL_SOCKET: i32 = 1;
    const SO_LINGER: i32 = 13;
    unsafe extern "C" {
        fn setsockopt(fd: i32, level: i32, name: i32, value: *const [i32; 2], length: u32) -> i32;
    }
    // SAFETY: the kernel reads the two numbers: on, and no seconds.
    unsafe { setsockopt(server.as_raw_fd(), SOL_SOCKET, SO_LINGER, &[1, 0], 8) };
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
