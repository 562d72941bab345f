//! Leader election over a Lease: of several processes that run the same controllers, one acts.
//!
//! # Contract
//!
//! At most one process leads, as long as clocks run at about the same rate: they are never compared, since everyone
//! measures by its own clock how long the lease was left unrenewed. Whoever cannot renew within
//! [`LeaderConfig::renew_deadline`] stops leading before [`LeaderConfig::lease_duration`] lets others take over. What it
//! started must end by then: its token is cancelled, and [`LeaderElector::run`] waits for it.

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
    /// Upstream's timings: 15 s, 10 s and 2 s; the lease is handed back at the end.
    pub fn new(namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
            release_on_cancel: true,
            annotations: BTreeMap::new(),
        }
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
    api: Api<Lease>,
    clock: Arc<dyn Clock>,
    config: LeaderConfig,
    rng: Pcg64,
    /// The lease as last seen, and when by our own clock it was first seen so.
    observed: Option<(Arc<Lease>, Duration)>,
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
        let api = Api::namespaced(client, &config.namespace);
        Self { api, clock, config, rng: Pcg64::seed_from_u64(seed), observed: None }
    }

    /// Who leads, as far as known; empty if nobody does.
    pub fn leader(&self) -> &str {
        self.observed.as_ref().and_then(|(lease, _)| lease.spec.holder_identity.as_deref()).unwrap_or_default()
    }

    fn leads(&self) -> bool {
        self.leader() == self.config.identity
    }

    /// Waits to become leader, then runs `lead` until it ends, leadership is lost, or `cancel` is. In the last two cases
    /// the token given to `lead` is cancelled and its end awaited. To stand again, call again.
    pub async fn run<F, W>(&mut self, cancel: CancellationToken, lead: F) -> Ended
    where
        F: FnOnce(CancellationToken) -> W,
        W: Future<Output = ()>,
    {
        if cancel.run_until_cancelled(self.acquire()).await.is_none() {
            return Ended::Cancelled;
        }
        tracing::info!(lease = self.config.name, identity = self.config.identity, "became leader");
        let token = cancel.child_token();
        let work = lead(token.clone());
        tokio::pin!(work);
        let ended = tokio::select! {
            biased;
            () = cancel.cancelled() => Ended::Cancelled,
            () = &mut work => Ended::Finished,
            () = self.keep() => Ended::Lost,
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
            let wait = self.config.retry_period.mul_f64(1.0 + JITTER * self.rng.random::<f64>());
            self.clock.sleep(wait).await;
        }
    }

    /// Renews until that fails for too long.
    async fn keep(&mut self) {
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
                () = deadline => return,
                () = renew => {}
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
            self.annotate(&mut lease);
            let created = self.api.create(lease, &PostParams::default()).await?;
            self.observe(created);
            return Ok(true);
        };
        self.observe(lease.clone());
        if !self.leads() && self.is_held() {
            return Ok(false);
        }
        let renewed = self.write(self.claimed(&lease)).await?;
        self.observe(renewed);
        Ok(true)
    }

    async fn write(&self, lease: Lease) -> Result<Arc<Lease>, Error> {
        self.api.update(lease, &PostParams::default()).await
    }

    /// Somebody holds the lease and has not left it unrenewed for too long, by our own clock.
    fn is_held(&self) -> bool {
        let Some((lease, since)) = &self.observed else { return false };
        let seconds = lease.spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
        let held = lease.spec.holder_identity.as_deref().is_some_and(|holder| !holder.is_empty());
        held && *since + Duration::from_secs(seconds) > self.clock.elapsed()
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
            lease_duration_seconds: Some(i32::try_from(self.config.lease_duration.as_secs()).unwrap_or(i32::MAX)),
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
        if lease.spec.holder_identity.as_deref() == Some(&self.config.identity) {
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

#[cfg(test)]
#[path = "leader_tests.rs"]
mod tests;
