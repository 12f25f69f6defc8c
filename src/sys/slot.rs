//! A listening socket that pm3 owns and lends to the processes of an app (socket(7), tcp(7)). All of one address are a
//! SO_REUSEPORT group, among whose members the kernel divides new connections; which of them it chooses is told to it
//! by a small program (`steer`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use libc::{sock_filter, sock_fprog};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, getsockopt, setsockopt, socket, sockopt,
};
use nix::sys::stat::fstat;

use super::proc::file;
use super::socket;

/// A socket that listens.
#[derive(Debug)]
pub struct Slot {
    fd: OwnedFd,
    /// Names it on this machine.
    pub inode: u64,
}

/// What waits at a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Connections that are made and that nobody has accepted.
    pub waiting: u32,
    /// As many may wait.
    pub most: u32,
}

impl Slot {
    /// Opens one at `address`, which it shares with others of ours. One at `::` hears IPv4 too, as the kernel's own
    /// default is.
    ///
    /// # Errors
    /// From bind(2): EADDRINUSE where it belongs to somebody else, EADDRNOTAVAIL where it is not this machine's, EACCES
    /// where the port is privileged and we are not.
    pub fn open(address: &SocketAddr, backlog: u32) -> io::Result<Slot> {
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = match socket(family, SockType::Stream, flags, SockProtocol::Tcp) {
            // A machine without IPv6 hears all that it can at the other one.
            Err(Errno::EAFNOSUPPORT) if address.is_ipv6() && address.ip().is_unspecified() => {
                return Slot::open(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())), backlog);
            }
            made => made?,
        };
        // As every server does: connections that ended a moment ago do not keep the port.
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        setsockopt(&fd, sockopt::ReusePort, &true)?;
        if address.is_ipv6() {
            setsockopt(&fd, sockopt::Ipv6V6Only, &!address.ip().is_unspecified())?;
        }
        bind(fd.as_raw_fd(), &SockaddrStorage::from(*address))?;
        let slot = Slot { inode: fstat(&fd)?.st_ino, fd };
        slot.listen(backlog)?;
        Ok(slot)
    }

    /// Listens, or does so anew where somebody who was lent it has called shutdown(2): the kernel then has it as the
    /// newest of its group.
    ///
    /// # Errors
    /// From listen(2): EADDRINUSE where somebody else has taken the address meanwhile.
    pub fn listen(&self, backlog: u32) -> io::Result<()> {
        socket::listen(&self.fd, backlog)
    }

    /// It listens: nobody who was lent it has shut it down.
    pub fn is_open(&self) -> bool {
        getsockopt(&self.fd, sockopt::AcceptConn).unwrap_or(false)
    }

    /// Sets whether accept(2) waits. That is a matter of the socket and not of who holds it, so it is done when a program
    /// gets it that has its own socket so.
    pub fn set_nonblocking(&self, on: bool) {
        let flags = if on { OFlag::O_RDWR | OFlag::O_NONBLOCK } else { OFlag::O_RDWR };
        // It cannot fail with an open descriptor.
        let _ = nix::fcntl::fcntl(&self.fd, FcntlArg::F_SETFL(flags));
    }

    /// Ends it for everybody who has it: a process that was forked and has not executed its program yet has it too, and
    /// until it does the kernel would go on sending connections there. What waits is reset.
    ///
    /// The kernel takes a listener out of its group before it takes it out of its list (inet_unhash); whoever finds it
    /// there in between would be reset. So it is to hear only what comes through a device that there is none of:
    /// from then on nobody finds it (compute_score in net/ipv4/inet_hashtables.c).
    pub fn close(self) {
        const NO_DEVICE: libc::c_int = libc::c_int::MAX;
        // Linux before 5.7 may refuse it.
        let _ = self.set(libc::SO_BINDTOIFINDEX, &NO_DEVICE);
        // It cannot fail but where somebody else was first.
        let _ = nix::sys::socket::shutdown(self.fd.as_raw_fd(), nix::sys::socket::Shutdown::Both);
    }

    /// How many connections wait; None where the kernel does not say.
    pub fn queue(&self) -> Option<Queue> {
        // SAFETY: zeros are a value of each field.
        let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
        let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
        // SAFETY: `info` is writable for `length` bytes.
        let done = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                (&raw mut info).cast(),
                &raw mut length,
            )
        };
        // Of a socket that listens, these two say something else than of a connection (tcp_get_info in net/ipv4/tcp.c).
        Errno::result(done).ok().map(|_| Queue { waiting: info.tcpi_unacked, most: info.tcpi_sacked })
    }

    /// Sends new connections to the slots of this group that have these shares, at random. A number is a slot's place in the order in which those that listen began to; when one goes, the last takes its place.
    ///
    /// Not to be called of one that somebody else may shut down at that moment: the kernel would make it a group of its
    /// own, and it could never listen beside the others again (reuseport_attach_prog, inet_csk_bind_conflict).
    ///
    /// # Errors
    /// The kernel refuses it: new connections go to all.
    pub fn steer(&self, to: &Shares) -> io::Result<()> {
        let program = program(to);
        let filter = program.as_ptr().cast_mut();
        // It names an array of that length; the kernel copies it and writes to neither.
        let program = sock_fprog { len: u16::try_from(program.len()).unwrap_or(u16::MAX), filter };
        self.set(libc::SO_ATTACH_REUSEPORT_CBPF, &program)
    }

    /// Sets an option of the socket, whose value is of this type.
    fn set<T>(&self, option: libc::c_int, value: &T) -> io::Result<()> {
        let (value, length) = ((&raw const *value).cast(), size_of::<T>() as libc::socklen_t);
        // SAFETY: `value` is readable for `length` bytes.
        let done = unsafe { libc::setsockopt(self.fd.as_raw_fd(), libc::SOL_SOCKET, option, value, length) };
        Ok(Errno::result(done).map(drop)?)
    }
}

