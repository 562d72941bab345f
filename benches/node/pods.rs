//! Pods that are started one after the other, and pods that are started at once.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use longshore_core::api::Pod;
use longshore_core::client::WatchEvent;
use longshore_core::client::params::{DeleteParams, PostParams, WatchParams};
use longshore_core::clock::Clock;
use longshore_core::runtime::{ContainerRef, ExecRequest, Output};
use serde_json::{from_value, json};

use crate::place::{IMAGE, Place};
use crate::{BUSYBOX, Outcome, REST};

/// One after the other.
pub(crate) struct Singly {
    pub(crate) starts: Vec<Duration>,
    pub(crate) execs: Vec<Duration>,
}

/// At once.
pub(crate) struct Crowd {
    /// Until all ran.
    pub(crate) running: Duration,
    /// Until all were gone.
    pub(crate) gone: Duration,
    /// A shim's, the mean.
    pub(crate) shim: Memory,
    /// By how much this process, which is the control plane too, grew.
    pub(crate) agent_kib: u64,
}

/// After that a shim with nothing to do has given back what it does not need.
const IDLE: Duration = Duration::from_secs(2);

/// Memory in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// All that is mapped and present, also what other processes of the program share.
    pub(crate) rss: u64,
    /// The same, what is shared divided by how many share it.
    pub(crate) pss: u64,
    /// What nobody shares: what one more process costs.
    pub(crate) private: u64,
}

/// A pod that does this.
pub(crate) fn pod(name: &str, command: &[&str]) -> Outcome<Pod> {
    Ok(from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main", "image": IMAGE, "command": command,
                "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}},
            }],
        },
    }))?)
}

/// Starts pods one after the other, and runs a command in each.
pub(crate) async fn singly(place: &Place, rounds: usize) -> Outcome<Singly> {
    let (mut starts, mut execs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let name = format!("one-{round}");
        starts.push(run(place, std::slice::from_ref(&name)).await?);
        place.clock.sleep(REST).await;
        execs.push(exec(place, &name).await?);
        delete(place, std::slice::from_ref(&name)).await?;
        place.clock.sleep(REST).await;
    }
    Ok(Singly { starts, execs })
}

/// Starts pods at once, then deletes them at once.
pub(crate) async fn crowd(place: &Place, pods: usize) -> Outcome<Crowd> {
    let names: Vec<String> = (0..pods).map(|number| format!("crowd-{number}")).collect();
    let before = field("self", "smaps_rollup", "Rss:");
    let running = run(place, &names).await?;
    let agent_kib = field("self", "smaps_rollup", "Rss:").saturating_sub(before);
    place.clock.sleep(IDLE).await;
    let shim = shims(place);
    let begin = place.clock.elapsed();
    delete(place, &names).await?;
    let gone = place.clock.elapsed() - begin;
    Ok(Crowd { running, gone, shim, agent_kib })
}

/// Creates pods at once and answers how long it takes until a watcher has seen all of them run.
async fn run(place: &Place, names: &[String]) -> Outcome<Duration> {
    let api = place.api::<Pod>();
    let mut watch = api.watch(&WatchParams::default(), "").await?;
    let begin = place.clock.elapsed();
    let creating = async {
        for name in names {
            api.create(pod(name, &[BUSYBOX, "sleep", "1000000"])?, &PostParams::default()).await?;
        }
        Outcome::Ok(())
    };
    let mut waiting: BTreeMap<&str, ()> = names.iter().map(|name| (name.as_str(), ())).collect();
    let watching = async {
        while !waiting.is_empty() {
            let Some(event) = watch.next().await else { return Err("the watch of pods ended".into()) };
            let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = event? else { continue };
            match pod.status.phase.as_str() {
                "Running" => drop(waiting.remove(pod.metadata.name.as_deref().unwrap_or_default())),
                "Failed" => return Err(format!("a pod failed: {:?}", pod.status).into()),
                _ => {}
            }
        }
        Outcome::Ok(place.clock.elapsed())
    };
    let ((), end) = tokio::try_join!(creating, watching)?;
    Ok(end - begin)
}

/// Deletes pods at once and waits until nothing is left of them.
pub(crate) async fn delete(place: &Place, names: &[String]) -> Outcome {
    let api = place.api::<Pod>();
    let mut watch = api.watch(&WatchParams::default(), "").await?;
    let deleting = async {
        for name in names {
            api.delete(name, &DeleteParams::default()).await?;
        }
        Outcome::Ok(())
    };
    let watching = async {
        let mut left = names.len();
        while left > 0 {
            let Some(event) = watch.next().await else { return Err("the watch of pods ended".into()) };
            left -= usize::from(matches!(event?, WatchEvent::Deleted(_)));
        }
        Outcome::Ok(())
    };
    tokio::try_join!(deleting, watching)?;
    // The object may go a moment before the last of what the node had of it.
    while !place.runtime.list().await?.is_empty() {
        place.clock.sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

async fn exec(place: &Place, pod: &str) -> Outcome<Duration> {
    let uid = place.api::<Pod>().get(pod).await?.metadata.uid.clone().unwrap_or_default();
    let container = ContainerRef { pod_uid: uid, name: "main".into(), attempt: 0 };
    let command = vec![BUSYBOX.to_owned(), "true".to_owned()];
    let begin = place.clock.elapsed();
    let request = ExecRequest { command, stdin: false, tty: false };
    let mut session = place.runtime.exec(&container, &request).await?;
    while let Some(output) = session.output.next().await {
        match output? {
            Output::Exit(0) => return Ok(place.clock.elapsed() - begin),
            Output::Exit(code) => return Err(format!("the command ended with {code}").into()),
            _ => {}
        }
    }
    Err("the command has no end".into())
}

/// A figure of a process in KiB.
fn field(process: &str, file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok());
    lines.sum()
}

/// What the shims have, the mean.
pub(crate) fn shims(place: &Place) -> Memory {
    let own = place.shim.iter().map(|shim| shim.display().to_string()).collect::<String>();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|pid| {
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.starts_with(&format!("{own}\0shim\0serve"))
    });
    let pids: Vec<String> = pids.collect();
    let mean = |names: &[&str]| {
        let sizes = pids.iter().flat_map(|pid| names.iter().map(move |name| field(pid, "smaps_rollup", name)));
        sizes.sum::<u64>() / (pids.len().max(1) as u64)
    };
    Memory { rss: mean(&["Rss:"]), pss: mean(&["Pss:"]), private: mean(&["Private_Dirty:", "Private_Clean:"]) }
}
