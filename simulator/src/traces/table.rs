//! Rows of CSV files: columns by name where a first line has names, else by their order.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::lines::{Stop, each_line};
use super::{Tally, TraceError};

/// Longer than any trace, and far from where numbers of nanoseconds end.
const LATEST_SECONDS: f64 = 100.0 * 366.0 * 86_400.0;

/// The columns that a reader wants.
#[derive(Debug, Clone, Copy)]
pub(super) enum Columns {
    /// All columns of the file, which has no line of names.
    InOrder(&'static [&'static str]),
    /// Those that must be among the names in the first line, and those that may be.
    Named(&'static [&'static str], &'static [&'static str]),
}

/// A row.
#[derive(Debug)]
pub(super) struct Row<'r> {
    fields: &'r [&'r str],
    /// Which column is where.
    places: &'r [(&'static str, usize)],
}

impl<'r> Row<'r> {
    #[cfg(feature = "sqlite")]
    pub(super) fn new(fields: &'r [&'r str], places: &'r [(&'static str, usize)]) -> Self {
        Self { fields, places }
    }

    /// A value; empty if there is none.
    pub(super) fn text(&self, column: &str) -> &'r str {
        let place = self.places.iter().find(|(name, _)| *name == column).map(|(_, place)| *place);
        place.and_then(|place| self.fields.get(place)).copied().unwrap_or_default()
    }

    /// A value that must be there.
    pub(super) fn name(&self, column: &str) -> Result<&'r str, String> {
        match self.text(column) {
            "" => Err(format!("{column} is empty")),
            text => Ok(text),
        }
    }

    /// A whole number.
    pub(super) fn whole<N: FromStr>(&self, column: &str) -> Result<N, String> {
        let text = self.name(column)?;
        text.parse().map_err(|_| format!("{column} is {text:?}: it must be a whole number"))
    }

    /// A number that is not negative.
    pub(super) fn amount(&self, column: &str) -> Result<f64, String> {
        amount(column, self.number(column)?)
    }

    /// Any number.
    pub(super) fn number(&self, column: &str) -> Result<f64, String> {
        let text = self.name(column)?;
        let number = text.parse().ok().filter(|number: &f64| number.is_finite());
        number.ok_or_else(|| format!("{column} is {text:?}: it must be a number"))
    }

    /// A moment, or how long something takes, in seconds.
    pub(super) fn seconds(&self, column: &str) -> Result<Duration, String> {
        seconds(column, self.number(column)?)
    }
}

/// An amount of something: from 0 to 2^40.
pub(super) fn amount(what: &str, number: f64) -> Result<f64, String> {
    match number {
        0.0..=1_099_511_627_776.0 => Ok(number),
        _ => Err(format!("{what} is {number}: it must be from 0 to 2^40")),
    }
}

/// Seconds as a duration: from 0 to a hundred years.
pub(super) fn seconds(what: &str, number: f64) -> Result<Duration, String> {
    match number {
        0.0..=LATEST_SECONDS => Ok(Duration::from_secs_f64(number)),
        _ => Err(format!("{what} is {number}: it must be from 0 to a hundred years")),
    }
}

/// Hands over every row; bad ones are counted.
pub(super) fn each_row(
    files: &[PathBuf],
    columns: Columns,
    tally: &Tally,
    mut each: impl FnMut(&Row<'_>) -> Result<(), Stop>,
) -> Result<(), TraceError> {
    let mut places: Vec<(&'static str, usize)> = Vec::new();
    let mut width = 0;
    if let Columns::InOrder(names) = columns {
        places = names.iter().enumerate().map(|(place, name)| (*name, place)).collect();
        width = names.len();
    }
    each_line(files, tally, |file, first, line| {
        // No field of these traces has a comma in it.
        let fields: Vec<&str> = line.split(',').map(bare).collect();
        if let (true, Columns::Named(required, optional)) = (first, columns) {
            places = named(file, &fields, required, optional)?;
            width = fields.len();
            return Ok(());
        }
        if fields.len() != width {
            return Err(Stop::Row(format!("it has {} columns: there must be {width}", fields.len())));
        }
        each(&Row { fields: &fields, places: &places })
    })
}

fn bare(field: &str) -> &str {
    let field = field.trim();
    field.strip_prefix('"').and_then(|field| field.strip_suffix('"')).unwrap_or(field)
}

/// Where the columns are among the names of a file or table.
pub(super) fn named(
    file: &Path,
    header: &[&str],
    required: &'static [&'static str],
    optional: &'static [&'static str],
) -> Result<Vec<(&'static str, usize)>, TraceError> {
    let place = |name: &&'static str| header.iter().position(|column| column == name).map(|place| (*name, place));
    let mut places = Vec::new();
    for name in required {
        let missing = || TraceError::NoColumn { file: file.to_owned(), column: (*name).to_owned() };
        places.push(place(name).ok_or_else(missing)?);
    }
    places.extend(optional.iter().filter_map(place));
    Ok(places)
}
