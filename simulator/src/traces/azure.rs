//! Azure's trace for packing of 2020 (AzurePackingTraceV1), as the published file of SQLite or as CSV of its two tables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use longshore_core::quantity::{Format, Quantity};
use serde::{Deserialize, Serialize};

use super::lines::{Stop, parts};
use super::shape::{MachineSize, node, only_where, part, pod};
use super::sorted::Sorter;
use super::table::{Columns, Row, each_row, seconds};
use super::{Events, Tally, TraceError};
use crate::workload::{Class, Event, Job, Task, What};

/// Virtual machines as services, each of its tenant, from `starttime` to `endtime`; what started before the trace arrives at its
/// beginning and runs for what was left.
///
/// The published file is one of SQLite, which is read with the feature `sqlite`. The trace names no machine counts: they are given here,
/// of one or several kinds (`machineId`). A virtual machine runs on nodes of the kinds that its type has a row for, and takes the largest
/// of its shares of them, so with one kind everything is exact. Shares of `hdd`, `ssd` and `nic` are millionths of the resources
/// `trace/hdd`, `trace/ssd` and `trace/nic`. Priority 0 of the trace is a pod's 1, and 1, which can be evicted, is 0.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AzurePacking {
    /// The file of SQLite, or the folder where `vm.csv` and `vmType.csv` are.
    #[serde(alias = "directory")]
    pub path: PathBuf,
    /// Which machines there are.
    pub machines: Vec<AzureMachines>,
    /// What every machine has.
    #[serde(default)]
    pub machine: MachineSize,
}

/// Machines of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AzureMachines {
    /// The trace's `machineId`.
    pub kind: String,
    /// How many; 0 if nodes come from elsewhere, with a label `machine` that has the kind.
    pub count: u32,
}

const KIND: &str = "machine";
const EXTRA: [(&str, &str); 3] = [("hdd", "trace/hdd"), ("ssd", "trace/ssd"), ("nic", "trace/nic")];
const MILLION: i64 = 1_000_000;
const DAY: f64 = 86_400.0;

const VMS: Columns = Columns::Named(&["vmId", "tenantId", "vmTypeId", "priority", "starttime", "endtime"], &[]);
const TYPES: Columns = Columns::Named(&["vmTypeId", "machineId", "core", "memory"], &["hdd", "ssd", "nic"]);

#[derive(Serialize, Deserialize)]
struct Vm {
    name: String,
    tenant: String,
    kind: String,
    priority: i32,
    duration: Option<Duration>,
}

/// What a type of virtual machines takes, and of which kinds of machines.
#[derive(Debug, Clone, Default)]
struct VmType {
    machines: Vec<String>,
    core: f64,
    memory: f64,
    extra: [f64; 3],
}

impl AzurePacking {
    pub(crate) fn events(&self, base: &Path, tally: &Tally) -> Result<Events, TraceError> {
        if self.machines.is_empty() {
            let reason = "name at least one kind of machines and how many there are".to_owned();
            return Err(TraceError::Setting { what: "azure-packing: machines", reason });
        }
        let path = base.join(&self.path);
        let mut types: BTreeMap<String, VmType> = BTreeMap::new();
        rows(&path, "vmType", TYPES, tally, |row| {
            let (name, shares) = (row.name("vmTypeId")?, self.shares(row)?);
            // Types that fit none of these machines are known all the same.
            let known = types.entry(name.to_owned()).or_default();
            let machine = row.name("machineId")?;
            if self.machines.iter().any(|machines| machines.kind == machine) {
                known.machines.push(machine.to_owned());
                known.core = known.core.max(shares.core);
                known.memory = known.memory.max(shares.memory);
                for (most, share) in known.extra.iter_mut().zip(shares.extra) {
                    *most = most.max(share);
                }
            }
            Ok(())
        })?;
        let mut vms = Sorter::new();
        rows(&path, "vm", VMS, tally, |row| {
            let Some((at, vm)) = vm(row)? else {
                tally.leave_out("virtual machines that ended before the trace began");
                return Ok(());
            };
            match types.get(&vm.kind) {
                None => Err(format!("there is no vmTypeId {:?}", vm.kind).into()),
                Some(known) if known.machines.is_empty() => {
                    tally.leave_out("virtual machines of a type that runs on none of the kinds of machines");
                    Ok(())
                }
                Some(_) => Ok(vms.push(at, vm)?),
            }
        })?;
        let nodes: Vec<Event> = self.nodes().collect();
        let pods: BTreeMap<String, [Arc<longshore_core::api::pod::Pod>; 2]> = types
            .into_iter()
            .map(|(name, kind)| (name, [0, 1].map(|priority| Arc::new(self.pod(&kind, priority)))))
            .collect();
        let jobs = vms.finish()?.filter_map(move |row| {
            let (at, vm) = match row {
                Ok(row) => row,
                Err(error) => return Some(Err(error)),
            };
            let [low, high] = pods.get(&vm.kind)?;
            let pod = if vm.priority == 0 { low } else { high };
            let task = Task { pod: pod.clone(), count: 1, duration: vm.duration };
            let (name, user) = (vm.name.into(), vm.tenant.into());
            Some(Ok(Event {
                at,
                what: What::Job(Job { name, user, class: Class::Service, gang: false, tasks: vec![task] }),
            }))
        });
        Ok(Box::new(nodes.into_iter().map(Ok).chain(jobs)))
    }

