//! Leader election over a Lease: of several processes that run the same controllers, one acts.
//!
//! # Contract
//!
//! At most one process leads, as long as clocks run at about the same rate: they are never compared, since everyone
//! measures by its own clock how long the lease was left unrenewed. Whoever cannot renew within
//! [`LeaderConfig::renew_deadline`] stops leading before [`LeaderConfig::lease_duration`] lets others take over. What it
//! started must end by then: its token is cancelled, and [`LeaderElector::run`] waits for it.
//!
//! A process that does not run cannot stop in time, so what leads writes through a client that is fenced ([`Fence`]): its writes
//! are refused from the moment another leads.

mod fence;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube_core::params::PostParams;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use tokio_util::sync::CancellationToken;

use crate::api::Lease;
use crate::api::lease::LeaseSpec;
use crate::client::{Api, Client, Error};
use crate::clock::Clock;

pub use fence::Fence;
use fence::Fenced;

/// Most that jitter adds to a wait before the next attempt to become leader, in parts of it.
const JITTER: f64 = 1.2;

/// What to elect a leader for, and how patiently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderConfig {
    /// Namespace of the lease.
    pub namespace: String,
    /// Name of the lease: what is led.
    pub name: String,
    /// Who this process is; must differ from every other candidate's.
    pub identity: String,
    /// How long the others wait after the last renewal they saw.
    pub lease_duration: Duration,
    /// How long the leader tries to renew before it gives up. Less than `lease_duration`.
    pub renew_deadline: Duration,
    /// Time between attempts to acquire or renew. Less than `renew_deadline`.
    pub retry_period: Duration,
    /// Whether a leader that is asked to stop hands the lease back at once.
    pub release_on_cancel: bool,
    /// What the leader writes on the lease, such as where it can be asked. The next leader leaves what it does not replace,
    /// so whoever reads must compare with the lease's holder.
    pub annotations: BTreeMap<String, String>,
}

impl LeaderConfig {
    /// Upstream's timings; the lease is handed back at the end.
    pub fn new(namespace: &str, name: &str, identity: &str) -> Self {
        let LeaderTimings { lease_duration, renew_deadline, retry_period } = LeaderTimings::default();
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            lease_duration,
            renew_deadline,
            retry_period,
            release_on_cancel: true,
            annotations: BTreeMap::new(),
        }
    }

    /// The same election with other timings.
    #[must_use]
    pub fn with_timings(self, timings: LeaderTimings) -> Self {
        let LeaderTimings { lease_duration, renew_deadline, retry_period } = timings;
        Self { lease_duration, renew_deadline, retry_period, ..self }
    }
}

/// How patiently a leader is elected; all candidates should agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderTimings {
    /// As [`LeaderConfig::lease_duration`]; a lease holds whole seconds, so others wait for the next of them.
    pub lease_duration: Duration,
    /// As [`LeaderConfig::renew_deadline`].
    pub renew_deadline: Duration,
    /// As [`LeaderConfig::retry_period`].
    pub retry_period: Duration,
}

impl Default for LeaderTimings {
    /// Upstream's: 15 s, 10 s and 2 s.
    fn default() -> Self {
        let [lease_duration, renew_deadline, retry_period] = [15, 10, 2].map(Duration::from_secs);
        Self { lease_duration, renew_deadline, retry_period }
    }
}

impl LeaderTimings {
    /// Checks that a leader stops before others begin.
    ///
    /// # Errors
    /// What is wrong, in upstream's words.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.lease_duration <= self.renew_deadline {
            return Err("leaseDuration must be greater than renewDeadline");
        }
        if self.renew_deadline <= self.retry_period.mul_f64(JITTER) {
            return Err("renewDeadline must be greater than retryPeriod*JitterFactor");
        }
        if self.retry_period.is_zero() {
            return Err("retryPeriod must be greater than zero");
        }
        Ok(())
    }
}

/// How leading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The caller asked for it.
    Cancelled,
    /// The lease could not be renewed in time, or somebody else has it.
    Lost,
    /// The work came to its end by itself.
    Finished,
}

/// A candidate for leadership.
pub struct LeaderElector {
    client: Arc<dyn Client>,
    api: Api<Lease>,
    clock: Arc<dyn Clock>,
    config: LeaderConfig,
    rng: Pcg64,
    /// The lease as last seen, and when by our own clock it was first seen so.
    observed: Option<(Arc<Lease>, Duration)>,
    /// The lease's transitions since we lead; `None` while we do not. A lease of our name that an earlier process of ours left is a
    /// claim of an earlier term.
    term: Option<i32>,
}

