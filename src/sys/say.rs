//! Init's own lines on standard error, for env_logger's `Target::Pipe`. Whoever reads them may be slow, stuck or gone,
//! and init may wait for nobody: a line that is not taken at once is lost, and counted, and the count is told when
//! lines are taken again. A closed pipe is no error.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use log::Level;

use super::out::Out;
use super::own_lines::Form;

/// A line longer than this is cut: it is a mistake, and its rest may have to be kept.
const LINE_MAX: usize = 16 << 10;

/// Writes lines to a descriptor and never blocks or fails.
#[derive(Debug)]
pub struct Say {
    out: Out,
    /// The end of a line whose beginning was taken; it goes out first.
    rest: Vec<u8>,
    lost: u64,
    form: Form,
}

/// Lines to standard error.
pub fn stderr() -> Say {
    let out = Out::stderr();
    let form = Form::of(out.is_file());
    Say { out, rest: Vec::new(), lost: 0, form }
}

/// As much as Kubernetes reads of a termination log (`/dev/termination-log`).
pub const LEAVE_MAX: usize = 4096;

/// Leaves a text, and no more of it than [`LEAVE_MAX`], in a file in place of what was there. Through no symbolic link, which an app may have put there; and
/// not waiting for anybody to read it, should it be a FIFO.
///
/// # Errors
/// From open(2) and write(2); ELOOP for a link, ENXIO for a FIFO.
pub fn leave(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    options.open(path)?.write_all(text.get(..LEAVE_MAX).unwrap_or(text))
}

impl Say {
    /// The form of its lines. A file notes no times, as whoever reads a pipe may.
    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// Offers a line, and keeps the end of one that was taken in part. False: nothing of it was taken.
    fn offer(&mut self, line: &[u8]) -> bool {
        let given = self.out.give(line);
        if given > 0 {
            self.rest.extend_from_slice(line.get(given..).unwrap_or_default());
        }
        given > 0
    }

    /// Offers the end of the last line. True: nothing of it is left.
    fn finish(&mut self) -> bool {
        let given = self.out.give(&self.rest);
        self.rest.drain(..given);
        self.rest.is_empty()
    }
}

impl Write for Say {
    /// Takes one line, always whole.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let cut = line.get(..LINE_MAX).filter(|cut| cut.len() < line.len());
        let taken = self.finish()
            && match (self.lost, cut) {
                (0, None) => self.offer(line),
                (lost, cut) => {
                    // In one write, so that the count is told once, and when a line has room again.
                    let lines = if lost == 1 { "line was" } else { "lines were" };
                    let mut told = Vec::new();
                    if lost > 0 {
                        let lost = format_args!("{lost} {lines} lost, stderr did not take them");
                        self.form.write(&mut told, Level::Warn, &lost)?;
                    }
                    let end: &[u8] = if cut.is_some() { b"\n" } else { b"" };
                    self.offer(&[&told, cut.unwrap_or(line), end].concat())
                }
            };
        self.lost = if taken { 0 } else { self.lost.saturating_add(1) };
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.finish();
        Ok(())
    }
}
