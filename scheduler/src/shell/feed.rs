//! What the watches tell, taken into the engine and the queue.

use std::sync::{Arc, Mutex, PoisonError};

use indexmap::IndexMap;
use longshore_core::api::pod::Pod;
use longshore_core::api::pod::helpers::is_terminal;
use longshore_core::api::{Namespace, Node};
use longshore_core::informer::{Change, Changes, Informers, ObjectKey};
use longshore_core::kind::{DynObject, KindType};
use longshore_core::scheduling::ClusterEvent;
use tokio::sync::Notify;

use super::work::Loop;
use crate::Profile;

/// The sources of news.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) pods: Changes<Pod>,
    pub(super) nodes: Changes<Node>,
    pub(super) namespaces: Changes<Namespace>,
    pub(super) others: Arc<Others>,
}

/// News about objects of kinds that policies asked for; the last about each object.
#[derive(Debug, Default)]
pub(super) struct Others {
    waiting: Mutex<IndexMap<(&'static str, ObjectKey), Change<DynObject>>>,
    pub(super) news: Notify,
}

impl Others {
    fn push(&self, change: &Change<DynObject>) {
        let object = change.object();
        let key = (object.kind_type().info.kind, ObjectKey::of(&**object));
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(key, change.clone());
        self.news.notify_one();
    }

    /// Takes what waits.
    fn take(&self) -> IndexMap<(&'static str, ObjectKey), Change<DynObject>> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The kinds that a scheduler with these profiles reads.
pub(super) fn kinds<'p>(profiles: impl Iterator<Item = &'p Profile>) -> Vec<&'static KindType> {
    let own = [KindType::of::<Pod>(), KindType::of::<Node>(), KindType::of::<Namespace>()];
    own.into_iter().chain(kinds_of_policies(profiles)).collect()
}

fn kinds_of_policies<'p>(profiles: impl Iterator<Item = &'p Profile>) -> Vec<&'static KindType> {
    let mut kinds: Vec<&'static KindType> = Vec::new();
    for enabled in profiles.flat_map(Profile::policies) {
        for kind in enabled.policy().kinds() {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
    }
    kinds
}

impl Feed {
    /// What these informers tell, beginning with all that they know.
    pub(super) fn new<'p>(informers: &Informers, profiles: impl Iterator<Item = &'p Profile>) -> Self {
        let others = Arc::new(Others::default());
        for kind in kinds_of_policies(profiles) {
            let others = others.clone();
            informers.of_kind(kind).on_change(move |change| others.push(change));
        }
        Self {
            pods: informers.of::<Pod>().changes(),
            nodes: informers.of::<Node>().changes(),
            namespaces: informers.of::<Namespace>().changes(),
            others,
        }
    }
}

impl Loop {
    /// Takes in everything that waits. Nodes come before pods, so that pods find theirs.
    pub(super) fn take_in(&mut self) {
        while let Some(change) = self.feed.nodes.try_next() {
            self.node_changed(change);
        }
        while let Some(change) = self.feed.namespaces.try_next() {
            self.namespace_changed(change);
        }
        for change in self.feed.others.take().into_values() {
            self.object_changed(&change);
        }
        while let Some(change) = self.feed.pods.try_next() {
            self.pod_changed(change);
        }
    }

    pub(super) fn node_changed(&mut self, change: Change<Arc<Node>>) {
        let now = self.clock.elapsed();
        let cluster = self.engine.cluster_mut();
        match change {
            Change::Added(node) => {
                cluster.put_node(node.clone());
                self.queue.event(&ClusterEvent::NodeAdded(&node), now);
            }
            Change::Modified { old, new } => {
                cluster.put_node(new.clone());
                self.queue.event(&ClusterEvent::NodeUpdated { old: &old, new: &new }, now);
            }
            Change::Deleted(node) => drop(cluster.remove_node(node.metadata.name.as_deref().unwrap_or_default())),
        }
    }

    pub(super) fn namespace_changed(&mut self, change: Change<Arc<Namespace>>) {
        let meta = &change.object().metadata;
        let name = meta.name.as_deref().unwrap_or_default();
        match change.current() {
            Some(_) => self.engine.cluster_mut().put_namespace(name, &meta.labels.clone().unwrap_or_default()),
            None => self.engine.cluster_mut().remove_namespace(name),
        }
        self.queue.event(&ClusterEvent::NamespaceChanged, self.clock.elapsed());
    }

