//! From the command line to a role and its exit code; no logic of its own.

fn main() {}
