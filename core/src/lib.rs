//! The objects, the traits and the machinery that every part of Longshore shares.
//!
//! Start at [`mod@kind`] for what an object is, and at [`api`] for the kinds themselves.

pub mod age;
pub mod api;
pub mod apply;
pub mod client;
pub mod clock;
pub mod connection;
pub mod cron;
pub mod decode;
pub mod devices;
pub mod downward;
pub mod events;
pub mod go_duration;
mod go_format;
pub mod informer;
pub mod int_or_string;
pub mod kind;
pub mod leader;
pub mod network;
pub mod openapi;
pub mod patch;
pub mod quantity;
pub mod queue;
pub mod runtime;
pub mod scheduling;
pub mod schema;
pub mod selector;
pub mod status;
pub mod store;
pub mod strings;
pub mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod validation;
