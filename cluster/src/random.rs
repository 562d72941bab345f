//! The one place where a process gets its randomness from; everything else is seeded from here.

use std::io::{self, Read};

/// Bytes that nobody can guess.
pub(crate) fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A seed from the operating system.
pub(crate) fn seed() -> io::Result<u64> {
    Ok(u64::from_ne_bytes(bytes()?))
}

/// The id of a new instance: four hexadecimal digits.
pub(crate) fn instance() -> io::Result<String> {
    Ok(format!("{:04x}", seed()? & 0xffff))
}
