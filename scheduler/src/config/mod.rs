//! Upstream's `KubeSchedulerConfiguration` (`kubescheduler.config.k8s.io/v1`): profiles, their policies and their arguments.
//!
//! The rules are those of Kubernetes 1.35. What is different:
//!
//! - `preFilter` is part of `filter` and `preScore` of `score`. A policy enabled by name at `preFilter` filters, unless it is
//!   disabled at `filter`; beyond that `filter` and `score` decide.
//! - A name that is disabled must exist, so that a slip of the pen is told.
//! - `parallelism` is read and has no effect: the engine asks a policy about all nodes in one call, on one thread. So are
//!   `clientConnection` (who starts a scheduler gives it its client), `enableProfiling`, `enableContentionProfiling` (there is
//!   nothing to serve them) and `delayCacheUntilActive` (caches are always filled by the one who leads).
//! - Without `percentageOfNodesToScore`, or with 0, all nodes are looked at, as with 100. Other values make a profile choose from a
//!   [sample](crate::Sampling), which is for comparing: it is not quicker here.
//! - `extenders` are refused: a policy does the same without a request for each pod.

mod arguments;
mod error;
mod plugins;
mod registry;
mod wire;

#[cfg(test)]
mod tests;

use std::time::Duration;

use longshore_core::leader::LeaderConfig;
use longshore_core::validation::{Error, ErrorList, Path};
use serde_json::Value;

pub use error::ConfigError;
pub use registry::{Args, Registry};
use wire::{Document, LeaderElection, ProfileDocument};

use crate::policies::{Devices, Gang};
use crate::{Backoff, DEFAULT_SCHEDULER_NAME, Options, Profile, Sampling};

/// The configuration of a scheduler.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// The profiles, one for each scheduler name; at least one.
    pub profiles: Vec<Profile>,
    /// How long pods wait that found no place.
    pub backoff: Backoff,
    /// Without an identity; `None` for no election.
    leader: Option<LeaderConfig>,
}

impl Default for Configuration {
    /// Upstream's default profile, and an election of a leader.
    fn default() -> Self {
        let leader = leader(&LeaderElection::default());
        Self { profiles: vec![Profile::default_scheduler()], backoff: Backoff::default(), leader }
    }
}

impl Configuration {
    /// Each profile honours pod groups: it has the policy [`Gang`].
    #[must_use]
    pub fn with_gangs(mut self) -> Self {
        self.profiles = self.profiles.into_iter().map(|profile| profile.with(Gang::default())).collect();
        self
    }

    /// Each profile looks at devices one by one where nodes let them be shared: it has the policy [`Devices`], with weight 2, so
    /// that shares of devices are packed although pods are spread.
    #[must_use]
    pub fn with_devices(mut self) -> Self {
        let add = |profile: Profile| profile.with_weight(Devices::default(), 2);
        self.profiles = self.profiles.into_iter().map(add).collect();
        self
    }

    /// Reads a configuration, in YAML or JSON, whose policies are the built-in ones.
    ///
    /// # Errors
    /// All that is wrong with it, each with its place.
    pub fn from_yaml(text: &str) -> Result<Self, ConfigError> {
        Self::with_policies(text, &Registry::built_in())
    }

    /// Reads a configuration whose policies are these.
    ///
    /// # Errors
    /// As [`Configuration::from_yaml`].
    pub fn with_policies(text: &str, registry: &Registry) -> Result<Self, ConfigError> {
        let mut document = wire::document(text)?;
        ConfigError::no_errors(&settings_errors(&document))?;
        if document.profiles.is_empty() {
            document.profiles.push(ProfileDocument::default());
        }
        let names = names(&document.profiles)?;
        let mut profiles: Vec<Profile> = Vec::new();
        for (index, (name, own)) in names.iter().zip(&document.profiles).enumerate() {
            let at = Path::new("profiles").index(index);
            let sampling = own.percentage_of_nodes_to_score.or(document.percentage_of_nodes_to_score);
            let sampling = sampling.and_then(|percentage| u8::try_from(percentage).ok()).map(Sampling::Percent);
            let profile = plugins::profile(name, own, &at, registry)?;
            profiles.push(match sampling {
                None | Some(Sampling::Percent(0 | 100)) => profile,
                Some(sampling) => profile.with_sampling(sampling),
            });
            same_queue(&profiles, &document.profiles, index)?;
        }
        let seconds = |given: Option<i64>, default| {
            given.and_then(|seconds| u64::try_from(seconds).ok()).map_or(default, Duration::from_secs)
        };
        let default = Backoff::default();
        let backoff = Backoff {
            initial: seconds(document.pod_initial_backoff_seconds, default.initial),
            max: seconds(document.pod_max_backoff_seconds, default.max),
        };
        Ok(Self { profiles, backoff, leader: leader(&document.leader_election) })
    }

    /// The election that decides which of several schedulers places pods, for the one of this identity; `None` if there is to
    /// be none. There is one unless the configuration says otherwise.
    pub fn leader(&self, identity: &str) -> Option<LeaderConfig> {
        let leader = self.leader.clone()?;
        Some(LeaderConfig { identity: identity.to_owned(), ..leader })
    }

    /// Options of a scheduler that places pods at once, whatever the configuration says of an election.
    pub fn options(self) -> Options {
        Options { profiles: self.profiles, backoff: self.backoff, ..Options::default() }
    }
}

