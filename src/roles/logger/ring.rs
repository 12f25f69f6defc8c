//! The recent lines of an app, in a fixed amount of memory: the oldest go first. Pure. `pm3 logs` reads from here, so it
//! works where nothing can be written to a disk, and an app that is gone has its last words here.

use std::collections::VecDeque;

use crate::control::logs::Stream;
use crate::sys::bytes::{find, find_last};

/// Bytes in front of lines that have come together: their length, when they came, whose they are.
const HEAD: usize = 4 + 8 + 4 + 1;

/// Recent lines, one after the other.
#[derive(Debug, Default)]
pub(super) struct Ring {
    bytes: VecDeque<u8>,
    /// The most bytes, heads included.
    most: usize,
}

/// A line that is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recent {
    pub(super) time_ms: u64,
    pub(super) id: u32,
    pub(super) stream: Stream,
    pub(super) bytes: Vec<u8>,
}

impl Ring {
    /// Holds no more than this from now on.
    pub(super) fn limit(&mut self, most: usize) {
        self.most = most;
        while let excess @ 1.. = self.bytes.len().saturating_sub(most) {
            self.forget_oldest(excess);
        }
        self.bytes.shrink_to(most);
    }

    /// The most bytes that it holds.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Remembers lines that have come together, with the newlines between them: the last of them, if they are more than all
    /// the room, and of one that is longer than that its beginning.
    pub(super) fn push(&mut self, time_ms: u64, id: u32, stream: Stream, lines: &[u8]) {
        let Some(room) = self.most.checked_sub(HEAD) else { return };
        let all = lines.len();
        let lines = last_lines(lines, room);
        if lines.len() < all {
            // What came before is older than what has no room.
            self.bytes.clear();
        }
        let needed = HEAD + lines.len();
        while let excess @ 1.. = (self.bytes.len() + needed).saturating_sub(self.most) {
            self.forget_oldest(excess);
        }
        // Doubling, but never beyond what is allowed.
        let wanted = self.bytes.len() + needed;
        if wanted > self.bytes.capacity() {
            self.bytes.reserve_exact((2 * wanted).min(self.most) - self.bytes.len());
        }
        self.bytes.extend(&Head { length: lines.len(), time_ms, id, stream }.packed());
        self.bytes.extend(lines);
    }

    pub(super) fn clear(&mut self) {
        self.bytes = VecDeque::new();
    }

    /// What is remembered of the lines that are asked for, the oldest first: no more than `most`, the newest.
    pub(super) fn last(&self, most: usize, wanted: impl Fn(u64, u32, Stream) -> bool) -> Vec<Recent> {
        let mut found = VecDeque::new();
        let mut at = 0;
        while let Some(Head { length, time_ms, id, stream }) = self.head(at) {
            at += HEAD;
            if wanted(time_ms, id, stream) && most > 0 {
                let lines = self.bytes.range(at.min(self.bytes.len())..(at + length).min(self.bytes.len()));
                let lines: Vec<u8> = lines.copied().collect();
                for line in lines.split(|byte| *byte == b'\n') {
                    if found.len() == most {
                        found.pop_front();
                    }
                    found.push_back(Recent { time_ms, id, stream, bytes: line.into() });
                }
            }
            at += length;
        }
        found.into()
    }

    fn head(&self, at: usize) -> Option<Head> {
        let mut head = [0; HEAD];
        if at + HEAD > self.bytes.len() {
            return None;
        }
        head.iter_mut().zip(self.bytes.range(at..)).for_each(|(to, from)| *to = *from);
        Head::unpacked(head)
    }

