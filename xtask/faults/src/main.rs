//! Runs a cluster of real processes under faults; `cargo xtask faults` builds what it needs and hands it the arguments.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use longshore_faults::cluster::{Leases, isolate, missing_program};
use longshore_faults::plan::Pace;
use longshore_faults::{Options, run};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(
    name = "cargo xtask faults",
    about = "Run a cluster of real processes under faults, and check what it promised"
)]
struct Arguments {
    /// The program, built with the feature etcd
    #[arg(long, value_name = "FILE", env = "LONGSHORE_PROGRAM")]
    program: PathBuf,
    /// The first seed; the same seed gives the same faults and operations, but not the same interleaving of processes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds to run, one after the other
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// How many minutes things go wrong, for each seed
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Half a minute of quick faults, as the tests do it
    #[arg(long, conflicts_with = "minutes")]
    short: bool,
    /// How leaders of schedulers are elected
    #[arg(long, value_enum, default_value = "upstream")]
    leases: Election,
    /// Print one JSON object a seed instead of a table
    #[arg(long)]
    json: bool,
    /// Where to put the processes' logs
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Election {
    /// 15 s, 10 s, 2 s
    Upstream,
    /// 3 s, 2 s, half a second
    Fast,
}

impl Arguments {
    fn options(&self, seed: u64) -> Options {
        let (duration, pace) = if self.short {
            (Duration::from_secs(30), Pace::SHORT)
        } else {
            (Duration::from_secs_f64((self.minutes * 60.0).max(1.0)), Pace::LONG)
        };
        let leases = match self.leases {
            Election::Upstream => Leases::Upstream,
            Election::Fast => Leases::Fast,
        };
        let logs = self.logs.as_ref().map(|logs| logs.join(seed.to_string()));
        Options { program: self.program.clone(), seed, duration, pace, leases, logs }
    }
}

/// The exit code is 0 if every promise was kept, 1 if not, 2 if nothing could be found out.
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(program) = missing_program() {
        eprintln!("error: {program} is missing; `cargo xtask install` installs it");
        return ExitCode::from(2);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = isolate().and_then(|()| runtime.map_err(|error| error.to_string())?.block_on(all(&arguments)));
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs all seeds; whether all was well.
async fn all(arguments: &Arguments) -> Result<bool, String> {
    let ask = |kind| signal(kind).map_err(|error| error.to_string());
    let (mut interrupt, mut terminate) = (ask(SignalKind::interrupt())?, ask(SignalKind::terminate())?);
    let mut well = true;
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.seeds) {
        let options = arguments.options(seed);
        // Whatever ends the run ends its processes: they belong to its future.
        let report = tokio::select! {
            report = run(&options, &|line| eprintln!("{line}")) => report?,
            _ = interrupt.recv() => return Err("interrupted".to_owned()),
            _ = terminate.recv() => return Err("terminated".to_owned()),
        };
        well &= report.violations.is_empty();
        if arguments.json {
            println!("{}", report.json());
        } else {
            println!("{report}");
        }
    }
    Ok(well)
}
