//! The node's own object: registered once, its status reported when it changes and now and then.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use longshore_core::api::node::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeAddressType, NodeCondition, NodeDaemonEndpoints,
    NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus, NodeSystemInfo,
};
use longshore_core::api::{ConditionStatus, Node, ResourceList};
use longshore_core::client::params::{Patch, PatchParams, PostParams};
use longshore_core::client::{Api, Error};
use longshore_core::devices::ANNOTATION;
use longshore_core::quantity::{Format, Quantity};
use longshore_core::runtime::{Image, Info};
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::machine::{self, Pressure};
use crate::shared::Shared;
use crate::{Options, json_diff};

/// How much longer than a real one a simulated node waits between looks at itself: there are thousands of them.
const SIMULATED: u32 = 4;

/// Images listed in the node's status, the largest first, as upstream.
const IMAGES_MAX: usize = 50;
/// Wait before trying again after the server could not be reached.
const RETRY: Duration = Duration::from_secs(1);

/// What is observed of the machine and its runtime.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Observation {
    pub(crate) pressure: Pressure,
    pub(crate) images: Vec<Image>,
    /// Why the node cannot run pods; empty if it can.
    pub(crate) not_ready: String,
}

/// Keeps the node's object current.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    node: Mutex<Option<Arc<Node>>>,
    /// Somebody changed what the status tells.
    pub(crate) changed: Notify,
}

impl Reporter {
    /// The node's object as last seen.
    pub(crate) fn node(&self) -> Option<Arc<Node>> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, node: Arc<Node>) {
        *self.node.lock().unwrap_or_else(PoisonError::into_inner) = Some(node);
    }

    /// Registers the node, trying until it succeeds, then keeps its status current.
    pub(crate) async fn run(&self, shared: &Shared, cancel: &CancellationToken) {
        let work = async {
            while let Err(error) = self.register(shared).await {
                tracing::warn!(node = shared.options.node_name, %error, "cannot register the node, trying again");
                shared.clock.sleep(RETRY).await;
            }
            self.keep_current(shared).await;
        };
        cancel.run_until_cancelled(work).await;
    }

    async fn register(&self, shared: &Shared) -> Result<(), Error> {
        let api: Api<Node> = Api::all(shared.client.clone());
        let fresh = node(shared, &observe(shared).await, shared.clock.now());
        let existing = match api.create(fresh.clone(), &PostParams::default()).await {
            Ok(created) => {
                self.keep(created);
                return Ok(());
            }
            Err(error) if error.is_already_exists() => api.get(&shared.options.node_name).await?,
            Err(error) => return Err(error),
        };
        let patch = reconcile_metadata(&existing, &fresh);
        let existing = match patch {
            Some(patch) => api.patch(&shared.options.node_name, &Patch::Merge(patch), &PatchParams::default()).await?,
            None => existing,
        };
        self.keep(existing);
        self.report(shared, true).await
    }

    async fn keep_current(&self, shared: &Shared) {
        let mut reported = shared.clock.elapsed();
        loop {
            tokio::select! {
                biased;
                () = shared.clock.sleep(self.pause(shared, reported)) => {}
                () = self.changed.notified() => {}
            }
            let due = shared.clock.elapsed().saturating_sub(reported) >= shared.options.status_interval;
            match self.report(shared, due).await {
                Ok(()) if due => reported = shared.clock.elapsed(),
                Ok(()) => {}
                Err(error) if error.is_not_found() => {
                    // Somebody deleted the object of a node that is alive.
                    if let Err(error) = self.register(shared).await {
                        tracing::warn!(%error, "cannot register the node again");
                    }
                }
                Err(error) => tracing::warn!(%error, "cannot report the node's status"),
            }
        }
    }

    /// A simulated node has nothing that changes by itself, but others may have written that nobody knows how it is.
    fn pause(&self, shared: &Shared, reported: Duration) -> Duration {
        let left = shared.options.status_interval.saturating_sub(shared.clock.elapsed().saturating_sub(reported));
        let check = shared.options.check_interval * if shared.is_real() { 1 } else { SIMULATED };
        left.min(check).max(Duration::from_millis(1))
    }

    /// Writes the status if it changed or if a heartbeat is due.
    async fn report(&self, shared: &Shared, heartbeat: bool) -> Result<(), Error> {
        let api: Api<Node> = Api::all(shared.client.clone());
        // Others write into it as well: of a node that was silent for too long they say that nobody knows how it is.
        let mut last = api.get(&shared.options.node_name).await?;
        self.keep(last.clone());
        // Before the amounts: who sees these shall know the devices.
        let devices = shared.devices.annotation();
        if last.metadata.annotations.as_ref().and_then(|all| all.get(ANNOTATION)) != devices.as_ref() {
            let patch = json!({"metadata": {"annotations": {ANNOTATION: devices}}});
            last = api.patch(&shared.options.node_name, &Patch::Merge(patch), &PatchParams::default()).await?;
            self.keep(last.clone());
        }
        let now = shared.clock.now();
        let mut status = status(shared, &observe(shared).await, &last.status, now);
        if !heartbeat {
            for condition in &mut status.conditions {
                let old = last.status.conditions.iter().find(|old| old.type_ == condition.type_);
                condition.last_heartbeat_time = old.and_then(|old| old.last_heartbeat_time.clone());
            }
        }
        let Some(patch) = json_diff::merge_patch(&json!({"status": last.status}), &json!({"status": status})) else {
            return Ok(());
        };
        let stored = api.patch_status(&shared.options.node_name, &Patch::Merge(patch), &PatchParams::default()).await?;
        self.keep(stored);
        Ok(())
    }
}

