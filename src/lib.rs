//! pm3: a process manager with PM2's command line, made to be PID 1. This page is the map of the source.
//!
//! pm3 reaps, forwards signals and supervises apps: those of a file as PID 1 of a container, of a dyno or of a tiny VM;
//! those that clients bring, in the background of any machine. One static binary, one thread in init, no async runtime.
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
//! An **app** is an entry of a file, or what a client has brought. An **instance** is one of its N places, with a stable
//! id. A **run** is one process lifetime in an instance, which has two during a reload; its id is never reused, and pids
//! are resolved to runs in one place (`engine::runs`). A **role** is a helper process that init starts of its own
//! program, for what init must not do; it may die at any time and is replaced. A **slot** is a listening socket of init's
//! that belongs to one half of an instance and is lent to its run. A **client** is a `pm3 VERB`.
//!
//! # Reading order
//!
//! - [`supervisor`]: what pm3 decides: the states, restart policy, reloads, order, what clients ask for, endings.
//!   `supervisor::spec` is an app as plain data, the form in which it travels from files and clients to init.
//! - [`config`]: TOML, JSON, YAML, JavaScript or options to that form, and back to TOML; one table of keys for all.
//! - [`control`]: the protocol of the control socket, and where the socket is.
//! - [`sys`]: the kernel in small safe pieces; the only home of `unsafe`, nix and libc. pm3's own lines are there, too.
//! - [`engine`]: the loop of init, the effects, the server, the roles; `engine::run` is `pm3 run`.
//! - [`roles`]: the helper processes; their end of their line to init. `roles::logger` moves what apps write,
//!   `roles::watcher` sees that their files change, `roles::probe`
//!   looks once whether an app is well.
//! - [`cli`]: the command line: `cli::verbs` a file for each verb, `cli::view` what they print.
//!
//! Allowed imports: supervisor → nothing; config, control → supervisor; sys → `supervisor::event`; roles, engine,
//! cli → supervisor, config, control, sys. Nobody imports cli or roles but the program, and no role another.
//! `tests/tidy.rs` checks it.
//!
//! # What holds
//!
//! - Init never waits for anyone whom it supervises: starts, replies and log lines go through descriptors that do not
//!   block, and what is slow is cut off.
//! - Signals stay blocked for life and are read from a descriptor. In one wake-up signals come before ends, ends before
//!   clients.
//! - Apps are taken all or none: the client checks each, init the whole that they make together, before anything changes.
//! - Every list and buffer has a bound, at one place, with its reason.
//! - Operating errors are values. A broken invariant is an assertion in tests and one line in production.
//! - Idle, pm3 wakes zero times: the only timer is `supervisor.deadline()`.
//!
//! # What is absent, on purpose
//!
//! - Parsing in init. A file is read in a forked child that sends back the packed plan, and JavaScript by node in a child
//!   of that; options, files and regular expressions of verbs are the client's affair, and init hears ids and plain data.
//!   `pm3 run` parses its few flags by hand.
//! - Two apps of one name. A name is what people type: so the second gets a name of its own, and only when asked for.
//! - A `start` that restarts. It may be repeated, by people and by scripts, and what runs goes on.
//! - Two halves that are open for ever. The slot of a half without a run is closed as soon as that changes no other slot's
//!   number, or somebody comes late to it: whatever waits there would wait for a reload.
//! - Effects for sockets. Which slots there are and who gets connections follows from the supervisor's state after each
//!   step (`supervisor::station`), so no transition can forget it. One moment is told: when a spare is given the slots of an
//!   instance that has died (`supervisor::standby`).
//! - A second run on trust. A reload keeps the old run until the new one has lived; where both cannot be at once, as with
//!   a port, it is a restart and says so.
//! - Pipes that outlive runs. Each run has its own, and init holds the reading ends: so the end of a pipe is the end of
//!   all who could write into it, and a process that a run left behind cannot write into its successor's output.
//! - splice into files. It refuses those that are appended to (O_APPEND), and only they stay right when somebody else
//!   empties them; bytes are copied into a file in any case. Between pipes it is used, for what nobody has to see.
//! - pidfds of init's children. It reaps them in one place, so a pid it has not reaped cannot be someone else's, and a
//!   descriptor an instance is a thousand descriptors. Only a main process that an app has named (`engine::moved`) has
//!   one, as it may be another's child.
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
pub mod roles;
pub mod supervisor;
pub mod sys;

/// For unit tests, the same as for the others.
#[cfg(test)]
#[allow(clippy::unwrap_used, unreachable_pub, reason = "it is made for tests")]
#[path = "../tests/common/dir.rs"]
mod dir;
