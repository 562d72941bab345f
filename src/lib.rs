//! The facade: re-exports behind features, and nothing else. None is on by default.

// The README's programs use several features; they are compiled as tests where all of them are on.
#![cfg_attr(
    all(feature = "testing", feature = "scheduler", feature = "controllers", feature = "apiserver"),
    doc = include_str!("../README.md")
)]

#[cfg(feature = "apiserver")]
pub use longshore_apiserver as apiserver;
#[cfg(feature = "client")]
pub use longshore_client as client;
#[cfg(feature = "cluster")]
pub use longshore_cluster as cluster;
#[cfg(feature = "testing")]
pub use longshore_cluster::testing;
#[cfg(feature = "controllers")]
pub use longshore_controllers as controllers;
pub use longshore_core as core;
#[cfg(feature = "network")]
pub use longshore_network as network;
#[cfg(feature = "node")]
pub use longshore_node as node;
#[cfg(feature = "docker")]
pub use longshore_runtime_docker as runtime_docker;
#[cfg(feature = "oci")]
pub use longshore_runtime_oci as runtime_oci;
#[cfg(feature = "simulated")]
pub use longshore_runtime_simulated as runtime_simulated;
#[cfg(feature = "scheduler")]
pub use longshore_scheduler as scheduler;
#[cfg(feature = "simulator")]
pub use longshore_simulator as simulator;
#[cfg(feature = "embedded")]
pub use longshore_storage_embedded as storage_embedded;
#[cfg(feature = "etcd")]
pub use longshore_storage_etcd as storage_etcd;
