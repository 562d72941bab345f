//! How a workload is simulated: plain data, as it stands in the file of an experiment.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::clock::Clock;
use longshore_core::scheduling::TieBreak;
use longshore_scheduler::Profile;
use serde::{Deserialize, Serialize};

use super::error::ConfigurationError;
use super::seconds;
use crate::workload::Class;

/// How a workload is simulated. By default by one scheduler that needs no time, with preemption.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Simulation {
    /// Who decides, and how several of them get along.
    pub architecture: Architecture,
    /// When a job is tried again that did not get all of its places.
    pub retry: Retry,
    /// Whether pods are evicted for others of higher priority, as the profile's policies choose. Not with
    /// [`Architecture::TwoLevel`], whose schedulers do not see each other's pods.
    pub preemption: bool,
    /// Which of the best nodes is taken.
    pub ties: Ties,
    /// Another seed is another sequence of random numbers.
    pub seed: u64,
}

impl Default for Simulation {
    fn default() -> Self {
        Self {
            architecture: Architecture::default(),
            retry: Retry::default(),
            preemption: true,
            ties: Ties::default(),
            seed: 0,
        }
    }
}

/// Who decides (Schwarzkopf et al., Omega, EuroSys '13, section 3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Architecture {
    /// One scheduler, which takes one job after the other. With the same times for both classes it is the single path of the
    /// paper, with a shorter one for batch jobs the multi path.
    Monolithic {
        /// How long it thinks.
        #[serde(default)]
        decisions: DecisionTimes,
    },
    /// Several schedulers. Each decides on the state of the whole cell as it is when it begins, and claims what it chose when it has
    /// ended, if that is still there.
    #[serde(rename_all = "camelCase")]
    SharedState {
        /// They.
        schedulers: Vec<SchedulerSpec>,
        /// What is a conflict.
        #[serde(default)]
        conflicts: Conflicts,
        /// What becomes of a claim of which a part is in conflict.
        #[serde(default)]
        commit: Commit,
    },
    /// Several schedulers that see nothing but what they are offered: all that is free, to one of them at a time, the one with the
    /// smallest dominant share first (Mesos; Hindman et al., NSDI '11; Ghodsi et al., DRF, NSDI '11). What is offered to one is
    /// locked for the others until it has decided.
    #[serde(rename_all = "camelCase")]
    TwoLevel {
        /// They.
        frameworks: Vec<SchedulerSpec>,
    },
}

impl Default for Architecture {
    fn default() -> Self {
        Self::Monolithic { decisions: DecisionTimes::default() }
    }
}

/// One of several schedulers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SchedulerSpec {
    /// The jobs that it takes. Several schedulers that take the same share these jobs by a hash of their names.
    pub takes: Takes,
    /// How long it thinks.
    pub decisions: DecisionTimes,
}

/// Which jobs a scheduler takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Takes {
    /// All.
    #[default]
    All,
    /// Those of [`Class::Batch`].
    Batch,
    /// Those of [`Class::Service`].
    Service,
}

impl Takes {
    fn takes(self, class: Class) -> bool {
        match self {
            Self::All => true,
            Self::Batch => class == Class::Batch,
            Self::Service => class == Class::Service,
        }
    }
}

/// How long a scheduler thinks about one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DecisionTimes {
    /// If it is of [`Class::Batch`].
    pub batch: DecisionTime,
    /// If it is of [`Class::Service`].
    pub service: DecisionTime,
}

impl DecisionTimes {
    /// The same for all jobs.
    pub fn all(time: DecisionTime) -> Self {
        Self { batch: time, service: time }
    }

    /// That for jobs of this class.
    pub fn of(&self, class: Class) -> DecisionTime {
        match class {
            Class::Batch => self.batch,
            Class::Service => self.service,
        }
    }
}

/// How long a decision takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum DecisionTime {
    /// As Omega's simulator has it: a time for the job, and one for each of its pods that has no place.
    #[serde(rename_all = "camelCase")]
    Modelled {
        /// In seconds in a file.
        #[serde(with = "seconds", default)]
        per_job: Duration,
        /// In seconds in a file.
        #[serde(with = "seconds", default)]
        per_task: Duration,
    },
    /// As long as the policies need on this machine: then a run cannot be reproduced. Needs [`Deciders::clock`].
    Measured,
}

impl Default for DecisionTime {
    fn default() -> Self {
        Self::Modelled { per_job: Duration::ZERO, per_task: Duration::ZERO }
    }
}

/// What is a conflict between schedulers that share state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Conflicts {
    /// A pod no longer fits on its node.
    #[default]
    Fine,
    /// Anything came to the node or went from it since the scheduler began.
    Coarse,
}

/// What becomes of a claim of which a part is in conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Commit {
    /// The rest is kept. Jobs that are gangs ([`Job::gang`](crate::workload::Job::gang)) get all all the same, or nothing.
    #[default]
    Incremental,
    /// All or nothing, as if each job were a gang.
    Gang,
}

