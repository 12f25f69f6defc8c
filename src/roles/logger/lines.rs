//! A stream of bytes to lines, and a line to what is written of it. Pure: no file, no clock; what it holds is bounded
//! whatever comes.

use crate::supervisor::spec::Rare;
use crate::sys::bytes::{are_ascii, find, find_last, find_special};

/// Bytes of a line, unless the app has a limit of its own; one that is longer is cut, and goes on as another line. An app
/// that never ends its lines must not make the logger grow.
pub(super) const LINE_MAX: usize = Rare::LOG_TEXT as usize;

/// So much of a line is written at once, whatever stands before it.
const TEXT_LEAST: usize = 32;

/// What a line is that has no end of its own.
pub(super) const CUT: &[u8] = " …".as_bytes();

/// A line, or a part of one; or several whole ones that have come together, as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Without the newline at the end; those between several are there.
    pub(super) bytes: &'a [u8],
    /// It was too long, and goes on in the next one.
    pub(super) is_cut: bool,
    /// It is what goes on.
    pub(super) is_rest: bool,
}

impl<'a> Line<'a> {
    /// Each of several.
    pub(super) fn each(self) -> impl Iterator<Item = Line<'a>> {
        let mut rest = Some(self.bytes);
        std::iter::from_fn(move || {
            let (bytes, ends, after) = first_line(rest?);
            rest = ends.then_some(after);
            Some(Line { bytes, ..self })
        })
    }
}

/// Is shown lines.
pub(super) type Seen<'a> = dyn FnMut(Line<'_>) + 'a;

/// Cuts what comes into lines, and keeps what has no end yet.
#[derive(Debug)]
pub(super) struct Splitter {
    begun: Vec<u8>,
    /// Bytes of a line, at most.
    most: usize,
    /// What comes next belongs to a line that has been cut.
    is_rest: bool,
}

impl Default for Splitter {
    fn default() -> Splitter {
        Splitter { begun: Vec::new(), most: LINE_MAX, is_rest: false }
    }
}

impl Splitter {
    /// A line that is longer is cut from now on.
    pub(super) fn limit(&mut self, most: usize) {
        self.most = most.max(TEXT_LEAST);
    }

    /// The line that has begun.
    pub(super) fn begun(&self) -> &[u8] {
        &self.begun
    }

    /// Its end has gone another way.
    pub(super) fn forget(&mut self) {
        self.begun = Vec::new();
    }

    /// All that has begun but its first bytes comes again.
    pub(super) fn take_back(&mut self, first: usize) {
        self.begun.truncate(first);
        if first == 0 {
            self.begun = Vec::new();
        }
    }

    /// The line that has begun is cut here.
    pub(super) fn cut_off(&mut self, each: &mut Seen<'_>) {
        let begun = std::mem::take(&mut self.begun);
        each(Line { bytes: &begun, is_cut: true, is_rest: std::mem::replace(&mut self.is_rest, true) });
    }

    /// Takes bytes in and gives each line that is complete by now.
    pub(super) fn feed(&mut self, chunk: &[u8], each: &mut Seen<'_>) {
        self.feed_together(chunk, &mut |lines| lines.each().for_each(&mut *each));
    }

    /// As `feed`, but gives lines that have come together at once.
    pub(super) fn feed_together(&mut self, chunk: &[u8], each: &mut Seen<'_>) {
        let mut rest = chunk;
        while !rest.is_empty() {
            // None of them is too long, as all of them together are not.
            if self.begun.is_empty()
                && !self.is_rest
                && let Some(end) = find_last(b'\n', rest.get(..=self.most).unwrap_or(rest))
                && let Some((lines, after)) = rest.split_at_checked(end)
            {
                each(Line { bytes: lines, is_cut: false, is_rest: false });
                rest = after.get(1..).unwrap_or_default();
                continue;
            }
            let (line, ends, after) = first_line(rest);
            let room = self.most.saturating_sub(self.begun.len());
            if line.len() > room {
                self.cut(line, room, each);
                let (_, left) = rest.split_at(room.min(rest.len()));
                rest = left;
                continue;
            }
            match (ends, self.begun.is_empty()) {
                (true, true) => each(Line { bytes: line, is_cut: false, is_rest: std::mem::take(&mut self.is_rest) }),
                (true, false) => {
                    self.begun.extend_from_slice(line);
                    self.end(each);
                }
                (false, _) => self.begun.extend_from_slice(line),
            }
            rest = after;
        }
    }

