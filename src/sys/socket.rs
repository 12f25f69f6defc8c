//! What only Unix sockets can do (unix(7)): tell who is at the other end, as the kernel noted it when the connection was
//! made, hand descriptors over, and have a file that lets in whom it should from its first moment on.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, getsockopt, setsockopt,
    sockopt,
};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::fchownat;

use super::dirs::without_umask;
use super::local::is_socket;

/// The process at the other end. Ids are those of the reader's namespaces: a pid of another pid namespace reads 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
}

/// `SO_PEERCRED`: of the one that connected, or of the one that listens.
///
/// # Errors
/// `socket` is no connected Unix stream socket.
pub fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let credentials = getsockopt(&socket, sockopt::PeerCredentials)?;
    // A process that the reader cannot see has no pid: 0, and never a negative number that would be someone else.
    let pid = u32::try_from(credentials.pid()).unwrap_or(0);
    Ok(Peer { pid, uid: credentials.uid(), gid: credentials.gid() })
}

/// `SO_PEERGROUPS`: the supplementary groups of the process at the other end.
///
/// # Errors
/// `socket` is no connected Unix stream socket, or the kernel is older than 4.13.
pub fn peer_groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    // Most users are in a handful of groups; a kernel that has more to say says how many.
    let mut groups = vec![0u32; 32];
    loop {
        let size = groups.len() * size_of::<u32>();
        let mut length = libc::socklen_t::try_from(size).unwrap_or(libc::socklen_t::MAX);
        // SAFETY: `groups` is writable for `length` bytes, and getsockopt(2) writes no more than that and the length.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = usize::try_from(length).unwrap_or_default() / size_of::<u32>();
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

/// Whose a file is to be; None: as it comes to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// Listens, without blocking, at a path where nothing is yet, as a file with this mode and owner, so that `backlog`
/// connections may wait. Nobody can connect before it has both, and no name is followed: whoever puts a link in its place
/// gets nothing changed.
///
/// # Errors
/// From bind(2): EADDRINUSE where something is. From fchownat(2), or EEXIST where its file is another one by then; then
/// the file is gone again.
pub fn listen_at(path: &Path, mode: u32, owner: Owner, backlog: u32) -> io::Result<UnixListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // The file takes its mode from the socket, as open(2) does from its argument.
    fchmod(&socket, Mode::from_bits_truncate(mode))?;
    let address = UnixAddr::new(path)?;
    without_umask(|| nix::sys::socket::bind(socket.as_raw_fd(), &address))?;
    give(path, owner).and_then(|()| listen(&socket, backlog)).inspect_err(|_| drop(std::fs::remove_file(path)))?;
    Ok(socket.into())
}

/// Gives away the file of a socket that we have just made. Who may write in its directory may have put something else
/// there: only a socket of our own with no other name changes hands.
fn give(path: &Path, owner: Owner) -> io::Result<()> {
    if owner == Owner::default() {
        return Ok(());
    }
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = nix::fcntl::open(path, flags, Mode::empty())?;
    let found = fstat(&file)?;
    if !is_socket(&found) || found.st_uid != nix::unistd::geteuid().as_raw() || found.st_nlink != 1 {
        return Err(Errno::EEXIST.into());
    }
    let (uid, gid) = (owner.uid.map(Into::into), owner.gid.map(Into::into));
    Ok(fchownat(&file, "", uid, gid, AtFlags::AT_EMPTY_PATH)?)
}

/// As many may wait as the kernel has it (`net.core.somaxconn`, listen(2)): its own default since Linux 5.4.
pub const BACKLOG: u32 = 4096;

/// Has connections come to a socket, of which so many may wait. Not nix's: that one takes no more than a number of the C
/// library's own, which is 128 with musl.
///
/// # Errors
/// From listen(2).
pub(super) fn listen(socket: impl AsFd, backlog: u32) -> io::Result<()> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    // SAFETY: listen takes numbers.
    let done = unsafe { libc::listen(socket.as_fd().as_raw_fd(), backlog) };
    Ok(Errno::result(done).map(drop)?)
}

