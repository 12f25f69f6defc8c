//! What a user looks at: data in, text out. Nothing here asks anybody, reads a clock or writes to a terminal, so each
//! page can be shown in a test. Two things hold for all of it: no line is wider than the reader's terminal, where it has
//! one; and what others have written (names, arguments, output, errors) reaches no terminal as anything but text
//! ([`text::printable`]).

pub(super) mod grid;
pub(super) mod jlist;
pub(super) mod json;
pub(super) mod list;
pub(super) mod show;
pub(super) mod sort;
pub(super) mod text;
pub(super) mod why;

/// How the reader sees it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Style {
    /// Columns of the terminal; None where it is none: everything is shown.
    pub(super) width: Option<usize>,
    pub(super) color: bool,
}

/// The colours, which are PM2's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Paint {
    #[default]
    Plain,
    /// Heads of columns, and ids.
    Title,
    /// A heading on a line of its own.
    Heading,
    Bold,
    /// `fork`.
    Inverse,
    Good,
    Coming,
    Passing,
    Bad,
    Faint,
}

impl Paint {
    /// As a parameter of SGR (ECMA-48); None: as it is.
    fn code(self) -> Option<&'static str> {
        match self {
            Paint::Plain => None,
            Paint::Title => Some("1;36"),
            Paint::Heading | Paint::Inverse => Some("1;7"),
            Paint::Bold => Some("1"),
            Paint::Good => Some("1;32"),
            Paint::Coming => Some("1;34"),
            Paint::Passing => Some("1;33"),
            Paint::Bad => Some("1;31"),
            Paint::Faint => Some("90"),
        }
    }

    /// Of a status.
    pub(super) fn of_status(status: &str) -> Paint {
        match status {
            "online" => Paint::Good,
            "launching" | "standby" => Paint::Coming,
            "stopping" | "waiting" | "waiting restart" => Paint::Passing,
            "finished" => Paint::Faint,
            _ => Paint::Bad,
        }
    }
}

impl Style {
    /// Adds `text` in this colour, where there are colours.
    pub(super) fn paint(self, out: &mut String, text: &str, paint: Paint) {
        match paint.code().filter(|_| self.color) {
            Some(code) => {
                for part in ["\x1b[", code, "m", text, "\x1b[0m"] {
                    out.push_str(part);
                }
            }
            None => out.push_str(text),
        }
    }

    /// A heading over a table, in the reversed bar that PM2 has; as wide as there is room for.
    pub(super) fn heading(self, out: &mut String, words: &str) {
        let words = text::cut(words, self.width.unwrap_or(usize::MAX).saturating_sub(2));
        self.paint(out, &format!(" {words} "), Paint::Heading);
        out.push('\n');
    }
}
