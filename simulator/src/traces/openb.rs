//! Alibaba's cluster-trace-gpu-v2023 ("openb") in its own time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::shape::HOST;
use super::sorted::Sorter;
use super::spot::gpus;
use super::table::{Columns, Row, each_row};
use super::{Events, Tally, TraceError};
use crate::objects;
use crate::openb::{Machine, Request};
use crate::workload::{Class, Event, Job, Task, What};

/// Each pod arrives at its `creation_time` and runs for as long as it ran: from `scheduled_time`, or `creation_time` where that is
/// empty, to `deletion_time`. A pod of `qos` LS (latency-sensitive) is a service, any other is batch. Times are seconds; the first
/// arrival is moment 0.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OpenbTimes {
    /// The list of nodes, which are all there from the beginning; left out if nodes come from elsewhere.
    #[serde(default)]
    pub nodes: Option<PathBuf>,
    /// The list of pods, with all columns as published.
    pub pods: PathBuf,
}

const NODES: Columns = Columns::Named(&["sn", "cpu_milli", "memory_mib", "gpu", "model"], &[]);
const PODS: Columns = Columns::Named(
    &["name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "creation_time", "deletion_time"],
    &["gpu_spec", "qos", "scheduled_time"],
);

#[derive(Serialize, Deserialize)]
struct Pod {
    request: Request,
    class: Class,
    duration: Option<Duration>,
}

impl OpenbTimes {
    pub(crate) fn events(&self, base: &Path, tally: &Tally) -> Result<Events, TraceError> {
        let mut nodes = Vec::new();
        if let Some(file) = &self.nodes {
            each_row(&[base.join(file)], NODES, tally, |row| {
                let machine = Machine {
                    name: row.name("sn")?.to_owned(),
                    milli_cpu: whole(row, "cpu_milli")?,
                    memory_mib: whole(row, "memory_mib")?,
                    gpus: gpus(row.amount("gpu")?, "gpu")?,
                    model: row.text("model").to_owned(),
                };
                nodes.push(gpu_node(&machine));
                Ok(())
            })?;
        }
        let mut pods = Sorter::new();
        each_row(&[base.join(&self.pods)], PODS, tally, |row| {
            let (at, pod) = pod(row)?;
            Ok(pods.push(at, pod)?)
        })?;
        let mut start = None;
        let jobs = pods.finish()?.map(move |row| {
            let (at, Pod { request, class, duration }) = row?;
            let at = at - *start.get_or_insert(at);
            let task = Task { pod: Arc::new(objects::pod(&request)), count: 1, duration };
            let name = request.name.into();
            Ok(Event { at, what: What::Job(Job { name, user: "".into(), class, gang: false, tasks: vec![task] }) })
        });
        Ok(Box::new(nodes.into_iter().map(Ok).chain(jobs)))
    }
}

/// The machine, there from the beginning.
pub(super) fn gpu_node(machine: &Machine) -> Event {
    let mut node = objects::node(machine);
    node.metadata.labels.get_or_insert_default().insert(HOST.to_owned(), machine.name.clone());
    Event { at: Duration::ZERO, what: What::Node(Arc::new(node)) }
}

fn pod(row: &Row<'_>) -> Result<(Duration, Pod), String> {
    let mut request = Request {
        name: row.name("name")?.to_owned(),
        milli_cpu: row.whole("cpu_milli")?,
        memory_mib: row.whole("memory_mib")?,
        gpus: row.whole("num_gpu")?,
        milli: row.whole("gpu_milli")?,
        models: row.text("gpu_spec").to_owned(),
    };
    request.check()?;
    let created = row.seconds("creation_time")?;
    let placed = if row.text("scheduled_time").is_empty() { created } else { row.seconds("scheduled_time")? };
    let duration = match row.text("deletion_time") {
        "" => None,
        _ => Some(row.seconds("deletion_time")?.checked_sub(placed).ok_or("deletion_time is before the pod's start")?),
    };
    let class = if row.text("qos") == "LS" { Class::Service } else { Class::Batch };
    Ok((created, Pod { request, class, duration }))
}

fn whole(row: &Row<'_>, column: &str) -> Result<i64, String> {
    let amount = row.whole(column)?;
    if (0..1 << 40).contains(&amount) {
        Ok(amount)
    } else {
        Err(format!("{column} is {amount}: it must be from 0 to 2^40"))
    }
}
