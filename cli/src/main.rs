//! The command `longshore`: a cluster on one machine, or one part of a cluster. Only parses options and says what
//! happens; the work is done by the crates below.

mod access;
mod completion;
mod device_plugin;
mod dns;
mod explain;
mod image;
mod install;
mod network;
mod output;
mod part;
mod signals;
mod simulate;
mod snapshot;
mod store;
mod token;
mod up;
mod upkeep;
mod view;
mod what_if;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use longshore_cluster::{DataDir, Error};
use tracing_subscriber::EnvFilter;

/// A third more pods a second than with the C library's: objects are many small allocations, made in one thread and freed in
/// another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Container orchestration in one program: a cluster that kubectl drives, or any part of one.
#[derive(Debug, Parser)]
#[command(name = "longshore", version, propagate_version = true, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    logging: Logging,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Logging {
    /// What to log to standard error: error, warn, info, debug, trace, or directives such as `longshore_node=debug`
    #[arg(long, global = true, env = "LONGSHORE_LOG", value_name = "LEVEL")]
    log: Option<String>,
    /// How log lines look
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Where a cluster keeps everything.
#[derive(Debug, Clone, Args)]
struct Place {
    /// The cluster's directory
    #[arg(long, value_name = "DIR", default_value = "/var/lib/longshore", env = "LONGSHORE_DATA_DIR")]
    data_dir: PathBuf,
}

impl Place {
    fn directory(&self) -> DataDir {
        DataDir::new(&self.data_dir)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster on this machine and stay with it
    Up(up::Options),
    /// Stop the cluster of a directory and all its pods
    Down(view::DownOptions),
    /// Say how the cluster is
    Status(Place),
    /// Print a kubeconfig for kubectl
    Kubeconfig(Place),
    /// Say where a pod can go, why not elsewhere, and what would help
    Explain(explain::Options),
    /// Say where the pods of manifests would go, and touch nothing
    WhatIf(what_if::Options),
    /// Write what a cluster is like into a file, which `simulate` begins from
    Snapshot(snapshot::Options),
    /// Replay a trace of pods through the scheduler, without a cluster: how full does a policy fill the nodes?
    Simulate(simulate::Options),
    /// Images on this machine
    #[command(subcommand)]
    Image(image::Command),
    /// Where objects are kept: look after it
    #[command(subcommand)]
    Store(store::Command),
    /// Run an API server alone
    Apiserver(part::ApiserverOptions),
    /// Run a scheduler alone
    Scheduler(part::SchedulerOptions),
    /// Run the controllers alone
    Controllers(part::ControllersOptions),
    /// Run a node agent alone; with --server and a token, make this machine a node of a cluster
    Node(part::NodeOptions),
    /// Tokens with which machines join the cluster
    #[command(subcommand)]
    Token(token::Command),
    /// Run a plug-in that offers devices to a node
    #[command(subcommand)]
    DevicePlugin(device_plugin::Command),
    /// Print a kubeconfig with a certificate of its own for a user, a node or another part
    Certificate(part::CertificateOptions),
    /// Print a completion script for a shell
    Completion(completion::Options),
}

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|first| first == "shim") {
        return longshore_cluster::shim_main();
    }
    let cli = Cli::parse();
    let level = match cli.command {
        Command::Up(ref options) if !options.is_detached_child() => "warn",
        // What kept these from an answer they say themselves.
        Command::Explain(_) | Command::WhatIf(_) | Command::Snapshot(_) | Command::Store(_) => "warn,kube_client=off",
        Command::Down(_) | Command::Status(_) | Command::Kubeconfig(_) | Command::Image(_) | Command::Token(_) => {
            "warn"
        }
        _ => "info",
    };
    if let Err(error) = log(&cli.logging, level) {
        eprintln!("error: --log: {error}");
        return ExitCode::from(2);
    }
    if let Command::Simulate(options) = &cli.command {
        return simulate::run(options);
    }
    // One cluster on a laptop is mostly idle: few threads mean little memory.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(async {
        match cli.command {
            Command::Up(options) => up::run(options).await,
            Command::Down(options) => view::down(options).await,
            Command::Status(place) => view::status(&place).await,
            Command::Kubeconfig(place) => view::kubeconfig(&place),
            Command::Explain(options) => explain::run(options).await,
            Command::WhatIf(options) => what_if::run(options).await,
            Command::Snapshot(options) => snapshot::run(options).await,
            // It was run already: it needs nothing to wait for.
            Command::Simulate(_) => Ok(ExitCode::SUCCESS),
            Command::Image(command) => image::run(command).await,
            Command::Store(command) => store::run(command).await,
            Command::Apiserver(options) => part::apiserver(options).await,
            Command::Scheduler(options) => part::scheduler(options).await,
            Command::Controllers(options) => part::controllers(options).await,
            Command::Node(options) => part::node(options).await,
            Command::Token(command) => token::run(command).await,
            Command::DevicePlugin(command) => device_plugin::run(command).await,
            Command::Certificate(options) => part::certificate(options),
            Command::Completion(options) => completion::print(&options, &mut Cli::command()),
        }
    });
    done.unwrap_or_else(|error: Error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn log(options: &Logging, level: &str) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(options.log.as_deref().unwrap_or(level))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A log file is no place for colours.
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    match options.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_consistent() {
        Cli::command().debug_assert();
    }
}
