//! Workloads that no trace tells: from distributions, from upstream's `scheduler_perf`, and from other workloads.

mod distribution;
mod failures;
mod fit;
mod inflated;
mod jobs;
mod nodes;
mod process;
pub mod scheduler_perf;
mod source;
mod streams;
#[cfg(test)]
mod tests;

pub use distribution::{Distribution, Family, Sampler, Samples};
pub use fit::fit;
pub use inflated::Inflated;
pub use jobs::Jobs;
pub use nodes::Nodes;
pub use process::Process;
pub use scheduler_perf::SchedulerPerf;
pub use source::Source;
pub use streams::merge;
