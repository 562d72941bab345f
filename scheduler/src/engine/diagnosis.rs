//! Why a pod goes nowhere, in detail and in upstream's words.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::cluster::Cluster;
use longshore_core::scheduling::{Candidates, NodeId, Refusal};

use super::cached::Cached;
use crate::Profile;

/// Why a pod goes nowhere.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Unplaced {
    /// There is no profile for the pod's `schedulerName`.
    #[error("no profile is called {name:?}; this scheduler is not the pod's")]
    NoProfile {
        /// The name that the pod asks for.
        name: String,
    },
    /// A policy holds the pod back; no node was looked at.
    #[error("{refusal}")]
    Held {
        /// The policy.
        policy: String,
        /// What it said.
        refusal: Refusal,
    },
    /// No node can take the pod.
    #[error("{0}")]
    Refused(Box<Diagnosis>),
    /// Something in the chosen node could not be reserved.
    #[error("running Reserve plugin {policy:?}: {refusal}")]
    NotReserved {
        /// The policy.
        policy: String,
        /// What it said.
        refusal: Refusal,
    },
}

impl Unplaced {
    pub(super) fn no_profile(pod: &Pod) -> Self {
        Self::NoProfile { name: pod.spec.scheduler_name.clone() }
    }

    /// The policies that said no, each once.
    pub fn policies(&self) -> Vec<String> {
        match self {
            Self::NoProfile { .. } => Vec::new(),
            Self::Held { policy, .. } | Self::NotReserved { policy, .. } => vec![policy.clone()],
            Self::Refused(diagnosis) => diagnosis.policies(),
        }
    }
}

/// For every node, who refused it and why. Prints as upstream's message `0/3 nodes are available: …`.
#[derive(Debug, Clone)]
pub struct Diagnosis {
    profile: Arc<Profile>,
    node_count: usize,
    pre_filter: Option<usize>,
    ruled_out_by: String,
    candidates: Candidates,
    /// What [`PostFilter`](longshore_core::scheduling::PostFilter) had to say.
    pub(crate) post_filter: String,
}

impl Diagnosis {
    pub(super) fn new(profile: &Arc<Profile>, cached: &Cached, candidates: Candidates, node_count: usize) -> Self {
        Self {
            profile: profile.clone(),
            node_count,
            pre_filter: cached.pre_filter,
            ruled_out_by: cached.ruled_out_by.clone(),
            candidates,
            post_filter: String::new(),
        }
    }

    /// Who refused the node and why.
    pub fn refusal(&self, node: NodeId) -> Option<(&str, &Refusal)> {
        let (place, refusal) = self.candidates.refusal(node)?;
        Some((self.name_of(place), refusal))
    }

    fn name_of(&self, place: u16) -> &str {
        let place = usize::from(place);
        if place < self.profile.policies().len() { self.profile.name_of(place) } else { &self.ruled_out_by }
    }

    /// Every node by name with who refused it and why.
    pub fn refusals<'d>(&'d self, cluster: &'d Cluster) -> impl Iterator<Item = (&'d str, &'d str, &'d Refusal)> {
        cluster.nodes().iter().filter_map(|node| {
            let (policy, refusal) = self.refusal(node)?;
            Some((cluster.name(node), policy, refusal))
        })
    }

    /// The policy that refused the pod before any node was looked at.
    pub fn pre_filter(&self) -> Option<(&str, &Refusal)> {
        let place = self.pre_filter?;
        let refusal = self.each().next().map(|(_, refusal)| refusal)?;
        Some((self.profile.name_of(place), refusal))
    }

    /// How many nodes there were.
    pub fn node_count(&self) -> usize {
        self.node_count
    }

    pub(crate) fn candidates(&self) -> &Candidates {
        &self.candidates
    }

    fn each(&self) -> impl Iterator<Item = (u16, &Refusal)> {
        (0..self.candidates.width()).filter_map(|index| self.candidates.refusal(NodeId::from_index(index)))
    }

    /// The policies that refused nodes, each once.
    pub fn policies(&self) -> Vec<String> {
        let mut seen = vec![false; self.profile.policies().len() + 1];
        for (place, _) in self.each() {
            seen[usize::from(place).min(self.profile.policies().len())] = true;
        }
        let mut policies = Vec::new();
        let named = self.profile.policies().iter().map(|enabled| enabled.policy().name());
        for name in named.zip(&seen).filter(|(_, seen)| **seen).map(|(name, _)| name) {
            policies.push(name.to_owned());
        }
        if seen.last() == Some(&true) {
            policies.extend(self.ruled_out_by.split(',').filter(|name| !name.is_empty()).map(str::to_owned));
        }
        policies.sort_unstable();
        policies.dedup();
        policies
    }

    /// How many nodes were refused for each reason. A node may have several.
    pub fn reasons(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for reason in self.each().flat_map(|(_, refusal)| &refusal.reasons) {
            *counts.entry(reason.as_str()).or_insert(0) += 1;
        }
        counts
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.node_count == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available:", self.node_count)?;
        if let Some((_, refusal)) = self.pre_filter() {
            write!(f, " {refusal}.")?;
        } else {
            // Upstream sorts the texts with their counts in front.
            let mut parts: Vec<String> =
                self.reasons().iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            parts.sort_unstable();
            if !parts.is_empty() {
                write!(f, " {}.", parts.join(", "))?;
            }
        }
        if self.post_filter.is_empty() { Ok(()) } else { write!(f, " {}", self.post_filter) }
    }
}