    /// Forgets so many bytes, and the rest of the line that they end in.
    fn forget_oldest(&mut self, excess: usize) {
        let Some(head) = self.head(0) else { return self.bytes.clear() };
        let end = (HEAD + head.length).min(self.bytes.len());
        let Some(newline) = self.newline((HEAD + excess - 1).min(end), end) else {
            return drop(self.bytes.drain(..end));
        };
        // Those who stay have their head before them, in the place of what goes.
        let forgotten = newline + 1 - HEAD;
        let packed = Head { length: head.length - forgotten, ..head }.packed();
        self.bytes.drain(..forgotten);
        self.bytes.iter_mut().zip(packed).for_each(|(to, from)| *to = from);
    }

    /// Where the first newline is of those from `start` to `end`.
    fn newline(&self, start: usize, end: usize) -> Option<usize> {
        let (front, back) = self.bytes.as_slices();
        let length = front.len();
        let in_front = find(b'\n', front.get(start.min(length)..end.min(length))?).map(|at| start + at);
        let behind = || {
            Some(start.max(length) + find(b'\n', back.get(start.saturating_sub(length)..end.saturating_sub(length))?)?)
        };
        in_front.or_else(behind)
    }
}

/// What stands in front of lines that have come together.
#[derive(Clone, Copy, Debug)]
struct Head {
    length: usize,
    time_ms: u64,
    id: u32,
    stream: Stream,
}

impl Head {
    fn packed(self) -> [u8; HEAD] {
        let mut packed = [u8::from(self.stream == Stream::Err); HEAD];
        let length = u32::try_from(self.length).unwrap_or(u32::MAX).to_ne_bytes();
        let fields = length.into_iter().chain(self.time_ms.to_ne_bytes()).chain(self.id.to_ne_bytes());
        packed.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        packed
    }

    fn unpacked(packed: [u8; HEAD]) -> Option<Head> {
        let (length, rest) = packed.split_first_chunk()?;
        let (time, rest) = rest.split_first_chunk()?;
        let (id, rest) = rest.split_first_chunk()?;
        let stream = if rest == [0] { Stream::Out } else { Stream::Err };
        let length = u32::from_ne_bytes(*length) as usize;
        Some(Head { length, time_ms: u64::from_ne_bytes(*time), id: u32::from_ne_bytes(*id), stream })
    }
}

