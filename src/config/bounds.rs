//! What bounds an app's output, as values of the file: how many lines, how long they are, and who waits. The logger does it.

use super::Facts;
use super::units;
use super::value::{Refused, Scalar, Word};
use crate::supervisor::event::{Millis, Size};
use crate::supervisor::spec::LogRate;

/// In a shorter time a few lines would be a flood, and in a longer one an app could be silent for most of it.
const SPANS: std::ops::RangeInclusive<Millis> = Millis(1_000)..=Millis(3_600_000);

impl Scalar for LogRate {
    fn expects() -> String {
        "lines in a time from 1s to 1h, as \"1000/s\", \"5000/m\" or \"10000/30s\"".into()
    }

    fn parse(text: &str, _: &Facts) -> Result<LogRate, Refused> {
        let (lines, span) = text.split_once('/').unwrap_or((text, "s"));
        let lines = lines.trim().parse().ok().filter(|lines| *lines > 0);
        // `/s` is one second, as people say it.
        let span = span.trim();
        let one = span.starts_with(|first: char| first.is_ascii_alphabetic());
        let span = units::millis(&if one { format!("1{span}") } else { span.to_owned() });
        let span = span.filter(|span| SPANS.contains(span));
        lines.zip(span).map(|(lines, span)| LogRate { lines, span }).ok_or(Refused::Expected)
    }
}

/// How long a line may be.
pub(super) struct LineMax(pub(super) u32);

/// Less has no room for what stands before a line and some of it.
const LINE_MAX_LEAST: u64 = 256;

/// So much is held of each stream whose line has begun.
const LINE_MAX_MOST: u64 = 1 << 20;

impl Scalar for LineMax {
    fn expects() -> String {
        format!("a size from {LINE_MAX_LEAST} to {}: bytes, or text as \"16K\"", Size(LINE_MAX_MOST))
    }

    fn parse(text: &str, _: &Facts) -> Result<LineMax, Refused> {
        let bytes = units::bytes(text).filter(|bytes| (LINE_MAX_LEAST..=LINE_MAX_MOST).contains(bytes));
        bytes.and_then(|bytes| u32::try_from(bytes).ok()).map(LineMax).ok_or(Refused::Expected)
    }
}

/// `log_on_full`: what becomes of output for a place that takes nothing.
#[derive(Clone, Copy)]
pub(super) enum OnFull {
    Drop,
    Block,
}

impl Word for OnFull {
    const WORDS: &'static [(&'static str, OnFull)] = &[("drop", OnFull::Drop), ("block", OnFull::Block)];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<LogRate> {
        LogRate::parse(text, &Facts::new(1, None, [], Default::default())).ok()
    }

    #[test]
    fn a_rate_is_lines_in_a_time_and_is_written_as_it_is_read() {
        for (text, lines, span, shown) in [
            ("1000/s", 1_000, 1_000, "1000/s"),
            ("1000", 1_000, 1_000, "1000/s"),
            ("10000/30s", 10_000, 30_000, "10000/30s"),
            ("5 / m", 5, 60_000, "5/m"),
            ("5/60s", 5, 60_000, "5/m"),
            ("1/1h", 1, 3_600_000, "1/h"),
            ("7/1500", 7, 1_500, "7/1500ms"),
        ] {
            let rate = read(text);
            assert_eq!(rate, Some(LogRate { lines, span: Millis(span) }), "{text}");
            assert_eq!(rate.map(|rate| rate.to_string()).as_deref(), Some(shown));
            assert_eq!(read(shown), rate);
        }
        for text in ["", "/s", "0/s", "-1/s", "1M/s", "5/", "5/500ms", "5/2h", "5/x", "s", "5/s/s"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
