//! The scheduling engine and the built-in policies.
//!
//! [`Engine`] is a plain library: put nodes and pods in, ask where a pod goes. No server, no async, no I/O. [`Scheduler`] runs an
//! engine against a cluster: it watches through a [`Client`](longshore_core::client::Client), keeps a queue, binds, and tells
//! people why pods wait; a [`SchedulerHandle`] asks it what it decided, why, and what would be. What policies are is said in
//! [`longshore_core::scheduling`]; the built-in ones are in [`policies`].
//!
//! ```
//! use std::sync::Arc;
//!
//! use longshore_core::api::{Node, pod::Pod};
//! use longshore_core::scheduling::{Refusal, TieBreak, per_node};
//! use longshore_scheduler::{Engine, Profile};
//!
//! let no_mondays = per_node::filter("NoMondays", |_pod, node| match node.label("day") {
//!     Some("monday") => Err(Refusal::unresolvable("node(s) had a Monday")),
//!     _ => Ok(()),
//! });
//! let mut engine = Engine::new(Profile::default_scheduler().with(no_mondays), TieBreak::ByName);
//! for (name, day) in [("a", "monday"), ("b", "friday")] {
//!     let node: Node = serde_json::from_value(serde_json::json!({
//!         "metadata": { "name": name, "labels": { "day": day } },
//!         "status": { "allocatable": { "cpu": "4", "memory": "8Gi", "pods": "110" } },
//!     }))?;
//!     engine.cluster_mut().put_node(Arc::new(node));
//! }
//! let placement = engine.place(&Arc::new(Pod::default()))?;
//! assert_eq!(placement.node, "b");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod config;
mod engine;
mod metrics;
mod point;
pub mod policies;
mod profile;
mod shell;

pub use engine::{
    Change, Course, Diagnosis, Engine, Explanation, GangRefused, NodeRefusal, NodeScore, Placement, PolicyScore,
    Remedy, Sampled, Sampling, Unplaced, Utilisation, WhatIf,
};
pub use metrics::SchedulerMetrics;
pub use point::ExtensionPoint;
pub use profile::{DEFAULT_SCHEDULER_NAME, Enabled, Profile};
pub use shell::{
    AskError, Backoff, Decision, DecisionFilter, Options, PodExplanation, PolicyRefusal, RefusedNode, RemedyText,
    Scheduler, SchedulerHandle, Verdict,
};

/// What can be wrong with how a scheduler is put together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A profile cannot work.
    #[error("profile {profile:?} cannot be used: {reason}")]
    Profile {
        /// The profile.
        profile: String,
        /// What is wrong with it, and what to do.
        reason: &'static str,
    },
    /// Two profiles have one name.
    #[error("two profiles are called {profile:?}; give each scheduler name once")]
    DuplicateProfile {
        /// The name.
        profile: String,
    },
    /// There is one queue, and two profiles would order it in different ways.
    #[error("different queue sort plugins for profile {profile:?}: {other:?}, first: {first:?}")]
    QueueOrder {
        /// The profile.
        profile: String,
        /// The policy that orders the queue by its choice.
        other: String,
        /// The policy that orders the queue by the first profile's.
        first: String,
    },
}
