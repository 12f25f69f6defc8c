//! Sending signals. What can go wrong is normal for an init: the process has just ended, or runs a setuid program.
//! So the answer is a value and never an error; and no argument reaches `kill(-1)`, which would be everyone: only
//! [`everyone`] does that, and only as PID 1.

use nix::errno::Errno;

use crate::supervisor::event::Sig;

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Delivered,
    /// There is no such process or group (ESRCH).
    Gone,
    /// It belongs to somebody else (EPERM). Of a group: every member does.
    Refused,
}

/// Signals one process.
pub fn process(pid: u32, sig: Sig) -> Sent {
    // 0 means the caller's own group to kill(2).
    if pid == 0 { Sent::Gone } else { send(i32::try_from(pid).ok(), sig.0) }
}

/// Signals every member of a process group. Groups 0 and 1 are refused: to kill(2) they mean our own and everyone.
pub fn group(leader: u32, sig: Sig) -> Sent {
    if leader <= 1 { Sent::Gone } else { send(negated(leader), sig.0) }
}

/// Signals every other process of the pid namespace that pm3 is PID 1 of, in one call that no fork escapes. As any
/// other process pm3 would reach strangers: then nothing is done.
pub fn everyone(sig: Sig) -> Sent {
    if std::process::id() == 1 { send(Some(-1), sig.0) } else { Sent::Gone }
}

/// Whether the group has a member, a zombie included.
pub fn group_alive(leader: u32) -> bool {
    leader > 1 && send(negated(leader), 0) != Sent::Gone
}

/// Whether the process is there, a zombie included.
pub fn alive(pid: u32) -> bool {
    pid != 0 && send(i32::try_from(pid).ok(), 0) != Sent::Gone
}

fn negated(leader: u32) -> Option<i32> {
    i32::try_from(leader).ok().map(|pid| -pid)
}

fn send(to: Option<i32>, sig: u8) -> Sent {
    let Some(to) = to else { return Sent::Gone };
    // Not nix's: its `Signal` has no realtime ones.
    // SAFETY: kill takes numbers.
    match Errno::result(unsafe { libc::kill(to, sig.into()) }) {
        Ok(_) => Sent::Delivered,
        Err(Errno::EPERM) => Sent::Refused,
        Err(_) => Sent::Gone,
    }
}
