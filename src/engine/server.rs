//! Init's side of the control socket: lets clients in, checks who they are, hands their requests to the loop and
//! their replies back. Nothing here waits for a client: sockets do not block, each client has one request and one
//! reply at a time, and whoever stands in the way of others (does not speak, does not read) is cut off as soon as
//! its place or its memory is needed. So there are no timers, and an idle server never wakes.
//!
//! The limits are in [`limits`]. When file descriptors run out, one that is held in reserve lets an operator in.

mod listen;
mod peers;
mod refusals;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use mio::event::Event;
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};

use crate::control::codec::{self, Asked, Reader};
use crate::control::limits;
use crate::control::place::{self, Address};
use crate::control::{Reply, Request};
use crate::supervisor::event::ClientId;
use crate::supervisor::spec::{Right, Settings};
use crate::sys;
use crate::sys::socket::{self, Peer};
use crate::sys::users::Users;

use listen::Listener;
use refusals::{busy, dismiss, not_allowed, stranger};

/// What happened on the control socket.
#[derive(Debug, PartialEq)]
pub enum Incoming {
    /// A client asks, and may: to be answered by exactly one [`Server::reply`], unless `Gone` comes first.
    Asked { client: ClientId, right: Right, request: Request },
    /// The client is gone and wants no answer any more. What it asked for goes on.
    Gone { client: ClientId },
}

impl Incoming {
    /// Whom it is from.
    pub(super) fn client(&self) -> ClientId {
        match self {
            Incoming::Asked { client, .. } | Incoming::Gone { client } => *client,
        }
    }
}

/// The abstract name and one path.
const LISTENERS_MAX: usize = 2;

/// All ends of the control socket that init holds.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<Listener>,
    /// Few enough to be looked through.
    clients: Vec<Client>,
    rules: Rules,
    /// The first token; listeners have the first ones, clients all that follow, each its own for good: a late event
    /// for a closed connection must not be taken for one of its successor's.
    first: usize,
    next_client: u64,
    /// Counts what clients did, to tell who has been quiet for longest.
    clock: u64,
    /// Given up when the table of file descriptors is full: then one client can still come in.
    reserve: Option<File>,
    /// Connections wait that could not be accepted; to be tried again when something is closed.
    starved: bool,
}

/// Who may do what.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// Init's own uid.
    uid: u32,
    /// The group that the settings let in, and how far.
    group: Option<(u32, Right)>,
}

impl Rules {
    /// None: not at all. `groups` are the peer's supplementary ones.
    fn right_of(&self, peer: Peer, groups: impl FnOnce() -> Vec<u32>) -> Option<Right> {
        // A process that init cannot see is not one of this container's, whatever its uid says.
        if peer.pid == 0 {
            return None;
        }
        if peer.uid == 0 || peer.uid == self.uid {
            return Some(Right::Admin);
        }
        let (group, right) = self.group?;
        (peer.gid == group || groups().contains(&group)).then_some(right)
    }
}

#[derive(Debug)]
struct Client {
    id: ClientId,
    stream: UnixStream,
    uid: u32,
    right: Right,
    phase: Phase,
    reader: Reader<Asked>,
    /// It wants to hear what happens to its request before the reply.
    follows: bool,
    /// A line that the client has not read yet, and how much of it the kernel has taken.
    unread: Vec<u8>,
    sent: usize,
    /// Descriptors that go with the byte of `unread` at this place. Shared with whoever holds them anyway, so that what
    /// waits takes no more of them.
    attached: VecDeque<(usize, Arc<[OwnedFd]>)>,
    /// One of init's roles: it has its place for as long as it lives, and is told things unasked.
    is_role: bool,
    /// Bytes of `unread` that a role has to be told in any case, however many they are.
    brief: usize,
    /// The server's clock when it last did something.
    active: u64,
}

/// Whose turn it is. A reply that is on its way (`unread`) comes before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The client's: it may ask.
    Asking,
    /// Init's: it owes a reply.
    Waiting,
    /// Nobody's: to be closed as soon as the last line is sent.
    Leaving,
}

