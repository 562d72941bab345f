//! Which pods of a group there are, and which of them have a node.

use std::collections::BTreeMap;

use super::{Change, Cluster};
use crate::api::PodGroup;
use crate::api::pod::helpers::is_terminal;
use crate::api::pod::{Pod, PodPhase};
use crate::api::pod_group::group_of;
use crate::informer::ObjectKey;
use crate::kind::KindType;

/// The pods of one group.
#[derive(Debug, Clone, Default)]
pub struct Group {
    members: BTreeMap<Box<str>, Member>,
    settled: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Member {
    /// Somebody told of it.
    known: bool,
    /// It has a node.
    placed: bool,
    /// It ended well.
    succeeded: bool,
}

impl Member {
    fn is_settled(self) -> bool {
        self.placed || self.succeeded
    }
}

impl Group {
    /// How many pods there are. Those that failed or are held back by scheduling gates do not count.
    pub fn present(&self) -> usize {
        self.members.len()
    }

    /// How many of them have a node, or had one and ended well.
    pub fn settled(&self) -> usize {
        self.settled
    }

    /// Whether anything that counts is another now.
    fn change(&mut self, name: &str, change: impl FnOnce(&mut Member)) -> bool {
        let old = self.members.get(name).copied();
        let mut new = old.unwrap_or_default();
        change(&mut new);
        self.settled -= usize::from(old.is_some_and(Member::is_settled));
        self.settled += usize::from(new.is_settled());
        if new == Member::default() {
            self.members.remove(name);
        } else {
            self.members.insert(name.into(), new);
        }
        old.unwrap_or_default() != new
    }
}

/// Groups of pods.
impl Cluster {
    /// The pods of a group; `None` if there are none.
    pub fn group(&self, namespace: &str, name: &str) -> Option<&Group> {
        if self.groups.is_empty() {
            return None;
        }
        self.groups.get(&ObjectKey::new(namespace, name))
    }

    /// Makes known that a pod is there, whether it has a node or not. Only pods that belong to a group are remembered.
    pub fn put_member(&mut self, pod: &Pod) {
        let gated = !pod.spec.scheduling_gates.is_empty();
        let succeeded = pod.status.phase == PodPhase::Succeeded;
        let known = !gated && (succeeded || !is_terminal(pod));
        self.change_member(pod, known, succeeded);
    }

    /// Makes known that a pod is gone.
    pub fn remove_member(&mut self, pod: &Pod) {
        self.change_member(pod, false, false);
    }

    fn change_member(&mut self, pod: &Pod, known: bool, succeeded: bool) {
        let Some(group) = group_of(pod) else { return };
        let meta = &pod.metadata;
        let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
        let changed = self.with_group(namespace.unwrap_or_default(), group, |group| {
            group.change(name.unwrap_or_default(), |member| (member.known, member.succeeded) = (known, succeeded))
        });
        if changed {
            self.changes.push(Change::Object(KindType::of::<PodGroup>()));
        }
    }

    /// A pod of a group came to a node or went from it.
    pub(super) fn member_placed(&mut self, namespace: &str, group: &str, name: &str, placed: bool) {
        self.with_group(namespace, group, |group| group.change(name, |member| member.placed = placed));
    }

    fn with_group(&mut self, namespace: &str, name: &str, change: impl FnOnce(&mut Group) -> bool) -> bool {
        let key = ObjectKey::new(namespace, name);
        let group = self.groups.entry(key.clone()).or_default();
        let changed = change(group);
        if group.members.is_empty() {
            self.groups.remove(&key);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn member(name: &str, more: &serde_json::Value) -> Arc<Pod> {
        let mut value = json!({
            "metadata": {
                "name": name, "namespace": "ns", "labels": { crate::api::pod_group::POD_GROUP_LABEL: "g" },
            },
            "spec": { "containers": [{ "name": "c" }] },
        });
        for (part, fields) in more.as_object().unwrap() {
            for (field, wanted) in fields.as_object().unwrap() {
                value[part][field] = wanted.clone();
            }
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn counts(cluster: &Cluster) -> (usize, usize) {
        cluster.group("ns", "g").map_or((0, 0), |group| (group.present(), group.settled()))
    }

    #[test]
    fn pods_of_a_group_count_as_they_come_are_placed_and_go() {
        let mut cluster = Cluster::new();
        cluster.put_node(Arc::new(serde_json::from_value(json!({ "metadata": { "name": "n" } })).unwrap()));
        let node = cluster.node_id("n").unwrap();
        let pod = member("a", &json!({}));
        cluster.put_member(&pod);
        cluster.put_member(&member("b", &json!({})));
        assert_eq!(counts(&cluster), (2, 0));
        cluster.place(pod.clone(), node);
        assert_eq!(counts(&cluster), (2, 1));
        cluster.remove_pod("ns", "a");
        assert_eq!(counts(&cluster), (2, 0), "it gave its node back and is still there");
        cluster.put_pod(member("a", &json!({ "spec": { "nodeName": "n" } })));
        cluster.put_pod(member("c", &json!({ "spec": { "nodeName": "elsewhere" } })));
        assert_eq!(counts(&cluster), (3, 2));
        let suppose = cluster.suppose((&[], node), &[ObjectKey::new("ns", "a")], |cluster| counts(cluster));
        assert_eq!((suppose, counts(&cluster)), ((3, 1), (3, 2)));
        for name in ["a", "b", "c"] {
            cluster.remove_pod("ns", name);
            cluster.remove_member(&member(name, &json!({})));
        }
        assert!(cluster.group("ns", "g").is_none() && cluster.groups.is_empty());
    }

    #[test]
    fn a_pod_that_ended_well_counts_and_one_that_failed_or_is_held_back_does_not() {
        let mut cluster = Cluster::new();
        let ended = |name: &str, phase: &str| member(name, &json!({ "status": { "phase": phase } }));
        cluster.put_member(&ended("a", "Succeeded"));
        cluster.put_member(&ended("b", "Failed"));
        cluster.put_member(&member("c", &json!({ "spec": { "schedulingGates": [{ "name": "x" }] } })));
        assert_eq!(counts(&cluster), (1, 1));
        let generation = cluster.generation();
        cluster.put_member(&member("c", &json!({})));
        cluster.put_member(&member("c", &json!({})));
        assert_eq!(counts(&cluster), (2, 1));
        assert_eq!(cluster.generation(), generation + 1, "only what changes something is a change");
    }
}
