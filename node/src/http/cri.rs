//! Container logs on disk, in CRI's format: `TIME STREAM TAG TEXT`, tag `P` for a piece of a line, `F` for its end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use jiff::Timestamp;
use longshore_core::api::Pod;
use longshore_core::api::pod::TerminationMessagePolicy;
use longshore_core::runtime::ContainerState;

use crate::pod::config::find_container;
use crate::pod::observed::Observed;

/// Upstream's limits of a termination message that comes from a log.
const MESSAGE_LINES: u64 = 80;
const MESSAGE_BYTES: u64 = 2048;

/// One entry of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) time: &'a [u8],
    /// Whether the line goes on in the next entry.
    pub(crate) partial: bool,
    pub(crate) text: &'a [u8],
}

/// Reads an entry, which has no line end; `None` for what is none.
pub(crate) fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (time, _stream, tags, text) = (parts.next()?, parts.next()?, parts.next()?, parts.next().unwrap_or_default());
    let partial = tags.split(|byte| *byte == b':').next()? == b"P";
    Some(Entry { time, partial, text })
}

impl Entry<'_> {
    pub(crate) fn timestamp(&self) -> Option<Timestamp> {
        std::str::from_utf8(self.time).ok()?.parse().ok()
    }
}

/// Where the last `lines` lines of a file begin.
pub(crate) fn tail_start(file: &mut File, lines: u64) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(end);
    }
    let mut buffer = vec![0; 64 << 10];
    // The end of the last line is no beginning of another.
    let mut left = lines + 1;
    let mut last = true;
    while end > 0 {
        let start = end.saturating_sub(buffer.len() as u64);
        let block = &mut buffer[..usize::try_from(end - start).unwrap_or(0)];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(block)?;
        for (at, byte) in block.iter().enumerate().rev() {
            if std::mem::take(&mut last) && *byte != b'\n' {
                // The file ends within a line, which counts.
                left -= 1;
            }
            if *byte == b'\n' {
                left -= 1;
                if left == 0 {
                    return Ok(start + at as u64 + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

/// The end of a log's text, as a termination message.
pub(crate) fn last_text(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let start = tail_start(&mut file, MESSAGE_LINES)?;
    // Time, stream and tag come on top of the text.
    let end = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(start.max(end.saturating_sub(MESSAGE_BYTES * 4))))?;
    let mut bytes = Vec::new();
    file.take(MESSAGE_BYTES * 4).read_to_end(&mut bytes)?;
    let mut text = Vec::new();
    for entry in bytes.split(|byte| *byte == b'\n').filter_map(parse) {
        text.extend_from_slice(entry.text);
        if !entry.partial {
            text.push(b'\n');
        }
    }
    let cut = text.len().saturating_sub(MESSAGE_BYTES as usize);
    Ok(String::from_utf8_lossy(&text[cut..]).into_owned())
}

/// The messages of containers that ended with an error and did not write one, by container id; those known already are
/// not read again.
pub(crate) fn termination_messages(pod: &Pod, observed: &Observed) -> BTreeMap<String, String> {
    let wants = |name: &str| {
        let container = find_container(pod, name);
        container.is_some_and(|of| of.termination_message_policy == TerminationMessagePolicy::FallbackToLogsOnError)
    };
    let ended = observed.containers().filter(|container| match &container.state {
        ContainerState::Exited { code, message, .. } => *code != 0 && message.is_empty(),
        _ => false,
    });
    let new = ended.filter(|of| wants(&of.container.name) && !observed.log_tails.contains_key(&of.id));
    new.map(|container| (container.id.clone(), last_text(&container.log_path).unwrap_or_default())).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn entries_are_read() {
        let entry = parse(b"2025-01-01T00:00:00.5Z stdout F hello world").unwrap();
        assert_eq!((entry.partial, entry.text), (false, &b"hello world"[..]));
        assert_eq!(entry.timestamp(), Some("2025-01-01T00:00:00.5Z".parse().unwrap()));
        assert!(parse(b"2025-01-01T00:00:00.5Z stderr P:x piece").unwrap().partial);
        assert_eq!(parse(b"2025-01-01T00:00:00.5Z stdout F").unwrap().text, b"");
        assert_eq!(parse(b"garbage"), None);
    }

    #[test]
    fn the_tail_begins_where_its_lines_do() {
        for (text, lines, expected) in [
            ("", 3, 0),
            ("a\nb\nc\n", 0, 6),
            ("a\nb\nc\n", 1, 4),
            ("a\nb\nc\n", 2, 2),
            ("a\nb\nc\n", 3, 0),
            ("a\nb\nc\n", 9, 0),
            ("a\nb\nc", 1, 4),
            ("a\nb\nc", 2, 2),
        ] {
            let mut file = tempfile();
            file.write_all(text.as_bytes()).unwrap();
            assert_eq!(tail_start(&mut file, lines).unwrap(), expected, "{text:?} {lines}");
        }
        let mut file = tempfile();
        let line = format!("{}\n", "x".repeat(999));
        file.write_all(line.repeat(500).as_bytes()).unwrap();
        assert_eq!(tail_start(&mut file, 400).unwrap(), 100_000);
    }

    fn tempfile() -> File {
        let (_directory, file) = crate::testing::file();
        file
    }
}