    /// Nobody will end the line that has begun.
    pub(super) fn end(&mut self, each: &mut Seen<'_>) {
        if !self.begun.is_empty() {
            each(Line { bytes: &self.begun, is_cut: false, is_rest: std::mem::take(&mut self.is_rest) });
            // Quiet apps hold no memory.
            self.begun = Vec::new();
        }
    }

    fn cut(&mut self, line: &[u8], room: usize, each: &mut Seen<'_>) {
        self.begun.extend_from_slice(line.get(..room).unwrap_or(line));
        // A character of several bytes goes to the next line as a whole.
        let kept = whole_characters(&self.begun);
        let (bytes, next) = self.begun.split_at(kept);
        each(Line { bytes, is_cut: true, is_rest: std::mem::replace(&mut self.is_rest, true) });
        self.begun = next.to_vec();
    }
}

/// The bytes up to the first newline, whether there is one, and what follows it.
fn first_line(bytes: &[u8]) -> (&[u8], bool, &[u8]) {
    let Some((line, after)) = find(b'\n', bytes).and_then(|end| bytes.split_at_checked(end)) else {
        return (bytes, false, b"");
    };
    (line, true, after.get(1..).unwrap_or_default())
}

/// How many bytes there are before a character of UTF-8 whose end is missing.
fn whole_characters(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(3)..bytes.len();
    for at in tail.rev() {
        let length = match bytes.get(at) {
            Some(0xc0..=0xdf) => 2,
            Some(0xe0..=0xef) => 3,
            Some(0xf0..=0xf7) => 4,
            // The end of some character: its beginning is further left.
            Some(0x80..=0xbf) => continue,
            Some(_) | None => return bytes.len(),
        };
        return if at + length > bytes.len() && at > 0 { at } else { bytes.len() };
    }
    bytes.len()
}

/// Appends lines, each with what stands in front of it, and the mark of one that was cut.
pub(super) fn plain(out: &mut Vec<u8>, front: &[u8], lines: Line<'_>) {
    for line in lines.each() {
        out.extend_from_slice(front);
        out.extend_from_slice(line.bytes);
        if line.is_cut {
            out.extend_from_slice(CUT);
        }
        out.push(b'\n');
    }
}

/// Appends a line as `one` does it, and in several pieces where `most` bytes are too few for it, each but the last marked as
/// one that was cut. `width`: how many bytes come of one of the line.
pub(super) fn bounded(
    out: &mut Vec<u8>,
    line: Line<'_>,
    most: usize,
    width: &dyn Fn(u8) -> usize,
    one: &dyn Fn(&mut Vec<u8>, Line<'_>),
) {
    let mut rest = line;
    loop {
        let start = out.len();
        one(out, rest);
        if out.len() - start <= most || rest.bytes.len() <= TEXT_LEAST {
            return;
        }
        out.truncate(start);
        one(out, Line { bytes: b"", is_cut: true, ..rest });
        let front = out.len() - start;
        out.truncate(start);
        let widths = rest.bytes.iter().scan(front, |sum, byte| {
            *sum += width(*byte);
            Some(*sum)
        });
        let fits = widths.take_while(|sum| *sum <= most).count().max(TEXT_LEAST);
        let fits = whole_characters(rest.bytes.get(..fits).unwrap_or(rest.bytes));
        let (bytes, after) = rest.bytes.split_at_checked(fits).unwrap_or((rest.bytes, b""));
        one(out, Line { bytes, is_cut: true, ..rest });
        rest = Line { bytes: after, is_rest: true, ..rest };
    }
}

/// How many bytes come of one in a text of JSON, at most; in one that is no UTF-8 each may be replaced.
pub(super) fn json_width(is_utf8: bool) -> impl Fn(u8) -> usize {
    move |byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        0x80.. if !is_utf8 => '\u{fffd}'.len_utf8(),
        _ => 1,
    }
}

/// Bytes of a JSON line beside its head and its message, at most.
pub(super) const JSON_LEAST: usize = 64;