    fn shares(&self, row: &Row<'_>) -> Result<VmType, String> {
        let share = |column| match row.text(column) {
            "" => Ok(0.0),
            _ => match row.number(column)? {
                share @ 0.0..=1.0 => Ok(share),
                other => Err(format!("{column} is {other}: it must be from 0 to 1")),
            },
        };
        let [hdd, ssd, nic] = EXTRA.map(|(column, _)| share(column));
        Ok(VmType { machines: Vec::new(), core: share("core")?, memory: share("memory")?, extra: [hdd?, ssd?, nic?] })
    }

    fn nodes(&self) -> impl Iterator<Item = Event> {
        self.machines.iter().flat_map(|machines| {
            (0..machines.count).map(|number| {
                let label = [(KIND.to_owned(), machines.kind.clone())];
                let mut node =
                    node(&format!("machine-{}-{number}", machines.kind), self.machine.share(1.0, 1.0), label);
                for (_, resource) in EXTRA {
                    let whole = Quantity::from_value(MILLION, Format::DecimalSi);
                    node.status.allocatable.insert(resource.to_owned(), whole);
                }
                Event { at: Duration::ZERO, what: What::Node(Arc::new(node)) }
            })
        })
    }

    fn pod(&self, kind: &VmType, priority: i32) -> longshore_core::api::pod::Pod {
        let mut pod = pod(self.machine.share(kind.core, kind.memory), priority);
        if let Some(container) = pod.spec.containers.first_mut() {
            for ((_, resource), share) in EXTRA.iter().zip(kind.extra).filter(|(_, share)| *share > 0.0) {
                let amount = Quantity::from_value(part(share, MILLION), Format::DecimalSi);
                container.resources.requests.insert((*resource).to_owned(), amount);
            }
        }
        only_where(&mut pod, KIND, kind.machines.clone());
        pod
    }
}

/// Hands over every row of a table, be it of a file of SQLite or in a folder.
fn rows(
    path: &Path,
    table: &'static str,
    columns: Columns,
    tally: &Tally,
    each: impl FnMut(&Row<'_>) -> Result<(), Stop>,
) -> Result<(), TraceError> {
    if !path.is_file() {
        return each_row(&parts(path, table, ".csv")?, columns, tally, each);
    }
    #[cfg(feature = "sqlite")]
    return super::sqlite::each_row(path, table, columns, tally, each);
    #[cfg(not(feature = "sqlite"))]
    Err(TraceError::Setting {
        what: "azurePacking2020: path",
        reason: format!("{} is a file, and files of SQLite are read with the feature `sqlite`", path.display()),
    })
}

/// When it arrives, and what; `None` if it ended before the trace began.
fn vm(row: &Row<'_>) -> Result<Option<(Duration, Vm)>, String> {
    let starts = row.number("starttime")? * DAY;
    let at = seconds("starttime", starts.max(0.0))?;
    let duration = match row.text("endtime") {
        "" | "NULL" => None,
        _ => {
            let ends = row.number("endtime")? * DAY;
            if ends < starts {
                return Err("endtime is before starttime".to_owned());
            }
            if ends < 0.0 {
                return Ok(None);
            }
            Some(seconds("endtime", ends)?.saturating_sub(at))
        }
    };
    let priority = match row.name("priority")? {
        "0" => 1,
        "1" => 0,
        other => return Err(format!("priority is {other:?}: it must be 0 or 1")),
    };
    let vm = Vm {
        name: row.name("vmId")?.to_owned(),
        tenant: row.text("tenantId").to_owned(),
        kind: row.name("vmTypeId")?.to_owned(),
        priority,
        duration,
    };
    Ok(Some((at, vm)))
}