impl AsFd for Slot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Slot {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Whether the kernel hands on what waits at a slot that is closed to another one of its group
/// (`net.ipv4.tcp_migrate_req` in ip-sysctl, Linux 5.14).
pub fn are_handed_on() -> bool {
    let mut text = [0; 8];
    file::read(format_args!("/proc/sys/net/ipv4/tcp_migrate_req"), &mut text)
        .is_ok_and(|text| text.trim_ascii() == b"1")
}

/// Which slots of a group get new connections, by their numbers: `few` so many of a hundred, `most` the others, each in
/// equal parts. Where one list is empty, the other gets all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    pub most: Vec<u32>,
    pub few: Vec<u32>,
    pub percent: u8,
}

impl Shares {
    /// In equal parts to these.
    pub fn equal(to: &[u32]) -> Shares {
        Shares { most: to.to_vec(), ..Shares::default() }
    }

    /// The same without these; None: nobody is left.
    pub fn without(&self, these: &[u32]) -> Option<Shares> {
        let others = |of: &[u32]| of.iter().copied().filter(|to| !these.contains(to)).collect();
        let Shares { most, few, percent } = self;
        let left = Shares { most: others(most), few: others(few), percent: *percent };
        (!left.most.is_empty() || !left.few.is_empty()).then_some(left)
    }
}

/// Slots of one group that a program can name: a program has 4096 steps at most (BPF_MAXINSNS).
pub const GROUP_MAX: usize = 2000;

/// The first half of the addresses from which a client reaches the slot whose number is the second half, whatever the
/// group is steered to: `127.51.0.2`. No packet from outside has such a source (RFC 1122 3.2.1.3), so it is for who is on
/// this machine, and for its own good: probes, and people who want to see one instance of several.
const WAY: u16 = 0x7f33;

/// Where a client has to come from to reach the slot with this number (`steer`), at an address where IPv4 is heard.
pub fn source(number: u32) -> Option<Ipv4Addr> {
    let [low, high] = u16::try_from(number).ok()?.to_le_bytes();
    let [first, second] = WAY.to_be_bytes();
    Some(Ipv4Addr::new(first, second, high, low))
}

/// Connects, from this address if one is given and this machine has it. Waits as long as the kernel does.
///
/// # Errors
/// From connect(2).
pub fn reach(to: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, SockProtocol::Tcp)?;
    if let Some(from) = from {
        // A loopback of one address alone, as in some sandboxes, is no reason to fail: then whoever answers is reached.
        let _ = bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0)));
    }
    nix::sys::socket::connect(fd.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(fd.into())
}

/// Who comes from `WAY` goes to the slot that the rest of its address says. Of packets of IPv4 alone: in those of IPv6 the
/// same bytes mean something else.
fn named() -> [sock_filter; 7] {
    let step = |code: u32, k, jf| sock_filter { code: code as u16, jt: 0, jf, k };
    let header = |at: i32| (libc::SKF_NET_OFF + at) as u32;
    let (load, alu, jump) = (libc::BPF_LD | libc::BPF_ABS, libc::BPF_ALU | libc::BPF_K, libc::BPF_JMP | libc::BPF_K);
    [
        // The version: 4.
        step(load | libc::BPF_B, header(0), 0),
        step(alu | libc::BPF_RSH, 4, 0),
        step(jump | libc::BPF_JEQ, 4, 4),
        // The two halves of the source.
        step(load | libc::BPF_H, header(12), 0),
        step(jump | libc::BPF_JEQ, WAY.into(), 2),
        step(load | libc::BPF_H, header(14), 0),
        step(libc::BPF_RET | libc::BPF_A, 0, 0),
    ]
}

