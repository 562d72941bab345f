//! Devices of nodes, such as GPUs, whole or in thousandths: which there are, who has which, and how they are chosen.
//!
//! # The model
//!
//! A node has devices of a *kind*, which is an extended resource such as `longshore.dev/gpu`. A container asks for whole devices
//! by that resource, `longshore.dev/gpu: 2`, and for a part of **one** device in thousandths by the resource with `-milli`
//! behind its name, `longshore.dev/gpu-milli: 500`. Both may be asked for at once, and are different devices then. A device has
//! 1000 thousandths ([`WHOLE`]); one that is given out whole is not shared, and a share never spans two devices.
//!
//! Two annotations carry what the numbers of Kubernetes cannot, so that any scheduler goes on to understand
//! `status.allocatable`:
//!
//! - of a node ([`ANNOTATION`]): the devices that may be shared and are well, by kind, as `{"longshore.dev/gpu":["gpu-0","gpu-1"]}`;
//! - of a pod (the same name): which container has how many thousandths of which device, as
//!   `{"main":{"longshore.dev/gpu":{"gpu-0":500}}}`. The scheduler writes it when it binds the pod; the node's agent does if
//!   nobody did.
//!
//! Nothing else is kept: what is left of a node's devices ([`Pool`]) follows from its annotation and those of its pods.
//! An init container, which runs before the others, may have devices that the others have afterwards.

use std::collections::BTreeMap;
use std::fmt;

use litemap::LiteMap;
use serde::{Deserialize, Serialize};

use crate::api::pod::{Container, ContainerRestartPolicy};
use crate::api::{Node, Pod};

/// Annotation of a node and of a pod; see the [module](self).
pub const ANNOTATION: &str = "longshore.dev/devices";

/// Thousandths of one device.
pub const WHOLE: i64 = 1000;

/// What is behind the name of a kind in the name of the resource by which parts of one device are asked for.
const SHARE: &str = "-milli";

/// The resource by which parts of one device of this kind are asked for.
pub fn share_name(kind: &str) -> String {
    format!("{kind}{SHARE}")
}

/// The kind of device of which a resource is a part; `None` if its name is not that of parts.
pub fn kind_of_share(resource: &str) -> Option<&str> {
    resource.strip_suffix(SHARE)
}

/// Thousandths by device: a few at most, of each of very many pods, so they take no more memory than they need.
pub type Amounts = LiteMap<String, i64>;

/// Thousandths by kind and device.
pub type Charge = LiteMap<String, Amounts>;

/// Which devices the containers of a pod have: thousandths by container, kind and device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Assignment(BTreeMap<String, BTreeMap<String, Amounts>>);

impl Assignment {
    /// What the pod's annotation says, if it is what its containers ask for; nobody has more than that by an annotation.
    pub fn of(pod: &Pod) -> Option<Self> {
        let text = pod.metadata.annotations.as_ref()?.get(ANNOTATION)?;
        Self::read(text, pod)
    }

    /// What a text of an annotation says, if it is what the pod's containers ask for.
    pub fn read(text: &str, pod: &Pod) -> Option<Self> {
        let read: Self = serde_json::from_str(text).ok()?;
        let fits = |(name, kinds): (&String, &BTreeMap<String, Amounts>)| {
            let container = containers(pod).find(|(_, container)| container.name == *name);
            container
                .is_some_and(|(_, container)| kinds.iter().all(|(kind, amounts)| is_asked(container, kind, amounts)))
        };
        (!read.0.is_empty() && read.0.iter().all(fits)).then_some(read)
    }

