//! Another program's output: started, read until it is complete, and ended, all in bounded time. It is for the verbs and
//! for init's short-lived children; init itself waits for nobody.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::wait::{WaitPidFlag, WaitStatus};
use nix::unistd::Pid;

use super::spawn::{self, Plan, Session, Stream, c_string};
use super::{errno, kill};
use crate::supervisor::event::{Failure, Sig};

/// A program that has closed its output and does not end is looked at this often.
const NAP: Duration = Duration::from_millis(5);

/// What is asked of a program.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// All that it may take.
    pub patience: Duration,
    /// The most that it may write, in bytes.
    pub most: usize,
}

/// Runs a program found in PATH, with default signals and our standard error, until what it wrote to standard output is
/// `complete`; then it is killed, with its process group. It dies with us, too.
///
/// # Errors
/// Why that never came: it is not in PATH, could not be started, ended, or broke a bound.
pub fn run(
    program: &str,
    words: &[&OsStr],
    bounds: Bounds,
    complete: &dyn Fn(&[u8]) -> bool,
) -> Result<Vec<u8>, String> {
    let end = Instant::now() + bounds.patience;
    let (pid, output) = start(program, words)?;
    let result = read(&output, end, bounds, complete);
    // Who closes its output is about to end, and its exit code says why.
    let ended = matches!(result, Err(Trouble::Closed)).then(|| wait(pid, end)).flatten();
    if ended.is_none() {
        kill::group(pid, Sig::KILL);
        kill::process(pid, Sig::KILL);
        reap(pid, WaitPidFlag::WNOHANG);
    }
    result.map_err(|trouble| match trouble {
        Trouble::Closed => match ended {
            Some(WaitStatus::Exited(_, code)) => format!("it ended with code {code} before it had answered"),
            Some(WaitStatus::Signaled(_, signal, _)) => format!("it was ended by {signal} before it had answered"),
            _ => "it closed its output before it had answered".to_owned(),
        },
        Trouble::Slow => format!("it took longer than {} s", bounds.patience.as_secs_f32()),
        Trouble::Long => format!("it wrote more than {} bytes", bounds.most),
        Trouble::Errno(errno) => format!("reading its output failed: {}", errno::why(errno as i32)),
    })
}

/// Why the output is not complete.
enum Trouble {
    Closed,
    Slow,
    Long,
    Errno(Errno),
}

fn start(program: &str, words: &[&OsStr]) -> Result<(u32, OwnedFd), String> {
    let path = std::env::var_os("PATH");
    let failed = |failure: Failure| match failure.errno {
        libc::ENOENT if !program.contains('/') => format!("{program} is not in PATH; install it, or set PATH"),
        _ => format!("{program} could not be started: {}", failure.why),
    };
    let (output, sink) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| errno::why(errno as i32))?;
    nix::fcntl::fcntl(output.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(|errno| errno::why(errno as i32))?;
    let argv = [program.as_bytes()].into_iter().chain(words.iter().map(|word| word.as_bytes()));
    let plan = Plan {
        argv: argv.map(c_string).collect::<Result<_, _>>().map_err(failed)?,
        candidates: spawn::candidates(program.as_bytes(), path.as_deref().map(OsStr::as_bytes)).map_err(failed)?,
        env: std::env::vars_os().filter_map(variable).collect(),
        session: Session::Group { foreground: false },
        stdout: Stream::Given(sink),
        pdeathsig: Some(Sig::KILL),
        ..Plan::default()
    };
    let child = spawn::spawn(&plan).map_err(failed)?;
    if let Err(failure) = spawn::executed(child.status) {
        reap(child.pid, WaitPidFlag::empty());
        return Err(failed(failure));
    }
    Ok((child.pid, output))
}

fn variable((name, value): (OsString, OsString)) -> Option<CString> {
    c_string([name.into_vec(), b"=".to_vec(), value.into_vec()].concat()).ok()
}

fn read(output: &OwnedFd, end: Instant, bounds: Bounds, complete: &dyn Fn(&[u8]) -> bool) -> Result<Vec<u8>, Trouble> {
    let mut all = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        match nix::unistd::read(output.as_fd(), &mut piece) {
            // The last words and the end may come in one.
            Ok(0) => return if complete(&all) { Ok(all) } else { Err(Trouble::Closed) },
            Ok(got) => all.extend_from_slice(piece.get(..got).unwrap_or_default()),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                if complete(&all) {
                    return Ok(all);
                }
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(Trouble::Slow);
                }
                let mut fds = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
                // A signal in between is as good: look and wait again.
                let _ = nix::poll::poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
            }
            Err(errno) => return Err(Trouble::Errno(errno)),
        }
        if all.len() > bounds.most {
            return Err(Trouble::Long);
        }
    }
}

/// How the program ended, if it does so in time.
fn wait(pid: u32, end: Instant) -> Option<WaitStatus> {
    loop {
        match reap(pid, WaitPidFlag::WNOHANG) {
            Some(WaitStatus::StillAlive) if Instant::now() < end => {
                let _ = nix::poll::poll(&mut [], PollTimeout::try_from(NAP).unwrap_or(PollTimeout::ZERO));
            }
            Some(WaitStatus::StillAlive) => return None,
            ended => return ended,
        }
    }
}

/// Asks for a child's end; None: it cannot be told.
fn reap(pid: u32, how: WaitPidFlag) -> Option<WaitStatus> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?);
    loop {
        match nix::sys::wait::waitpid(pid, Some(how)) {
            Err(Errno::EINTR) => {}
            result => return result.ok(),
        }
    }
}
