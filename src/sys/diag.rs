//! The TCP connections of a port, as the kernel tells them (sock_diag(7)): which there are, and what is still to be done
//! for each. Asked only while a run is drained.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Of its socket; 0 while nobody has accepted it, or nobody has it any more.
    pub inode: u64,
    /// The kernel's own name for it, never given twice (`SO_COOKIE`).
    pub cookie: u64,
    pub state: State,
    pub work: Work,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The handshake is not over (TCP_SYN_RECV).
    Opening,
    Established,
    /// The other end has said all that it has to say (TCP_CLOSE_WAIT).
    HalfClosed,
}

/// What is known of whether a connection is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Something was sent or received that the other side has not taken yet, or what came last is newer than what went
    /// last: somebody waits for an answer.
    Busy,
    /// Nothing has ever come: it has just been made, or is kept for later.
    Fresh,
    /// What went last is newer than what came last, and all of it has arrived.
    Idle,
    /// Both were in the same tick of the kernel's clock.
    Unclear,
}

/// Bytes that a reply may have at a time.
const REPLY: usize = 32 << 10;

/// Connections that are looked at; with more, those that are not seen are nobody's.
const CONNECTIONS_MAX: usize = 65_536;

/// `struct tcp_info` up to `tcpi_bytes_received` (linux/tcp.h), where each field is.
const LAST_DATA_SENT_AT: usize = 44;
const LAST_DATA_RECV_AT: usize = 52;
const BYTES_ACKED_AT: usize = 120;
const BYTES_RECEIVED_AT: usize = 128;

/// Numbers of the kernel's: linux/tcp_states.h, linux/inet_diag.h, linux/sock_diag.h.
const SYN_RECV: u8 = 3;
const ESTABLISHED: u8 = 1;
const CLOSE_WAIT: u8 = 8;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const INFO: u16 = 2;
const REQ_BYTECODE: u16 = 1;
const PORT_AT_LEAST: u8 = 2;
const PORT_AT_MOST: u8 = 3;

/// All connections to this port of this machine that are open or being opened.
///
/// # Errors
/// The kernel or a filter refuses to tell.
pub fn connections(port: u16) -> io::Result<Vec<Connection>> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Datagram, flags, SockProtocol::NetlinkSockDiag)?;
    let mut found = Vec::new();
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        send(socket.as_raw_fd(), &request(family, port), MsgFlags::empty())?;
        receive(&socket, &mut found)?;
    }
    Ok(found)
}

/// `nlmsghdr`, `inet_diag_req_v2`, and a filter for the port.
fn request(family: u8, port: u16) -> Vec<u8> {
    let states = 1u32 << SYN_RECV | 1 << ESTABLISHED | 1 << CLOSE_WAIT;
    let [lo, hi] = port.to_ne_bytes();
    // Each operation is 4 bytes: code, where to go on if it is so, and if not; the port is in one of its own.
    let operation = |code: u8, rest: u16| {
        let [no0, no1] = rest.to_ne_bytes();
        [code, 8, no0, no1, 0, 0, lo, hi]
    };
    let filter = [operation(PORT_AT_LEAST, 20), operation(PORT_AT_MOST, 12)].concat();
    let attribute = (4 + filter.len()) as u16;
    let wanted = [family, libc::IPPROTO_TCP as u8, 1 << (INFO - 1), 0];
    let length = 16 + 56 + usize::from(attribute);
    let kind_and_flags = [SOCK_DIAG_BY_FAMILY, (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16];
    [
        &(length as u32).to_ne_bytes()[..],
        &kind_and_flags.map(u16::to_ne_bytes).concat(),
        &[0; 8],
        &wanted,
        &states.to_ne_bytes(),
        &[0; 48],
        &[attribute, REQ_BYTECODE].map(u16::to_ne_bytes).concat(),
        &filter,
    ]
    .concat()
}

fn receive(socket: &OwnedFd, found: &mut Vec<Connection>) -> io::Result<()> {
    let mut room = vec![0; REPLY];
    loop {
        let count = match recv(socket.as_raw_fd(), &mut room, MsgFlags::empty()) {
            Err(Errno::EINTR) => continue,
            count => count?,
        };
        let mut rest = room.get(..count).unwrap_or_default();
        while let Some((kind, body, after)) = message(rest) {
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(()),
                libc::NLMSG_ERROR => {
                    let errno = body.first_chunk().map_or(0, |errno| i32::from_ne_bytes(*errno));
                    return Err(io::Error::from_raw_os_error(errno.saturating_neg()));
                }
                _ if found.len() < CONNECTIONS_MAX => found.extend(connection(body)),
                _ => {}
            }
            rest = after;
        }
        if count == 0 {
            return Ok(());
        }
    }
}

