//! The log: every commit is appended to it and synced before it is acknowledged.
//!
//! It is cut into logs of some MiB. What counts in the oldest goes to the file later; until then values may be read from it. Then
//! it is written anew from its beginning. A log's file is filled with zeros ahead of what is written, so that a sync has no new
//! length to write, and so that a full disk is noticed before anything of a commit is written.

mod frame;
mod replay;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use longshore_core::store::Revision;
use redb::StorageBackend;

use crate::base::{Meta, Wanted};
use crate::disk::{Device, Disk};
pub(crate) use frame::{Frame, Summed, sum_if_large};
use frame::{LogHeader, SECTOR};
pub(crate) use replay::{Replayed, replay};

/// How far a log is filled with zeros ahead of what is written.
const FILL: u64 = 1 << 20;

/// Files that are kept for logs to come: what one has been filled with before need not be again.
const FREE_MAX: usize = 4;

static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// A log's file, for whoever reads values from it.
#[derive(Debug)]
pub(crate) struct Slot {
    number: u32,
    device: Device,
}

/// A log's file, for whoever writes it.
#[derive(Debug)]
struct Room {
    slot: Arc<Slot>,
    /// Bytes that were written at some time.
    filled: u64,
}

/// A log that is being written.
#[derive(Debug)]
struct Log {
    room: Room,
    id: u64,
    end: u64,
}

/// A log that is written no more, and whose commits are not in the file yet.
#[derive(Debug)]
struct Older {
    room: Room,
    id: u64,
    /// Its last commit's revision, or of those before it.
    last: Revision,
    end: u64,
}

/// Where a frame went.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) slot: Arc<Slot>,
    /// The log's number.
    pub(crate) log: u64,
    /// Where in the log's file the frame begins.
    pub(crate) at: u64,
}

