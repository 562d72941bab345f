//! What can go wrong with a simulation.

use std::sync::Arc;
use std::time::Duration;

use crate::workload::Class;

/// Why a simulation cannot be run as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// There is nobody to decide.
    #[error("the architecture has no scheduler; give at least one")]
    NoSchedulers,
    /// There is nothing to decide by.
    #[error("there is no profile to decide by; give at least one")]
    NoProfiles,
    /// Jobs of a class would wait for ever.
    #[error("no scheduler takes jobs of class {class:?}; let one take them, or all")]
    NobodyTakes {
        /// The class.
        class: Class,
    },
    /// The time cannot be measured.
    #[error(
        "decision times are to be measured, but there is no clock to measure by; give one, or a model of the times"
    )]
    NoClock,
    /// No job would ever be tried.
    #[error("jobs are to be given up after 0 attempts; give at least 1")]
    NoAttempts,
    /// Schedulers that are offered what is free cannot evict.
    #[error("schedulers that get offers see what is free, not whom to evict: switch preemption off")]
    PreemptionByOffers,
    /// The profiles do not go together.
    #[error(transparent)]
    Profiles(#[from] longshore_scheduler::Error),
}

/// Why a simulation ended before its time. `E` is what the workload's source says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E: std::error::Error + 'static> {
    /// It cannot be run as it is configured.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The workload cannot be read.
    #[error("the workload cannot be read on after {events} events, at {at:?}")]
    Events {
        /// How many events came before.
        events: u64,
        /// The time of the last of them.
        at: Duration,
        /// What its source says.
        source: E,
    },
    /// An event is out of order.
    #[error(
        "event {number} is of {at:?}, but the ones before reach {now:?}: a workload's events must be in the order of time; sort them"
    )]
    OutOfOrder {
        /// Which, from 1.
        number: u64,
        /// Its time.
        at: Duration,
        /// The time so far.
        now: Duration,
    },
    /// Two jobs of one name.
    #[error("job {job:?} arrives at {at:?} while another of that name lives; give each its own name")]
    SameJob {
        /// The name.
        job: Arc<str>,
        /// When the second arrives.
        at: Duration,
    },
    /// A node without a name.
    #[error("the node that comes at {at:?} has no name; give each its own")]
    NamelessNode {
        /// When.
        at: Duration,
    },
}
