//! What the processes of a run listen at: their sockets' inodes from `/proc/PID/fd`, looked up in the tables of
//! `/proc/PID/net` (proc_pid_net(5)). Looked for only when somebody asks, and never further than the bounds below: init
//! waits for it. What may not be read, as the descriptors of a process that made itself undumpable, is left out.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use nix::errno::Errno;

use super::{environ, file};

/// Descriptors that are looked at for one answer, all processes together: some milliseconds.
const LOOKS_MAX: usize = 16_384;

/// Bytes of a table that are read. What listens comes first in those of TCP.
const TABLE_MAX: u64 = 1 << 20;

/// Network namespaces whose tables are kept for one answer. Apps rarely have their own.
const NAMESPACES_MAX: usize = 16;

/// Sockets that are told of one run.
const TOLD_MAX: usize = 64;

/// The inode of a socket that listens, and where it does.
type Listener = (u64, Box<str>);

/// Finds sockets, for one answer: the tables are read once, and are then as old as that.
#[derive(Debug)]
pub struct Sockets {
    /// By network namespace: what listens, by inode.
    tables: Vec<(u64, Vec<Listener>)>,
    looks_left: usize,
    /// Inodes of sockets that are of no interest.
    passed_over: Vec<u64>,
    /// Why something was left out.
    unseen: Option<Errno>,
}

impl Sockets {
    pub fn new() -> Sockets {
        Sockets { tables: Vec::new(), looks_left: LOOKS_MAX, passed_over: Vec::new(), unseen: None }
    }

    /// As if these, by their inodes, were not there.
    pub fn but(passed_over: Vec<u64>) -> Sockets {
        Sockets { passed_over, ..Sockets::new() }
    }

    /// What these processes listen at, as `tcp 0.0.0.0:3000`, `udp [::]:53` or `unix /run/app.sock`, sorted.
    pub fn of(&mut self, pids: &[u32]) -> Vec<Box<str>> {
        let mut found = Vec::new();
        for pid in pids {
            if self.looks_left == 0 {
                self.unseen = Some(Errno::EMFILE);
                break;
            }
            let mut inodes = match sockets_of(*pid, &mut self.looks_left) {
                Ok(inodes) => inodes,
                // It has ended, and listens at nothing.
                Err(Errno::ENOENT | Errno::ESRCH) => continue,
                Err(errno) => {
                    self.unseen = Some(errno);
                    continue;
                }
            };
            inodes.retain(|inode| !self.passed_over.contains(inode));
            if inodes.is_empty() {
                continue;
            }
            let table = self.table(*pid);
            let listening = inodes.iter().filter_map(|inode| {
                table.binary_search_by_key(inode, |(known, _)| *known).ok().and_then(|at| table.get(at))
            });
            found.extend(listening.map(|(_, name)| name.clone()));
        }
        found.sort_unstable();
        found.dedup();
        found.truncate(TOLD_MAX);
        found
    }

    /// Why what was found may be less than there is, as an errno; None: it is all.
    pub fn unseen(&self) -> Option<i32> {
        self.unseen.map(|errno| errno as i32)
    }

    /// The table of the network namespace that a process is in.
    fn table(&mut self, pid: u32) -> &[Listener] {
        let stat = file::with_path(format_args!("/proc/{pid}/ns/net"), nix::sys::stat::stat);
        // Where that may not be read: the process's own, for this time.
        let namespace = stat.map_or(u64::MAX - u64::from(pid), |stat| stat.st_ino);
        let known = self.tables.iter().position(|(known, _)| *known == namespace);
        let at = known.unwrap_or_else(|| {
            if self.tables.len() >= NAMESPACES_MAX {
                self.tables.clear();
            }
            self.tables.push((namespace, listening(pid)));
            self.tables.len() - 1
        });
        self.tables.get(at).map_or(&[], |(_, table)| table)
    }
}

impl Default for Sockets {
    fn default() -> Sockets {
        Sockets::new()
    }
}

/// The inodes of all sockets that these processes have; None where not all can be seen.
pub fn sockets_of_all(pids: &[u32]) -> Option<Vec<u64>> {
    let (mut all, mut looks_left) = (Vec::new(), LOOKS_MAX);
    for pid in pids {
        match sockets_of(*pid, &mut looks_left) {
            Ok(inodes) => all.extend(inodes),
            // It has ended.
            Err(Errno::ENOENT | Errno::ESRCH) => {}
            Err(_) => return None,
        }
    }
    (looks_left > 0).then_some(all)
}

/// The inodes of a process's sockets.
fn sockets_of(pid: u32, looks_left: &mut usize) -> nix::Result<Vec<u64>> {
    environ::as_owner(pid, || {
        let directory = file::open(format_args!("/proc/{pid}/fd"))?;
        let (mut inodes, mut refused) = (Vec::new(), None);
        file::each_entry_of(&directory, &mut |fd| {
            if *looks_left == 0 {
                return;
            }
            *looks_left -= 1;
            let link = |name: &std::ffi::CStr| nix::fcntl::readlinkat(directory.as_fd(), name);
            match file::with_path(format_args!("{fd}"), link) {
                Ok(link) => inodes.extend(link.to_str().and_then(inode)),
                // Root may open the directory, and needs CAP_SYS_PTRACE to look at what is in it.
                Err(errno @ (Errno::EACCES | Errno::EPERM)) => refused = Some(errno),
                Err(_) => {}
            }
        });
        refused.map_or(Ok(inodes), Err)
    })
}

