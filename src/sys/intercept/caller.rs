//! What a held call is about: the address in its caller's memory, the socket in its table, what it may do. Read of
//! programs of any user as far as the kernel allows it: without CAP_SYS_PTRACE under their own file-system ids, and never
//! of one that made itself undumpable. All of it comes from /proc: filters of containers let that pass, and not always
//! process_vm_readv(2). Whatever was read counts only if the call waits still (`Calls::is_waiting`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;
use nix::sys::stat::stat;

use super::calls::Call;
use crate::sys::proc::{as_owner, file};

/// What is known of a call's maker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    thread: u32,
    fd: i32,
}

/// Of the sockets that are of interest. Others have none: Unix, netlink, UDP, raw ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Tcp4,
    Tcp6,
}

/// A flag in a descriptor's `flags` (proc_pid_fdinfo(5)).
fn has(flags: i32, flag: i32) -> bool {
    flags & flag != 0
}

/// How the caller's socket is open: both are kept when another one takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    pub nonblocking: bool,
    pub cloexec: bool,
}

impl Caller {
    pub fn of(call: &Call) -> Caller {
        Caller { thread: call.thread, fd: call.fd }
    }

    /// The address that it wants to bind a TCP socket to, and how that is open; None: it is another socket, or the two do
    /// not fit.
    ///
    /// # Errors
    /// It may not be looked at, or is gone, as an errno.
    pub fn look(&self, at: u64, length: u32) -> Result<Option<(SocketAddr, Manner)>, i32> {
        let seen = || {
            let Some(protocol) = self.protocol()? else { return Ok(None) };
            let fits = |address: &SocketAddr| (protocol == Protocol::Tcp4) == address.is_ipv4();
            let Some(address) = self.address(at, length)?.filter(fits) else { return Ok(None) };
            Ok(Some((address, self.manner()?)))
        };
        seen().map_err(|errno: Errno| errno as i32)
    }

    /// The protocol of its socket, from the socket's own word for it; None: not one of those.
    ///
    /// # Errors
    /// It may not be looked at, or is gone.
    fn protocol(&self) -> Result<Option<Protocol>, Errno> {
        const NAME: &std::ffi::CStr = c"system.sockprotoname";
        let (thread, fd) = (self.thread, self.fd);
        let mut word = [0u8; 32];
        let length = as_owner(thread, || {
            file::with_path(format_args!("/proc/{thread}/fd/{fd}"), |path| {
                // SAFETY: two C strings, and room of that length.
                let read =
                    unsafe { libc::getxattr(path.as_ptr(), NAME.as_ptr(), word.as_mut_ptr().cast(), word.len()) };
                Errno::result(read)
            })
        });
        let length = match length {
            // No socket has another name than its protocol's; what is no socket, or one of no protocol, has none.
            Err(Errno::ENODATA | Errno::EOPNOTSUPP) => return Ok(None),
            length => length?,
        };
        let word = word.get(..usize::try_from(length).unwrap_or_default()).unwrap_or_default();
        Ok(match word.strip_suffix(&[0]).unwrap_or(word) {
            b"TCP" => Some(Protocol::Tcp4),
            b"TCPv6" => Some(Protocol::Tcp6),
            _ => None,
        })
    }

    /// How its socket is open.
    ///
    /// # Errors
    /// It may not be looked at, or is gone.
    fn manner(&self) -> Result<Manner, Errno> {
        let (thread, fd) = (self.thread, self.fd);
        let mut text = [0; 256];
        let text = as_owner(thread, || file::open(format_args!("/proc/{thread}/fdinfo/{fd}")))
            .and_then(|info| file::fill(&info, &mut text).map(<[u8]>::to_vec))?;
        let flags = flags(&text).ok_or(Errno::EIO)?;
        Ok(Manner { nonblocking: has(flags, libc::O_NONBLOCK), cloexec: has(flags, libc::O_CLOEXEC) })
    }

    /// The inode of its socket, which names it on this machine.
    ///
    /// # Errors
    /// It may not be looked at, or is gone.
    pub fn inode(&self) -> Result<u64, Errno> {
        let (thread, fd) = (self.thread, self.fd);
        let found = as_owner(thread, || file::with_path(format_args!("/proc/{thread}/fd/{fd}"), stat))?;
        Ok(found.st_ino)
    }

