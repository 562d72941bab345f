#![doc = include_str!("../README.md")]

pub use longshore_core as core;
#[cfg(feature = "embedded")]
pub use longshore_storage_embedded as storage_embedded;
