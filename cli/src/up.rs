//! `longshore up`.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use clap::Args;
use longshore_cluster::{Cluster, Error, Progress, RuntimeKind, StoreKind, Unsupported, UpOptions, demo, read};

use crate::device_plugin::OfferOptions;
use crate::dns::Dns;
use crate::network::{Addresses, Network};
use crate::part::{ControlPlaneOptions, ElectionOptions, MonitorOptions, SigningOptions, scheduler_configuration};
use crate::store::{CompactionOptions, EtcdOptions};
use crate::upkeep::UpkeepOptions;
use crate::{Place, install, output, signals};

/// How long workloads may take to become ready.
const PATIENCE: Duration = Duration::from_secs(300);

/// Options of `up`.
#[derive(Debug, Args)]
#[command(
    after_help = "Ctrl-C or SIGTERM stops the control plane and leaves pods running; the next `up` takes them over. \
                        `longshore down` stops pods too."
)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    /// Apply this manifest once the cluster runs; may be given several times
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Run a demonstration: three web replicas behind a Service, and a Job
    #[arg(long)]
    demo: bool,
    /// Where objects are kept [default: embedded, or what the cluster was made with]
    #[arg(long, value_name = "memory|embedded|etcd=URL,URL...")]
    store: Option<StoreKind>,
    /// What runs containers [default: oci, or what the cluster was made with]
    #[arg(long, value_name = "oci|docker|simulated")]
    runtime: Option<RuntimeKind>,
    #[command(flatten)]
    docker: crate::part::DockerOptions,
    /// How many nodes; over an etcd there may be none [default: 1, with --join 0, or what the cluster was made with]
    #[arg(long, value_name = "N")]
    nodes: Option<u32>,
    /// Where the API listens; port 0 chooses a free one [default: 127.0.0.1:6443, or what was recorded]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// What to do about fields that nothing acts on yet and that it would be unsafe to ignore
    #[arg(long, value_name = "refuse|warn", default_value = "refuse")]
    unsupported: Unsupported,
    /// How pods are placed: Kubernetes' KubeSchedulerConfiguration
    #[arg(long, value_name = "FILE")]
    scheduler_config: Option<PathBuf>,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    addresses: Addresses,
    #[command(flatten)]
    dns: Dns,
    #[command(flatten)]
    signing: SigningOptions,
    #[command(flatten)]
    monitor: MonitorOptions,
    #[command(flatten)]
    joining: ControlPlaneOptions,
    #[command(flatten)]
    election: ElectionOptions,
    #[command(flatten)]
    offer: OfferOptions,
    #[command(flatten)]
    etcd: EtcdOptions,
    #[command(flatten)]
    compaction: CompactionOptions,
    #[command(flatten)]
    upkeep: UpkeepOptions,
    /// Go on in the background once everything is ready
    #[arg(long)]
    detach: bool,
    /// Install what is missing (Debian packages runc, nftables, busybox-static)
    #[arg(long)]
    install: bool,
    /// Set by --detach for the process that goes on.
    #[arg(long, hide = true)]
    detached_child: bool,
}

impl Options {
    pub(crate) fn is_detached_child(&self) -> bool {
        self.detached_child
    }
}

/// Runs the command.
pub(crate) async fn run(options: Options) -> Result<ExitCode, Error> {
    if options.detached_child {
        // The terminal's end is not this process's end.
        let _ = nix::unistd::setsid();
    } else {
        if options.install {
            install::packages(options.runtime.unwrap_or(RuntimeKind::Oci), options.demo)?;
        }
        if options.detach {
            return detach(&options);
        }
    }
    signals::until_asked(async |cancel| {
        let observer = if options.detached_child { output::reporter() } else { output::observer() };
        let mut manifests = Vec::new();
        for file in &options.files {
            manifests.extend(read(file)?);
        }
        if options.demo {
            manifests.extend(demo::manifests());
        }
        let directory = options.place.directory();
        let up = UpOptions {
            data_dir: directory.clone(),
            store: options.store,
            etcd: options.etcd.access(Some(options.compaction))?,
            runtime: options.runtime,
            docker_host: options.docker.socket,
            network: options.network.options(),
            ranges: options.addresses.options(),
            nodes: options.nodes,
            join: options.joining.join(),
            leader: options.election.leader(),
            listen: options.listen,
            unsupported: options.unsupported,
            scheduler: scheduler_configuration(options.scheduler_config.as_deref())?,
            dns: options.dns.options(),
            manifests,
            demo: options.demo,
            certificate_life: options.signing.life(),
            node_monitor_grace_period: Some(options.monitor.node_monitor_grace_period),
            offer: options.offer.offer(),
            upkeep: options.upkeep.upkeep(),
        };
        let mut cluster = Cluster::start(up, observer).await?;
        let ready = tokio::select! {
            () = cancel.cancelled() => None,
            ready = cluster.ready(PATIENCE) => Some(ready),
        };
        match ready {
            // A detached cluster that does not become ready ends, so that its caller's exit code says all.
            Some(Err(error)) if options.detached_child => {
                cluster.stop().await;
                return Err(error);
            }
            Some(Err(error)) => eprintln!("warning: {error}; the cluster goes on"),
            Some(Ok(())) if !options.detached_child => go_on(&directory),
            Some(Ok(())) | None => {}
        }
        let ended = cluster.run(cancel.clone()).await;
        if !options.detached_child {
            eprintln!("\nstopped; pods keep running until `longshore down{}`", place_option(&directory));
        }
        ended.map(|()| ExitCode::SUCCESS)
    })
    .await
}

fn place_option(directory: &longshore_cluster::DataDir) -> String {
    if directory.path() == std::path::Path::new("/var/lib/longshore") {
        String::new()
    } else {
        format!(" --data-dir {}", directory.path().display())
    }
}

fn go_on(directory: &longshore_cluster::DataDir) {
    eprintln!("\nthe cluster is ready:\n");
    eprintln!("  export KUBECONFIG={}", directory.kubeconfig().display());
    eprintln!("  kubectl get pods -A -o wide\n");
}

/// Starts this command again in the background and waits until it is ready.
fn detach(options: &Options) -> Result<ExitCode, Error> {
    let directory = options.place.directory();
    // Takes and frees the lock: another cluster, or a directory that cannot be made, is told at once.
    drop(directory.lock()?);
    let log = directory.log();
    let cannot = |what: &str, error: std::io::Error| Error::Part { part: "detach", reason: format!("{what}: {error}") };
    let file =
        std::fs::File::create(&log).map_err(|error| cannot(&format!("cannot create {}", log.display()), error))?;
    let program = std::env::current_exe().map_err(|error| cannot("cannot find this program", error))?;
    let mut child = std::process::Command::new(program)
        .args(std::env::args_os().skip(1).filter(|argument| argument != "--detach" && argument != "--install"))
        .arg("--detached-child")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(file)
        .spawn()
        .map_err(|error| cannot("cannot start in the background", error))?;
    let observer = output::observer();
    let mut ready = false;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Ok(progress) = serde_json::from_str::<Progress>(&line) {
                ready = matches!(progress, Progress::Ready(_));
                observer(progress);
            }
            if ready {
                break;
            }
        }
    }
    if ready {
        go_on(&directory);
        return Ok(ExitCode::SUCCESS);
    }
    let _ = child.wait();
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    let reason = said.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or("it ended");
    Err(Error::Part { part: "up", reason: format!("{reason} (log: {})", log.display()) })
}
