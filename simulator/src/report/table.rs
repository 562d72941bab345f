//! Tables, and how they are written.

use std::fmt;

use serde::Serialize;

/// What stands in one place of a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// Nothing.
    None,
    /// A text.
    Text(String),
    /// A whole number.
    Whole(i64),
    /// Any number.
    Real(f64),
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Text(text) => f.write_str(text),
            Self::Whole(number) => number.fmt(f),
            Self::Real(number) => number.fmt(f),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        i64::try_from(number).map_or(Self::Real(number as f64), Self::Whole)
    }
}

/// Rows of cells under names.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    /// Its name, by which files are called.
    pub name: &'static str,
    /// The names of the columns, each once.
    pub columns: Vec<String>,
    /// The rows, each as long as there are columns.
    pub rows: Vec<Vec<Cell>>,
}

/// Of what a column of a [`Table`] is, all of its cells taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Whole numbers and nothing else.
    Whole,
    /// Numbers.
    Real,
    /// Texts, or all kinds of things.
    Text,
}

impl Table {
    /// A table without rows.
    pub fn new(name: &'static str, columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { name, columns: columns.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// What a column holds.
    pub fn content(&self, column: usize) -> Content {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.fold(Content::Whole, |content, cell| match (content, cell) {
            (Content::Text, _) | (_, Cell::Text(_)) => Content::Text,
            (Content::Real, _) | (_, Cell::Real(_)) => Content::Real,
            (Content::Whole, Cell::Whole(_) | Cell::None) => Content::Whole,
        })
    }

    /// The table as CSV (RFC 4180, but for lines that end as Unix has them), with a first line of names.
    ///
    /// # Errors
    /// A row is longer or shorter than the first line.
    pub fn to_csv(&self) -> Result<Vec<u8>, csv::Error> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(&self.columns)?;
        for row in &self.rows {
            writer.write_record(row.iter().map(Cell::to_string))?;
        }
        writer.into_inner().map_err(|error| csv::Error::from(std::io::Error::other(error.to_string())))
    }

    /// The table as a file of Apache Parquet, compressed by nothing. Whole numbers are `INT64`, other numbers `DOUBLE`, texts UTF-8, and
    /// an empty cell is a null.
    ///
    /// # Errors
    /// The table has no columns, or a row is longer or shorter than it has.
    #[cfg(feature = "parquet")]
    pub fn to_parquet(&self) -> Result<Vec<u8>, ::parquet::errors::ParquetError> {
        super::parquet::write(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_quotes_what_must_be_quoted() {
        let mut table = Table::new("t", ["name", "a, b"]);
        table.rows.push(vec!["x \"y\"".into(), 1.5.into()]);
        table.rows.push(vec![Cell::None, Cell::Whole(-3)]);
        let text = String::from_utf8(table.to_csv().unwrap()).unwrap();
        assert_eq!(text, "name,\"a, b\"\n\"x \"\"y\"\"\",1.5\n,-3\n");
        assert_eq!((table.content(0), table.content(1)), (Content::Text, Content::Real));
        table.rows.push(vec![Cell::None]);
        assert!(table.to_csv().is_err());
    }
}
