//! Conformance suites and test doubles, for Longshore's own tests and for whoever implements one of the traits
//! (feature `testing`).

pub mod client;
pub mod faults;
pub mod store;
