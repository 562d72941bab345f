//! Devices that a node offers: plug-ins tell which there are, pods get them, containers see them.
//!
//! A plug-in is an implementation of [`DevicePlugin`], in this process ([`Options::device_plugins`](crate::Options)) or in one
//! of its own. For the latter the agent speaks Kubernetes' device plug-in API, `v1beta1`, over unix sockets in
//! [`Options::device_plugin_dir`](crate::Options): what is made for any kubelet works. [`serve`] is the other side: a plug-in
//! written against the trait serves Longshore's agents and kubelets alike.
//!
//! Of the API this is not used: `GetPreferredAllocation`, for the scheduler has chosen already; `topology`; CDI devices,
//! which are refused. `Allocate` is called whenever a container is made, not once a pod, so that the agent keeps no answers.
//!
//! Which device a pod has is written where it cannot be lost: in the pod's annotation, which the scheduler writes when it binds, or
//! the agent does; and in the annotations of its sandbox. See [`longshore_core::devices`].

mod fake;
mod grpc;
mod manager;
mod proto;
mod registration;
mod remote;
mod serve;

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use futures::stream::BoxStream;
use longshore_core::runtime::{ContainerConfig, Device, Mount};

pub use fake::FakeGpus;
pub use serve::serve;

pub(crate) use manager::Devices;

/// A device, as its plug-in tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginDevice {
    /// What tells it from the node's other devices of its kind.
    pub id: String,
    /// Whether it works. One that does not is not given out; who has it keeps it.
    pub healthy: bool,
}

/// What a container needs to use the devices that it was given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allocation {
    /// Environment; what the container's spec says goes first.
    pub env: BTreeMap<String, String>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Device nodes.
    pub devices: Vec<Device>,
    /// Annotations of the container for the runtime.
    pub annotations: BTreeMap<String, String>,
}

impl Allocation {
    fn add(&mut self, other: Self) {
        self.env.extend(other.env);
        self.mounts.extend(other.mounts);
        self.devices.extend(other.devices);
        self.annotations.extend(other.annotations);
    }

    /// Adds all this to a container.
    pub(crate) fn apply(self, config: &mut ContainerConfig) {
        // The later one of two variables of a name holds.
        config.env.splice(0..0, self.env);
        config.mounts.extend(self.mounts);
        config.devices.extend(self.devices);
        config.annotations.extend(self.annotations);
    }
}

/// Why a plug-in did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PluginError(pub String);

impl PluginError {
    fn new(what: impl fmt::Display) -> Self {
        Self(what.to_string())
    }
}

/// Offers devices of one kind.
#[async_trait]
pub trait DevicePlugin: fmt::Debug + Send + Sync + 'static {
    /// The kind: an extended resource, such as `example.com/gpu`. Does not change.
    fn resource(&self) -> &str;

    /// The devices that there are, all of them, at once and then whenever anything changes. When the stream ends, the plug-in is
    /// gone, and none of its devices is given out.
    fn devices(&self) -> BoxStream<'static, Result<Vec<PluginDevice>, PluginError>>;

    /// What a container needs to use these devices. Asked whenever one is made, so perhaps several times for a pod.
    ///
    /// # Errors
    /// Why they cannot be used. The container waits and is tried again.
    async fn allocate(&self, ids: &[String]) -> Result<Allocation, PluginError>;
}
