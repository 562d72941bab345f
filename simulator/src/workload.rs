//! What arrives: nodes and jobs, moment by moment.
//!
//! Readers of traces and generators are iterators of [`Event`]s in the order of time, so that a workload streams: only what is alive is
//! in memory.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::Node;
use longshore_core::api::pod::Pod;
use longshore_core::kind::DynObject;
use serde::{Deserialize, Serialize};

/// Something happens at some moment.
#[derive(Debug, Clone)]
pub struct Event {
    /// When: the time since the workload began. Events of one moment happen in their order.
    pub at: Duration,
    /// What.
    pub what: What,
}

/// What can happen to a cluster from outside.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum What {
    /// A node is there, or it is other than before; its pods stay.
    Node(Arc<Node>),
    /// A node is lost. Its pods are lost with it and wait again, from their beginning.
    NodeLost(Arc<str>),
    /// A node shall be emptied and takes no more pods, until it comes as a [`What::Node`] again. Its pods wait again.
    Drain(Arc<str>),
    /// A job arrives.
    Job(Job),
    /// A job is no longer wanted: its pods end, wherever they are.
    Cancel(Arc<str>),
    /// A pod runs already, and nobody knows how long: as [`What::Job`] with this pod as its only task, placed on this node in the same
    /// moment without any scheduler. The job's name is the pod's: `namespace/name`.
    Running {
        /// The pod, with its name.
        pod: Arc<Pod>,
        /// Where it runs; this node is there.
        node: Arc<str>,
    },
    /// Another object that policies look at, such as a namespace, a volume or a claim, is there, or is other than before.
    Object(DynObject),
}

/// Tasks that belong together.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its name: no other job has it while this one lives.
    pub name: Arc<str>,
    /// Whose it is.
    pub user: Arc<str>,
    /// What it is for.
    pub class: Class,
    /// All of its tasks get places, or none does.
    pub gang: bool,
    /// Its tasks, in the order in which they are placed.
    pub tasks: Vec<Task>,
}

/// What a job is for, as the literature tells them apart (Schwarzkopf et al., Omega, EuroSys '13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Class {
    /// It computes something and ends.
    Batch,
    /// It serves others until it is no longer wanted.
    Service,
}

/// Equal pods.
#[derive(Debug, Clone)]
pub struct Task {
    /// The pod, which gets a name of its own when it is placed. Its priority is in its spec.
    pub pod: Arc<Pod>,
    /// How many of them.
    pub count: u32,
    /// How long each runs; `None`: until its job is cancelled.
    pub duration: Option<Duration>,
}

impl Job {
    /// How many pods.
    pub fn pods(&self) -> u64 {
        self.tasks.iter().map(|task| u64::from(task.count)).sum()
    }

    /// Its priority: that of its first task, 0 if it has none.
    pub fn priority(&self) -> i32 {
        self.tasks.first().and_then(|task| task.pod.spec.priority).unwrap_or(0)
    }
}
