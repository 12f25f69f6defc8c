//! What must happen before Rust's runtime starts. It ignores SIGPIPE, and with that forgets whether whoever started
//! pm3 had; and it aborts where one of the descriptors 0 to 2 is closed and there is no /dev/null. So a constructor
//! (`.init_array`, run by the C library before `main`) notes the first and mends the second. It may do nothing else:
//! no allocation, no output, no failure.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering};

use super::signals::{self, Inherited};

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

static MASK: AtomicU64 = AtomicU64::new(0);
static IGNORED: AtomicU64 = AtomicU64::new(0);

extern "C" fn before_main() {
    let Inherited { mask, ignored } = signals::current();
    MASK.store(mask, Ordering::Relaxed);
    IGNORED.store(ignored, Ordering::Relaxed);
    for fd in 0..=2 {
        mend(fd);
    }
}

/// The signals that were blocked and ignored when this program was executed.
pub(super) fn inherited() -> Inherited {
    Inherited { mask: MASK.load(Ordering::Relaxed), ignored: IGNORED.load(Ordering::Relaxed) }
}

/// Gives a closed `fd` a stand-in, so that no later file takes its number. Lower numbers are taken, so what is opened
/// gets this one.
fn mend(fd: c_int) {
    // SAFETY: F_GETFD takes no pointer.
    let open = unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
    if open {
        return;
    }
    // SAFETY: the path is a C string.
    let null = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
    if null >= 0 {
        return;
    }
    // Without /dev: input that is at its end, and output that answers EBADF as a closed descriptor does.
    if fd == 0 {
        let mut ends = [-1; 2];
        // SAFETY: `ends` has room for two descriptors.
        unsafe { libc::pipe(ends.as_mut_ptr()) };
        let [_, writer] = ends;
        // SAFETY: close takes a number, which nobody else knows.
        unsafe { libc::close(writer) };
    } else {
        // SAFETY: the path is a C string.
        unsafe { libc::open(c"/".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY) };
    }
}
