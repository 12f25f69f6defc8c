//! The terminal that pm3 was started on. For `pm3 run`: its child becomes the foreground, so that ^C reaches it alone and
//! once. For verbs that draw: its size and its manners. Everything here is best effort: no terminal, or one of somebody
//! else, is the normal case.

use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::{Pid, tcgetpgrp, tcsetpgrp};

use super::signals;
use crate::supervisor::event::Sig;

/// Makes process group `to` the terminal's foreground group if `from` is it; so nothing is stolen from a pm3 that was
/// started in the background. True: done. SIGTTOU must be blocked or ignored, else the caller stops.
pub fn pass_foreground(from: u32, to: u32) -> bool {
    let (Ok(from), Ok(to)) = (i32::try_from(from), i32::try_from(to)) else { return false };
    let (from, to) = (Pid::from_raw(from), Pid::from_raw(to));
    ask(|terminal| tcgetpgrp(terminal) == Ok(from) && tcsetpgrp(terminal, to).is_ok())
}

/// pm3's own process group.
pub fn own_group() -> u32 {
    nix::unistd::getpgrp().as_raw().unsigned_abs()
}

/// Stops pm3's process group by `sig`, one of the terminal's stop signals, and returns when it was continued. The
/// kernel refuses, and this returns at once, where nobody could continue it: in PID 1, and in a process group that no
/// shell watches; and where a SIGCONT waits already, which the kernel would throw away. All signals must be blocked.
pub fn stop_own_group(sig: Sig) {
    if signals::is_pending(Sig::CONT) {
        return;
    }
    // SAFETY: kill takes numbers; 0 is our own process group.
    unsafe { libc::kill(0, c_int::from(sig.0)) };
    signals::let_through(sig);
}

/// Whether pm3's session has a terminal.
pub fn is_controlled() -> bool {
    ask(|terminal| tcgetpgrp(terminal).is_ok())
}

/// Asks the session's terminal: `/dev/tty`; or where /dev is empty, the first three descriptors in turn, until one says
/// yes. The answer of a terminal that is not the session's is no.
fn ask(question: impl Fn(BorrowedFd) -> bool) -> bool {
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    match nix::fcntl::open(c"/dev/tty", flags, Mode::empty()) {
        Ok(terminal) => question(terminal.as_fd()),
        Err(_) => (0..=2).any(|fd| {
            // SAFETY: 0 to 2 are open from the start on (`early`) and are never closed.
            question(unsafe { BorrowedFd::borrow_raw(fd) })
        }),
    }
}

/// How many columns and rows the terminal behind `fd` has; None if it is no terminal, or one that does not know.
pub fn size(fd: impl AsFd) -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one `winsize`, and `size` is one.
    let known = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) } == 0;
    (known && size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// A terminal that does not show what is typed, until this is dropped; what was typed meanwhile is thrown away then, so
/// that no shell takes it for a command. Keys that send signals still do.
#[derive(Debug)]
pub struct Quiet {
    before: Termios,
    quiet: Termios,
}

/// Makes the terminal on stdin quiet; None if it is none. A process in the background is stopped by this, unless
/// SIGTTOU is blocked or ignored.
pub fn quiet() -> Option<Quiet> {
    let before = tcgetattr(std::io::stdin()).ok()?;
    let mut quiet = before.clone();
    quiet.local_flags.remove(LocalFlags::ECHO | LocalFlags::ICANON);
    let quiet = Quiet { before, quiet };
    quiet.redo();
    Some(quiet)
}

impl Quiet {
    /// Makes it quiet again.
    pub fn redo(&self) {
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &self.quiet);
    }

    /// Makes it as it was: for a while, if `redo` follows.
    pub fn undo(&self) {
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSAFLUSH, &self.before);
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        self.undo();
    }
}