/// What came of letting a client go on.
enum Progress {
    Asked(Request),
    /// Nothing more to do until its next event.
    Paused,
    /// It had its share of this turn; there may be more.
    Unfinished,
    Closed,
}

impl Server {
    /// Opens the places that `facts` and the settings say, and tells which. A server without any place
    /// is a valid one, and what `control = false` asks for: what could not be opened is a warning, as apps matter more
    /// than being asked about them.
    /// All tokens from `first` on are the server's.
    pub fn open(
        settings: &Settings,
        facts: &place::Facts,
        is_pid1: bool,
        registry: &Registry,
        first: usize,
    ) -> (Server, Places) {
        let group = settings.control_group.as_deref().and_then(|name| {
            let gid = Users::read().gid(name);
            if gid.is_none() {
                log::warn!("control_group = {name}: no such group, nobody is let in by it");
            }
            gid
        });
        let mut server = Server {
            listeners: Vec::new(),
            clients: Vec::new(),
            rules: Rules { uid: facts.uid, group: group.map(|gid| (gid, settings.control_right)) },
            first,
            next_client: 0,
            clock: 0,
            reserve: reserve(),
            starved: false,
        };
        let mut open = Places::default();
        if !settings.control {
            return (server, open);
        }
        let places = place::of_server(facts, is_pid1, settings.runtime_dir.as_deref().map(Path::new));
        // Anybody may have the name; clients believe root and their own user.
        let before =
            |address: &&Address| listen::listener_of(address).filter(|peer| [0, facts.uid].contains(&peer.uid));
        if let Some((address, peer)) = places.before.iter().find_map(|address| Some((address, before(&address)?))) {
            open.taken.push(format!("control socket {address}: pm3 runs there already, pid {}", peer.pid));
            return (server, open);
        }
        if let Some(address) = &places.always {
            server.listen(address, group, registry, &mut open);
        }
        for address in &places.first_of {
            // Where another pm3 is running, clients find that one: a place further down the list would be a trap.
            if server.listen(address, group, registry, &mut open) != Found::Unusable {
                break;
            }
        }
        (server, open)
    }

    fn listen(&mut self, address: &Address, group: Option<u32>, registry: &Registry, open: &mut Places) -> Found {
        let listened = Listener::open(address, group).and_then(|mut listener| {
            let token = Token(self.first + self.listeners.len());
            registry.register(&mut listener.socket, token, Interest::READABLE)?;
            Ok(listener)
        });
        match listened {
            Ok(listener) => {
                self.listeners.push(listener);
                open.names.push(address.to_string());
                Found::Free
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                open.taken.push(format!("control socket {address}: {error}"));
                Found::Taken
            }
            Err(error) => {
                log::warn!("control socket {address}: {error}");
                Found::Unusable
            }
        }
    }

    /// Handles an event of one of the server's tokens.
    pub fn ready(&mut self, event: &Event, registry: &Registry, out: &mut Vec<Incoming>) {
        let Some(at) = event.token().0.checked_sub(self.first) else { return };
        match at.checked_sub(LISTENERS_MAX) {
            None => self.accept(at, registry, out),
            Some(number) => {
                let client = ClientId(number as u64);
                self.serve(client, registry, out);
                // Only now: one that asks and leaves at once has asked. A role has its place until it has been reaped.
                if event.is_write_closed() && !self.is_role(client) {
                    self.remove(client, registry, out);
                }
            }
        }
    }

    /// Answers a request. A client that is gone is ignored; one that owes no answer too.
    pub fn reply(&mut self, client: ClientId, reply: &Reply, registry: &Registry) {
        let Some(asker) = self.clients.iter_mut().find(|one| one.id == client && one.phase == Phase::Waiting) else {
            return;
        };
        asker.say(reply, Phase::Asking);
        self.clock += 1;
        asker.active = self.clock;
        // What it sent meanwhile made its event in vain: register anew, so that there is one more.
        if asker.flush().is_err() || asker.renew(self.first, registry).is_err() {
            self.remove(client, registry, &mut Vec::new());
        }
        self.cut_off_who_does_not_read(client, registry);
    }

