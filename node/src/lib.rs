//! The node agent: runs the pods that are bound to one node.
//!
//! A [`NodeAgent`] sees the cluster through [`Client`](longshore_core::client::Client), containers through
//! [`Runtime`](longshore_core::runtime::Runtime), the pod network through
//! [`Network`](longshore_core::network::Network) and time through [`Clock`](longshore_core::clock::Clock), and knows no
//! implementation of them. It registers its node, renews the node's lease, runs the node's pods, reports what became
//! of them, probes containers, keeps volumes current, makes volumes that outlive pods, programmes Services and keeps images
//! from filling the disk; with a [`Server`](longshore_network::dns::Server) it serves the cluster's names, too
//! ([`NodeAgent::with_dns`]).
//!
//! One state machine drives each pod: a pure function (`pod/plan.rs`) decides from what is wanted and what is seen
//! what to do next, and a worker (`pod/worker.rs`) does it. All that must outlive the agent is kept by the runtime, the
//! network or the server, so **the agent can be killed at any moment and started again without harming pods**: it
//! lists what is there, goes on with what belongs to its pods and removes the rest.
//!
//! ```
//! # use std::sync::Arc;
//! # use longshore_core::{client::Client, network::Network, runtime::Runtime};
//! use longshore_core::clock::SystemClock;
//! use longshore_node::{NodeAgent, Options};
//!
//! # fn build(client: Arc<dyn Client>, runtime: Arc<dyn Runtime>, network: Arc<dyn Network>) {
//! let options = Options::new("worker-1", "/var/lib/longshore/node", 42);
//! let agent = NodeAgent::new(client, runtime, network, Arc::new(SystemClock::new()), options);
//! // let running = agent.run(cancel);
//! # }
//! ```

mod admission;
mod agent;
pub mod devices;
mod dns;
mod env;
mod env_file;
mod expand;
mod files;
pub mod http;
mod image_gc;
mod images;
mod json_diff;
mod lease;
mod machine;
mod options;
mod orphans;
mod peers;
mod pod;
mod pods;
mod policies;
mod probes;
mod provisioner;
mod proxy;
mod pull_secrets;
#[cfg(test)]
mod real_tests;
mod register;
mod room;
mod services;
mod shared;
mod sources;
mod sysctls;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod testing_real;
mod tokens;
mod topology;
mod volumes;

pub use agent::NodeAgent;
pub use options::{ImageGc, Options};
pub use policies::policies;
pub use sysctls::parse as parse_sysctl;
