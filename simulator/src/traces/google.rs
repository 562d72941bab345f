//! What Google's traces of 2011 and 2019 have in common: events of machines and of tasks, from which it follows when a task was wanted and
//! for how long it ran.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::pod::{NodeSelectorOperator, NodeSelectorRequirement, NodeSelectorTerm, Pod};
use serde::{Deserialize, Serialize};

use super::shape::{self, Amounts, HOST, apart, label, pod};
use super::sorted::{Sorted, Sorter};
use super::{Tally, TraceError};
use crate::workload::{Class, Event, Job, Task, What};

/// Traces begin at 600 s; 0 is before.
const BEGIN: u64 = 600_000_000;

/// This is after the trace.
const AFTER: u64 = i64::MAX as u64;

/// Tasks of a job that are submitted so close to each other, in microseconds, arrive together.
const TOGETHER: u64 = 1_000_000;

pub(super) const SWITCH: &str = "switch";
pub(super) const PLATFORM: &str = "platform";
const JOB: &str = "job";

/// A moment in microseconds; `None` if it is after the trace.
pub(super) fn moment(time: u64) -> Result<Option<u64>, String> {
    match time {
        AFTER => Ok(None),
        0..=3_162_240_000_000_000 => Ok(Some(time)),
        _ => Err(format!("the time is {time}: it must be less than a hundred years in microseconds")),
    }
}

/// What a task wants of an attribute of its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Constraint {
    pub(super) attribute: String,
    pub(super) relation: u8,
    pub(super) value: String,
}

impl Constraint {
    /// As what a pod wants of a label `attribute/…`.
    fn requirement(&self) -> Result<NodeSelectorRequirement, String> {
        use NodeSelectorOperator::{DoesNotExist, Exists, Gt, In, Lt, NotIn};
        let beside = |by: i64| match self.value.parse::<i64>().ok().and_then(|value| value.checked_add(by)) {
            Some(value) => Ok(vec![value.to_string()]),
            None => Err(format!("attribute value is {:?}: it must be a whole number to be compared", self.value)),
        };
        let (operator, values) = match (self.relation, self.value.as_str()) {
            (0, "") | (7, _) => (DoesNotExist, Vec::new()),
            (1, "") | (6, _) => (Exists, Vec::new()),
            (0, value) => (In, vec![value.to_owned()]),
            (1, value) => (NotIn, vec![value.to_owned()]),
            (2, _) => (Lt, beside(0)?),
            (3, _) => (Gt, beside(0)?),
            (4, _) => (Lt, beside(1)?),
            (5, _) => (Gt, beside(-1)?),
            (other, _) => return Err(format!("relation is {other}: it must be from 0 to 7")),
        };
        Ok(NodeSelectorRequirement { key: format!("attribute/{}", self.attribute), operator, values })
    }

    pub(super) fn check(self) -> Result<Self, String> {
        if self.attribute.is_empty() {
            return Err("the attribute has no name".to_owned());
        }
        self.requirement().map(|_| self)
    }
}

/// Machines on which no two tasks of a job may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Apart {
    pub(super) machine: bool,
    pub(super) switch: bool,
}

/// What a task is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wanted {
    pub(super) user: String,
    pub(super) scheduling_class: u8,
    pub(super) priority: i32,
    /// `None`: the trace does not know.
    pub(super) takes: Option<Amounts>,
    pub(super) apart: Apart,
    pub(super) constraints: Vec<Constraint>,
}

/// What is told of a task.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Told {
    /// Of its job, before it: its user, and which of its tasks are apart.
    Job {
        user: String,
        apart: Apart,
    },
    /// Of its job, after it: there is no more of it.
    JobEnded,
    Constraint(Constraint),
    Submit(Wanted),
    Schedule,
    /// It has lost its place and will be submitted again.
    Evict,
    End,
}

/// What an event of a trace is, by its number in the trace of 2011.
pub(super) fn told_2011(number: u8, wanted: impl FnOnce() -> Result<Wanted, String>) -> Result<Option<Told>, String> {
    Ok(match number {
        0 => Some(Told::Submit(wanted()?)),
        1 => Some(Told::Schedule),
        2 | 6 => Some(Told::Evict),
        3..=5 => Some(Told::End),
        7 | 8 => None,
        _ => return Err(format!("the event type is {number}: it must be from 0 to 8")),
    })
}

/// A task's job and its place in it; for what is told of a job the place is 0.
pub(super) type TaskId = (u64, u32);

