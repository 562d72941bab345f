//! Alibaba's cluster-trace-gpu-v2020 (PAI): machine learning jobs on GPUs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use longshore_core::devices::WHOLE;
use serde::{Deserialize, Serialize};

use super::lines::parts;
use super::openb::gpu_node;
use super::shape::part;
use super::sorted::Sorter;
use super::spot::gpus;
use super::table::{Columns, each_row};
use super::{Events, Tally, TraceError, yes};
use crate::objects;
use crate::openb::{Machine, Request};
use crate::workload::{Class, Event, Job, Task, What};

/// Jobs from `pai_job_table` (which has their users) and `pai_task_table`; machines from `pai_machine_spec`.
///
/// Each task is a job named `job/task`: `inst_num` pods that arrive at the task's `start_time` and run until its `end_time`; tasks without these
/// did not run and are left out. All are batch. A share of one GPU (`plan_gpu` below 100) is that; what is more is rounded up to whole ones.
/// `gpu_type` is what models will do; the types CPU and MISC, and tasks without a GPU, go anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pai2020 {
    /// Where the tables are, without their headers.
    pub directory: PathBuf,
    /// Whether the machines of the trace are there from the beginning; if not, nodes come from elsewhere.
    #[serde(default = "yes")]
    pub machines: bool,
    /// Whether all instances of a task get places, or none does. The trace does not tell.
    #[serde(default)]
    pub gang: bool,
}

const JOBS: Columns = Columns::InOrder(&["job_name", "inst_id", "user", "status", "start_time", "end_time"]);
const TASKS: Columns = Columns::InOrder(&[
    "job_name",
    "task_name",
    "inst_num",
    "status",
    "start_time",
    "end_time",
    "plan_cpu",
    "plan_mem",
    "plan_gpu",
    "gpu_type",
]);
const MACHINES: Columns = Columns::InOrder(&["machine", "gpu_type", "cap_cpu", "cap_mem", "cap_gpu"]);

const MIB_OF_GIB: i64 = 1024;

#[derive(Serialize, Deserialize)]
enum Joined {
    User(String),
    Task { at: Duration, count: u32, duration: Duration, request: Request },
}

impl Pai2020 {
    pub(crate) fn events(&self, base: &Path, tally: &Tally) -> Result<Events, TraceError> {
        let directory = base.join(&self.directory);
        let mut nodes = Vec::new();
        if self.machines {
            each_row(&parts(&directory, "pai_machine_spec", ".csv")?, MACHINES, tally, |row| {
                nodes.push(gpu_node(&Machine {
                    name: row.name("machine")?.to_owned(),
                    milli_cpu: part(row.amount("cap_cpu")?, 1000),
                    memory_mib: part(row.amount("cap_mem")?, MIB_OF_GIB),
                    gpus: gpus(row.amount("cap_gpu")?, "cap_gpu")?,
                    model: row.text("gpu_type").to_owned(),
                }));
                Ok(())
            })?;
        }
        // Users and tasks meet by their job.
        let mut joined = Sorter::new();
        each_row(&parts(&directory, "pai_job_table", ".csv")?, JOBS, tally, |row| {
            let key = (row.name("job_name")?.to_owned(), 0_u8);
            Ok(joined.push(key, Joined::User(row.text("user").to_owned()))?)
        })?;
        each_row(&parts(&directory, "pai_task_table", ".csv")?, TASKS, tally, |row| {
            if row.text("start_time").is_empty() || row.text("end_time").is_empty() {
                tally.leave_out("tasks that did not run, or had not ended");
                return Ok(());
            }
            let job = row.name("job_name")?;
            let amount = |column| if row.text(column).is_empty() { Ok(0.0) } else { row.amount(column) };
            let (gpus, milli) = match amount("plan_gpu")? {
                0.0 => (0, 0),
                share @ ..100.0 => (1, part(share / 100.0, WHOLE).max(1)),
                several => (gpus((several / 100.0).ceil(), "plan_gpu")?, WHOLE),
            };
            let model = row.text("gpu_type");
            let request = Request {
                name: format!("{job}/{}", row.name("task_name")?),
                milli_cpu: part(amount("plan_cpu")?, 10),
                memory_mib: part(amount("plan_mem")?, MIB_OF_GIB),
                gpus,
                milli,
                models: if matches!(model, "CPU" | "MISC") { String::new() } else { model.to_owned() },
            };
            let count = whole_instances(row.number("inst_num")?)?;
            let at = row.seconds("start_time")?;
            let duration =
                row.seconds("end_time")?.checked_sub(at).ok_or("end_time is before start_time".to_owned())?;
            Ok(joined.push((job.to_owned(), 1), Joined::Task { at, count, duration, request })?)
        })?;
        let mut jobs = Sorter::new();
        let (mut user_of, mut user) = (String::new(), String::new());
        for row in joined.finish()? {
            match row? {
                ((job, _), Joined::User(name)) => (user_of, user) = (job, name),
                ((job, _), Joined::Task { at, count, duration, request }) => {
                    let user = if job == user_of { user.clone() } else { String::new() };
                    jobs.push(at, (user, count, duration, request))?;
                }
            }
        }
        let gang = self.gang;
        let mut start = None;
        let jobs = jobs.finish()?.map(move |row| {
            let (at, (user, count, duration, request)): (Duration, (String, u32, Duration, Request)) = row?;
            let at = at - *start.get_or_insert(at);
            let task = Task { pod: Arc::new(objects::pod(&request)), count, duration: Some(duration) };
            let (name, user) = (request.name.into(), user.into());
            Ok(Event { at, what: What::Job(Job { name, user, class: Class::Batch, gang, tasks: vec![task] }) })
        });
        Ok(Box::new(nodes.into_iter().map(Ok).chain(jobs)))
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a whole number in these bounds")]
fn whole_instances(number: f64) -> Result<u32, String> {
    if (1.0..=1e6).contains(&number) && number.fract() == 0.0 {
        Ok(number as u32)
    } else {
        Err(format!("inst_num is {number}: it must be a whole number from 1 to 1,000,000"))
    }
}
