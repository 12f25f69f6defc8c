//! What keeps a second run of a program from starting beside the first: what the first one listens at. A port
//! that is not pm3's own can belong to one process alone.

use std::net::SocketAddr;

use crate::supervisor::event::Obstacle;
use crate::sys::proc::{self, Sockets};
use crate::sys::{place, why};

/// The first thing in the way of another run beside the one with these processes. What cannot be seen is in the way,
/// too: a new run that fails because of it would look like a mistake in the program.
/// `ours` are the sockets, by inode, that it was lent.
pub(super) fn obstacle(tree: &[u32], ours: Vec<u64>) -> Option<Obstacle> {
    if !place::has_own_proc() {
        return Some(Obstacle::Unseen("/proc is not there".into()));
    }
    let mut sockets = Sockets::but(ours);
    let ephemeral = proc::ephemeral_ports();
    let owned = sockets.of(tree).iter().find_map(|socket| owned(socket, ephemeral));
    owned.or_else(|| sockets.unseen().map(|errno| Obstacle::Unseen(why(errno))))
}

/// What only one process can own of this. A UDP socket that asks somebody something gets a port of the kernel's own
/// choice, and waits there for the answer.
fn owned(socket: &str, ephemeral: (u16, u16)) -> Option<Obstacle> {
    let (protocol, place) = socket.split_once(' ')?;
    match place.parse::<SocketAddr>().ok().filter(|_| protocol != "unix") {
        Some(address) => {
            let is_anybodys = protocol == "udp" && (ephemeral.0..=ephemeral.1).contains(&address.port());
            (!is_anybodys).then(|| Obstacle::Port(address.port()))
        }
        None => Some(Obstacle::Socket(place.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_owned_unless_the_kernel_chose_it_for_an_answer() {
        let found = |socket| owned(socket, (32_768, 60_999));
        assert_eq!(found("tcp 0.0.0.0:50051"), Some(Obstacle::Port(50_051)));
        assert_eq!(found("udp [::]:53"), Some(Obstacle::Port(53)));
        assert_eq!(found("udp 10.0.0.7:40000"), None);
        assert_eq!(found("unix /run/a b"), Some(Obstacle::Socket("/run/a b".into())));
        assert_eq!(found("unix 1.2.3.4:5"), Some(Obstacle::Socket("1.2.3.4:5".into())));
    }
}
