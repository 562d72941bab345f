//! Google's clusterdata-2019, format v3, as lines of JSON.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};

use super::google::{Apart, Constraint, Lifetimes, PLATFORM, SWITCH, Tellings, Told, Wanted, moment};
use super::lines::{Stop, each_line, parts};
use super::shape::MachineSize;
use super::sorted::Sorter;
use super::{Events, Tally, TraceError, yes};

/// Machines from `machine_events`, users from `collection_events`, tasks from `instance_events`.
///
/// As [`Google2011`](super::Google2011), with these differences. An alloc set is a job, for its instances hold what they reserve; tasks that run inside
/// of one are left out. A machine's switch is its label `switch`. At most one task of a job on a machine or a switch is a required
/// anti-affinity; other numbers are left out, as are jobs that start after others, vertical scaling and changes of requests. Lines need not be in the
/// order of time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Google2019 {
    /// Where the tables are.
    pub directory: PathBuf,
    /// What 1 of a resource is.
    #[serde(default)]
    pub largest_machine: MachineSize,
    /// Whether the machines of the trace come and go; if not, nodes come from elsewhere.
    #[serde(default = "yes")]
    pub machines: bool,
    /// Whether tasks want something of the labels `attribute/NAME`, which nodes from elsewhere must have.
    #[serde(default)]
    pub constraints: bool,
}

/// A whole number, as such or as a text.
#[derive(Debug, Clone, Copy, Default)]
struct Int(i64);

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Int;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Int, E> {
                Ok(Int(value))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Int, E> {
                i64::try_from(value).map(Int).map_err(|_| E::custom(format!("{value} is too large")))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Int, E> {
                value.parse().map(Int).map_err(|_| E::custom(format!("{value:?} is not a whole number")))
            }
            fn visit_unit<E: de::Error>(self) -> Result<Int, E> {
                Ok(Int(0))
            }
        }
        from.deserialize_any(Either)
    }
}

