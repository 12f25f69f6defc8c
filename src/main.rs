//! The words of the command line choose the role; its exit code is the program's.
#![no_main]

use std::ffi::OsString;

use pm3::cli::{self, InitArgs, Next};
use pm3::engine::boot::{self, Plan};
use pm3::engine::run;
use pm3::roles::{logger, probe, watcher};
use pm3::sys::{memory, signals};

pm3::program!(program);

fn program(words: Vec<OsString>) -> u8 {
    memory::keep_no_cache();
    let may_become_init = cli::may_become_init(&words);
    let mut words = words.into_iter().skip(1).peekable();
    // Before the other verbs are loaded: `run` has to be small, and its command's first instruction near.
    if words.next_if(|word| word == "run").is_some() {
        return run::main(words);
    }
    if words.next_if(|word| word == "logger").is_some() {
        return logger::main();
    }
    if words.next_if(|word| word == "watcher").is_some() {
        return watcher::main();
    }
    if words.next_if(|word| word == "probe").is_some() {
        return probe::main(words);
    }
    // PID 1 loses a signal that comes before it cares, and parsing the words takes a while.
    if may_become_init {
        signals::block_all();
    }
    // A container whose whole command is pm3 means: be its init.
    let bare_init = words.peek().is_none() && std::process::id() == 1;
    let next = if bare_init { Next::Init(InitArgs::default()) } else { cli::main(words.collect()) };
    match next {
        Next::Exit(code) => code,
        Next::Init(args) => boot::init(boot_args(args)),
    }
}

fn boot_args(args: InitArgs) -> boot::Args {
    let plan = match args.packed {
        Some(number) => Plan::Packed(number),
        None if args.background => Plan::Empty,
        None => Plan::File { file: args.file, profile: args.env, only: args.only },
    };
    boot::Args { plan, socket: args.socket, ready: args.ready_fd }
}
