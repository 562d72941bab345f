//! Alibaba's cluster-trace-gpu-v2023 ("openb"): nodes with GPUs, and pods that ask for them.
//!
//! Two CSV files with a line of names; columns are found by name, others are left alone. Nodes: `sn`, `cpu_milli`, `memory_mib`,
//! `gpu` (how many devices), `model`. Pods: `name`, `cpu_milli`, `memory_mib`, `num_gpu`, `gpu_milli` (of each), and, where there is
//! such a column, `gpu_spec` (models that will do, separated by `|`).

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use longshore_core::api::Node;
use longshore_core::api::pod::Pod;
use longshore_core::devices::WHOLE;
use longshore_scheduler::policies::gpu::PodType;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::objects;

/// More GPUs than any machine has.
const GPUS_MAX: i64 = 1000;

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Machine {
    /// Its name.
    #[serde(rename = "sn")]
    pub name: String,
    /// Thousandths of a core.
    #[serde(rename = "cpu_milli")]
    pub milli_cpu: i64,
    /// Mebibytes.
    pub memory_mib: i64,
    /// How many GPUs.
    #[serde(rename = "gpu")]
    pub gpus: i64,
    /// Their model.
    pub model: String,
}

/// A pod that asks for a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its name.
    pub name: String,
    /// Thousandths of a core.
    #[serde(rename = "cpu_milli")]
    pub milli_cpu: i64,
    /// Mebibytes.
    pub memory_mib: i64,
    /// How many GPUs.
    #[serde(rename = "num_gpu")]
    pub gpus: i64,
    /// Thousandths of each.
    #[serde(rename = "gpu_milli")]
    pub milli: i64,
    /// Models that will do, separated by `|`; empty if any will.
    #[serde(rename = "gpu_spec", default)]
    pub models: String,
}

impl Machine {
    /// As a node, whose devices policies for GPUs understand.
    pub fn node(&self) -> Node {
        objects::node(self)
    }
}

impl Request {
    /// As a pod without a name of its own.
    pub fn pod(&self) -> Pod {
        objects::pod(self)
    }

    /// Thousandths of all GPUs together.
    pub fn gpu_milli(&self) -> i64 {
        self.gpus * self.milli
    }

    /// Whether its values can be; what means nothing is made 0.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        let Self { name, milli_cpu, memory_mib, gpus, milli, .. } = self;
        let amounts =
            [("cpu_milli", *milli_cpu), ("memory_mib", *memory_mib), ("num_gpu", *gpus), ("gpu_milli", *milli)];
        check(name, &amounts)?;
        *milli = (*milli).min(WHOLE);
        if *gpus == 0 {
            *milli = 0;
        }
        match (*gpus, *milli) {
            (1.., 0) => Err("gpu_milli is 0 of a pod with GPUs".to_owned()),
            (2.., milli) if milli < WHOLE => {
                Err(format!("gpu_milli is {milli} of several GPUs: only one can be shared"))
            }
            _ => Ok(()),
        }
    }

    /// What counts for fragmentation.
    pub fn pod_type(&self) -> PodType {
        PodType { milli_cpu: self.milli_cpu, milli: self.milli, gpus: self.gpus, models: self.models.clone() }
    }
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be read, or a line is not as it should be.
    #[error("{}: {source}", .file.display())]
    Csv {
        /// The file.
        file: PathBuf,
        /// What is wrong, and in which line.
        source: csv::Error,
    },
    /// A line has a value that cannot be.
    #[error("{}: line {line}: {reason}", .file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// The line's number; the names are in line 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// It has no line but that of names.
    #[error("{}: there is nothing in it", .file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
}

/// Reads the machines.
///
/// # Errors
/// The file cannot be read, a column is missing, or a value cannot be; the error names the line.
pub fn machines(file: &Path) -> Result<Vec<Machine>, Error> {
    read(file, &mut open(file)?, |machine: &mut Machine| {
        let amounts = [("cpu_milli", machine.milli_cpu), ("memory_mib", machine.memory_mib), ("gpu", machine.gpus)];
        check(&machine.name, &amounts)?;
        // Each has a name of its own in memory.
        if machine.gpus > GPUS_MAX {
            return Err(format!("gpu is {}: it must be at most {GPUS_MAX}", machine.gpus));
        }
        Ok(())
    })
}

