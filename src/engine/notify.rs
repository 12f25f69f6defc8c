//! What apps tell of themselves by sd_notify(3), of those that have `ready = "notify"` or a `watchdog`: each of their runs
//! has a socket with an abstract name, `$NOTIFY_SOCKET`, that all who are not in another network namespace can reach,
//! whatever their uid or their root. Others have none: it would be a descriptor for each, which is scarcer than memory,
//! and no program needs one that nobody listens to.
//!
//! So a message is its run's by the socket that it came to, and no sender has to be found, who may be gone by then. It is
//! believed where it comes from the app's user, from root, or from the run's main process, by what the kernel says. Lines
//! are compared and not parsed, but for the number of `MAINPID` (see `moved`); one that nobody knows says nothing, as
//! sd_notify(3) has it. Descriptors that come along are let go.

use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use log::warn;
use mio::unix::SourceFd;
use mio::{Interest, Token};

use super::{Engine, NOTICES};
use crate::supervisor::event::{Event, Failure, Mono, RunId, Stage};
use crate::supervisor::spec::{AppSpec, Ready};
use crate::sys::socket::{self, Heard};
use crate::sys::spawn::ids;
use crate::sys::{errno, place};

/// Messages of one run that are read in one wake-up: one that never stops talking holds nobody up.
const MESSAGES_MAX: usize = 64;

/// A longer message is none: a status is a line.
const MESSAGE_MAX: usize = 4096;

/// Who changes its main process all the time is told of this often.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Letters of a status that are kept.
const STATUS_MAX: usize = 200;

/// The sockets of all runs that have one.
#[derive(Debug, Default)]
pub(super) struct Notices(Vec<Notice>);

#[derive(Debug)]
struct Notice {
    run: RunId,
    socket: UnixDatagram,
    /// Whose messages are the app's.
    uid: u32,
    said: Said,
    /// When something about its main process was told last.
    told: Option<Mono>,
}

/// What a run says of itself, beside its heartbeats.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    ready: bool,
    /// `reloading` or `stopping`; empty: neither.
    doing: &'static str,
    status: Box<str>,
}

/// What a message has that is not just for people to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Words {
    ready: bool,
    /// It says that it is alive, or that it is not well.
    alive: Option<bool>,
    /// Its main process, it says.
    main: Option<u32>,
}

/// The socket of a run that has just been made, and its name.
pub(super) struct Laid {
    socket: UnixDatagram,
    uid: u32,
}

/// The value of `NOTIFY_SOCKET` for a run whose socket is called after this.
pub(super) fn address(notice: &str) -> String {
    format!("@{}", name(notice))
}

fn name(notice: &str) -> String {
    format!("pm3-notify/{notice}")
}

/// Makes a run's socket.
///
/// # Errors
/// There is no descriptor left, or the app's user is unknown.
pub(super) fn lay(app: &AppSpec, notice: &str) -> Result<Laid, Failure> {
    let rare = app.launch.rare.as_deref();
    let ids = ids::resolve(rare.and_then(|rare| rare.user.as_deref()), None)?;
    let socket = socket::hearing(&name(notice)).map_err(|error| {
        let errno = errno::of(&error);
        let (object, why, passing) = ("NOTIFY_SOCKET".into(), errno::why(errno), errno::passing(errno));
        Failure { stage: Stage::Pipe, object, errno, why, passing }
    })?;
    Ok(Laid { socket, uid: ids.uid.unwrap_or_else(place::uid) })
}

impl Notices {
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether something about its main process is to be told: not more often than people read.
    pub(super) fn may_tell(&mut self, run: RunId, now: Mono) -> bool {
        let Some(notice) = self.0.iter_mut().find(|notice| notice.run == run) else { return false };
        let may = notice.told.is_none_or(|told| told.after(TOLD_EVERY) <= now);
        notice.told = if may { Some(now) } else { notice.told };
        may
    }

    /// What a run says that it does; empty where it has said nothing.
    pub(super) fn said(&self, run: RunId) -> Box<str> {
        let said = self.0.iter().find(|notice| notice.run == run).map(|notice| &notice.said);
        match said {
            Some(Said { doing: "", status, .. }) => status.clone(),
            Some(Said { doing, status, .. }) if status.is_empty() => (*doing).into(),
            Some(Said { doing, status, .. }) => format!("{doing}: {status}").into(),
            None => Box::default(),
        }
    }
}

impl Engine {
    /// A run has begun that may say something here.
    pub(super) fn take_notice_of(&mut self, run: RunId, Laid { socket, uid }: Laid) {
        let fd = socket.as_raw_fd();
        if let Err(error) = self.poll.registry().register(&mut SourceFd(&fd), token(run), Interest::READABLE) {
            warn!("cannot hear what run {} says: {}", run.0, errno::why(errno::of(&error)));
        }
        self.notices.0.push(Notice { run, socket, uid, said: Said::default(), told: None });
    }

