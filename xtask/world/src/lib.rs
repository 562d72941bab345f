//! Simulated worlds: API servers over one store, schedulers and controllers that elect leaders, agents of hollow nodes, and clients, all
//! of them the product's own code, in one thread and in virtual time.
//!
//! While clients create, scale, update and delete, things go wrong: the store fails before or after it did something, forgets its past,
//! is slow; wires are cut, silent, slow and lose messages; processes are killed and stand still; clocks are wrong. Then everything must
//! come to rest, and the checks of `longshore_faults` look for promises that were not kept.
//!
//! Everything follows from the seed: the faults, what clients intend, who goes on when several can, and what `select!` looks at first
//! (this last only where the crate is built with `--cfg tokio_unstable`, as `cargo xtask world` does). So a seed that found something
//! finds it again.

pub mod branch;
pub mod fences;
pub mod log;
mod observe;
mod panics;
pub mod parts;
pub mod plan;
pub mod processes;
mod reached;
mod rest;
#[cfg(test)]
mod tests;
pub mod truth;
pub mod wire;
mod workload;
mod world;

pub use world::{Options, Outcome, run};
