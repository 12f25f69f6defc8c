//! The kernel, in small safe pieces: the only home of `unsafe`, nix and libc. Each file wraps one idea and decides
//! nothing; what to do about a result is for the caller. Nothing here panics, waits or logs.

pub mod again;
pub mod append;
pub mod bytes;
pub mod capture;
pub mod cgroup;
pub mod clock;
pub mod diag;
pub mod dirs;
pub mod early;
pub mod ending;
pub mod entry;
pub mod errno;
pub mod fds;
pub mod fork;
pub mod inotify;
pub mod intercept;
pub mod kill;
pub mod local;
pub mod memory;
pub mod out;
pub mod own_lines;
pub mod pidfd;
pub mod place;
pub mod proc;
pub mod ready;
pub mod reap;
pub mod say;
pub mod shelf;
pub mod signals;
pub mod slot;
pub mod socket;
pub mod spawn;
pub mod tty;
mod unwind;
pub mod users;

pub use errno::{passing, why};