    /// The annotation's text.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("maps of texts and numbers can be written")
    }

    /// Whether no container has a device.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The devices of one container by kind.
    pub fn container(&self, name: &str) -> impl Iterator<Item = (&str, &Amounts)> {
        self.0.get(name).into_iter().flatten().map(|(kind, amounts)| (kind.as_str(), amounts))
    }

    /// What the pod takes of each device, by kind: sidecars beside the more of what the containers take together and what any init
    /// container takes.
    pub fn charge(&self, pod: &Pod) -> Charge {
        let mut uses: BTreeMap<&str, Uses> = BTreeMap::new();
        for (phase, container) in containers(pod) {
            for (kind, amounts) in self.container(&container.name) {
                let of_kind = uses.entry(kind).or_default();
                amounts.iter().for_each(|(device, amount)| of_kind.add(phase, device, *amount));
            }
        }
        uses.into_iter().map(|(kind, uses)| (kind.to_owned(), uses.total())).collect()
    }

    /// This and another, of other kinds.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        for (container, kinds) in other.0 {
            self.0.entry(container).or_default().extend(kinds);
        }
        self
    }

    fn put(&mut self, container: &str, kind: &str, device: &str, amount: i64) {
        let kinds = self.0.entry(container.to_owned()).or_default();
        kinds.entry(kind.to_owned()).or_default().insert(device.to_owned(), amount);
    }
}

/// Whether a container asks for just this of a kind.
fn is_asked(container: &Container, kind: &str, amounts: &Amounts) -> bool {
    let (whole, share) = asks(container, kind);
    let given = |wanted: i64| amounts.values().filter(|amount| **amount == wanted).count() as i64;
    match share {
        0 | WHOLE => amounts.len() as i64 == whole + share / WHOLE && given(WHOLE) == whole + share / WHOLE,
        _ => amounts.len() as i64 == whole + 1 && given(WHOLE) == whole && given(share) == 1 && share < WHOLE,
    }
}

/// How many devices of a kind a container asks for, and how many thousandths of a further one.
fn asks(container: &Container, kind: &str) -> (i64, i64) {
    let requests = &container.resources.requests;
    let asked = |name: &str| requests.get(name).map_or(0, |amount| amount.value().max(0));
    (asked(kind), asked(&share_name(kind)))
}

/// When a container runs beside which others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Sidecar,
    Main,
    Init,
}

fn containers(pod: &Pod) -> impl Iterator<Item = (Phase, &Container)> {
    let init = pod.spec.init_containers.iter().map(|container| match container.restart_policy {
        Some(ContainerRestartPolicy::Always) => (Phase::Sidecar, container),
        _ => (Phase::Init, container),
    });
    init.chain(pod.spec.containers.iter().map(|container| (Phase::Main, container)))
}

/// What one pod takes of the devices of a kind.
#[derive(Debug, Default)]
struct Uses {
    sidecars: Amounts,
    mains: Amounts,
    /// The most that any init container takes.
    init: Amounts,
}

impl Uses {
    fn add(&mut self, phase: Phase, device: &str, amount: i64) {
        let amounts = match phase {
            Phase::Sidecar => &mut self.sidecars,
            Phase::Main => &mut self.mains,
            Phase::Init => &mut self.init,
        };
        let before = amounts.entry(device.to_owned()).or_default();
        *before = if phase == Phase::Init { amount.max(*before) } else { amount.saturating_add(*before) };
    }

    fn of(amounts: &Amounts, device: &str) -> i64 {
        amounts.get(device).copied().unwrap_or(0)
    }

    /// What of a device the pod has anyhow when an init container runs.
    fn held(&self, device: &str) -> i64 {
        Self::of(&self.mains, device).max(Self::of(&self.init, device))
    }

    fn total(&self) -> Amounts {
        let devices = self.sidecars.keys().chain(self.mains.keys()).chain(self.init.keys());
        let total = |device: &String| Self::of(&self.sidecars, device).saturating_add(self.held(device));
        devices.map(|device| (device.clone(), total(device))).collect()
    }
}

/// Chooses one device of several.
pub trait DeviceChoice: fmt::Debug + Send + Sync + 'static {
    /// The place in `left` of the device to take `wanted` thousandths of. `left` has the devices that have so many, by name, with
    /// what is left of each; it is never empty.
    fn choose(&self, left: &[(&str, i64)], wanted: i64) -> usize;
}

