//! JSON for programs: pm3's own form of what the pages show, and PM2's `jlist`, which other tools read. Values come as they
//! are: what a terminal must not see is escaped.

use std::fmt::Write as _;

use serde::Serialize;

use super::text;

/// A value as JSON that a person can read too, with a newline.
pub(in crate::cli) fn pretty<T: Serialize>(value: &T) -> String {
    // Plain data with text for keys: writing it cannot fail.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    tame(text)
}

/// A value as JSON in one line.
pub(in crate::cli) fn line<T: Serialize>(value: &T) -> String {
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    tame(text)
}

/// JSON itself escapes the control characters of ASCII alone.
fn tame(text: String) -> String {
    let is_wild = |letter: char| letter != '\n' && text::is_unruly(letter);
    if !text.contains(is_wild) {
        return text;
    }
    text.chars().fold(String::with_capacity(text.len() + 64), |mut out, letter| {
        if is_wild(letter) {
            // All of them are below U+10000. Writing to a String cannot fail.
            let _ = write!(out, "\\u{:04x}", u32::from(letter));
        } else {
            out.push(letter);
        }
        out
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn json_is_json_and_safe_to_look_at() {
        let names = ["\u{1b}[2J", "\u{9b}2J", "\u{7f}", "\u{202e}", "größer 漢字", "a\nb"];
        let text = pretty(&names);
        assert!(!text.contains(|letter| letter != '\n' && text::is_unruly(letter)), "{text}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), names);
        assert!(text.contains("größer 漢字"));
    }
}
