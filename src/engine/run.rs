//! `pm3 run`: the smallest init. It starts one command, passes every signal on to it, reaps whatever is left to pm3,
//! and hands the terminal back and forth; when the command has ended it ends what that left behind and exits with the
//! command's code.
//!
//! All signals stay blocked for life and are taken from the kernel's queue one by one, so none is lost, merged or
//! handled at a wrong moment. Between two signals pm3 sleeps in one system call without a timeout. From the start of
//! the command on it holds no descriptor but the first three and no directory, needs neither /proc nor /dev, and never
//! touches a process that is not its descendant, unless it is PID 1 of the namespace.

mod ending;
mod flags;

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use crate::supervisor::event::{End, Failure, Sig};
use crate::sys::reap::{Change, Children, reap};
use crate::sys::signals;
use crate::sys::spawn::{self, Child, KeepFds, Plan, Session, Signals, Stdin};
use crate::sys::{fds, kill, place, say, tty};
use flags::{Flags, Refusal};

/// A mistake in the flags (EX_USAGE, sysexits(3)). The command's own codes begin at 0 and the shell's at 126.
const MISTAKE: u8 = 64;

/// The signals that ask an init to stop. They are forwarded as any other; a second one cuts the grace of leftovers
/// short.
const STOPS: [Sig; 4] = [Sig::TERM, Sig::INT, Sig::QUIT, Sig::PWR];

/// When pm3 first looks how the start went, unless a signal comes. Woken by the exec itself, it would take the
/// processor from the command just when that begins; on a busy machine for milliseconds.
const FIRST_LOOK: Duration = Duration::from_millis(100);

/// Runs the command line that follows `pm3 run`, and gives the exit code.
pub fn main(words: impl IntoIterator<Item = OsString>) -> u8 {
    signals::block_all();
    match flags::parse(words) {
        Ok(flags) => run(&flags).unwrap_or_else(|failure| {
            complain(&failure.to_string());
            failure.exit_code()
        }),
        Err(Refusal::Help(text)) => {
            // Whoever asked and does not listen has no need of an error.
            let _ = std::io::stdout().write_all(text.as_bytes());
            0
        }
        Err(Refusal::Mistake(why)) => {
            complain(&why);
            MISTAKE
        }
    }
}

fn run(flags: &Flags) -> Result<u8, Failure> {
    let is_init = place::is_pid_1();
    if !is_init && place::become_subreaper().is_err() {
        complain("orphans cannot be adopted here: what the command leaves behind may not be ended");
    }
    let parent_is_gone = flags.pdeathsig.is_some_and(place::follow_parent);
    let has_terminal = tty::is_controlled();
    let Child { pid: main, status } = spawn::spawn(&plan(flags, has_terminal)?)?;
    fds::close_from_but(3, &mut [status.as_raw_fd()].into_iter());
    place::leave_directory();
    let mut run = Run { flags, main, is_init, has_terminal, is_stopped: false, children: Children::Some, asked: 0 };
    let first = run.next(Some(FIRST_LOOK));
    // From here on the command has its process group and its program: what is sent to them arrives.
    if let Err(failure) = spawn::executed(status) {
        run.reap();
        return Err(failure);
    }
    if let Some(sig) = flags.pdeathsig.filter(|_| parent_is_gone) {
        run.forward(sig);
    }
    let end = run.serve(first);
    if has_terminal {
        // A script's next command would find itself in the background.
        tty::pass_foreground(main, tty::own_group());
    }
    run.end_leftovers();
    let code = end.exit_code();
    Ok(if flags.remap.contains(&code) { 0 } else { code })
}

/// One line on stderr; a broken stderr is no reason to fail.
fn complain(text: &str) {
    let _ = say::stderr().write_all(format!("pm3: run: {text}\n").as_bytes());
}

/// A command that runs, and what pm3 has seen of it.
struct Run<'a> {
    flags: &'a Flags,
    /// Its pid, and the number of its process group.
    main: u32,
    /// Nobody but pm3 and its descendants lives in this pid namespace.
    is_init: bool,
    /// pm3's session has a terminal: then the command can be in its foreground, and be stopped by it.
    has_terminal: bool,
    /// The command was stopped, by ^Z or for touching the terminal from the background.
    is_stopped: bool,
    /// Whether pm3 has children, as of the last reaping.
    children: Children,
    /// How often pm3 was asked to stop.
    asked: u32,
}

