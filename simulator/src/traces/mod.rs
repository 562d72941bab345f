//! Readers of published cluster traces: each leads to [`Event`]s.
//!
//! A reader goes through its files once, before the first event. What it finds in the order of arrival streams from there; what it does
//! not is sorted on disk, in the folder for temporary files. In memory is what is alive in the trace at one moment, and 262,144 rows.
//!
//! Rows that are not as they should be are counted by a [`Tally`], with file, line and reason, and reading stops when there are more than
//! it allows. Files may be compressed by gzip, whatever their names.

mod alibaba_2018;
mod azure;
mod google;
mod google_2011;
mod google_2019;
mod kubernetes;
mod lines;
mod openb;
mod pai;
mod shape;
mod sorted;
mod spot;
#[cfg(feature = "sqlite")]
mod sqlite;
mod table;
mod tally;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

pub use alibaba_2018::{Alibaba2018, Spread};
pub use azure::{AzureMachines, AzurePacking};
pub use google_2011::Google2011;
pub use google_2019::Google2019;
pub use kubernetes::Kubernetes;
#[cfg(feature = "control-plane")]
pub(crate) use kubernetes::job_of;
pub use openb::OpenbTimes;
pub use pai::Pai2020;
pub use shape::MachineSize;
pub use spot::Spot2026;
pub use tally::{BadRow, Tally};

use crate::workload::Event;

/// What happens, in the order of time. After an error there is nothing more.
pub type Events = Box<dyn Iterator<Item = Result<Event, TraceError>> + Send>;

/// Why a workload cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder has no file of a table.
    #[error("{} has no {table}: such a file, several that begin like it, or a folder of them are looked for, each also with .gz", .directory.display())]
    NoTable {
        /// The folder.
        directory: PathBuf,
        /// The table's file.
        table: String,
    },
    /// A file's first line, or a table, does not name a column that is needed.
    #[error("{}: there is no column {column}", .file.display())]
    NoColumn {
        /// The file.
        file: PathBuf,
        /// The column.
        column: String,
    },
    /// More rows are bad than may be.
    #[error("more than {limit} bad rows, the last of them {last}")]
    TooManyBadRows {
        /// How many may be.
        limit: u64,
        /// The one that was too many.
        last: BadRow,
    },
    /// What does not fit in memory cannot be kept on disk.
    #[error("cannot use a temporary file in {}: {_0}; TMPDIR may name another folder", std::env::temp_dir().display())]
    Temporary(io::Error),
    /// What was asked for makes no sense.
    #[error("{what}: {reason}")]
    Setting {
        /// The setting.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

fn yes() -> bool {
    true
}
