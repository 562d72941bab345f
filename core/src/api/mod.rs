//! The kinds of objects, one file or folder each.

mod wire;

pub mod config_map;

pub use config_map::ConfigMap;
pub use wire::{AppsV1, V1};
