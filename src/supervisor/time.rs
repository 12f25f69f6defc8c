//! Moments and spans. Time is data here: it comes in with each event, and nothing in the supervisor asks for it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment of `CLOCK_MONOTONIC` in nanoseconds. It goes on across a re-exec, and never jumps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mono(pub u64);

impl Mono {
    /// This moment and `span` more; stays at the end of time instead of wrapping.
    pub fn after(self, span: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero if it lies in the future.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A span in whole milliseconds, PM2's unit for plain numbers. Small, because every app holds several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Millis(pub u32);

impl Millis {
    pub const ZERO: Millis = Millis(0);

    /// From one moment to another; zero if that is earlier.
    pub fn between(earlier: Mono, later: Mono) -> Millis {
        Millis(u32::try_from(later.since(earlier).as_millis()).unwrap_or(u32::MAX))
    }

    pub fn span(self) -> Duration {
        Duration::from_millis(u64::from(self.0))
    }
}

/// A time as people write it: `200 ms`, `1.5 s`, `8 s`.
pub struct Span(pub Millis);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Millis(ms) = self.0;
        match (ms / 1_000, ms % 1_000 / 100) {
            (0, _) => write!(f, "{ms} ms"),
            _ if ms % 100 > 0 => write!(f, "{ms} ms"),
            (seconds, 0) => write!(f, "{seconds} s"),
            (seconds, tenths) => write!(f, "{seconds}.{tenths} s"),
        }
    }
}
