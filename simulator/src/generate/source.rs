//! Where a workload comes from, as an experiment's file says.

use std::path::Path;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde::Deserialize;

use super::distribution::Distribution;
use super::failures::Failing;
use super::streams::{copies, merge, stretched, window};
use super::{Inflated, Jobs, Nodes, SchedulerPerf};
use crate::traces::{
    Alibaba2018, AzurePacking, Events, Google2011, Google2019, Kubernetes, OpenbTimes, Pai2020, Spot2026, Tally,
    TraceError,
};

/// Where events come from: traces, generators, and what is made of others.
///
/// ```
/// use longshore_simulator::generate::Source;
/// use longshore_simulator::traces::Tally;
///
/// let source: Source = serde_saphyr::from_str("
/// merged:
/// - nodes: [{ count: 2, cpu: 8, memory: 32Gi }]
/// - jobs: { arrivals: { poisson: { ratePerSecond: 2.0 } }, count: 3, cpu: { constant: 1 } }
/// ")?;
/// let tally = Tally::with_limit(100);
/// let events = source.events(".".as_ref(), 42, &tally)?.collect::<Result<Vec<_>, _>>()?;
/// assert_eq!((events.len(), tally.bad_rows()), (5, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Source {
    /// Alibaba's cluster-trace-gpu-v2023, in its own time.
    Openb(OpenbTimes),
    /// Alibaba's cluster-trace-v2018.
    Alibaba2018(Alibaba2018),
    /// Alibaba's cluster-trace-gpu-v2020.
    AlibabaPai2020(Pai2020),
    /// Alibaba's cluster-trace-gpu-v2026.
    AlibabaSpot2026(Spot2026),
    /// Google's clusterdata-2011-2.
    Google2011(Google2011),
    /// Google's clusterdata-2019.
    Google2019(Google2019),
    /// Azure's trace for packing of 2020.
    AzurePacking2020(AzurePacking),
    /// Objects of Kubernetes.
    Kubernetes(Kubernetes),
    /// Nodes by kinds and counts.
    Nodes(Vec<Nodes>),
    /// Jobs from distributions.
    Jobs(Box<Jobs>),
    /// A workload of upstream's `scheduler_perf`.
    SchedulerPerf(SchedulerPerf),
    /// Pods of openb until GPUs are full, as FGD's experiments have it.
    Inflated(Inflated),
    /// Several at once. No two of them have nodes or jobs of the same name.
    Merged(Vec<Source>),
    /// Another one, whose nodes fail and are repaired.
    #[serde(rename_all = "camelCase")]
    Failing {
        /// The other.
        of: Box<Source>,
        /// How long a node is up.
        up_seconds: Distribution,
        /// How long it is down.
        down_seconds: Distribution,
        /// When failures end; if left out, with the last event of the other.
        #[serde(default)]
        until_seconds: Option<f64>,
    },
    /// Another one, with more or fewer jobs, closer to each other or further apart, longer or shorter. Each factor is 1 if left out.
    Scaled {
        /// The other.
        of: Box<Source>,
        /// How many copies of each job there are in the mean; below 1 this is a sample.
        #[serde(default = "same")]
        jobs: f64,
        /// What moments are multiplied by: 0.5 is twice the load.
        #[serde(default = "same")]
        time: f64,
        /// What durations are multiplied by.
        #[serde(default = "same")]
        durations: f64,
    },
    /// Another one from one moment until another. Nodes that are there when it begins are there; jobs that arrived before are not.
    #[serde(rename_all = "camelCase")]
    Window {
        /// The other.
        of: Box<Source>,
        /// When it begins.
        #[serde(default)]
        from_seconds: f64,
        /// When it ends.
        until_seconds: f64,
    },
}

fn same() -> f64 {
    1.0
}

impl Source {
    /// What it is called.
    pub(crate) fn name(&self) -> String {
        format!("{self:?}").chars().take_while(char::is_ascii_alphanumeric).collect()
    }

    /// Says whether there is somebody who acts on objects: see [`Kubernetes::acted_on`].
    pub fn act_on_objects(&mut self, acted_on: bool) {
        match self {
            Self::Kubernetes(objects) => objects.acted_on = acted_on,
            Self::Merged(sources) => sources.iter_mut().for_each(|source| source.act_on_objects(acted_on)),
            Self::Failing { of, .. } | Self::Scaled { of, .. } | Self::Window { of, .. } => of.act_on_objects(acted_on),
            _ => {}
        }
    }

    /// The events in the order of time. Files are relative to `base`; the same seed gives the same events; what cannot be used is told to
    /// `tally`.
    ///
    /// # Errors
    /// A file cannot be read, too many of its rows are bad, or a setting makes no sense. Events that stream can fail for the same
    /// reasons.
    pub fn events(&self, base: &Path, seed: u64, tally: &Tally) -> Result<Events, TraceError> {
        let mut rng = Pcg64::seed_from_u64(seed);
        Ok(match self {
            Self::Openb(trace) => trace.events(base, tally)?,
            Self::Alibaba2018(trace) => trace.events(base, tally)?,
            Self::AlibabaPai2020(trace) => trace.events(base, tally)?,
            Self::AlibabaSpot2026(trace) => trace.events(base, tally)?,
            Self::Google2011(trace) => trace.events(base, tally)?,
            Self::Google2019(trace) => trace.events(base, tally)?,
            Self::AzurePacking2020(trace) => trace.events(base, tally)?,
            Self::Kubernetes(objects) => objects.events(base, tally)?,
            Self::Nodes(kinds) => Box::new(kinds.clone().into_iter().flat_map(Nodes::events).map(Ok)),
            Self::Jobs(jobs) => jobs.events(base, seed)?,
            Self::SchedulerPerf(workload) => workload.events()?,
            Self::Inflated(inflated) => inflated.events(base, seed)?,
            Self::Merged(sources) => {
                let streams = sources.iter().map(|source| source.events(base, rng.random(), tally));
                merge(streams.collect::<Result<Vec<_>, _>>()?)
            }
            Self::Failing { of, up_seconds, down_seconds, until_seconds } => {
                let (up, down) = (up_seconds.sampler(base)?, down_seconds.sampler(base)?);
                let until = until_seconds.map(|seconds| moment("failing: untilSeconds", seconds)).transpose()?;
                let events = of.events(base, rng.random(), tally)?;
                Box::new(Failing::new(events, up, down, until, rng))
            }
            Self::Scaled { of, jobs, time, durations } => {
                for (what, factor, most) in
                    [("scaled: jobs", jobs, 1000.0), ("scaled: time", time, 1e6), ("scaled: durations", durations, 1e6)]
                {
                    if !(*factor > 0.0 && *factor <= most) {
                        let reason = format!("it is {factor}, and must be more than 0 and at most {most}");
                        return Err(TraceError::Setting { what, reason });
                    }
                }
                let events = of.events(base, rng.random(), tally)?;
                copies(stretched(events, *time, *durations), *jobs, rng.random())
            }
            Self::Window { of, from_seconds, until_seconds } => {
                let from = moment("window: fromSeconds", *from_seconds)?;
                let until = moment("window: untilSeconds", *until_seconds)?;
                window(of.events(base, rng.random(), tally)?, from, until)
            }
        })
    }
}

fn moment(what: &'static str, seconds: f64) -> Result<Duration, TraceError> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| TraceError::Setting { what, reason: format!("it is {seconds}, and must be a number from 0") })
}
