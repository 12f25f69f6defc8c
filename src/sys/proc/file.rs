//! Reading the small files of /proc without allocating.

use std::ffi::CStr;
use std::fmt::Arguments;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

/// Longer than any path that is asked for here.
const PATH_MAX: usize = 64;

/// What is read at a time. On the stack, where each page that was ever touched counts as init's memory.
const CHUNK: usize = 4096;

/// Calls `then` with a path written on the stack.
pub(in crate::sys) fn with_path<T>(path: Arguments, then: impl FnOnce(&CStr) -> nix::Result<T>) -> nix::Result<T> {
    let mut text = [0u8; PATH_MAX];
    let mut room = text.split_last_mut().map_or(&mut [][..], |(_, room)| room);
    room.write_fmt(path).map_err(|_| Errno::ENAMETOOLONG)?;
    then(CStr::from_bytes_until_nul(&text).map_err(|_| Errno::ENAMETOOLONG)?)
}

pub(in crate::sys) fn open(path: Arguments) -> nix::Result<OwnedFd> {
    with_path(path, |path| nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()))
}

/// The file's text, as far as it fits.
pub(in crate::sys) fn read<'a>(path: Arguments, text: &'a mut [u8]) -> nix::Result<&'a [u8]> {
    fill(&open(path)?, text)
}

/// Reads until the end, or until `text` is full.
pub(in crate::sys) fn fill<'a>(file: &OwnedFd, text: &'a mut [u8]) -> nix::Result<&'a [u8]> {
    let mut len = 0;
    while let Some(room) = text.get_mut(len..).filter(|room| !room.is_empty()) {
        match nix::unistd::read(file, room) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(text.get(..len).unwrap_or_default())
}

/// Calls `found` with each of the file's numbers, which are separated by blanks. None if it cannot be read.
pub(super) fn each_number(path: Arguments, found: &mut impl FnMut(u32)) {
    let Ok(file) = open(path) else { return };
    let mut text = [0; CHUNK];
    // A number may begin in one chunk and end in the next.
    let mut number: Option<u32> = None;
    while let Ok(chunk) = fill(&file, &mut text) {
        for byte in chunk {
            if byte.is_ascii_digit() {
                let digit = u32::from(byte - b'0');
                number = Some(number.unwrap_or(0).saturating_mul(10).saturating_add(digit));
            } else if let Some(number) = number.take() {
                found(number);
            }
        }
        if chunk.is_empty() {
            break;
        }
    }
    if let Some(number) = number {
        found(number);
    }
}

/// Calls `found` with each entry of the directory that is a number.
pub(super) fn each_entry(path: Arguments, found: &mut impl FnMut(u32)) {
    if let Ok(directory) = open(path) {
        each_entry_of(&directory, found);
    }
}

/// The same of a directory that is open.
pub(super) fn each_entry_of(directory: &OwnedFd, found: &mut impl FnMut(u32)) {
    let mut entries = Entries([0; CHUNK]);
    loop {
        let room = &raw mut entries;
        // SAFETY: `room` has CHUNK bytes; the kernel writes no more.
        let read = unsafe { libc::syscall(libc::SYS_getdents64, directory.as_raw_fd(), room, CHUNK) };
        match usize::try_from(read) {
            Ok(len) if len > 0 => {
                names(entries.0.get(..len).unwrap_or_default()).filter_map(number).for_each(&mut *found);
            }
            _ => break,
        }
    }
}

#[repr(C, align(8))]
struct Entries([u8; CHUNK]);

/// The names in a buffer of `struct linux_dirent64` (getdents64(2)).
fn names(mut entries: &[u8]) -> impl Iterator<Item = &[u8]> {
    const LENGTH_AT: usize = 16;
    const NAME_AT: usize = 19;
    std::iter::from_fn(move || {
        let length = entries.get(LENGTH_AT..LENGTH_AT + 2)?.try_into().ok().map(u16::from_ne_bytes)?;
        let (entry, rest) = entries.split_at_checked(length.into())?;
        entries = rest;
        entry.get(NAME_AT..)?.split(|byte| *byte == 0).next()
    })
}

fn number(name: &[u8]) -> Option<u32> {
    str::from_utf8(name).ok().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}
