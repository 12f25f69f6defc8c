//! `sys` against the real kernel. Forking, reaping and signal masks belong to a whole process, so each test here runs
//! in a process of its own, single-threaded as init is: this program starts itself once for every test (`alone`).
//! What is started in them is the tests' app (`common::app`), which is this program once more. Tests wait for events,
//! never for time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, reason = "tests")]

mod alone;
mod capture;
#[path = "../common/mod.rs"]
mod common;
mod failures;
mod ourselves;
mod signals;
mod start;
mod trees;
mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts what is allocated: some things must do without.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: the system's allocator does it all.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the system's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the system's contract.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// How many times memory was allocated so far.
fn allocations() -> usize {
    ALLOCATIONS.load(Ordering::Relaxed)
}

fn main() -> std::process::ExitCode {
    let tests = [start::TESTS, failures::TESTS, signals::TESTS, trees::TESTS, ourselves::TESTS, capture::TESTS];
    alone::run(&tests, &[trees::PARTS, ourselves::PARTS])
}
