//! How an app says that it is ready: by Node's channel to who has started it, as PM2 has it (`wait_ready`), or by a newline
//! on a descriptor that it is told the number of (s6's notification-fd, `ready = "fd:N"`).
//!
//! `process.send('ready')` writes the line `"ready"` to the socket that `NODE_CHANNEL_FD` names; a program in any
//! language can do the same. Init holds the other end for as long as the run lasts, and never writes to it. Nothing is
//! parsed: a line is compared byte for byte. All else is read and thrown away, for an app must not be held up by
//! messages that nobody wants: those written for PM2 send their figures that way.

use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use log::warn;
use mio::unix::SourceFd;
use mio::{Interest, Token};

use super::{CHANNELS, Engine};
use crate::supervisor::event::{Event, Failure, RunId, Stage};
use crate::supervisor::spec::Ready;
use crate::sys::errno;
use crate::sys::spawn::{self, Plan};

/// What is read of one channel in one wake-up, in pieces of `PIECE` bytes: an app that never stops talking holds nobody
/// up.
const PIECES_MAX: usize = 16;
const PIECE: usize = 4 << 10;

/// Our ends of the channels of all runs that have one.
#[derive(Debug, Default)]
pub(super) struct Channels(Vec<Channel>);

#[derive(Debug)]
struct Channel {
    run: RunId,
    socket: UnixStream,
    ear: Ear,
}

/// What came of listening for a while.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Nothing,
    /// There may be more.
    More,
    /// Nobody can say anything any more.
    End,
}

impl Channels {
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

/// Our end of a channel that has just been made, and what is waited for there.
pub(super) struct Laid {
    socket: UnixStream,
    ear: Ear,
}

/// Makes a run's channel. Ours is the end that is handed out, and does not block.
///
/// # Errors
/// There is no descriptor left.
pub(super) fn lay(plan: &mut Plan, ready: &Ready) -> Result<Laid, Failure> {
    let pair = UnixStream::pair().and_then(|(ours, theirs)| ours.set_nonblocking(true).map(|()| (ours, theirs)));
    let (ours, theirs) = pair.map_err(|error| {
        let errno = errno::of(&error);
        let (object, why, passing) = ("channel".into(), errno::why(errno), errno::passing(errno));
        Failure { stage: Stage::Pipe, object, errno, why, passing }
    })?;
    let (number, ear) = match ready {
        Ready::Descriptor(number) => ((*number).into(), Ear::Any),
        // Behind the sockets.
        Ready::Executing | Ready::Listening | Ready::Message | Ready::Notify | Ready::Healthy | Ready::Line(_) => {
            (spawn::behind(plan.handed.len()), Ear::default())
        }
    };
    plan.handed.push((theirs.into(), number));
    Ok(Laid { socket: ours, ear })
}

impl Engine {
    /// A run has begun that may say something here.
    pub(super) fn listen_to(&mut self, Laid { socket, ear }: Laid, run: RunId) {
        let (fd, token) = (socket.as_raw_fd(), token(run));
        if let Err(error) = self.poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE) {
            warn!("cannot hear when run {} is ready: {}", run.0, errno::why(errno::of(&error)));
        }
        self.channels.0.push(Channel { run, socket, ear });
    }

    /// Something has come, or nothing can come any more.
    pub(super) fn hear(&mut self, run: RunId) {
        // Whoever speaks executes, and the supervisor is told so first.
        self.start_advanced(run);
        let Some(channel) = self.channels.0.iter_mut().find(|channel| channel.run == run) else { return };
        let was_ready = channel.ear.is_ready();
        let heard = channel.listen();
        let is_ready = channel.ear.is_ready() && !was_ready;
        let fd = channel.socket.as_raw_fd();
        if is_ready {
            self.happened(Event::Ready { run });
        }
        match heard {
            Heard::Nothing => {}
            // What is there already is told anew by this, and by nothing else.
            Heard::More => {
                let again = self.poll.registry().reregister(&mut SourceFd(&fd), token(run), Interest::READABLE);
                if again.is_err() {
                    self.hang_up(run);
                }
            }
            Heard::End => self.hang_up(run),
        }
    }

    /// Lets go of a run's channel, if it has one.
    pub(super) fn hang_up(&mut self, run: RunId) {
        let Some(at) = self.channels.0.iter().position(|channel| channel.run == run) else { return };
        let channel = self.channels.0.swap_remove(at);
        let _ = self.poll.registry().deregister(&mut SourceFd(&channel.socket.as_raw_fd()));
        if self.channels.0.is_empty() {
            self.channels.0.shrink_to_fit();
        }
    }
}

impl Channel {
    fn listen(&mut self) -> Heard {
        let mut piece = [0; PIECE];
        for _ in 0..PIECES_MAX {
            match self.socket.read(&mut piece) {
                Ok(0) => return Heard::End,
                Ok(count) => self.ear.take(piece.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Heard::Nothing,
                Err(_) => return Heard::End,
            }
        }
        Heard::More
    }
}

fn token(run: RunId) -> Token {
    Token(usize::try_from(run.0).unwrap_or(usize::MAX - CHANNELS).saturating_add(CHANNELS))
}

/// Waits for the line, whatever pieces it comes in.
#[derive(Debug, PartialEq, Eq)]
enum Ear {
    /// So many bytes of the present line are those of the one that is waited for.
    Hopes(usize),
    /// The present line is another one.
    Waits,
    /// Any line will do.
    Any,
    /// It has come.
    Ready,
}

impl Default for Ear {
    fn default() -> Ear {
        Ear::Hopes(0)
    }
}

impl Ear {
    /// As Node writes the text `ready`, in JSON.
    const LINE: &[u8] = b"\"ready\"\n";

    fn is_ready(&self) -> bool {
        *self == Ear::Ready
    }

    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            *self = match self {
                Ear::Ready => return,
                Ear::Any if *byte == b'\n' => Ear::Ready,
                Ear::Any => Ear::Any,
                Ear::Hopes(at) if Ear::LINE.get(*at) == Some(byte) && *at + 1 == Ear::LINE.len() => Ear::Ready,
                Ear::Hopes(at) if Ear::LINE.get(*at) == Some(byte) => Ear::Hopes(*at + 1),
                Ear::Hopes(_) | Ear::Waits if *byte == b'\n' => Ear::Hopes(0),
                Ear::Hopes(_) | Ear::Waits => Ear::Waits,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Said at once, and byte by byte.
    fn is_ready(said: &[u8]) -> bool {
        let (mut whole, mut pieces) = (Ear::default(), Ear::default());
        whole.take(said);
        said.chunks(1).for_each(|byte| pieces.take(byte));
        assert_eq!(whole, pieces);
        whole.is_ready()
    }

    #[test]
    fn only_the_line_itself_is_the_word() {
        let long = [&b"x".repeat(100_000)[..], b"\n\"ready\"\n"].concat();
        for said in [&b"\"ready\"\n"[..], b"{\"type\":\"axm:monitor\"}\n\"ready\"\nmore", b"\n\n\"ready\"\n", &long] {
            assert!(is_ready(said), "{:?}", String::from_utf8_lossy(said));
        }
        for said in [
            &b"\"ready\""[..],
            b"ready\n",
            b" \"ready\"\n",
            b"\"ready\" \n",
            b"\"ready\"\r\n",
            b"\"\"ready\"\n",
            b"\"ready\"\"ready\"\n",
            b"{\"a\":\"ready\"}\n",
            b"\"READY\"\n",
            b"",
        ] {
            assert!(!is_ready(said), "{:?}", String::from_utf8_lossy(said));
        }
    }
}
