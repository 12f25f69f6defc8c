//! What clients are told that are not let in, or may not do what they ask: why, and what to do about it.

use std::io::Write;

use mio::net::UnixStream;

use crate::control::{Problem, Refusal, Reply, Request, codec};
use crate::supervisor::spec::Right;
use crate::sys::socket::Peer;

/// One line to a client that is not let in, if it fits into an empty socket's buffer, as it does.
pub(super) fn dismiss(stream: &mut UnixStream, refusal: Refusal) {
    let _ = stream.write(&codec::reply_line(&Reply::Error(refusal)));
}

pub(super) fn stranger(peer: Peer) -> Refusal {
    let (why, hint) = if peer.pid == 0 {
        ("clients of another pid namespace are not let in".to_owned(), "ask from inside, as with `docker exec`")
    } else {
        (
            format!("uid {} may not use this pm3", peer.uid),
            "ask as root or as the user that pm3 runs as, or let a group in with [pm3] control_group",
        )
    };
    Refusal { problem: Problem::Stranger, why: why.into(), hint: hint.into() }
}

pub(super) fn busy() -> Refusal {
    Refusal { problem: Problem::Busy, why: "too many clients at once".into(), hint: "try again".into() }
}

pub(super) fn not_allowed(request: &Request, right: Right) -> Refusal {
    let word = |right| match right {
        Right::View => "view",
        Right::Operate => "operate",
        Right::Admin => "admin",
    };
    let why = format!("this needs the right to {}, yours is to {}", word(request.needs()), word(right));
    Refusal { problem: Problem::NotAllowed, why: why.into(), hint: "see [pm3] control_right".into() }
}
