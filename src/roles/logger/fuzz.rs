//! Random output, cut into random pieces, in all forms, beside a version of the same that is as simple as it can be: it has
//! all of the text before it and is in no hurry. A failure names its seed; the same seed is the same case.

#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::Value;

use super::lines::{CUT, LINE_MAX, Line, Splitter};
use super::source::{Bounds, Source, Style, Whose};
use super::stamp::Stamp;
use crate::control::logs::Stream;
use crate::supervisor::event::{InstanceId, RunId};
use crate::supervisor::spec::LogMode;
use crate::sys::fds;

/// Numbers that are the same for a seed.
struct Chance(u64);

impl Chance {
    fn of(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % most
    }

    /// What apps write, and what they should not.
    fn text(&mut self, pieces: usize) -> Vec<u8> {
        const ALPHABET: [&[u8]; 18] = [
            b"x",
            b" ",
            b"\"",
            b"\\",
            b"\r",
            b"\0",
            b"\x1b[31m",
            b"\xff",
            b"\x80",
            b"\xe2\x82",
            b"\xf0\x9f",
            "ä".as_bytes(),
            "…".as_bytes(),
            "🦀".as_bytes(),
            b"{\"a\":[1]}",
            b"{\"level\":30,\"msg\":\"",
            b"\"}",
            b"many letters, as most lines have them",
        ];
        let mut text = Vec::new();
        for _ in 0..self.below(pieces + 1) {
            match self.below(8) {
                0 => text.push(b'\n'),
                1 => text.extend([b'y'].repeat(self.below(120))),
                _ => text.extend(ALPHABET[self.below(ALPHABET.len())]),
            }
        }
        text
    }

    /// All of a text, in pieces.
    fn pieces<'a>(&mut self, text: &'a [u8]) -> Vec<&'a [u8]> {
        let most = [1, 3, 40, 4_000, text.len() + 1][self.below(5)];
        let (mut pieces, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((1 + self.below(most)).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces
    }
}

/// Lines, and whether each was cut.
type Lines = Vec<(Vec<u8>, bool)>;

/// The lines of a text, of which none is longer.
fn naive(text: &[u8], most: usize) -> Lines {
    let mut lines = Lines::new();
    let whole = text.strip_suffix(b"\n").unwrap_or(text);
    for line in if text.is_empty() { Vec::new() } else { whole.split(|byte| *byte == b'\n').collect() } {
        let mut rest = line;
        while rest.len() > most {
            let end = (most.saturating_sub(3)..most).find(|at| *at > 0 && reaches_over(rest, *at, most));
            let (piece, after) = rest.split_at(end.unwrap_or(most));
            lines.push((piece.to_vec(), true));
            rest = after;
        }
        lines.push((rest.to_vec(), false));
    }
    lines
}

/// A character that begins at `at` seems to end behind `end`.
fn reaches_over(bytes: &[u8], at: usize, end: usize) -> bool {
    let length = match bytes[at].leading_ones() {
        length @ 2..=4 => length as usize,
        _ => return false,
    };
    at + length > end && bytes[at + 1..end].iter().all(|byte| byte.leading_ones() == 1)
}

#[test]
fn lines_are_those_of_a_naive_version() {
    for seed in 0..6_000 {
        let mut chance = Chance::of(seed);
        // One in a hundred is about the limit that there usually is.
        let (most, text) = match seed % 100 {
            0 => (LINE_MAX, chance.text(40).repeat(200 + chance.below(300))),
            _ => (32 + chance.below(80), chance.text(60)),
        };
        let mut splitter = Splitter::default();
        splitter.limit(most);
        let mut lines = Lines::new();
        let mut each = |line: Line<'_>| lines.push((line.bytes.to_vec(), line.is_cut));
        chance.pieces(&text).into_iter().for_each(|piece| splitter.feed(piece, &mut each));
        splitter.end(&mut each);
        assert_eq!(lines, naive(&text, most), "seed {seed}, at most {most}: {:?}", text.escape_ascii().to_string());
        assert!(splitter.begun().is_empty());
    }
}

/// What is written of a text that comes in pieces.
fn written(
    source: &mut Source,
    pieces: &[&[u8]],
    alone: &dyn Fn(usize) -> bool,
    passes: &dyn Fn(usize) -> bool,
) -> Vec<u8> {
    let (time, mut out, mut count) = (Stamp::now(), Vec::new(), 0);
    let mut judge = |_: Line<'_>| {
        count += 1;
        passes(count)
    };
    for (at, piece) in pieces.iter().enumerate() {
        let mut rest = piece.to_vec();
        while !rest.is_empty() {
            let mut some = Vec::new();
            source.form_some(&rest, alone(at), &time, &mut some, &mut judge);
            out.extend(some);
            rest = source.take_held();
        }
    }
    source.form_end(&time, &mut out, &mut judge);
    out
}

