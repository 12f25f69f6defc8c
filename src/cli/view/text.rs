//! Text as a terminal shows it: how wide it is, what it must not contain, how it is cut; and PM2's forms of numbers,
//! sizes and times.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::control::Row;

/// Without what moves the reader's cursor, breaks a line, or turns the direction of what follows. Marks that are only
/// invisible stay: some scripts are written with them.
pub(in crate::cli) fn printable(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| (b' '..0x7f).contains(&byte)) || !text.contains(is_unruly) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(
        text.chars().map(|letter| if is_unruly(letter) { char::REPLACEMENT_CHARACTER } else { letter }).collect(),
    )
}

/// What [`printable`] replaces.
pub(in crate::cli) fn is_unruly(letter: char) -> bool {
    let turns =
        matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    letter.is_control() || turns || matches!(letter, '\u{2028}' | '\u{2029}')
}

/// A line of a program's output: without its colours and the like (control sequences of ECMA-48), tabs as blanks, and the
/// rest as [`printable`] leaves it.
pub(in crate::cli) fn output(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\x1b' => skip_sequence(&mut letters),
            '\t' => out.push_str("    "),
            letter => out.push(letter),
        }
    }
    printable(out.trim_end_matches('\r')).into_owned()
}

/// What follows an ESC: `[…m` and its like up to a letter, `]…` (a title) up to BEL or ESC \, or one character.
fn skip_sequence(letters: &mut std::str::Chars<'_>) {
    match letters.next() {
        Some('[') => {
            letters.find(|letter| ('@'..='~').contains(letter));
        }
        Some(']') => {
            if letters.find(|letter| matches!(letter, '\x07' | '\x1b')) == Some('\x1b') {
                letters.next();
            }
        }
        Some(_) | None => {}
    }
}

/// How many columns it takes. An upper bound, where terminals differ.
pub(in crate::cli) fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().map(columns).sum() }
}

/// The columns of one character. Blocks, not single characters: what is rare may leave a border one column early, but
/// never late. From Unicode's EastAsianWidth.txt (W and F) and its combining marks.
fn columns(letter: char) -> usize {
    match letter {
        '\u{0}'..='\u{2ff}' => 1,
        '\u{300}'..='\u{36f}'
        | '\u{591}'..='\u{5bd}'
        | '\u{64b}'..='\u{65f}'
        | '\u{93c}'
        | '\u{94d}'
        | '\u{e31}'
        | '\u{e34}'..='\u{e3a}'
        | '\u{e47}'..='\u{e4e}'
        | '\u{1ab0}'..='\u{1aff}'
        | '\u{1dc0}'..='\u{1dff}'
        | '\u{200b}'..='\u{200d}'
        | '\u{2060}'
        | '\u{20d0}'..='\u{20ff}'
        | '\u{fe00}'..='\u{fe0e}'
        | '\u{fe20}'..='\u{fe2f}'
        | '\u{feff}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{231a}'..='\u{231b}'
        | '\u{2329}'..='\u{232a}'
        | '\u{23e9}'..='\u{23f3}'
        | '\u{25fd}'..='\u{25fe}'
        | '\u{2614}'..='\u{2615}'
        | '\u{2648}'..='\u{2653}'
        | '\u{267f}'
        | '\u{2693}'
        | '\u{26a1}'
        | '\u{26aa}'..='\u{26ab}'
        | '\u{26bd}'..='\u{26be}'
        | '\u{26c4}'..='\u{26c5}'
        | '\u{26ce}'
        | '\u{26d4}'
        | '\u{26ea}'
        | '\u{26f2}'..='\u{26f3}'
        | '\u{26f5}'
        | '\u{26fa}'
        | '\u{26fd}'
        | '\u{2705}'
        | '\u{270a}'..='\u{270b}'
        | '\u{2728}'
        | '\u{274c}'
        | '\u{274e}'
        | '\u{2753}'..='\u{2757}'
        | '\u{2795}'..='\u{2797}'
        | '\u{27b0}'
        | '\u{27bf}'
        | '\u{2b1b}'..='\u{2b1c}'
        | '\u{2b50}'
        | '\u{2b55}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{a960}'..='\u{a97f}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe10}'..='\u{fe19}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{16fe0}'..='\u{1b2ff}'
        | '\u{1f004}'
        | '\u{1f0cf}'
        | '\u{1f18e}'..='\u{1f1ff}'
        | '\u{1f200}'..='\u{1f9ff}'
        | '\u{1fa70}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// At most this wide: cut with a mark where it is wider.
pub(in crate::cli) fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if self::width(text) <= width {
        return Cow::Borrowed(text);
    }
    let mut left = width.saturating_sub(1);
    let kept = text.chars().take_while(|letter| {
        let fits = columns(*letter) <= left;
        left = left.saturating_sub(columns(*letter));
        fits
    });
    let mut kept: String = kept.collect();
    if width > 0 {
        kept.push('…');
    }
    Cow::Owned(kept)
}

/// In pieces of at most this width, so that nothing is lost: at spaces where that is possible. At least one piece, and at
/// least one character in each.
pub(in crate::cli) fn wrap(text: &str, width: usize) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while self::width(rest) > width {
        let mut used = 0;
        let (mut end, mut space) = (0, None);
        for (at, letter) in rest.char_indices() {
            used += columns(letter);
            if used > width && at > 0 {
                break;
            }
            end = at + letter.len_utf8();
            if letter == ' ' && at > 0 {
                space = Some(at);
            }
        }
        // A break at a space that leaves most of the line empty costs more than it helps.
        let fair = space.filter(|at| !rest.get(end..).is_some_and(|rest| rest.starts_with(' ')) && at * 3 >= end);
        let (line, after) = rest.split_at(fair.unwrap_or(end));
        lines.push(line.trim_end());
        rest = after.strip_prefix(' ').unwrap_or(after);
    }
    if !rest.is_empty() || lines.is_empty() {
        lines.push(rest);
    }
    lines
}