    /// A run may have said something. True if there may be more.
    pub(super) fn noticed(&mut self, run: RunId) -> bool {
        if self.notices.0.iter().all(|notice| notice.run != run) {
            return false;
        }
        // Whoever speaks executes, and the supervisor is told so first.
        self.start_advanced(run);
        let main = self.runs.by_run(run).map_or(0, |entry| entry.pid);
        let waits = self
            .supervisor
            .instances()
            .find(|(_, one)| one.has_run(run))
            .is_some_and(|(app, _)| *app.ready() == Ready::Notify);
        let Some(notice) = self.notices.0.iter_mut().find(|notice| notice.run == run) else { return false };
        let (was_ready, mut alive, mut named, mut more) = (notice.said.ready, None, None, true);
        let mut message = [0; MESSAGE_MAX];
        for _ in 0..MESSAGES_MAX {
            let Heard { count, whole, from } = match socket::hear(&notice.socket, &mut message) {
                Ok(heard) => heard,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    more = false;
                    break;
                }
                // What was lost is lost.
                Err(_) => continue,
            };
            let is_app = from.is_some_and(|from| [notice.uid, 0, place::uid()].contains(&from.uid) || from.pid == main);
            if is_app && whole {
                let words = notice.said.take(message.get(..count).unwrap_or_default());
                // A cry for help is not taken back by a heartbeat that comes along.
                alive = if alive == Some(false) { alive } else { words.alive.or(alive) };
                named = words.main.or(named);
            }
        }
        let (fd, is_ready) = (notice.socket.as_raw_fd(), notice.said.ready && !was_ready && waits);
        // First, so that it is known by then.
        named.into_iter().for_each(|pid| self.move_main(run, pid));
        if is_ready {
            self.happened(Event::Ready { run });
        }
        if let Some(well) = alive {
            self.happened(Event::Heartbeat { run, well });
        }
        // What is there already is told anew by this, and by nothing else.
        if more && self.poll.registry().reregister(&mut SourceFd(&fd), token(run), Interest::READABLE).is_err() {
            self.take_no_notice_of(run);
        }
        more
    }

    /// Lets go of a run's socket, if it has one.
    pub(super) fn take_no_notice_of(&mut self, run: RunId) {
        let Some(at) = self.notices.0.iter().position(|notice| notice.run == run) else { return };
        let notice = self.notices.0.swap_remove(at);
        let _ = self.poll.registry().deregister(&mut SourceFd(&notice.socket.as_raw_fd()));
        if self.notices.0.is_empty() {
            self.notices.0.shrink_to_fit();
        }
    }
}

impl Said {
    fn take(&mut self, message: &[u8]) -> Words {
        let mut words = Words::default();
        for line in message.split(|byte| *byte == b'\n') {
            match line {
                b"READY=1" => {
                    words.ready = true;
                    (self.ready, self.doing) = (true, "");
                }
                b"RELOADING=1" => self.doing = "reloading",
                b"STOPPING=1" => self.doing = "stopping",
                b"WATCHDOG=1" => words.alive = words.alive.or(Some(true)),
                b"WATCHDOG=trigger" => words.alive = Some(false),
                _ => {
                    if let Some(status) = line.strip_prefix(b"STATUS=") {
                        self.status = plain(status);
                    } else if let Some(pid) = line.strip_prefix(b"MAINPID=") {
                        words.main = number(pid).or(words.main);
                    }
                }
            }
        }
        words
    }
}

/// A process's number: digits alone.
fn number(text: &[u8]) -> Option<u32> {
    let digits = str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

/// A status without what could play with a terminal.
fn plain(status: &[u8]) -> Box<str> {
    let text = String::from_utf8_lossy(status);
    let letters = text.chars().map(|letter| if letter.is_control() { '?' } else { letter });
    letters.take(STATUS_MAX).collect::<String>().into()
}

fn token(run: RunId) -> Token {
    Token(usize::try_from(run.0).unwrap_or(usize::MAX - NOTICES).saturating_add(NOTICES))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(messages: &[&str]) -> (Said, Words) {
        let (mut said, mut last) = (Said::default(), Words::default());
        messages.iter().for_each(|message| last = said.take(message.as_bytes()));
        (said, last)
    }

    #[test]
    fn lines_are_compared_and_the_rest_says_nothing() {
        let (said, words) = heard(&["READY=1\nSTATUS=42 clients\nMAINPID=7\nWATCHDOG=1\n"]);
        assert_eq!(
            (said.ready, &*said.status, words),
            (true, "42 clients", Words { ready: true, alive: Some(true), main: Some(7) })
        );
        for strange in ["", "\n\n", "READY=0", "READY=1 ", " READY=1", "READY=11", "ready=1", "WATCHDOG=0", "\0READY=1"]
        {
            assert_eq!(heard(&[strange]), (Said::default(), Words::default()), "{strange:?}");
        }
        assert_eq!(heard(&["WATCHDOG=trigger\nWATCHDOG=1"]).1.alive, Some(false));
        for strange in
            ["MAINPID=", "MAINPID=+1", "MAINPID= 1", "MAINPID=1 ", "MAINPID=-1", "MAINPID=4294967296", "MAINPID=x"]
        {
            assert_eq!(heard(&[strange]).1, Words::default(), "{strange:?}");
        }
        assert_eq!(heard(&["MAINPID=3\nMAINPID=\nMAINPID=0\nMAINPID=y"]).1.main, Some(0));
    }

    #[test]
    fn what_it_does_is_over_when_it_is_ready_again() {
        assert_eq!(heard(&["READY=1", "RELOADING=1\nMONOTONIC_USEC=1"]).0.doing, "reloading");
        assert_eq!(heard(&["RELOADING=1", "READY=1"]).0.doing, "");
        assert_eq!(heard(&["READY=1", "STOPPING=1"]).0.doing, "stopping");
    }

    #[test]
    fn a_status_is_short_and_harmless() {
        let long = format!("STATUS=\x1b[2J{}", "ä".repeat(1_000));
        let (said, _) = heard(&[&long, "STATUS=first", &long]);
        assert_eq!((said.status.chars().count(), &said.status[..4]), (STATUS_MAX, "?[2J"));
        assert_eq!(&*heard(&["STATUS=x", "STATUS="]).0.status, "");
    }
}
