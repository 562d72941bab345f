//! What happens, line by line.

mod architectures;
mod events;
mod going_on;
mod invariants;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::Node;
use longshore_core::api::pod::Pod;
use longshore_core::scheduling::cluster::Cluster;
use longshore_scheduler::Profile;
use serde_json::json;

use super::*;
use crate::observer::{Happening, Observer};
use crate::workload::{Class, Event, Job, Task, What};

type Events = Vec<Result<Event, Infallible>>;

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn at(time: f64, what: What) -> Result<Event, Infallible> {
    Ok(Event { at: seconds(time), what })
}

/// A node with so many cores.
fn node(name: &str, cores: u32) -> What {
    let node: Node = serde_json::from_value(json!({
        "metadata": { "name": name },
        "status": { "allocatable": { "cpu": cores.to_string(), "memory": "64Gi", "pods": "110" } },
    }))
    .unwrap();
    What::Node(Arc::new(node))
}

/// So many pods of so many cores that run so many seconds, or for ever if it is 0.
fn task(count: u32, cores: u32, lasts: f64) -> Task {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "namespace": "default" },
        "spec": { "containers": [
            { "name": "main", "resources": { "requests": { "cpu": cores.to_string(), "memory": "1Gi" } } },
        ] },
    }))
    .unwrap();
    Task { pod: Arc::new(pod), count, duration: (lasts > 0.0).then(|| seconds(lasts)) }
}

fn important(mut task: Task, priority: i32) -> Task {
    Arc::make_mut(&mut task.pod).spec.priority = Some(priority);
    task
}

fn job(name: &str, tasks: Vec<Task>) -> Job {
    Job { name: name.into(), user: "u".into(), class: Class::Batch, gang: false, tasks }
}

fn service(name: &str, tasks: Vec<Task>) -> Job {
    Job { class: Class::Service, ..job(name, tasks) }
}

fn gang(name: &str, tasks: Vec<Task>) -> Job {
    Job { gang: true, ..job(name, tasks) }
}

/// Writes down what it hears.
#[derive(Default)]
struct Diary {
    lines: Vec<String>,
}

impl Observer for Diary {
    fn hear(&mut self, at: Duration, what: &Happening<'_>, cluster: &Cluster) {
        let name = |pod: &Pod| pod.metadata.name.clone().unwrap();
        let what = match what {
            Happening::NodeUp(node) => format!("up {}", cluster.name(*node)),
            Happening::NodeDown(node) => format!("down {}", node.index()),
            Happening::JobArrived(job) => format!("arrived {}", job.name),
            Happening::Attempt(attempt) => {
                let of = if attempt.first { "first attempt" } else { "attempt" };
                let (name, began) = (&attempt.job.name, attempt.began.as_secs_f64());
                let (placed, conflicts, refused) = (attempt.placed, attempt.conflicts, attempt.refused);
                format!("{of} {name} by {} since {began}: {placed}/{conflicts}/{refused}", attempt.scheduler)
            }
            Happening::Placed(placed) => {
                let since = placed.waiting_since.as_secs_f64();
                format!("placed {} on {} waiting since {since}", name(placed.pod), cluster.name(placed.node))
            }
            Happening::Refused { pod, .. } => format!("refused {}", name(pod)),
            Happening::Left { pod, node, since, why, .. } => {
                format!("left {} {} since {}: {why:?}", name(pod), cluster.name(*node), since.as_secs_f64())
            }
            Happening::GivenUp { job, waiting, .. } => format!("gave {} up: {waiting}", job.name),
            Happening::JobEnded { job, arrived } => format!("ended {} of {}", job.name, arrived.as_secs_f64()),
        };
        self.lines.push(format!("{} {what}", at.as_secs_f64()));
    }
}

fn first() -> Simulation {
    Simulation { ties: Ties::First, ..Simulation::default() }
}

fn profile() -> Profile {
    Profile::default_scheduler()
}

fn run(simulation: &Simulation, events: Events) -> (Ended, Vec<String>) {
    let mut diary = Diary::default();
    let ended = simulation.run(profile(), events, None, &mut diary).unwrap();
    (ended, diary.lines)
}

/// The lines of a run that say one of these words, nodes coming up aside.
fn lines(simulation: &Simulation, events: Events) -> Vec<String> {
    run(simulation, events).1.into_iter().filter(|line| !line.contains(" up ")).collect()
}

/// The lines that have one of these words.
fn with(lines: &[String], words: &[&str]) -> Vec<String> {
    let has = |line: &&String| words.iter().any(|word| line.split(' ').any(|part| part == *word));
    lines.iter().filter(has).cloned().collect()
}
