//! What differs between two states of a table: only rules of that are worked out and compared, so that a change costs what it
//! is about, and not what there is.
//!
//! Whatever may end in the same element or chain is in the part together, as it was and as it is to be. So the part's own
//! difference is that of the whole.

use std::collections::BTreeSet;
use std::net::IpAddr;

use longshore_core::network::{Policy, Protocol, ServicePort};

use super::table::Contents;

/// See the [module](self).
#[derive(Debug)]
pub(super) enum Part {
    /// Everything.
    Whole,
    /// What these are about.
    Of {
        /// Services that are found by one of these.
        services: BTreeSet<Key>,
        /// Policies of these names.
        policies: BTreeSet<String>,
        /// Pods of these addresses: which policies they have.
        pods: BTreeSet<IpAddr>,
    },
}

/// By what a packet finds a port of a Service; a port of the node has no address.
type Key = (Option<IpAddr>, Protocol, u16);

impl Part {
    pub(super) fn differing(old: &Contents, new: &Contents) -> Self {
        // Which addresses are the cluster's own decides on every Service's rules.
        if old.node.services != new.node.services {
            return Self::Whole;
        }
        let services = differing(&old.services, &new.services, |service| (service.name.as_str(), service.protocol));
        let policies = differing(&old.policies, &new.policies, |policy| policy.name.as_str());
        Self::Of {
            services: services.into_iter().flat_map(keys).collect(),
            pods: policies.iter().flat_map(|policy| policy.pods.iter().copied()).collect(),
            policies: policies.into_iter().map(|policy| policy.name.clone()).collect(),
        }
    }

    pub(super) fn has_service(&self, service: &ServicePort) -> bool {
        match self {
            Self::Whole => true,
            Self::Of { services, .. } => keys(service).any(|key| services.contains(&key)),
        }
    }

    pub(super) fn has_policy(&self, policy: &Policy) -> bool {
        match self {
            Self::Whole => true,
            Self::Of { policies, .. } => policies.contains(&policy.name),
        }
    }

    pub(super) fn has_pod(&self, address: IpAddr) -> bool {
        match self {
            Self::Whole => true,
            Self::Of { pods, .. } => pods.contains(&address),
        }
    }
}

fn keys(service: &ServicePort) -> impl Iterator<Item = Key> {
    let addresses = service.addresses.iter().chain(&service.balancers).copied();
    let of_node = service.node_port.map(|port| (None, service.protocol, port));
    addresses.map(|address| (Some(address), service.protocol, service.port)).chain(of_node)
}

/// What is not the same in both, as it is in either. Both are sorted by their keys.
fn differing<'a, T: PartialEq, K: Ord>(old: &'a [T], new: &'a [T], key: impl Fn(&'a T) -> K) -> Vec<&'a T> {
    let mut differing = Vec::new();
    // Most calls are about something else.
    if std::ptr::eq(old, new) {
        return differing;
    }
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        match (old.peek(), new.peek()) {
            (None, None) => return differing,
            (Some(was), Some(is)) if key(was) == key(is) => {
                if was != is {
                    differing.extend([*was, *is]);
                }
                old.next();
                new.next();
            }
            (Some(was), is) if is.is_none_or(|is| key(was) < key(is)) => differing.extend(old.next()),
            _ => differing.extend(new.next()),
        }
    }
}

#[cfg(test)]
#[path = "part_tests.rs"]
mod tests;
