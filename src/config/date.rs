//! Dates in front of lines, in the formats that PM2's users write (moment.js: "Display, Format"). Pure: the moment is
//! passed in; the time zone is the machine's (`$TZ`, /etc/localtime).
//!
//! Tokens: `YYYY YY MMMM MMM MM M DD D dddd ddd HH H hh h mm m ss s SSS SS S A a ZZ Z X x`; text in square brackets stands
//! for itself, and so does everything that is no letter.

use std::fmt::Write;

use chrono::format::{DelayedFormat, StrftimeItems};
use chrono::{DateTime, Local, Offset, Timelike};

/// What `time = true` means.
pub const USUAL: &str = "YYYY-MM-DDTHH:mm:ss";

/// The tokens, longer ones before those that they begin with, and what they are for chrono (strftime(3)); those without are
/// written here.
const TOKENS: [(&str, Option<&str>); 25] = [
    ("YYYY", Some("%Y")),
    ("YY", Some("%y")),
    ("MMMM", Some("%B")),
    ("MMM", Some("%b")),
    ("MM", Some("%m")),
    ("M", Some("%-m")),
    ("DD", Some("%d")),
    ("D", Some("%-d")),
    ("dddd", Some("%A")),
    ("ddd", Some("%a")),
    ("HH", Some("%H")),
    ("H", Some("%-H")),
    ("hh", Some("%I")),
    ("h", Some("%-I")),
    ("mm", Some("%M")),
    ("m", None),
    ("ss", Some("%S")),
    ("s", None),
    ("SSS", Some("%3f")),
    ("SS", None),
    ("S", None),
    ("A", Some("%p")),
    ("a", Some("%P")),
    ("ZZ", Some("%z")),
    ("Z", Some("%:z")),
];

/// A part of a format.
enum Part<'a> {
    Token(&'a str, Option<&'static str>),
    Text(&'a str),
}

/// The first part of a format, and what follows it. None: a letter that is no token.
fn part(format: &str) -> Option<(Part<'_>, &str)> {
    if let Some((text, rest)) = format.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return Some((Part::Text(text), rest));
    }
    if let Some((token, to)) = TOKENS.iter().find(|(token, _)| format.starts_with(token)) {
        return Some((Part::Token(token, *to), format.get(token.len()..)?));
    }
    // Seconds and milliseconds since 1970, and moment's habit of a T between date and time.
    let length = format.chars().next()?.len_utf8();
    let (first, rest) = format.split_at_checked(length)?;
    match first {
        "X" | "x" => Some((Part::Token(first, None), rest)),
        "T" => Some((Part::Text(first), rest)),
        _ if first.starts_with(|letter: char| letter.is_ascii_alphabetic()) => None,
        _ => Some((Part::Text(first), rest)),
    }
}

/// Whether a format can be written.
///
/// # Errors
/// What is no token, and which ones there are.
pub fn check(format: &str) -> Result<(), String> {
    let mut rest = format;
    while !rest.is_empty() {
        let Some((_, after)) = part(rest) else {
            let letter: String = rest.chars().take(1).collect();
            let tokens: Vec<&str> = TOKENS.iter().map(|(token, _)| *token).chain(["X", "x"]).collect();
            return Err(format!("{letter} means nothing in a date; there is {}, and [text]", tokens.join(" ")));
        };
        rest = after;
    }
    Ok(())
}

/// What the clocks on the wall show at a moment, both in milliseconds: as if 1970 had begun at midnight there.
pub fn local(unix_ms: u64) -> u64 {
    let millis = i64::try_from(unix_ms).unwrap_or_default();
    let moment = DateTime::from_timestamp_millis(millis).unwrap_or_default().with_timezone(&Local);
    let ahead = i64::from(moment.offset().fix().local_minus_utc()) * 1_000;
    unix_ms.saturating_add_signed(ahead)
}

/// A moment, in milliseconds of Unix time, in this format. What is no token stays as it is.
pub fn format(format: &str, unix_ms: u64) -> String {
    let millis = i64::try_from(unix_ms).unwrap_or_default();
    let moment = DateTime::from_timestamp_millis(millis).unwrap_or_default().with_timezone(&Local);
    let (mut out, mut rest) = (String::new(), format);
    while let Some(next) = rest.chars().next() {
        let (part, after) = part(rest).unwrap_or_else(|| {
            let (text, after) = rest.split_at_checked(next.len_utf8()).unwrap_or((rest, ""));
            (Part::Text(text), after)
        });
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Token(_, Some(item)) => {
                let written: DelayedFormat<StrftimeItems<'_>> = moment.format(item);
                let _ = write!(out, "{written}");
            }
            Part::Token(token, None) => {
                let _ = match token {
                    "m" => write!(out, "{}", moment.minute()),
                    "s" => write!(out, "{}", moment.second()),
                    "SS" => write!(out, "{:02}", millis.rem_euclid(1_000) / 10),
                    "S" => write!(out, "{}", millis.rem_euclid(1_000) / 100),
                    "X" => write!(out, "{}", millis.div_euclid(1_000)),
                    _ => write!(out, "{millis}"),
                };
            }
        }
        rest = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-02-03 04:05:06.078 local time, whichever that is.
    fn moment() -> (u64, DateTime<Local>) {
        let local = chrono::NaiveDate::from_ymd_opt(2026, 2, 3).and_then(|day| day.and_hms_milli_opt(4, 5, 6, 78));
        let local = local.and_then(|local| local.and_local_timezone(Local).earliest()).unwrap_or_default();
        (local.timestamp_millis().unsigned_abs(), local)
    }

    #[test]
    fn dates_are_written_as_moment_does() {
        let (at, local) = moment();
        for (text, expected) in [
            ("YYYY-MM-DD HH:mm:ss", "2026-02-03 04:05:06"),
            (USUAL, "2026-02-03T04:05:06"),
            ("YY/M/D h:m:s.SSS a", "26/2/3 4:5:6.078 am"),
            ("dddd D MMMM, ddd MMM, hh A", "Tuesday 3 February, Tue Feb, 04 AM"),
            ("S SS SSS", "0 07 078"),
            ("[YYYY at] HH[h]", "YYYY at 04h"),
            ("", ""),
            ("[", "["),
            ("ä…", "ä…"),
        ] {
            assert_eq!(format(text, at), expected, "{text}");
            assert_eq!(check(text), Ok(()), "{text}");
        }
        assert_eq!(format("Z|ZZ", at), local.format("%:z|%z").to_string());
        assert_eq!(format("X x", at), format!("{} {at}", at / 1_000));
    }

    #[test]
    fn the_clocks_on_the_wall_are_as_far_ahead_as_their_zone_says() {
        let (at, moment) = moment();
        assert_eq!(DateTime::from_timestamp_millis(local(at).cast_signed()), Some(moment.naive_local().and_utc()));
    }

    #[test]
    fn what_is_no_token_is_told_and_stays() {
        for (text, letter) in [("YYYY-QQ", "Q"), ("%Y", "Y"), ("hello", "e"), ("Y", "Y")] {
            assert!(check(text).is_err_and(|why| why.starts_with(letter)), "{text}");
        }
        assert_eq!(format("Q%", 0), "Q%");
    }
}
