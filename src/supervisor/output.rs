//! Where an app's output goes, in which form, and what of it when it is too much.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::event::Millis;
use super::seldom::Usual;

/// Where an app's output goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Output {
    pub mode: LogMode,
    /// Files that get it instead; `-<id>` is put before the ending where the app has several instances and
    /// `merge` is not set. Both the same path: both streams into one file. [`Output::OWN`] beside `both`: pm3's own.
    pub out: Option<Box<str>>,
    pub err: Option<Box<str>>,
    /// A file that gets both, beside those; and in place of pm3's own where there is no other.
    pub both: Option<Box<str>>,
    pub merge: bool,
}

impl Output {
    /// Names of pm3's own stdout and stderr. They are links, and an app's file is never opened through one.
    pub const OWN: [&str; 2] = ["/dev/stdout", "/dev/stderr"];
}

impl Usual for Output {
    const USUAL: &'static Output = &Output { mode: LogMode::Auto, out: None, err: None, both: None, merge: false };
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogMode {
    /// `Raw` into a file; else `Raw` where there is one app, and `Prefix` where there are several.
    #[default]
    Auto,
    /// The logger passes it on as it is.
    Raw,
    /// The logger puts `id|name |` in front of each line.
    Prefix,
    /// The logger makes a JSON object of each line.
    Json,
    /// The app holds pm3's own stdout and stderr, or its files, itself.
    Inherit,
    /// Nobody reads it: /dev/null, where there is no file.
    None,
}

impl LogMode {
    /// Whether output goes through the logger.
    pub fn is_collected(self) -> bool {
        match self {
            LogMode::Inherit | LogMode::None => false,
            LogMode::Auto | LogMode::Raw | LogMode::Prefix | LogMode::Json => true,
        }
    }
}

/// So many lines an app may write in such a time, all its instances together, as systemd has it for a unit
/// (LogRateLimitBurst= and LogRateLimitIntervalSec=, systemd.exec(5)): what is beyond is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, Millis)", into = "(u32, Millis)")]
pub struct LogRate {
    pub lines: u32,
    pub span: Millis,
}

impl From<(u32, Millis)> for LogRate {
    fn from((lines, span): (u32, Millis)) -> LogRate {
        LogRate { lines, span }
    }
}

impl From<LogRate> for (u32, Millis) {
    fn from(rate: LogRate) -> (u32, Millis) {
        (rate.lines, rate.span)
    }
}

impl fmt::Display for LogRate {
    /// As it stands in a file: `1000/s`, `10000/30s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogRate { lines, span } = self;
        match span.0 {
            1_000 => write!(f, "{lines}/s"),
            60_000 => write!(f, "{lines}/m"),
            3_600_000 => write!(f, "{lines}/h"),
            whole if whole % 1_000 == 0 => write!(f, "{lines}/{}s", whole / 1_000),
            parts => write!(f, "{lines}/{parts}ms"),
        }
    }
}
