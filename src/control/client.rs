//! The asking side of the control socket: finds the pm3 that is meant, makes sure who it is, asks and waits.
//! Blocking, with a limit on every wait but that for an operation's end, which may take as long as an app's stop.
//! Who is at the other end is found out by a function of the caller's, since nothing here may touch system calls.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

use super::codec::{self, Malformed, Reader};
use super::logs::{self, Line, Query};
use super::place::{Address, Candidate};
use super::{Count, Described, Environ, Problem, Refusal, Reply, Request, Row};
use crate::supervisor::event::{Outcome, Progress, Rollout, Sig, Verb};
use crate::supervisor::spec::AppSpec;

/// How long a pm3 that is well may take for an answer that needs no waiting. PID 1 waits on nobody; a machine that
/// swaps may be slow all the same.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Who is at the other end of a connection (`SO_PEERCRED`, unix(7)). A pid of another pid namespace reads 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub pid: u32,
    pub uid: u32,
}

/// Why there is no answer. `Display` is one line: what, on what, why, and what to do.
#[derive(Debug)]
pub enum Error {
    /// Nobody listens at any of these places.
    Nobody(Vec<Address>),
    /// Someone listens, and this user may not connect.
    Denied(Address, io::Error),
    /// Someone listens whom the caller has no reason to trust.
    Foreign(Address, Peer),
    /// pm3 answered that it will not.
    Refused(Refusal),
    /// What answers does not speak the protocol, or no version of it that is spoken here.
    Malformed(Address, Malformed),
    /// The request cannot be sent: it is too long.
    Unsendable(Malformed),
    /// No answer within the time.
    Silent(Address, Duration),
    /// The connection broke.
    Lost(Address, io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Nobody(places) => {
                f.write_str("no pm3 is running here: nobody listens at ")?;
                for (at, place) in places.iter().enumerate() {
                    write!(f, "{}{place}", if at == 0 { "" } else { ", " })?;
                }
                f.write_str("; `pm3 start APP` or `pm3 init FILE` starts one, --socket names one elsewhere")
            }
            Error::Denied(place, error) => {
                write!(f, "{place}: {}; ask as root or as the user that pm3 runs as", words(error))
            }
            Error::Foreign(place, peer) => write!(
                f,
                "{place}: belongs to uid {} (pid {}), which is neither root nor you; name it with --socket if you trust it",
                peer.uid, peer.pid
            ),
            Error::Refused(Refusal { why, hint, .. }) if hint.is_empty() => f.write_str(why),
            Error::Refused(Refusal { why, hint, .. }) => write!(f, "{why}; {hint}"),
            Error::Malformed(place, malformed @ Malformed::Version(_)) => {
                write!(f, "{place}: {malformed}; use the client of the release that is running")
            }
            Error::Malformed(place, malformed) => write!(f, "{place}: {malformed}; is that a pm3?"),
            Error::Unsendable(malformed) => write!(f, "request: {malformed}; name fewer targets at once"),
            Error::Silent(place, patience) => {
                write!(f, "{place}: no answer within {} s; is pm3 stopped?", patience.as_secs())
            }
            Error::Lost(place, error) => {
                write!(f, "{place}: the connection was lost: {}; has pm3 ended?", words(error))
            }
        }
    }
}

impl std::error::Error for Error {}

/// The system's text for an error, in the form of our own: lower case and without its number.
pub fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(_) => text.split(" (os error").next().unwrap_or_default().to_lowercase(),
        // Somebody's own line, with names that are as they are.
        None => text,
    }
}

/// How often a busy pm3 is asked again, and after how long for the first time; each wait is that much longer.
const TRIES: u32 = 12;
const FIRST_WAIT: Duration = Duration::from_millis(5);

/// Tells who is at the other end.
type PeerOf = fn(&UnixStream) -> io::Result<Peer>;

/// Who hears what happens to a request before its reply.
#[derive(Default)]
struct Follower(Option<Box<dyn FnMut(Progress) + Send>>);

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Follower({})", self.0.is_some())
    }
}