/// A span as PM2 prints an uptime: one unit, the largest of which there is more than one.
pub(in crate::cli) fn span(ms: u64) -> String {
    let seconds = ms / 1_000;
    let units = [(365 * 86_400, 'Y'), (30 * 86_400, 'M'), (86_400, 'D'), (3_600, 'h'), (60, 'm')];
    let unit = units.into_iter().find(|(length, _)| seconds / length > 1);
    unit.map_or_else(|| format!("{seconds}s"), |(length, letter)| format!("{}{letter}", seconds / length))
}

/// How long an instance has been online, as PM2 prints it: `0` while it is not.
pub(in crate::cli) fn uptime(row: &Row) -> String {
    if &*row.status == "online" { span(row.uptime_ms) } else { "0".to_owned() }
}

/// A span in words, for sentences: `40 ms`, `1.5 s`, `12 s`, `3 min`, `2 days`.
pub(in crate::cli) fn span_in_words(ms: u64) -> String {
    let counted = |count: u64, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 if ms % 1_000 >= 100 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => counted(ms / 86_400_000, "day", "days"),
    }
}

/// As PM2 prints it: `0b`, `51.5mb`; 1024-based.
pub(in crate::cli) fn memory(bytes: u64) -> String {
    let units = [(1u64 << 40, "tb"), (1 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")];
    match units.into_iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.1}{unit}", bytes as f64 / size as f64),
        None => format!("{bytes}b"),
    }
}

/// Percent of one CPU as PM2 prints it: `0%`, `12.3%`, `150%`.
pub(in crate::cli) fn percent(value: f32) -> String {
    // Not below zero, whatever was measured; NaN as well reads 0.
    let tenths = (f64::from(value) * 10.0).round().max(0.0);
    if tenths % 10.0 == 0.0 { format!("{:.0}%", tenths / 10.0) } else { format!("{:.1}%", tenths / 10.0) }
}

