//! Alibaba's cluster-trace-v2018: services in containers and batch jobs on the same machines.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::pod::{TopologySpreadConstraint, UnsatisfiableConstraintAction};
use serde::{Deserialize, Serialize};

use super::lines::parts;
use super::shape::{Amounts, MachineSize, equal, label, node, part, pod};
use super::sorted::Sorter;
use super::table::{Columns, Row, each_row};
use super::{Events, Tally, TraceError, yes};
use crate::workload::{Class, Event, Job, Task, What};

/// Machines from `machine_meta`, services from `container_meta`, batch from `batch_task`.
///
/// Each container is a service of its own, of the user that its `app_du` is, from its first row until one with status `stopped`.
/// Each task of a batch job is a job named `job/task` whose user is the job: `instance_num` pods that arrive at the task's `start_time`,
/// when those that it waited for had ended, and run until its `end_time`. Services have priority 1, batch 0.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Alibaba2018 {
    /// Where the tables are.
    pub directory: PathBuf,
    /// What a machine with memory 100 has; the trace tells its cores.
    #[serde(default)]
    pub largest_machine: MachineSize,
    /// Whether the machines of the trace come and go; if not, nodes come from elsewhere.
    #[serde(default = "yes")]
    pub machines: bool,
    /// Whether to read services.
    #[serde(default = "yes")]
    pub containers: bool,
    /// Whether to read batch jobs.
    #[serde(default = "yes")]
    pub batch: bool,
    /// Whether the containers of a service are spread over failure domains.
    #[serde(default)]
    pub spread: Spread,
}

/// How a service is spread over both kinds of failure domains: evenly but for one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Spread {
    /// Not at all.
    None,
    /// Where it can be.
    #[default]
    Preferred,
    /// Always; what cannot be placed so waits.
    Required,
}

const MACHINES: Columns = Columns::InOrder(&[
    "machine_id",
    "time_stamp",
    "failure_domain_1",
    "failure_domain_2",
    "cpu_num",
    "mem_size",
    "status",
]);
const CONTAINERS: Columns = Columns::InOrder(&[
    "container_id",
    "machine_id",
    "time_stamp",
    "app_du",
    "status",
    "cpu_request",
    "cpu_limit",
    "mem_size",
]);
const TASKS: Columns = Columns::InOrder(&[
    "task_name",
    "instance_num",
    "job_name",
    "task_type",
    "status",
    "start_time",
    "end_time",
    "plan_cpu",
    "plan_mem",
]);

const DOMAINS: [&str; 2] = ["failure_domain_1", "failure_domain_2"];
const APP: &str = "app_du";

#[derive(Serialize, Deserialize)]
enum Entry {
    Machine { name: String, domains: [String; 2], has: Amounts },
    MachineGone(String),
    Container { name: String, app: String, takes: Amounts },
    ContainerGone(String),
    Task { name: String, job: String, count: u32, takes: Amounts, duration: Duration },
}

impl Alibaba2018 {
    pub(crate) fn events(&self, base: &Path, tally: &Tally) -> Result<Events, TraceError> {
        let directory = base.join(&self.directory);
        let mut entries = Sorter::new();
        if self.machines {
            each_row(&parts(&directory, "machine_meta", ".csv")?, MACHINES, tally, |row| {
                let machine = self.machine(row)?;
                // Machines of a moment are there before what runs on them.
                Ok(entries.push((row.seconds("time_stamp")?, 0_u8), machine)?)
            })?;
        }
        if self.containers {
            each_row(&parts(&directory, "container_meta", ".csv")?, CONTAINERS, tally, |row| {
                let container = self.container(row)?;
                Ok(entries.push((row.seconds("time_stamp")?, 1), container)?)
            })?;
        }
        if self.batch {
            each_row(&parts(&directory, "batch_task", ".csv")?, TASKS, tally, |row| {
                if matches!(row.text("end_time"), "" | "0") {
                    tally.leave_out("tasks that had not ended");
                    return Ok(());
                }
                let task = self.task(row)?;
                Ok(entries.push((row.seconds("start_time")?, 1), task)?)
            })?;
        }
        Ok(Box::new(Alive { spread: self.spread, ..Alive::default() }.events(entries.finish()?)))
    }

    fn memory(&self, row: &Row<'_>, column: &str) -> Result<i64, String> {
        match row.number(column)? {
            percent @ 0.0..=100.0 => Ok(self.largest_machine.share(0.0, percent / 100.0).memory),
            other => Err(format!("{column} is {other}: it must be from 0 to 100")),
        }
    }

