//! The record of what was decided lately.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use longshore_core::informer::ObjectKey;
use serde::Serialize;

use crate::engine::Sampled;

/// One try to place a pod, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Counts the decisions since the scheduler began to lead, from 1.
    pub number: u64,
    /// The pod's namespace.
    pub namespace: Box<str>,
    /// The pod's name.
    pub name: Box<str>,
    /// The pod's uid.
    pub uid: String,
    /// When it was decided.
    pub time: Timestamp,
    /// The profile that decided.
    pub profile: String,
    /// Which try it was for this pod, from 1.
    pub attempt: u32,
    /// How long it took to decide, in microseconds; binding is not part of it.
    pub micros: u64,
    /// What came of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "camelCase")]
pub enum Verdict {
    /// The pod was given a node.
    Placed {
        /// The node.
        node: String,
        /// The sum of weight times score.
        score: i64,
        /// What it cost that not all nodes were looked at; `None` if they were.
        #[serde(skip_serializing_if = "Option::is_none")]
        sampled: Option<Sampled>,
    },
    /// No node, or a policy said no.
    Refused {
        /// What people were told.
        message: String,
        /// How many nodes were refused for each reason; empty if no node was looked at.
        reasons: BTreeMap<String, usize>,
        /// The policies that said no.
        policies: Vec<String>,
        /// The node where room is made for the pod.
        #[serde(skip_serializing_if = "Option::is_none")]
        nominated: Option<String>,
    },
    /// The pod was given a node, but was not bound to it in the end.
    Lost {
        /// The node.
        node: String,
        /// Why.
        message: String,
    },
}

/// Which decisions to show.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DecisionFilter {
    /// Of pods of this namespace only.
    pub namespace: Option<String>,
    /// Of pods of this name only.
    pub name: Option<String>,
    /// Only those that placed no pod.
    pub refused: bool,
    /// At most so many, the last ones; all that are known if `None`.
    pub limit: Option<usize>,
}

impl DecisionFilter {
    /// The decisions about one pod.
    pub fn pod(namespace: &str, name: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), name: Some(name.to_owned()), ..Self::default() }
    }

    fn wants(&self, decision: &Decision) -> bool {
        self.namespace.as_deref().is_none_or(|namespace| *decision.namespace == *namespace)
            && self.name.as_deref().is_none_or(|name| *decision.name == *name)
            && !(self.refused && matches!(decision.verdict, Verdict::Placed { .. }))
    }
}

/// The last decisions: the oldest makes room for the newest.
#[derive(Debug)]
pub(super) struct Record {
    decisions: VecDeque<Decision>,
    max: usize,
    count: u64,
}

impl Record {
    pub(super) fn new(max: usize) -> Self {
        Self { decisions: VecDeque::new(), max, count: 0 }
    }

    /// Whether anything is kept.
    pub(super) fn is_kept(&self) -> bool {
        self.max > 0
    }

    /// Puts a decision in, and numbers it.
    pub(super) fn push(&mut self, decision: Decision) {
        self.count += 1;
        if self.decisions.len() >= self.max {
            self.decisions.pop_front();
        }
        self.decisions.push_back(Decision { number: self.count, ..decision });
    }

    /// The last decision about the pod.
    pub(super) fn last_of(&self, key: &ObjectKey) -> Option<&Decision> {
        let mut newest_first = self.decisions.iter().rev();
        newest_first.find(|decision| decision.name == key.name && decision.namespace == key.namespace)
    }

    /// Decisions, oldest first.
    pub(super) fn list(&self, filter: &DecisionFilter) -> Vec<Decision> {
        let newest_first = self.decisions.iter().rev().filter(|decision| filter.wants(decision));
        let mut wanted: Vec<Decision> = newest_first.take(filter.limit.unwrap_or(usize::MAX)).cloned().collect();
        wanted.reverse();
        wanted
    }
}
