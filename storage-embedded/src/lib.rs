#![doc = include_str!("../README.md")]

mod base;
mod batch;
mod checkpoint;
mod copy;
mod disk;
mod flight;
mod log;
mod options;
mod overlay;
mod queue;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;
mod writer;

pub use copy::Copied;
pub use options::{OpenError, Options};
pub use store::EmbeddedStore;