fn program(to: &Shares) -> Vec<sock_filter> {
    let Shares { most, few, percent } = to;
    let mut program = named().to_vec();
    if most.is_empty() || few.is_empty() {
        program.extend(at_random(if most.is_empty() { few } else { most }));
        return program;
    }
    // A jump by more than 255 steps is one of its own (BPF_JA).
    let rest = at_random(few.get(..few.len().min(GROUP_MAX / 2)).unwrap_or_default());
    program.extend([
        step(RANDOM, random(), 0),
        step(REMAINDER, 100, 0),
        step(IF_AT_LEAST, (*percent).into(), 1),
        step(JUMP, rest.len() as u32, 0),
    ]);
    program.extend(rest);
    program.extend(at_random(most.get(..most.len().min(GROUP_MAX / 2)).unwrap_or_default()));
    program
}

const RANDOM: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const REMAINDER: u16 = (libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;

fn step(code: u16, k: u32, jf: u8) -> sock_filter {
    sock_filter { code, jt: 0, jf, k }
}

/// Where a program finds a number at random.
fn random() -> u32 {
    (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM) as u32
}

/// A number at random, and for each remainder the slot that it means.
fn at_random(to: &[u32]) -> Vec<sock_filter> {
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let to = to.get(..to.len().min(GROUP_MAX)).unwrap_or_default();
    let ret = |slot: u32| step(RETURN, slot, 0);
    let Some((last, others)) = to.split_last() else {
        // There is no such slot: the kernel chooses among all.
        return vec![ret(u32::MAX)];
    };
    if others.is_empty() {
        return vec![ret(*last)];
    }
    let mut program = vec![step(RANDOM, random(), 0), step(REMAINDER, to.len() as u32, 0)];
    for (remainder, slot) in (0..).zip(others) {
        program.extend([step(IF_EQUAL, remainder, 1), ret(*slot)]);
    }
    program.push(ret(*last));
    program
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::net::TcpListener;

    use super::*;

    /// A port that nobody uses now: one slot of it, opened by number.
    fn group(count: usize) -> (SocketAddr, Vec<Slot>) {
        loop {
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            if let Ok(first) = Slot::open(&free, 64) {
                let others = (1..count).map(|_| Slot::open(&free, 64).unwrap());
                return (free, [first].into_iter().chain(others).collect());
            }
        }
    }

    fn waiting(slots: &[Slot]) -> Vec<u32> {
        slots.iter().map(|slot| slot.queue().unwrap().waiting).collect()
    }

    #[test]
    fn new_connections_go_where_they_are_steered() {
        let (address, slots) = group(4);
        let mut open = Vec::new();
        for to in [&[2][..], &[0], &[3, 1]] {
            slots[1].steer(&Shares::equal(to)).unwrap();
            let before = waiting(&slots);
            open.extend((0..20).map(|_| TcpStream::connect(address).unwrap()));
            let after = waiting(&slots);
            let gained: Vec<u32> = before.iter().zip(&after).map(|(before, after)| after - before).collect();
            for (at, gained) in (0u32..).zip(&gained) {
                assert!(to.contains(&at) || *gained == 0, "steered to {to:?}: {gained}");
            }
            assert_eq!(gained.iter().sum::<u32>(), 20);
        }
        assert_eq!(slots[0].queue().unwrap().most, 64);
    }

    /// Whoever is left out of a share gets nothing, and the share is what was asked for: six deviations wide.
    #[test]
    fn a_few_get_their_share_of_new_connections() {
        for (most, few, percent) in
            [(&[0, 1][..], &[2][..], 5u8), (&[3], &[0, 1], 60), (&[0], &[3], 0), (&[1], &[2], 100)]
        {
            let mut gained = [0u32; 4];
            // As many as fit into a queue, again and again.
            for _ in 0..20 {
                let (address, slots) = group(4);
                slots[0].steer(&Shares { most: most.to_vec(), few: few.to_vec(), percent }).unwrap();
                let _open: Vec<_> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
                gained.iter_mut().zip(waiting(&slots)).for_each(|(gained, waiting)| *gained += waiting);
            }
            assert_eq!(gained.iter().sum::<u32>(), 1_000);
            let of = |these: &[u32]| these.iter().map(|at| gained[*at as usize]).sum::<u32>();
            assert_eq!(of(most) + of(few), 1_000, "{gained:?}");
            let share = f64::from(percent) * 10.0;
            let deviation = (share * (1.0 - share / 1_000.0)).sqrt();
            assert!((f64::from(of(few)) - share).abs() <= 6.0 * deviation, "{} of {gained:?} for {percent} %", of(few));
            assert!(few.iter().all(|at| percent < 5 || gained[*at as usize] > 0), "{gained:?}");
        }
    }

    #[test]
    fn any_number_may_wait_that_the_kernel_allows() {
        for most in [1, 129, 4096, 100_000] {
            let (_, slots) = group(1);
            slots[0].listen(most).unwrap();
            let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
            assert_eq!(slots[0].queue().unwrap().most, most.min(allowed));
        }
    }

    #[test]
    fn the_last_slot_takes_the_place_of_one_that_goes() {
        let (address, mut slots) = group(4);
        let kept = slots.split_off(1);
        // Somebody else has it still.
        let _copy = slots[0].as_fd().try_clone_to_owned().unwrap();
        slots.into_iter().for_each(Slot::close);
        // Were 1 2 3; the last, 3, is 0 now.
        kept[0].steer(&Shares::equal(&[0])).unwrap();
        let _open: Vec<_> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
        assert_eq!(waiting(&kept), [0, 0, 10]);
    }

    #[test]
    fn one_that_was_shut_down_listens_anew_as_the_newest() {
        let (address, slots) = group(3);
        nix::sys::socket::shutdown(slots[0].as_raw_fd(), nix::sys::socket::Shutdown::Both).unwrap();
        slots[0].listen(64).unwrap();
        // Were 0 1 2; 2 took the place of 0, which is the last now.
        slots[1].steer(&Shares::equal(&[2])).unwrap();
        let _open: Vec<_> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
        assert_eq!(waiting(&slots), [10, 0, 0]);
    }

    #[test]
    fn two_wildcards_of_one_port_live_together() {
        let (address, slots) = group(1);
        drop(slots);
        let any = |ip: &str| SocketAddr::new(ip.parse().unwrap(), address.port());
        let (six, four) = (Slot::open(&any("::"), 8).unwrap(), Slot::open(&any("0.0.0.0"), 8).unwrap());
        let _open = TcpStream::connect(address).unwrap();
        assert_eq!((six.queue().unwrap().waiting, four.queue().unwrap().waiting), (0, 1));
        drop(four);
        let _open = TcpStream::connect(address).unwrap();
        assert_eq!(six.queue().unwrap().waiting, 1);
    }

    #[test]
    fn what_is_somebody_elses_is_refused() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = Slot::open(&other.local_addr().unwrap(), 8).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EADDRINUSE));
        let strange = Slot::open(&"192.0.2.1:4000".parse().unwrap(), 8).unwrap_err();
        assert_eq!(strange.raw_os_error(), Some(libc::EADDRNOTAVAIL));
    }

    #[test]
    fn a_client_reaches_the_slot_that_its_address_names() {
        let (free, slots) = group(1);
        drop(slots);
        for ip in ["127.0.0.1", "0.0.0.0", "::"] {
            let address = SocketAddr::new(ip.parse().unwrap(), free.port());
            let slots: Vec<Slot> = (0..3).map(|_| Slot::open(&address, 64).unwrap()).collect();
            slots[0].steer(&Shares::equal(&[0])).unwrap();
            let mut open = Vec::new();
            for (at, expected) in [(2, [0, 0, 1]), (1, [0, 1, 1]), (0, [1, 1, 1]), (1, [1, 2, 1])] {
                open.push(reach(free, Some(source(at).unwrap().into())).unwrap());
                assert_eq!(waiting(&slots), expected, "{ip}: {at}");
            }
            // One that is not there is no obstacle, and all others go where they did.
            open.push(reach(free, Some(source(7).unwrap().into())).unwrap());
            assert_eq!(waiting(&slots).iter().sum::<u32>(), 5);
            let before = waiting(&slots);
            open.extend(["127.0.0.1", "127.50.0.1", "127.52.0.1"].map(|from| reach(free, from.parse().ok()).unwrap()));
            let after = waiting(&slots);
            assert_eq!([after[0] - before[0], after[1], after[2]], [3, before[1], before[2]], "{ip}");
        }
        // An address that is not ours does no harm.
        let free = group(1);
        reach(free.0, "192.0.2.1".parse().ok()).unwrap();
        assert_eq!(source(0x1_0000), None);
    }

    #[test]
    fn an_ipv6_client_is_never_taken_for_one_that_names_a_slot() {
        let (free, slots) = group(1);
        drop(slots);
        let address = SocketAddr::new("::1".parse().unwrap(), free.port());
        let slots: Vec<Slot> = (0..3).map(|_| Slot::open(&address, 64).unwrap()).collect();
        slots[0].steer(&Shares::equal(&[1])).unwrap();
        let _open: Vec<_> = (0..10).map(|_| reach(address, None).unwrap()).collect();
        assert_eq!(waiting(&slots), [0, 10, 0]);
    }

    #[test]
    fn a_large_group_fits_into_a_program() {
        let all: Vec<u32> = (0..5000).collect();
        assert!(program(&Shares::equal(&all)).len() <= 4096);
        assert!(program(&Shares { most: all.clone(), few: all, percent: 5 }).len() <= 4096);
        assert_eq!(at_random(&[]).len(), 1);
    }
}