/// A connection to a pm3 that has answered.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    follower: Follower,
    /// Where it was found.
    pub address: Address,
    /// As it calls itself.
    pub release: Box<str>,
    pub pid: u32,
    /// Who listens, as the caller sees it.
    pub peer: Peer,
    candidate: Candidate,
    uid: u32,
    peer_of: PeerOf,
}

impl Client {
    /// Connects to the first candidate that lets this user in. `uid` is the caller's own; `peer_of` tells who is at
    /// the other end.
    ///
    /// # Errors
    /// Nobody is there, or nobody who lets this user in and can be trusted: then the first such trouble, as the places
    /// after it are less likely to be meant.
    pub fn connect(candidates: &[Candidate], uid: u32, peer_of: PeerOf) -> Result<Client, Error> {
        let mut trouble = None;
        for candidate in candidates {
            match Client::try_connect(candidate, uid, peer_of) {
                Ok(client) => return Ok(client),
                Err(Error::Nobody(_)) => {}
                // Another user's pm3 does not stand in the way of this user's own.
                Err(
                    error @ (Error::Denied(..)
                    | Error::Foreign(..)
                    | Error::Refused(Refusal { problem: Problem::Stranger, .. })),
                ) => trouble = trouble.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        let places = candidates.iter().map(|candidate| candidate.address.clone()).collect();
        Err(trouble.unwrap_or(Error::Nobody(places)))
    }

    fn try_connect(candidate: &Candidate, uid: u32, peer_of: PeerOf) -> Result<Client, Error> {
        let (connection, peer) = Connection::open(candidate, uid, peer_of)?;
        let mut client = Client {
            connection,
            follower: Follower::default(),
            peer,
            address: candidate.address.clone(),
            release: "".into(),
            pid: 0,
            candidate: candidate.clone(),
            uid,
            peer_of,
        };
        match client.ask(&Request::Ping, Some(PATIENCE))? {
            Reply::Pong { release, pid } => (client.release, client.pid) = (release, pid),
            Reply::List { .. }
            | Reply::Described { .. }
            | Reply::Outcome(_)
            | Reply::Progress(_)
            | Reply::Log(_)
            | Reply::Error(_) => {
                return Err(client.astray());
            }
        }
        Ok(client)
    }

    /// All instances.
    ///
    /// # Errors
    /// As of `ask`.
    pub fn list(&mut self) -> Result<Vec<Row>, Error> {
        match self.ask(&Request::List, Some(PATIENCE))? {
            Reply::List { rows } => Ok(rows),
            Reply::Pong { .. }
            | Reply::Described { .. }
            | Reply::Outcome(_)
            | Reply::Progress(_)
            | Reply::Log(_)
            | Reply::Error(_) => Err(self.astray()),
        }
    }

    /// All about these targets, or about all apps if there are none; and a line for each target that names nothing.
    ///
    /// # Errors
    /// As of `ask`.
    pub fn describe(
        &mut self,
        targets: Vec<Box<str>>,
        secrets: bool,
    ) -> Result<(Vec<Described>, Vec<Box<str>>), Error> {
        match self.ask(&Request::Describe { targets, secrets }, Some(PATIENCE))? {
            Reply::Described { apps, failed } => Ok((apps, failed)),
            Reply::Pong { .. }
            | Reply::List { .. }
            | Reply::Outcome(_)
            | Reply::Progress(_)
            | Reply::Log(_)
            | Reply::Error(_) => Err(self.astray()),
        }
    }

    /// Does something with existing apps; returns when that is done, which may take as long as an app's stop. With
    /// `environ` it becomes the environment of their next runs.
    ///
    /// # Errors
    /// As of `ask`. What single targets met with is in the outcome.
    pub fn operate(&mut self, verb: Verb, targets: Vec<Box<str>>, environ: Option<Environ>) -> Result<Outcome, Error> {
        self.change(&Request::Operate { verb, targets, environ, how: Rollout::default() })
    }

    /// Makes it so that these apps are there as described, and returns when they are online. `environ` is for new ones,
    /// with `renew` for all.
    ///
    /// # Errors
    /// As of `ask`. Why nothing was done, or an app did not come up, is in the outcome.
    pub fn apply(
        &mut self,
        verb: Verb,
        apps: Vec<AppSpec>,
        environ: Option<Environ>,
        renew: bool,
    ) -> Result<Outcome, Error> {
        self.change(&Request::Apply { verb, apps, environ, renew, how: Rollout::default() })
    }

    /// Gives an app more instances or fewer.
    ///
    /// # Errors
    /// As of `ask`.
    pub fn scale(&mut self, target: Box<str>, to: Count) -> Result<Outcome, Error> {
        self.change(&Request::Scale { target, to })
    }

    /// Sends a signal to the main processes of the targets.
    ///
    /// # Errors
    /// As of `ask`.
    pub fn signal(&mut self, sig: Sig, targets: Vec<Box<str>>) -> Result<Outcome, Error> {
        self.change(&Request::Signal { sig, targets })
    }

    /// Sends a line of text, which has no newline at its end, to the stdin of each instance of the target.
    ///
    /// # Errors
    /// As of `ask`; [`Problem::Full`] where the one instance that is meant does not read.
    pub fn send(&mut self, target: Box<str>, text: Box<str>) -> Result<Outcome, Error> {
        self.change(&Request::Send { target, text })
    }

    /// Output: the lines that are remembered, and what follows. On a connection of its own, so that this one can go on.
    ///
    /// # Errors
    /// As of `ask`. A target that is wrong comes with the end: nothing else comes then.
    pub fn logs(&self, query: Query) -> Result<Logs, Error> {
        self.logs_within(query, PATIENCE)
    }

    fn logs_within(&self, query: Query, patience: Duration) -> Result<Logs, Error> {
        let mut other = self.anew()?;
        let first = other.ask(&Request::Logs(query), Some(patience))?;
        Ok(Logs { connection: other.connection, first: Some(first) })
    }

    /// The last lines that the targets wrote. Of no target: of all, and nothing of those whose output is not collected.
    ///
    /// # Errors
    /// As of `ask`.
    pub fn recent(&self, targets: Vec<Box<str>>, lines: u32) -> Result<Recent, Error> {
        self.recent_within(Query { targets, lines: Some(lines), ..Query::default() }, PATIENCE)
    }

    /// Whose output does not arrive where it is to go. A logger that is well says so at once.
    ///
    /// # Errors
    /// As of `ask`.
    pub fn lost(&self) -> Result<Vec<Lost>, Error> {
        const SOON: Duration = Duration::from_secs(1);
        Ok(self.recent_within(Query { lines: Some(0), ..Query::default() }, SOON)?.lost)
    }

    fn recent_within(&self, query: Query, patience: Duration) -> Result<Recent, Error> {
        let mut logs = self.logs_within(query, patience)?;
        let mut found = Recent::default();
        loop {
            for told in logs.next(Some(patience))? {
                match told {
                    Told::Event(logs::Event::Line(line)) => found.lines.push(line),
                    Told::Event(logs::Event::Lost { app, id, why }) => found.lost.push(Lost { app, id, why }),
                    Told::Event(logs::Event::Missed { .. } | logs::Event::Live | logs::Event::Deleted { .. }) => {}
                    Told::End(_) => return Ok(found),
                }
            }
        }
    }

    /// Empties the files of the targets, and forgets what is remembered of their output.
    ///
    /// # Errors
    /// As of `ask`.
    pub fn flush(&self, targets: Vec<Box<str>>) -> Result<Outcome, Error> {
        self.anew()?.change(&Request::Flush { targets })
    }

    /// Opens all files of output again, as somebody has moved them away.
    ///
    /// # Errors
    /// As of `ask`.
    pub fn reload_logs(&self) -> Result<Outcome, Error> {
        self.anew()?.change(&Request::ReloadLogs)
    }

    /// Another connection to the same pm3.
    fn anew(&self) -> Result<Client, Error> {
        let (connection, peer) = Connection::open(&self.candidate, self.uid, self.peer_of)?;
        Ok(Client {
            connection,
            follower: Follower::default(),
            peer,
            address: self.address.clone(),
            release: self.release.clone(),
            pid: self.pid,
            candidate: self.candidate.clone(),
            uid: self.uid,
            peer_of: self.peer_of,
        })
    }

    /// Ends all apps and pm3. When it returns, pm3 has nothing left to do but to exit.
    ///
    /// # Errors
    /// As of `ask`.
    pub fn quit(&mut self) -> Result<Outcome, Error> {
        self.change(&Request::Quit)
    }

    /// From now on `told` hears what happens to what is asked for, before the answer comes; None: nobody does. pm3 leaves
    /// out what is not read as fast as it comes, and one of a release that knows nothing of this tells nothing.
    pub fn follow(&mut self, told: Option<Box<dyn FnMut(Progress) + Send>>) {
        self.follower = Follower(told);
    }

    /// Asks for a change, which takes its time: there is an answer, or pm3 is gone.
    ///
    /// # Errors
    /// As of `ask`; another answer than to a change, too.
    pub fn change(&mut self, request: &Request) -> Result<Outcome, Error> {
        match self.ask(request, None)? {
            Reply::Outcome(outcome) => Ok(outcome),
            Reply::Pong { .. }
            | Reply::List { .. }
            | Reply::Described { .. }
            | Reply::Progress(_)
            | Reply::Log(_)
            | Reply::Error(_) => Err(self.astray()),
        }
    }

    /// Asks, and waits for the reply for as long as `patience` says; None: until pm3 answers or is gone. A pm3 with
    /// too many clients has done nothing and is asked again.
    ///
    /// # Errors
    /// A refusal, and all that keeps an answer from coming.
    pub fn ask(&mut self, request: &Request, patience: Option<Duration>) -> Result<Reply, Error> {
        let line = if self.follower.0.is_some() { codec::followed_line } else { codec::request_line };
        let line = line(request).map_err(Error::Unsendable)?;
        let mut tries = 1..=TRIES;
        loop {
            let wait = match self.connection.ask(&line, patience, &mut self.follower) {
                Err(Error::Refused(refusal)) if refusal.problem == Problem::Busy => match tries.next() {
                    Some(try_) => FIRST_WAIT * try_,
                    None => return Err(Error::Refused(refusal)),
                },
                other => return other,
            };
            std::thread::sleep(wait);
            (self.connection, self.peer) = Connection::open(&self.candidate, self.uid, self.peer_of)?;
        }
    }

    fn astray(&self) -> Error {
        Error::Malformed(self.address.clone(), Malformed::Unreadable("an answer to another question".into()))
    }
}

/// What an instance has written of late.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    /// The oldest first; none where nothing is remembered, or nothing collected.
    pub lines: Vec<Line>,
    pub lost: Vec<Lost>,
}

/// Output of an instance does not arrive where it is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    pub app: Box<str>,
    pub id: u32,
    pub why: Box<str>,
}

