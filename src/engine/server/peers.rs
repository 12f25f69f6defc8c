//! What the server does for the roles: they are clients that are connected from the start, with a right that is given and
//! not found out; they are told things unasked, descriptors included; and a client's connection can be handed over to
//! one, for answers that init has no business with.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use mio::Registry;
use mio::net::UnixStream;

use super::{Client, Incoming, Phase, Server};
use crate::control::role::UNREAD_MAX;
use crate::supervisor::event::ClientId;
use crate::supervisor::spec::Right;
use crate::sys::socket;

/// Sets of descriptors that wait for a role and that nobody holds but for that: pipes of runs that have ended, clients.
/// Each is missing to everybody else; a role that is so far behind is stuck.
const LEFT_MAX: usize = 32;

impl Server {
    /// Takes a role's connection in.
    ///
    /// # Errors
    /// It cannot be watched.
    pub(in crate::engine) fn adopt(
        &mut self,
        stream: UnixStream,
        right: Right,
        registry: &Registry,
    ) -> io::Result<ClientId> {
        let uid = self.rules.uid;
        self.add(stream, uid, right, true, registry)
    }

    /// Whether this is a role's connection.
    pub(in crate::engine) fn is_role(&self, client: ClientId) -> bool {
        self.clients.iter().any(|one| one.id == client && one.is_role)
    }

    /// Tells a role something. False: it is not there any more, or does not read: it has to be replaced. `is_brief`: it has
    /// just been started, and cannot have read yet what it has to know; that is as much as there is, and another one would
    /// have to be told the same.
    pub(in crate::engine) fn tell(
        &mut self,
        role: ClientId,
        line: &[u8],
        fds: Option<Arc<[OwnedFd]>>,
        is_brief: bool,
    ) -> bool {
        let Some(peer) = self.clients.iter_mut().find(|one| one.id == role && one.is_role) else { return false };
        if peer.unread.is_empty() {
            peer.brief = 0;
        }
        if is_brief {
            peer.brief += line.len();
        } else if peer.unread.len().saturating_add(line.len()) > UNREAD_MAX.saturating_add(peer.brief) {
            return false;
        }
        if peer.attached.iter().filter(|(_, fds)| Arc::strong_count(fds) == 1).count() >= LEFT_MAX {
            return false;
        }
        if let Some(fds) = fds {
            peer.attached.push_back((peer.unread.len(), fds));
        }
        peer.unread.extend_from_slice(line);
        // What is not taken goes out when the socket is writable: an event is asked for from the start.
        peer.flush().is_ok()
    }

    /// Lets a client go that is owed a reply: its connection, for somebody else to answer.
    pub(in crate::engine) fn hand_over(&mut self, client: ClientId, registry: &Registry) -> Option<OwnedFd> {
        let asker = self.clients.iter().find(|one| one.id == client && one.phase == Phase::Waiting && !one.is_role)?;
        // What was sent to it before goes out before.
        let connection = asker.stream.as_fd().try_clone_to_owned().ok().filter(|_| asker.unread.is_empty());
        self.remove(client, registry, &mut Vec::new());
        connection
    }

    /// What a role that has ended has asked last.
    pub(in crate::engine) fn hear_out(&mut self, role: ClientId, registry: &Registry, out: &mut Vec<Incoming>) {
        self.serve(role, registry, out);
    }

    /// Closes a role's connection.
    pub(in crate::engine) fn dismiss_role(&mut self, role: ClientId, registry: &Registry) {
        self.remove(role, registry, &mut Vec::new());
    }
}

impl Client {
    /// Sends what comes before the next descriptors, or them and what follows up to the ones after them.
    pub(super) fn send_attached(&mut self) -> io::Result<usize> {
        let at = |attached: &VecDeque<(usize, Arc<[OwnedFd]>)>, nth: usize| attached.get(nth).map(|(at, _)| *at);
        let start = self.sent;
        let due = at(&self.attached, 0) == Some(start);
        let end = at(&self.attached, usize::from(due)).unwrap_or(self.unread.len());
        let fds = self.attached.front().filter(|_| due).map(|(_, fds)| fds.iter().map(|fd| fd.as_fd()).collect());
        let fds: Vec<BorrowedFd<'_>> = fds.unwrap_or_default();
        let count = socket::send(&self.stream, self.unread.get(start..end).unwrap_or_default(), &fds)?;
        if due {
            self.attached.pop_front();
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::io::Read;

    use mio::Poll;

    use super::*;
    use crate::control::place::Facts;
    use crate::supervisor::spec::Settings;

    #[test]
    fn a_role_is_told_all_that_holds_and_then_only_as_much_as_it_reads() {
        let poll = Poll::new().unwrap();
        let home = std::env::temp_dir().join(format!("pm3-peers-{}", std::process::id()));
        let facts = Facts { socket: Some(home.clone()), ..Facts::new(crate::sys::place::uid(), None, None, |_| None) };
        let (mut server, _) = Server::open(&Settings::default(), &facts, false, poll.registry(), 0);
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let role = server.adopt(UnixStream::from_std(ours), Right::View, poll.registry()).unwrap();
        // What an init of many apps tells, before the role has read anything.
        let line = vec![b'x'; 64 << 10];
        let brief = 4 * UNREAD_MAX / line.len();
        (0..brief).for_each(|_| assert!(server.tell(role, &line, None, true)));
        let more = (0..brief).take_while(|_| server.tell(role, &line, None, false)).count();
        assert_eq!(more, UNREAD_MAX / line.len());
        // Once it has read all, it has no more than others.
        let mut left = (brief + more) * line.len();
        let mut chunk = vec![0; 1 << 20];
        while left > 0 {
            left -= (&theirs).read(&mut chunk).unwrap();
            let _ = server.clients.iter_mut().map(Client::flush).filter(Result::is_ok).count();
        }
        let fits = (0..brief).take_while(|_| server.tell(role, &line, None, false)).count();
        assert!(fits <= UNREAD_MAX / line.len() + 16, "{fits}");
        std::fs::remove_file(home).unwrap();
    }
}
