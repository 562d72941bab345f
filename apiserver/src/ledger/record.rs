//! The stored record of one node.

use std::collections::BTreeMap;
use std::fmt;

use longshore_core::api::ResourceList;
use longshore_core::devices::WHOLE;
use longshore_core::quantity::{Format, Quantity};
use serde::{Deserialize, Serialize};

use super::charge::{Charge, Claim, HostPort};

/// The pods that are on a node, by uid, with what each takes.
///
/// What is taken altogether is their sum. It is not stored, so it cannot disagree.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) pods: BTreeMap<String, Entry>,
}

/// One pod of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// `namespace/name`, for people.
    pub(crate) pod: String,
    #[serde(flatten)]
    pub(crate) charge: Charge,
    /// The pod was put on the node without room for it, and the node's agent has not taken it in. It takes nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) uncharged: bool,
}

impl Entry {
    pub(crate) fn new(claim: &Claim, uncharged: bool) -> Self {
        Self { pod: claim.pod.clone(), charge: claim.charge.clone(), uncharged }
    }
}

/// Why a pod does not fit a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Misfit {
    Amount { resource: String, asked: i128, taken: i128, allocatable: i128 },
    Port { port: HostPort, holder: String },
    Device { kind: String, device: String, asked: i64, taken: i64 },
    NoNode,
}

impl Record {
    /// Whether the pod fits besides the others. What the pod has already is not taken from it: only what grows must fit.
    pub(crate) fn check(&self, claim: &Claim, allocatable: &ResourceList) -> Result<(), Misfit> {
        let own = self.pods.get(&claim.uid).filter(|entry| !entry.uncharged);
        let others = || self.pods.iter().filter(|(uid, entry)| **uid != claim.uid && !entry.uncharged);
        if own.is_none() {
            let taken = others().count() as i128;
            let allocatable = allocatable.get("pods").map_or(0, |pods| i128::from(pods.value()));
            if taken + 1 > allocatable {
                return Err(Misfit::Amount { resource: "pods".to_owned(), asked: 1, taken, allocatable });
            }
        }
        for (resource, asked) in &claim.charge.amounts {
            let before = own.and_then(|entry| entry.charge.amounts.get(resource)).copied().unwrap_or(0);
            if *asked <= before {
                continue;
            }
            let taken: i128 =
                others().filter_map(|(_, entry)| entry.charge.amounts.get(resource)).copied().map(i128::from).sum();
            let allocatable = allocatable.get(resource).map_or(0, |amount| match resource.as_str() {
                "cpu" => i128::from(amount.milli_value()),
                _ => i128::from(amount.value()),
            });
            if taken + i128::from(*asked) > allocatable {
                let (resource, asked) = (resource.clone(), i128::from(*asked));
                return Err(Misfit::Amount { resource, asked, taken, allocatable });
            }
        }
        for port in &claim.charge.ports {
            let holder = others().find(|(_, entry)| entry.charge.ports.iter().any(|other| other.clashes(port)));
            if let Some((_, holder)) = holder {
                return Err(Misfit::Port { port: port.clone(), holder: holder.pod.clone() });
            }
        }
        for (kind, amounts) in &claim.charge.devices {
            for (device, asked) in amounts {
                let of = |entry: &Entry| entry.charge.devices.get(kind).and_then(|all| all.get(device)).copied();
                let taken = others().filter_map(|(_, entry)| of(entry)).fold(0, i64::saturating_add);
                if *asked > own.and_then(of).unwrap_or(0) && taken.saturating_add(*asked) > WHOLE {
                    let (kind, device, asked) = (kind.clone(), device.clone(), *asked);
                    return Err(Misfit::Device { kind, device, asked, taken });
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Amount { resource, asked, taken, allocatable } => {
                let [asked, taken, allocatable] = [asked, taken, allocatable].map(|amount| quantity(resource, *amount));
                write!(f, "it has too little {resource}: the pod asks for {asked}, {taken} of {allocatable} are taken")
            }
            Self::Port { port: HostPort { protocol, ip, port }, holder } => {
                write!(f, "its port {port}/{protocol} on {ip} is taken by pod {holder}")
            }
            Self::Device { kind, device, asked, taken } => {
                write!(f, "of its {kind} {device} the pod was given {asked} thousandths, {taken} are taken")
            }
            Self::NoNode => f.write_str("it does not exist"),
        }
    }
}

fn quantity(resource: &str, amount: i128) -> Quantity {
    let amount = i64::try_from(amount).unwrap_or(i64::MAX);
    match resource {
        "cpu" => Quantity::from_milli(amount, Format::DecimalSi),
        "memory" | "ephemeral-storage" => Quantity::from_value(amount, Format::BinarySi),
        _ if resource.starts_with("hugepages-") => Quantity::from_value(amount, Format::BinarySi),
        _ => Quantity::from_value(amount, Format::DecimalSi),
    }
}
