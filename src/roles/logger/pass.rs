//! Output that goes into a pipe as it is: that it is moved without being read (splice(2)), which takes a quarter of the
//! processor, and a pipe with more room for who writes much of it.
//!
//! Only what nobody has to see is passed on unread: not what is remembered, nor the end of a line that others may come
//! after. So the newest bytes of a pipe are read in any case; and all of them where others write to the same place, where
//! lines have a form or a limit, or somebody reads along.
//!
//! A file is written as everything else. Bytes are copied into it anyway, so there is little to gain, while a file that is
//! appended to (`O_APPEND`), which splice(2) refuses, stays right whoever empties it, moves it or writes to it as well.

use log::debug;

use super::Logger;
use super::source::{CHUNK, Source};
use super::stamp::Stamp;
use crate::supervisor::event::Mono;
use crate::sys::{errno, fds, why};

/// Fewer bytes are read: a piece that is passed on takes a place of its own in the pipe that it goes to, of which there are
/// few, however small it is.
const LEAST: usize = 16 << 10;

/// The newest bytes are read, so that it is known whether a line has ended.
const READ_LEAST: usize = 4 << 10;

/// Pages of a pipe with more room: 1 MiB, which is what anybody may have (pipe-max-size, pipe(7)).
const LARGE: usize = 256;

/// So many pipes have more room at most.
const LARGE_MAX: usize = 8;

/// And so much of what their user may have, who may be root in every container.
const SHARE: usize = 8;

/// A pipe that was full so often, and never empty meanwhile, gets more room.
const FULL_OFTEN: u32 = 16;

impl Logger {
    /// Passes on what nobody has to see. True if there was something, or will be when its place has room again.
    pub(super) fn pass_on(&mut self, token: usize, now: Mono) -> bool {
        let Some(source) = self.sources.get_mut(&token).filter(|source| source.is_as_it_is()) else { return false };
        let unread = fds::unread(&*source);
        source.full = if unread + READ_LEAST > CHUNK { source.full + 1 } else { 0 };
        if source.full == FULL_OFTEN {
            self.enlarge(token);
        }
        let Some(source) = self.sources.get_mut(&token) else { return false };
        let Some(sink) = source.is_unseen().filter(|sink| self.places.users(*sink) == 1) else { return false };
        let Some(seen) = self.desk.sees(&source.whose, Stamp::now().unix_ms) else { return false };
        let most = unread.saturating_sub(seen.max(READ_LEAST));
        if most < LEAST {
            return false;
        }
        let Some(count) = self.places.pass_on(sink, token, &*source, most, now) else { return false };
        if count > 0 {
            source.passed_on();
        }
        true
    }

    /// Gives a pipe more room, if there is some.
    fn enlarge(&mut self, token: usize) {
        let most = LARGE_MAX.min(fds::pipe_pages().map_or(LARGE_MAX, |pages| pages / SHARE / LARGE));
        let large = self.sources.values().filter(|source| source.is_large).count();
        if large >= most && !self.sources.values_mut().any(give_back) {
            return;
        }
        let Some(source) = self.sources.get_mut(&token) else { return };
        match fds::resize(&*source, LARGE) {
            Ok(()) => source.is_large = most > 0,
            // That is its user's limit, or the machine's, and no harm.
            Err(error) => debug!("logger: {} has no larger pipe: {}", source.name(), why(errno::of(&error))),
        }
    }
}

/// Takes more room back from who does not need it any more.
fn give_back(source: &mut Source) -> bool {
    let is_free = source.is_large && source.full == 0 && fds::resize(&*source, fds::PIPE_PAGES).is_ok();
    source.is_large &= !is_free;
    is_free
}
