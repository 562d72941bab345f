//! What the disk itself can do.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use crate::{Bench, Outcome, Row};

/// Bytes of the file that is written over and over.
const FILE_BYTES: usize = 64 << 20;
/// Most bytes that are written between two syncs, as the embedded store has it.
const BATCH_BYTES_MAX: usize = 4 << 20;

impl Bench {
    /// Writes of 4 KiB, made durable one by one; then what the disk would allow for each size of value and number of writers: all
    /// of them write at once, one sync makes that durable, and nothing else is done. Syncs and bandwidth both bound that.
    pub(crate) fn disk(&mut self, directory: &Path) -> Outcome {
        // It has its length, and its place on the disk, already.
        let mut file = File::create(directory.join("probe"))?;
        for _ in 0..FILE_BYTES >> 20 {
            file.write_all(&[1; 1 << 20])?;
        }
        file.sync_all()?;
        let times = self.appends(&mut file, 4096, 1000)?;
        let per_second = times.len() as f64 * 1e6 / times.iter().sum::<f64>();
        let row = Row { store: "disk", writers: 1, value_bytes: 4096, per_second, times, ..Row::default() };
        self.row(Row { operation: "fdatasync", ..row });
        for (writers, value_bytes) in self.sizes() {
            let values = writers.min(BATCH_BYTES_MAX / value_bytes);
            let times = self.appends(&mut file, values * value_bytes, 200)?;
            let per_second = (values * times.len()) as f64 * 1e6 / times.iter().sum::<f64>();
            self.row(Row {
                store: "disk",
                operation: "put",
                writers,
                value_bytes,
                per_second,
                times,
                ..Row::default()
            });
        }
        std::fs::remove_file(directory.join("probe"))?;
        Ok(())
    }

    /// Microseconds of each of so many writes of so many bytes, each made durable.
    fn appends(&self, file: &mut File, bytes: usize, count: u32) -> Outcome<Vec<f64>> {
        let (mut times, mut at) = (Vec::new(), 0);
        for index in 0..count {
            let data = vec![index as u8; bytes];
            if at + bytes > FILE_BYTES {
                at = 0;
            }
            let start = self.now();
            file.seek(SeekFrom::Start(at as u64))?;
            file.write_all(&data)?;
            file.sync_data()?;
            times.push(self.since(start));
            at += bytes;
        }
        Ok(times)
    }
}
