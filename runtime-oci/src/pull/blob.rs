//! A blob on its way from a registry to a file: cut off where its descriptor ends, and taken up again where it broke.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::Path;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use sha2::{Digest, Sha256};

use super::Meter;
use super::failure::Failure;
use super::repository::Repository;
use super::transport::{Answer, Body};
use crate::images::digest;
use crate::manifest::Descriptor;

/// How often a blob is asked for before its pull fails.
const TRIES: u32 = 6;
/// The wait before the second try; it doubles with each.
const PAUSE: Duration = Duration::from_secs(1);
/// How much is gathered before it is hashed and written.
const CHUNK: usize = 1 << 20;

/// A file that is being written, with the digest of what is in it.
struct Partial {
    file: File,
    hash: Sha256,
    size: u64,
}

impl Partial {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        (self.hash, self.size) = (Sha256::new(), 0);
        Ok(())
    }
}

/// Fetches a blob into a nameless file in `directory`, which is gone with its handle.
pub(crate) async fn download(
    repository: &Repository<'_>,
    blob: &Descriptor,
    directory: &Path,
    meter: &Meter<'_>,
) -> Result<File, Failure> {
    let file = tempfile::tempfile_in(directory)?;
    let mut partial = Partial { file, hash: Sha256::new(), size: 0 };
    let mut pause = PAUSE;
    for round in 1.. {
        let (back, done) = attempt(repository, blob, partial, meter).await?;
        partial = back;
        match done {
            Ok(()) => break,
            Err(Failure::Broken(reason)) if round < TRIES => {
                tracing::debug!(
                    digest = blob.digest,
                    have = partial.size,
                    reason,
                    "a download broke, and goes on soon"
                );
                repository.clock().sleep(pause).await;
                pause *= 2;
            }
            Err(Failure::Broken(reason)) => {
                return Err(Failure::Broken(format!("gave up after {TRIES} tries: {reason}")));
            }
            Err(failure) => return Err(failure),
        }
    }
    let found = digest(partial.hash);
    if found != blob.digest {
        let reason =
            format!("{} sends {found} for {}: the content is not what was asked for", repository.host(), blob.digest);
        return Err(Failure::Final(reason));
    }
    partial.file.rewind()?;
    Ok(partial.file)
}

/// Fetches what is missing; gives back what there is then. The outer error is this machine's.
async fn attempt(
    repository: &Repository<'_>,
    blob: &Descriptor,
    mut partial: Partial,
    meter: &Meter<'_>,
) -> Result<(Partial, Result<(), Failure>), Failure> {
    // All of it may be there although the connection broke.
    if partial.size == blob.size && partial.size > 0 {
        return Ok((partial, Ok(())));
    }
    let answer = match repository.get(&format!("blobs/{}", blob.digest), "", partial.size).await {
        Ok(answer) => answer,
        Err(failure) => return Ok((partial, Err(failure))),
    };
    if answer.status == 200 {
        // Ranges are not to this server's liking.
        meter.back(partial.size);
        partial.restart()?;
    } else if !continues(&answer, partial.size) {
        meter.back(partial.size);
        partial.restart()?;
        let reason = format!("{} sends another part of {} than was asked for", repository.host(), blob.digest);
        return Ok((partial, Err(Failure::Broken(reason))));
    }
    let longer =
        || Failure::Final(format!("{} sends more than the {} bytes of {}", repository.host(), blob.size, blob.digest));
    let length = answer.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| partial.size.saturating_add(length) > blob.size) {
        return Ok((partial, Err(longer())));
    }
    let mut body = answer.body;
    loop {
        let left = blob.size - partial.size;
        let (bytes, end) = gather(&mut body).await;
        if bytes.len() as u64 > left {
            return Ok((partial, Err(longer())));
        }
        let count = bytes.len() as u64;
        partial = crate::blocking_io(move || {
            partial.write(&bytes)?;
            Ok(partial)
        })
        .await?;
        meter.add(count);
        match end {
            None => {}
            Some(Ok(())) if partial.size < blob.size => {
                let reason = format!("{} ended {} too early", repository.host(), blob.digest);
                return Ok((partial, Err(Failure::Broken(reason))));
            }
            Some(end) => return Ok((partial, end)),
        }
    }
}

/// The next bytes, and how the body ended if it did.
async fn gather(body: &mut Body) -> (Vec<u8>, Option<Result<(), Failure>>) {
    let mut bytes = Vec::new();
    while bytes.len() < CHUNK {
        match body.next().await {
            Ok(Some(data)) => bytes.extend_from_slice(&data),
            Ok(None) => return (bytes, Some(Ok(()))),
            Err(failure) => return (bytes, Some(Err(failure))),
        }
    }
    (bytes, None)
}

/// Whether a part begins where the file ends.
fn continues(answer: &Answer, from: u64) -> bool {
    let range = answer.headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let start = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse::<u64>().ok());
    start == Some(from)
}