/// Appends lines, each as a JSON object: `front` is all that comes before the message. A line that is an object itself is put
/// in as it is, so that whoever reads it need not parse twice; anything else becomes a text, in which what is no UTF-8 is
/// replaced.
pub(super) fn json(out: &mut Vec<u8>, front: &[u8], lines: Line<'_>) {
    // Asked once for all of them: no character goes over the end of a line.
    let are_utf8 = are_ascii(lines.bytes) || std::str::from_utf8(lines.bytes).is_ok();
    for line in lines.each() {
        out.extend_from_slice(front);
        if !(are_utf8 || std::str::from_utf8(line.bytes).is_ok()) {
            json_text(out, String::from_utf8_lossy(line.bytes).as_bytes());
        } else if !(line.is_cut || line.is_rest) && is_object(line.bytes) {
            out.extend_from_slice(line.bytes.trim_ascii());
        } else {
            json_text(out, line.bytes);
        }
        out.extend_from_slice(if line.is_cut { b",\"cut\":true}\n" } else { b"}\n" });
    }
}

/// What comes before the message of a JSON line.
pub(super) fn json_front(time: &str, head: &[u8]) -> Vec<u8> {
    [b"{\"time\":\"", time.as_bytes(), b"\",", head, b",\"message\":"].concat()
}

/// What a JSON line says of its stream, from the first name to the last value.
pub(super) fn json_head(app: &str, id: u32, pid: u32, stream: &str) -> Vec<u8> {
    let mut head = b"\"app\":".to_vec();
    json_text(&mut head, app.as_bytes());
    head.extend_from_slice(format!(",\"id\":{id},\"pid\":{pid},\"stream\":\"{stream}\"").as_bytes());
    head
}

