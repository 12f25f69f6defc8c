//! The recent lines of an app, in a fixed amount of memory: the oldest go first. Pure. `pm3 logs` reads from here, so it
//! works where nothing can be written to a disk, and an app that is gone has its last words here.

use std::collections::VecDeque;

use crate::control::logs::Stream;

/// Bytes in front of each line: its length, when it came, whose it is.
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
        while self.bytes.len() > most {
            self.forget_oldest();
        }
        self.bytes.shrink_to(most);
    }

    /// The most bytes that it holds.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Remembers a line; of one that is longer than all the room, its beginning.
    pub(super) fn push(&mut self, time_ms: u64, id: u32, stream: Stream, line: &[u8]) {
        let Some(room) = self.most.checked_sub(HEAD) else { return };
        let line = line.get(..room).unwrap_or(line);
        let needed = HEAD + line.len();
        while self.bytes.len() + needed > self.most {
            self.forget_oldest();
        }
        // Doubling, but never beyond what is allowed.
        let wanted = self.bytes.len() + needed;
        if wanted > self.bytes.capacity() {
            self.bytes.reserve_exact((2 * wanted).min(self.most) - self.bytes.len());
        }
        let length = u32::try_from(line.len()).unwrap_or(u32::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(time_ms.to_ne_bytes());
        self.bytes.extend(id.to_ne_bytes());
        self.bytes.extend([u8::from(stream == Stream::Err)]);
        self.bytes.extend(line);
    }

    pub(super) fn clear(&mut self) {
        self.bytes = VecDeque::new();
    }

    /// What is remembered of the lines that are asked for, the oldest first: no more than `most`, the newest.
    pub(super) fn last(&self, most: usize, wanted: impl Fn(u64, u32, Stream) -> bool) -> Vec<Recent> {
        let mut found = VecDeque::new();
        let mut at = 0;
        while let Some((length, time_ms, id, stream)) = self.head(at) {
            at += HEAD;
            if wanted(time_ms, id, stream) && most > 0 {
                if found.len() == most {
                    found.pop_front();
                }
                let bytes = self.bytes.range(at.min(self.bytes.len())..(at + length).min(self.bytes.len()));
                found.push_back(Recent { time_ms, id, stream, bytes: bytes.copied().collect() });
            }
            at += length;
        }
        found.into()
    }

    fn head(&self, at: usize) -> Option<(usize, u64, u32, Stream)> {
        let mut head = [0u8; HEAD];
        if at + HEAD > self.bytes.len() {
            return None;
        }
        head.iter_mut().zip(self.bytes.range(at..)).for_each(|(to, from)| *to = *from);
        let (length, rest) = head.split_first_chunk::<4>()?;
        let (time, rest) = rest.split_first_chunk::<8>()?;
        let (id, rest) = rest.split_first_chunk::<4>()?;
        let stream = if rest == [0] { Stream::Out } else { Stream::Err };
        Some((u32::from_ne_bytes(*length) as usize, u64::from_ne_bytes(*time), u32::from_ne_bytes(*id), stream))
    }

    fn forget_oldest(&mut self) {
        match self.head(0) {
            Some((length, ..)) => drop(self.bytes.drain(..(HEAD + length).min(self.bytes.len()))),
            None => self.bytes.clear(),
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
    fn less_room_forgets_the_oldest() {
        let mut ring = ring(10 * (HEAD + 1));
        (0..10).for_each(|number: u8| ring.push(0, 0, Stream::Out, &[b'0' + number]));
        ring.limit(3 * (HEAD + 1));
        assert_eq!(texts(&ring, 10), ["7", "8", "9"]);
    }
}