/// What the trace tells, at which time and in which order at one time.
pub(super) type Tellings = Sorter<(u64, u8), (TaskId, Told)>;

/// In the order of arrival: moment, machines first, job, and place in it.
type Key = (u64, u8, u64, u32);

#[derive(Debug, Serialize, Deserialize)]
enum Entry {
    Machine { has: Amounts, labels: Vec<(String, String)> },
    MachineGone,
    Task(Wanted, Option<u64>),
}

/// Machines, and tasks with their durations, in the order of arrival.
pub(super) struct Lifetimes {
    entries: Sorter<Key, Entry>,
    alive: BTreeMap<u64, AliveJob>,
    tally: Tally,
}

#[derive(Default)]
struct AliveJob {
    user: Option<String>,
    apart: Apart,
    /// Since when tasks arrive together.
    batch: u64,
    constraints: BTreeMap<u32, Vec<Constraint>>,
    tasks: BTreeMap<u32, AliveTask>,
}

struct AliveTask {
    at: u64,
    wanted: Wanted,
    /// Since when it runs.
    since: Option<u64>,
    /// How long it ran before it was evicted.
    ran: Option<u64>,
}

impl Lifetimes {
    pub(super) fn new(tally: &Tally) -> Self {
        Self { entries: Sorter::new(), alive: BTreeMap::new(), tally: tally.clone() }
    }

    /// A machine is there, or is other than before; `None`: it is gone.
    pub(super) fn machine(
        &mut self,
        time: u64,
        id: u64,
        machine: Option<(Amounts, Vec<(String, String)>)>,
    ) -> Result<(), TraceError> {
        let entry = machine.map_or(Entry::MachineGone, |(has, labels)| Entry::Machine { has, labels });
        self.entries.push((time.saturating_sub(BEGIN), 0, id, 0), entry)
    }

    /// Goes through everything that is told of tasks.
    pub(super) fn tasks(&mut self, told: Tellings) -> Result<(), TraceError> {
        for telling in told.finish()? {
            let ((time, _), (id, told)) = telling?;
            self.hear(time, id, told)?;
        }
        for (job, alive) in std::mem::take(&mut self.alive) {
            for (index, task) in alive.tasks {
                // It had not ended.
                self.arrived((job, index), task.at, task.wanted, None)?;
            }
        }
        Ok(())
    }

    fn hear(&mut self, time: u64, (job, index): TaskId, told: Told) -> Result<(), TraceError> {
        let alive = match told {
            Told::Job { .. } | Told::Constraint(_) | Told::Submit(_) => self.alive.entry(job).or_default(),
            Told::JobEnded | Told::Schedule | Told::Evict | Told::End => match self.alive.get_mut(&job) {
                Some(alive) => alive,
                None => {
                    self.unknown(&told);
                    return Ok(());
                }
            },
        };
        match told {
            Told::Job { user, apart } => (alive.user, alive.apart) = (Some(user), apart),
            Told::JobEnded => {
                alive.user = None;
                self.forget(job);
            }
            Told::Constraint(constraint) => alive.constraints.entry(index).or_default().push(constraint),
            Told::Submit(mut wanted) => {
                let mut constraints = alive.constraints.remove(&index).unwrap_or_default();
                if alive.tasks.contains_key(&index) {
                    // It was evicted and wants another place; or it was not, and is told of twice.
                    return Ok(());
                }
                if let Some(user) = &alive.user {
                    (wanted.user, wanted.apart) = (user.clone(), alive.apart);
                }
                wanted.constraints.append(&mut constraints);
                let at = time.saturating_sub(BEGIN);
                if alive.tasks.is_empty() || at - alive.batch > TOGETHER {
                    alive.batch = at;
                }
                let task = AliveTask { at: alive.batch, wanted, since: None, ran: None };
                alive.tasks.insert(index, task);
            }
            Told::Schedule | Told::Evict => match alive.tasks.get_mut(&index) {
                Some(task) if matches!(told, Told::Schedule) => task.since = Some(time.max(BEGIN)),
                Some(task) => task.ran = task.since.take().map(|since| time.saturating_sub(since)).or(task.ran),
                None => self.unknown(&told),
            },
            Told::End => {
                let Some(task) = alive.tasks.remove(&index) else {
                    self.unknown(&told);
                    return Ok(());
                };
                self.forget(job);
                match task.since.map(|since| time.saturating_sub(since)).or(task.ran) {
                    Some(ran) => self.arrived((job, index), task.at, task.wanted, Some(ran))?,
                    None => self.tally.leave_out("tasks that ended without ever having run"),
                }
            }
        }
        Ok(())
    }