/// Appends a text that is UTF-8, in quotes: what is special within them is seldom, so what lies between is found and copied
/// at once.
fn json_text(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut rest = text;
    while let Some((before, [special, after @ ..])) = find_special(rest).and_then(|at| rest.split_at_checked(at)) {
        out.extend_from_slice(before);
        let short = match special {
            b'"' | b'\\' => *special,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            _ => b'u',
        };
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            out.extend_from_slice(format!("{special:04x}").as_bytes());
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Readers of JSON stop at some depth (serde_json's own at 128), and then they would lose the whole line.
const DEPTH_MAX: usize = 64;

/// Whether a line that is UTF-8 is an object of JSON.
fn is_object(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.first() == Some(&b'{')
        && line.last() == Some(&b'}')
        && depth(line) <= DEPTH_MAX
        && serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok()
}

/// How deep it is. Brackets within texts count as well: who has that many is shown as a text.
fn depth(line: &[u8]) -> usize {
    let depths = line.iter().scan(0_usize, |depth, byte| {
        match byte {
            b'{' | b'[' => *depth += 1,
            b'}' | b']' => *depth = depth.saturating_sub(1),
            _ => {}
        }
        Some(*depth)
    });
    depths.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn as_json(line: &[u8], is_cut: bool) -> serde_json::Value {
        let mut out = vec![];
        let front = json_front("2026-01-02T03:04:05.678Z", &json_head("we\"b", 3, 12, "stderr"));
        json(&mut out, &front, Line { bytes: line, is_cut, is_rest: false });
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_line_becomes_an_object() {
        let object = as_json("a \"quoted\"\ttext \u{1b}[0m".as_bytes(), false);
        assert_eq!(
            object,
            serde_json::json!({
                "time": "2026-01-02T03:04:05.678Z", "app": "we\"b", "id": 3, "pid": 12, "stream": "stderr",
                "message": "a \"quoted\"\ttext \u{1b}[0m"
            })
        );
        assert_eq!(as_json(b"\xff\xfe\0x", false)["message"], "\u{fffd}\u{fffd}\0x");
        assert_eq!(as_json(b"x", true)["cut"], true);
    }

    #[test]
    fn a_text_is_what_serde_makes_of_it() {
        let specials: String = (0..=0x80).map(char::from).collect();
        // Each at each place of what is looked at together, and beside others.
        for text in (0..200).flat_map(|at| [format!("{:at$}{specials}é🦀", ""), specials.chars().skip(at).collect()])
        {
            let mut out = vec![];
            json_text(&mut out, text.as_bytes());
            assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&text).unwrap());
        }
    }

    #[test]
    fn lines_that_come_together_are_the_same_as_one_by_one() {
        let text = b"one\n\ntwo \"2\"\n{\"three\":3}\n\xff four\nno end".repeat(40);
        for most in [32, 33, 40, 100, LINE_MAX] {
            for step in [1, 7, 30, 1_000, text.len()] {
                let (mut singly, mut together, mut pieces) = (vec![], vec![], 0);
                let (mut one, mut other) = (Splitter::default(), Splitter::default());
                one.limit(most);
                other.limit(most);
                for piece in text.chunks(step) {
                    one.feed(piece, &mut |line| json(&mut singly, b"{\"message\":", line));
                    other.feed_together(piece, &mut |lines| {
                        assert!(lines.bytes.len() <= most);
                        pieces += 1;
                        json(&mut together, b"{\"message\":", lines);
                    });
                }
                assert_eq!(singly.escape_ascii().to_string(), together.escape_ascii().to_string(), "{most} {step}");
                assert_eq!(one.begun(), other.begun());
                let count = singly.split(|byte| *byte == b'\n').count();
                assert!(step < text.len() || pieces <= 2 * text.len() / most + 1, "{pieces} pieces, {count} lines");
            }
        }
    }

    #[test]
    fn an_object_stays_one() {
        assert_eq!(as_json(br#" {"level":30,"a":{"b":[1]}} "#, false)["message"]["a"]["b"][0], 1);
        for text in
            ["{", "{}}", "{} {}", "[1]", "12", "\"x\"", "{a:1}", "{\"a\":1,}", "null", "{} x }", "{\"a\":\u{1}}"]
        {
            assert_eq!(as_json(text.as_bytes(), false)["message"], text, "{text}");
        }
        // Deeper than anybody means it.
        let deep = "{\"a\":".repeat(5_000) + "1" + &"}".repeat(5_000);
        assert_eq!(as_json(deep.as_bytes(), false)["message"], deep);
        // Not the end of the object, but of a piece of it.
        assert_eq!(as_json(b"{}", true)["message"], "{}");
        assert_eq!(as_json(b"{\"a\":\"\xff\"}", false)["message"], "{\"a\":\"\u{fffd}\"}");
    }

    /// All lines of a stream that comes in pieces of `step`; a cut one is marked with a `+`.
    fn lines(bytes: &[u8], step: usize) -> Vec<Vec<u8>> {
        let mut found = vec![];
        let mut splitter = Splitter::default();
        let mut each = |line: Line<'_>| {
            assert!(line.bytes.len() <= LINE_MAX);
            found.push([line.bytes, if line.is_cut { b"+" } else { b"" }].concat());
        };
        bytes.chunks(step).for_each(|piece| splitter.feed(piece, &mut each));
        splitter.end(&mut each);
        found
    }

    #[test]
    fn lines_are_the_same_however_they_come() {
        let text = b"one\n\ntwo\r\n\0three \xff\xfe\nno end";
        let expected: Vec<&[u8]> = vec![b"one", b"", b"two\r", b"\0three \xff\xfe", b"no end"];
        for step in 1..=text.len() {
            assert_eq!(lines(text, step), expected, "{step}");
        }
        assert!(lines(b"", 1).is_empty());
    }

    #[test]
    fn a_line_without_end_is_cut_and_nothing_of_it_is_lost() {
        let long = vec![b'x'; 3 * LINE_MAX + 5];
        let text = [&long, &b"\nnext\n"[..]].concat();
        for step in [1, 100, LINE_MAX - 1, LINE_MAX, LINE_MAX + 1, text.len()] {
            let found = lines(&text, step);
            let lengths: Vec<usize> = found.iter().map(Vec::len).collect();
            assert_eq!(lengths, [LINE_MAX + 1, LINE_MAX + 1, LINE_MAX + 1, 5, 4], "{step}");
            assert!(found.iter().take(3).all(|line| line.ends_with(b"+")));
        }
    }

    #[test]
    fn a_line_of_just_the_limit_is_whole() {
        let text = [vec![b'x'; LINE_MAX], b"\ny\n".to_vec()].concat();
        for step in [1, LINE_MAX, text.len()] {
            assert_eq!(lines(&text, step), [vec![b'x'; LINE_MAX], b"y".to_vec()]);
        }
    }

    #[test]
    fn characters_are_not_cut() {
        for letter in ["ä", "…", "🦀"] {
            for shift in 0..letter.len() {
                let text = "x".repeat(shift) + &letter.repeat(LINE_MAX);
                let found = lines(text.as_bytes(), 777);
                assert!(found.iter().all(|line| std::str::from_utf8(line).is_ok()), "{letter} {shift}");
                let all: String = found.iter().map(|line| String::from_utf8_lossy(line).replace('+', "")).collect();
                assert_eq!(all, text);
            }
        }
        // What is no UTF-8 is cut anywhere.
        let junk = vec![0xbf; 2 * LINE_MAX];
        assert_eq!(lines(&junk, 4096).concat().iter().filter(|byte| **byte == 0xbf).count(), junk.len());
    }
}