impl Log {
    /// Writes all of a frame but its first sector, without which it is none.
    fn prepare(&mut self, first: Revision, frame: &mut Frame) -> io::Result<()> {
        frame.seal(self.id, first);
        self.room.fill(self.end + frame.len() as u64)?;
        let (mut at, mut skip) = (self.end, SECTOR);
        for part in frame.parts() {
            let cut = skip.min(part.len());
            self.room.slot.device.write(at + cut as u64, &part[cut..])?;
            skip -= cut;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Writes what is missing of a frame that was prepared.
    fn append(&mut self, frame: &Frame) -> io::Result<Appended> {
        let head: Vec<u8> = frame.parts().flatten().copied().take(SECTOR).collect();
        self.room.slot.device.write(self.end, &head)?;
        let at = self.end;
        self.end += frame.len() as u64;
        Ok(Appended { slot: Arc::clone(&self.room.slot), log: self.id, at })
    }
}

impl Slot {
    pub(crate) fn read(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut raw = vec![0; length];
        self.device.read(at, &mut raw)?;
        Ok(raw)
    }

    /// Makes what was written durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.device.sync_data()
    }
}

impl Room {
    /// Makes the file a log that holds nothing yet.
    fn begin(&self, header: LogHeader) -> io::Result<()> {
        self.slot.device.write(0, &header.encode())?;
        self.slot.sync()
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
            let device = &self.slot.device;
            if device.len()? < self.filled + bytes {
                device.set_len(self.filled + bytes)?;
            }
            device.write(self.filled, &ZEROS[..bytes as usize])?;
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
    older: VecDeque<Older>,
    free: Vec<Room>,
    next_id: u64,
    next_number: u32,
    /// The last frame, or the header of a log that was to follow, has an unknown fate.
    unsettled: bool,
}

impl Logs {
    /// The logs as a replay found them; none is written before the first commit.
    fn found(disk: Arc<Disk>, older: VecDeque<Older>, free: Vec<Room>, next_id: u64) -> Self {
        let rooms = older.iter().map(|log| &log.room).chain(&free);
        let next_number = rooms.map(|room| room.slot.number + 1).max().unwrap_or(0);
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

    /// The logs before the one that is written, the oldest first: number and bytes.
    pub(crate) fn older(&self) -> impl ExactSizeIterator<Item = (u64, u64)> + Clone {
        self.older.iter().map(|log| (log.id, log.end))
    }

    /// Writes all of a frame but what makes it one, behind the last one that was appended, which may not be durable yet. Its first
    /// commit is the one after revision `after`. If this fails, or nothing follows, it is as if it had not been tried.
    pub(crate) fn prepare(&mut self, after: Revision, frame: &mut Frame) -> io::Result<()> {
        if self.current.is_none() || self.unsettled {
            self.turn(after)?;
        }
        let log = self.current.as_mut().ok_or(io::ErrorKind::NotFound)?;
        log.prepare(after + 1, frame)
    }

    /// Makes what was prepared a frame of the log, once all before it is durable; to be made durable by [`Slot::sync`]. If either
    /// fails the frame may be there or not, and may yet appear; of the sync's failure the logs are to be [told](Logs::unsettle).
    pub(crate) fn append(&mut self, frame: &Frame) -> io::Result<Appended> {
        let log = self.current.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let appended = log.append(frame);
        self.unsettled = appended.is_err();
        appended
    }

    /// The fate of what was last appended is unknown: only a new log settles it.
    pub(crate) fn unsettle(&mut self) {
        self.unsettled = true;
    }

    /// Starts a new log, which makes void whatever the one before holds beyond revision `after`.
    ///
    /// Where the header's fate is unknown, nothing may follow in the log before: a new log must be started first.
    pub(crate) fn turn(&mut self, after: Revision) -> io::Result<()> {
        let mut room = self.room()?;
        let id = self.next_id;
        self.next_id += 1;
        if let Err(error) = room.fill(SECTOR as u64) {
            self.free.push(room);
            return Err(error);
        }
        let begun = room.begin(LogHeader { id, after });
        self.unsettled = begun.is_err();
        if begun.is_err() {
            self.free.push(room);
            return begun;
        }
        self.set_apart(after);
        self.current = Some(Log { room, id, end: SECTOR as u64 });
        Ok(())
    }

    /// A file for a log: one that is free, and that nobody reads from any more, or a new one.
    fn room(&mut self) -> io::Result<Room> {
        if let Some(free) = self.free.iter().rposition(|room| Arc::strong_count(&room.slot) == 1) {
            return Ok(self.free.remove(free));
        }
        let (device, filled) = self.disk.log(self.next_number)?;
        self.next_number += 1;
        Ok(Room { slot: Arc::new(Slot { number: self.next_number - 1, device }), filled })
    }

    /// The log that was written is one of the older ones now.
    fn set_apart(&mut self, last: Revision) {
        let log = self.current.take();
        self.older.extend(log.map(|log| Older { room: log.room, id: log.id, last, end: log.end }));
    }

    /// Whether the fate of what was last written is unknown.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.unsettled
    }

    /// What the file says of itself when it has what the first so many logs came to, and the last of them. None if there
    /// are none.
    pub(crate) fn first(&self, count: usize) -> Option<(u64, Meta)> {
        let last = self.older.get(count.checked_sub(1)?)?;
        let next = self.older.get(count).map(|log| log.id).or(self.current.as_ref().map(|log| log.id));
        let wanted = Wanted { from: next.unwrap_or(self.next_id), present: next.is_some() };
        Some((last.id, Meta { revision: last.last, wanted }))
    }

    /// All logs are older ones now, for the store ends at this revision.
    pub(crate) fn end(&mut self, last: Revision) {
        self.set_apart(last);
    }

    /// Takes back the files of the logs up to this one, which are in the file. Some are kept for reuse.
    pub(crate) fn give_back(&mut self, last: Option<u64>) {
        let Some(last) = last else { return };
        while let Some(log) = self.older.pop_front_if(|log| log.id <= last) {
            self.free.push(log.room);
        }
        // The longest are worth most.
        self.free.sort_by_key(|room| std::cmp::Reverse(room.filled));
        for room in self.free.split_off(self.free.len().min(FREE_MAX)) {
            self.disk.remove_log(room.slot.number);
        }
    }

    /// Removes the files to reuse, for the store ends.
    pub(crate) fn remove_free(&mut self) {
        for room in self.free.drain(..) {
            self.disk.remove_log(room.slot.number);
        }
    }
}