    fn unknown(&self, told: &Told) {
        if !matches!(told, Told::JobEnded) {
            self.tally.leave_out("events of tasks that nobody had submitted");
        }
    }

    /// Of a job without tasks nothing needs to be known, unless more of it may come.
    fn forget(&mut self, job: u64) {
        if self.alive.get(&job).is_some_and(|alive| alive.tasks.is_empty() && alive.user.is_none()) {
            self.alive.remove(&job);
        }
    }

    fn arrived(&mut self, (job, index): TaskId, at: u64, wanted: Wanted, ran: Option<u64>) -> Result<(), TraceError> {
        if wanted.takes.is_none() {
            self.tally.leave_out("tasks of which nobody knows what they take");
            return Ok(());
        }
        self.entries.push((at, 1, job, index), Entry::Task(wanted, ran))
    }

    pub(super) fn events(self) -> Result<impl Iterator<Item = Result<Event, TraceError>> + use<>, TraceError> {
        Ok(Arrivals { entries: self.entries.finish()?.peekable(), machines: BTreeSet::new() })
    }
}

struct Arrivals {
    entries: Peekable<Sorted<Key, Entry>>,
    machines: BTreeSet<u64>,
}

impl Iterator for Arrivals {
    type Item = Result<Event, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let ((at, rank, id, _), entry) = match self.entries.next()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error)),
            };
            let what = match entry {
                Entry::Machine { has, labels } => {
                    self.machines.insert(id);
                    What::Node(Arc::new(shape::node(&id.to_string(), has, labels)))
                }
                Entry::MachineGone if self.machines.remove(&id) => What::NodeLost(id.to_string().into()),
                Entry::MachineGone => continue,
                Entry::Task(wanted, ran) => {
                    let mut job = TasksOf::new(at, id, wanted, ran);
                    let same = |key: &Key| (key.0, key.1, key.2) == (at, rank, id);
                    while let Some(next) = self.entries.next_if(|next| next.as_ref().is_ok_and(|(key, _)| same(key))) {
                        if let Ok((_, Entry::Task(wanted, ran))) = next {
                            job.add(wanted, ran);
                        }
                    }
                    What::Job(job.job)
                }
            };
            return Some(Ok(Event { at: Duration::from_micros(at), what }));
        }
    }
}

/// A job that is put together task by task; equal ones side by side become one.
struct TasksOf {
    id: u64,
    job: Job,
    last: Wanted,
}

impl TasksOf {
    fn new(at: u64, id: u64, wanted: Wanted, ran: Option<u64>) -> Self {
        let class = if wanted.scheduling_class >= 2 { Class::Service } else { Class::Batch };
        // Of what is submitted later the name tells when.
        let name = if at == 0 { id.to_string() } else { format!("{id}@{at}") };
        let tasks = vec![task(&wanted, id, ran)];
        let job = Job { name: name.into(), user: wanted.user.as_str().into(), class, gang: false, tasks };
        Self { id, job, last: wanted }
    }

    fn add(&mut self, wanted: Wanted, ran: Option<u64>) {
        let duration = ran.map(Duration::from_micros);
        match self.job.tasks.last_mut().filter(|_| wanted == self.last) {
            Some(last) if last.duration == duration => last.count += 1,
            Some(last) => {
                let pod = last.pod.clone();
                self.job.tasks.push(Task { pod, count: 1, duration });
            }
            None => {
                self.job.tasks.push(task(&wanted, self.id, ran));
                self.last = wanted;
            }
        }
    }
}

fn task(wanted: &Wanted, job: u64, ran: Option<u64>) -> Task {
    let takes = wanted.takes.unwrap_or(Amounts { milli_cpu: 0, memory: 0 });
    let mut pod: Pod = pod(takes, wanted.priority);
    for (wanted, topology_key) in [(wanted.apart.machine, HOST), (wanted.apart.switch, SWITCH)] {
        if wanted {
            label(&mut pod, JOB, &job.to_string());
            apart(&mut pod, JOB, topology_key);
        }
    }
    let requirements: Vec<_> =
        wanted.constraints.iter().filter_map(|constraint| constraint.requirement().ok()).collect();
    if !requirements.is_empty() {
        let term = NodeSelectorTerm { match_expressions: requirements, ..NodeSelectorTerm::default() };
        shape::only_on(&mut pod, term);
    }
    Task { pod: Arc::new(pod), count: 1, duration: ran.map(Duration::from_micros) }
}
