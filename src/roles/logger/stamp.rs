//! The moment at which a line came, in the forms that lines carry. Asked for once for each piece that is read: what comes
//! together has come at the same time.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat};

use crate::config::date;

/// A moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    /// In milliseconds of Unix time.
    pub(super) unix_ms: u64,
}

impl Stamp {
    pub(super) fn now() -> Stamp {
        // A clock before 1970 has not been set yet.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Stamp { unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX) }
    }

    /// A moment in milliseconds of Unix time.
    pub(super) fn of(unix_ms: u64) -> Stamp {
        Stamp { unix_ms }
    }

    /// As JSON lines have it: UTC with milliseconds, `2026-01-02T03:04:05.678Z` (RFC 3339).
    pub(super) fn iso(&self) -> String {
        let millis = i64::try_from(self.unix_ms).unwrap_or_default();
        DateTime::from_timestamp_millis(millis).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
    }

    /// What stands in front of a line, as PM2 has it: the date, a colon and a blank.
    pub(super) fn dated(&self, format: &str) -> String {
        date::format(format, self.unix_ms) + ": "
    }
}
