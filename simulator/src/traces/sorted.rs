//! Sorting what does not fit in memory.
//!
//! Runs of so many rows are sorted in memory, written one after another to one file without a name in the folder for temporary files,
//! and merged while they are read (Knuth, The Art of Computer Programming, vol. 3, 5.4). Rows with equal keys stay in their order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::marker::PhantomData;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::TraceError;

/// How many rows are in memory at a time.
const RUN: usize = 1 << 18;

/// Collects rows.
#[derive(Debug)]
pub(super) struct Sorter<K, T> {
    run: usize,
    rows: Vec<(K, T)>,
    spilled: Option<Spill>,
}

/// Sorted runs on disk.
#[derive(Debug)]
struct Spill {
    file: File,
    /// Where each run ends.
    ends: Vec<u64>,
}

impl<K: Ord + Serialize + DeserializeOwned, T: Serialize + DeserializeOwned> Sorter<K, T> {
    pub(super) fn new() -> Self {
        Self::with_run(RUN)
    }

    fn with_run(run: usize) -> Self {
        Self { run, rows: Vec::new(), spilled: None }
    }

    pub(super) fn push(&mut self, key: K, row: T) -> Result<(), TraceError> {
        self.rows.push((key, row));
        if self.rows.len() >= self.run { self.spill().map_err(TraceError::Temporary) } else { Ok(()) }
    }

    fn spill(&mut self) -> io::Result<()> {
        self.rows.sort_by(|a, b| a.0.cmp(&b.0));
        let spill = match &mut self.spilled {
            Some(spill) => spill,
            none => none.insert(Spill { file: tempfile::tempfile()?, ends: Vec::new() }),
        };
        let mut out = BufWriter::new(&spill.file);
        let mut end = spill.ends.last().copied().unwrap_or(0);
        for row in self.rows.drain(..) {
            let mut bytes = serde_json::to_vec(&row)?;
            bytes.push(b'\n');
            end += bytes.len() as u64;
            out.write_all(&bytes)?;
        }
        out.flush()?;
        spill.ends.push(end);
        Ok(())
    }

    /// The rows in the order of their keys.
    pub(super) fn finish(mut self) -> Result<Sorted<K, T>, TraceError> {
        if self.spilled.is_some() && !self.rows.is_empty() {
            self.spill().map_err(TraceError::Temporary)?;
        }
        let Some(Spill { file, ends }) = self.spilled else {
            self.rows.sort_by(|a, b| a.0.cmp(&b.0));
            return Ok(Sorted::Memory(self.rows.into_iter()));
        };
        let file = Arc::new(file);
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let runs = starts
            .zip(&ends)
            .map(|(at, end)| BufReader::with_capacity(1 << 16, Part { file: file.clone(), at, end: *end }));
        let mut merge = Merge { runs: runs.collect(), next: BinaryHeap::new(), rows: PhantomData };
        for run in 0..merge.runs.len() {
            merge.refill(run)?;
        }
        Ok(Sorted::Merge(merge))
    }
}

/// Rows in the order of their keys.
#[derive(Debug)]
pub(super) enum Sorted<K, T> {
    Memory(std::vec::IntoIter<(K, T)>),
    Merge(Merge<K, T>),
}

#[derive(Debug)]
pub(super) struct Merge<K, T> {
    runs: Vec<BufReader<Part>>,
    next: BinaryHeap<Reverse<Head<K, T>>>,
    rows: PhantomData<(K, T)>,
}

/// A stretch of a file.
#[derive(Debug)]
struct Part {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// The first row of a run that was not yet handed over.
#[derive(Debug)]
struct Head<K, T> {
    key: K,
    run: usize,
    row: T,
}

impl<K: Ord, T> PartialEq for Head<K, T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<K: Ord, T> Eq for Head<K, T> {}

impl<K: Ord, T> PartialOrd for Head<K, T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord, T> Ord for Head<K, T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key).then(self.run.cmp(&other.run))
    }
}

impl<K: Ord + DeserializeOwned, T: DeserializeOwned> Merge<K, T> {
    fn refill(&mut self, run: usize) -> Result<(), TraceError> {
        let Some(from) = self.runs.get_mut(run) else { return Ok(()) };
        let mut line = Vec::new();
        if from.read_until(b'\n', &mut line).map_err(TraceError::Temporary)? == 0 {
            return Ok(());
        }
        let (key, row) = serde_json::from_slice(&line).map_err(|error| TraceError::Temporary(error.into()))?;
        self.next.push(Reverse(Head { key, run, row }));
        Ok(())
    }
}

impl<K: Ord + DeserializeOwned, T: DeserializeOwned> Iterator for Sorted<K, T> {
    type Item = Result<(K, T), TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Memory(rows) => rows.next().map(Ok),
            Self::Merge(merge) => {
                let Reverse(Head { key, run, row }) = merge.next.pop()?;
                Some(merge.refill(run).map(|()| (key, row)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_in_order_whether_they_fit_in_memory_or_not() {
        let keys = [5_u64, 3, 9, 3, 0, 7, 3, 1, 9, 2, 6];
        let sorted = |run| {
            let mut sorter = Sorter::with_run(run);
            for (place, key) in keys.iter().enumerate() {
                sorter.push(*key, place).unwrap();
            }
            sorter.finish().unwrap().collect::<Result<Vec<_>, _>>().unwrap()
        };
        let mut expected: Vec<(u64, usize)> =
            keys.iter().copied().enumerate().map(|(place, key)| (key, place)).collect();
        expected.sort();
        for run in [1, 2, 3, 11, 100] {
            assert_eq!(sorted(run), expected, "runs of {run}");
        }
        assert!(Sorter::<u64, u64>::with_run(2).finish().unwrap().next().is_none());
    }
}
