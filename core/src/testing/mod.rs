//! Conformance suites and test doubles, for Longshore's own tests and for whoever implements one of the traits
//! (feature `testing`).

pub mod client;
pub mod clock;
pub mod faults;
pub mod network;
pub mod runtime;
pub mod store;

/// Says that a test cannot run here and why. Under `CI=true` that is a failure.
///
/// # Panics
/// Under `CI=true`.
pub fn skip(reason: &str) {
    println!("SKIPPED: {reason}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "nothing may be skipped under CI=true: {reason}");
}
