//! What the API server tells of nodes and pods, as measures hear it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::pod::{Pod, PodPhase, helpers};
use longshore_core::api::{ConditionStatus, Node};
use longshore_core::informer::ObjectKey;
use longshore_core::scheduling::NodeId;
use longshore_core::scheduling::cluster::Cluster;

use super::objects::JOB;
use crate::measures::{Distribution, Figure, Unit};
use crate::observer::{Attempt, Happening, Observer, Placed, Why};
use crate::traces::job_of;
use crate::workload::Job;

/// Nodes, pods and jobs as they are known here, and who is told of them. A pod of none of the workload's jobs is a job of its own.
pub(super) struct Mirror<'o> {
    observer: &'o mut dyn Observer,
    cluster: Cluster,
    /// Jobs of the workload by their number, others by the names of their pods.
    jobs: BTreeMap<String, Known>,
    pods: BTreeMap<ObjectKey, Seen>,
    /// Why pods of a node that is not there, or shall be empty, leave it.
    leaving: BTreeMap<String, Why>,
    /// From when a pod waits until its containers run.
    starts: Distribution,
}

struct Known {
    job: Arc<Job>,
    arrived: Duration,
    /// How many pods were seen of it, and how many ended well.
    seen: u64,
    finished: u64,
    tried: bool,
    ended: bool,
}

struct Seen {
    pod: Arc<Pod>,
    job: String,
    waiting_since: Duration,
    refused: bool,
    started: bool,
    finished: bool,
    place: Option<(NodeId, Duration)>,
}

impl<'o> Mirror<'o> {
    /// An empty cluster.
    pub(super) fn new(observer: &'o mut dyn Observer) -> Self {
        Self {
            observer,
            cluster: Cluster::new(),
            jobs: BTreeMap::new(),
            pods: BTreeMap::new(),
            leaving: BTreeMap::new(),
            starts: Distribution::default(),
        }
    }

    fn tell(&mut self, at: Duration, what: &Happening<'_>) {
        self.observer.hear(at, what, &self.cluster);
    }

    /// A job of the workload arrives.
    pub(super) fn arrive(&mut self, at: Duration, key: String, job: Arc<Job>) {
        self.tell(at, &Happening::JobArrived(&job));
        let known = Known { job, arrived: at, seen: 0, finished: 0, tried: false, ended: false };
        self.jobs.insert(key, known);
    }

    /// A job of the workload is no longer wanted.
    pub(super) fn cancel(&mut self, at: Duration, key: &str) {
        self.end(at, key);
    }

    fn end(&mut self, at: Duration, key: &str) {
        let Some(known) = self.jobs.get_mut(key).filter(|known| !known.ended) else { return };
        known.ended = true;
        let (job, arrived) = (known.job.clone(), known.arrived);
        self.tell(at, &Happening::JobEnded { job: &job, arrived });
    }

    /// A node is as it is now.
    pub(super) fn node(&mut self, at: Duration, node: Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        if self.leaving.get(&name) == Some(&Why::NodeLost) || node.status.allocatable.is_empty() {
            return;
        }
        let is_new = self.cluster.node_id(&name).is_none();
        let id = self.cluster.put_node(node);
        self.tell(at, &Happening::NodeUp(id));
        if is_new {
            self.look_again(at, &name);
        }
    }

    /// How many nodes are there.
    pub(super) fn nodes(&self) -> usize {
        self.cluster.node_count()
    }

    /// A node is there from now on, as soon as it is told of.
    pub(super) fn node_comes(&mut self, name: &str) {
        self.leaving.remove(name);
    }

    /// A node is lost, or will be emptied.
    pub(super) fn node_goes(&mut self, at: Duration, name: &str, why: Why) {
        self.leaving.insert(name.to_owned(), why);
        let Some(id) = self.cluster.node_id(name) else { return };
        if why == Why::NodeLost {
            let pods: Vec<ObjectKey> = self.cluster.pods_on(id).map(|placed| ObjectKey::of(&**placed.pod())).collect();
            for key in pods {
                self.leave(at, &key, why);
            }
            self.cluster.remove_node(name);
        }
        self.tell(at, &Happening::NodeDown(id));
    }

    /// The pods of a node that has come back, whose end nobody has noticed.
    fn look_again(&mut self, at: Duration, node: &str) {
        let pods = self.pods.iter().filter(|(_, seen)| seen.pod.spec.node_name == node);
        let pods: Vec<ObjectKey> = pods.map(|(key, _)| key.clone()).collect();
        pods.iter().for_each(|key| self.settle(at, key));
    }

    /// A pod is as it is now.
    pub(super) fn pod(&mut self, at: Duration, pod: Arc<Pod>) {
        let key = ObjectKey::of(&*pod);
        if self.pods.get(&key).is_some_and(|seen| seen.pod.metadata.uid != pod.metadata.uid) {
            self.gone(at, &key);
        }
        if !self.pods.contains_key(&key) {
            let seen = self.first_seen(at, pod.clone());
            self.pods.insert(key.clone(), seen);
        }
        let Some(seen) = self.pods.get_mut(&key) else { return };
        seen.pod = pod.clone();
        let refused = is_refused(&pod);
        let newly = refused && !std::mem::replace(&mut seen.refused, refused);
        let job = seen.job.clone();
        if let Some(job) = newly.then(|| self.tried(at, &job, 0)).flatten() {
            self.tell(at, &Happening::Refused { job: &job, pod: &pod });
        }
        self.settle(at, &key);
    }

