//! Who looks on while a simulation runs.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::NodeId;
use longshore_core::scheduling::cluster::Cluster;

use crate::workload::Job;

/// Looks on: measures, progress, a record. It can change nothing.
pub trait Observer {
    /// Hears what happens, when it has happened, in the order of time. `cluster` is what is so now: what one attempt changed, it shows
    /// all together, before the first pod of it is told of.
    fn hear(&mut self, at: Duration, what: &Happening<'_>, cluster: &Cluster);
}

/// What happens in a simulation.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Happening<'s> {
    /// A node is there, or is other than before.
    NodeUp(NodeId),
    /// A node is lost, or will be emptied and takes no more pods.
    NodeDown(NodeId),
    /// A job has arrived.
    JobArrived(&'s Arc<Job>),
    /// A scheduler has made up its mind about a job, as far as it could.
    Attempt(Attempt<'s>),
    /// A pod has a place and runs.
    Placed(Placed<'s>),
    /// No node can take a pod as it is now; it waits. Of a job's equal pods one is told of; [`Attempt::refused`] counts all.
    Refused {
        /// Its job.
        job: &'s Arc<Job>,
        /// The pod.
        pod: &'s Arc<Pod>,
    },
    /// A pod has left its node.
    Left {
        /// Its job.
        job: &'s Arc<Job>,
        /// The pod.
        pod: &'s Arc<Pod>,
        /// Where it was.
        node: NodeId,
        /// Since when.
        since: Duration,
        /// Why.
        why: Why,
    },
    /// A job did not get all of its places in as many attempts as it may have: those of its pods that wait are given up.
    GivenUp {
        /// The job.
        job: &'s Arc<Job>,
        /// When it arrived.
        arrived: Duration,
        /// How many pods are given up.
        waiting: u64,
    },
    /// All pods of a job have ended or were given up, or it was cancelled.
    JobEnded {
        /// The job.
        job: &'s Arc<Job>,
        /// When it arrived.
        arrived: Duration,
    },
}

/// One attempt of one scheduler at one job.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'s> {
    /// The scheduler's place in the list of schedulers.
    pub scheduler: usize,
    /// The job.
    pub job: &'s Arc<Job>,
    /// When the job arrived.
    pub arrived: Duration,
    /// Whether it was the first attempt at this job.
    pub first: bool,
    /// When the scheduler began to think; now it has ended.
    pub began: Duration,
    /// How many pods got places.
    pub placed: u32,
    /// How many pods were given places that were gone when they were claimed.
    pub conflicts: u32,
    /// How many pods no node could take.
    pub refused: u32,
}

/// A pod got a place.
#[derive(Debug, Clone, Copy)]
pub struct Placed<'s> {
    /// Its job.
    pub job: &'s Arc<Job>,
    /// The pod, with its name.
    pub pod: &'s Arc<Pod>,
    /// Where.
    pub node: NodeId,
    /// Since when it waited: its job's arrival, or when it lost its last place.
    pub waiting_since: Duration,
    /// How long it will run if it is left alone.
    pub duration: Option<Duration>,
}

/// Why a pod left its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Why {
    /// It ended by itself.
    Finished,
    /// Its node was lost.
    NodeLost,
    /// Its node is emptied.
    Drained,
    /// It had to make room for a pod of higher priority.
    Preempted,
    /// Its job is no longer wanted.
    Cancelled,
}