/// The device of which the least is left, and of these the first: whole devices stay free as long as they can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BestFit;

impl DeviceChoice for BestFit {
    fn choose(&self, left: &[(&str, i64)], _wanted: i64) -> usize {
        (0..left.len()).min_by_key(|place| left[*place].1).unwrap_or(0)
    }
}

/// A node has too little.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// The resource that was asked for.
    pub resource: String,
    /// How much of it a container asked for.
    pub asked: i64,
    /// How many devices of the kind could have been given for it.
    pub available: usize,
    /// Whether the node could not give it either if nothing were taken.
    pub never: bool,
}

/// What is left of a node's devices, in thousandths, by kind and device. Less than nothing if more was given out than there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pool {
    kinds: LiteMap<String, Amounts>,
}

/// One thing that a container asks for.
struct Demand<'p> {
    phase: Phase,
    container: &'p str,
    kind: &'p str,
    /// What is left of the node's devices of that kind.
    left: &'p Amounts,
    /// Of one device each.
    amount: i64,
    devices: i64,
    /// Whether it is asked for in thousandths.
    share: bool,
}

impl Pool {
    /// Devices of which nothing is taken.
    pub fn new<'n>(kinds: impl IntoIterator<Item = (&'n str, impl IntoIterator<Item = &'n str>)>) -> Self {
        let devices = |names: &mut dyn Iterator<Item = &'n str>| names.map(|name| (name.to_owned(), WHOLE)).collect();
        let kinds = kinds.into_iter().map(|(kind, names)| (kind.to_owned(), devices(&mut names.into_iter())));
        Self { kinds: kinds.collect() }
    }

    /// All devices that a node says may be shared; `None` if there are none.
    pub fn of(node: &Node) -> Option<Self> {
        let text = node.metadata.annotations.as_ref()?.get(ANNOTATION)?;
        let kinds: BTreeMap<&str, Vec<&str>> = serde_json::from_str(text).ok()?;
        (!kinds.is_empty()).then(|| Self::new(kinds))
    }

    /// The text of the node's annotation that tells of these devices.
    pub fn to_text(&self) -> String {
        let kinds: BTreeMap<_, Vec<_>> = self.kinds.iter().map(|(kind, left)| (kind, left.keys().collect())).collect();
        serde_json::to_string(&kinds).expect("lists of texts can be written")
    }

    /// What is left by device, kind by kind.
    pub fn left(&self) -> impl Iterator<Item = (&str, &Amounts)> {
        self.kinds.iter().map(|(kind, left)| (kind.as_str(), left))
    }

    /// What is left by device of one kind.
    pub fn left_of(&self, kind: &str) -> Option<&Amounts> {
        self.kinds.get(kind)
    }

    /// Only the other kinds.
    #[must_use]
    pub fn without<'k>(mut self, kinds: impl IntoIterator<Item = &'k String>) -> Self {
        for kind in kinds {
            self.kinds.remove(kind);
        }
        self
    }

    /// Takes what a pod takes. Devices that the node does not have do not count.
    pub fn take(&mut self, charge: &Charge) {
        self.change(charge, |left, amount| left.saturating_sub(amount));
    }

    /// Takes back what a pod had.
    pub fn give(&mut self, charge: &Charge) {
        self.change(charge, |left, amount| left.saturating_add(amount));
    }

    fn change(&mut self, charge: &Charge, how: impl Fn(i64, i64) -> i64) {
        for (kind, amounts) in charge {
            let Some(left) = self.kinds.get_mut(kind) else { continue };
            for (device, amount) in amounts {
                if let Some(left) = left.get_mut(device) {
                    *left = how(*left, *amount);
                }
            }
        }
    }

    /// Whether the pod asks for devices of these kinds.
    pub fn concerns(&self, pod: &Pod) -> bool {
        containers(pod).any(|(_, container)| self.kinds.keys().any(|kind| asks(container, kind) != (0, 0)))
    }

    /// Whether these are devices of the node of which so much is left.
    pub fn has(&self, charge: &Charge) -> bool {
        let has = |left: &Amounts, device: &str, amount: i64| left.get(device).is_some_and(|left| *left >= amount);
        charge.iter().all(|(kind, amounts)| {
            let left = self.kinds.get(kind);
            left.is_some_and(|left| amounts.iter().all(|(device, amount)| has(left, device, *amount)))
        })
    }

    /// Chooses devices for a pod: for whole ones first, then for large shares before small ones; init containers get what
    /// the others will have, as far as that goes. What the pod asks for of other kinds is not looked at.
    ///
    /// # Errors
    /// What the node has too little of.
    pub fn assign(&self, pod: &Pod, choice: &dyn DeviceChoice) -> Result<Assignment, Lack> {
        let mut demands: Vec<Demand<'_>> = self.demands(pod);
        demands.sort_by_key(|demand| (demand.phase == Phase::Init, -demand.amount));
        let mut uses: BTreeMap<&str, Uses> = BTreeMap::new();
        let mut assignment = Assignment::default();
        for demand in &demands {
            let uses = uses.entry(demand.kind).or_default();
            let available = fitting(uses, &assignment, demand).len();
            if (available as i64) < demand.devices {
                return Err(demand.lack(available));
            }
            for _ in 0..demand.devices {
                let fitting = fitting(uses, &assignment, demand);
                let chosen = choice.choose(&fitting, demand.amount).min(fitting.len() - 1);
                uses.add(demand.phase, fitting[chosen].0, demand.amount);
                assignment.put(demand.container, demand.kind, fitting[chosen].0, demand.amount);
            }
        }
        Ok(assignment)
    }

    fn demands<'p>(&'p self, pod: &'p Pod) -> Vec<Demand<'p>> {
        let mut demands = Vec::new();
        for (phase, container) in containers(pod) {
            for (kind, left) in &self.kinds {
                let (whole, share) = asks(container, kind);
                let mut ask = |amount, devices, share| {
                    if amount > 0 && devices > 0 {
                        demands.push(Demand { phase, container: &container.name, kind, left, amount, devices, share });
                    }
                };
                ask(WHOLE, whole, false);
                ask(share, 1, true);
            }
        }
        demands
    }
}

