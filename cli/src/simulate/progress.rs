//! How far it is: a bar on a terminal, nothing elsewhere.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use longshore_core::clock::{Clock, SystemClock};
use longshore_simulator::experiment::Progress;

/// What a bar counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    Pods,
    Runs,
}

/// A bar with speed and time to go.
pub(super) struct Bar {
    bar: ProgressBar,
    clock: SystemClock,
    pods: AtomicU64,
}

impl Bar {
    pub(super) fn new() -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
        Self { bar, clock: SystemClock::new(), pods: AtomicU64::new(0) }
    }

    /// So many of so many.
    pub(super) fn at(&self, counted: Counted, done: u64, of: u64) {
        if self.bar.length() != Some(of) || done == 0 {
            self.bar.set_length(of);
            let template = match counted {
                Counted::Pods => "  {bar:24}  {pos} of {len} pods, {per_sec}, {eta} to go",
                Counted::Runs => "  {bar:24}  {pos} of {len} runs, {msg}{eta} to go",
            };
            let style = ProgressStyle::with_template(template);
            self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        }
        self.bar.set_position(done);
    }

    /// One run more.
    pub(super) fn one_more(&self) {
        self.bar.inc(1);
    }

    /// What an experiment says. Where it knows how many pods it will ask about, these are counted, else runs.
    pub(super) fn hear(&self, progress: Progress) {
        match progress {
            Progress::Begun { pods: Some(pods), .. } => self.at(Counted::Pods, 0, pods),
            Progress::Begun { runs, pods: None } => {
                self.at(Counted::Runs, 0, runs as u64);
                self.pods.store(1, Ordering::Relaxed);
            }
            Progress::Pods(pods) if self.counts_runs() => {
                let all = self.pods.fetch_add(pods, Ordering::Relaxed) + pods;
                let seconds = self.clock.elapsed().as_secs_f64().max(0.001);
                self.bar.set_message(format!("{:.0} pods/s, ", all as f64 / seconds));
            }
            Progress::Pods(pods) => self.bar.inc(pods),
            Progress::Ended if self.counts_runs() => self.bar.inc(1),
            _ => {}
        }
    }

    fn counts_runs(&self) -> bool {
        self.pods.load(Ordering::Relaxed) > 0
    }

    /// Takes the bar away; says how many seconds it took.
    pub(super) fn finish(&self) -> f64 {
        self.bar.finish_and_clear();
        self.clock.elapsed().as_secs_f64()
    }
}
