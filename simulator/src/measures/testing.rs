//! A cluster whose happenings are made by hand.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::NodeId;
use longshore_core::scheduling::cluster::Cluster;

use crate::objects;
use crate::observer::{Attempt, Happening, Observer, Placed, Why};
use crate::openb::{Machine, Request};
use crate::workload::{Class, Job, Task};

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pods: usize,
}

/// A pod in its place.
pub(crate) struct Put {
    job: Arc<Job>,
    pod: Arc<Pod>,
    node: NodeId,
    since: Duration,
}

fn seconds(at: u64) -> Duration {
    Duration::from_secs(at)
}

impl World {
    /// Nodes by name, thousandths of cores, and gibibytes; each has two GPUs.
    pub(crate) fn new(nodes: &[(&str, i64, i64)]) -> Self {
        let mut world = Self { cluster: Cluster::new(), pods: 0 };
        for (name, milli_cpu, gib) in nodes {
            let machine = Machine {
                name: (*name).to_owned(),
                milli_cpu: *milli_cpu,
                memory_mib: gib * 1024,
                gpus: 2,
                model: "T4".to_owned(),
            };
            world.cluster.put_node(Arc::new(objects::node(&machine)));
        }
        world
    }

    /// A batch job of equal pods of priority 0, each with half a GPU.
    pub(crate) fn job(&self, name: &str, user: &str, milli_cpu: i64, gib: i64, count: u32) -> Arc<Job> {
        let request = Request {
            name: String::new(),
            milli_cpu,
            memory_mib: gib * 1024,
            gpus: 1,
            milli: 500,
            models: String::new(),
        };
        let task = Task { pod: Arc::new(objects::pod(&request)), count, duration: Some(seconds(100)) };
        let job = Job { name: name.into(), user: user.into(), class: Class::Batch, gang: false, tasks: vec![task] };
        Arc::new(job)
    }

    /// The observer hears of every node.
    pub(crate) fn up(&self, at: u64, observer: &mut dyn Observer) {
        for node in self.cluster.nodes().iter() {
            observer.hear(seconds(at), &Happening::NodeUp(node), &self.cluster);
        }
    }

    pub(crate) fn lose(&mut self, at: u64, name: &str, observer: &mut dyn Observer) {
        let node = self.cluster.node_id(name).unwrap();
        self.cluster.remove_node(name);
        observer.hear(seconds(at), &Happening::NodeDown(node), &self.cluster);
    }

    pub(crate) fn arrive(&self, at: u64, job: &Arc<Job>, observer: &mut dyn Observer) {
        observer.hear(seconds(at), &Happening::JobArrived(job), &self.cluster);
    }

    pub(crate) fn place(
        &mut self,
        at: u64,
        job: &Arc<Job>,
        node: &str,
        waiting_since: u64,
        observer: &mut dyn Observer,
    ) -> Put {
        let mut pod = (*job.tasks[0].pod).clone();
        pod.metadata.name = Some(format!("p{}", self.pods));
        self.pods += 1;
        let (pod, node) = (Arc::new(pod), self.cluster.node_id(node).unwrap());
        self.cluster.place(pod.clone(), node);
        let waiting_since = seconds(waiting_since);
        let placed = Placed { job, pod: &pod, node, waiting_since, duration: job.tasks[0].duration };
        observer.hear(seconds(at), &Happening::Placed(placed), &self.cluster);
        Put { job: job.clone(), pod, node, since: seconds(at) }
    }

    pub(crate) fn leave(&mut self, at: u64, put: &Put, why: Why, observer: &mut dyn Observer) {
        let Put { job, pod, node, since } = put;
        self.cluster.remove_pod("default", pod.metadata.name.as_deref().unwrap());
        let left = Happening::Left { job, pod, node: *node, since: *since, why };
        observer.hear(seconds(at), &left, &self.cluster);
    }

    pub(crate) fn end(&self, at: u64, job: &Arc<Job>, arrived: u64, observer: &mut dyn Observer) {
        let ended = Happening::JobEnded { job, arrived: seconds(arrived) };
        observer.hear(seconds(at), &ended, &self.cluster);
    }

    pub(crate) fn attempt(&self, at: u64, attempt: Attempt<'_>, observer: &mut dyn Observer) {
        observer.hear(seconds(at), &Happening::Attempt(attempt), &self.cluster);
    }
}
