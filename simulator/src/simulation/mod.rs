//! Events in virtual time: jobs arrive, schedulers decide, pods run and end, nodes fail and come back.
//!
//! A [`Simulation`] says how: which [`Architecture`], how long decisions take, when a job is tried again. [`Simulation::run`] takes a
//! workload and an [`Observer`](crate::observer::Observer); [`Simulation::start`] gives a [`Running`] that goes on step by step, and
//! of which [`Running::checkpoint`] and [`Running::fork`] make another.
//!
//! Where a pod goes is decided by the scheduler's own [`Engine`](longshore_scheduler::Engine), with its profiles, preemption included.
//! Time is the only thing that is modelled.
//!
//! # Contract
//!
//! 1. What happens in one moment happens in this order: pods end; what comes from outside, in its order; back-offs are over; schedulers
//!    that have thought do what they decided; schedulers that are free begin.
//! 2. A job is one transaction of its scheduler's: all of its pods that wait are decided on together, in their order.
//! 3. Nothing but the workload, the configuration and the seed has a say ([`DecisionTime::Measured`] aside).
//! 4. Memory is that of nodes, jobs and pods that live.

mod agenda;
mod checkpoint;
mod claim;
mod configuration;
mod error;
mod jobs;
mod offer;
mod plan;
mod queue;
mod running;
mod seconds;
mod thought;

#[cfg(test)]
mod tests;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use configuration::{
    Architecture, Commit, Conflicts, Deciders, DecisionTime, DecisionTimes, Retry, SchedulerSpec, Simulation, Takes,
    Ties,
};
pub use error::{ConfigurationError, Error};
pub use running::{Ended, Running};