    /// Whether a client wants to hear what happens to its request before the reply.
    pub fn follows(&self, client: ClientId) -> bool {
        self.clients.iter().any(|one| one.id == client && one.follows)
    }

    /// Tells a client something before its reply, as far as it reads.
    pub fn inform(&mut self, client: ClientId, news: &Reply) {
        let asker = self.clients.iter_mut().find(|one| one.id == client && one.phase == Phase::Waiting);
        let Some(asker) = asker.filter(|one| one.unread.len() < limits::PROGRESS_MAX) else { return };
        asker.say(news, Phase::Waiting);
        // Whoever is gone is found out by its event, and what is not taken now goes out when the socket is writable.
        let _ = asker.flush();
    }

    /// Takes the socket's names away and closes every client's connection. What can be sent without waiting is sent.
    pub fn close(&mut self) {
        for listener in self.listeners.drain(..) {
            listener.remove();
        }
        for client in &mut self.clients {
            let _ = client.flush();
        }
        self.clients.retain(|client| client.is_role);
    }

    fn accept(&mut self, at: usize, registry: &Registry, out: &mut Vec<Incoming>) {
        for turn in 0..limits::ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.get(at) else { return };
            match listener.socket.accept() {
                Ok((stream, _)) => self.admit(stream, registry, out),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                // No file descriptor or no memory. The kernel looks for those before it looks for a client, so nobody
                // may be waiting any more: only the first one, whom the event announced, is worth another's place.
                Err(error) if sys::passing(sys::errno::of(&error)) && turn > 0 => break,
                // Edge-triggered events do not repeat, so this cannot spin.
                Err(error) if sys::passing(sys::errno::of(&error)) && self.make_room(registry, out) => {}
                Err(_) => {
                    self.starved = true;
                    return;
                }
            }
        }
        // More may wait. An event that is asked for anew comes at once, after those of others.
        self.listen_again(registry);
    }

    fn listen_again(&mut self, registry: &Registry) {
        for (at, listener) in self.listeners.iter_mut().enumerate() {
            let token = Token(self.first + at);
            if let Err(error) = registry.reregister(&mut listener.socket, token, Interest::READABLE) {
                log::warn!("control socket: {error}");
            }
        }
    }

    fn make_room(&mut self, registry: &Registry, out: &mut Vec<Incoming>) -> bool {
        if self.reserve.take().is_some() {
            log::warn!("control socket: no file descriptor is left for clients, using the reserve");
            return true;
        }
        self.evict(None, registry, out)
    }

    fn admit(&mut self, mut stream: UnixStream, registry: &Registry, out: &mut Vec<Incoming>) {
        // A peer that cannot be told is none.
        let Ok(peer) = socket::peer(&stream) else { return };
        let groups = || socket::peer_groups(&stream).unwrap_or_default();
        let Some(right) = self.rules.right_of(peer, groups) else {
            return dismiss(&mut stream, stranger(peer));
        };
        let of_uid = self.clients.iter().filter(|client| client.uid == peer.uid && !client.is_role).count();
        // Whoever else waits for init's answers, root and our own user come in, up to their share.
        let is_ours = peer.uid == 0 || peer.uid == self.rules.uid;
        let full = if of_uid >= limits::CLIENTS_PER_UID_MAX {
            !self.evict(Some(peer.uid), registry, out)
        } else {
            self.clients.len() >= limits::CLIENTS_MAX && !self.evict(None, registry, out) && !is_ours
        };
        if full {
            return dismiss(&mut stream, busy());
        }
        if let Err(error) = self.add(stream, peer.uid, right, false, registry) {
            log::warn!("control socket: {error}");
        }
    }

    fn add(
        &mut self,
        stream: UnixStream,
        uid: u32,
        right: Right,
        is_role: bool,
        registry: &Registry,
    ) -> io::Result<ClientId> {
        self.next_client += 1;
        self.clock += 1;
        let id = ClientId(self.next_client);
        let mut client = Client {
            id,
            stream,
            uid,
            right,
            phase: Phase::Asking,
            reader: Reader::of_requests(right),
            follows: false,
            unread: Vec::new(),
            sent: 0,
            attached: VecDeque::new(),
            is_role,
            brief: 0,
            active: self.clock,
        };
        registry.register(&mut client.stream, token(id, self.first), Interest::READABLE | Interest::WRITABLE)?;
        self.clients.push(client);
        Ok(id)
    }

    fn serve(&mut self, id: ClientId, registry: &Registry, out: &mut Vec<Incoming>) {
        let Some(client) = self.clients.iter_mut().find(|one| one.id == id) else { return };
        self.clock += 1;
        match client.go_on(self.clock) {
            Progress::Asked(request) => {
                client.phase = Phase::Waiting;
                out.push(Incoming::Asked { client: id, right: client.right, request });
            }
            Progress::Paused => {}
            Progress::Unfinished => {
                if client.renew(self.first, registry).is_err() {
                    self.remove(id, registry, out);
                }
            }
            Progress::Closed => self.remove(id, registry, out),
        }
        self.cut_off_who_does_not_finish(id, registry, out);
    }

    /// Closes the client that has been quiet for longest, of this uid or of any; never one that waits for init.
    fn evict(&mut self, uid: Option<u32>, registry: &Registry, out: &mut Vec<Incoming>) -> bool {
        let idle = |client: &Client| {
            client.phase != Phase::Waiting && uid.is_none_or(|uid| client.uid == uid) && !client.is_role
        };
        let quiet = self.clients.iter_mut().filter(|client| idle(client)).min_by_key(|client| client.active);
        let Some(client) = quiet else { return false };
        // Half a line can only be followed by its other half.
        if client.unread.is_empty() {
            dismiss(&mut client.stream, busy());
        }
        let id = client.id;
        self.remove(id, registry, out);
        true
    }

    fn cut_off_who_does_not_finish(&mut self, newest: ClientId, registry: &Registry, out: &mut Vec<Incoming>) {
        while self.clients.iter().map(|client| client.reader.held()).sum::<usize>() > limits::UNFINISHED_MAX {
            let others = self.clients.iter().filter(|client| client.id != newest && !client.is_role);
            let halves = others.filter(|client| client.phase == Phase::Asking && client.reader.held() > 0);
            let Some(id) = halves.min_by_key(|client| client.active).map(|client| client.id) else { return };
            if let Some(client) = self.clients.iter_mut().find(|client| client.id == id) {
                dismiss(&mut client.stream, busy());
            }
            self.remove(id, registry, out);
        }
    }

    fn cut_off_who_does_not_read(&mut self, newest: ClientId, registry: &Registry) {
        let clients = |server: &Server| {
            server.clients.iter().filter(|client| !client.is_role).map(|one| one.unread.len()).sum::<usize>()
        };
        while clients(self) > limits::UNREAD_MAX {
            let behind = self.clients.iter().filter(|client| client.id != newest && !client.is_role);
            // What waits before a reply is little, and the reply is owed.
            let behind = behind.filter(|client| !client.unread.is_empty() && client.phase != Phase::Waiting);
            let Some(id) = behind.min_by_key(|client| client.active).map(|client| client.id) else { return };
            self.remove(id, registry, &mut Vec::new());
        }
    }

    fn remove(&mut self, id: ClientId, registry: &Registry, out: &mut Vec<Incoming>) {
        let Some(at) = self.clients.iter().position(|client| client.id == id) else { return };
        let mut client = self.clients.swap_remove(at);
        // Closing would do, if no child that was forked a moment ago held a copy until its exec.
        let _ = registry.deregister(&mut client.stream);
        if client.phase == Phase::Waiting {
            out.push(Incoming::Gone { client: id });
        }
        drop(client);
        if self.reserve.is_none() {
            self.reserve = reserve();
        }
        if std::mem::take(&mut self.starved) {
            self.listen_again(registry);
        }
    }
}