    fn machine(&self, row: &Row<'_>) -> Result<Entry, String> {
        let name = row.name("machine_id")?.to_owned();
        if row.text("status") != "USING" {
            return Ok(Entry::MachineGone(name));
        }
        let has = Amounts { milli_cpu: part(row.amount("cpu_num")?, 1000), memory: self.memory(row, "mem_size")? };
        Ok(Entry::Machine { name, domains: DOMAINS.map(|domain| row.text(domain).to_owned()), has })
    }

    fn container(&self, row: &Row<'_>) -> Result<Entry, String> {
        let name = row.name("container_id")?.to_owned();
        if row.text("status") == "stopped" {
            return Ok(Entry::ContainerGone(name));
        }
        let takes = Amounts { milli_cpu: part(row.amount("cpu_request")?, 10), memory: self.memory(row, "mem_size")? };
        Ok(Entry::Container { name, app: row.name(APP)?.to_owned(), takes })
    }

    fn task(&self, row: &Row<'_>) -> Result<Entry, String> {
        let count = row.whole("instance_num")?;
        if count == 0 {
            return Err("instance_num is 0".to_owned());
        }
        let duration = row.seconds("end_time")?.checked_sub(row.seconds("start_time")?);
        Ok(Entry::Task {
            name: row.name("task_name")?.to_owned(),
            job: row.name("job_name")?.to_owned(),
            count,
            takes: Amounts { milli_cpu: part(row.amount("plan_cpu")?, 10), memory: self.memory(row, "plan_mem")? },
            duration: duration.ok_or("end_time is before start_time")?,
        })
    }
}

/// What is there at a moment. Machines and containers are told of again and again.
#[derive(Default)]
struct Alive {
    spread: Spread,
    machines: BTreeMap<Arc<str>, (Amounts, [String; 2])>,
    containers: BTreeSet<Arc<str>>,
}

impl Alive {
    fn events(
        mut self,
        entries: impl Iterator<Item = Result<((Duration, u8), Entry), TraceError>>,
    ) -> impl Iterator<Item = Result<Event, TraceError>> {
        entries.filter_map(move |entry| match entry {
            Ok(((at, _), entry)) => self.what(entry).map(|what| Ok(Event { at, what })),
            Err(error) => Some(Err(error)),
        })
    }

    /// What happens by this, if anything.
    fn what(&mut self, entry: Entry) -> Option<What> {
        match entry {
            Entry::Machine { name, domains, has } => {
                let now = (has, domains);
                if self.machines.get(&*name) == Some(&now) {
                    return None;
                }
                let labels = DOMAINS.map(str::to_owned).into_iter().zip(now.1.clone());
                let node = node(&name, has, labels);
                self.machines.insert(name.into(), now);
                Some(What::Node(Arc::new(node)))
            }
            Entry::MachineGone(name) => self.machines.remove_entry(&*name).map(|(name, _)| What::NodeLost(name)),
            Entry::Container { name, app, takes } => {
                let name: Arc<str> = name.into();
                self.containers.insert(name.clone()).then(|| What::Job(self.service(name, &app, takes)))
            }
            Entry::ContainerGone(name) => self.containers.take(&*name).map(What::Cancel),
            Entry::Task { name, job, count, takes, duration } => {
                let task = Task { pod: Arc::new(pod(takes, 0)), count, duration: Some(duration) };
                let name = format!("{job}/{name}").into();
                Some(What::Job(Job { name, user: job.into(), class: Class::Batch, gang: false, tasks: vec![task] }))
            }
        }
    }

    fn service(&self, name: Arc<str>, app: &str, takes: Amounts) -> Job {
        let mut pod = pod(takes, 1);
        label(&mut pod, APP, app);
        let when_unsatisfiable = match self.spread {
            Spread::None => None,
            Spread::Preferred => Some(UnsatisfiableConstraintAction::ScheduleAnyway),
            Spread::Required => Some(UnsatisfiableConstraintAction::DoNotSchedule),
        };
        if let Some(when_unsatisfiable) = when_unsatisfiable {
            let selector = equal(&pod, APP);
            pod.spec.topology_spread_constraints.extend(DOMAINS.map(|domain| TopologySpreadConstraint {
                max_skew: 1,
                topology_key: domain.to_owned(),
                when_unsatisfiable: when_unsatisfiable.clone(),
                label_selector: Some(selector.clone()),
                ..TopologySpreadConstraint::default()
            }));
        }
        let task = Task { pod: Arc::new(pod), count: 1, duration: None };
        Job { name, user: app.into(), class: Class::Service, gang: false, tasks: vec![task] }
    }
}
