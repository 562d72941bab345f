//! What arrives: nodes and jobs, moment by moment.
//!
//! Readers of traces and generators are iterators of [`Event`]s in the order of time, so that a workload streams: only what is alive is
//! in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::Node;
use longshore_core::api::pod::Pod;
use longshore_core::kind::DynObject;
use serde::{Deserialize, Serialize};

/// Something happens at some moment.
#[derive(Debug, Clone)]
pub struct Event {
    /// When: the time since the workload began. Events of one moment happen in their order.
    pub at: Duration,
    /// What.
    pub what: What,
}

/// What can happen to a cluster from outside.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum What {
    /// A node is there, or it is other than before; its pods stay.
    Node(Arc<Node>),
    /// A node is lost. Its pods are lost with it and wait again, from their beginning.
    NodeLost(Arc<str>),
    /// A node shall be emptied and takes no more pods, until it comes as a [`What::Node`] again. Its pods wait again.
    Drain(Arc<str>),
    /// A job arrives.
    Job(Job),
    /// A job is no longer wanted: its pods end, wherever they are.
    Cancel(Arc<str>),
    /// A pod runs already, and nobody knows how long: as [`What::Job`] with this pod as its only task, placed on this node in the same
    /// moment without any scheduler. The job's name is the pod's: `namespace/name`.
    Running {
        /// The pod, with its name.
        pod: Arc<Pod>,
        /// Where it runs; this node is there.
        node: Arc<str>,
    },
    /// Another object that policies look at, such as a namespace, a volume or a claim, is there, or is other than before.
    Object(DynObject),
}

/// Tasks that belong together.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its name: no other job has it while this one lives.
    pub name: Arc<str>,
    /// Whose it is.
    pub user: Arc<str>,
    /// What it is for.
    pub class: Class,
    /// All of its tasks get places, or none does.
    pub gang: bool,
    /// Its tasks, in the order in which they are placed.
    pub tasks: Vec<Task>,
}

/// What a job is for, as the literature tells them apart (Schwarzkopf et al., Omega, EuroSys '13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Class {
    /// It computes something and ends.
    Batch,
    /// It serves others until it is no longer wanted.
    Service,
}

/// Equal pods.
#[derive(Debug, Clone)]
pub struct Task {
    /// The pod, which gets a name of its own when it is placed. Its priority is in its spec.
    pub pod: Arc<Pod>,
    /// How many of them.
    pub count: u32,
    /// How long each runs; `None`: until its job is cancelled.
    pub duration: Option<Duration>,
}

impl Job {
    /// How many pods.
    pub fn pods(&self) -> u64 {
        self.tasks.iter().map(|task| u64::from(task.count)).sum()
    }

    /// Its priority: that of its first task, 0 if it has none.
    pub fn priority(&self) -> i32 {
        self.tasks.first().and_then(|task| task.pod.spec.priority).unwrap_or(0)
    }
}

/// What is there at one moment.
#[derive(Debug, Clone, Default)]
pub struct Alive {
    /// The nodes that take pods, by their names.
    pub nodes: Vec<Arc<Node>>,
    /// The pods, in the order in which they arrived.
    pub pods: Vec<Arc<Pod>>,
}

impl Alive {
    /// What a workload has at a moment: pods of jobs that have arrived by then, and were neither cancelled nor would have ended had they run
    /// from their arrival. So it does not depend on who places them.
    ///
    /// # Errors
    /// The workload's own, if it has one before that moment.
    pub fn at<E>(moment: Duration, events: impl IntoIterator<Item = Result<Event, E>>) -> Result<Self, E> {
        let mut nodes: BTreeMap<Arc<str>, Arc<Node>> = BTreeMap::new();
        let mut running: BTreeMap<u64, Vec<Arc<Pod>>> = BTreeMap::new();
        let mut numbers: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for (event, number) in events.into_iter().zip(0..) {
            let Event { at, what } = event?;
            if at > moment {
                break;
            }
            match what {
                What::Node(node) => {
                    nodes.insert(node.metadata.name.as_deref().unwrap_or_default().into(), node);
                }
                What::NodeLost(node) | What::Drain(node) => drop(nodes.remove(&node)),
                What::Job(job) => {
                    let lives =
                        |task: &&Task| task.duration.is_none_or(|duration| at.saturating_add(duration) > moment);
                    let copies = |task: &Task| std::iter::repeat_n(task.pod.clone(), task.count as usize);
                    let pods: Vec<_> = job.tasks.iter().filter(lives).flat_map(copies).collect();
                    numbers.insert(job.name, number);
                    running.insert(number, pods);
                }
                What::Cancel(job) => {
                    // Another of its name may come.
                    if let Some(number) = numbers.remove(&job) {
                        running.remove(&number);
                    }
                }
                What::Running { pod, .. } => drop(running.insert(number, vec![pod])),
                What::Object(_) => {}
            }
        }
        let pods = running.into_values().flatten().collect();
        Ok(Self { nodes: nodes.into_values().collect(), pods })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alive_is_what_came_and_neither_ended_nor_went() {
        let node = |name: &str| {
            let mut node = Node::default();
            node.metadata.name = Some(name.to_owned());
            What::Node(Arc::new(node))
        };
        let job = |name: &str, count, seconds: Option<u64>| {
            let mut pod = Pod::default();
            pod.metadata.name = Some(name.to_owned());
            let task = Task { pod: Arc::new(pod), count, duration: seconds.map(Duration::from_secs) };
            What::Job(Job { name: name.into(), user: "u".into(), class: Class::Batch, gang: false, tasks: vec![task] })
        };
        let events = [
            (0, node("a")),
            (0, node("b")),
            (0, node("c")),
            (1, job("ended", 2, Some(9))),
            (2, job("lives", 2, Some(9))),
            (3, job("cancelled", 1, None)),
            (4, What::Cancel("cancelled".into())),
            (4, job("for ever", 3, None)),
            (5, What::NodeLost("b".into())),
            (6, What::Drain("c".into())),
            (11, job("late", 1, None)),
        ];
        let events = events.map(|(at, what)| Ok::<_, ()>(Event { at: Duration::from_secs(at), what }));
        let alive = Alive::at(Duration::from_secs(10), events).unwrap();
        let names: Vec<_> = alive.pods.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect();
        assert_eq!(names, ["lives", "lives", "for ever", "for ever", "for ever"]);
        assert_eq!(alive.nodes.len(), 1);
        assert!(Alive::at(Duration::ZERO, [Err("broken")]).is_err());
    }
}
