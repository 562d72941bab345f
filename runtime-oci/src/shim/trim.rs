//! What an idle shim gives back: the pages of its program and libraries that it needed to begin and to do something. They
//! are the files' own, and the kernel maps them again when they are touched. There is a shim for every pod, and it is idle most
//! of its time.

#![allow(unsafe_code, reason = "what is mapped cannot be given back by safe code")]

use std::ffi::c_void;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;

use rustix::mm::{Advice, madvise};
use rustix::param::page_size;

/// What the kernel tells of a page, in `/proc/self/pagemap`: it is present, and a file's.
const OF_FILE: u64 = 1 << 63 | 1 << 61;
/// Bytes in which it tells that.
const ENTRY: usize = size_of::<u64>();
/// How many pages are looked at together.
const PAGES: usize = 512;

/// Gives back what can be read again from files.
pub(super) fn trim() -> io::Result<()> {
    // All at once, for to find more brings back what was needed to find the first.
    clean()?.into_iter().try_for_each(give_back)
}

/// The pages, by their numbers, that can be read again from files.
fn clean() -> io::Result<Vec<Range<usize>>> {
    let mut pages = File::open("/proc/self/pagemap")?;
    let mut entries = [0; PAGES * ENTRY];
    let mut clean = Vec::new();
    for mapping in unwritable(BufReader::new(File::open("/proc/self/maps")?))? {
        let (mut first, end) = (mapping.start / page_size(), mapping.end / page_size());
        pages.seek(SeekFrom::Start((first * ENTRY) as u64))?;
        while first < end {
            let count = PAGES.min(end - first);
            let entries = &mut entries[..count * ENTRY];
            pages.read_exact(entries)?;
            clean.extend(of_file(entries).into_iter().map(|run| first + run.start..first + run.end));
            first += count;
        }
    }
    Ok(clean)
}

/// Gives back pages that are their file's.
fn give_back(pages: Range<usize>) -> io::Result<()> {
    let address: *mut c_void = std::ptr::with_exposed_provenance_mut(pages.start * page_size());
    // SAFETY: The kernel has just told that none of these pages is this process's own, and none can become so, since there is one
    // thread, and they cannot be written to. So what is read there afterwards is what was there.
    unsafe { madvise(address, pages.len() * page_size(), Advice::LinuxDontNeed)? };
    Ok(())
}

/// The addresses at which files are mapped that cannot be written to there, as `/proc/self/maps` lists them.
fn unwritable(maps: impl BufRead) -> io::Result<Vec<Range<usize>>> {
    let mut found = Vec::new();
    for line in maps.lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        let (range, access, file) = (words.next(), words.next(), words.nth(3));
        if access.is_some_and(|access| !access.contains('w')) && file.is_some_and(|file| file.starts_with('/')) {
            let address = |text| usize::from_str_radix(text, 16).ok();
            let ends = range.and_then(|range| range.split_once('-'));
            found.extend(ends.and_then(|(start, end)| Some(address(start)?..address(end)?)));
        }
    }
    Ok(found)
}

/// Which of pages, one after the other, are a file's. Others were changed when they were relocated, before they were protected.
fn of_file(entries: &[u8]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let (entries, _) = entries.as_chunks::<ENTRY>();
    for (number, entry) in entries.iter().enumerate() {
        if u64::from_ne_bytes(*entry) & OF_FILE == OF_FILE {
            match runs.last_mut() {
                Some(run) if run.end == number => run.end += 1,
                _ => runs.push(number..number + 1),
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_be_written_to_is_looked_at() {
        let maps = "1000-2000 r-xp 00000000 fe:00 4711    /bin/a program\n\
                    5000-6000 rw-p 00000000 fe:00 4711    /bin/a program\n\
                    7000-8000 r--p 00000000 00:00 0\n\
                    9000-a000 r-xp 00000000 00:00 0    [vdso]\n\
                    7f00-8f00 r--p 00000000 fe:00 4712    /lib/libc.so\n\
                    \n\
                    - r-xp 0 0 0 /x\n";
        assert_eq!(unwritable(maps.as_bytes()).unwrap(), [0x1000..0x2000, 0x7f00..0x8f00]);
    }

    #[test]
    fn pages_of_the_process_alone_are_kept() {
        let (own, swapped, absent) = (1 << 63, 1 << 62, 0_u64);
        let entries = [OF_FILE, OF_FILE | 1 << 56, own, OF_FILE, swapped, absent, OF_FILE];
        let entries: Vec<u8> = entries.iter().flat_map(|entry| entry.to_ne_bytes()).collect();
        assert_eq!(of_file(&entries), [0..2, 3..4, 6..7]);
    }
}
