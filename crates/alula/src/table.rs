//! A table of text: columns as wide as their widest cell, two spaces apart, no lines drawn.
//!
//! Plain enough for `grep` and `awk`; made for tens to thousands of rows that fit into memory.

use crate::output::{Colour, Output, Tone};

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell in a tone.
    pub(crate) fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(Tone::Plain, text)
    }
}

/// A table with a heading.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table with these column titles.
    pub(crate) fn new(titles: &[&str]) -> Self {
        Self { rows: vec![titles.iter().map(|title| Cell::toned(Tone::Strong, *title)).collect()] }
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.into());
    }

    /// Prints it.
    pub(crate) fn print(&self, output: Output) -> std::io::Result<()> {
        self.lines(output.colour).iter().try_for_each(|line| output.line(line))
    }

    /// The lines of the table, without trailing spaces.
    pub(crate) fn lines(&self, colour: Colour) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        self.rows.iter().map(|row| line(row, &widths, colour)).collect()
    }
}

fn line(row: &[Cell], widths: &[usize], colour: Colour) -> String {
    let mut line = String::new();
    for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
        // Control characters in a user's text would move the cursor, not the column.
        let text: String = cell.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        line.push_str(&colour.paint(cell.tone, &text));
        if index + 1 < row.len() {
            let padding = width.saturating_sub(text.chars().count()) + 2;
            line.extend(std::iter::repeat_n(' ', padding));
        }
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let mut table = Table::new(&["NAME", "V"]);
        table.row(["a".into(), "1".into()]);
        table.row(["überlang".into(), "".into()]);
        assert_eq!(table.lines(Colour::Off), ["NAME      V", "a         1", "überlang"]);
    }

    #[test]
    fn colour_does_not_count_as_width() {
        let mut table = Table::new(&["A", "B"]);
        table.row([Cell::toned(Tone::Bad, "x"), "y".into()]);
        assert_eq!(table.lines(Colour::On)[1], "\x1b[31mx\x1b[0m  y");
    }

    #[test]
    fn control_characters_cannot_move_the_cursor() {
        let mut table = Table::new(&["A"]);
        table.row(["a\x1b[2Jb\n".into()]);
        assert_eq!(table.lines(Colour::Off)[1], "a [2Jb");
    }
}
