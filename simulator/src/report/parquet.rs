//! Tables as files of Apache Parquet.

use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use super::table::{Cell, Content, Table};

/// Writes one row group, every column of which may have nulls.
pub(super) fn write(table: &Table) -> Result<Vec<u8>> {
    let field = |(place, name): (usize, &String)| {
        let (physical, logical) = match table.content(place) {
            Content::Whole => (Physical::INT64, None),
            Content::Real => (Physical::DOUBLE, None),
            Content::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        };
        let field = Type::primitive_type_builder(name, physical).with_logical_type(logical);
        Ok(Arc::new(field.with_repetition(Repetition::OPTIONAL).build()?))
    };
    let fields = table.columns.iter().enumerate().map(field).collect::<Result<Vec<_>>>()?;
    if fields.is_empty() || table.rows.iter().any(|row| row.len() != fields.len()) {
        return Err(ParquetError::General(format!("table {:?} has rows unlike its columns", table.name)));
    }
    let schema = Arc::new(Type::group_type_builder(table.name).with_fields(fields).build()?);
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(WriterProperties::builder().build()))?;
    let mut group = writer.next_row_group()?;
    let mut place = 0;
    while let Some(mut column) = group.next_column()? {
        let cells: Vec<&Cell> = table.rows.iter().map(|row| &row[place]).collect();
        let present: Vec<i16> = cells.iter().map(|cell| i16::from(**cell != Cell::None)).collect();
        let there = cells.into_iter().filter(|cell| **cell != Cell::None);
        match table.content(place) {
            Content::Whole => {
                let values: Vec<i64> =
                    there.filter_map(|cell| if let Cell::Whole(value) = cell { Some(*value) } else { None }).collect();
                column.typed::<Int64Type>().write_batch(&values, Some(&present), None)?;
            }
            Content::Real => {
                let number = |cell: &Cell| match cell {
                    Cell::Whole(value) => *value as f64,
                    Cell::Real(value) => *value,
                    Cell::None | Cell::Text(_) => f64::NAN,
                };
                let values: Vec<f64> = there.map(number).collect();
                column.typed::<DoubleType>().write_batch(&values, Some(&present), None)?;
            }
            Content::Text => {
                let values: Vec<ByteArray> = there.map(|cell| cell.to_string().as_str().into()).collect();
                column.typed::<ByteArrayType>().write_batch(&values, Some(&present), None)?;
            }
        }
        column.close()?;
        place += 1;
    }
    group.close()?;
    writer.into_inner()
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;

    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut table = Table::new("runs", ["policy", "seed", "share"]);
        table.rows.push(vec!["fgd".into(), Cell::Whole(42), 0.5.into()]);
        table.rows.push(vec![Cell::None, Cell::Whole(-1), Cell::Whole(2)]);
        table.rows.push(vec!["größer".into(), Cell::None, Cell::None]);
        let file = write(&table).unwrap();
        assert_eq!(file, write(&table).unwrap(), "the same bytes again");
        let reader = SerializedFileReader::new(bytes::Bytes::from(file)).unwrap();
        let rows: Vec<Vec<Field>> = reader
            .get_row_iter(None)
            .unwrap()
            .map(|row| row.unwrap().get_column_iter().map(|(_, field)| field.clone()).collect())
            .collect();
        let expected = [
            [Field::Str("fgd".to_owned()), Field::Long(42), Field::Double(0.5)],
            [Field::Null, Field::Long(-1), Field::Double(2.0)],
            [Field::Str("größer".to_owned()), Field::Null, Field::Null],
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn an_empty_table_is_a_file_and_a_crooked_one_is_not() {
        let mut table = Table::new("runs", ["policy"]);
        assert!(write(&table).unwrap().starts_with(b"PAR1"));
        table.rows.push(Vec::new());
        assert!(write(&table).is_err());
        assert!(write(&Table::new("none", Vec::<String>::new())).is_err());
    }
}