/// What [`Logs`] brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Event(logs::Event),
    /// Nothing follows. What is wrong with the targets is in here.
    End(Outcome),
}

/// Output, as it comes.
#[derive(Debug)]
pub struct Logs {
    connection: Connection,
    /// It came with the connection.
    first: Option<Reply>,
}

impl Logs {
    /// What has come, at least one; waits for it as long as `patience` says, or until the logger is gone.
    ///
    /// # Errors
    /// As of [`Client::ask`].
    pub fn next(&mut self, patience: Option<Duration>) -> Result<Vec<Told>, Error> {
        let mut replies: Vec<Reply> = self.first.take().into_iter().collect();
        if replies.is_empty() {
            let lost = |error| Error::Lost(self.connection.address.clone(), error);
            self.connection.stream.set_read_timeout(patience).map_err(lost)?;
            replies.push(self.connection.receive(patience)?);
        }
        while let Some(more) = self.connection.received()? {
            replies.push(more);
        }
        let told = |reply| match reply {
            Reply::Log(event) => Ok(Told::Event(event)),
            Reply::Outcome(outcome) => Ok(Told::End(outcome)),
            Reply::Error(refusal) => Err(Error::Refused(refusal)),
            Reply::Pong { .. } | Reply::List { .. } | Reply::Described { .. } | Reply::Progress(_) => {
                Err(Error::Malformed(
                    self.connection.address.clone(),
                    Malformed::Unreadable("an answer to another question".into()),
                ))
            }
        };
        replies.into_iter().map(told).collect()
    }
}