    /// Whether it is in our own network namespace: a socket of ours would be of no use in another.
    pub fn shares_network(&self) -> bool {
        let thread = self.thread;
        let theirs = as_owner(thread, || file::with_path(format_args!("/proc/{thread}/ns/net"), stat));
        let ours = file::with_path(format_args!("/proc/self/ns/net"), stat);
        matches!((theirs, ours), (Ok(theirs), Ok(ours)) if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino))
    }

    /// Whether it may bind a port below the machine's first unprivileged one (capabilities(7), CAP_NET_BIND_SERVICE).
    pub fn may_bind_privileged(&self) -> bool {
        const CAP_NET_BIND_SERVICE: u32 = 10;
        let mut text = [0; 4096];
        let status = file::read(format_args!("/proc/{}/status", self.thread), &mut text).unwrap_or_default();
        let effective = str::from_utf8(status).ok().and_then(|status| status.split_once("\nCapEff:\t"));
        let effective = effective.and_then(|(_, rest)| u64::from_str_radix(rest.lines().next()?, 16).ok());
        effective.is_some_and(|effective| effective >> CAP_NET_BIND_SERVICE & 1 == 1)
    }

    /// The address that it wants to bind, of the internet's families; None: of another one.
    ///
    /// # Errors
    /// Its memory may not be read, or it is gone.
    fn address(&self, at: u64, length: u32) -> Result<Option<SocketAddr>, Errno> {
        let mut bytes = [0u8; size_of::<libc::sockaddr_in6>()];
        let length = bytes.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        let bytes = bytes.get_mut(..length).unwrap_or_default();
        let thread = self.thread;
        let read = as_owner(thread, || {
            let memory = file::open(format_args!("/proc/{thread}/mem"))?;
            nix::sys::uio::pread(&memory, bytes, i64::try_from(at).unwrap_or(i64::MAX))
        });
        match read {
            Ok(read) if read == length => {}
            // There is nothing at that address, as the kernel is going to say.
            Ok(_) | Err(Errno::EIO | Errno::EFAULT | Errno::EINVAL | Errno::EOVERFLOW) => return Ok(None),
            Err(errno) => return Err(errno),
        }
        Ok(socket_address(bytes))
    }
}

/// The first port that anybody may bind (`net.ipv4.ip_unprivileged_port_start`).
pub fn first_unprivileged_port() -> u16 {
    const USUAL: u16 = 1024;
    let mut text = [0; 16];
    let port = file::read(format_args!("/proc/sys/net/ipv4/ip_unprivileged_port_start"), &mut text);
    port.ok().and_then(|text| str::from_utf8(text).ok()?.trim().parse().ok()).unwrap_or(USUAL)
}

/// A line `flags:` with an octal number.
fn flags(info: &[u8]) -> Option<i32> {
    let line = info.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"flags:"))?;
    i32::from_str_radix(str::from_utf8(line).ok()?.trim(), 8).ok()
}

/// `sockaddr_in` or `sockaddr_in6` (ip(7), ipv6(7)).
fn socket_address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    let ip = match family {
        libc::AF_INET => IpAddr::from(Ipv4Addr::from(*bytes.get(4..)?.first_chunk::<4>()?)),
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(*bytes.get(8..)?.first_chunk::<16>()?);
            // A link-local address means one interface, which is behind it.
            let scope = bytes.get(24..).and_then(|scope| Some(u32::from_ne_bytes(*scope.first_chunk()?)));
            let flow = u32::from_be_bytes(*bytes.get(4..)?.first_chunk()?);
            return Some(std::net::SocketAddrV6::new(ip, port, flow, scope.unwrap_or(0)).into());
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn addresses_are_read() {
        let four = [&2u16.to_ne_bytes()[..], &3000u16.to_be_bytes(), &[127, 0, 0, 1], &[0; 8]].concat();
        assert_eq!(socket_address(&four), Some("127.0.0.1:3000".parse().unwrap()));
        let mut six = [0; 28];
        six[..2].copy_from_slice(&10u16.to_ne_bytes());
        six[2..4].copy_from_slice(&80u16.to_be_bytes());
        six[23] = 1;
        assert_eq!(socket_address(&six), Some("[::1]:80".parse().unwrap()));
        // What was sent before there were scopes.
        assert_eq!(socket_address(&six[..24]), Some("[::1]:80".parse().unwrap()));
        assert_eq!(socket_address(&six[..23]), None);
        assert_eq!(socket_address(&[1, 0, b'/', b'x']), None);
        assert_eq!(socket_address(&[]), None);
    }

    #[test]
    fn flags_are_octal() {
        assert_eq!(flags(b"pos:\t0\nflags:\t02004002\nmnt_id:\t9\n"), Some(0o2_004_002));
        assert_eq!(flags(b"pos:\t0\n"), None);
    }
}
