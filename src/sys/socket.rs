//! Who is at the other end of a Unix socket, as the kernel noted it when the connection was made (unix(7)).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{getsockopt, sockopt};

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::net::UnixStream;

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
    fn what_is_no_socket_has_no_peer() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(peer(&file).unwrap_err().raw_os_error(), Some(libc::ENOTSOCK));
        assert_eq!(peer_groups(&file).unwrap_err().raw_os_error(), Some(libc::ENOTSOCK));
    }
}