/// Labels that the agent owns and range of addresses, as a patch of an existing node; `None` if nothing differs.
fn reconcile_metadata(existing: &Node, fresh: &Node) -> Option<serde_json::Value> {
    let have = existing.metadata.labels.clone().unwrap_or_default();
    let wanted = fresh.metadata.labels.clone().unwrap_or_default();
    let labels: BTreeMap<_, _> = wanted.into_iter().filter(|(key, value)| have.get(key) != Some(value)).collect();
    let ranges = existing.spec.pod_cidrs.is_empty() && !fresh.spec.pod_cidrs.is_empty();
    let mut patch = json!({});
    if !labels.is_empty() {
        patch["metadata"] = json!({"labels": labels});
    }
    if ranges {
        patch["spec"] = json!({"podCIDR": fresh.spec.pod_cidr, "podCIDRs": fresh.spec.pod_cidrs});
    }
    patch.as_object().is_some_and(|patch| !patch.is_empty()).then_some(patch)
}

async fn observe(shared: &Shared) -> Observation {
    let (images, not_ready) = match shared.runtime.images().list().await {
        Ok(images) => (images, String::new()),
        Err(error) => (Vec::new(), format!("container runtime is down: {error}")),
    };
    let pressure = if shared.is_real() { machine::pressure(&shared.options.root_dir) } else { Pressure::default() };
    Observation { pressure, images, not_ready }
}

