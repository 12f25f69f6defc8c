//! The control socket against clients of all manners: one who behaves is always answered, whatever the others do, and
//! the others get no more than their share.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, reason = "tests")]

#[path = "control/apps.rs"]
mod apps;
#[path = "control/besieged.rs"]
mod besieged;
mod common;
#[path = "control/desk.rs"]
mod desk;
#[path = "control/manners.rs"]
mod manners;
#[path = "control/places.rs"]
mod places;
#[path = "control/real.rs"]
mod real;
#[path = "control/rights.rs"]
mod rights;