/// When a job is tried again that did not get all of its places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Retry {
    /// As the scheduler of this project does: when something happened that may help, and after a wait that doubles with each attempt.
    /// Who was in conflict waits 10 ms to 1 s.
    #[serde(rename_all = "camelCase")]
    Backoff {
        /// The first wait, in seconds in a file.
        #[serde(with = "seconds")]
        initial: Duration,
        /// The longest wait, in seconds in a file.
        #[serde(with = "seconds")]
        max: Duration,
    },
    /// As Omega's simulator does: at once, behind those that wait already; after so many attempts in a row it is given up.
    #[serde(rename_all = "camelCase")]
    Immediate {
        /// At least 1; the paper's simulator has 1000.
        attempts: u32,
    },
}

impl Default for Retry {
    fn default() -> Self {
        Self::Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(10) }
    }
}

/// Which of the best nodes is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ties {
    /// Each with the same probability.
    #[default]
    Random,
    /// The first by place, which is the order in which nodes came.
    First,
    /// The first by name.
    ByName,
}

impl Ties {
    /// As the scheduler knows it.
    pub(crate) fn tie_break(self, seed: u64) -> TieBreak {
        match self {
            Self::Random => TieBreak::Uniform { seed },
            Self::First => TieBreak::First,
            Self::ByName => TieBreak::ByName,
        }
    }
}

/// What decides: everything about a simulation that is not plain data.
#[derive(Debug, Clone)]
pub struct Deciders {
    /// A profile for each scheduler name of the pods, or one for all.
    pub profiles: Vec<Profile>,
    /// By which [`DecisionTime::Measured`] is measured.
    pub clock: Option<Arc<dyn Clock>>,
}

impl From<Profile> for Deciders {
    fn from(profile: Profile) -> Self {
        Self { profiles: vec![profile], clock: None }
    }
}

impl From<Vec<Profile>> for Deciders {
    fn from(profiles: Vec<Profile>) -> Self {
        Self { profiles, clock: None }
    }
}

impl Architecture {
    /// How many schedulers there are.
    pub fn schedulers(&self) -> usize {
        match self {
            Self::Monolithic { .. } => 1,
            Self::SharedState { schedulers, .. } | Self::TwoLevel { frameworks: schedulers } => schedulers.len(),
        }
    }

    /// How long one of them thinks about jobs of a class.
    pub(super) fn decision(&self, scheduler: usize, class: Class) -> DecisionTime {
        match self {
            Self::Monolithic { decisions } => decisions.of(class),
            Self::SharedState { schedulers, .. } | Self::TwoLevel { frameworks: schedulers } => {
                schedulers.get(scheduler).map(|scheduler| scheduler.decisions.of(class)).unwrap_or_default()
            }
        }
    }

    /// Who takes a job.
    pub(super) fn scheduler_of(&self, name: &str, class: Class) -> usize {
        let (Self::SharedState { schedulers, .. } | Self::TwoLevel { frameworks: schedulers }) = self else { return 0 };
        let takers = || (0..schedulers.len()).filter(|place| schedulers[*place].takes.takes(class));
        let count = takers().count().max(1) as u64;
        takers().nth(usize::try_from(hash(name) % count).unwrap_or(0)).unwrap_or(0)
    }

    /// Whether a claim of which a part is in conflict is void as a whole, for jobs that are no gangs.
    pub(super) fn is_gang(&self) -> bool {
        matches!(self, Self::SharedState { commit: Commit::Gang, .. })
    }
}

impl Simulation {
    pub(super) fn tie_break(&self) -> TieBreak {
        self.ties.tie_break(self.seed)
    }

    /// Whether it can be run.
    pub(super) fn check(&self, deciders: &Deciders) -> Result<(), ConfigurationError> {
        let schedulers = self.architecture.schedulers();
        if schedulers == 0 {
            return Err(ConfigurationError::NoSchedulers);
        }
        for class in [Class::Batch, Class::Service] {
            if let Architecture::SharedState { schedulers, .. } | Architecture::TwoLevel { frameworks: schedulers } =
                &self.architecture
                && !schedulers.iter().any(|scheduler| scheduler.takes.takes(class))
            {
                return Err(ConfigurationError::NobodyTakes { class });
            }
            let measured =
                (0..schedulers).any(|place| self.architecture.decision(place, class) == DecisionTime::Measured);
            if measured && deciders.clock.is_none() {
                return Err(ConfigurationError::NoClock);
            }
        }
        if matches!(self.retry, Retry::Immediate { attempts: 0 }) {
            return Err(ConfigurationError::NoAttempts);
        }
        if self.preemption && matches!(self.architecture, Architecture::TwoLevel { .. }) {
            return Err(ConfigurationError::PreemptionByOffers);
        }
        if deciders.profiles.is_empty() {
            return Err(ConfigurationError::NoProfiles);
        }
        Ok(())
    }
}

/// The same on any machine (FNV-1a).
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
