//! Rows of text under named columns.
//!
//! Invariant: a table has at least one column, no two of the same name, and every row has a cell for each. All cells are
//! in one buffer, so a table takes little more memory than its CSV form.

use std::collections::HashSet;

use qchost_sdk::Failure;

/// Maximum columns of a table.
pub(crate) const MAX_COLUMNS: usize = 64;
/// Maximum rows of a table.
pub(crate) const MAX_ROWS: usize = 1_000_000;
/// Maximum bytes of all cells together.
pub(crate) const MAX_BYTES: usize = 32 << 20;
/// Maximum bytes of one cell, and of a column's name.
pub(crate) const MAX_CELL: usize = 4 << 10;
/// Maximum cells of a table.
const MAX_CELLS: usize = 8_000_000;

/// Why data cannot be taken, in a sentence that names the row or the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Invalid(pub(crate) String);

impl Invalid {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::invalid_input(invalid.0)
    }
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    columns: Vec<String>,
    text: String,
    /// Where each cell ends in the text.
    ends: Vec<u32>,
}

impl Table {
    pub(crate) fn new(columns: Vec<String>) -> Result<Self, Invalid> {
        if columns.is_empty() || columns.len() > MAX_COLUMNS {
            return Err(Invalid::new(format!(
                "the data has {} columns; 1 to {MAX_COLUMNS} are taken",
                columns.len()
            )));
        }
        let mut seen = HashSet::new();
        for column in &columns {
            if column.is_empty() || column.len() > MAX_CELL || column.chars().any(char::is_control)
            {
                return Err(Invalid::new(
                    "a column's name is empty, too long, or has a control character: the first line has to name the columns",
                ));
            }
            if !seen.insert(column) {
                return Err(Invalid::new(format!("two columns are named \"{column}\"")));
            }
        }
        Ok(Self {
            columns,
            text: String::new(),
            ends: Vec::new(),
        })
    }

    /// Adds a row. Nothing is added if it does not fit.
    pub(crate) fn push<'a>(
        &mut self,
        cells: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), Invalid> {
        let number = self.rows().saturating_add(1);
        let (text, cells_before) = (self.text.len(), self.ends.len());
        let pushed = self.push_cells(number, cells);
        if pushed.is_err() {
            self.text.truncate(text);
            self.ends.truncate(cells_before);
        }
        pushed
    }

    fn push_cells<'a>(
        &mut self,
        number: usize,
        cells: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), Invalid> {
        if number > MAX_ROWS || self.ends.len().saturating_add(self.columns.len()) > MAX_CELLS {
            return Err(Invalid::new(format!(
                "the data has more than {} rows, which is the most of one version: split it into several data sets",
                number.saturating_sub(1)
            )));
        }
        let mut count = 0_usize;
        for cell in cells {
            count = count.saturating_add(1);
            if cell.len() > MAX_CELL {
                return Err(Invalid::new(format!(
                    "row {number} has a cell of more than {MAX_CELL} bytes"
                )));
            }
            self.text.push_str(cell);
            let end = u32::try_from(self.text.len()).ok();
            match end.filter(|_| self.text.len() <= MAX_BYTES) {
                Some(end) => self.ends.push(end),
                None => {
                    return Err(Invalid::new(format!(
                        "the data has more than {} MiB, which is the most of one version",
                        MAX_BYTES >> 20
                    )));
                }
            }
        }
        if count != self.columns.len() {
            return Err(Invalid::new(format!(
                "row {number} has {count} cells, and there are {} columns",
                self.columns.len()
            )));
        }
        Ok(())
    }

    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(crate) fn rows(&self) -> usize {
        self.ends.len() / self.columns.len().max(1)
    }

    /// The place of a column; the error names those that there are.
    pub(crate) fn column(&self, name: &str) -> Result<usize, Invalid> {
        let found = self.columns.iter().position(|column| column == name);
        found.ok_or_else(|| {
            Invalid::new(format!(
                "there is no column \"{name}\"; the data has: {}",
                self.columns.join(", ")
            ))
        })
    }

    /// A cell; empty where there is none.
    pub(crate) fn cell(&self, row: usize, column: usize) -> &str {
        let at = row
            .saturating_mul(self.columns.len())
            .saturating_add(column);
        let offset = |at: usize| {
            let end = self.ends.get(at).copied().unwrap_or_default();
            usize::try_from(end).unwrap_or_default()
        };
        let start = at.checked_sub(1).map_or(0, offset);
        self.text.get(start..offset(at)).unwrap_or_default()
    }

    /// The cells of a row.
    pub(crate) fn row(&self, row: usize) -> impl Iterator<Item = &str> {
        (0..self.columns.len()).map(move |column| self.cell(row, column))
    }
}

/// The finite number that a cell holds.
pub(crate) fn number(cell: &str) -> Option<f64> {
    cell.parse().ok().filter(|it: &f64| it.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::new(vec!["time".into(), "close".into()]).unwrap()
    }

    #[test]
    fn a_cell_is_found_by_row_and_column() {
        let mut table = table();
        table.push(["a", "1.5"]).unwrap();
        table.push(["", "x"]).unwrap();
        assert_eq!(table.rows(), 2);
        assert_eq!(table.row(0).collect::<Vec<_>>(), ["a", "1.5"]);
        assert_eq!(table.row(1).collect::<Vec<_>>(), ["", "x"]);
        assert_eq!(table.cell(7, 7), "");
    }

    #[test]
    fn a_row_of_another_length_is_refused_by_its_number_and_leaves_nothing() {
        let mut table = table();
        table.push(["a", "1"]).unwrap();
        let before = table.clone();
        for row in [&["b"][..], &["b", "1", "2"], &[]] {
            let refused = table.push(row.iter().copied()).unwrap_err();
            assert!(refused.0.starts_with("row 2 has"), "{refused}");
            assert_eq!(table, before);
        }
        let long = "x".repeat(MAX_CELL + 1);
        assert!(table.push(["b", long.as_str()]).is_err());
        assert_eq!(table, before);
    }

    #[test]
    fn columns_have_names_and_each_its_own() {
        assert!(Table::new(Vec::new()).is_err());
        assert!(Table::new(vec!["a".into(), "a".into()]).is_err());
        assert!(Table::new(vec!["a".into(), String::new()]).is_err());
        assert!(Table::new((0..=MAX_COLUMNS).map(|it| it.to_string()).collect()).is_err());
        let missing = table().column("price").unwrap_err();
        assert!(missing.0.ends_with("the data has: time, close"));
    }

    #[test]
    fn infinity_is_not_a_number() {
        assert_eq!(number("inf"), None);
        assert_eq!(number("NaN"), None);
        assert_eq!(number("-1e3"), Some(-1000.0));
    }
}