/// The node as it registers.
fn node(shared: &Shared, observation: &Observation, now: Timestamp) -> Node {
    let options = &shared.options;
    let architecture = machine::architecture();
    let mut labels: BTreeMap<String, String> = [
        ("kubernetes.io/hostname", options.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    labels.extend(options.labels.clone());
    Node {
        metadata: ObjectMeta {
            name: Some(options.node_name.clone()),
            labels: Some(labels),
            annotations: (!options.annotations.is_empty()).then(|| options.annotations.clone()),
            ..ObjectMeta::default()
        },
        spec: NodeSpec {
            pod_cidr: options.pod_cidrs.first().cloned().unwrap_or_default(),
            pod_cidrs: options.pod_cidrs.clone(),
            taints: options.taints.clone(),
            ..NodeSpec::default()
        },
        status: status(shared, observation, &NodeStatus::default(), now),
        ..Node::default()
    }
}

fn status(shared: &Shared, observation: &Observation, last: &NodeStatus, now: Timestamp) -> NodeStatus {
    let options = &shared.options;
    let mut addresses: Vec<NodeAddress> = (options.addresses.iter())
        .map(|address| NodeAddress { type_: NodeAddressType::InternalIP, address: address.to_string() })
        .collect();
    addresses.push(NodeAddress { type_: NodeAddressType::Hostname, address: options.node_name.clone() });
    let (capacity, allocatable) = shared.offer();
    NodeStatus {
        capacity,
        allocatable,
        conditions: conditions(observation, &last.conditions, now),
        addresses,
        daemon_endpoints: NodeDaemonEndpoints { kubelet_endpoint: DaemonEndpoint { port: options.port.into() } },
        node_info: system_info(options, &shared.info),
        images: images(&observation.images),
        runtime_handlers: handlers(&shared.info),
        // What others wrote into the status stays.
        ..last.clone()
    }
}

fn system_info(options: &Options, runtime: &Info) -> NodeSystemInfo {
    let machine = if runtime.capabilities.real {
        machine::system_info()
    } else {
        NodeSystemInfo {
            os_image: "Simulated".to_owned(),
            operating_system: "linux".to_owned(),
            architecture: machine::architecture().to_owned(),
            ..NodeSystemInfo::default()
        }
    };
    NodeSystemInfo {
        container_runtime_version: format!("{}://{}", runtime.name, runtime.version),
        kubelet_version: options.version.clone(),
        ..machine
    }
}

/// What the runtime can do for pods that ask for it.
fn handlers(runtime: &Info) -> Vec<NodeRuntimeHandler> {
    if !runtime.capabilities.real {
        return Vec::new();
    }
    let features = NodeRuntimeHandlerFeatures {
        recursive_read_only_mounts: Some(runtime.capabilities.recursive_read_only),
        user_namespaces: Some(false),
    };
    vec![NodeRuntimeHandler { name: String::new(), features: Some(features) }]
}

fn images(images: &[Image]) -> Vec<ContainerImage> {
    let mut images: Vec<&Image> = images.iter().collect();
    images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    let listed = |image: &&Image| ContainerImage {
        names: image.digests.iter().chain(&image.tags).cloned().collect(),
        size_bytes: i64::try_from(image.size).unwrap_or(i64::MAX),
    };
    images.iter().take(IMAGES_MAX).map(listed).collect()
}

/// The conditions in upstream's order and words; times of change are kept where nothing changed.
fn conditions(observation: &Observation, last: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
    let pressure = |type_, holds, lack: &str, message: &str, plenty: &str| {
        let (status, reason, message) = if holds {
            (ConditionStatus::True, lack.to_owned(), message.to_owned())
        } else {
            (ConditionStatus::False, plenty.to_owned(), String::new())
        };
        (type_, status, reason, message)
    };
    let mut wanted = vec![
        pressure(
            "MemoryPressure",
            observation.pressure.memory,
            "KubeletHasInsufficientMemory",
            "kubelet has insufficient memory available",
            "KubeletHasSufficientMemory",
        ),
        pressure(
            "DiskPressure",
            observation.pressure.disk,
            "KubeletHasDiskPressure",
            "kubelet has disk pressure",
            "KubeletHasNoDiskPressure",
        ),
        pressure(
            "PIDPressure",
            false,
            "KubeletHasInsufficientPID",
            "kubelet has insufficient PID available",
            "KubeletHasSufficientPID",
        ),
    ];
    for (_, status, reason, message) in &mut wanted {
        if *status == ConditionStatus::False {
            *message = match reason.as_str() {
                "KubeletHasSufficientMemory" => "kubelet has sufficient memory available",
                "KubeletHasNoDiskPressure" => "kubelet has no disk pressure",
                _ => "kubelet has sufficient PID available",
            }
            .to_owned();
        }
    }
    wanted.push(if observation.not_ready.is_empty() {
        ("Ready", ConditionStatus::True, "KubeletReady".to_owned(), "kubelet is posting ready status".to_owned())
    } else {
        ("Ready", ConditionStatus::False, "KubeletNotReady".to_owned(), observation.not_ready.clone())
    });
    let made = wanted.into_iter().map(|(type_, status, reason, message)| {
        let since = last.iter().find(|old| old.type_ == type_ && old.status == status);
        NodeCondition {
            type_: type_.to_owned(),
            last_transition_time: since.and_then(|old| old.last_transition_time.clone()).or(Some(Time(now))),
            last_heartbeat_time: Some(Time(now)),
            status,
            reason,
            message,
        }
    });
    let mut conditions: Vec<NodeCondition> = made.collect();
    // Conditions of others stay.
    let foreign = last.iter().filter(|old| conditions.iter().all(|new| new.type_ != old.type_));
    let foreign: Vec<NodeCondition> = foreign.cloned().collect();
    conditions.extend(foreign);
    conditions
}

/// What the node has and what of it pods may use.
pub(crate) fn resources(options: &Options, real: bool) -> (ResourceList, ResourceList) {
    let mut capacity = if real { machine::capacity(&options.root_dir) } else { ResourceList::new() };
    capacity.insert("pods".to_owned(), Quantity::from_value(options.max_pods.into(), Format::DecimalSi));
    capacity.extend(options.capacity.clone());
    let mut allocatable = capacity.clone();
    let mut withhold = |name: &str, amount: &Quantity| {
        if let Some(left) = allocatable.get_mut(name) {
            *left -= amount;
            if left.sign() < 0 {
                *left = Quantity::from_value(0, left.format());
            }
        }
    };
    options.reserved.iter().for_each(|(name, amount)| withhold(name, amount));
    // Memory in huge pages can be had only as such.
    let huge = capacity.iter().filter(|(name, _)| name.starts_with("hugepages-"));
    huge.for_each(|(_, amount)| withhold("memory", amount));
    (capacity, allocatable)
}

#[cfg(test)]
#[path = "register_tests.rs"]
mod tests;
