//! A simulation written down, to go on with later, or otherwise.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::Node;
use longshore_core::api::pod::Pod;
use longshore_core::scheduling::NodeId;
use longshore_scheduler::Course;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::agenda::{Appointment, Entry};
use super::claim::Record;
use super::configuration::{Deciders, Retry, Simulation};
use super::error::ConfigurationError;
use super::jobs::{Life, Live, PodKey, Stand, Waiting, pod_of};
use super::offer::OfferRecord;
use super::plan::{Plan, Planned};
use super::running::Running;
use super::thought::Thought;
use crate::workload::{Class, Job, Task};

/// The form of what is written. Another form gets another number.
const VERSION: u32 = 1;

/// Everything that a [`Running`] simulation goes on from, as plain data: serde writes and reads it. Its size is that of nodes, jobs and
/// pods that live; equal pods are written once.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Checkpoint {
    version: u32,
    simulation: Simulation,
    now: Duration,
    events: u64,
    next_job: u64,
    next_turn: u64,
    next_entry: u64,
    course: Course,
    /// By place.
    nodes: Vec<Option<Arc<Node>>>,
    changes: (u64, u64, Vec<u64>, Vec<u64>),
    templates: Vec<Arc<Pod>>,
    jobs: Vec<JobRecord>,
    /// By node, and in their order there.
    pods: Vec<PodRecord>,
    thoughts: Vec<Option<ThoughtRecord>>,
    offers: Vec<OfferRecord>,
    busy: Vec<Duration>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct JobRecord {
    number: u64,
    name: Arc<str>,
    user: Arc<str>,
    class: Class,
    gang: bool,
    /// Template, how many, how long.
    tasks: Vec<(usize, u32, Option<Duration>)>,
    arrived: Duration,
    stand: Stand,
    failures: u32,
    conflicts: u32,
    tried: bool,
    waiting: Vec<(u64, u64, Duration)>,
    reach: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct PodRecord {
    key: PodKey,
    node: usize,
    since: Duration,
    end: Option<Entry>,
    /// Where they are not those of the template: with the devices that were chosen.
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ThoughtRecord {
    number: u64,
    job: Option<JobOf>,
    arrived: Duration,
    first: bool,
    began: Duration,
    ends: Entry,
    seen: u64,
    contested: bool,
    plan: Option<PlanRecord>,
}

/// The job that is thought about, if it has been cancelled meanwhile.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct JobOf {
    name: Arc<str>,
    user: Arc<str>,
    class: Class,
    gang: bool,
    tasks: Vec<(usize, u32, Option<Duration>)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct PlanRecord {
    /// Pod, node, victims.
    placed: Vec<(u64, usize, Vec<PodKey>)>,
    refused: u64,
    spokesmen: Vec<u64>,
}

/// Why a checkpoint cannot be gone on from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// It was written by another version.
    #[error("the checkpoint is of form {found}, this version reads form {VERSION}: run the simulation anew")]
    Version {
        /// The form.
        found: u32,
    },
    /// It does not agree with itself.
    #[error("the checkpoint is damaged: {what} is named in it, but not there")]
    Damaged {
        /// What is missing.
        what: String,
    },
    /// It cannot be run as it is configured.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
}

fn damaged(what: impl Into<String>) -> CheckpointError {
    CheckpointError::Damaged { what: what.into() }
}

/// Gives equal templates one number.
#[derive(Default)]
struct Templates {
    all: Vec<Arc<Pod>>,
    known: FxHashMap<*const Pod, usize>,
}

impl Templates {
    fn tasks(&mut self, job: &Job) -> Vec<(usize, u32, Option<Duration>)> {
        let mut number = |pod: &Arc<Pod>| {
            *self.known.entry(Arc::as_ptr(pod)).or_insert_with(|| {
                self.all.push(pod.clone());
                self.all.len() - 1
            })
        };
        job.tasks.iter().map(|task| (number(&task.pod), task.count, task.duration)).collect()
    }
}

impl Running {
    /// Writes down everything that is needed to go on from here.
    pub fn checkpoint(&self) -> Checkpoint {
        let cluster = self.engine.cluster();
        let mut templates = Templates::default();
        let mut numbers: Vec<u64> = self.jobs.live.keys().copied().collect();
        numbers.sort_unstable();
        let jobs = numbers.into_iter().filter_map(|number| self.job_record(number, &mut templates)).collect();
        let places = (0..cluster.width()).map(NodeId::from_index);
        let pods = places.clone().flat_map(|node| cluster.pods_on(node)).filter_map(|placed| {
            let key = self.jobs.key_of(placed.pod())?;
            let life = self.jobs.lives.get(&key)?;
            let (_, task) = self.jobs.live.get(&key.0)?.task_of(key.1)?;
            let annotations = &life.pod.metadata.annotations;
            let annotations = annotations.clone().filter(|_| *annotations != task.pod.metadata.annotations);
            Some(PodRecord { key, node: life.node.index(), since: life.since, end: life.end, annotations })
        });
        let pods = pods.collect();
        let thoughts = self.thoughts.iter().map(|thought| Some(self.thought_record(thought.as_ref()?, &mut templates)));
        Checkpoint {
            version: VERSION,
            simulation: self.simulation.clone(),
            now: self.now,
            events: self.events,
            next_job: self.jobs.next,
            next_turn: self.queues.next,
            next_entry: self.agenda.next,
            course: self.engine.course(),
            nodes: places.map(|node| cluster.node(node).cloned()).collect(),
            changes: (self.record.last, self.record.freed, self.record.changed.clone(), self.record.came.clone()),
            jobs,
            pods,
            thoughts: thoughts.collect(),
            offers: self.offers.iter().flat_map(|offers| OfferRecord::of(offers, cluster)).collect(),
            busy: self.busy.clone(),
            templates: templates.all,
        }
    }

    fn job_record(&self, number: u64, templates: &mut Templates) -> Option<JobRecord> {
        let live = self.jobs.live.get(&number)?;
        Some(JobRecord {
            number,
            name: live.job.name.clone(),
            user: live.job.user.clone(),
            class: live.job.class,
            gang: live.job.gang,
            tasks: templates.tasks(&live.job),
            arrived: live.arrived,
            stand: live.stand,
            failures: live.failures,
            conflicts: live.conflicts,
            tried: live.tried,
            waiting: live.waiting.ranges().collect(),
            reach: live.reach,
        })
    }

    fn thought_record(&self, thought: &Thought, templates: &mut Templates) -> ThoughtRecord {
        let key = |pod: &Arc<Pod>| self.jobs.key_of(pod);
        let plan = thought.plan.as_ref().map(|plan| PlanRecord {
            placed: (plan.placed.iter())
                .map(|it| (it.ordinal, it.node.index(), it.victims.iter().filter_map(key).collect()))
                .collect(),
            refused: plan.refused,
            spokesmen: plan.spokesmen.iter().filter_map(key).map(|(_, ordinal)| ordinal).collect(),
        });
        let job = &thought.job;
        let cancelled = (!self.jobs.live.contains_key(&thought.number)).then(|| JobOf {
            name: job.name.clone(),
            user: job.user.clone(),
            class: job.class,
            gang: job.gang,
            tasks: templates.tasks(job),
        });
        ThoughtRecord {
            number: thought.number,
            job: cancelled,
            arrived: thought.arrived,
            first: thought.first,
            began: thought.began,
            ends: thought.ends,
            seen: thought.seen,
            contested: thought.contested,
            plan,
        }
    }

    /// Another simulation that goes on from here, as `simulation` and `deciders` say: what if? With the same it goes on in the same way.
    /// With another architecture, what schedulers are thinking about now is thought about anew.
    ///
    /// # Errors
    /// It cannot be run as it is configured.
    pub fn fork(&self, simulation: &Simulation, deciders: impl Into<Deciders>) -> Result<Self, CheckpointError> {
        self.checkpoint().resume(simulation, deciders)
    }
}

impl Checkpoint {
    /// How it was configured.
    pub fn simulation(&self) -> &Simulation {
        &self.simulation
    }

    /// How many events of the workload have happened: go on with those after them.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Goes on from here, as `simulation` and `deciders` say: [`Running::fork`]. Policies are not written down, so they must be given.
    ///
    /// # Errors
    /// The checkpoint is of another version or damaged, or it cannot be run as it is configured.
    pub fn resume(&self, simulation: &Simulation, deciders: impl Into<Deciders>) -> Result<Running, CheckpointError> {
        if self.version != VERSION {
            return Err(CheckpointError::Version { found: self.version });
        }
        let mut running = simulation.start(deciders)?;
        running.now = self.now;
        running.events = self.events;
        running.jobs.next = self.next_job;
        running.queues.next = self.next_turn;
        running.agenda.next = self.next_entry;
        let (last, freed, changed, came) = self.changes.clone();
        running.record = Record { last, freed, changed, came };
        self.put_nodes(&mut running);
        for job in &self.jobs {
            self.put_job(&mut running, job)?;
        }
        for pod in &self.pods {
            put_pod(&mut running, pod)?;
        }
        if self.simulation.architecture == simulation.architecture {
            running.busy.clone_from(&self.busy);
            for (scheduler, thought) in self.thoughts.iter().enumerate() {
                if let Some(thought) = thought {
                    self.put_thought(&mut running, scheduler, thought)?;
                }
            }
            if let Some(offers) = &mut running.offers {
                self.offers.iter().for_each(|offer| offer.clone().restore(offers, running.engine.cluster()));
            }
        }
        if (self.simulation.seed, self.simulation.ties) == (simulation.seed, simulation.ties) {
            running.engine.set_course(self.course.clone());
        }
        Ok(running)
    }

    /// At the places that they had.
    fn put_nodes(&self, running: &mut Running) {
        let gap = |place: usize| {
            let mut node = Node::default();
            node.metadata.name = Some(format!("/{place}"));
            Arc::new(node)
        };
        let cluster = running.engine.cluster_mut();
        for (place, node) in self.nodes.iter().enumerate() {
            cluster.put_node(node.clone().unwrap_or_else(|| gap(place)));
        }
        for (place, _) in self.nodes.iter().enumerate().filter(|(_, node)| node.is_none()) {
            cluster.remove_node(&format!("/{place}"));
        }
        if let Some(offers) = &mut running.offers {
            let cluster = running.engine.cluster();
            cluster.nodes().iter().for_each(|node| offers.node_came(cluster, node));
        }
    }

    fn tasks(&self, tasks: &[(usize, u32, Option<Duration>)]) -> Result<Vec<Task>, CheckpointError> {
        let task = |&(template, count, duration): &(usize, u32, Option<Duration>)| {
            let pod = self.templates.get(template).ok_or_else(|| damaged(format!("template {template}")))?;
            Ok(Task { pod: pod.clone(), count, duration })
        };
        tasks.iter().map(task).collect()
    }

    fn put_job(&self, running: &mut Running, record: &JobRecord) -> Result<(), CheckpointError> {
        let JobRecord { number, ref name, ref user, class, gang, arrived, stand, .. } = *record;
        let tasks = self.tasks(&record.tasks)?;
        let job = Arc::new(Job { name: name.clone(), user: user.clone(), class, gang, tasks });
        let mut waiting = Waiting::default();
        record.waiting.iter().for_each(|(first, end, since)| waiting.put(*first, *end, *since));
        let live = Live {
            scheduler: running.simulation.architecture.scheduler_of(name, class),
            job,
            arrived,
            stand: Stand::Content,
            failures: record.failures,
            conflicts: record.conflicts,
            tried: record.tried,
            waiting,
            running: 0,
            reach: record.reach,
        };
        running.jobs.insert(number, live);
        match stand {
            Stand::Content => {}
            Stand::Queued(turn) => running.queue_at(number, turn),
            Stand::BacksOff(entry) => {
                running.agenda.restore(entry, Appointment::Due(number));
                running.set_stand(number, stand);
            }
            // Nobody who is tried again at once waits for room.
            Stand::Parked { .. } if matches!(running.simulation.retry, Retry::Immediate { .. }) => {
                running.queue(number)
            }
            Stand::Parked { since, near } => running.park_since(number, since, near),
            Stand::Considered if self.simulation.architecture == running.simulation.architecture => {
                running.set_stand(number, stand);
            }
            Stand::Considered => running.queue(number),
        }
        Ok(())
    }

    fn put_thought(
        &self,
        running: &mut Running,
        scheduler: usize,
        record: &ThoughtRecord,
    ) -> Result<(), CheckpointError> {
        let job = match &record.job {
            Some(JobOf { name, user, class, gang, tasks }) => {
                let (name, user) = (name.clone(), user.clone());
                Arc::new(Job { name, user, class: *class, gang: *gang, tasks: self.tasks(tasks)? })
            }
            None => {
                let live = running.jobs.live.get(&record.number);
                live.ok_or_else(|| damaged(format!("job {}", record.number)))?.job.clone()
            }
        };
        let plan = match &record.plan {
            // Nobody will ask what was planned for a job that is cancelled.
            Some(plan) if record.job.is_none() => Some(plan_of(running, record, plan)?),
            plan => plan.as_ref().map(|_| Plan::default()),
        };
        running.agenda.restore(record.ends, Appointment::Decided(scheduler));
        let ThoughtRecord { number, arrived, first, began, ends, seen, contested, .. } = *record;
        let thought = Thought { number, job, arrived, first, began, ends, seen, contested, plan };
        *running.thoughts.get_mut(scheduler).ok_or_else(|| damaged(format!("scheduler {scheduler}")))? = Some(thought);
        Ok(())
    }
}

fn plan_of(running: &Running, thought: &ThoughtRecord, record: &PlanRecord) -> Result<Plan, CheckpointError> {
    let live = running.jobs.live.get(&thought.number);
    let pod = |ordinal: u64| -> Result<Arc<Pod>, CheckpointError> {
        let (live, (_, task)) = live
            .and_then(|live| Some((live, live.task_of(ordinal)?)))
            .ok_or_else(|| damaged(format!("pod {ordinal} of job {}", thought.number)))?;
        Ok(Arc::new(pod_of(&live.job, task, ordinal, thought.began)))
    };
    let placed = |(ordinal, node, victims): &(u64, usize, Vec<PodKey>)| {
        let victims = victims.iter().filter_map(|key| running.jobs.lives.get(key)).map(|life| life.pod.clone());
        let node = u32::try_from(*node).map_err(|_| damaged(format!("node {node}")))? as usize;
        Ok(Planned {
            ordinal: *ordinal,
            pod: pod(*ordinal)?,
            node: NodeId::from_index(node),
            victims: victims.collect(),
        })
    };
    Ok(Plan {
        placed: record.placed.iter().map(placed).collect::<Result<_, CheckpointError>>()?,
        refused: record.refused,
        spokesmen: record.spokesmen.iter().map(|ordinal| pod(*ordinal)).collect::<Result<_, _>>()?,
    })
}

fn put_pod(running: &mut Running, record: &PodRecord) -> Result<(), CheckpointError> {
    let (number, ordinal) = record.key;
    let missing = || damaged(format!("pod {ordinal} of job {number}"));
    let live = running.jobs.live.get_mut(&number).ok_or_else(missing)?;
    let (_, task) = live.task_of(ordinal).ok_or_else(missing)?;
    let mut pod = pod_of(&live.job, task, ordinal, record.since);
    if let Some(annotations) = &record.annotations {
        pod.metadata.annotations = Some(annotations.clone());
    }
    live.running += 1;
    let (pod, scheduler) = (Arc::new(pod), live.scheduler);
    let cluster = running.engine.cluster_mut();
    let node = u32::try_from(record.node).ok().map(|node| NodeId::from_index(node as usize));
    let node = node.filter(|node| cluster.nodes().contains(*node));
    let node = node.ok_or_else(|| damaged(format!("node {}", record.node)))?;
    cluster.place(pod.clone(), node);
    if let Some(offers) = &mut running.offers {
        let shape = running.engine.cluster_mut().shape(&pod);
        offers.charge(scheduler, shape.requests(), 1);
    }
    if let Some(end) = record.end {
        running.agenda.restore(end, Appointment::End(record.key));
    }
    running.jobs.lives.insert(record.key, Life { pod, node, since: record.since, end: record.end });
    Ok(())
}
