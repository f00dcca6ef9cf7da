//! Lists for people: columns that line up, a faint header, and long cells cut to the terminal.

use console::{measure_text_width, truncate_str};

use super::Look;

/// Between two columns.
const GAP: usize = 2;
/// No column is cut below this.
const NARROWEST: usize = 8;

/// Rows with as many cells as the header.
#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    /// The column that gives way when a row is too wide.
    flexible: usize,
}

impl Table {
    /// A table with these columns, of which `flexible` may be cut.
    pub(crate) fn new(header: &[&'static str], flexible: usize) -> Self {
        Self { header: header.to_vec(), rows: Vec::new(), flexible }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Whether it has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, without a line break at the end.
    pub(crate) fn render(&self, look: Look) -> String {
        let mut widths: Vec<usize> =
            self.header.iter().map(|title| measure_text_width(title)).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(measure_text_width(cell));
            }
        }
        let total: usize = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        // Where nobody looks, nothing is cut: a program may read it.
        if look.terminal
            && total > look.width
            && let Some(width) = widths.get_mut(self.flexible)
        {
            *width = width.saturating_sub(total - look.width).max(NARROWEST);
        }
        let line = |cells: &[String]| {
            let mut line = String::new();
            for (i, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                let cell = truncate_str(cell, *width, "…");
                line.push_str(&cell);
                if i + 1 < cells.len() {
                    let fill = width.saturating_sub(measure_text_width(&cell)) + GAP;
                    line.extend(std::iter::repeat_n(' ', fill));
                }
            }
            line.trim_end().to_owned()
        };
        let header: Vec<String> = self.header.iter().map(|title| (*title).to_owned()).collect();
        let mut lines = vec![look.dim(line(&header))];
        lines.extend(self.rows.iter().map(|row| line(row)));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_the_flexible_one_gives_way() {
        let mut table = Table::new(&["ID", "TITLE", "STATE"], 1);
        table.row(vec!["a".into(), "a title that is far too long for this".into(), "done".into()]);
        table.row(vec!["bb".into(), "short".into(), "running".into()]);
        let look = Look { color: false, terminal: true, width: 30 };
        let expected = "ID  TITLE              STATE\n\
                        a   a title that is …  done\n\
                        bb  short              running";
        assert_eq!(table.render(look), expected);
        let wide = table.render(Look { terminal: false, ..look });
        assert!(wide.contains("far too long for this"));
    }
}
