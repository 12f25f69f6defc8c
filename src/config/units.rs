//! Times, sizes and amounts as people write them, both ways. Plain numbers mean what PM2 means: milliseconds and bytes; sizes
//! count by 1024.

use crate::supervisor::event::{Amount, Millis};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// `250`, `1.5s`, `200ms`, `2m`, `1h30m`, `1d`. None: no time, or more than fits (49 days).
pub fn millis(text: &str) -> Option<Millis> {
    if let Ok(plain) = text.parse::<u32>() {
        return text.starts_with(|first: char| first.is_ascii_digit()).then_some(Millis(plain));
    }
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after) = number(rest)?;
        let letters = after.find(|other: char| !other.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(letters)?;
        let unit = match unit {
            "ms" => 1,
            "s" => SECOND,
            "m" => MINUTE,
            "h" => HOUR,
            "d" => DAY,
            _ => return None,
        };
        total += number * unit as f64;
        rest = after;
    }
    let fits = !text.is_empty() && total <= f64::from(u32::MAX);
    fits.then_some(Millis(total.round() as u32))
}

/// More instances of one app than this are a slip: each is at least a process.
pub(super) const INSTANCES_MAX: u32 = 1024;

/// `3`, `25%`, from 1 on. None: no number of instances.
pub fn amount(text: &str) -> Option<Amount> {
    match text.strip_suffix('%') {
        Some(percent) => percent.parse().ok().filter(|percent| (1..=100).contains(percent)).map(Amount::Percent),
        None => text.parse().ok().filter(|count| (1..=INSTANCES_MAX).contains(count)).map(Amount::Count),
    }
}

/// `20971520`, `20M`, `1.5G`, `512k`, `20MB`, `20MiB`. None: no size.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = number(text)?;
    let unit = unit.to_ascii_uppercase();
    let shift = match unit.as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return None,
    };
    if let (Ok(whole), 0) = (text.parse::<u64>(), shift) {
        return Some(whole);
    }
    let total = number * (1u64 << shift) as f64;
    // The next float above is more than any machine has.
    (total < u64::MAX as f64).then_some(total as u64)
}

/// The shortest way to write a size that [`bytes`] reads as the same: `20M`, `1536K`, `1000`.
pub(super) fn show_bytes(bytes: u64) -> String {
    let fits = |(shift, _): &(u32, &str)| bytes != 0 && bytes.trailing_zeros() >= *shift;
    let unit = [(40, "T"), (30, "G"), (20, "M"), (10, "K")].into_iter().find(fits);
    unit.map_or_else(|| bytes.to_string(), |(shift, letter)| format!("{}{letter}", bytes >> shift))
}

/// A decimal number without sign or exponent at the start of a text, and what follows it.
pub(super) fn number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|other: char| !other.is_ascii_digit() && other != '.').unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    let begins = digits.starts_with(|first: char| first.is_ascii_digit());
    Some((digits.parse().ok().filter(|_| begins)?, rest))
}

/// The shortest way to write a time that [`millis`] reads: `200ms`, `1.5s`, `1m30s`, `2h`.
pub(super) fn show_millis(Millis(span): Millis) -> String {
    let span = u64::from(span);
    let seconds = |ms: u64| match (ms / SECOND, ms % SECOND) {
        (_, 0) => format!("{}s", ms / SECOND),
        (0, part) => format!("{part}ms"),
        (whole, part) => format!("{whole}.{}s", format!("{part:03}").trim_end_matches('0')),
    };
    let mut text = String::new();
    let mut rest = span;
    for (unit, letter) in [(DAY, 'd'), (HOUR, 'h'), (MINUTE, 'm')] {
        if rest >= unit {
            text.push_str(&format!("{}{letter}", rest / unit));
            rest %= unit;
        }
    }
    if rest > 0 || text.is_empty() {
        text.push_str(&seconds(rest));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, ms) in [
            ("0", 0),
            ("1500", 1500),
            ("200ms", 200),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("0.5ms", 1),
            ("4294967295", u32::MAX),
        ] {
            assert_eq!(millis(text), Some(Millis(ms)), "{text}");
        }
        for text in
            ["", "s", "1.5", "+5", "-5", "-5s", "5 s", "1e3", "5sec", "1s2", "inf", "50d", "4294967296", "1..2s"]
        {
            assert_eq!(millis(text), None, "{text:?}");
        }
    }

    #[test]
    fn times_are_shown_as_they_are_read() {
        for (ms, text) in [
            (0, "0s"),
            (1, "1ms"),
            (200, "200ms"),
            (1_000, "1s"),
            (1_500, "1.5s"),
            (1_050, "1.05s"),
            (90_000, "1m30s"),
            (7_200_000, "2h"),
            (86_400_001, "1d1ms"),
        ] {
            assert_eq!(show_millis(Millis(ms)), text);
            assert_eq!(millis(text), Some(Millis(ms)), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, count) in [
            ("0", 0),
            ("1024", 1024),
            ("20M", 20 << 20),
            ("20mb", 20 << 20),
            ("20MiB", 20 << 20),
            ("1.5G", 3 << 29),
            ("512k", 512 << 10),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(bytes(text), Some(count), "{text}");
        }
        for count in [0, 1, 1000, 20 << 20, 3 << 29, 1 << 40, 1025 << 10, u64::MAX] {
            assert_eq!(bytes(&show_bytes(count)), Some(count), "{}", show_bytes(count));
        }
        for text in ["", "M", "-1", "+1", "1e3", "20 M", "20X", "20%", "1.2.3", "99999999999T", "NaN"] {
            assert_eq!(bytes(text), None, "{text:?}");
        }
    }
}
