//! The log: every commit is appended to it and synced before it is acknowledged. What it holds goes to the file later, many
//! commits at once; then it is written anew from its beginning.
//!
//! A log's file is filled with zeros ahead of what is written, so that a sync has no new length to write, and so that a full
//! disk is noticed before anything of a commit is written.

mod frame;
mod replay;

use std::io;
use std::sync::Arc;

use longshore_core::store::Revision;
use redb::StorageBackend;

use crate::base::Wanted;
use crate::disk::{Device, Disk};
pub(crate) use frame::Frame;
use frame::{LogHeader, SECTOR};
pub(crate) use replay::{Replayed, replay};

/// How far a log is filled with zeros ahead of what is written.
const FILL: u64 = 1 << 20;

static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// A log's file, whoever uses it.
#[derive(Debug)]
pub(crate) struct Slot {
    number: u32,
    device: Device,
    /// Bytes that were written at some time.
    filled: u64,
}

/// A log that is being written.
#[derive(Debug)]
pub(crate) struct Log {
    slot: Slot,
    id: u64,
    end: u64,
}

/// Why a frame, or a log's header, could not be written.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// Nothing was written.
    Nothing(io::Error),
    /// It may be there or not, and may yet appear. Only a new log settles it.
    Unknown(io::Error),
}

impl Log {
    fn append(&mut self, first: Revision, frame: &mut Frame) -> Result<(), AppendError> {
        let raw = frame.seal(self.id, first);
        let end = self.end + raw.len() as u64;
        self.slot.fill(end).map_err(AppendError::Nothing)?;
        let written = self.slot.device.write(self.end, raw).and_then(|()| self.slot.device.sync_data());
        written.map_err(AppendError::Unknown)?;
        self.end = end;
        Ok(())
    }
}

impl Slot {
    /// Makes the file a log that holds nothing yet.
    fn begin(&mut self, header: LogHeader) -> Result<(), AppendError> {
        self.fill(SECTOR as u64).map_err(AppendError::Nothing)?;
        let written = self.device.write(0, &header.encode()).and_then(|()| self.device.sync_data());
        written.map_err(AppendError::Unknown)
    }

    /// Makes sure that so many bytes have their place on the disk.
    fn fill(&mut self, end: u64) -> io::Result<()> {
        if end <= self.filled {
            return Ok(());
        }
        let until = end.next_multiple_of(FILL);
        // One that was left half filled by a failure is filled again from there.
        while self.filled < until {
            let bytes = (until - self.filled).min(ZEROS.len() as u64);
            if self.device.len()? < self.filled + bytes {
                self.device.set_len(self.filled + bytes)?;
            }
            self.device.write(self.filled, &ZEROS[..bytes as usize])?;
            self.filled += bytes;
        }
        Ok(())
    }
}

/// The logs of a store: the one that is written, those before it whose commits are not in the file yet, and files to reuse.
#[derive(Debug)]
pub(crate) struct Logs {
    disk: Arc<Disk>,
    current: Option<Log>,
    older: Vec<Slot>,
    free: Vec<Slot>,
    next_id: u64,
    next_number: u32,
    /// The last frame, or the header of a log that was to follow, has an unknown fate.
    unsettled: bool,
}

impl Logs {
    /// The logs as a replay found them; none is written before the first commit.
    fn found(disk: Arc<Disk>, older: Vec<Slot>, free: Vec<Slot>, next_id: u64) -> Self {
        let next_number = older.iter().chain(&free).map(|slot| slot.number + 1).max().unwrap_or(0);
        Self { disk, current: None, older, free, next_id, next_number, unsettled: false }
    }

    /// Whether there is no log that the file calls for.
    pub(crate) fn is_empty(&self) -> bool {
        self.current.is_none() && self.older.is_empty()
    }

    /// Bytes of the log that is written.
    pub(crate) fn len(&self) -> u64 {
        self.current.as_ref().map_or(0, |log| log.end)
    }

    /// Appends a frame whose first commit is the one after revision `after`.
    pub(crate) fn append(&mut self, after: Revision, frame: &mut Frame) -> Result<(), AppendError> {
        if self.current.is_none() || self.unsettled {
            self.turn(after).map_err(AppendError::Nothing)?;
        }
        let Some(log) = &mut self.current else { return Err(AppendError::Nothing(io::ErrorKind::NotFound.into())) };
        let appended = log.append(after + 1, frame);
        self.unsettled = matches!(appended, Err(AppendError::Unknown(_)));
        appended
    }

    /// Starts a new log, which makes void whatever the one before holds beyond revision `after`.
    ///
    /// Where the header's fate is unknown, nothing may follow in the log before: a new log must be started first.
    pub(crate) fn turn(&mut self, after: Revision) -> io::Result<()> {
        let mut slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let (device, filled) = self.disk.log(self.next_number)?;
                self.next_number += 1;
                Slot { number: self.next_number - 1, device, filled }
            }
        };
        let id = self.next_id;
        self.next_id += 1;
        match slot.begin(LogHeader { id, after }) {
            Ok(()) => {
                self.unsettled = false;
                let log = Log { slot, id, end: SECTOR as u64 };
                self.older.extend(self.current.replace(log).map(|before| before.slot));
                Ok(())
            }
            Err(AppendError::Nothing(error)) => {
                self.free.push(slot);
                Err(error)
            }
            Err(AppendError::Unknown(error)) => {
                self.free.push(slot);
                self.unsettled = true;
                Err(error)
            }
        }
    }

    /// Whether the fate of what was last written is unknown.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.unsettled
    }

    /// Parts with the logs before the current one, when nothing in them is newer than what goes to the file now; says what
    /// the file will want then.
    pub(crate) fn part(&mut self) -> (Vec<Slot>, Wanted) {
        let wanted = match &self.current {
            Some(log) => Wanted { from: log.id, present: true },
            None => Wanted { from: self.next_id, present: false },
        };
        (std::mem::take(&mut self.older), wanted)
    }

    /// Parts with all logs, when everything goes to the file now.
    pub(crate) fn part_with_all(&mut self) -> (Vec<Slot>, Wanted) {
        self.older.extend(self.current.take().map(|log| log.slot));
        self.part()
    }

    /// Takes back the files of logs that are in the file. One is kept for reuse.
    pub(crate) fn give_back(&mut self, slots: Vec<Slot>) {
        self.free.extend(slots);
        // The longest are worth most.
        self.free.sort_by_key(|slot| std::cmp::Reverse(slot.filled));
        for slot in self.free.split_off(self.free.len().min(1)) {
            self.disk.remove_log(slot.number);
        }
    }

    /// Removes the files to reuse, for the store ends.
    pub(crate) fn remove_free(&mut self) {
        for slot in self.free.drain(..) {
            self.disk.remove_log(slot.number);
        }
    }
}
