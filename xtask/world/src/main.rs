//! Runs simulated worlds; `cargo xtask world` builds this as it must be built and hands it the arguments.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use longshore_core::clock::{Clock, SystemClock};
use longshore_faults::check::Violation;
use longshore_world::branch::Sabotage;
use longshore_world::{Options, Outcome, run};
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many worlds are run unless told otherwise: what two processors run in three minutes.
const WORLDS: u64 = 10_000;

/// One world of so many is run twice, to see whether the second is as the first.
const AGAIN_ONE_OF: u64 = 100;

/// How many worlds with violations are told of in full.
const TOLD_MAX: usize = 5;

#[derive(Parser)]
#[command(
    name = "cargo xtask world",
    about = "Run whole control planes in simulated worlds under faults, and check what they promised"
)]
struct Arguments {
    /// How many worlds to run; 10,000, or 1 where a seed is given
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed; a seed decides all that happens in its world
    #[arg(long)]
    seed: Option<u64>,
    /// How many worlds run side by side; as many as there are processors if not given
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// How many seconds of its own time things go wrong in a world at most; a third of it at least, as the seed says
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Put a bug in, to see it found
    #[arg(long, value_enum)]
    bug: Option<Bug>,
    /// Print the totals and the violations as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Bug {
    /// The store acknowledges writes that it does not make
    LostWrites,
    /// A watch of the store leaves out events
    SkippedEvents,
    /// Servers do not look at fences
    NoFences,
    /// The store makes writes although their conditions do not hold
    Unconditional,
}

impl From<Bug> for Sabotage {
    fn from(bug: Bug) -> Self {
        match bug {
            Bug::LostWrites => Self::LostWrites,
            Bug::SkippedEvents => Self::SkippedEvents,
            Bug::NoFences => Self::NoFences,
            Bug::Unconditional => Self::Unconditional,
        }
    }
}

/// What all worlds came to.
#[derive(Default)]
struct Totals {
    worlds: u64,
    faults: BTreeMap<&'static str, u64>,
    changes: u64,
    reached: BTreeMap<&'static str, u64>,
    lasted: Duration,
    violated: Vec<Outcome>,
}

impl Totals {
    fn add(&mut self, outcome: Outcome) {
        self.worlds += 1;
        for (kind, times) in &outcome.faults {
            *self.faults.entry(kind).or_default() += times;
        }
        for (state, times) in &outcome.reached {
            *self.reached.entry(state).or_default() += times;
        }
        self.changes += outcome.changes;
        self.lasted += outcome.lasted;
        if !outcome.violations.is_empty() {
            self.violated.push(outcome);
        }
    }

    fn violations(&self) -> usize {
        self.violated.iter().map(|outcome| outcome.violations.len()).sum()
    }

    fn line(&self, took: Duration) -> String {
        let listed = |counts: &BTreeMap<&str, u64>| {
            counts.iter().map(|(name, times)| format!("{times} {name}")).collect::<Vec<_>>().join(", ")
        };
        format!(
            "{} worlds of {:.1} h together in {:.1} s, {} changes, {} faults ({}), reached {}, {} violations",
            self.worlds,
            self.lasted.as_secs_f64() / 3600.0,
            took.as_secs_f64(),
            self.changes,
            self.faults.values().sum::<u64>(),
            listed(&self.faults),
            listed(&self.reached),
            self.violations(),
        )
    }

    fn json(&self, took: Duration) -> Value {
        let violated = self.violated.iter().map(|outcome| {
            let violations: Vec<String> = outcome.violations.iter().map(Violation::to_string).collect();
            json!({ "seed": outcome.seed, "violations": violations, "faults": outcome.plan })
        });
        json!({
            "worlds": self.worlds,
            "virtual_seconds": self.lasted.as_secs_f64(),
            "seconds": took.as_secs_f64(),
            "changes": self.changes,
            "faults": self.faults,
            "reached": self.reached,
            "violations": self.violations(),
            "violated": violated.collect::<Vec<_>>(),
        })
    }
}

/// The exit code is 0 if every promise was kept, 1 if not.
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Logs are of use where one world is looked at.
    if arguments.seeds.is_none() && arguments.seed.is_some() {
        let filter = EnvFilter::from_default_env();
        tracing_subscriber::fmt().without_time().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    let first = arguments.seed.unwrap_or(1);
    let seeds = arguments.seeds.unwrap_or(if arguments.seed.is_some() { 1 } else { WORLDS });
    let clock = SystemClock::new();
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(seeds) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos} of {len} worlds, {eta} left; {msg}") {
        bar.set_style(style);
    }
    let mut totals = Totals::default();
    all(&arguments, first, seeds, |outcome| {
        if !outcome.violations.is_empty() && totals.violated.len() < TOLD_MAX {
            bar.suspend(|| tell(&arguments, &outcome));
        }
        totals.add(outcome);
        bar.inc(1);
        bar.set_message(format!("{} violations", totals.violations()));
    });
    bar.finish_and_clear();
    let took = clock.elapsed();
    let line = if arguments.json { totals.json(took).to_string() } else { totals.line(took) };
    // Whoever closed the pipe has read enough.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
    if totals.violated.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs all worlds, each on one of several threads.
fn all(arguments: &Arguments, first: u64, seeds: u64, mut done: impl FnMut(Outcome)) {
    let options =
        Options { duration: Duration::from_secs(arguments.seconds), sabotage: arguments.bug.map(Sabotage::from) };
    let processors = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let jobs = arguments.jobs.map_or_else(processors, NonZeroUsize::get);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel(jobs);
        for _ in 0..jobs {
            let (sender, next, options) = (sender.clone(), &next, &options);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= seeds {
                        return;
                    }
                    let again = number % AGAIN_ONE_OF == 0;
                    if sender.send(checked(first.wrapping_add(number), options, again)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        receiver.iter().for_each(&mut done);
    });
}

/// Runs a world, and once more to see that it is the same again.
fn checked(seed: u64, options: &Options, again: bool) -> Outcome {
    let mut outcome = run(seed, options);
    if cfg!(tokio_unstable) && again && run(seed, options).fingerprint != outcome.fingerprint {
        outcome.violations.push(Violation::new("determinism", "the second run was not as the first"));
    }
    outcome
}

/// Tells what happened, and how to see it again.
fn tell(arguments: &Arguments, outcome: &Outcome) {
    let mut text = format!("seed {}: {} violations\n", outcome.seed, outcome.violations.len());
    for violation in &outcome.violations {
        text.push_str(&format!("  {violation}\n"));
    }
    text.push_str("faults:\n");
    for line in &outcome.plan {
        text.push_str(&format!("  {line}\n"));
    }
    let seconds = if arguments.seconds == 15 { String::new() } else { format!(" --seconds {}", arguments.seconds) };
    text.push_str(&format!("again, with logs: RUST_LOG=debug cargo xtask world --seed {}{seconds}\n", outcome.seed));
    // Whoever closed the pipe has read enough.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
