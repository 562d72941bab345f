//! A fault harness of real processes: three members of etcd, three API servers, three schedulers, three controllers and hollow
//! nodes, with relays between them. While clients create, scale, update and delete, a schedule of faults that follows from a seed
//! kills and pauses processes, cuts, delays and silences links, parts the members of etcd from each other, fills and slows disks, and steps clocks. Then faults end, everything
//! must come to rest, and [`check`] looks for promises that were not kept.
//!
//! The same seed gives the same faults and the same intentions of clients. How the processes interleave it does not decide: a seed
//! that found something need not find it at once again.
//!
//! Everything is in a network namespace and a mount namespace of the calling thread, and ends with it.

pub mod access;
pub mod check;
pub mod cluster;
pub mod converge;
pub mod history;
pub mod plan;
pub mod process;
pub mod recorder;
pub mod relay;
pub mod report;
mod run;
pub mod watch;
pub mod workload;

pub use run::{Options, run};
