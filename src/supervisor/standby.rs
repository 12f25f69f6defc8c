//! Spares: instances that are started and held where they open their port, each to take the place of one that dies.

use serde::{Deserialize, Serialize};

use super::spec::AppSpec;
use super::time::Millis;

/// Instances that are started and held where they open their port, each to take the place of one that dies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Standby {
    pub count: u32,
    /// One that has stood by for so long is replaced; zero: never.
    pub max_age: Millis,
}

impl Default for Standby {
    /// An hour: what a program holds open while it stands by, as connections to a database, is closed by others sooner or
    /// later, and its main thread cannot see to it.
    fn default() -> Standby {
        Standby { count: 0, max_age: Millis(3_600_000) }
    }
}

impl AppSpec {
    /// How many spares stand by, besides `instances`.
    pub fn spares(&self) -> u32 {
        self.standby.as_deref().map_or(0, |standby| standby.count)
    }

    /// It has several instances, which need names and files of their own.
    pub fn is_several(&self) -> bool {
        self.instances.saturating_add(self.spares()) > 1
    }
}