    fn object_changed(&mut self, change: &Change<DynObject>) {
        let object = change.object();
        let kind = object.kind_type();
        let now = self.clock.elapsed();
        if change.current().is_some() {
            self.engine.cluster_mut().put_object(object.clone());
            self.queue.event(&ClusterEvent::ObjectChanged { kind, object: &**object }, now);
        } else {
            self.engine.cluster_mut().remove_object(kind, &ObjectKey::of(&**object));
            self.queue.event(&ClusterEvent::ObjectRemoved { kind, object: &**object }, now);
        }
    }

    pub(super) fn pod_changed(&mut self, change: Change<Arc<Pod>>) {
        let key = ObjectKey::of(&**change.object());
        match change {
            Change::Deleted(pod) => {
                self.engine.cluster_mut().remove_member(&pod);
                self.pod_gone(&key, &pod);
            }
            Change::Added(pod) | Change::Modified { new: pod, .. } if is_terminal(&pod) => {
                self.engine.cluster_mut().put_member(&pod);
                self.pod_gone(&key, &pod);
            }
            Change::Added(pod) => self.pod_is(&key, None, pod),
            Change::Modified { old, new } => self.pod_is(&key, Some(&old), new),
        }
    }

    fn pod_gone(&mut self, key: &ObjectKey, pod: &Arc<Pod>) {
        let now = self.clock.elapsed();
        self.queue.remove(key);
        self.engine.cluster_mut().clear_nomination(&key.namespace, &key.name);
        if self.assumed.remove(key).is_some() {
            // Its binding fails or does not matter any more.
            self.forget(key);
        } else if self.engine.cluster_mut().remove_pod(&key.namespace, &key.name).is_some() {
            self.queue.event(&ClusterEvent::PodRemoved(pod), now);
        }
        if let Some(profile) = self.profile_of(pod) {
            self.give_up_group(pod, &profile, None, &[]);
        }
    }

    fn pod_is(&mut self, key: &ObjectKey, old: Option<&Arc<Pod>>, pod: Arc<Pod>) {
        let now = self.clock.elapsed();
        if !pod.spec.node_name.is_empty() {
            let was_placed = old.is_some_and(|old| !old.spec.node_name.is_empty());
            self.queue.remove(key);
            self.waiting.remove(key);
            let held = self.engine.cluster().find_pod(&key.namespace, &key.name).and_then(|placed| placed.node());
            let elsewhere = held != self.engine.cluster().node_id(&pod.spec.node_name);
            if self.assumed.remove(key).is_some() && elsewhere {
                // Somebody else bound it to another node than the one held for it.
                self.forget(key);
            }
            self.engine.cluster_mut().clear_nomination(&key.namespace, &key.name);
            self.engine.cluster_mut().put_pod(pod.clone());
            match old.filter(|_| was_placed) {
                Some(old) => self.queue.event(&ClusterEvent::PodUpdated { old, new: &pod }, now),
                None => self.queue.event(&ClusterEvent::PodPlaced(&pod), now),
            }
            return;
        }
        let Some(profile) = self.profile_of(&pod) else { return };
        if pod.metadata.deletion_timestamp.is_some() {
            self.engine.cluster_mut().remove_member(&pod);
            return self.pod_gone(key, &pod);
        }
        if let Some(old) = old.filter(|old| old.metadata.labels != pod.metadata.labels) {
            self.engine.cluster_mut().remove_member(old);
        }
        self.engine.cluster_mut().put_member(&pod);
        if self.assumed.get(key).is_some_and(|uid| *uid != pod.metadata.uid) {
            // Another of the same name.
            self.assumed.remove(key);
            self.forget(key);
        }
        let nominated = &pod.status.nominated_node_name;
        if !nominated.is_empty() && !self.assumed.contains_key(key) {
            // So that a scheduler that starts anew keeps the room that is being made.
            let cluster = self.engine.cluster_mut();
            if let Some(node) = cluster.node_id(nominated) {
                cluster.nominate(pod.clone(), node);
            }
        }
        self.queue.put(pod, &profile, now);
    }
}
