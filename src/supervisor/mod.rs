//! Decides what pm3 does. Pure: no I/O, no clock, no randomness, no logging.

pub mod event;
pub mod graph;
pub mod near;
pub mod signal;
pub mod spec;
