//! `main` as the C library calls it, without Rust's runtime in between. The runtime would set a signal stack up, ask
//! for the bounds of the stack (which brings scanf and half a megabyte of locale tables into a static binary), ignore
//! SIGPIPE and abort where standard output is closed: 140 kB of file and 20 kB of memory for what pm3 does otherwise.
//! A panic still prints its message and aborts.

use std::ffi::{CStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStringExt;

/// The words of the command line, with the program's name first.
///
/// # Safety
/// `words` must point at `count` C strings, as the C library gives them to `main`.
pub unsafe fn arguments(count: c_int, words: *const *const c_char) -> Vec<OsString> {
    let count = usize::try_from(count).unwrap_or(0);
    let word = |at| {
        // SAFETY: the caller vouches for `count` strings.
        let word = unsafe { CStr::from_ptr(*words.add(at)) };
        OsString::from_vec(word.to_bytes().to_vec())
    };
    (0..count).map(word).collect()
}

/// Makes `$role`, a function of the command line's words that returns the exit code, the program. The crate must be
/// `#![no_main]`.
#[macro_export]
macro_rules! program {
    ($role:path) => {
        // SAFETY: the one function of this name in the program, with the signature that the C library expects.
        #[unsafe(no_mangle)]
        extern "C" fn main(count: ::std::ffi::c_int, words: *const *const ::std::ffi::c_char) -> ::std::ffi::c_int {
            // SAFETY: these are what the C library passes to `main`.
            let words = unsafe { $crate::sys::entry::arguments(count, words) };
            let code: u8 = $role(words);
            ::std::process::exit(code.into())
        }
    };
}