/// Where a server listens, for the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Places {
    pub names: Vec<String>,
    /// Where another pm3 listens and this one should have: the place, and the other's pid.
    pub taken: Vec<String>,
}

/// How a place was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Free,
    Taken,
    Unusable,
}

impl Client {
    /// Sends what is to be sent, then reads what is there, up to one request.
    fn go_on(&mut self, clock: u64) -> Progress {
        let mut chunk = [0; 4 << 10];
        let mut budget = limits::READ_PER_TURN;
        loop {
            if !self.unread.is_empty() {
                match self.flush() {
                    Ok(true) => self.active = clock,
                    Ok(false) => return Progress::Paused,
                    // It reads no more, but what it has told before counts.
                    Err(_) if self.is_role => {
                        (self.unread, self.sent) = (Vec::new(), 0);
                        self.attached.clear();
                    }
                    Err(_) => return Progress::Closed,
                }
            }
            match self.phase {
                Phase::Asking => {}
                Phase::Waiting => return Progress::Paused,
                Phase::Leaving => return Progress::Closed,
            }
            match self.reader.next() {
                Ok(Some(Asked { ask, progress })) if self.right >= ask.needs() => {
                    self.follows = progress;
                    return Progress::Asked(ask);
                }
                Ok(Some(Asked { ask, .. })) => {
                    self.say(&Reply::Error(not_allowed(&ask, self.right)), Phase::Asking);
                    continue;
                }
                Ok(None) => {}
                Err(malformed) => {
                    self.say(&Reply::Error(malformed.refusal()), Phase::Leaving);
                    continue;
                }
            }
            let most = chunk.len().min(self.reader.room()).min(budget);
            if most == 0 {
                return Progress::Unfinished;
            }
            match self.stream.read(chunk.get_mut(..most).unwrap_or_default()) {
                Ok(0) => return Progress::Closed,
                Ok(count) => {
                    self.active = clock;
                    budget -= count.min(budget);
                    self.reader.push(chunk.get(..count).unwrap_or_default());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Paused,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Progress::Closed,
            }
        }
    }

    /// Asks for one more event, which comes at once.
    fn renew(&mut self, first: usize, registry: &Registry) -> io::Result<()> {
        registry.reregister(&mut self.stream, token(self.id, first), Interest::READABLE | Interest::WRITABLE)
    }

    fn say(&mut self, reply: &Reply, then: Phase) {
        let line = codec::reply_line(reply);
        if self.unread.is_empty() {
            self.unread = line;
        } else {
            self.unread.extend_from_slice(&line);
        }
        self.phase = then;
    }

    /// Sends what the kernel takes. True: all of it.
    fn flush(&mut self) -> io::Result<bool> {
        while let Some(rest) = self.unread.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let sent = if self.attached.is_empty() { self.stream.write(rest) } else { self.send_attached() };
            match sent {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        (self.unread, self.sent) = (Vec::new(), 0);
        Ok(true)
    }
}

fn token(client: ClientId, first: usize) -> Token {
    // Clients are counted in a u64: where a usize is shorter, the count starts over after four thousand million.
    Token(first + LISTENERS_MAX + client.0 as usize)
}

fn reserve() -> Option<File> {
    // Not /dev/null, which a bare chroot may lack.
    File::open("/").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_follow_from_who_asks() {
        let rules = Rules { uid: 7, group: Some((50, Right::Operate)) };
        let alone = Rules { uid: 7, group: None };
        let who = |pid, uid, gid| Peer { pid, uid, gid };
        for (rules, peer, groups, expected) in [
            (rules, who(9, 0, 0), vec![], Some(Right::Admin)),
            (rules, who(9, 7, 1), vec![], Some(Right::Admin)),
            (rules, who(9, 8, 50), vec![], Some(Right::Operate)),
            (rules, who(9, 8, 1), vec![4, 50], Some(Right::Operate)),
            (rules, who(9, 8, 1), vec![4, 51], None),
            (alone, who(9, 8, 50), vec![50], None),
            (alone, who(9, 0, 0), vec![], Some(Right::Admin)),
            (rules, who(0, 0, 0), vec![], None),
            (rules, who(0, 7, 50), vec![50], None),
        ] {
            assert_eq!(rules.right_of(peer, || groups.clone()), expected, "{peer:?} {groups:?}");
        }
    }
}