/// A stream to someone who may be asked.
#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    address: Address,
    reader: Reader<Reply>,
}

impl Connection {
    fn open(candidate: &Candidate, uid: u32, peer_of: PeerOf) -> Result<(Connection, Peer), Error> {
        let address = candidate.address.clone();
        let stream = match dial(&address) {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(Error::Denied(address, error)),
            // Not there, a file that nobody listens at, a name that no socket can have: nobody is there.
            Err(_) => return Err(Error::Nobody(vec![address])),
        };
        let peer = peer_of(&stream).map_err(|error| Error::Lost(address.clone(), error))?;
        // A pid of 0 is one of another pid namespace: containers of a pod share abstract names.
        let known = peer.pid != 0 && (peer.uid == uid || peer.uid == 0) || peer.pid == 1;
        if !(candidate.named || known) {
            return Err(Error::Foreign(address, peer));
        }
        Ok((Connection { stream, address, reader: Reader::of_replies() }, peer))
    }

    fn ask(&mut self, line: &[u8], patience: Option<Duration>, follower: &mut Follower) -> Result<Reply, Error> {
        let lost = |error| Error::Lost(self.address.clone(), error);
        self.stream.set_write_timeout(Some(PATIENCE)).map_err(lost)?;
        self.stream.set_read_timeout(patience).map_err(lost)?;
        let sent = self.stream.write_all(line);
        let reply = loop {
            match (self.receive(patience), &mut follower.0) {
                (Ok(Reply::Progress(news)), Some(told)) => told(*news),
                (reply, _) => break reply,
            }
        };
        // A pm3 that refuses has said why before it closed: that is read even if nothing could be sent any more.
        match (reply, sent) {
            (Ok(Reply::Error(refusal)), _) => Err(Error::Refused(refusal)),
            (Ok(reply), Ok(())) => Ok(reply),
            (Ok(_) | Err(Error::Lost(..)), Err(error)) => Err(Error::Lost(self.address.clone(), error)),
            (Err(error), _) => Err(error),
        }
    }

    /// A reply that is there already.
    fn received(&mut self) -> Result<Option<Reply>, Error> {
        self.reader.next().map_err(|malformed| Error::Malformed(self.address.clone(), malformed))
    }

    fn receive(&mut self, patience: Option<Duration>) -> Result<Reply, Error> {
        let address = self.address.clone();
        let address = || address.clone();
        let mut chunk = Vec::new();
        loop {
            if let Some(reply) = self.received()? {
                return Ok(reply);
            }
            chunk.resize(64 << 10, 0);
            let room = self.reader.room().min(chunk.len());
            match self.stream.read(chunk.get_mut(..room).unwrap_or_default()) {
                Ok(0) => return Err(Error::Lost(address(), io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.reader.push(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(Error::Silent(address(), patience.unwrap_or_default()));
                }
                Err(error) => return Err(Error::Lost(address(), error)),
            }
        }
    }
}

fn dial(address: &Address) -> io::Result<UnixStream> {
    match address {
        Address::Abstract(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?),
        Address::Path(path) => UnixStream::connect(path),
    }
}
