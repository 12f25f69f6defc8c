//! Clients of the tests' server (`serve`): one question, or many at once while pm3 is at work.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::libc::{self, linger};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt};

pub(crate) use crate::common::ports::free_port;
use crate::common::{PATIENCE, lacking};

pub(crate) const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Does something where the kernel hands on who waits at a socket that is closed ("1"), or does not (ip-sysctl:
/// tcp_migrate_req). What is started there is in that network, too.
pub(crate) fn in_a_network_of_its_own(hands_on: &'static str, act: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        return lacking("root", 1);
    }
    // It is the thread's alone.
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        // SAFETY: an ifreq is plain data, and zeros are an empty one.
        let mut wanted: libc::ifreq = unsafe { std::mem::zeroed() };
        (wanted.ifr_name[0], wanted.ifr_name[1]) = (b'l' as libc::c_char, b'o' as libc::c_char);
        wanted.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
        let any = UdpSocket::bind("0.0.0.0:0").unwrap();
        // SAFETY: SIOCSIFFLAGS reads an ifreq, which this is.
        let up = unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const wanted) };
        assert_eq!(up, 0, "{}", std::io::Error::last_os_error());
        let file = "/proc/sys/net/ipv4/tcp_migrate_req";
        let usual = std::fs::read_to_string(file).unwrap_or_else(|_| "0".to_owned());
        // Before Linux 5.14 it never does; and some containers may not choose.
        if usual.trim() == hands_on || std::fs::write(file, hands_on).is_ok() {
            act();
        } else {
            lacking("net.ipv4.tcp_migrate_req", 1);
        }
    });
    thread.join().unwrap();
}

/// Asks the server once: who answers, as `PID INSTANCE`.
pub(crate) fn ask(at: impl Into<SocketAddr>) -> std::io::Result<String> {
    let mut server = TcpStream::connect_timeout(&at.into(), PATIENCE)?;
    server.set_read_timeout(Some(PATIENCE))?;
    server.write_all(b"who\n")?;
    let mut answer = String::new();
    server.read_to_string(&mut answer)?;
    // All has been said. A reset now leaves nothing behind that waits for minutes: a firewall remembers each connection, and
    // when its table is full, it drops what is new (nf_conntrack_max).
    setsockopt(&server, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?;
    if answer.ends_with('\n') { Ok(answer.trim().to_owned()) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

/// Asks until so many different ones have answered; their instances' numbers, sorted.
pub(crate) fn all_who_answer(at: impl Into<SocketAddr>, count: usize) -> Vec<String> {
    let at = at.into();
    let mut found = Vec::new();
    for _ in 0..10_000 {
        let answer = ask(at).unwrap();
        let (_, instance) = answer.split_once(' ').unwrap();
        if !found.contains(&instance.to_owned()) {
            found.push(instance.to_owned());
        }
        if found.len() == count {
            break;
        }
    }
    found.sort();
    found
}

/// Clients that ask one question after the other, each with a connection of its own, until they are told to stop.
pub(crate) struct Load {
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<(usize, Vec<String>)>>,
}

impl Load {
    pub(crate) fn on(port: u16, clients: usize) -> Load {
        Load::asking(clients, move || ask((HOME, port)))
    }

    /// The same with questions of another kind.
    pub(crate) fn asking(clients: usize, ask: impl Fn() -> std::io::Result<String> + Clone + Send + 'static) -> Load {
        let over = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let (over, ask) = (Arc::clone(&over), ask.clone());
            std::thread::spawn(move || {
                let (mut answered, mut failed) = (0, Vec::new());
                while !over.load(Ordering::Relaxed) {
                    match ask() {
                        Ok(_) => answered += 1,
                        Err(error) => failed.push(error.to_string()),
                    }
                }
                (answered, failed)
            })
        };
        let clients = (0..clients).map(client).collect();
        Load { over, clients }
    }

    /// How many were answered, and why others were not.
    pub(crate) fn end(self) -> (usize, Vec<String>) {
        self.over.store(true, Ordering::Relaxed);
        let mut all = (0, Vec::new());
        for client in self.clients {
            let (answered, failed) = client.join().unwrap();
            all.0 += answered;
            all.1.extend(failed);
        }
        all
    }
}

/// A client that keeps its connection.
pub(crate) struct Kept(BufReader<TcpStream>);

impl Kept {
    pub(crate) fn to(port: u16) -> Kept {
        let server = TcpStream::connect((HOME, port)).unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        Kept(BufReader::new(server))
    }

    pub(crate) fn send(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The next line; None: the server has closed, or has reset the connection.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no answer: {error}"),
        }
    }
}
