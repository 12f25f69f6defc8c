//! pm3: a process manager for PID 1. This page is the map of the source.
//!
//! As PID 1 of a container, of a dyno or of a tiny VM, pm3 reaps, forwards signals and supervises a fixed set of apps
//! from a file. One static binary, one thread, no async runtime.
//!
//! # Decide, then act
//!
//! [`supervisor`] decides and does nothing: `step(now, event, &mut effects)`, `deadline()`. No I/O, no clock, no
//! randomness. [`engine`] turns the world into events and performs effects; it decides nothing. The seam between them
//! is data (`supervisor::event`), so the simulation under `tests/sim` drives the same supervisor with an invented
//! kernel, and a failure replays from its seed.
//!
//! # Words
//!
//! An **app** is an entry of the file. An **instance** is one of its N places, with a stable id. A **run** is one process
//! lifetime in an instance, which has two during a reload; its id is never reused, and pids are resolved to runs in one
//! place (`engine::runs`).
//!
//! # Reading order
//!
//! - [`supervisor`]: what pm3 decides: the contract, the states, restart policy, order, endings.
//! - [`config`]: TOML, JSON, YAML, JavaScript or options to the plan (`supervisor::spec`); one table of keys for all.
//! - [`control`]: the protocol of the control socket.
//! - [`sys`]: the kernel in small safe pieces; the only home of `unsafe`, nix and libc.
//! - [`engine`]: the loop of init, the effects, the server, the roles; `engine::run` is `pm3 run`.
//! - [`role`]: what the roles have in common. A role is a helper process that init starts of its own program, for what
//!   init must not do; it may die at any time and is replaced.
//! - [`logger`]: the role that moves what apps write. [`watcher`]: the one that sees that their files change.
//! - [`cli`]: the command line. `sys::own_lines`: pm3's own lines on standard error.
//!
//! Allowed imports: supervisor → nothing; config, control → supervisor; sys → `supervisor::event`; engine →
//! supervisor, config, control, sys; roles → those and `role`; cli → all but engine and the roles. `tests/tidy.rs` checks it.
//!
//! # What holds
//!
//! - Init never waits for anyone whom it supervises: starts, replies and log lines go through descriptors that do not
//!   block, and what is slow is cut off.
//! - Signals stay blocked for life and are read from a descriptor. In one wake-up signals come before ends, ends before
//!   clients.
//! - Every list and buffer has a bound, at one place, with its reason.
//! - Operating errors are values. A broken invariant is an assertion in tests and one line in production.
//! - Idle, pm3 wakes zero times: the only timer is `supervisor.deadline()`.
//!
//! # What is absent, on purpose
//!
//! - Pipes that outlive runs. Each run has its own, and init holds the reading ends: so the end of a pipe is the end of
//!   all who could write into it, and a process that a run left behind cannot write into its successor's output.
//! - splice. Lines are to be remembered, so they are read; and through pipes of 64 KiB, reading and writing is faster.
//! - pidfds. Init reaps its children in one place, so a pid it has not reaped cannot be someone else's, and a
//!   descriptor an instance is a thousand descriptors.
//! - Parsing in init. A file is read in a forked child that sends back the packed plan, and JavaScript by node in a child
//!   of that; `pm3 run` parses its few flags by hand.
//! - `kill(-1)`. What is left at the end is found and signalled by pid, so that the same code is right when pm3 is
//!   not PID 1.
//! - Judging a clean end at once. An app that handles the TERM that everybody got leaves with 0 or 143, often before pm3 has
//!   read its own; so ends that a stop signal may have caused wait for the settle time before a restart.
//! - A stop signal to the whole tree. It goes to the main process, which knows how to drain its workers; what outlives
//!   it gets the signal next, and SIGKILL reaches all.

#[cfg(not(target_pointer_width = "64"))]
compile_error!("pm3 is written for 64-bit Linux: tokens and times count to more than 32 bits");

pub mod cli;
pub mod config;
pub mod control;
pub mod engine;
pub mod logger;
pub mod role;
pub mod supervisor;
pub mod sys;
pub mod watcher;
