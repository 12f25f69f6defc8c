//! Tables with borders, as PM2 draws them. The caller has chosen the columns and their widths; here they are drawn,
//! each cell cut to its column.

use super::text;
use super::{Paint, Style};

/// A cell: its text, fit for a terminal, and its colour.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Cell {
    text: String,
    width: usize,
    paint: Paint,
}

impl Cell {
    pub(in crate::cli) fn new(text: impl AsRef<str> + Into<String>, paint: Paint) -> Cell {
        let text = match text::printable(text.as_ref()) {
            std::borrow::Cow::Borrowed(_) => text.into(),
            std::borrow::Cow::Owned(clean) => clean,
        };
        let width = text::width(&text);
        Cell { text, width, paint }
    }

    pub(in crate::cli) fn plain(text: impl AsRef<str> + Into<String>) -> Cell {
        Cell::new(text, Paint::Plain)
    }

    pub(in crate::cli) fn width(&self) -> usize {
        self.width
    }

    fn draw(&self, out: &mut String, width: usize, style: Style) {
        let text = text::cut(&self.text, width);
        let pad = width.saturating_sub(self.width.min(text::width(&text)));
        // The mark of a cut, and wide letters that do not come out even, leave less than is to be filled.
        style.paint(out, &text, self.paint);
        out.extend(std::iter::repeat_n(' ', pad));
    }
}

/// How wide a table with these columns is, borders included.
pub(in crate::cli) fn breadth(widths: impl Iterator<Item = usize>) -> usize {
    widths.map(|width| width + 3).sum::<usize>() + 1
}

/// A table being drawn: every row has as many cells as there are widths.
#[derive(Debug)]
pub(in crate::cli) struct Grid<'a> {
    out: &'a mut String,
    widths: &'a [usize],
    style: Style,
}

impl<'a> Grid<'a> {
    /// Begins a table with its upper border.
    pub(in crate::cli) fn open(out: &'a mut String, widths: &'a [usize], style: Style) -> Grid<'a> {
        let mut grid = Grid { out, widths, style };
        grid.border('┌', '┬', '┐');
        grid
    }

    pub(in crate::cli) fn row<'c>(&mut self, cells: impl IntoIterator<Item = &'c Cell>) {
        self.out.push('│');
        for (cell, width) in cells.into_iter().zip(self.widths) {
            self.out.push(' ');
            cell.draw(self.out, *width, self.style);
            self.out.push_str(" │");
        }
        self.out.push('\n');
    }

    /// The line below the heads.
    pub(in crate::cli) fn rule(&mut self) {
        self.border('├', '┼', '┤');
    }

    pub(in crate::cli) fn close(mut self) {
        self.border('└', '┴', '┘');
    }

    fn border(&mut self, left: char, cross: char, right: char) {
        for (at, width) in self.widths.iter().enumerate() {
            self.out.push(if at == 0 { left } else { cross });
            self.out.extend(std::iter::repeat_n('─', width + 2));
        }
        self.out.push(right);
        self.out.push('\n');
    }
}

/// A table of names and values, as `show` has: a value that has no room goes on below itself, so that nothing is lost.
pub(in crate::cli) fn pairs<'a>(
    out: &mut String,
    pairs: impl IntoIterator<Item = (&'a str, &'a str, Paint)>,
    style: Style,
) {
    let pairs: Vec<(Cell, String, Paint)> = pairs
        .into_iter()
        .map(|(name, value, paint)| (Cell::plain(name), text::printable(value).into_owned(), paint))
        .collect();
    let names = pairs.iter().map(|(name, ..)| name.width).max().unwrap_or(0);
    let values = pairs.iter().map(|(_, value, _)| text::width(value)).max().unwrap_or(0);
    let room = style.width.map_or(usize::MAX, |width| width.saturating_sub(breadth([0, 0].into_iter())));
    // Names are cut only where values would have next to nothing.
    let names = names.min(room.saturating_sub(values.min(VALUE_MIN))).max(1);
    let widths = [names, values.min(room.saturating_sub(names)).max(1)];
    let mut grid = Grid::open(out, &widths, style);
    for (name, value, paint) in pairs {
        let mut name = name;
        for line in text::wrap(&value, widths[1]) {
            grid.row([&name, &Cell::new(line, paint)]);
            name = Cell::default();
        }
    }
    grid.close();
}

/// What a value has at least, before its name is cut.
const VALUE_MIN: usize = 16;
