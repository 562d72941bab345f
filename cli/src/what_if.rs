//! `longshore what-if`: where pods would go.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use longshore_cluster::{Error, Tried, read};
use serde_json::{Value, json};

use crate::access::{Access, Output};
use crate::output::say;
use crate::part::scheduler_configuration;

/// Options of `what-if`.
#[derive(Debug, Args)]
#[command(after_help = "Nothing is created or changed, and nobody is evicted.")]
pub(crate) struct Options {
    /// Manifests of pods and workloads; may be given several times
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Kubernetes' KubeSchedulerConfiguration, whose profiles place the pods [default: that of Kubernetes' default scheduler]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Have this profile of the configuration place all pods [default: each is placed by that of its schedulerName]
    #[arg(long, value_name = "NAME", requires = "config")]
    profile: Option<String>,
    /// How the answer looks
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    access: Access,
}

/// Says where the pods would go: exit code 0 if each has a node, 1 if not.
pub(crate) async fn run(options: Options) -> Result<ExitCode, Error> {
    let mut manifests = Vec::new();
    for file in &options.files {
        manifests.extend(read(file)?);
    }
    let kubeconfig = options.access.kubeconfig()?;
    let configuration = scheduler_configuration(options.config.as_deref())?;
    let profile = options.profile.as_deref();
    let tried = longshore_cluster::what_if(&kubeconfig, &manifests, configuration, profile).await?;
    match options.output {
        Output::Text => print(&tried),
        Output::Json => say(value(&tried)),
    }
    Ok(ExitCode::from(u8::from(tried.found.refused > 0)))
}

/// Each pod by name, with its node or why it has none.
fn rows(tried: &Tried) -> impl Iterator<Item = (String, Result<&str, String>)> {
    let names = tried.pods.iter().map(|pod| {
        let meta = &pod.metadata;
        format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    });
    let places = tried.found.placements.iter();
    names.zip(places.map(|place| place.as_ref().map(|place| &*place.node).map_err(ToString::to_string)))
}

fn print(tried: &Tried) {
    let width = rows(tried).map(|(name, _)| name.chars().count()).max().unwrap_or_default().max("POD".len());
    say(format_args!("{:width$}  NODE", "POD"));
    for (name, place) in rows(tried) {
        match place {
            Ok(node) => say(format_args!("{name:width$}  {node}")),
            Err(why) => say(format_args!("{name:width$}  none: {why}")),
        }
    }
    let found = &tried.found;
    say(format_args!("\nplaced {} of {}", found.placed, found.placed + found.refused));
    for (resource, used) in [("cpu", &found.cpu), ("memory", &found.memory)] {
        let (before, after) = (used.part_before() * 100.0, used.part_after() * 100.0);
        say(format_args!("{resource:6}  {before:.1} % asked for now, {after:.1} % then"));
    }
    say(format_args!("nodes with pods: {} now, {} then", found.nodes_before, found.nodes_after));
}

fn value(tried: &Tried) -> Value {
    let pods: Vec<Value> = rows(tried)
        .map(|(name, place)| match place {
            Ok(node) => json!({ "pod": name, "node": node }),
            Err(why) => json!({ "pod": name, "message": why }),
        })
        .collect();
    let found = &tried.found;
    let [cpu, memory] = [&found.cpu, &found.memory]
        .map(|used| json!({ "allocatable": used.allocatable, "before": used.before, "after": used.after }));
    json!({
        "pods": pods, "placed": found.placed, "refused": found.refused, "cpuMillis": cpu, "memoryBytes": memory,
        "nodesBefore": found.nodes_before, "nodesAfter": found.nodes_after,
    })
}
