//! When a log file makes room for a new one, what the old ones are called, and what is to be done about them. Pure: facts
//! and names in, decisions out; `shelf` does it.
//!
//! All that is decided follows from what the file system knows: how long the file is, when it was written last, which old
//! ones there are. So a logger that has just been started goes on where the one before it was, and nothing has to be told.
//!
//! An old file of `web.log` is `web__2026-01-31_23-59-58-123.log`, as pm2-logrotate has it, with the thousandths: where
//! output is fast there are several a second. The date is that of its last line, so what was written on one day has the
//! name of that day. Names never go back, even if the clock does: in their order they are what was written, in its order.

use crate::config::date;
use crate::supervisor::event::Millis;
use crate::supervisor::spec::LogRotate;

/// What 1970 began with was a Thursday; weeks begin on Monday.
const MONDAY: u64 = 3 * 24 * 60 * 60 * 1_000;

/// Between the name of the file and the date of an old one.
const APART: &str = "__";

/// How a date looks: digits, and what stands between them.
const DATE: &[u8] = b"0000-00-00_00-00-00-000";

/// The ending of one that is compressed.
const GZ: &str = ".gz";

/// The ending of one that is just being compressed, or was when its logger died.
const BEGUN: &str = ".gz.tmp";

/// What is known of a file that is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) len: u64,
    /// Its last line has no end yet.
    pub(super) mid_line: bool,
    /// Its time is over.
    pub(super) is_over: bool,
}

/// How many of these bytes go into this file; what follows them belongs into another one.
pub(super) fn share(rotate: &LogRotate, facts: Facts, bytes: &[u8]) -> usize {
    // Whatever holds for the file, a line ends where it has begun.
    let begun = if facts.mid_line { first_line(bytes) } else { 0 };
    let len = facts.len.saturating_add(begun as u64);
    let rest = bytes.get(begun..).unwrap_or_default();
    if rest.is_empty() || len > 0 && facts.is_over {
        return begun;
    }
    let room = if rotate.size == 0 { u64::MAX } else { rotate.size.saturating_sub(len) };
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    if rest.len() <= room {
        return bytes.len();
    }
    let fits = rest.get(..room).unwrap_or(rest).iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    // A line that is too long for any file is alone in one.
    begun + if fits == 0 && len == 0 { first_line(rest) } else { fits }
}

/// The length of a line with its end, or of all there is.
pub(super) fn first_line(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1)
}

/// Whether the time in which something was written is over. Both moments are in milliseconds of Unix time.
pub(super) fn is_over(every: Millis, written: u64, now: u64) -> bool {
    let every = u64::from(every.0).max(1);
    let time = |unix_ms: u64| (date::local(unix_ms) + MONDAY) / every;
    // A clock that was set back begins no new file.
    time(now) > time(written)
}

/// A date, as a number with its digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Date(u64);

impl Date {
    /// Of a moment in milliseconds of Unix time, but after `newest`.
    pub(super) fn after(newest: Option<Date>, unix_ms: u64) -> Date {
        let own = Date(date::format("YYYYMMDDHHmmssSSS", unix_ms).parse().unwrap_or_default());
        // That may be the 61st second of a minute: what counts is the order.
        newest.map_or(own, |newest| own.max(Date(newest.0.saturating_add(1))))
    }

    fn parse(text: &str) -> Option<Date> {
        let is_date = text.len() == DATE.len()
            && text
                .bytes()
                .zip(DATE)
                .all(|(byte, form)| if *form == b'0' { byte.is_ascii_digit() } else { byte == *form });
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        is_date.then(|| digits.parse().ok().map(Date))?
    }

    fn text(self) -> String {
        let digits = format!("{:017}", self.0);
        let mut digits = digits.chars();
        let letter = |form: &u8| if *form == b'0' { digits.next() } else { Some(char::from(*form)) };
        DATE.iter().filter_map(letter).collect()
    }
}

/// The names of the old files of one file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    stem: &'a str,
    ending: &'a str,
}

/// What an old file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shape {
    Plain,
    Gz,
    Begun,
}