/// A moment, milliseconds since 1970, in UTC: `2026-11-23T10:40:55.825Z`, as JavaScript's `toISOString` writes it.
pub(in crate::cli) fn moment(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let (year, month, day) = date(days);
    let mut text = format!("{year:04}-{month:02}-{day:02}T");
    let (seconds, ms) = (ms / 1_000, ms % 1_000);
    // Writing to a String cannot fail.
    let _ = write!(text, "{:02}:{:02}:{:02}.{ms:03}Z", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    text
}

/// Year, month and day of so many days after 1970-01-01, in the Gregorian calendar. Years begin in March here, so that the
/// leap day is the last of its year; 146097 days are 400 years.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + later, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        assert_eq!(printable("web"), "web");
        assert_eq!(printable("größer 漢字 👍"), "größer 漢字 👍");
        assert_eq!(printable("\x1b[2Jweb\n\u{9b}1m\u{202e}x\u{2028}"), "�[2Jweb��1m�x�");
    }

    #[test]
    fn output_is_shown_without_its_colors() {
        for (line, text) in [
            ("plain", "plain"),
            ("\x1b[1;31mred\x1b[0m and \x1b[38;5;9mmore", "red and more"),
            ("\x1b]0;title\x07a\x1b]8;;url\x1b\\b", "ab"),
            ("a\tb\r", "a    b"),
            ("progress 1\rprogress 2", "progress 1\u{fffd}progress 2"),
            ("cut \x1b[3", "cut "),
            ("cut \x1b", "cut "),
            ("\x1b(B\u{9b}2J", "B\u{fffd}2J"),
        ] {
            assert_eq!(output(line), text, "{line:?}");
        }
    }

    #[test]
    fn width_is_what_terminals_make_of_it() {
        for (text, columns) in
            [("", 0), ("web", 3), ("größer", 6), ("漢字", 4), ("👍", 2), ("e\u{301}", 1), ("한글", 4), ("ﾊ", 1)]
        {
            assert_eq!(width(text), columns, "{text}");
        }
    }

    #[test]
    fn what_is_too_wide_is_cut_with_a_mark() {
        for (text, columns, cut_) in [
            ("worker", 6, "worker"),
            ("worker", 5, "work…"),
            ("worker", 1, "…"),
            ("worker", 0, ""),
            ("漢字漢字", 5, "漢字…"),
            ("漢字漢字", 4, "漢…"),
            ("漢字", 1, "…"),
        ] {
            assert_eq!(cut(text, columns), cut_);
            assert!(width(&cut(text, columns)) <= columns);
        }
    }

    #[test]
    fn wrapping_loses_nothing() {
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(wrap("start failed at chdir", 10), ["start", "failed at", "chdir"]);
        assert_eq!(wrap("/srv/a/very/long/path", 8), ["/srv/a/v", "ery/long", "/path"]);
        assert_eq!(wrap("漢字漢字", 5), ["漢字", "漢字"]);
        assert_eq!(wrap("漢字", 1), ["漢", "字"]);
        for columns in 0..30 {
            let text = "node --max-old-space-size=4096 漢字 server.js --port 3000";
            let lines = wrap(text, columns);
            assert!(lines.iter().all(|line| width(line) <= columns.max(2)), "{lines:?}");
            assert_eq!(lines.concat().replace(' ', ""), text.replace(' ', ""));
        }
    }

    #[test]
    fn uptime_has_one_unit() {
        for (seconds, text) in [
            (0, "0s"),
            (23, "23s"),
            (119, "119s"),
            (120, "2m"),
            (7_199, "119m"),
            (7_200, "2h"),
            (172_800, "2D"),
            (60 * 86_400, "2M"),
            (730 * 86_400, "2Y"),
        ] {
            assert_eq!(span(seconds * 1_000 + 1), text);
        }
        let row = |status: &str| Row { status: status.into(), ..Row::default() };
        assert_eq!((uptime(&row("online")), uptime(&row("stopped"))), ("0s".into(), "0".into()));
    }

    #[test]
    fn spans_are_read_aloud() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1 s"),
            (1_099, "1 s"),
            (1_500, "1.5 s"),
            (12_900, "12 s"),
            (119_999, "119 s"),
            (120_000, "2 min"),
            (7_200_000, "2 h"),
            (172_800_000, "2 days"),
        ] {
            assert_eq!(span_in_words(ms), text);
        }
    }

    #[test]
    fn memory_is_printed_as_pm2_does() {
        for (bytes, text) in [
            (0, "0b"),
            (1_023, "1023b"),
            (1_024, "1.0kb"),
            (54_001_664, "51.5mb"),
            (3 << 30, "3.0gb"),
            (u64::MAX, "16777216.0tb"),
        ] {
            assert_eq!(memory(bytes), text);
        }
    }

    #[test]
    fn percent_has_a_digit_where_it_tells_something() {
        for (value, text) in [
            (0.0, "0%"),
            (0.04, "0%"),
            (12.34, "12.3%"),
            (99.97, "100%"),
            (250.0, "250%"),
            (-1.0, "0%"),
            (f32::NAN, "0%"),
        ] {
            assert_eq!(percent(value), text);
        }
    }

    #[test]
    fn moments_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_795_430_455_825, "2026-11-23T10:40:55.825Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(moment(ms), text);
        }
    }
}
