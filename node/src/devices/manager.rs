//! Which devices there are, and who has them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use longshore_core::api::{Pod, ResourceList};
use longshore_core::devices::{Assignment, BestFit, Charge, Lack, Pool, WHOLE, share_name};
use longshore_core::quantity::{Format, Quantity};
use longshore_core::validation::Path;
use longshore_core::validation::names::validate_qualified_name;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Allocation, DevicePlugin, PluginDevice, PluginError, registration};
use crate::pod::observed::Refusal;
use crate::register::Reporter;
use crate::shared::Shared;

/// How long the devices of a plug-in that is gone are counted among what the node has, as upstream.
const GRACE: Duration = Duration::from_secs(5 * 60);
/// Kinds with more devices are not told of one by one, for annotations have an end; the agent alone chooses among them.
const TOLD_MAX: usize = 128;
/// Environment of a container that has a part of a device: how many thousandths.
const SHARE_VARIABLE: &str = "LONGSHORE_DEVICE_MILLI";

/// The devices of a node.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kinds: BTreeMap<String, Kind>,
    /// By the pod's uid.
    assigned: BTreeMap<String, Assigned>,
    registrations: u64,
}

#[derive(Debug)]
struct Kind {
    plugin: Arc<dyn DevicePlugin>,
    /// Which registration this is: what an earlier one says no longer counts.
    registration: u64,
    /// Whether each is healthy.
    devices: BTreeMap<String, bool>,
    /// Since when the plug-in is gone.
    gone: Option<Duration>,
    /// Whether parts of devices may be asked for.
    shared: bool,
}

#[derive(Debug)]
struct Assigned {
    assignment: Assignment,
    charge: Charge,
}

impl Kind {
    fn usable(&self) -> impl Iterator<Item = &str> {
        let usable = self.devices.iter().filter(|(_, healthy)| **healthy && self.gone.is_none());
        usable.map(|(id, _)| id.as_str())
    }
}

impl State {
    /// What is left of the devices that can be given out.
    fn pool(&self) -> Pool {
        let mut pool = Pool::new(self.kinds.iter().map(|(kind, of)| (kind.as_str(), of.usable())));
        self.assigned.values().for_each(|assigned| pool.take(&assigned.charge));
        pool
    }
}

impl Devices {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows plug-ins, those of the options and those that register, until cancelled.
    pub(crate) async fn run(&self, shared: &Shared, reporter: &Reporter, cancel: &CancellationToken) {
        let options = &shared.options;
        let (sender, mut registered) = mpsc::channel(1);
        let mut followed = FuturesUnordered::new();
        for plugin in &options.device_plugins {
            followed.push(self.follow(plugin.clone(), shared, reporter));
        }
        let registration = async {
            match &options.device_plugin_dir {
                Some(directory) => registration::run(directory, sender, cancel).await,
                None => drop(sender),
            }
        };
        let work = async {
            loop {
                tokio::select! {
                    biased;
                    Some(plugin) = registered.recv() => followed.push(self.follow(plugin, shared, reporter)),
                    Some(()) = followed.next() => {}
                    else => return,
                }
            }
        };
        tokio::join!(registration, cancel.run_until_cancelled(work));
    }

    /// Follows a plug-in until it is gone, and forgets its devices after a while.
    async fn follow(&self, plugin: Arc<dyn DevicePlugin>, shared: &Shared, reporter: &Reporter) {
        let resource = plugin.resource().to_owned();
        if let Err(why) = check_name(&resource) {
            return tracing::warn!(resource, why, "a device plug-in is not taken");
        }
        let is_shared = shared.options.shared_devices.contains(&resource);
        let registration = self.register(plugin.clone(), is_shared);
        let mut lists = plugin.devices();
        let why = loop {
            match lists.next().await {
                Some(Ok(devices)) => self.listed(&resource, registration, devices),
                Some(Err(error)) => break error,
                None => break PluginError::new("it went away"),
            }
            reporter.changed.notify_one();
        };
        if self.gone(&resource, registration, shared.clock.elapsed()) {
            tracing::warn!(resource, %why, "a device plug-in is gone; its devices are given out no more");
            reporter.changed.notify_one();
            shared.clock.sleep(GRACE).await;
            self.forget(&resource, registration);
            reporter.changed.notify_one();
        }
    }

    /// A plug-in takes the place of an earlier one for the same kind; what that one told holds until the new one tells.
    fn register(&self, plugin: Arc<dyn DevicePlugin>, shared: bool) -> u64 {
        let mut state = self.state();
        state.registrations += 1;
        let registration = state.registrations;
        let resource = plugin.resource().to_owned();
        let devices = state.kinds.remove(&resource).map(|before| before.devices).unwrap_or_default();
        let gone = (!devices.is_empty()).then_some(Duration::ZERO);
        state.kinds.insert(resource, Kind { plugin, registration, devices, gone, shared });
        registration
    }

    fn listed(&self, resource: &str, registration: u64, devices: Vec<PluginDevice>) {
        let mut state = self.state();
        let kind = state.kinds.get_mut(resource).filter(|kind| kind.registration == registration);
        if let Some(kind) = kind {
            kind.gone = None;
            kind.devices = devices.into_iter().map(|device| (device.id, device.healthy)).collect();
        }
    }

    fn gone(&self, resource: &str, registration: u64, now: Duration) -> bool {
        let mut state = self.state();
        let kind = state.kinds.get_mut(resource).filter(|kind| kind.registration == registration);
        kind.map(|kind| kind.gone = Some(now)).is_some()
    }

