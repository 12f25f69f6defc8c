//! Performs what the supervisor decides: turns the world into events and effects into system calls.

pub mod server;
