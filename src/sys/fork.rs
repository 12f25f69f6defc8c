//! A short-lived copy of init that computes something and sends the bytes back: parsing leaves a hundred kilobytes of
//! heap behind, and they should die with someone else: 200 kB of dirty memory become 100.

use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::wait::WaitStatus;
use nix::unistd::{ForkResult, Pid};

use super::{again, fds, kill, signals};
use crate::supervisor::event::Sig;

/// A copy at work. It ends by itself, or is killed by its parent's death; `reap` collects it.
#[derive(Debug)]
pub struct Worker {
    pub pid: u32,
    /// Non-blocking; what the work returned, then end of file. Nothing before the end of file means that it died.
    pub result: OwnedFd,
}

/// Runs `work` in a copy of this process.
///
/// # Errors
/// From pipe(2) or fork(2).
pub fn compute(work: impl FnOnce() -> Vec<u8>) -> nix::Result<Worker> {
    start(|_| {}, work)
}

/// As [`compute`], of work that is long and in no hurry: the copy gives way to everybody else, and of all descriptors it has
/// these two files and the standard ones alone, so that nothing that is closed here stays open there.
///
/// # Errors
/// As of [`compute`].
pub fn aside(name: &CStr, files: [&File; 2], work: impl FnOnce() -> Vec<u8>) -> nix::Result<Worker> {
    let alone = |sink: &OwnedFd| {
        let [one, two] = files.map(AsRawFd::as_raw_fd);
        let mut needed = [one, two, sink.as_raw_fd()];
        needed.sort_unstable();
        fds::close_from_but(3, &mut needed.into_iter());
        again::take_name(name);
        // SAFETY: setpriority takes numbers; the process 0 is this one. To be nicer is everybody's right.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
    };
    start(alone, work)
}

fn start(prepare: impl FnOnce(&OwnedFd), work: impl FnOnce() -> Vec<u8>) -> nix::Result<Worker> {
    let (result, sink) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    nix::fcntl::fcntl(result.as_fd(), nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    // SAFETY: pm3 has one thread, so the copy may do whatever its parent may, allocation included.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Worker { pid: child.as_raw().unsigned_abs(), result }),
        ForkResult::Child => {
            drop(result);
            // It must be possible to end it: nothing here is worth a grace.
            signals::set_mask(0);
            let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
            prepare(&sink);
            let sent = File::from(sink).write_all(&work());
            exit_now(i32::from(sent.is_err()))
        }
    }
}

/// Asks a question in a copy of this process, and waits: for what a process cannot undo that has tried it.
///
/// # Errors
/// From fork(2) or waitpid(2); ECHILD where the copy was killed.
pub fn ask(question: impl FnOnce() -> u8) -> nix::Result<u8> {
    // SAFETY: pm3 has one thread, so the copy may do whatever its parent may.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => exit_now(question().into()),
        ForkResult::Parent { child } => loop {
            match nix::sys::wait::waitpid(child, None) {
                Err(Errno::EINTR) => {}
                Ok(WaitStatus::Exited(_, code)) => return u8::try_from(code).map_err(|_| Errno::ECHILD),
                Ok(_) => return Err(Errno::ECHILD),
                Err(errno) => return Err(errno),
            }
        },
    }
}

/// Ends without running what belongs to the parent: exit handlers, buffers.
fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// Waits until something has come from the worker, at most this long.
pub fn wait(worker: &Worker, most: Duration) {
    let mut fds = [PollFd::new(worker.result.as_fd(), PollFlags::POLLIN)];
    let most = PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX);
    // A signal in between is as good: the caller looks and waits again.
    let _ = nix::poll::poll(&mut fds, most);
}

/// Reaps a worker that has closed its end, and is about to be gone.
pub fn collect(worker: &Worker) {
    let Ok(pid) = i32::try_from(worker.pid) else { return };
    while nix::sys::wait::waitpid(Pid::from_raw(pid), None) == Err(Errno::EINTR) {}
}

/// Kills a worker that takes too long.
pub fn give_up(worker: &Worker) {
    kill::process(worker.pid, Sig::KILL);
}

/// Reads what has come so far. True: the worker has closed its end.
///
/// # Errors
/// From read(2), and EFBIG once there is more than `most`.
pub fn receive(worker: &Worker, into: &mut Vec<u8>, most: usize) -> nix::Result<bool> {
    let mut piece = [0; 4096];
    loop {
        match nix::unistd::read(worker.result.as_fd(), &mut piece) {
            Ok(0) => return Ok(true),
            Ok(got) if into.len() + got > most => return Err(Errno::EFBIG),
            Ok(got) => into.extend_from_slice(piece.get(..got).unwrap_or_default()),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(false),
            Err(errno) => return Err(errno),
        }
    }
}
