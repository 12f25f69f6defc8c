//! The moment at which a line came, in the forms that lines carry. Asked for once for each piece that is read: what comes
//! together has come at the same time.

use std::cell::OnceCell;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};

/// A moment.
#[derive(Debug)]
pub(super) struct Stamp {
    at: SystemTime,
    iso: OnceCell<String>,
}

impl Stamp {
    pub(super) fn now() -> Stamp {
        Stamp { at: SystemTime::now(), iso: OnceCell::new() }
    }

    /// As JSON lines have it: UTC with milliseconds, `2026-01-02T03:04:05.678Z` (RFC 3339).
    pub(super) fn iso(&self) -> &str {
        self.iso.get_or_init(|| DateTime::<Utc>::from(self.at).to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}