    fn forget(&self, resource: &str, registration: u64) {
        let mut state = self.state();
        if state.kinds.get(resource).is_some_and(|kind| kind.registration == registration) {
            state.kinds.remove(resource);
        }
    }

    /// Adds what there is of devices to what the node has and what of it pods may use.
    pub(crate) fn offer(&self, capacity: &mut ResourceList, allocatable: &mut ResourceList) {
        let number = |count: usize, each: i64| {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            Quantity::from_value(count.saturating_mul(each), Format::DecimalSi)
        };
        for (resource, kind) in &self.state().kinds {
            let (all, usable) = (kind.devices.len(), kind.usable().count());
            let mut tell = |name: String, each| {
                capacity.insert(name.clone(), number(all, each));
                allocatable.insert(name, number(usable, each));
            };
            tell(resource.clone(), 1);
            if kind.shared {
                tell(share_name(resource), WHOLE);
            }
        }
    }

    /// The text of the node's annotation; `None` without devices.
    pub(crate) fn annotation(&self) -> Option<String> {
        let state = self.state();
        let told = state.kinds.iter().filter(|(_, kind)| kind.usable().next().is_some());
        let told = told.filter(|(_, kind)| kind.devices.len() <= TOLD_MAX);
        let pool = Pool::new(told.map(|(resource, kind)| (resource.as_str(), kind.usable())));
        (pool != Pool::default()).then(|| pool.to_text())
    }

    /// Gives devices to a pod that is new on the node: those that it was told, or others. Says whether the pod has yet to be told.
    pub(crate) fn assign(&self, pod: &Pod) -> Result<bool, Refusal> {
        let mut state = self.state();
        let pool = state.pool();
        if !pool.concerns(pod) {
            return Ok(false);
        }
        let told = Assignment::of(pod).unwrap_or_default();
        let charge = told.charge(pod);
        if !pool.has(&charge) {
            let kinds: Vec<&str> = charge.keys().map(String::as_str).collect();
            let why = format!("devices that the pod was given being unavailable for {}", kinds.join(", "));
            return Err(unexpected(&why));
        }
        let rest = pool.without(charge.keys()).assign(pod, &BestFit).map_err(|lack| unavailable(&lack))?;
        let tell = told.is_empty();
        state.keep(pod, told.with(rest));
        Ok(tell)
    }

    /// Takes up what a pod has that runs already: what was noted with its sandbox, or in its annotation.
    pub(crate) fn recover(&self, pod: &Pod, noted: Option<&String>) {
        let noted = noted.and_then(|text| Assignment::read(text, pod)).or_else(|| Assignment::of(pod));
        if let Some(assignment) = noted {
            self.state().keep(pod, assignment);
        }
    }

    /// The pod is over, or was refused.
    pub(crate) fn release(&self, uid: &str) {
        self.state().assigned.remove(uid);
    }

    /// What the pod has, as an annotation tells it.
    pub(crate) fn note(&self, uid: &str) -> Option<String> {
        self.state().assigned.get(uid).map(|assigned| assigned.assignment.to_text())
    }

    /// What a container needs to use its devices.
    pub(crate) async fn allocate(&self, uid: &str, container: &str) -> Result<Allocation, String> {
        let mut wanted = Vec::new();
        if let Some(assigned) = self.state().assigned.get(uid) {
            let kinds = assigned.assignment.container(container);
            wanted.extend(kinds.map(|(kind, amounts)| (kind.to_owned(), amounts.clone())));
        }
        let mut allocation = Allocation::default();
        for (resource, amounts) in wanted {
            let plugin =
                self.state().kinds.get(&resource).filter(|kind| kind.gone.is_none()).map(|kind| kind.plugin.clone());
            let plugin = plugin.ok_or_else(|| format!("no device plug-in is registered for {resource}"))?;
            let ids: Vec<String> = amounts.keys().cloned().collect();
            let given = plugin.allocate(&ids).await;
            allocation.add(given.map_err(|error| format!("the device plug-in for {resource}: {error}"))?);
            if let Some(share) = amounts.values().find(|amount| **amount < WHOLE) {
                allocation.env.insert(SHARE_VARIABLE.to_owned(), share.to_string());
            }
        }
        Ok(allocation)
    }
}

impl State {
    fn keep(&mut self, pod: &Pod, assignment: Assignment) {
        let charge = assignment.charge(pod);
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        self.assigned.insert(uid, Assigned { assignment, charge });
    }
}

/// As upstream: extended resources have a domain that is not Kubernetes' own.
pub(super) fn check_name(resource: &str) -> Result<(), &'static str> {
    let domain = resource.split_once('/').map_or("", |(domain, _)| domain);
    if domain.is_empty() || domain.ends_with("kubernetes.io") || resource.starts_with("requests.") {
        return Err("its resource is none with a domain of its own, such as example.com/gpu");
    }
    // With `requests.` before it, it must still be a name: quotas call it so.
    if !validate_qualified_name(&format!("requests.{resource}"), &Path::default()).is_empty() {
        return Err("its resource is no valid name");
    }
    if resource.ends_with("-milli") {
        return Err("resources that end in -milli are parts of devices");
    }
    Ok(())
}

fn unexpected(why: &str) -> Refusal {
    let message = format!("Allocate failed due to {why}, which is unexpected");
    Refusal { reason: "UnexpectedAdmissionError".to_owned(), message }
}

/// In upstream's words.
fn unavailable(lack: &Lack) -> Refusal {
    let Lack { resource, asked, available, .. } = lack;
    unexpected(&format!(
        "requested number of devices unavailable for {resource}. Requested: {asked}, Available: {available}"
    ))
}

#[cfg(test)]
#[path = "manager_tests.rs"]
mod tests;
