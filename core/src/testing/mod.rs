//! Conformance suites and test doubles, for Longshore's own tests and for whoever implements one of the traits
//! (feature `testing`).

pub mod faults;
pub mod store;