/// As many of the last lines as have room; at least the beginning of one.
fn last_lines(lines: &[u8], room: usize) -> &[u8] {
    let Some(excess) = lines.len().checked_sub(room).filter(|excess| *excess > 0) else { return lines };
    // What begins just behind a newline is whole.
    let tail = lines.get(excess - 1..).unwrap_or_default();
    match find(b'\n', tail) {
        Some(newline) => tail.get(newline + 1..).unwrap_or_default(),
        None => {
            let last = find_last(b'\n', lines).map_or(0, |newline| newline + 1);
            lines.get(last..).and_then(|line| line.get(..room)).unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(most: usize) -> Ring {
        let mut ring = Ring::default();
        ring.limit(most);
        ring
    }

    fn texts(ring: &Ring, most: usize) -> Vec<String> {
        ring.last(most, |_, _, _| true).into_iter().map(|line| String::from_utf8_lossy(&line.bytes).into()).collect()
    }

    #[test]
    fn the_newest_lines_stay() {
        let mut ring = ring(4 * (HEAD + 2));
        for number in 0..100u32 {
            ring.push(u64::from(number), number % 3, Stream::Out, format!("{number:02}").as_bytes());
            assert!(ring.bytes.len() <= ring.most && ring.bytes.capacity() <= 2 * ring.most);
        }
        assert_eq!(texts(&ring, 10), ["96", "97", "98", "99"]);
        assert_eq!(texts(&ring, 2), ["98", "99"]);
        assert_eq!(texts(&ring, 0), Vec::<String>::new());
        let of_one = ring.last(10, |time, id, stream| time > 96 && id == 0 && stream == Stream::Out);
        assert_eq!(of_one, [Recent { time_ms: 99, id: 0, stream: Stream::Out, bytes: b"99".to_vec() }]);
        ring.clear();
        assert!(texts(&ring, 10).is_empty());
    }

    #[test]
    fn lines_of_any_length_fit_or_are_cut() {
        let mut ring = ring(1_000);
        for length in [0, 1, 500, 982, 983, 984, 5_000] {
            ring.push(1, 2, Stream::Err, &vec![b'x'; length]);
            let last = ring.last(1, |_, _, _| true);
            let expected = length.min(1_000 - HEAD);
            assert!(
                matches!(&last[..], [line] if line.bytes.len() == expected && line.stream == Stream::Err),
                "{length}"
            );
        }
        ring.limit(10);
        ring.push(1, 2, Stream::Out, b"no room");
        assert!(texts(&ring, 10).is_empty() && ring.bytes.is_empty());
        ring.limit(0);
        ring.push(1, 2, Stream::Out, b"");
        assert!(texts(&ring, 10).is_empty());
    }

    #[test]
    fn of_lines_that_came_together_the_oldest_go_one_by_one() {
        let mut ring = ring(2 * HEAD + 20);
        ring.push(1, 2, Stream::Err, b"aaa\n\nbbb\nccc");
        ring.push(2, 2, Stream::Err, b"ddd");
        assert_eq!(texts(&ring, 10), ["aaa", "", "bbb", "ccc", "ddd"]);
        assert_eq!(texts(&ring, 2), ["ccc", "ddd"]);
        ring.limit(2 * HEAD + 14);
        assert_eq!(texts(&ring, 10), ["", "bbb", "ccc", "ddd"]);
        let times: Vec<u64> =
            ring.last(9, |_, id, stream| id == 2 && stream == Stream::Err).iter().map(|line| line.time_ms).collect();
        assert_eq!(times, [1, 1, 1, 2]);
        ring.limit(2 * HEAD + 10);
        assert_eq!(texts(&ring, 10), ["bbb", "ccc", "ddd"]);
        ring.limit(2 * HEAD + 5);
        assert_eq!(texts(&ring, 10), ["ddd"]);
        // More than all the room: the last of them.
        ring.push(3, 2, Stream::Out, b"an old one\nthe one before\nthe last one");
        assert_eq!(texts(&ring, 10), ["the last one"]);
        ring.push(3, 2, Stream::Out, b"short\nand one that is longer than all of the room that there is for lines");
        assert_eq!(texts(&ring, 10), ["and one that is longer"]);
        ring.push(3, 2, Stream::Out, b"an old one\nthe one before that\n");
        assert_eq!(texts(&ring, 10), ["the one before that", ""]);
    }

    /// However they came together.
    #[test]
    fn what_is_remembered_is_the_end_of_what_came() {
        for most in [HEAD, HEAD + 1, 60, 200, 1_000] {
            let (mut ring, mut all, mut word) = (ring(most), Vec::new(), 1_usize);
            for _ in 0..500 {
                let mut lines = Vec::new();
                for _ in 0..=word % 7 {
                    word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(11) ^ 5;
                    lines.push("x".repeat(word % 23));
                }
                ring.push(0, 0, Stream::Out, lines.join("\n").as_bytes());
                assert!(ring.bytes.len() <= most);
                all.extend(lines);
                let kept = texts(&ring, usize::MAX);
                let room = most.saturating_sub(HEAD);
                assert!(!kept.is_empty() && kept.len() <= all.len());
                for (line, kept) in all[all.len() - kept.len()..].iter().zip(&kept) {
                    assert_eq!(&line[..line.len().min(room)], kept, "{most}");
                }
            }
        }
    }

    #[test]
    fn less_room_forgets_the_oldest() {
        let mut ring = ring(10 * (HEAD + 1));
        (0..10).for_each(|number: u8| ring.push(0, 0, Stream::Out, &[b'0' + number]));
        ring.limit(3 * (HEAD + 1));
        assert_eq!(texts(&ring, 10), ["7", "8", "9"]);
    }
}
