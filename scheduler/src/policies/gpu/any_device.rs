//! Any device will do.

use std::hash::{Hash, Hasher};

use longshore_core::devices::{DeviceChoice, WHOLE};
use rustc_hash::FxHasher;

/// For parts of a device any one that has room, for whole ones the first.
///
/// As a choice must depend on what it is told alone, what stands for chance is a number worked out of that and a seed.
#[derive(Debug, Clone, Copy)]
pub struct AnyDevice {
    /// Another seed gives other choices.
    pub seed: u64,
}

impl DeviceChoice for AnyDevice {
    fn choose(&self, left: &[(&str, i64)], wanted: i64) -> usize {
        if wanted == WHOLE {
            return 0;
        }
        let mut hasher = FxHasher::default();
        (self.seed, left, wanted).hash(&mut hasher);
        let mixed = u128::from(hasher.finish().wrapping_mul(0x9e37_79b9_7f4a_7c15));
        usize::try_from((mixed * left.len() as u128) >> 64).unwrap_or(0)
    }
}
