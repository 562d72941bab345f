//! Controllers that decide as pure functions, and the driver that acts.
//!
//! A controller is a [`Controller`]: `reconcile(view, key, now)` looks at what the caches show of one object's world and
//! answers with a [`Plan`], a list of actions. It cannot act, wait or fail. Everything else is done once, for all of
//! them, by the [`Driver`]: queues, carrying plans out, retries, and what to believe after a write whose outcome is
//! unknown. A controller sees its own writes (see [`longshore_core::informer`]), so it needs no book-keeping of what it
//! expects to happen.
//!
//! [`ControllerManager`] runs the built-in ones, each known by its name to [`Options::only`]: `namespace`,
//! `garbage_collector`, `serviceaccount`, `root_ca_cert_publisher`; `replicaset`, `replicationmanager`, `deployment`,
//! `daemonset`, `statefulset`, `job`; `endpoint`, `endpoint_slice`; `node_lifecycle`, `taint_eviction`,
//! `pod_garbage_collector`, `pod_group`, `node_ipam`; `disruption`, `stale_pod_disruption`; `persistentvolume_binder`,
//! `persistentvolumeclaim_protection`, `persistentvolume_protection`, `ephemeral_volume`. Where a rule needs explaining, the module of the controller explains it.

mod claim;
mod controller;
mod daemon_set;
mod deployment;
mod disruption;
mod driver;
mod endpoints;
mod ephemeral_volume;
pub mod garbage_collector;
mod hash;
mod job;
mod manager;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod plan;
mod pod_gc;
mod pod_group;
mod pods;
mod replicas;
mod revisions;
mod root_ca;
mod selects;
mod service_account;
mod stateful_set;
mod template;
mod volume_binder;
mod volume_protection;

pub use controller::{Controller, Failure, Triggers, View};
pub use driver::{Driver, Settings};
pub use garbage_collector::GarbageCollector;
pub use manager::{ControllerManager, Options};
pub use namespace::NamespaceController;
pub use node_ipam::{ClusterRangeError, NodeMasks};
pub use plan::{Action, Note, ObjectRef, Plan, Report, Verb, Words};
pub use root_ca::RootCaPublisher;
pub use service_account::ServiceAccountController;

#[cfg(test)]
mod testing;