impl fmt::Debug for LeaderElector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaderElector")
            .field("config", &self.config)
            .field("leads", &self.leads())
            .finish_non_exhaustive()
    }
}

impl LeaderElector {
    /// A candidate that does nothing until [`LeaderElector::run`]. The seed is for jitter.
    pub fn new(client: Arc<dyn Client>, clock: Arc<dyn Clock>, config: LeaderConfig, seed: u64) -> Self {
        let api = Api::namespaced(client.clone(), &config.namespace);
        Self { client, api, clock, config, rng: Pcg64::seed_from_u64(seed), observed: None, term: None }
    }

    /// Who leads, as far as known; empty if nobody does.
    pub fn leader(&self) -> &str {
        self.observed.as_ref().and_then(|(lease, _)| lease.spec.holder_identity.as_deref()).unwrap_or_default()
    }

    fn leads(&self) -> bool {
        self.leader() == self.config.identity && self.term == Some(self.transitions())
    }

    /// How often leadership had changed when the lease was last seen.
    fn transitions(&self) -> i32 {
        self.observed.as_ref().and_then(|(lease, _)| lease.spec.lease_transitions).unwrap_or(0)
    }

    /// Waits to become leader, then runs `lead` until it ends, leadership is lost, or `cancel` is. In the last two cases
    /// the token given to `lead` is cancelled and its end awaited. To stand again, call again.
    ///
    /// The client given to `lead` is the elector's own, fenced: all that is written because this process leads must go through it. A
    /// write that is refused because another leads ends leadership.
    pub async fn run<F, W>(&mut self, cancel: CancellationToken, lead: F) -> Ended
    where
        F: FnOnce(CancellationToken, Arc<dyn Client>) -> W,
        W: Future<Output = ()>,
    {
        self.term = None;
        if cancel.run_until_cancelled(self.acquire()).await.is_none() {
            return Ended::Cancelled;
        }
        let LeaderConfig { namespace, name, identity, .. } = self.config.clone();
        let fence = Fence { namespace, name, holder: identity, transitions: self.transitions() };
        let Fence { name: lease, holder, transitions, .. } = &fence;
        tracing::info!(lease, identity = holder, transitions, "became leader");
        let (token, refused, term) = (cancel.child_token(), CancellationToken::new(), *transitions);
        let fenced = Fenced { client: self.client.clone(), fence: Arc::new(fence), refused: refused.clone() };
        let work = lead(token.clone(), Arc::new(fenced));
        tokio::pin!(work);
        let ended = tokio::select! {
            biased;
            () = cancel.cancelled() => Ended::Cancelled,
            () = refused.cancelled() => Ended::Lost,
            () = &mut work => Ended::Finished,
            () = self.keep(term) => Ended::Lost,
        };
        token.cancel();
        if ended != Ended::Finished {
            work.await;
        }
        if ended != Ended::Lost && self.config.release_on_cancel {
            self.release().await;
        }
        ended
    }

    async fn acquire(&mut self) {
        while !self.try_acquire_or_renew().await {
            let wait = self.wait();
            self.clock.sleep(wait).await;
        }
    }

    /// How long to wait for the next attempt: upstream's time, but no longer than until the lease lapses.
    fn wait(&mut self) -> Duration {
        let wait = self.config.retry_period.mul_f64(1.0 + JITTER * self.rng.random::<f64>());
        let left = self.lapses().and_then(|at| at.checked_sub(self.clock.elapsed()));
        left.filter(|left| !left.is_zero()).map_or(wait, |left| left.min(wait))
    }

    /// Renews until that fails for too long, or the term is another: then somebody else may have led in between.
    async fn keep(&mut self, term: i32) {
        let clock = self.clock.clone();
        loop {
            let deadline = clock.sleep(self.config.renew_deadline);
            let period = self.config.retry_period;
            let renew = async {
                while !self.try_acquire_or_renew().await {
                    clock.sleep(period).await;
                }
            };
            tokio::select! {
                biased;
                () = deadline => return,
                () = renew => {}
            }
            if self.transitions() != term {
                return;
            }
            clock.sleep(period).await;
        }
    }

