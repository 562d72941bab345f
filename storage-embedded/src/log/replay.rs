//! Reading the logs when a store opens: what is whole is taken, a torn end is what a crash leaves, all else is damage.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use longshore_core::store::Revision;
use redb::StorageBackend;

use super::frame::{self, FRAME_HEADER, FrameHeader, LogHeader, Logged, SECTOR};
use super::{Logs, Older, Room, Slot};
use crate::OpenError;
use crate::base::Wanted;
use crate::disk::{Disk, io_error};
use crate::overlay::Overlay;

/// What the logs hold beyond the file.
pub(crate) struct Replayed {
    pub(crate) logs: Logs,
    /// What their commits came to.
    pub(crate) recent: Overlay,
    /// The last commit's revision, or the file's.
    pub(crate) revision: Revision,
}

/// One log as it was found.
struct Found {
    header: LogHeader,
    path: PathBuf,
    room: Room,
}

/// Reads the logs that the file, which is at revision `base`, calls for.
pub(crate) fn replay(disk: &Arc<Disk>, base: Revision, wanted: Wanted) -> Result<Replayed, OpenError> {
    let (mut found, free) = find(disk, base, wanted)?;
    found.sort_by_key(|log| log.header.id);
    if wanted.present && found.first().is_none_or(|log| log.header.id != wanted.from) {
        let reason = format!("log {}, which holds what came after revision {base}, is missing", wanted.from);
        return Err(damaged(&disk.path, reason));
    }
    let next_id = found.last().map_or(wanted.from, |log| log.header.id + 1);
    let ends: Vec<Revision> = found.iter().skip(1).map(|log| log.header.after).chain([Revision::MAX]).collect();
    let (mut recent, mut older, mut last) = (Overlay::default(), VecDeque::new(), base);
    // One after the other, so that no more than one is in memory.
    for (log, end) in found.into_iter().zip(ends) {
        if log.header.after > last {
            let reason = format!("it begins after revision {}, before it is {last}", log.header.after);
            return Err(damaged(&log.path, reason));
        }
        let raw = log.room.slot.read_all().map_err(|error| io_error("read", &log.path, &error))?;
        let commits = commits(&raw, log.header, &log.room.slot).map_err(|reason| damaged(&log.path, reason))?;
        for (revision, changes) in commits {
            // What the file has, and what was never acknowledged.
            if revision <= last || revision > end {
                continue;
            }
            if revision != last + 1 {
                return Err(damaged(&log.path, format!("revision {revision} follows {last}")));
            }
            last = revision;
            changes.into_iter().for_each(|(key, entry)| recent.lay(key, log.header.id, entry));
        }
        // Also one without commits: it may be what makes those of another void.
        older.push_back(Older { room: log.room, id: log.header.id, last, end: raw.len() as u64 });
    }
    Ok(Replayed { logs: Logs::found(Arc::clone(disk), older, free, next_id), recent, revision: last })
}

/// The logs that are there: those that may count, and files to reuse.
fn find(disk: &Disk, base: Revision, wanted: Wanted) -> Result<(Vec<Found>, Vec<Room>), OpenError> {
    let (mut found, mut free) = (Vec::new(), Vec::new());
    for (number, path) in disk.logs()? {
        let failed = |error: std::io::Error| io_error("read", &path, &error);
        let (device, filled) = disk.log(number).map_err(failed)?;
        let room = Room { slot: Arc::new(Slot { number, device }), filled };
        let header = room.slot.read(0, SECTOR.min(filled as usize)).map_err(failed)?;
        match LogHeader::decode(&header) {
            Some(header) if header.id >= wanted.from => found.push(Found { header, path, room }),
            Some(_) => free.push(room),
            // It was about to be used again when the machine went down, or its header is damaged.
            None => {
                let raw = room.slot.read_all().map_err(failed)?;
                if let Some((at, frame)) =
                    frames(&raw).find(|(_, frame)| frame.log >= wanted.from && frame.first > base)
                {
                    let reason = format!("it has no header, but revision {} at byte {at}", frame.first);
                    return Err(damaged(&path, reason));
                }
                free.push(room);
            }
        }
    }
    Ok((found, free))
}

/// The commits of a log up to its torn end.
fn commits(raw: &[u8], header: LogHeader, slot: &Arc<Slot>) -> Result<Vec<Logged>, String> {
    let mut all = Vec::new();
    let mut at = SECTOR;
    while let Some((frame, payload)) = whole(raw, at, header.id) {
        let commits = frame::commits(payload, slot, (at + FRAME_HEADER) as u64);
        all.extend(commits.ok_or_else(|| format!("the commits at byte {at} cannot be read"))?);
        at += (FRAME_HEADER + frame.length).next_multiple_of(SECTOR);
    }
    // Each frame was synced before the next was written: only the last can be torn.
    let torn = raw.get(at..).and_then(FrameHeader::decode).filter(|frame| frame.log == header.id);
    let behind = match torn {
        Some(torn) => at + (FRAME_HEADER + torn.length).next_multiple_of(SECTOR),
        None => at + SECTOR,
    };
    let later = frames(raw).find(|(place, frame)| *place >= behind && frame.log == header.id);
    match later {
        Some((place, _)) if whole(raw, place, header.id).is_some() => {
            Err(format!("what is at byte {at} is broken, but there is more at byte {place}"))
        }
        _ => Ok(all),
    }
}

/// The frame at this place, if it belongs to the log and is whole.
fn whole(raw: &[u8], at: usize, log: u64) -> Option<(FrameHeader, &[u8])> {
    let frame = FrameHeader::decode(raw.get(at..)?).filter(|frame| frame.log == log)?;
    let payload = raw.get(at + FRAME_HEADER..at + FRAME_HEADER + frame.length)?;
    frame.fits(payload).then_some((frame, payload))
}

/// Every header of a frame, with its place.
fn frames(raw: &[u8]) -> impl Iterator<Item = (usize, FrameHeader)> {
    (SECTOR..raw.len()).step_by(SECTOR).filter_map(|at| Some((at, FrameHeader::decode(&raw[at..])?)))
}

fn damaged(path: &Path, reason: String) -> OpenError {
    OpenError::Damaged { path: path.to_owned(), reason }
}

impl Slot {
    fn read_all(&self) -> std::io::Result<Vec<u8>> {
        self.read(0, usize::try_from(self.device.len()?).unwrap_or(usize::MAX))
    }
}