impl Run<'_> {
    /// Works until the command has ended. `received` is what came while it was started.
    fn serve(&mut self, mut received: Option<Sig>) -> End {
        loop {
            // Without a terminal it does not matter whether the command is stopped, so the signal need not wait.
            if !self.has_terminal
                && let Some(sig) = received.take()
            {
                self.forward(sig);
            }
            // Before the first signal too: children may have been left to pm3 before it was executed. And not for
            // SIGCHLD alone: signals of lower numbers come first for as long as there are any.
            if let Some(end) = self.reap() {
                return end;
            }
            if let Some(sig) = received {
                self.pass_on(sig);
            }
            received = self.next(None);
        }
    }

    /// Waits for a signal, as long as `timeout` says or for ever; not at all while there is more to reap. Only SIGCHLD is
    /// nothing to act on.
    fn next(&mut self, timeout: Option<Duration>) -> Option<Sig> {
        let timeout = if self.children == Children::More { Some(Duration::ZERO) } else { timeout };
        let sig = signals::next(timeout)?.sig;
        self.asked = self.asked.saturating_add(u32::from(STOPS.contains(&sig)));
        (sig != Sig::CHLD).then_some(sig)
    }

    /// Reaps everything that ended; gives the command's end if it is among that.
    fn reap(&mut self) -> Option<End> {
        let (mut end, mut stop) = (None, None);
        self.children = reap(&mut |pid, change| match change {
            Change::Ended(how) if pid == self.main => end = Some(how),
            Change::Stopped(by) if pid == self.main => stop = Some(by),
            Change::Ended(_) | Change::Stopped(_) => {}
        });
        if let (None, Some(sig)) = (end, stop) {
            self.stop_too(sig);
        }
        end
    }

    fn pass_on(&mut self, sig: Sig) {
        // Somebody pressed ^Z before the command got the foreground back. It is stopped and cannot stop again.
        if self.is_stopped && [Sig::TSTP, Sig::TTIN, Sig::TTOU].contains(&sig) {
            return self.stop_too(sig);
        }
        if !(self.is_stopped && sig == Sig::CONT) {
            self.forward(sig);
        }
        // A stopped process does not hear that it shall end.
        if self.is_stopped && (sig == Sig::CONT || STOPS.contains(&sig)) {
            self.go_on();
        }
    }

    /// Sends what the flags make of a signal. Nothing that may come of it matters here: a command that is gone is
    /// reaped, and one that belongs to somebody else now is its own master.
    fn forward(&self, sig: Sig) {
        let Some(sig) = self.flags.rewritten(sig) else { return };
        if self.flags.group {
            kill::group(self.main, sig);
        } else {
            kill::process(self.main, sig);
        }
    }

    /// The command was stopped. The shell that pm3 was started from has to see its job stop, so pm3 stops with it,
    /// unless the job has come to the foreground since it was started, and the command needs nothing but that.
    fn stop_too(&mut self, sig: Sig) {
        if !self.has_terminal {
            return;
        }
        self.is_stopped = true;
        if [Sig::TTIN, Sig::TTOU].contains(&sig) && tty::pass_foreground(tty::own_group(), self.main) {
            self.go_on();
        } else if !self.is_init {
            // SIGSTOP could not be refused where there is no such shell.
            tty::stop_own_group(if sig == Sig::STOP { Sig::TSTP } else { sig });
        }
    }

    /// Continues a stopped command; all of its process group, as the terminal had stopped all of it. It gets the
    /// foreground if pm3's job has it.
    fn go_on(&mut self) {
        self.is_stopped = false;
        tty::pass_foreground(tty::own_group(), self.main);
        kill::group(self.main, Sig::CONT);
    }
}

fn plan(flags: &Flags, has_terminal: bool) -> Result<Plan, Failure> {
    let argv = flags.command.iter().map(|word| spawn::c_string(word.as_bytes())).collect::<Result<Vec<_>, _>>()?;
    let program = flags.command.first().map_or(&b""[..], |word| word.as_bytes());
    let path = std::env::var_os("PATH");
    Ok(Plan {
        argv,
        candidates: spawn::candidates(program, path.as_ref().map(|path| path.as_bytes()))?,
        env: place::environment(),
        // No session of its own, terminal or not: with one the kernel gives the command its own share of the processor
        // (autogroup, sched(7)), and on a busy machine that comes milliseconds late.
        session: Session::Group { foreground: has_terminal },
        stdin: Stdin::Inherit,
        pdeathsig: flags.pdeathsig,
        signals: if flags.inherit_signals { Signals::Inherit(signals::inherited()) } else { Signals::Default },
        keep_fds: KeepFds::Inherited,
        ..Plan::default()
    })
}
