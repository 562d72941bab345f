//! Alibaba's cluster-trace-gpu-v2026: jobs of high priority and spot jobs on GPUs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use longshore_core::devices::WHOLE;
use serde::{Deserialize, Serialize};

use super::lines::parts;
use super::openb::gpu_node;
use super::shape::part;
use super::sorted::Sorter;
use super::table::{Columns, Row, each_row};
use super::{Events, Tally, TraceError, yes};
use crate::objects;
use crate::openb::{Machine, Request};
use crate::workload::{Class, Event, Job, Task, What};

/// Jobs with their organization as user, and all of their workers; each worker gets `cpu_request` and `gpu_request` of the job's
/// `gpu_model` and runs for `duration`, so all jobs are batch. `HP` has priority 1000 and may evict `Spot`, which has 0. The trace
/// knows no memory: nodes have none, pods ask for none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spot2026 {
    /// Where `job_info_df.csv` and `node_info_df.csv` are.
    pub directory: PathBuf,
    /// Whether the nodes of the trace are there from the beginning; if not, they come from elsewhere.
    #[serde(default = "yes")]
    pub machines: bool,
    /// Whether all workers of a job get places, or none does. The trace does not tell.
    #[serde(default)]
    pub gang: bool,
}

const HIGH: i32 = 1000;

const NODES: Columns = Columns::Named(&["gpu_model", "gpu_capacity_num", "cpu_num", "node_name"], &[]);
const JOBS: Columns = Columns::Named(
    &["job_name", "gpu_model", "cpu_request", "gpu_request", "worker_num", "submit_time", "duration", "job_type"],
    &["organization"],
);

#[derive(Serialize, Deserialize)]
struct SpotJob {
    worker: Request,
    workers: u32,
    organization: String,
    priority: i32,
    duration: Duration,
}

impl Spot2026 {
    pub(crate) fn events(&self, base: &Path, tally: &Tally) -> Result<Events, TraceError> {
        let directory = base.join(&self.directory);
        let mut nodes = Vec::new();
        if self.machines {
            each_row(&parts(&directory, "node_info_df", ".csv")?, NODES, tally, |row| {
                nodes.push(gpu_node(&Machine {
                    name: row.name("node_name")?.to_owned(),
                    milli_cpu: part(row.amount("cpu_num")?, 1000),
                    memory_mib: 0,
                    gpus: gpus(row.amount("gpu_capacity_num")?, "gpu_capacity_num")?,
                    model: row.text("gpu_model").to_owned(),
                }));
                Ok(())
            })?;
        }
        let mut jobs = Sorter::new();
        each_row(&parts(&directory, "job_info_df", ".csv")?, JOBS, tally, |row| {
            let job = job(row)?;
            Ok(jobs.push(row.seconds("submit_time")?, job)?)
        })?;
        let gang = self.gang;
        let jobs = jobs.finish()?.map(move |row| {
            let (at, SpotJob { worker, workers, organization, priority, duration }) = row?;
            let mut pod = objects::pod(&worker);
            pod.spec.priority = Some(priority);
            let task = Task { pod: Arc::new(pod), count: workers, duration: Some(duration) };
            let (name, user) = (worker.name.into(), organization.into());
            Ok(Event { at, what: What::Job(Job { name, user, class: Class::Batch, gang, tasks: vec![task] }) })
        });
        Ok(Box::new(nodes.into_iter().map(Ok).chain(jobs)))
    }
}

/// Whole GPUs.
#[expect(clippy::cast_possible_truncation, reason = "it is a whole number up to a thousand")]
pub(super) fn gpus(number: f64, column: &str) -> Result<i64, String> {
    if (0.0..=1000.0).contains(&number) && number.fract() == 0.0 {
        Ok(number as i64)
    } else {
        Err(format!("{column} is {number}: it must be a whole number up to 1000"))
    }
}

/// What asks for so many GPUs: whole ones, or a part of one.
pub(super) fn gpu_request(number: f64, column: &str) -> Result<(i64, i64), String> {
    if number > 0.0 && number < 1.0 { Ok((1, part(number, WHOLE).max(1))) } else { Ok((gpus(number, column)?, WHOLE)) }
}

fn job(row: &Row<'_>) -> Result<SpotJob, String> {
    let (gpus, milli) = gpu_request(row.amount("gpu_request")?, "gpu_request")?;
    let worker = Request {
        name: row.name("job_name")?.to_owned(),
        milli_cpu: part(row.amount("cpu_request")?, 1000),
        memory_mib: 0,
        gpus,
        milli: if gpus == 0 { 0 } else { milli },
        models: row.text("gpu_model").to_owned(),
    };
    let workers = row.whole("worker_num")?;
    if workers == 0 {
        return Err("worker_num is 0".to_owned());
    }
    let priority = match row.name("job_type")? {
        "HP" => HIGH,
        "Spot" => 0,
        other => return Err(format!("job_type is {other:?}: it must be HP or Spot")),
    };
    let organization = row.text("organization").to_owned();
    Ok(SpotJob { worker, workers, organization, priority, duration: row.seconds("duration")? })
}
