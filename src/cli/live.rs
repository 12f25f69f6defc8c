//! A page that is drawn again and again until ^C (`pm3 list --watch`). It has the terminal's other screen, so that what
//! was there before comes back at the end; it writes only the lines that have changed; and between two frames it waits for
//! signals, so that ^C, ^Z and a new size of the terminal have their effect at once.

use std::io::{self, Write};
use std::time::Duration;

use super::view::Style;
use super::{Exit, Report, style};
use crate::supervisor::event::Sig;
use crate::sys::{signals, tty};

/// Between two frames. PM2 has 0.9 s; a measurement of memory reads a good part of /proc.
const PAUSE: Duration = Duration::from_secs(1);

/// The other screen, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Draws what `page` returns for the terminal as it is then, until the user or a failure of `page` ends it.
pub(super) fn show(mut page: impl FnMut(Style) -> Result<String, Report>) -> Report {
    if style().width.is_none() {
        return Report::failed(Exit::Usage, "--watch needs a terminal to draw on; without it the list is printed once");
    }
    // Before signals are blocked: in the background this stops us, as any program that wants the terminal.
    let quiet = tty::quiet();
    // What comes from here on is taken between two frames; so nothing ends this before the terminal is as it was.
    signals::block_all();
    let mut screen = Screen::default();
    let end = loop {
        let frame = match page(style()) {
            Ok(frame) => frame,
            Err(report) => break report,
        };
        if screen.draw(&frame, tty::size(io::stdout()).map(|(_, rows)| rows.into())).is_err() {
            break Report { out: String::new(), err: String::new(), exit: Exit::OutputLost };
        }
        match signals::next(Some(PAUSE)).map(|received| received.sig) {
            Some(Sig::INT | Sig::TERM | Sig::QUIT | Sig::HUP) => break Report::done(""),
            Some(Sig::TSTP) => {
                screen.leave();
                if let Some(quiet) = &quiet {
                    quiet.undo();
                }
                tty::stop_own_group(Sig::TSTP);
                if let Some(quiet) = &quiet {
                    quiet.redo();
                }
            }
            // Another size, or somebody else has drawn here meanwhile.
            Some(Sig::WINCH | Sig::CONT) => screen.lines.clear(),
            Some(_) | None => {}
        }
    };
    screen.leave();
    end
}

/// What stands on the terminal now.
#[derive(Debug, Default)]
struct Screen {
    entered: bool,
    lines: Vec<String>,
}

impl Screen {
    /// Makes the terminal show this.
    fn draw(&mut self, frame: &str, rows: Option<usize>) -> io::Result<()> {
        let lines = crop(frame, rows);
        let out = changes(&self.lines, &lines, !self.entered);
        self.lines = lines;
        self.entered = true;
        write(&out)
    }

    fn leave(&mut self) {
        if std::mem::take(&mut self.entered) {
            self.lines.clear();
            // The terminal may be gone; there is nobody to tell.
            let _ = write(LEAVE);
        }
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// The lines that the terminal has room for; the last says how many there are besides.
fn crop(frame: &str, rows: Option<usize>) -> Vec<String> {
    let mut lines: Vec<String> = frame.lines().map(str::to_owned).collect();
    if let Some(rows) = rows.filter(|rows| *rows > 0 && lines.len() > *rows) {
        let more = lines.len() - (rows - 1);
        lines.truncate(rows - 1);
        lines.push(format!("… {more} more lines"));
    }
    lines
}

/// What to write so that `new` stands where `old` did. Nothing known of what stands there: all is drawn.
fn changes(old: &[String], new: &[String], enter: bool) -> String {
    let mut out = String::new();
    if enter {
        out += ENTER;
    }
    if old.is_empty() {
        out += "\x1b[2J";
    }
    for (at, line) in new.iter().enumerate() {
        if old.get(at) != Some(line) {
            // Rows count from one.
            out += &format!("\x1b[{};1H{line}\x1b[K", at + 1);
        }
    }
    if old.len() > new.len() {
        out += &format!("\x1b[{};1H\x1b[J", new.len() + 1);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn only_what_has_changed_is_written() {
        let (one, other) = (lines("a\nb\nc"), lines("a\nx\nc"));
        assert_eq!(
            changes(&[], &one, true),
            "\x1b[?1049h\x1b[?25l\x1b[2J\x1b[1;1Ha\x1b[K\x1b[2;1Hb\x1b[K\x1b[3;1Hc\x1b[K"
        );
        assert_eq!(changes(&one, &one, false), "");
        assert_eq!(changes(&one, &other, false), "\x1b[2;1Hx\x1b[K");
        assert_eq!(changes(&one, &lines("a"), false), "\x1b[2;1H\x1b[J");
        assert_eq!(changes(&lines("a"), &one, false), "\x1b[2;1Hb\x1b[K\x1b[3;1Hc\x1b[K");
    }

    #[test]
    fn a_page_that_is_too_long_says_so() {
        assert_eq!(crop("a\nb\nc\n", Some(3)), ["a", "b", "c"]);
        assert_eq!(crop("a\nb\nc\nd\n", Some(3)), ["a", "b", "… 2 more lines"]);
        assert_eq!(crop("a\nb\n", Some(1)), ["… 2 more lines"]);
        assert_eq!(crop("a\nb\n", None), ["a", "b"]);
    }
}