impl<'a> Names<'a> {
    /// Those of a file with this name.
    pub(super) fn of(name: &'a str) -> Names<'a> {
        let at = name.rfind('.').filter(|at| *at > 0).unwrap_or(name.len());
        let (stem, ending) = name.split_at_checked(at).unwrap_or((name, ""));
        Names { stem, ending }
    }

    pub(super) fn old(&self, date: Date) -> String {
        format!("{}{APART}{}{}", self.stem, date.text(), self.ending)
    }

    fn read(&self, name: &str) -> Option<(Date, Shape)> {
        let rest = name.strip_prefix(self.stem)?.strip_prefix(APART)?;
        let (date, rest) = rest.split_at_checked(DATE.len())?;
        let shape = match rest.strip_prefix(self.ending)? {
            "" => Shape::Plain,
            GZ => Shape::Gz,
            BEGUN => Shape::Begun,
            _ => return None,
        };
        Some((Date::parse(date)?, shape))
    }
}

/// The name of what an old file becomes.
pub(super) fn pressed(old: &str) -> String {
    format!("{old}{GZ}")
}

/// Its name until it is whole.
pub(super) fn begun(old: &str) -> String {
    format!("{old}{BEGUN}")
}

/// What is to be done about old files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chores {
    pub(super) newest: Option<Date>,
    /// Names of files that go.
    pub(super) remove: Vec<String>,
    /// Names of those to compress, the oldest first.
    pub(super) press: Vec<String>,
}