/// Reads the pods.
///
/// # Errors
/// As [`machines`].
pub fn requests(file: &Path) -> Result<Vec<Request>, Error> {
    read(file, &mut open(file)?, Request::check)
}

fn open(file: &Path) -> Result<File, Error> {
    File::open(file).map_err(|error| Error::Csv { file: file.to_owned(), source: error.into() })
}

fn check(name: &str, amounts: &[(&str, i64)]) -> Result<(), String> {
    if name.is_empty() {
        return Err("there is no name".to_owned());
    }
    match amounts.iter().find(|(_, amount)| !(0..1 << 40).contains(amount)) {
        Some((column, amount)) => Err(format!("{column} is {amount}: it must be from 0 to 2^40")),
        None => Ok(()),
    }
}

fn read<T: DeserializeOwned>(
    file: &Path,
    from: &mut dyn Read,
    check: impl Fn(&mut T) -> Result<(), String>,
) -> Result<Vec<T>, Error> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(from);
    let broken = |source| Error::Csv { file: file.to_owned(), source };
    let names = reader.headers().map_err(broken)?.clone();
    let mut read = Vec::new();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(broken)? {
        let mut row: T = record.deserialize(Some(&names)).map_err(broken)?;
        let line = record.position().map_or(0, csv::Position::line);
        check(&mut row).map_err(|reason| Error::Value { file: file.to_owned(), line, reason })?;
        read.push(row);
    }
    if read.is_empty() {
        return Err(Error::Empty { file: file.to_owned() });
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(text: &str) -> Result<Vec<Request>, String> {
        let file = std::env::temp_dir().join(format!("longshore-openb-{}", std::process::id()));
        let name = file.with_extension(format!("{:x}", text.len()));
        std::fs::write(&name, text).map_err(|error| error.to_string())?;
        let read = requests(&name).map_err(|error| error.to_string());
        drop(std::fs::remove_file(&name));
        read
    }

    #[test]
    fn columns_are_found_by_name() {
        let text = "gpu_milli,name,num_gpu,memory_mib,qos,cpu_milli\n460,p,1,12288,LS,6000\n1000,q,0,1,BE,1\n";
        let expected = Request {
            name: "p".to_owned(),
            milli_cpu: 6000,
            memory_mib: 12_288,
            gpus: 1,
            milli: 460,
            models: String::new(),
        };
        let read = pods(text).unwrap();
        assert_eq!(read[0], expected);
        assert_eq!((read[1].milli, read[1].gpu_milli()), (0, 0), "without GPUs their parts mean nothing");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        const NAMES: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n";
        for (rows, expected) in [
            ("", "there is nothing in it"),
            ("p,1,1,1,1000,\nq,x,1,1,1000,\n", "line: 3"),
            ("p,1,1,1\n", "line: 2"),
            ("p,-1,1,1,1000,\n", "line 2: cpu_milli is -1"),
            ("p,1,1,2,500,\n", "line 2: gpu_milli is 500 of several GPUs"),
            ("p,1,1,1,0,\n", "line 2: gpu_milli is 0 of a pod with GPUs"),
            (",1,1,1,1000,\n", "line 2: there is no name"),
        ] {
            let error = pods(&format!("{NAMES}{rows}")).unwrap_err();
            assert!(error.contains(expected), "{rows:?}: {error}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "sn,cpu_milli,memory_mib,gpu,model\nn,1,1,1000000000,T4\n").unwrap();
        let error = machines(file.path()).unwrap_err().to_string();
        assert!(error.contains("line 2: gpu is 1000000000: it must be at most 1000"), "{error}");
        assert!(pods("name,cpu\np,1\n").unwrap_err().contains("missing field `cpu_milli`"));
        let nowhere = machines(Path::new("/nowhere/at/all")).unwrap_err().to_string();
        assert!(nowhere.contains("/nowhere/at/all") && nowhere.contains("No such file"), "{nowhere}");
    }
}
