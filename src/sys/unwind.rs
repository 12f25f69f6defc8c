//! The unwinder of a program that never unwinds. Where a panic aborts, only the standard library's backtraces would walk
//! the stack, through the tables that the release binary leaves out (`.cargo/no-unwind.ld`). So these stand-ins say that
//! there is nothing to see, and the unwinder, the reader of debug information and the demangler behind it are not
//! linked: an eighth of the file. The message of a panic, with its place, is printed as ever.
//!
//! Names and signatures are those of the C++ ABI's level 1 (Itanium C++ ABI: Exception Handling, 1.2 and following).
#![cfg(panic = "abort")]

use std::ffi::{c_int, c_void};

/// `_URC_END_OF_STACK`.
const END_OF_STACK: c_int = 5;

/// Walks no frame.
// SAFETY: the standard library declares it so; its callers take an early end for an answer.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_visit: *const c_void, _argument: *mut c_void) -> c_int {
    END_OF_STACK
}

/// Called at the end of a clean-up while a stack is being unwound, which never begins.
// SAFETY: does not return, as the ABI demands, and reads nothing.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume(_exception: *mut c_void) -> ! {
    std::process::abort()
}

/// Ends a thread from outside (pthread_cancel(3)), which nobody does. With threads, glibc wants it.
// SAFETY: glibc takes a return for a failure and aborts; no argument is read.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_ForcedUnwind(_exception: *mut c_void, _stop: *const c_void, _argument: *mut c_void) -> c_int {
    END_OF_STACK
}

/// What the tables of C functions with a clean-up name; the tables are left out.
// SAFETY: only an unwinder calls it, and there is none.
#[unsafe(no_mangle)]
extern "C" fn __gcc_personality_v0() -> c_int {
    END_OF_STACK
}

/// Nobody has a frame to ask about.
macro_rules! nothing_to_tell {
    ($($name:ident)*) => {$(
        // SAFETY: takes a frame, which nobody gets from `_Unwind_Backtrace`, and reads none of its arguments.
        #[unsafe(no_mangle)]
        extern "C" fn $name(_frame: *mut c_void, _argument: *mut c_void) -> usize {
            0
        }
    )*};
}

nothing_to_tell! {
    _Unwind_GetIP _Unwind_GetIPInfo _Unwind_GetCFA _Unwind_GetLanguageSpecificData _Unwind_GetRegionStart
    _Unwind_GetTextRelBase _Unwind_GetDataRelBase _Unwind_FindEnclosingFunction _Unwind_SetGR _Unwind_SetIP
}
