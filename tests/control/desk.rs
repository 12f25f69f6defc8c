//! The server with the smallest loop around it that answers, on a thread of this test; and clients of all manners.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use mio::{Events, Poll, Token, Waker};
use pm3::control::client::{Client, Error, Peer};
use pm3::control::place::{Address, Candidate, Facts};
use pm3::control::{Reply, Request, Row};
use pm3::engine::server::{Incoming, Server};
use pm3::supervisor::event::{Outcome, Progress};
use pm3::supervisor::spec::Settings;
use pm3::sys;

use crate::common::PATIENCE;

const WAKER: Token = Token(0);
const SERVER: usize = 7;

/// A target that is never done.
pub const ENDLESS: &str = "endless";

/// A target of which more is told than anybody reads, and how much, before it is done.
pub const TALKATIVE: &str = "talkative";
pub const TOLD: u32 = 20_000;

/// A new directory of this test's own, removed at its end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pm3-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A name that no other test has.
pub fn abstract_name() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("@pm3-test/{}/{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

pub fn facts(socket: &Path) -> Facts {
    Facts { uid: sys::place::uid(), socket: Some(socket.into()), ..Facts::default() }
}

/// Bytes in a row: much, so that long replies are quickly made.
pub const ROW: usize = 10_000;

/// What `list` is answered with.
pub fn list(rows: usize) -> Vec<Row> {
    vec![Row { name: "x".repeat(ROW).into(), ..Row::default() }; rows]
}

/// A running server.
pub struct Desk {
    pub socket: PathBuf,
    /// Where it listens, as it said.
    pub places: Vec<String>,
    /// What it handed to its loop.
    seen: Mutex<Receiver<Incoming>>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Desk {
    pub fn new() -> Desk {
        Desk::with(&Settings::default(), facts(&abstract_name()), 1)
    }

    /// Each `list` is answered with so many rows of about `ROW` bytes.
    pub fn with_rows(rows: usize) -> Desk {
        Desk::with(&Settings::default(), facts(&abstract_name()), rows)
    }

    pub fn with(settings: &Settings, facts: Facts, rows: usize) -> Desk {
        let poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), WAKER).unwrap();
        let socket = facts.socket.clone().unwrap_or_default();
        let (server, places) = Server::open(settings, &facts, false, poll.registry(), SERVER);
        let (tell, seen) = mpsc::channel();
        let thread = thread::spawn(move || answer(poll, server, &list(rows), &tell));
        Desk { socket, places: places.names, seen: Mutex::new(seen), waker, thread: Some(thread) }
    }

    pub fn connect(&self) -> UnixStream {
        dial(&self.socket).unwrap()
    }

    /// A client as `pm3` itself is one.
    pub fn client(&self) -> Result<Client, Error> {
        let candidate = Candidate { address: Address::parse(&self.socket), named: true };
        Client::connect(&[candidate], sys::place::uid(), peer)
    }

    /// Whatever else is going on, one who behaves is answered.
    pub fn assert_answers(&self) {
        let mut client = self.client().unwrap();
        assert!(!client.list().unwrap().is_empty());
        let outcome = client.operate(pm3::supervisor::event::Verb::Stop, vec!["web".into()], None).unwrap();
        assert_eq!(outcome.done, ["web".into()]);
    }

    /// The next thing that the loop was told of a client that waits for its end.
    pub fn seen(&self) -> Incoming {
        self.seen.lock().unwrap().recv_timeout(PATIENCE).unwrap()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = self.waker.wake();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || ended.is_some_and(|ended| ended.is_ok()), "the server's thread has panicked");
    }
}

pub fn peer(stream: &UnixStream) -> io::Result<Peer> {
    let sys::socket::Peer { pid, uid, .. } = sys::socket::peer(stream)?;
    Ok(Peer { pid, uid })
}

fn answer(mut poll: Poll, mut server: Server, rows: &[Row], tell: &Sender<Incoming>) {
    let mut events = Events::with_capacity(64);
    loop {
        poll.poll(&mut events, None).unwrap();
        let mut incoming = Vec::new();
        for event in &events {
            if event.token() == WAKER {
                server.close();
                return;
            }
            server.ready(event, poll.registry(), &mut incoming);
        }
        for one in incoming {
            let Incoming::Asked { client, request, .. } = &one else {
                let _ = tell.send(one);
                continue;
            };
            let reply = match request {
                Request::Ping => Reply::Pong { release: "test".into(), pid: std::process::id() },
                Request::List => Reply::List { rows: rows.to_vec() },
                Request::Operate { targets, .. } if targets.iter().any(|target| &**target == ENDLESS) => {
                    let _ = tell.send(one);
                    continue;
                }
                Request::Operate { targets, .. } => {
                    let talks = server.follows(*client) && targets.iter().any(|target| &**target == TALKATIVE);
                    for over in (0..TOLD).filter(|_| talks) {
                        let news = Progress { over, of: TOLD, ..Progress::default() };
                        server.inform(*client, &Reply::Progress(Box::new(news)));
                    }
                    Reply::Outcome(Outcome { done: targets.clone(), ..Outcome::default() })
                }
                Request::Apply { apps, .. } => {
                    let done = apps.iter().map(|app| app.name.clone()).collect();
                    Reply::Outcome(Outcome { done, ..Outcome::default() })
                }
                Request::Describe { targets, .. } => Reply::Described { apps: Vec::new(), failed: targets.clone() },
                Request::Scale { .. }
                | Request::Signal { .. }
                | Request::Send { .. }
                | Request::Changed { .. }
                | Request::Ready { .. }
                | Request::Logs(_)
                | Request::Flush { .. }
                | Request::ReloadLogs
                | Request::Quit => Reply::Outcome(Outcome::default()),
            };
            server.reply(*client, &reply, poll.registry());
        }
    }
}

/// A connection on which no wait is endless.
pub fn dial(socket: &Path) -> io::Result<UnixStream> {
    let stream = match Address::parse(socket) {
        Address::Abstract(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?),
        Address::Path(path) => UnixStream::connect(path),
    }?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Says something by hand.
pub fn say(mut stream: &UnixStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
}

/// The next line, as a person would read it.
pub fn hear(stream: &UnixStream) -> String {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

/// Whether the other side is done with us: the end, after whatever it still said.
pub fn is_over(mut stream: &UnixStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        // It closed before it had read all that we sent.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
        Err(error) => panic!("neither more nor the end: {error}"),
    }
}
