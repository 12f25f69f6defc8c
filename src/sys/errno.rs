//! What an errno means: its text, and whether the trouble may pass by itself. The one place that knows either,
//! so that a message reads the same whichever libc pm3 is linked with, and nobody matches on text.

use std::io;

use nix::errno::Errno;

/// The text of an errno as messages show it: lower case, no full stop (errno(3)).
pub fn why(errno: i32) -> Box<str> {
    match Errno::from_raw(errno) as i32 {
        // What every libc says. The kernel's own comment, "try again", is no reason.
        libc::EAGAIN => "resource temporarily unavailable".into(),
        0 => format!("error {errno}").into(),
        known => lower_first(Errno::from_raw(known).desc()),
    }
}

/// What the kernel says of what is not there (ENOENT).
pub const ABSENT: i32 = Errno::ENOENT as i32;

/// What it says of an address that somebody has (EADDRINUSE).
pub const TAKEN: i32 = Errno::EADDRINUSE as i32;

/// What it says of an argument that means nothing (EINVAL).
pub const UNFIT: i32 = Errno::EINVAL as i32;

/// What a program is told whose call comes to nothing, as it is to end (ECANCELED). None that means something of a port:
/// programs try again then.
pub const CANCELLED: i32 = Errno::ECANCELED as i32;

/// Whether the same call may work later: the machine or a quota is short of something.
pub fn passing(errno: i32) -> bool {
    const PASSING: [Errno; 8] = [
        Errno::EAGAIN,
        Errno::ENOMEM,
        Errno::EMFILE,
        Errno::ENFILE,
        Errno::ETXTBSY,
        Errno::EINTR,
        Errno::ENOSPC,
        Errno::EIO,
    ];
    PASSING.contains(&Errno::from_raw(errno))
}

/// Whether there is no descriptor, or no memory, to open something now: nothing is wrong with what is to be opened.
pub fn is_shortage(errno: i32) -> bool {
    [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM].contains(&Errno::from_raw(errno))
}

/// The errno of an I/O error; 0 where it has none.
pub fn of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

/// `No such file` becomes `no such file`; `I/O error` and `RPC …` stay.
fn lower_first(text: &str) -> Box<str> {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if second.is_ascii_lowercase() || second == ' ' => {
            first.to_lowercase().chain(chars).collect::<String>().into()
        }
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_lower_case_and_the_same_everywhere() {
        for (errno, text) in [
            (libc::ENOENT, "no such file or directory"),
            (libc::EACCES, "permission denied"),
            (libc::EAGAIN, "resource temporarily unavailable"),
            (libc::EIO, "I/O error"),
            (libc::E2BIG, "argument list too long"),
            (libc::EMFILE, "too many open files"),
            (12345, "error 12345"),
            (0, "error 0"),
        ] {
            assert_eq!(&*why(errno), text);
        }
    }

    #[test]
    fn shortages_pass_and_mistakes_do_not() {
        for errno in [libc::EAGAIN, libc::ENOMEM, libc::ETXTBSY, libc::ENFILE] {
            assert!(passing(errno), "{}", why(errno));
        }
        for errno in [libc::ENOENT, libc::EACCES, libc::ENOEXEC, libc::EPERM, libc::ELOOP, 0] {
            assert!(!passing(errno), "{}", why(errno));
        }
    }
}