impl Demand<'_> {
    fn lack(&self, available: usize) -> Lack {
        Lack {
            resource: if self.share { share_name(self.kind) } else { self.kind.to_owned() },
            asked: if self.share { self.amount } else { self.devices },
            available,
            never: self.amount > WHOLE || self.devices > self.left.len() as i64,
        }
    }
}

/// The devices of which so much can be had that the container does not have yet, with how much of each could be. An init
/// container is told only of those that the pod has anyhow, if there are any.
fn fitting<'d>(uses: &Uses, assignment: &Assignment, demand: &Demand<'d>) -> Vec<(&'d str, i64)> {
    let own = assignment.0.get(demand.container).and_then(|kinds| kinds.get(demand.kind));
    let room = |device: &str, left: i64| {
        let mains = if demand.phase == Phase::Init { 0 } else { Uses::of(&uses.mains, device) };
        left - Uses::of(&uses.sidecars, device) - mains
    };
    let mut fitting: Vec<(&str, i64)> = (demand.left.iter())
        .filter(|(device, _)| own.is_none_or(|own| !own.contains_key(*device)))
        .map(|(device, left)| (device.as_str(), room(device, *left)))
        .filter(|(_, room)| *room >= demand.amount)
        .collect();
    let held = |device: &str| demand.phase == Phase::Init && uses.held(device) >= demand.amount;
    if fitting.iter().filter(|(device, _)| held(device)).count() as i64 >= demand.devices {
        fitting.retain(|(device, _)| held(device));
    }
    fitting
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
