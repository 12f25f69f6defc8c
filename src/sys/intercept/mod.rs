//! Seeing the calls by which a program becomes a server before they are done, and doing them for it: seccomp's user
//! notification (seccomp_unotify(2)). A child puts a filter on itself that holds `bind` and `listen` of its whole process
//! tree until the listener's owner answers; so a socket of ours can take the place of the one that the program has made.
//!
//! A program is believed nothing: what it passes is copied out of its memory once, and an answer to a call whose maker is
//! gone reaches nobody.

mod caller;
mod calls;
mod filter;

pub use caller::{Caller, Manner, first_unprivileged_port};
pub use calls::{Call, Calls, Next, Wanted};
pub(super) use filter::install;

/// Whether children can be intercepted here, tried in a copy of this process that ends at once. Kernels before 5.9,
/// sandboxes, and whoever has put a filter with a listener on pm3 itself refuse it.
///
/// # Errors
/// Why not, as an errno.
pub fn probe() -> Result<(), i32> {
    let errno = super::fork::ask(|| {
        let usable = install(true).and_then(|listener| calls::can_give(&listener));
        usable.err().map_or(0, |errno| u8::try_from(errno as i32).unwrap_or(u8::MAX))
    });
    match errno {
        Ok(0) => Ok(()),
        Ok(errno) => Err(errno.into()),
        Err(errno) => Err(errno as i32),
    }
}