fn source(mode: LogMode, date: Option<&str>, bounds: Bounds) -> Source {
    let (reader, _) = fds::pipe().unwrap();
    let whose = Whose { run: RunId(1), id: InstanceId(3), app: "we\"b".into(), pid: 12, stream: Stream::Out };
    let mut source = Source::new(whose, reader, mode, date.map(Into::into), 0);
    source.bounds = bounds;
    source.shape(Style { usual: LogMode::Raw, width: 9, color: false }, false);
    source
}

#[test]
fn raw_output_is_what_it_was_whoever_else_writes() {
    for seed in 0..3_000 {
        let mut chance = Chance::of(seed);
        let text = if seed % 100 == 0 { chance.text(40).repeat(300) } else { chance.text(60) };
        let mut source = source(LogMode::Raw, None, Bounds::default());
        let pieces = chance.pieces(&text);
        let turns: Vec<bool> = pieces.iter().map(|_| chance.below(3) > 0).collect();
        let out = written(&mut source, &pieces, &|at| turns[at], &|_| true);
        // Where others may write, a line that nobody ends is ended.
        let ended = [&text[..], b"\n"].concat();
        let fits = out == text || out == ended && !text.ends_with(b"\n") && turns.contains(&false);
        assert!(fits, "seed {seed}: {:?}", text.escape_ascii().to_string());
    }
}

#[test]
fn what_stands_before_a_line_is_all_that_is_added_to_it() {
    for seed in 0..6_000 {
        let mut chance = Chance::of(seed);
        let text = chance.text(60);
        let (mode, before) = [(LogMode::Prefix, "3|we\"b    | "), (LogMode::Raw, "")][chance.below(2)];
        let (date, before) =
            [(None, before.to_owned()), (Some("[at]"), format!("{before}at: "))][chance.below(2)].clone();
        let most = Some(256 + chance.below(200)).filter(|_| chance.below(2) == 0);
        let is_rated = chance.below(3) == 0;
        let bounds = Bounds { line_max: most, is_rated, ..Bounds::default() };
        if before.is_empty() && !bounds.are_of_lines() {
            continue;
        }
        // A flood: some lines pass, whoever they are.
        let passing: Vec<bool> = (0..=text.len()).map(|_| !is_rated || chance.below(2) == 0).collect();
        let limit = most.map_or(LINE_MAX, |most| most - before.len() - CUT.len() - 1);
        let mut source = source(mode, date, bounds);
        let out = written(&mut source, &chance.pieces(&text), &|_| true, &|count| passing[count]);
        let mut expected = Vec::new();
        for (at, (line, is_cut)) in naive(&text, limit).into_iter().enumerate().filter(|(at, _)| passing[at + 1]) {
            let cut = if is_cut { CUT } else { b"" };
            let line = [before.as_bytes(), &line, cut, b"\n"].concat();
            assert!(most.is_none_or(|most| line.len() <= most), "seed {seed}: line {at}");
            expected.extend(line);
        }
        let show = |bytes: &[u8]| bytes.escape_ascii().to_string();
        assert_eq!(show(&out), show(&expected), "seed {seed}, {bounds:?}: {:?}", show(&text));
    }
}

#[test]
fn an_object_a_line_has_all_of_the_text_and_is_no_longer_than_it_may() {
    for seed in 0..4_000 {
        let mut chance = Chance::of(seed);
        let text = chance.text(80);
        let most = Some(256 + chance.below(300)).filter(|_| chance.below(3) > 0);
        let mut source = source(LogMode::Json, None, Bounds { line_max: most, ..Bounds::default() });
        let out = written(&mut source, &chance.pieces(&text), &|_| true, &|_| true);
        let show = || format!("seed {seed}, {most:?}: {:?}\n{}", text.escape_ascii().to_string(), out.escape_ascii());
        let whole = |line: &[u8]| String::from_utf8_lossy(line).into_owned();
        let mut lines = out.split_inclusive(|byte| *byte == b'\n');
        for (line, _) in naive(&text, usize::MAX) {
            let object = |line: &[u8]| serde_json::from_slice::<Value>(line).ok().filter(Value::is_object);
            let mut told = String::new();
            loop {
                let written = lines.next().unwrap_or_else(|| panic!("{}", show()));
                assert!(written.ends_with(b"}\n") && most.is_none_or(|most| written.len() <= most), "{}", show());
                let fields = object(written).unwrap_or_else(|| panic!("{}", show()));
                assert_eq!(
                    (&fields["app"], &fields["id"], &fields["stream"]),
                    (&"we\"b".into(), &3.into(), &"stdout".into())
                );
                let message = &fields["message"];
                match message.as_str() {
                    Some(text) => told += text,
                    // As it is: whatever it says, it is the same.
                    None => {
                        assert_eq!(object(&line).as_ref(), Some(message), "{}", show());
                        told = whole(&line);
                    }
                }
                if fields["cut"] != Value::Bool(true) {
                    break;
                }
            }
            // What is no UTF-8 is replaced, in pieces maybe by more than in one.
            if std::str::from_utf8(&line).is_ok() {
                assert_eq!(told, whole(&line), "{}", show());
            }
        }
        assert_eq!(lines.next(), None, "{}", show());
    }
}