/// The first message: its kind, what is in it, and what comes after it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(16..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// `inet_diag_msg`, and its attributes.
fn connection(body: &[u8]) -> Option<Connection> {
    let state = match *body.get(1)? {
        SYN_RECV => State::Opening,
        ESTABLISHED => State::Established,
        CLOSE_WAIT => State::HalfClosed,
        _ => return None,
    };
    let cookie = u64::from(u32_at(body, 44)?) | u64::from(u32_at(body, 48)?) << 32;
    let queued = u32_at(body, 56)? > 0 || u32_at(body, 60)? > 0;
    let inode = u32_at(body, 68)?.into();
    let mut work = if queued { Work::Busy } else { Work::Unclear };
    let mut attributes = body.get(72..)?;
    while let Some((kind, value, rest)) = attribute(attributes) {
        if kind == INFO && !queued {
            work = work_of(value).unwrap_or(Work::Unclear);
        }
        attributes = rest;
    }
    Some(Connection { inode, cookie, state, work })
}

fn attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
    Some((kind, bytes.get(4..length)?, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// From `tcp_info` of a connection with empty queues.
fn work_of(info: &[u8]) -> Option<Work> {
    let (sent, received) = (u64_at(info, BYTES_ACKED_AT)?, u64_at(info, BYTES_RECEIVED_AT)?);
    // How long ago each was, in milliseconds.
    let (last_sent, last_received) = (u32_at(info, LAST_DATA_SENT_AT)?, u32_at(info, LAST_DATA_RECV_AT)?);
    // Of a connection that we accepted, the other end's SYN counts as the first byte that is acknowledged.
    Some(match (received, sent) {
        (0, _) => Work::Fresh,
        (_, 0..=1) => Work::Busy,
        _ if last_received < last_sent => Work::Busy,
        _ if last_received > last_sent => Work::Idle,
        _ => Work::Unclear,
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::linux::fs::MetadataExt;

    use super::*;

    fn inode(stream: &TcpStream) -> u64 {
        std::fs::metadata(format!("/proc/self/fd/{}", stream.as_raw_fd())).unwrap().st_ino()
    }

    /// Of the connection with this inode, once it is so.
    fn becomes(port: u16, inode: u64, wanted: &[Work]) {
        for _ in 0..1000 {
            let all = connections(port).unwrap();
            if all.iter().any(|one| one.inode == inode && wanted.contains(&one.work)) {
                return;
            }
            std::thread::yield_now();
        }
        panic!("{:?} has none of {wanted:?}", connections(port));
    }

    fn check(address: &str) {
        let listener = TcpListener::bind(address).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(connections(port).unwrap(), []);
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(connections(port).unwrap().iter().map(|one| one.inode).collect::<Vec<_>>(), [0], "not accepted");
        let (mut server, _) = listener.accept().unwrap();
        let own = inode(&server);
        becomes(port, own, &[Work::Fresh]);
        client.write_all(b"question").unwrap();
        becomes(port, own, &[Work::Busy]);
        let mut text = [0; 8];
        server.read_exact(&mut text).unwrap();
        becomes(port, own, &[Work::Busy]);
        server.write_all(b"answer").unwrap();
        client.read_exact(&mut text[..6]).unwrap();
        becomes(port, own, &[Work::Idle, Work::Unclear]);
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(connections(port).unwrap().iter().map(|one| one.state).collect::<Vec<_>>(), [State::HalfClosed]);
    }

    #[test]
    fn connections_are_seen_and_what_is_to_be_done_for_them() {
        check("127.0.0.1:0");
        check("[::1]:0");
    }

    #[test]
    fn other_ports_are_left_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).unwrap();
        for port in [address.port().wrapping_sub(1), address.port().wrapping_add(1)] {
            assert!(connections(port).unwrap().iter().all(|one| one.inode != 0 || one.cookie != 0));
        }
        assert_eq!(connections(address.port()).unwrap().len(), 1);
    }

    #[test]
    fn garbage_is_no_connection() {
        for bytes in [&[][..], &[0; 10], &[1; 72], &[0xff; 200]] {
            assert_eq!(message(bytes).and_then(|(_, body, _)| connection(body)), None, "{bytes:?}");
        }
    }
}