/// The ports that the kernel gives to sockets which need none in particular, first and last
/// (`net.ipv4.ip_local_port_range`).
pub fn ephemeral_ports() -> (u16, u16) {
    const USUAL: (u16, u16) = (32_768, 60_999);
    let mut text = [0; 64];
    let range = file::read(format_args!("/proc/sys/net/ipv4/ip_local_port_range"), &mut text);
    let mut numbers = range.ok().and_then(|text| str::from_utf8(text).ok()).unwrap_or_default().split_whitespace();
    let mut next = || numbers.next()?.parse().ok();
    next().zip(next()).unwrap_or(USUAL)
}

/// `socket:[1234]`
fn inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Everything that listens in a process's network namespace, sorted by inode.
fn listening(pid: u32) -> Vec<Listener> {
    let mut all = Vec::new();
    let mut read = |name: &str, parse: &dyn Fn(&[u8]) -> Option<Listener>| {
        let mut text = Vec::new();
        let opened = File::open(format!("/proc/{pid}/net/{name}"));
        if opened.and_then(|table| table.take(TABLE_MAX).read_to_end(&mut text)).is_ok() {
            // The first line is the heading.
            all.extend(text.split(|byte| *byte == b'\n').skip(1).filter_map(parse));
        }
    };
    read("tcp", &|line| internet("tcp", LISTEN, line));
    read("tcp6", &|line| internet("tcp", LISTEN, line));
    read("udp", &|line| internet("udp", UNCONNECTED, line));
    read("udp6", &|line| internet("udp", UNCONNECTED, line));
    read("unix", &local);
    all.sort_unstable();
    all
}

/// The kernel's TCP_LISTEN, and TCP_CLOSE for a socket of UDP that hears everybody.
const LISTEN: &str = "0A";
const UNCONNECTED: &str = "07";

/// `sl local remote state queues timer retransmits uid timeout inode …`
fn internet(protocol: &str, state: &str, line: &[u8]) -> Option<Listener> {
    let mut fields = str::from_utf8(line).ok()?.split_ascii_whitespace().skip(1);
    let local = address(fields.next()?)?;
    if fields.nth(1)? != state {
        return None;
    }
    Some((fields.nth(5)?.parse().ok()?, format!("{protocol} {local}").into()))
}

/// `0100007F:0BB8`: words of the address as this machine has them in memory, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match address.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, place) in bytes.chunks_exact_mut(4).enumerate() {
                place.copy_from_slice(&word(at)?);
            }
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// `number: references protocol flags type state inode path`; a path may hold anything but a newline.
fn local(line: &[u8]) -> Option<Listener> {
    /// The kernel's SO_ACCEPTCON: it listens.
    const ACCEPTS: &str = "00010000";
    let text = String::from_utf8_lossy(line);
    let mut fields = text.splitn(8, ' ').filter(|field| !field.is_empty());
    if fields.nth(3)? != ACCEPTS {
        return None;
    }
    let rest = text.split_once(ACCEPTS)?.1.trim_start();
    let mut rest = rest.splitn(3, ' ').skip(2);
    let (inode, path) = rest.next()?.trim_start().split_once(' ')?;
    Some((inode.parse().ok()?, format!("unix {path}").into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_tables_are_understood() {
        let tcp = |line: &str| internet("tcp", LISTEN, line.as_bytes());
        let listens =
            "   0: 00000000:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 56789 1 0";
        assert_eq!(tcp(listens), Some((56_789, "tcp 0.0.0.0:3000".into())));
        assert_eq!(tcp(&listens.replace(" 0A ", " 01 ")), None);
        let six = "   0: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1";
        if cfg!(target_endian = "little") {
            assert_eq!(tcp(six), Some((7, "tcp [::1]:80".into())));
        }
        for broken in ["", "  sl  local_address rem_address", "0: 0:0 0:0 0A", "0: 00000000:0BB8 x 0A a b c d e f"] {
            assert_eq!(tcp(broken), None, "{broken}");
        }
        let unix = "ffff8800: 00000002 00000000 00010000 0001 01 12345 /run/my app.sock";
        assert_eq!(local(unix.as_bytes()), Some((12_345, "unix /run/my app.sock".into())));
        assert_eq!(local(unix.replace("00010000", "00000000").as_bytes()), None);
        assert_eq!(local(b"ffff8800: 00000002 00000000 00010000 0001 01 12345"), None, "one without a name");
        assert_eq!(local(b""), None);
    }

    #[test]
    fn our_own_sockets_are_found() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let path = std::env::temp_dir().join(format!("pm3 sockets {}", std::process::id()));
        let unix = UnixListener::bind(&path).unwrap();
        let found = Sockets::new().of(&[std::process::id()]);
        std::fs::remove_file(&path).unwrap();
        let expected = [
            format!("tcp {}", tcp.local_addr().unwrap()),
            format!("udp {}", udp.local_addr().unwrap()),
            format!("unix {}", path.display()),
        ];
        for name in expected {
            assert!(found.iter().any(|one| **one == *name), "{name} is not in {found:?}");
        }
        drop(unix);
    }

    #[test]
    fn a_bound_holds_for_all_processes_together() {
        let mut sockets = Sockets::new();
        sockets.looks_left = 2;
        let _ = sockets.of(&[std::process::id(); 3]);
        assert_eq!(sockets.looks_left, 0);
        assert_eq!(sockets.of(&[std::process::id()]), []);
    }
}
