//! Reaping: collects every child that ended, ours or adopted, and never waits. SIGCHLD coalesces, so one signal may
//! stand for many ends and orphans may hide the one that matters: ask until the kernel has no more, but not without end,
//! as some program may make orphans as fast as they are reaped.

use std::ffi::c_int;
use std::mem::MaybeUninit;

use nix::errno::Errno;

use crate::supervisor::event::{End, Sig};

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has ended and is gone; its pid may be given to another.
    Ended(End),
    /// It lives and does not run, until it gets SIGCONT. `pm3 run` stops with its child, for the shell's job control.
    Stopped(Sig),
}

/// More ends than this are told in the next turn.
const TURN_MAX: usize = 4096;

/// What is left after reaping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Children {
    /// Some live.
    Some,
    /// Some live or wait to be reaped; no signal will come for these, so reap once more before waiting for one.
    More,
    /// There is no child at all (ECHILD).
    None,
}

/// Reaps all that ended, a turn at a time, and tells `found` each pid with what became of it.
pub fn reap(found: &mut impl FnMut(u32, Change)) -> Children {
    for _ in 0..TURN_MAX {
        let mut status: c_int = 0;
        // __WALL: a child made by clone(2) with another exit signal than SIGCHLD counts as well.
        // SAFETY: waitpid writes only `status`.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::WUNTRACED | libc::__WALL) };
        match Errno::result(pid) {
            Ok(0) => return Children::Some,
            Ok(pid) => {
                if let Some(change) = change(status) {
                    found(pid.unsigned_abs(), change);
                }
            }
            Err(Errno::EINTR) => {}
            Err(_) => return Children::None,
        }
    }
    Children::More
}

/// Whether this child has ended and can be reaped (waitid(2)): not while a debugger holds it, or threads of it run on.
pub(super) fn is_due(pid: u32) -> bool {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: waitid writes only `info`.
    let result = unsafe { libc::waitid(libc::P_PID, pid, info.as_mut_ptr(), flags) };
    // SAFETY: all zero is a valid siginfo_t, and stays so where there is no such child.
    let info = unsafe { info.assume_init() };
    result == 0 && info.si_signo != 0
}

/// Decodes a raw wait status (wait(2)). nix's own decoding refuses realtime signals.
fn change(status: c_int) -> Option<Change> {
    let number = |number: c_int| u8::try_from(number).ok();
    if libc::WIFEXITED(status) {
        number(libc::WEXITSTATUS(status)).map(|code| Change::Ended(End::Code(code)))
    } else if libc::WIFSIGNALED(status) {
        number(libc::WTERMSIG(status)).map(|sig| Change::Ended(End::Signal(Sig(sig))))
    } else if libc::WIFSTOPPED(status) {
        number(libc::WSTOPSIG(status)).map(|sig| Change::Stopped(Sig(sig)))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_status_is_read_as_wait_2_says() {
        const CORE: c_int = 0x80;
        for (status, expected) in [
            (0, Some(Change::Ended(End::Code(0)))),
            (7 << 8, Some(Change::Ended(End::Code(7)))),
            (255 << 8, Some(Change::Ended(End::Code(255)))),
            (15, Some(Change::Ended(End::Signal(Sig::TERM)))),
            (11 | CORE, Some(Change::Ended(End::Signal(Sig(11))))),
            (34, Some(Change::Ended(End::Signal(Sig(34))))),
            (64, Some(Change::Ended(End::Signal(Sig(64))))),
            (19 << 8 | 0x7f, Some(Change::Stopped(Sig::STOP))),
            (0xffff, None),
        ] {
            assert_eq!(change(status), expected, "{status:#x}");
        }
    }
}
