//! Longshore: a library for building container orchestrators.
pub use longshore_core as core;
