//! Google's clusterdata-2011-2, format v2.1.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::google::{Apart, Constraint, Lifetimes, PLATFORM, Told, Wanted, moment, told_2011};
use super::lines::{Stop, parts};
use super::shape::MachineSize;
use super::sorted::Sorter;
use super::table::{Columns, Row, each_row};
use super::{Events, Tally, TraceError, yes};

/// Machines from `machine_events`, tasks from `task_events`.
///
/// Tasks of a job that are submitted within a second arrive together, as one job of its user; what is submitted later, or again after
/// it failed, is a job of its own (its name has the moment). A task runs as long as its last run in the trace took; one that is evicted or lost
/// and submitted again is the same task, for evictions are the simulated scheduler's own matter. Scheduling classes 2 and 3 are
/// services. A task that had not ended runs on. The trace's begin, 600 s, is moment 0. A machine's platform is its label `platform`; tasks
/// that must be on different machines have a required anti-affinity.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Google2011 {
    /// Where the tables are.
    pub directory: PathBuf,
    /// What 1 of a resource is.
    #[serde(default)]
    pub largest_machine: MachineSize,
    /// Whether the machines of the trace come and go; if not, nodes come from elsewhere.
    #[serde(default = "yes")]
    pub machines: bool,
    /// Whether to read `task_constraints`: what tasks want of the labels `attribute/NAME`, which nodes from elsewhere must have.
    #[serde(default)]
    pub constraints: bool,
}

const MACHINES: Columns = Columns::InOrder(&["timestamp", "machine ID", "event type", "platform ID", "CPUs", "memory"]);
const TASKS: Columns = Columns::InOrder(&[
    "timestamp",
    "missing info",
    "job ID",
    "task index",
    "machine ID",
    "event type",
    "user",
    "scheduling class",
    "priority",
    "CPU request",
    "memory request",
    "disk request",
    "different-machines constraint",
]);
const CONSTRAINTS: Columns =
    Columns::InOrder(&["timestamp", "job ID", "task index", "comparison", "attribute name", "attribute value"]);

impl Google2011 {
    pub(crate) fn events(&self, base: &Path, tally: &Tally) -> Result<Events, TraceError> {
        let directory = base.join(&self.directory);
        let mut lifetimes = Lifetimes::new(tally);
        if self.machines {
            each_row(&parts(&directory, "machine_events", ".csv")?, MACHINES, tally, |row| {
                self.machine(row, &mut lifetimes, tally)
            })?;
        }
        let mut told = Sorter::new();
        if self.constraints {
            each_row(&parts(&directory, "task_constraints", ".csv")?, CONSTRAINTS, tally, |row| {
                let constraint = Constraint {
                    attribute: row.name("attribute name")?.to_owned(),
                    relation: row.whole("comparison")?,
                    value: row.text("attribute value").to_owned(),
                };
                if constraint.relation > 3 {
                    return Err(format!("comparison is {}: it must be from 0 to 3", constraint.relation).into());
                }
                let telling = ((row.whole("job ID")?, row.whole("task index")?), Told::Constraint(constraint.check()?));
                match moment(row.whole("timestamp")?)? {
                    Some(time) => Ok(told.push((time, 0), telling)?),
                    None => Ok(()),
                }
            })?;
        }
        each_row(&parts(&directory, "task_events", ".csv")?, TASKS, tally, |row| {
            let id = (row.whole("job ID")?, row.whole("task index")?);
            let telling = told_2011(row.whole("event type")?, || self.wanted(row))?;
            match (telling, moment(row.whole("timestamp")?)?) {
                (Some(telling), Some(time)) => Ok(told.push((time, 1), (id, telling))?),
                _ => Ok(()),
            }
        })?;
        lifetimes.tasks(told)?;
        Ok(Box::new(lifetimes.events()?))
    }

    fn machine(&self, row: &Row<'_>, lifetimes: &mut Lifetimes, tally: &Tally) -> Result<(), Stop> {
        let id = row.whole("machine ID")?;
        let Some(time) = moment(row.whole("timestamp")?)? else { return Ok(()) };
        match row.whole("event type")? {
            0_u8 | 2 => {
                if row.text("CPUs").is_empty() || row.text("memory").is_empty() {
                    tally.leave_out("machines of which nobody knows what they have");
                    return Ok(());
                }
                let has = self.largest_machine.share(share(row, "CPUs")?, share(row, "memory")?);
                let platform = (PLATFORM.to_owned(), row.text("platform ID").to_owned());
                Ok(lifetimes.machine(time, id, Some((has, vec![platform])))?)
            }
            1 => Ok(lifetimes.machine(time, id, None)?),
            other => Err(format!("event type is {other}: it must be from 0 to 2").into()),
        }
    }

    fn wanted(&self, row: &Row<'_>) -> Result<Wanted, String> {
        let takes = match (row.text("CPU request"), row.text("memory request")) {
            ("", _) | (_, "") => None,
            _ => Some(self.largest_machine.share(share(row, "CPU request")?, share(row, "memory request")?)),
        };
        let machine = match row.text("different-machines constraint") {
            "" | "0" | "false" => false,
            "1" | "true" => true,
            other => return Err(format!("different-machines constraint is {other:?}: it must be 0 or 1")),
        };
        Ok(Wanted {
            user: row.text("user").to_owned(),
            scheduling_class: row.whole("scheduling class")?,
            priority: row.whole("priority")?,
            takes,
            apart: Apart { machine, switch: false },
            constraints: Vec::new(),
        })
    }
}

fn share(row: &Row<'_>, column: &str) -> Result<f64, String> {
    match row.number(column)? {
        share @ 0.0..=1.0 => Ok(share),
        other => Err(format!("{column} is {other}: it must be from 0 to 1")),
    }
}
