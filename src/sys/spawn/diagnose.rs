//! A closer look at a step that failed, by the child that failed, where the errno alone misleads: "no such file" for a
//! program that is there, because its interpreter is not. Reads the start of the file and allocates nothing.

use std::ffi::{CStr, CString};

use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag};
use nix::unistd::AccessFlags;

use super::record::{Finding, Trouble};
use crate::supervisor::event::Stage;

/// How much of a file is read: the kernel itself looks at 256 bytes of a script; an ELF file's headers come first.
pub(super) const HEAD_MAX: usize = 4096;

/// What to report.
pub(super) struct Diagnosis<'a> {
    pub(super) finding: Finding,
    pub(super) object: &'a [u8],
    /// The missing interpreter.
    pub(super) detail: &'a [u8],
}

pub(super) fn look<'a>(candidates: &'a [CString], trouble: &Trouble<'a>, head: &'a mut [u8]) -> Diagnosis<'a> {
    let plain = Diagnosis { finding: Finding::Nothing, object: trouble.object, detail: &[] };
    if trouble.stage != Stage::Exec {
        // O_NOFOLLOW answers ELOOP for a single link.
        let link = matches!(trouble.stage, Stage::Stdout | Stage::Stderr) && trouble.errno == libc::ELOOP;
        return Diagnosis { finding: if link { Finding::Link } else { Finding::Nothing }, ..plain };
    }
    match trouble.errno {
        libc::ENOENT => match candidates.iter().find(|path| exists(path)) {
            Some(path) => Diagnosis { object: path.to_bytes(), ..missing_interpreter(read_head(path, head)) },
            None if candidates.len() > 1 => {
                let name = trouble.object.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                Diagnosis { finding: Finding::NotInPath, object: name, detail: &[] }
            }
            None => plain,
        },
        libc::EACCES if named(candidates, trouble).is_some_and(is_directory) => {
            Diagnosis { finding: Finding::Directory, ..plain }
        }
        libc::ENOEXEC => match named(candidates, trouble).map(|path| read_head(path, head)) {
            Some(head) if !head.is_empty() && !head.starts_with(ELF) && !head.starts_with(b"#!") => {
                Diagnosis { finding: Finding::NoHashBang, ..plain }
            }
            _ => plain,
        },
        _ => plain,
    }
}

fn named<'a>(candidates: &'a [CString], trouble: &Trouble) -> Option<&'a CStr> {
    candidates.iter().map(CString::as_c_str).find(|path| path.to_bytes() == trouble.object)
}

fn exists(path: &CStr) -> bool {
    nix::unistd::faccessat(nix::fcntl::AT_FDCWD, path, AccessFlags::F_OK, AtFlags::AT_EACCESS).is_ok()
}

fn is_directory(path: &CStr) -> bool {
    nix::sys::stat::stat(path)
        .is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}

/// The file's first bytes; empty if it cannot be read.
fn read_head<'a>(path: &CStr, head: &'a mut [u8]) -> &'a [u8] {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let opened = nix::fcntl::open(path, flags, Mode::empty());
    let len = opened.and_then(|file| nix::unistd::read(file, head)).unwrap_or(0);
    head.get(..len).unwrap_or_default()
}

/// Names the interpreter that the file asks for.
fn missing_interpreter(head: &[u8]) -> Diagnosis<'_> {
    let (finding, detail) = match (hash_bang(head), elf_loader(head)) {
        (Some(interpreter), _) => (Finding::NoInterpreter, interpreter),
        (None, Some(loader)) => (Finding::NoLoader, loader),
        (None, None) => (Finding::Nothing, &[][..]),
    };
    Diagnosis { finding, object: &[], detail }
}

/// The program of a `#!` line (execve(2)).
fn hash_bang(head: &[u8]) -> Option<&[u8]> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let line = head.strip_prefix(b"#!")?.split(|byte| matches!(byte, b'\n' | 0)).next()?;
    line.split(is_blank).find(|word| !word.is_empty())
}

const ELF: &[u8] = b"\x7fELF";

/// The path in a 64-bit ELF file's PT_INTERP segment (elf(5)), in this machine's byte order.
fn elf_loader(head: &[u8]) -> Option<&[u8]> {
    const CLASS_64: u8 = 2;
    const PT_INTERP: u64 = 3;
    let number = |at: usize, len: usize| {
        let mut bytes = [0; 8];
        bytes.get_mut(..len)?.copy_from_slice(head.get(at..at.checked_add(len)?)?);
        Some(u64::from_le_bytes(bytes))
    };
    if !head.starts_with(ELF) || head.get(4) != Some(&CLASS_64) {
        return None;
    }
    let (first, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let headers = (0..count).filter_map(|n| usize::try_from(first.checked_add(n.checked_mul(size)?)?).ok());
    let header = headers.into_iter().find(|at| number(*at, 4) == Some(PT_INTERP))?;
    let start = usize::try_from(number(header.checked_add(8)?, 8)?).ok()?;
    let len = usize::try_from(number(header.checked_add(32)?, 8)?).ok()?;
    head.get(start..start.checked_add(len)?)?.split(|byte| *byte == 0).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_bang_line_is_read_as_the_kernel_does() {
        for (head, expected) in [
            (&b"#!/bin/sh\necho"[..], Some(&b"/bin/sh"[..])),
            (b"#! \t/usr/bin/env node --x\n", Some(b"/usr/bin/env")),
            (b"#!/bin/sh\r\n", Some(b"/bin/sh\r")),
            (b"#!/no/newline", Some(b"/no/newline")),
            (b"#!\n/bin/sh", None),
            (b"# !/bin/sh", None),
            (b"", None),
        ] {
            assert_eq!(hash_bang(head), expected, "{:?}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn the_loader_of_a_program_is_found() {
        let mut elf = vec![0; 64 + 2 * 56];
        elf[..5].copy_from_slice(b"\x7fELF\x02");
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 2;
        elf[64 + 56] = 3;
        elf[64 + 56 + 8] = 176;
        elf[64 + 56 + 32] = 12;
        elf.extend(b"/lib/ld-x.1\0");
        assert_eq!(elf_loader(&elf), Some(&b"/lib/ld-x.1"[..]));
        for len in 0..elf.len() {
            assert_eq!(elf_loader(&elf[..len]), None);
        }
        elf[32..40].fill(0xff);
        assert_eq!(elf_loader(&elf), None);
    }
}
