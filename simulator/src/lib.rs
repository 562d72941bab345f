//! Replays workloads through the scheduler of this project: the same engine and the same policies that place pods of a live cluster,
//! asked in virtual time. So what is learnt about a policy here holds for it there.
//!
//! [`Packing`] is the experiment by which policies for clusters of GPUs are compared in the literature; [`openb`] reads the trace that
//! they are compared on.
//!
//! # Contract
//!
//! The same input and the same seed give the same outcome, bit for bit, on any machine.

mod arrivals;
mod compaction;
#[cfg(feature = "control-plane")]
pub mod control_plane;
mod curve;
mod decider;
pub mod experiment;
pub mod external;
pub mod generate;
pub mod measures;
mod objects;
pub mod observer;
pub mod openb;
mod packing;
mod placement;
pub mod report;
pub mod simulation;
mod sweep;
pub mod traces;
pub mod workload;

pub use compaction::{Compacted, Compaction, CompactionError, PENDING, TRIALS, lower_bound};
pub use curve::Point;
pub use decider::Decider;
pub use packing::{Outcome, Packing, PackingError};
pub use placement::{Placement, UnknownPlacement, what_fits};
pub use sweep::{Estimate, in_parallel, sweep};