/// What is wrong with settings that are not of one profile.
fn settings_errors(document: &Document) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut invalid = |at: &Path, value: Value, detail: &str| errors.push(Error::invalid(at, value, detail));
    let burst = document.client_connection.burst;
    if burst < 0 {
        invalid(&Path::new("clientConnection").child("burst"), burst.into(), "must be non-negative");
    }
    if let Some(parallelism) = document.parallelism.filter(|parallelism| *parallelism <= 0) {
        let detail = "should be an integer value greater than zero";
        invalid(&Path::new("parallelism"), parallelism.into(), detail);
    }
    let profiles = document.profiles.iter().enumerate();
    let profiles = profiles.map(|(index, own)| (Path::new("profiles").index(index), own.percentage_of_nodes_to_score));
    let everywhere = (Path::default(), document.percentage_of_nodes_to_score);
    for (at, percentage) in std::iter::once(everywhere).chain(profiles) {
        if let Some(percentage) = percentage.filter(|percentage| !(0..=100).contains(percentage)) {
            invalid(&at.child("percentageOfNodesToScore"), percentage.into(), "not in valid range [0-100]");
        }
    }
    let initial = document.pod_initial_backoff_seconds.unwrap_or(1);
    if initial <= 0 {
        invalid(&Path::new("podInitialBackoffSeconds"), initial.into(), "must be greater than 0");
    }
    let max = document.pod_max_backoff_seconds.unwrap_or(10);
    if max < initial {
        let detail = "must be greater than or equal to PodInitialBackoffSeconds";
        invalid(&Path::new("podMaxBackoffSeconds"), max.into(), detail);
    }
    errors.extend(leader_errors(&document.leader_election, &Path::new("leaderElection")));
    for (index, extender) in document.extenders.iter().enumerate() {
        let url = extender.get("urlPrefix").and_then(Value::as_str).unwrap_or_default();
        let detail = format!("the extender {url:?} would not be asked; make a policy of it and register that");
        errors.push(Error::forbidden(&Path::new("extenders").index(index), detail));
    }
    errors
}

fn leader_errors(election: &LeaderElection, at: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let (lease, renew, retry) = (&election.lease_duration, &election.renew_deadline, &election.retry_period);
    if election.leader_elect == Some(false) {
        return errors;
    }
    for (field, duration) in [("leaseDuration", lease), ("renewDeadline", renew), ("retryPeriod", retry)] {
        if duration.nanos < 0 {
            errors.push(Error::invalid(&at.child(field), duration.text.as_str(), "must be greater than zero"));
        }
    }
    let config = timings(election);
    if config.lease_duration <= config.renew_deadline {
        let detail = "must be greater than `RenewDeadline`";
        errors.push(Error::invalid(&at.child("leaseDuration"), lease.text.as_str(), detail));
    }
    if config.renew_deadline <= config.retry_period.mul_f64(1.2) {
        let detail = "must be greater than retryPeriod*JitterFactor";
        errors.push(Error::invalid(&at.child("renewDeadline"), renew.text.as_str(), detail));
    }
    let lock = election.resource_lock.as_str();
    if !matches!(lock, "" | "leases") {
        errors.push(Error::invalid(&at.child("resourceLock"), lock, "resourceLock value must be \"leases\""));
    }
    errors
}

fn leader(election: &LeaderElection) -> Option<LeaderConfig> {
    (election.leader_elect != Some(false)).then(|| timings(election))
}

fn timings(election: &LeaderElection) -> LeaderConfig {
    let or = |given: &str, default: &str| if given.is_empty() { default.to_owned() } else { given.to_owned() };
    let default = LeaderConfig::new("kube-system", "kube-scheduler", "");
    LeaderConfig {
        namespace: or(&election.resource_namespace, &default.namespace),
        name: or(&election.resource_name, &default.name),
        lease_duration: election.lease_duration.or(default.lease_duration),
        renew_deadline: election.renew_deadline.or(default.renew_deadline),
        retry_period: election.retry_period.or(default.retry_period),
        ..default
    }
}

/// The profiles' names. Only one that is alone may have none.
fn names(profiles: &[ProfileDocument]) -> Result<Vec<String>, ConfigError> {
    let mut errors = ErrorList::new();
    let mut names: Vec<String> = Vec::new();
    for (index, profile) in profiles.iter().enumerate() {
        let at = Path::new("profiles").index(index).child("schedulerName");
        let alone = (profiles.len() == 1).then_some(DEFAULT_SCHEDULER_NAME);
        let name = profile.scheduler_name.as_deref().or(alone).unwrap_or_default();
        if name.is_empty() {
            errors.push(Error::required(&at, ""));
        } else if names.iter().any(|other| other == name) {
            errors.push(Error::duplicate(&at, name));
        }
        names.push(name.to_owned());
    }
    ConfigError::no_errors(&errors)?;
    Ok(names)
}

/// There is one queue: the last profile must order it as the first does.
fn same_queue(profiles: &[Profile], documents: &[ProfileDocument], last: usize) -> Result<(), ConfigError> {
    let name = |index: usize| profiles[index].queue_order_name();
    let args = |index: usize| {
        let config = documents[index].plugin_config.iter().find(|config| config.name == name(index));
        config.and_then(|config| config.args.as_ref())
    };
    let at = Path::new("profiles").index(last);
    if name(0) != name(last) {
        let (first, other, profile) = (name(0), name(last), profiles[last].name());
        let text = format!("different queue sort plugins for profile {profile:?}: {other:?}, first: {first:?}");
        return Err(ConfigError::new(&at.child("plugins").child("queueSort"), text));
    }
    if args(0) != args(last) {
        let text = format!("different queue sort plugin args for profile {:?}", profiles[last].name());
        return Err(ConfigError::new(&at.child("pluginConfig"), text));
    }
    Ok(())
}
