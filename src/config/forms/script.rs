//! A file of apps that is a program: the user's own node evaluates it, in a child that somebody else starts, and what it
//! exports comes back as JSON. What the file prints is not mixed in, however it prints it.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use crate::config::{Mistake, Place};

/// How long node may take, its own start included: that alone is seconds on a small machine with a cold disk.
pub const NODE_PATIENCE: Duration = Duration::from_secs(20);

/// More than this is no plan; it bounds what a file that prints without end may cost.
pub const OUTPUT_MAX: usize = 4 << 20;

/// Runs node with these words, and returns what it wrote to its standard output once that is `complete`, or why it never
/// was. Node's standard error is the caller's own. It must end after [`NODE_PATIENCE`], and read no more than
/// [`OUTPUT_MAX`].
pub type RunNode<'a> = &'a dyn Fn(&[&OsStr], Complete<'_>) -> Result<Vec<u8>, String>;

/// Whether this is all that will come.
pub type Complete<'a> = &'a dyn Fn(&[u8]) -> bool;

const PROGRAM: &str = include_str!("export.js");

const EXPORTS: &str = "\u{1e}pm3 exports ";
const FAILS: &str = "\u{1e}pm3 fails ";

/// Why there is no export, as the program tells it.
#[derive(Deserialize)]
struct Failure {
    why: String,
    file: Option<String>,
    line: Option<usize>,
    col: Option<usize>,
}

/// The JSON of what a file exports. `name` is what messages call it.
pub(in crate::config) fn export(name: &str, file: &Path, node: RunNode<'_>) -> Result<String, Mistake> {
    let nowhere = |text: String| Mistake { file: name.to_owned(), place: Place::Nowhere, text };
    let words = ["-e".as_ref(), PROGRAM.as_ref(), "--".as_ref(), file.as_os_str()];
    let output = node(&words, &|output| said(output).is_some()).map_err(|why| nowhere(format!("node: {why}")))?;
    match said(&output) {
        Some((EXPORTS, json)) => Ok(json.to_owned()),
        Some((_, failure)) => {
            let failure: Failure = serde_json::from_str(failure).map_err(|why| nowhere(format!("node: {why}")))?;
            let Failure { why, file: of, line, col } = failure;
            let place = line.zip(col).map_or(Place::Nowhere, |(line, col)| Place::Line { line, col });
            // The file itself keeps the name that it was given.
            let of = of.filter(|of| Path::new(of) != file).unwrap_or_else(|| name.to_owned());
            Err(Mistake { file: of, place, text: why })
        }
        None => Err(nowhere("node: it ended before the file had exported anything".into())),
    }
}

/// The marked line, once it is whole: its mark and what follows.
fn said(output: &[u8]) -> Option<(&'static str, &str)> {
    // The line comes last, and ends.
    let line = output.strip_suffix(b"\n")?.rsplit(|byte| *byte == b'\n').next()?;
    let line = str::from_utf8(line).ok()?;
    [EXPORTS, FAILS].into_iter().find_map(|mark| Some((mark, line.strip_prefix(mark)?)))
}