/// Standard input, if it is a socket, without blocking. To be called once: it becomes the caller's.
///
/// # Errors
/// It is no socket.
pub fn stdin() -> io::Result<UnixStream> {
    // SAFETY: 0 is open from the start on (`early`), and pm3 has no other use for it.
    let stream = UnixStream::from(unsafe { OwnedFd::from_raw_fd(0) });
    if let Err(error) =
        getsockopt(&stream, sockopt::SockType).map_err(io::Error::from).and_then(|_| stream.set_nonblocking(true))
    {
        // As it was: a file that is opened next must not become standard input.
        let _ = stream.into_raw_fd();
        return Err(error);
    }
    Ok(stream)
}

/// Most descriptors that go with one piece of a stream.
pub const FDS_MAX: usize = 3;

/// Sends what the kernel takes of `bytes` without waiting. The descriptors go with the first byte, and are ours as before.
///
/// # Errors
/// From sendmsg(2): EAGAIN where nothing was taken.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let rights = if numbers.is_empty() { &[][..] } else { &rights };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let pieces = [IoSlice::new(bytes)];
    Ok(nix::sys::socket::sendmsg::<UnixAddr>(socket.as_fd().as_raw_fd(), &pieces, rights, flags, None)?)
}

/// Receives into `bytes` without waiting, and appends the descriptors that came with them, which are close-on-exec. What
/// was sent with a byte comes no later than that byte, and in the order in which it was sent. 0: the other end is closed.
///
/// # Errors
/// From recvmsg(2): EAGAIN where nothing has come. EMFILE where descriptors came for which there is no room: then
/// those that follow would be taken for them, and there is nothing to do but to end.
pub fn receive(socket: impl AsFd, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut room = nix::cmsg_space!([RawFd; FDS_MAX]);
    let mut pieces = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let socket = socket.as_fd().as_raw_fd();
    let received = nix::sys::socket::recvmsg::<UnixAddr>(socket, &mut pieces, Some(&mut room), flags)?;
    if received.flags.contains(MsgFlags::MSG_CTRUNC) {
        return Err(Errno::EMFILE.into());
    }
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = message {
            // SAFETY: the kernel has just made these descriptors for us, and nobody else knows them.
            fds.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    Ok(received.bytes)
}

/// A message, as far as it had room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    pub count: usize,
    /// It had room.
    pub whole: bool,
    /// Who sent it, as the kernel noted it then.
    pub from: Option<Peer>,
}

/// A socket for messages at this abstract name (unix(7)), which says of each who has sent it. It does not block.
///
/// # Errors
/// From socket(2) and bind(2).
pub fn hearing(name: &str) -> io::Result<UnixDatagram> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = nix::sys::socket::socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    setsockopt(&socket, sockopt::PassCred, &true)?;
    nix::sys::socket::bind(socket.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?)?;
    Ok(socket.into())
}

/// Bytes of what the kernel says of a sender: a header, and struct ucred (cmsg(3), unix(7)).
const SENDER: usize = 28;

