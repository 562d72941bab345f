//! The objects, the traits and the machinery that every part of Longshore shares.
//!
//! Start at [`kind`] for what an object is, and at [`api`] for the kinds themselves.

pub mod api;
pub mod client;
pub mod clock;
pub mod kind;
pub mod network;
pub mod runtime;
pub mod store;
pub mod strings;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod validation;
