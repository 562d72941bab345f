//! Of several processes that can do the same, one does: how patiently it is elected, and what it does while it leads.

use std::sync::Arc;
use std::time::Duration;

use longshore_controllers::{ControllerManager, Options as ControllerOptions};
use longshore_core::client::Client;
use longshore_core::clock::Clock;
use longshore_core::leader::{LeaderConfig, LeaderTimings};
use tokio_util::sync::CancellationToken;

use crate::Error;

/// Namespace of the leases by which parts elect a leader.
pub(crate) const LEASES: &str = "kube-system";

/// The leases' names, which are upstream's.
pub(crate) const CONTROLLERS: &str = "kube-controller-manager";
pub(crate) const SCHEDULER: &str = "kube-scheduler";

/// How patiently a leader is elected, where it is not as upstream has it. All candidates should agree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeaderOptions {
    /// How long the others wait after the last renewal they saw; a lease holds whole seconds.
    pub lease_duration: Option<Duration>,
    /// How long the leader tries to renew before it gives up.
    pub renew_deadline: Option<Duration>,
    /// Time between attempts to acquire or renew.
    pub retry_period: Option<Duration>,
}

impl LeaderOptions {
    /// The election with these timings.
    ///
    /// # Errors
    /// [`Error::Part`] if two could lead by them.
    pub(crate) fn apply(&self, config: LeaderConfig) -> Result<LeaderConfig, Error> {
        let timings = LeaderTimings {
            lease_duration: self.lease_duration.unwrap_or(config.lease_duration),
            renew_deadline: self.renew_deadline.unwrap_or(config.renew_deadline),
            retry_period: self.retry_period.unwrap_or(config.retry_period),
        };
        timings.check().map_err(|why| Error::Part { part: "leader election", reason: why.to_owned() })?;
        Ok(config.with_timings(timings))
    }
}

/// Runs the controllers until cancelled: whenever they lead, or, where nobody is elected, all the time.
pub(crate) async fn controllers(
    client: Arc<dyn Client>,
    clock: Arc<dyn Clock>,
    options: &ControllerOptions,
    leader: Option<LeaderConfig>,
    cancel: CancellationToken,
) {
    match leader {
        Some(leader) => ControllerManager::run_elected(client, clock, options, leader, cancel).await,
        None => ControllerManager::new(client, clock, options.clone()).run(cancel).await,
    }
}