/// The next message. Descriptors that come with it are not taken, and the kernel closes them: there is room for the
/// sender's ids alone. Who would take some might have no room for all, or wait for a file server as it closes them.
///
/// # Errors
/// From recvmsg(2): EAGAIN where there is none.
pub fn hear(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<Heard> {
    let mut control = [0u32; 8];
    let mut piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut piece, 1);
    (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control) as _);
    let (fd, flags) = (socket.as_fd().as_raw_fd(), libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC);
    // SAFETY: the message names `bytes` and `control`, both writable for as many bytes as it says.
    let received = Errno::result(unsafe { libc::recvmsg(fd, &raw mut message, flags) })?;
    let count = usize::try_from(received).unwrap_or_default();
    // Its length, which takes two, its level and its kind; then the ids.
    let [_, _, level, kind, pid, uid, gid, _] = control;
    let is_sender = message.msg_controllen as usize >= SENDER
        && [level, kind] == [libc::SOL_SOCKET.unsigned_abs(), libc::SCM_CREDENTIALS.unsigned_abs()];
    let whole = message.msg_flags & libc::MSG_TRUNC == 0;
    Ok(Heard { count, whole, from: is_sender.then_some(Peer { pid, uid, gid }) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_other_end_of_a_pair_is_this_process() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        for end in [&ours, &theirs] {
            let peer = peer(end).unwrap();
            assert_eq!(peer.pid, std::process::id());
            assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
            assert_eq!(peer.gid, nix::unistd::getegid().as_raw());
        }
        let mut expected: Vec<u32> = nix::unistd::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
        let mut groups = peer_groups(&ours).unwrap();
        expected.sort_unstable();
        groups.sort_unstable();
        assert_eq!(groups, expected);
    }

    #[test]
    fn a_message_comes_with_its_sender_and_without_descriptors() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("pm3-test/{}", std::process::id());
        let ears = hearing(&name).unwrap();
        let mut bytes = [0; 8];
        assert_eq!(hear(&ears, &mut bytes).unwrap_err().raw_os_error(), Some(libc::EAGAIN));
        let mouth = UnixDatagram::unbound().unwrap();
        mouth.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        mouth.send(b"eight ch").unwrap();
        mouth.send(b"more than eight").unwrap();
        let pipe = std::io::pipe().unwrap();
        send(&mouth, b"with it", &[pipe.1.as_fd()]).unwrap();
        drop(pipe.1);
        for (count, whole) in [(8, true), (8, false), (7, true)] {
            let heard = hear(&ears, &mut bytes).unwrap();
            assert_eq!((heard.count, heard.whole), (count, whole));
            let from = heard.from.unwrap();
            assert_eq!((from.pid, from.uid), (std::process::id(), nix::unistd::geteuid().as_raw()));
        }
        // Nobody holds the end that was sent.
        assert_eq!(std::io::Read::read(&mut { pipe.0 }, &mut bytes).unwrap(), 0);
    }

    #[test]
    fn what_is_no_socket_has_no_peer() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(peer(&file).unwrap_err().raw_os_error(), Some(libc::ENOTSOCK));
        assert_eq!(peer_groups(&file).unwrap_err().raw_os_error(), Some(libc::ENOTSOCK));
    }

    #[test]
    fn descriptors_come_with_their_bytes_and_in_order() {
        use std::io::{Read, Write};
        let (ours, theirs) = UnixStream::pair().unwrap();
        let pipes: Vec<_> = (0..3).map(|_| std::io::pipe().unwrap()).collect();
        let mut writers = Vec::new();
        for (at, (reader, writer)) in pipes.into_iter().enumerate() {
            assert_eq!(send(&ours, format!("{at}\n").as_bytes(), &[reader.as_fd()]).unwrap(), 2);
            assert_eq!(send(&ours, b"none\n", &[]).unwrap(), 5);
            writers.push(writer);
        }
        let (mut text, mut fds) = (Vec::new(), Vec::new());
        while text.len() < 21 {
            // Few at a time, so that messages are cut.
            let mut piece = [0; 4];
            let count = receive(&theirs, &mut piece, &mut fds).unwrap();
            text.extend(&piece[..count]);
            let begun = text.iter().filter(|byte: &&u8| byte.is_ascii_digit()).count();
            assert!(fds.len() >= begun, "{} of {begun}", fds.len());
        }
        assert_eq!(text, b"0\nnone\n1\nnone\n2\nnone\n");
        for (at, (fd, mut writer)) in fds.into_iter().zip(writers).enumerate() {
            writer.write_all(&[at as u8]).unwrap();
            let mut got = [9];
            std::fs::File::from(fd).read_exact(&mut got).unwrap();
            assert_eq!(got, [at as u8]);
        }
        assert_eq!(receive(&theirs, &mut [0], &mut Vec::new()).unwrap_err().raw_os_error(), Some(libc::EAGAIN));
        drop(ours);
        assert_eq!(receive(&theirs, &mut [0], &mut Vec::new()).unwrap(), 0);
    }
}
