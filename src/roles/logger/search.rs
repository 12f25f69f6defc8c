//! The text that makes a run ready, looked for in what it writes. It is looked for while that is in the pipe still: what may
//! be the beginning of the text stays there, and all of the text until init has been told. So a logger that is killed at
//! any moment leaves to the next one what that needs to find it.

use std::io::ErrorKind;
use std::os::fd::AsFd;

use log::warn;

use crate::sys::fds::{self, Glass};
use crate::sys::{errno, why};

/// What is looked for in one stream.
#[derive(Debug)]
pub(super) struct Search {
    text: Box<[u8]>,
    /// So much of the text has been taken out of the pipe, at the end of what was.
    taken: usize,
    found: bool,
}

/// What to do with what is in the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// So many bytes can be taken out; not 0.
    Take(usize),
    /// The text is there: nothing may be taken out before init knows.
    Found,
    /// There is nothing, or the beginning of the text alone. An event tells when there is more.
    Wait,
    /// It cannot be seen.
    Blind,
}

impl Search {
    pub(super) fn new(text: &str) -> Search {
        Search { text: text.as_bytes().into(), taken: 0, found: false }
    }

    pub(super) fn has_found(&self) -> bool {
        self.found
    }

    /// Looks at what is in the pipe, as far as `chunk` has room: more than the text takes.
    pub(super) fn look(&mut self, pipe: impl AsFd, glass: &Glass, chunk: &mut [u8]) -> Look {
        let count = match glass.look(&pipe, chunk) {
            Ok(0) => return Look::Take(chunk.len()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Look::Wait,
            Err(error) => {
                warn!("logger: cannot look whether an app is ready: {}", why(errno::of(&error)));
                return Look::Blind;
            }
        };
        let begun = self.pass(chunk.get(..count).unwrap_or_default());
        if self.found {
            return Look::Found;
        }
        match count.saturating_sub(begun) {
            // An app may write pieces that are smaller than the text, and the glass does not show all of them.
            0 if fds::unread(&pipe) > count => {
                self.taken = begun;
                Look::Take(count)
            }
            0 => Look::Wait,
            free => {
                self.taken = 0;
                Look::Take(free)
            }
        }
    }

    /// Sees what comes next. Returns how much at the end of all that was seen may be the beginning of the text.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        let before = self.text.get(..self.taken).unwrap_or_default();
        let (seen, text) = ([before, bytes].concat(), &*self.text);
        // Its first byte alone is compared fast.
        self.found |= seen.windows(text.len()).any(|part| part.first() == text.first() && part == text);
        let is_begun = |length: &usize| text.get(..*length).is_some_and(|start| seen.ends_with(start));
        (1..text.len()).rev().find(is_begun).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::fs::File;
    use std::io::{Read, Write};

    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, OFlag};

    use super::*;

    const TEXT: &str = "abab-abaab";

    /// An app writes these pieces; each look is with a chunk of `room` bytes. `killed`: each look is a new logger's.
    /// Returns what could be read before the text was found, and whether it was.
    fn moved(pieces: &[&[u8]], room: usize, killed: bool) -> (Vec<u8>, bool) {
        let glass = Glass::new().unwrap();
        let (reader, writer) = fds::pipe().unwrap();
        let (mut reader, mut writer) = (File::from(reader), File::from(writer));
        let (mut chunk, mut all) = (vec![0; room], Vec::new());
        let mut search = Search::new(TEXT);
        for piece in pieces {
            writer.write_all(piece).unwrap();
            loop {
                if killed {
                    search = Search::new(TEXT);
                }
                match search.look(&reader, &glass, &mut chunk) {
                    Look::Take(count) => {
                        let bytes = chunk.get_mut(..count).unwrap();
                        let seen = bytes.to_vec();
                        reader.read_exact(bytes).unwrap();
                        assert_eq!(bytes, seen);
                        all.extend(seen);
                    }
                    Look::Found => return (all, true),
                    Look::Wait => break,
                    Look::Blind => panic!("blind"),
                }
            }
        }
        assert!(!search.has_found());
        let mut rest = vec![0; fds::unread(&reader)];
        reader.read_exact(&mut rest).unwrap();
        assert!(rest.is_empty() || TEXT.as_bytes().starts_with(&rest), "{rest:?}");
        all.extend(rest);
        (all, false)
    }

    #[test]
    fn it_is_found_in_whatever_pieces_it_comes_and_however_often_the_logger_is_killed() {
        let with = b"ab aba\xff\nababab-abab-abaaab abab-abaab\n".as_slice();
        let without = b"abab-abaa\nb abab-aba\nabab_abaab ab".as_slice();
        for killed in [false, true] {
            for room in [TEXT.len(), TEXT.len() + 1, 1_000] {
                for at in 0..with.len() {
                    let (first, second) = with.split_at(at);
                    let (all, found) = moved(&[first, second], room, killed);
                    assert!(found && with.starts_with(&all) && !all.ends_with(TEXT.as_bytes()), "{at} {room}");
                }
                let bytes: Vec<&[u8]> = with.chunks(1).collect();
                assert!(moved(&bytes, room, killed).1);
                for step in 1..without.len() {
                    let pieces: Vec<&[u8]> = without.chunks(step).collect();
                    assert_eq!(moved(&pieces, room, killed), (without.to_vec(), false), "{step} {room}");
                }
            }
        }
    }

    /// Each write takes one of the pipe's places then (O_DIRECT, pipe(7)): it is full when it holds the beginning of the
    /// text alone.
    #[test]
    fn who_writes_the_smallest_pieces_is_not_held_up() {
        let glass = Glass::new().unwrap();
        let (mut reader, writer) = fds::pipe().map(|(reader, writer)| (File::from(reader), writer)).unwrap();
        nix::fcntl::fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_DIRECT | OFlag::O_NONBLOCK)).unwrap();
        let text = format!("{TEXT}{}", "x".repeat(100));
        let (mut search, mut chunk, mut taken) = (Search::new(&text), [0; 200], 0);
        for byte in text.as_bytes().chunks(1) {
            while nix::unistd::write(&writer, byte) == Err(Errno::EAGAIN) {
                let Look::Take(count) = search.look(&reader, &glass, &mut chunk) else { panic!("it is held up") };
                reader.read_exact(&mut chunk[..count]).unwrap();
                taken += count;
            }
        }
        while let Look::Take(count) = search.look(&reader, &glass, &mut chunk) {
            reader.read_exact(&mut chunk[..count]).unwrap();
        }
        assert!(search.has_found() && taken > 0);
    }

    #[test]
    fn the_end_is_told() {
        let glass = Glass::new().unwrap();
        let (mut reader, writer) = fds::pipe().map(|(reader, writer)| (File::from(reader), writer)).unwrap();
        let mut search = Search::new(TEXT);
        assert_eq!(search.look(&reader, &glass, &mut [0; 100]), Look::Wait);
        drop(writer);
        let mut chunk = [0; 100];
        assert_eq!(search.look(&reader, &glass, &mut chunk), Look::Take(100));
        assert_eq!(reader.read(&mut chunk).unwrap(), 0);
    }
}
