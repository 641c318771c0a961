//! Tables as kubectl prints them: columns by spaces, no borders, a row a line.

use unicode_width::UnicodeWidthStr as _;

use super::style::{Tone, clean, paint};

const GAP: usize = 3;

/// A cell: one line of text, with a tone where colours are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Option<Tone>,
}

impl Cell {
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self { text: clean(text.as_ref()), tone: None }
    }

    pub(crate) fn tone(mut self, tone: Tone) -> Self {
        self.tone = Some(tone);
        self
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text)
    }
}

/// A table; the rows may come in several parts.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    headers: Vec<&'static str>,
    widths: Vec<usize>,
    rows: Vec<Vec<Cell>>,
    header_shown: bool,
}

impl Table {
    pub(crate) fn new(headers: &[&'static str]) -> Self {
        let widths = headers.iter().map(|header| header.width()).collect();
        Self { headers: headers.to_vec(), widths, rows: Vec::new(), header_shown: false }
    }

    /// Adds a row; it has a cell for each header.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.headers.len());
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.text.width());
        }
        self.rows.push(cells);
    }

    /// The rows since the last call, below the header the first time. A column is never narrower than before.
    pub(crate) fn take(&mut self, color: bool) -> String {
        let mut out = String::new();
        let rows = std::mem::take(&mut self.rows);
        if !self.header_shown {
            self.header_shown = true;
            let headers: Vec<Cell> = self.headers.iter().map(|h| Cell::new(h).tone(Tone::Strong)).collect();
            self.line(&headers, color, &mut out);
        }
        for row in &rows {
            self.line(row, color, &mut out);
        }
        out
    }

    fn line(&self, cells: &[Cell], color: bool, out: &mut String) {
        let mut pending = 0;
        for (cell, &width) in cells.iter().zip(&self.widths) {
            let text = if cell.text.is_empty() { "-" } else { &cell.text };
            out.extend(std::iter::repeat_n(' ', pending));
            out.push_str(&paint(text, cell.tone.filter(|_| color)));
            pending = width.saturating_sub(text.width()) + GAP;
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_by_what_is_seen_and_lines_have_no_tail() {
        let mut table = Table::new(&["NAME", "STATE", "MESSAGE"]);
        table.row(vec!["staging".into(), Cell::new("InSync").tone(Tone::Good), "".into()]);
        table.row(vec!["東京".into(), Cell::new("Failing").tone(Tone::Bad), "a\nb".into()]);
        assert_eq!(
            table.clone().take(false),
            "NAME      STATE     MESSAGE\n\
             staging   InSync    -\n\
             東京      Failing   a b\n"
        );
        let plain = table.clone().take(false);
        let colored = table.take(true);
        assert!(colored.contains("\u{1b}[32mInSync\u{1b}[0m    -"), "{colored:?}");
        let bare = colored.replace("\u{1b}[32m", "").replace("\u{1b}[31m", "").replace("\u{1b}[1m", "");
        assert_eq!(bare.replace("\u{1b}[0m", ""), plain);
    }

    #[test]
    fn later_parts_keep_the_columns_and_leave_out_the_header() {
        let mut table = Table::new(&["A", "B"]);
        table.row(vec!["long-name".into(), "1".into()]);
        assert_eq!(table.take(false), "A           B\nlong-name   1\n");
        table.row(vec!["x".into(), "2".into()]);
        assert_eq!(table.take(false), "x           2\n");
        assert_eq!(table.take(false), "");
    }
}
