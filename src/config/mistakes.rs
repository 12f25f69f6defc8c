//! What is wrong, with its place in a file: collected while reading goes on, bounded, and put in order at the end. And
//! how a file becomes text in the first place.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::tree::Node;
use super::{Mistake, Place};
use crate::supervisor::event::Size;

/// A larger file is not a configuration: reading it ends here.
const TEXT_MAX: u64 = 1 << 20;

/// Nobody reads more mistakes at once.
const MISTAKES_MAX: usize = 100;

/// After this many there is no point in looking for more: the file is something else, and each costs time.
const ENOUGH: usize = 1000;

/// A longer message is cut: no name or value in a file has a bound of its own.
const MESSAGE_MAX: usize = 500;

/// A shown value is cut here.
const SHOWN_MAX: usize = 60;

/// What was read, so that an offset in it becomes a place that people find.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    /// A file's text: line and column.
    Text { file: &'a str, text: &'a str },
    /// What a script exported, as JSON: the way to the value.
    Export { file: &'a str, text: &'a str, tree: &'a Node },
    /// The options of a command line, which say themselves where.
    Options { text: &'a str },
}

impl<'a> Origin<'a> {
    pub(super) fn text(self) -> &'a str {
        match self {
            Origin::Text { text, .. } | Origin::Export { text, .. } | Origin::Options { text } => text,
        }
    }

    pub(super) fn file(self) -> &'a str {
        match self {
            Origin::Text { file, .. } | Origin::Export { file, .. } => file,
            Origin::Options { .. } => "",
        }
    }

    fn place(self, offset: usize) -> Place {
        match self {
            Origin::Text { text, .. } => place(text, offset),
            Origin::Export { tree, .. } => match tree.path(offset) {
                whole if whole.is_empty() => Place::Nowhere,
                path => Place::Path(path),
            },
            Origin::Options { .. } => Place::Nowhere,
        }
    }
}

/// All that is wrong with one file, and with those that it names.
pub(super) struct Mistakes<'a> {
    pub(super) origin: Origin<'a>,
    /// In this file, each with the byte where it is.
    here: Vec<(usize, String)>,
    elsewhere: Vec<Mistake>,
}

impl<'a> Mistakes<'a> {
    pub(super) fn new(origin: Origin<'a>) -> Mistakes<'a> {
        Mistakes { origin, here: Vec::new(), elsewhere: Vec::new() }
    }

    pub(super) fn add(&mut self, offset: usize, text: impl Into<String>) {
        self.here.push((offset, text.into()));
    }

    /// Of the file as a whole.
    pub(super) fn add_at_large(&mut self, text: String) {
        let file = self.origin.file().to_owned();
        self.elsewhere.push(Mistake { file, place: Place::Nowhere, text });
    }

    pub(super) fn add_elsewhere(&mut self, mistake: Mistake) {
        self.elsewhere.push(mistake);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.here.is_empty() && self.elsewhere.is_empty()
    }

    /// Whether to stop looking.
    pub(super) fn are_enough(&self) -> bool {
        self.here.len() + self.elsewhere.len() >= ENOUGH
    }

    /// The place of an offset within a sentence: `line 3`, `apps[0]`.
    pub(super) fn spot(&self, offset: usize) -> String {
        match self.origin.place(offset) {
            Place::Line { line, .. } => format!("line {line}"),
            Place::Path(path) => path,
            Place::Nowhere => "the top".to_owned(),
        }
    }

    /// In order: the file itself, then those that it names. Each line of text is clean and short.
    pub(super) fn into_list(mut self) -> Vec<Mistake> {
        self.here.sort();
        self.here.dedup();
        self.elsewhere.sort();
        self.elsewhere.dedup();
        let all = self.here.len() + self.elsewhere.len();
        self.here.truncate(MISTAKES_MAX);
        let origin = self.origin;
        let here = self.here.into_iter();
        let here = here.map(|(at, text)| Mistake { file: origin.file().to_owned(), place: origin.place(at), text });
        let mut list: Vec<Mistake> = here.chain(self.elsewhere).take(MISTAKES_MAX).collect();
        list = list.into_iter().map(Mistake::cleaned).collect();
        if let Some(last) = list.last_mut().filter(|_| all > MISTAKES_MAX) {
            let more = all - MISTAKES_MAX;
            last.text.push_str(&format!(" (and at least {more} more mistakes)"));
        }
        list
    }
}

impl Mistake {
    /// In one line of bounded length that does nothing to a terminal.
    pub(super) fn cleaned(self) -> Mistake {
        Mistake { text: clean(&self.text), ..self }
    }
}

/// Without line breaks and what could steer a terminal, and of bounded length.
fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len().min(MESSAGE_MAX));
    for (count, letter) in text.chars().enumerate() {
        if count == MESSAGE_MAX {
            clean.push('…');
            break;
        }
        if letter.is_control() { clean.extend(letter.escape_default()) } else { clean.push(letter) }
    }
    clean
}

/// Reads a text file of bounded size.
pub(super) fn text(path: &Path) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(TEXT_MAX + 1).read_to_end(&mut bytes)).map_err(|error| {
        let text = error.to_string();
        // "No such file or directory (os error 2)": a message here starts small and has no number.
        let why = text.split(" (os error").next().unwrap_or_default().to_lowercase();
        Problem { place: Place::Nowhere, why: format!("cannot be read: {why}") }
    })?;
    if bytes.len() as u64 > TEXT_MAX {
        return Err(Problem {
            place: Place::Nowhere,
            why: format!("larger than {}: not a configuration", Size(TEXT_MAX)),
        });
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(error.as_bytes().get(..valid).unwrap_or_default());
        Problem { place: place(&before, valid), why: "not UTF-8 from here on".into() }
    })
}

/// Why a file cannot be used, and where in it.
pub(super) struct Problem {
    pub(super) place: Place,
    pub(super) why: String,
}

impl Problem {
    pub(super) fn at(self, file: &str) -> Mistake {
        Mistake { file: file.to_owned(), place: self.place, text: self.why }
    }
}

/// Line and column of a byte, from 1; within the text, whatever the offset.
pub(super) fn place(text: &str, offset: usize) -> Place {
    let end = (0..=offset.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let before = text.get(..end).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    Place::Line { line: before.matches('\n').count() + 1, col: line.chars().count() + 1 }
}

/// The first line of a text, cut to a length that fits a message.
pub(super) fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let end = line.char_indices().nth(SHOWN_MAX).map_or(line.len(), |(end, _)| end);
    let cut = line.get(..end).unwrap_or_default();
    if cut.len() < text.len() { format!("{cut}…") } else { cut.to_owned() }
}
