//! Ports for tests that run beside each other.

use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt};

/// A port where nobody listens now, below those that the kernel gives out by itself.
///
/// It is only bound and not listened at: another test may fork at that moment, and its child keeps the socket for as long
/// as it lives. One that does not listen is in nobody's way.
pub fn free_port() -> u16 {
    loop {
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
        let port = 10_000 + (random % 20_000) as u16;
        let made = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        setsockopt(&made, sockopt::ReuseAddr, &true).unwrap();
        if bind(made.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, port)).is_ok() {
            return port;
        }
    }
}
