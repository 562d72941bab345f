//! Uids and generated names from one seeded source.

use std::sync::{Mutex, PoisonError};

use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64;

/// What generated names are made of: no vowels and nothing that looks like something else.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Characters added to a `generateName`.
const SUFFIX: usize = 5;

/// The longest part of a `generateName` that is kept.
const BASE_MAX: usize = 63 - SUFFIX;

#[derive(Debug)]
pub(crate) struct Random(Mutex<Pcg64>);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new(Pcg64::seed_from_u64(seed)))
    }

    /// A version 4 UUID.
    pub(super) fn uid(&self) -> String {
        let mut bytes = [0u8; 16];
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let n = u128::from_be_bytes(bytes);
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            n >> 96,
            (n >> 80) & 0xffff,
            (n >> 64) & 0xffff,
            (n >> 48) & 0xffff,
            n & 0xffff_ffff_ffff
        )
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&self, end: u64) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random_range(0..end)
    }

    /// A name that starts with `base`.
    pub(super) fn name(&self, base: &str) -> String {
        let mut end = base.len().min(BASE_MAX);
        while !base.is_char_boundary(end) {
            end -= 1;
        }
        let mut name = base[..end].to_owned();
        let mut random = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        name.extend((0..SUFFIX).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])));
        name
    }
}