/// What follows from the names in a directory. `pressing` is the old file that is being compressed just now.
pub(super) fn chores<'n>(
    names: &Names<'_>,
    there: impl Iterator<Item = &'n str>,
    rotate: &LogRotate,
    pressing: Option<&str>,
) -> Chores {
    let mut old: Vec<(Date, Shape)> = there.filter_map(|name| names.read(name)).collect();
    old.sort_unstable();
    let is_whole = |shapes: &[(Date, Shape)]| shapes.iter().any(|(_, shape)| *shape != Shape::Begun);
    let whole = old.chunk_by(|one, next| one.0 == next.0).filter(|shapes| is_whole(shapes)).count();
    let mut surplus = whole.saturating_sub(usize::try_from(rotate.keep).unwrap_or(usize::MAX));
    let mut chores = Chores { newest: old.last().map(|(date, _)| *date), ..Chores::default() };
    for shapes in old.chunk_by(|one, next| one.0 == next.0) {
        let Some((date, _)) = shapes.first() else { continue };
        let name = names.old(*date);
        let has = |shape| shapes.iter().any(|(_, own)| *own == shape);
        let (plain, gz) = (has(Shape::Plain), has(Shape::Gz));
        let goes = surplus > 0 && (plain || gz);
        surplus -= usize::from(goes);
        let is_pressed = pressing == Some(&name);
        // One that is compressed is whole, as it gets its name last; then what it was made of is there twice.
        if plain && (goes || gz && !is_pressed) {
            chores.remove.push(name.clone());
        }
        if gz && goes {
            chores.remove.push(pressed(&name));
        }
        if has(Shape::Begun) && (goes || !is_pressed) {
            chores.remove.push(begun(&name));
        }
        if rotate.gzip && plain && !(goes || gz || is_pressed) {
            chores.press.push(name);
        }
    }
    chores
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const DAY: u64 = 24 * 60 * 60 * 1_000;

    fn rotate(size: u64) -> LogRotate {
        LogRotate { size, ..LogRotate::default() }
    }

    #[test]
    fn a_file_takes_whole_lines_up_to_its_size_and_not_a_byte_more() {
        let share = |len: u64, mid_line: bool, bytes: &str| {
            let facts = Facts { len, mid_line, is_over: false };
            super::share(&rotate(10), facts, bytes.as_bytes())
        };
        for (len, mid_line, bytes, expected) in [
            // One byte less than it takes, as many, one more.
            (0, false, "12345678\n", 9),
            (0, false, "123456789\n", 10),
            (0, false, "1234567890\n", 11),
            (5, false, "123\n", 4),
            (5, false, "1234\n", 5),
            (5, false, "12345\n", 0),
            (9, false, "\n", 1),
            (10, false, "\n", 0),
            (11, false, "\n", 0),
            // As many lines as there is room for.
            (0, false, "123\n567\n9\n", 10),
            (0, false, "123\n567\n90\n", 8),
            (4, false, "567\n9\n1\n", 6),
            // A line without an end is a line.
            (0, false, "1234567890", 10),
            (0, false, "12345678901", 11),
            (0, false, "12345678\n9", 10),
            (0, false, "12345678\n90", 9),
            (5, false, "123456", 0),
            // Too long for any file, and alone in one.
            (0, false, "a very long line\nnext\n", 17),
            (1, false, "a very long line\nnext\n", 0),
            // One that has begun ends in the same file, however full that is.
            (99, true, "goes on", 7),
            (99, true, "ends\nnext\n", 5),
            (99, true, "\n", 1),
            (3, true, "67\n9\n", 5),
            (3, true, "67\n9\n1\n", 7),
            (3, true, "67\n9\n12\n", 5),
            (0, true, "longer than a file\nx\n", 19),
        ] {
            assert_eq!(share(len, mid_line, bytes), expected, "{len} {mid_line} {bytes:?}");
        }
    }

    #[test]
    fn shares_of_anything_are_whole_lines_and_files_are_no_longer_than_they_may() {
        let mut random = 1u64;
        let mut below = |most: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % most
        };
        for _ in 0..3_000 {
            let size = 1 + below(30);
            let text: Vec<u8> = (0..below(200)).map(|_| if below(6) == 0 { b'\n' } else { b'x' }).collect();
            let mut files = vec![Vec::new()];
            let mut rest = &text[..];
            while !rest.is_empty() {
                // In pieces, as it comes.
                let mut piece = &rest[..(1 + below(20) as usize).min(rest.len())];
                rest = &rest[piece.len()..];
                while !piece.is_empty() {
                    let file: &mut Vec<u8> = files.last_mut().unwrap();
                    let mid_line = file.last().is_some_and(|byte| *byte != b'\n');
                    let facts = Facts { len: file.len() as u64, mid_line, is_over: false };
                    let count = super::share(&rotate(size), facts, piece);
                    assert!(count > 0 || !file.is_empty(), "an empty file takes something");
                    file.extend_from_slice(&piece[..count]);
                    piece = &piece[count..];
                    if !piece.is_empty() {
                        files.push(Vec::new());
                    }
                }
            }
            assert_eq!(files.concat(), text);
            let (_, before) = files.split_last().unwrap();
            assert!(before.iter().all(|file| file.ends_with(b"\n")));
            for file in &files {
                // Only its last line may have grown beyond it, which came in pieces.
                let last = file.len()
                    - file[..file.len().saturating_sub(1)].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
                assert!(
                    file.len() - last < size as usize || file.len() == last,
                    "{size} {:?}",
                    String::from_utf8_lossy(file)
                );
            }
        }
    }

    #[test]
    fn a_line_of_another_time_begins_a_file() {
        // Midnight at the clocks on the wall, whichever those are.
        let midnight =
            (0..96).map(|quarter| quarter * DAY / 96).find(|at| date::local(*at + 10 * DAY).is_multiple_of(DAY));
        let midnight = midnight.unwrap() + 10 * DAY;
        let is_over = |every, written, now| super::is_over(Millis(every as u32), written, now);
        for (written, now, expected) in [
            (midnight - 1, midnight - 1, false),
            (midnight - 1, midnight, true),
            (midnight, midnight + DAY - 1, false),
            (midnight, midnight + DAY, true),
            // Set back, and by far.
            (midnight, midnight - 1, false),
            (midnight, 0, false),
            (0, midnight, true),
        ] {
            assert_eq!(is_over(DAY, written, now), expected, "{written} {now}");
        }
        // 1970-01-12 was a Monday.
        let monday = midnight + DAY;
        assert!(is_over(7 * DAY, monday - 1, monday) && !is_over(7 * DAY, monday, monday + 7 * DAY - 1));
        let share =
            |len, mid_line, bytes: &[u8]| super::share(&rotate(0), Facts { len, mid_line, is_over: true }, bytes);
        assert_eq!(
            (share(5, false, b"next\n"), share(5, true, b"ends\nnext\n"), share(5, true, b"goes on")),
            (0, 5, 7)
        );
        // Nothing is in it that could be old.
        assert_eq!(share(0, false, b"next\n"), 5);
    }

    #[test]
    fn names_are_in_the_order_of_what_was_written() {
        let names = Names::of("web.log");
        let first = Date::after(None, 1_700_000_000_123);
        assert_eq!(names.old(first), date::format("[web__]YYYY-MM-DD_HH-mm-ss-SSS[.log]", 1_700_000_000_123));
        assert_eq!(Date::after(Some(first), 1_700_000_000_124).0, first.0 + 1);
        // At the same moment, and after the clock was set back.
        for moment in [1_700_000_000_123, 5, 0] {
            let next = Date::after(Some(first), moment);
            assert!(next > first && names.old(next) > names.old(first));
        }
        let odd = Date(20_260_131_235_959_999);
        assert_eq!(names.old(Date::after(Some(odd), 0)), "web__2026-01-31_23-59-60-000.log");
        assert_eq!(names.read("web__2026-01-31_23-59-60-000.log"), Some((Date(odd.0 + 1), Shape::Plain)));
    }

    #[test]
    fn only_what_looks_exactly_like_an_old_file_is_one() {
        let date = "2026-01-31_23-59-58-123";
        for (file, name, shape) in [
            ("web.log", "web__D.log", Some(Shape::Plain)),
            ("web.log", "web__D.log.gz", Some(Shape::Gz)),
            ("web.log", "web__D.log.gz.tmp", Some(Shape::Begun)),
            ("out", "out__D", Some(Shape::Plain)),
            ("out", "out__D.gz", Some(Shape::Gz)),
            (".hidden", ".hidden__D", Some(Shape::Plain)),
            ("a.b.log", "a.b__D.log", Some(Shape::Plain)),
            ("ä.log", "ä__D.log", Some(Shape::Plain)),
            ("web.log", "web.log", None),
            ("web.log", "web__D.txt", None),
            ("web.log", "web__D.log.bz2", None),
            ("web.log", "web__D.log.gz.gz", None),
            ("web.log", "web-1__D.log", None),
            ("web.log", "web_D.log", None),
            ("web.log", "web__2026-01-31_23-59-58.log", None),
            ("web.log", "web__2026-01-31_23-59-58-12x.log", None),
            ("web.log", "web__ää26-01-31_23-59-58-1.log", None),
        ] {
            let name = name.replace('D', date);
            assert_eq!(Names::of(file).read(&name).map(|(_, shape)| shape), shape, "{file} {name}");
        }
    }

    fn done(keep: u32, gzip: bool, pressing: Option<&str>, there: &[&str]) -> (Vec<String>, Option<String>) {
        let long = |name: &str| match name.split_once('.') {
            Some((day, rest)) => {
                format!("a__2026-01-0{day}_00-00-00-000.log{}", rest.replace("tmp", ".gz.tmp").replace("zip", ".gz"))
            }
            None => name.to_owned(),
        };
        let short = |name: String| {
            name.replace("a__2026-01-0", "")
                .replace("_00-00-00-000.log", ".")
                .replace(".gz.tmp", "tmp")
                .replace(".gz", "zip")
        };
        let (there, pressing): (Vec<String>, _) = (there.iter().map(|name| long(name)).collect(), pressing.map(long));
        let rotate = LogRotate { keep, gzip, ..LogRotate::default() };
        let Chores { remove, press, .. } =
            chores(&Names::of("a.log"), there.iter().map(String::as_str), &rotate, pressing.as_deref());
        (remove.into_iter().map(short).collect(), press.into_iter().next().map(short))
    }

    #[test]
    fn the_newest_are_kept_and_no_other_file_is_touched() {
        let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let all = ["3.", "a.log", "1.", "x", "2.zip", "4."];
        for (keep, remove) in
            [(5, &[][..]), (4, &[]), (3, &["1."]), (2, &["1.", "2.zip"]), (0, &["1.", "2.zip", "3.", "4."])]
        {
            assert_eq!(done(keep, false, None, &all), (strings(remove), None), "{keep}");
        }
        assert_eq!(done(5, false, None, &[]), (vec![], None));
    }

    #[test]
    fn what_a_logger_has_left_half_done_is_finished_by_the_next() {
        let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let some = |name: &str| Some(name.to_owned());
        // The oldest first.
        assert_eq!(done(5, true, None, &["2.", "1.", "3.zip"]), (vec![], some("1.")));
        // Killed in the midst, after it was whole, and with one that was made of nothing that is still there.
        assert_eq!(done(5, true, None, &["1.", "1.tmp"]), (strings(&["1.tmp"]), some("1.")));
        assert_eq!(done(5, true, None, &["1.", "1.zip"]), (strings(&["1."]), None));
        assert_eq!(done(5, true, None, &["1.tmp", "2."]), (strings(&["1.tmp"]), some("2.")));
        // What is just being done is left alone, unless it is to go.
        assert_eq!(done(5, true, Some("1."), &["1.", "1.tmp", "2."]), (vec![], some("2.")));
        assert_eq!(done(5, true, Some("1."), &["1.", "1.tmp", "1.zip"]), (vec![], None));
        assert_eq!(done(1, true, Some("1."), &["1.", "1.tmp", "2."]), (strings(&["1.", "1.tmp"]), some("2.")));
        // No longer wanted: what is begun goes, and what is whole stays.
        assert_eq!(done(5, false, None, &["1.", "1.tmp", "2.zip"]), (strings(&["1.tmp"]), None));
    }
}
