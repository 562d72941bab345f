//! Tables of files of SQLite, as rows.

use std::io;
use std::path::Path;

use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::lines::Stop;
use super::table::{Columns, Row, named};
use super::{Tally, TraceError};

/// No value, and no row, of a trace has as many bytes.
const LONGEST: i32 = 1 << 20;

/// Hands over every row of a table; bad ones are counted, with their number for a line.
pub(super) fn each_row(
    file: &Path,
    table: &str,
    columns: Columns,
    tally: &Tally,
    mut each: impl FnMut(&Row<'_>) -> Result<(), Stop>,
) -> Result<(), TraceError> {
    // As text, for what it is caused by says the same once more.
    let failed = |error: rusqlite::Error| TraceError::Read {
        file: file.to_owned(),
        source: io::Error::other(error.to_string()),
    };
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, LONGEST).map_err(failed)?;
    // A view could compute for ever.
    let known = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    let known: i64 = connection.query_one(known, [table], |row| row.get(0)).map_err(failed)?;
    if known == 0 {
        let source = io::Error::new(io::ErrorKind::InvalidData, format!("it has no table {table}"));
        return Err(TraceError::Read { file: file.to_owned(), source });
    }
    let mut statement = connection.prepare(&format!("SELECT * FROM \"{table}\"")).map_err(failed)?;
    let names: Vec<&str> = statement.column_names().collect();
    let place = file.join(table);
    let places = match columns {
        Columns::InOrder(names) => names.iter().enumerate().map(|(place, name)| (*name, place)).collect(),
        Columns::Named(required, optional) => named(&place, &names, required, optional)?,
    };
    let width = names.len();
    let mut rows = statement.query([]).map_err(failed)?;
    let mut number = 0;
    while let Some(row) = rows.next().map_err(failed)? {
        number += 1;
        let values: Result<Vec<String>, String> =
            (0..width).map(|column| row.get_ref(column).map_err(|error| error.to_string()).and_then(text)).collect();
        let outcome = values.map_err(Stop::Row).and_then(|values| {
            let fields: Vec<&str> = values.iter().map(|value| value.trim()).collect();
            each(&Row::new(&fields, &places))
        });
        match outcome {
            Ok(()) => {}
            Err(Stop::Row(reason)) => tally.bad(&place, number, reason)?,
            Err(Stop::Run(error)) => return Err(error),
        }
    }
    Ok(())
}

/// A value as CSV has it.
fn text(value: ValueRef<'_>) -> Result<String, String> {
    match value {
        ValueRef::Null => Ok(String::new()),
        ValueRef::Integer(number) => Ok(number.to_string()),
        ValueRef::Real(number) => Ok(number.to_string()),
        ValueRef::Text(bytes) => {
            std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| "it has text that is not UTF-8".to_owned())
        }
        ValueRef::Blob(_) => Err("it has bytes where text or a number must be".to_owned()),
    }
}
