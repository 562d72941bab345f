//! How a cluster on this machine is, seen from another process.

use std::fs;

use longshore_core::api::{DaemonSet, Deployment, Job, Node, Pod, StatefulSet};
use longshore_core::client::Scope;
use longshore_core::client::params::ListParams;
use longshore_core::kind::KindType;

use crate::connection::remote_client;
use crate::data_dir::{DataDir, Settings};
use crate::progress::Row;
use crate::readiness::readiness;
use crate::{Error, Readiness};

/// How a cluster is.
#[derive(Debug)]
pub struct Report {
    /// What it was made with.
    pub settings: Settings,
    /// The process that runs it; `None` if it is stopped.
    pub pid: Option<u32>,
    /// Its nodes and workloads; empty if it is stopped.
    pub rows: Vec<Row>,
}

/// How the cluster of a directory is.
///
/// # Errors
/// [`Error::NoCluster`]; [`Error::Part`] if it runs but does not answer.
pub async fn status(directory: &DataDir) -> Result<Report, Error> {
    let settings = directory.settings()?.ok_or_else(|| Error::NoCluster { directory: directory.path().into() })?;
    let pid = directory.running()?;
    let rows = if pid.is_some() { rows(directory).await? } else { Vec::new() };
    Ok(Report { settings, pid, rows })
}

async fn rows(directory: &DataDir) -> Result<Vec<Row>, Error> {
    let failed = |reason: String| Error::Part { part: "API server", reason };
    let client = remote_client(&kubeconfig(directory)?).map_err(failed)?;
    let mut rows = Vec::new();
    for kind in [
        KindType::of::<Node>(),
        KindType::of::<Deployment>(),
        KindType::of::<StatefulSet>(),
        KindType::of::<DaemonSet>(),
        KindType::of::<Job>(),
        KindType::of::<Pod>(),
    ] {
        let list = client.list(Scope { kind, namespace: None }, &ListParams::default()).await;
        for object in list.map_err(|error| failed(error.to_string()))?.items {
            let meta = object.meta();
            // A workload's pods are told by the workload.
            let owned = meta.owner_references.iter().flatten().any(|owner| owner.controller == Some(true));
            if owned && kind.info.kind == "Pod" {
                continue;
            }
            let Readiness { ready, text, .. } = readiness(&*object);
            let place = meta.namespace.as_deref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
            let name = meta.name.as_deref().unwrap_or_default();
            rows.push(Row { name: format!("{} {place}{name}", kind.info.kind.to_lowercase()), state: text, ready });
        }
    }
    Ok(rows)
}

/// The administrator's kubeconfig.
///
/// # Errors
/// [`Error::NoCluster`], or [`Error::File`].
pub fn kubeconfig(directory: &DataDir) -> Result<String, Error> {
    let path = directory.kubeconfig();
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::NoCluster { directory: directory.path().into() })
        }
        Err(error) => Err(Error::file("read", path)(error)),
    }
}