    fn first_seen(&mut self, at: Duration, pod: Arc<Pod>) -> Seen {
        let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get(JOB));
        let key = match label.filter(|number| self.jobs.contains_key(*number)) {
            Some(number) => number.clone(),
            None => {
                let mut job = job_of(pod.clone());
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                job.name = format!("{}/{name}", job.user).into();
                let key = job.name.to_string();
                self.arrive(at, key.clone(), Arc::new(job));
                key
            }
        };
        let known = self.jobs.get_mut(&key);
        // Its controller needs a moment as well. Whoever comes later is there in the place of another.
        let waiting_since = known.map_or(at, |known| {
            known.seen += 1;
            if known.seen <= known.job.pods() { known.arrived } else { at }
        });
        Seen { pod, job: key, waiting_since, refused: false, started: false, finished: false, place: None }
    }

    /// A scheduler has decided about a pod of this job: so many are placed, 1 or none.
    fn tried(&mut self, at: Duration, key: &str, placed: u32) -> Option<Arc<Job>> {
        let known = self.jobs.get_mut(key)?;
        let (job, arrived, first) = (known.job.clone(), known.arrived, !std::mem::replace(&mut known.tried, true));
        let refused = 1 - placed;
        let attempt = Attempt { scheduler: 0, job: &job, arrived, first, began: at, placed, conflicts: 0, refused };
        self.tell(at, &Happening::Attempt(attempt));
        Some(job)
    }

    /// Tells what follows from how a pod is now.
    fn settle(&mut self, at: Duration, key: &ObjectKey) {
        let Some(seen) = self.pods.get_mut(key) else { return };
        let (pod, job) = (seen.pod.clone(), seen.job.clone());
        let node = self.cluster.node_id(&pod.spec.node_name);
        let has_place = node.is_some() && !helpers::is_terminal(&pod);
        if let (true, None, Some(node)) = (has_place, seen.place, node) {
            let waiting_since = seen.waiting_since;
            seen.place = Some((node, at));
            self.cluster.put_pod(pod.clone());
            if let Some(job) = self.tried(at, &job, 1) {
                let duration = job.tasks.first().and_then(|task| task.duration);
                self.tell(at, &Happening::Placed(Placed { job: &job, pod: &pod, node, waiting_since, duration }));
            }
        } else if !has_place && seen.place.is_some() {
            self.leave(at, key, why(&pod, &self.leaving));
        }
        let Some(seen) = self.pods.get_mut(key) else { return };
        if pod.status.phase == PodPhase::Running && !std::mem::replace(&mut seen.started, true) {
            self.starts.add(at.saturating_sub(seen.waiting_since).as_secs_f64());
        }
        if has_finished(&pod) && !std::mem::replace(&mut seen.finished, true) {
            let Some(known) = self.jobs.get_mut(&job) else { return };
            known.finished += 1;
            if known.finished == known.job.pods() {
                self.end(at, &job);
            }
        }
    }

    fn leave(&mut self, at: Duration, key: &ObjectKey, why: Why) {
        let Some(seen) = self.pods.get_mut(key) else { return };
        let Some((node, since)) = seen.place.take() else { return };
        let pod = seen.pod.clone();
        let Some(job) = self.jobs.get(&seen.job).map(|known| known.job.clone()) else { return };
        self.cluster.remove_pod(&key.namespace, &key.name);
        self.tell(at, &Happening::Left { job: &job, pod: &pod, node, since, why });
    }

    /// A pod is no longer there.
    pub(super) fn gone(&mut self, at: Duration, key: &ObjectKey) {
        let Some(seen) = self.pods.get(key) else { return };
        let (why, job) = (why(&seen.pod, &self.leaving), seen.job.clone());
        self.leave(at, key, why);
        self.pods.remove(key);
        if job == format!("{}/{}", key.namespace, key.name) {
            self.end(at, &job);
            self.jobs.remove(&job);
        }
    }

    /// How many pods run and how many wait for a place.
    pub(super) fn counts(&self) -> (usize, u64) {
        let running = self.cluster.pod_count();
        let waiting = self.pods.values().filter(|seen| seen.pod.spec.node_name.is_empty()).count();
        (running, waiting as u64)
    }

    /// How long pods took until they ran.
    pub(super) fn figures(&self) -> Vec<Figure> {
        if self.starts.count() == 0 {
            return Vec::new();
        }
        let quantiles =
            [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)].map(|(name, part)| (name, self.starts.quantile(part)));
        let all = [("mean", self.starts.mean())].into_iter().chain(quantiles);
        all.map(|(name, value)| Figure::new(format!("time until pods run, {name}"), Unit::Seconds, value)).collect()
    }
}

/// Whether the scheduler says that no node can take it.
fn is_refused(pod: &Pod) -> bool {
    let said = pod.status.conditions.iter().find(|condition| condition.type_ == "PodScheduled");
    said.is_some_and(|said| said.status == ConditionStatus::False && said.reason == "Unschedulable")
}

/// Whether it has ended well, and not because it had to.
fn has_finished(pod: &Pod) -> bool {
    pod.status.phase == PodPhase::Succeeded && pod.metadata.deletion_timestamp.is_none()
}

/// Why a pod is leaving its node.
fn why(pod: &Pod, leaving: &BTreeMap<String, Why>) -> Why {
    let disrupted = pod.status.conditions.iter().find(|condition| condition.type_ == "DisruptionTarget");
    match disrupted.map(|condition| condition.reason.as_str()) {
        _ if has_finished(pod) => Why::Finished,
        Some("PreemptionByScheduler") => Why::Preempted,
        Some("DeletionByTaintManager" | "DeletionByPodGC") => Why::NodeLost,
        _ => match leaving.get(&pod.spec.node_name) {
            Some(why) => *why,
            None if pod.metadata.deletion_timestamp.is_some() => Why::Cancelled,
            None => Why::Finished,
        },
    }
}
