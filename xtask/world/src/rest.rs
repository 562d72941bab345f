//! What is not yet as it shall be, once nothing goes wrong any more.

use longshore_faults::converge::{self, Listed};
use longshore_faults::history::{Kind, name};
use serde_json::Value;

use crate::log::Log;
use crate::workload::COMPLETIONS;

/// Looks at everything as an observer of a server knows it.
pub(crate) fn missing(log: &Log, server: usize, nodes: usize) -> Option<String> {
    let list = |kind| log.state(server, kind).iter().map(|object| object.to_unmanaged_value()).collect::<Vec<_>>();
    let (of_jobs, pods): (Vec<Value>, Vec<Value>) = list(Kind::Pod).into_iter().partition(|pod| is_of(pod, "Job"));
    // A server that stood still may carry out what a client asked long ago, and has undone since: such a pod may be there.
    let (of_nobody, pods) = pods.into_iter().partition(|pod| pod["metadata"]["ownerReferences"].is_null());
    let listed = Listed {
        deployments: list(Kind::Deployment),
        stateful_sets: list(Kind::StatefulSet),
        pods,
        nodes: list(Kind::Node),
    };
    if listed.nodes.len() != nodes {
        return Some(format!("there are {} nodes, and {nodes} run", listed.nodes.len()));
    }
    converge::missing(&listed).or_else(|| unsettled(&of_nobody)).or_else(|| unfinished(&list(Kind::Job), &of_jobs))
}

fn is_of(pod: &Value, kind: &str) -> bool {
    pod["metadata"]["ownerReferences"].as_array().is_some_and(|owners| owners.iter().any(|owner| owner["kind"] == kind))
}

/// A pod that neither runs nor goes.
fn unsettled(pods: &[Value]) -> Option<String> {
    let runs = |pod: &&Value| pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null();
    pods.iter().find(|pod| !runs(pod)).map(|pod| format!("pod {} neither runs nor ends", name(pod)))
}

/// A Job that has not done its work, or a pod that has no Job.
fn unfinished(jobs: &[Value], pods: &[Value]) -> Option<String> {
    for job in jobs {
        let conditions = job["status"]["conditions"].as_array();
        let complete = conditions.into_iter().flatten().any(|one| one["type"] == "Complete" && one["status"] == "True");
        let succeeded = job["status"]["succeeded"].as_i64().unwrap_or(0);
        if !complete || succeeded != COMPLETIONS {
            return Some(format!("Job {} has {succeeded} of {COMPLETIONS} completions: {}", name(job), job["status"]));
        }
    }
    let owned = |pod: &&Value| {
        let owner = &pod["metadata"]["ownerReferences"][0]["uid"];
        jobs.iter().any(|job| job["metadata"]["uid"] == *owner)
    };
    pods.iter().find(|pod| !owned(pod)).map(|pod| format!("pod {} outlives its Job", name(pod)))
}
