#![doc = include_str!("../README.md")]

mod batch;
mod disk;
mod options;
mod snapshot;
mod store;
mod writer;

pub use options::{OpenError, Options};
pub use store::EmbeddedStore;