    async fn try_acquire_or_renew(&mut self) -> bool {
        match self.attempt().await {
            Ok(leads) => leads,
            Err(error) => {
                tracing::debug!(lease = self.config.name, %error, "cannot acquire or renew the lease");
                false
            }
        }
    }

    async fn attempt(&mut self) -> Result<bool, Error> {
        // A leader that knows the lease renews it without a look; if that fails somebody may have taken it.
        if self.leads()
            && let Some((lease, _)) = self.observed.clone()
            && let Ok(renewed) = self.write(self.claimed(&lease)).await
        {
            self.observe(renewed);
            return Ok(true);
        }
        let Some(lease) = self.api.get_opt(&self.config.name).await? else {
            let metadata = ObjectMeta { name: Some(self.config.name.clone()), ..ObjectMeta::default() };
            let mut lease = Lease { metadata, spec: self.claim(), ..Lease::default() };
            // A lease that somebody deleted goes on where it was, so that no two terms look alike.
            lease.spec.lease_transitions =
                self.observed.as_ref().map(|_| self.transitions().saturating_add(1)).or(Some(0));
            self.annotate(&mut lease);
            let created = self.api.create(lease, &PostParams::default()).await?;
            self.observe(created);
            self.term = Some(self.transitions());
            return Ok(true);
        };
        self.observe(lease.clone());
        if self.leader() != self.config.identity && self.is_held() {
            return Ok(false);
        }
        let claimed = self.write(self.claimed(&lease)).await?;
        self.observe(claimed);
        self.term = Some(self.transitions());
        Ok(true)
    }

    async fn write(&self, lease: Lease) -> Result<Arc<Lease>, Error> {
        self.api.update(lease, &PostParams::default()).await
    }

    /// Somebody holds the lease and has not left it unrenewed for too long, by our own clock.
    fn is_held(&self) -> bool {
        self.lapses().is_some_and(|at| at > self.clock.elapsed())
    }

    /// When the lease lapses, by our own clock, if somebody holds it.
    fn lapses(&self) -> Option<Duration> {
        let (lease, since) = self.observed.as_ref()?;
        let seconds = lease.spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
        let held = lease.spec.holder_identity.as_deref().is_some_and(|holder| !holder.is_empty());
        held.then(|| *since + Duration::from_secs(seconds))
    }

    fn observe(&mut self, lease: Arc<Lease>) {
        if self.observed.as_ref().is_none_or(|(known, _)| known.spec != lease.spec) {
            self.observed = Some((lease, self.clock.elapsed()));
        } else if let Some((known, _)) = &mut self.observed {
            *known = lease;
        }
    }

    /// A new claim of ours.
    fn claim(&self) -> LeaseSpec {
        let now = MicroTime(self.clock.now());
        LeaseSpec {
            holder_identity: Some(self.config.identity.clone()),
            lease_duration_seconds: Some(whole_seconds(self.config.lease_duration)),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(0),
            ..LeaseSpec::default()
        }
    }

    /// The lease with our claim: renewed, or taken over.
    fn claimed(&self, lease: &Lease) -> Lease {
        let mut claim = self.claim();
        let transitions = lease.spec.lease_transitions.unwrap_or(0);
        if lease.spec.holder_identity.as_deref() == Some(&self.config.identity) && self.term == Some(transitions) {
            claim.acquire_time.clone_from(&lease.spec.acquire_time);
            claim.lease_transitions = Some(transitions);
        } else {
            claim.lease_transitions = Some(transitions.saturating_add(1));
        }
        let kept = lease.spec.clone();
        claim.strategy = kept.strategy;
        claim.preferred_holder = kept.preferred_holder;
        let mut claimed = Lease { spec: claim, ..lease.clone() };
        self.annotate(&mut claimed);
        claimed
    }

    fn annotate(&self, lease: &mut Lease) {
        if !self.config.annotations.is_empty() {
            lease.metadata.annotations.get_or_insert_default().extend(self.config.annotations.clone());
        }
    }

    async fn release(&mut self) {
        let Some((lease, _)) = self.observed.clone().filter(|_| self.leads()) else { return };
        let now = MicroTime(self.clock.now());
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            ..lease.spec.clone()
        };
        match self.write(Lease { spec, ..(*lease).clone() }).await {
            Ok(released) => self.observe(released),
            Err(error) => tracing::warn!(lease = self.config.name, %error, "cannot hand the lease back; it will lapse"),
        }
    }
}

/// Rounded up: others may wait longer than was meant, never shorter.
fn whole_seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