impl Int {
    fn to<N: TryFrom<i64>>(self, field: &str) -> Result<N, String> {
        N::try_from(self.0).map_err(|_| format!("{field} is {}: it is out of range", self.0))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Resources {
    cpus: Option<f64>,
    memory: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MachineEvent {
    time: Int,
    machine_id: Int,
    #[serde(rename = "type")]
    kind: Int,
    switch_id: Option<String>,
    capacity: Option<Resources>,
    platform_id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CollectionEvent {
    time: Int,
    #[serde(rename = "type")]
    kind: Int,
    collection_id: Int,
    user: Option<String>,
    start_after_collection_ids: Option<Vec<Int>>,
    max_per_machine: Int,
    max_per_switch: Int,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct InstanceEvent {
    time: Int,
    #[serde(rename = "type")]
    kind: Int,
    collection_id: Int,
    scheduling_class: Int,
    priority: Int,
    alloc_collection_id: Int,
    instance_index: Int,
    resource_request: Option<Resources>,
    constraint: Option<Vec<ConstraintOf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConstraintOf {
    name: Option<String>,
    value: Option<String>,
    relation: Int,
}

/// Of what happens at one time, what is told of a job comes first, and then a task's events by their numbers.
const JOB_FIRST: u8 = 0;
const JOB_LAST: u8 = u8::MAX;

impl Google2019 {
    pub(crate) fn events(&self, base: &Path, tally: &Tally) -> Result<Events, TraceError> {
        let directory = base.join(&self.directory);
        let mut lifetimes = Lifetimes::new(tally);
        if self.machines {
            each::<MachineEvent>(&directory, "machine_events", tally, |event| {
                self.machine(event, &mut lifetimes, tally)
            })?;
        }
        let mut told = Sorter::new();
        each::<CollectionEvent>(&directory, "collection_events", tally, |event| collection(&event, &mut told, tally))?;
        each::<InstanceEvent>(&directory, "instance_events", tally, |event| self.instance(event, &mut told, tally))?;
        lifetimes.tasks(told)?;
        Ok(Box::new(lifetimes.events()?))
    }

    fn machine(&self, event: MachineEvent, lifetimes: &mut Lifetimes, tally: &Tally) -> Result<(), Stop> {
        let id = event.machine_id.to("machine_id")?;
        let Some(time) = moment(event.time.to("time")?)? else { return Ok(()) };
        match event.kind.0 {
            1 | 3 => {
                let Some(has) = self.amounts(event.capacity.as_ref())? else {
                    tally.leave_out("machines of which nobody knows what they have");
                    return Ok(());
                };
                let labels = [(SWITCH, event.switch_id), (PLATFORM, event.platform_id)];
                let labels = labels.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
                Ok(lifetimes.machine(time, id, Some((has, labels)))?)
            }
            2 => Ok(lifetimes.machine(time, id, None)?),
            other => Err(format!("type is {other}: it must be from 1 to 3").into()),
        }
    }

    fn amounts(&self, of: Option<&Resources>) -> Result<Option<super::shape::Amounts>, String> {
        let Some(Resources { cpus: Some(cpus), memory: Some(memory) }) = of else { return Ok(None) };
        for (name, share) in [("cpus", cpus), ("memory", memory)] {
            if !(0.0..=1.0).contains(share) {
                return Err(format!("{name} is {share}: it must be from 0 to 1"));
            }
        }
        Ok(Some(self.largest_machine.share(*cpus, *memory)))
    }

    fn instance(&self, event: InstanceEvent, told: &mut Tellings, tally: &Tally) -> Result<(), Stop> {
        let kind: u8 = event.kind.to("type")?;
        if event.alloc_collection_id.0 != 0 {
            if kind == 0 {
                tally.leave_out("tasks that run inside of an alloc set");
            }
            return Ok(());
        }
        let id = (event.collection_id.to("collection_id")?, event.instance_index.to("instance_index")?);
        let telling = match kind {
            0 => Told::Submit(self.wanted(&event)?),
            3 => Told::Schedule,
            4 | 8 => Told::Evict,
            5..=7 => Told::End,
            1 | 2 | 9 | 10 => return Ok(()),
            other => return Err(format!("type is {other}: it must be from 0 to 10").into()),
        };
        match moment(event.time.to("time")?)? {
            Some(time) => Ok(told.push((time, 1 + kind), (id, telling))?),
            None => Ok(()),
        }
    }

    fn wanted(&self, event: &InstanceEvent) -> Result<Wanted, String> {
        let mut constraints = Vec::new();
        if self.constraints {
            for of in event.constraint.iter().flatten() {
                let constraint = Constraint {
                    attribute: of.name.clone().unwrap_or_default(),
                    relation: of.relation.to("relation")?,
                    value: of.value.clone().unwrap_or_default(),
                };
                constraints.push(constraint.check()?);
            }
        }
        Ok(Wanted {
            user: String::new(),
            scheduling_class: event.scheduling_class.to("scheduling_class")?,
            priority: event.priority.to("priority")?,
            takes: self.amounts(event.resource_request.as_ref())?,
            apart: Apart::default(),
            constraints,
        })
    }
}

fn collection(event: &CollectionEvent, told: &mut Tellings, tally: &Tally) -> Result<(), Stop> {
    let (order, telling) = match event.kind.0 {
        0 => {
            if event.start_after_collection_ids.as_ref().is_some_and(|ids| !ids.is_empty()) {
                tally.leave_out("waits of a job for others to end");
            }
            let alone = |most: Int| {
                if most.0 > 1 {
                    tally.leave_out("limits of a job's tasks on a machine or a switch that are more than 1");
                }
                most.0 == 1
            };
            let apart = Apart { machine: alone(event.max_per_machine), switch: alone(event.max_per_switch) };
            (JOB_FIRST, Told::Job { user: event.user.clone().unwrap_or_default(), apart })
        }
        5..=7 => (JOB_LAST, Told::JobEnded),
        1..=4 | 8..=10 => return Ok(()),
        other => return Err(format!("type is {other}: it must be from 0 to 10").into()),
    };
    match moment(event.time.to("time")?)? {
        Some(time) => Ok(told.push((time, order), ((event.collection_id.to("collection_id")?, 0), telling))?),
        None => Ok(()),
    }
}

fn each<E: DeserializeOwned>(
    directory: &Path,
    table: &str,
    tally: &Tally,
    mut each: impl FnMut(E) -> Result<(), Stop>,
) -> Result<(), TraceError> {
    each_line(&parts(directory, table, ".json")?, tally, |_, _, line| {
        each(serde_json::from_str(line).map_err(|error| Stop::Row(error.to_string()))?)
    })
}
