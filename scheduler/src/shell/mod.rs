//! The shell around the engine: watches, queue, binding, and telling people.
//!
//! One loop owns the engine and the queue, so nothing is locked: it takes in what the watches tell, then tries the next pod.
//! What waits for the server (bindings, conditions, evictions) runs beside it in tasks that the loop owns.
//!
//! Each try is a tracing span `scheduling`, each binding one `binding`, of target `longshore::scheduler` and level DEBUG, with the
//! fields `namespace`, `name`, `profile`, `attempt`, `result` and `node`.

mod bind;
mod detail;
mod explained;
mod feed;
mod gangs;
mod handle;
mod queue;
mod record;
mod report;
mod text;
mod timed;
mod waiting;
mod work;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::pod::Pod;
use longshore_core::client::{Bind, Client};
use longshore_core::clock::Clock;
use longshore_core::informer::Informers;
use longshore_core::leader::{Ended, LeaderConfig, LeaderElector};
use longshore_core::scheduling::TieBreak;
use tokio_util::sync::CancellationToken;

use self::handle::Seat;
use crate::{Error, Profile, SchedulerMetrics};

pub use explained::{PodExplanation, PolicyRefusal, RefusedNode, RemedyText};
pub use handle::{AskError, SchedulerHandle};
pub use record::{Decision, DecisionFilter, Verdict};

/// The target of spans and of what is logged inside them.
const TRACED: &str = "longshore::scheduler";

/// How a scheduler works.
#[derive(Debug, Clone)]
pub struct Options {
    /// The profiles, one for each scheduler name; pods of other names are left alone.
    pub profiles: Vec<Profile>,
    /// How one of several best nodes is chosen.
    pub tie_break: TieBreak,
    /// With others of the same configuration, only the one that holds this lease places pods. `None`: places pods at once,
    /// beside others if there are any; against a server with a ledger that is safe.
    pub leader: Option<LeaderConfig>,
    /// How long pods wait that found no place.
    pub backoff: Backoff,
    /// How many bindings may be under way at once.
    pub bindings: usize,
    /// How many of the last decisions are kept, to be looked up by [`SchedulerHandle::decisions`]; 0 for none.
    pub decisions: usize,
    /// What is counted and measured; `None` for nothing.
    pub metrics: Option<SchedulerMetrics>,
    /// Seed of the jitter in retries.
    pub seed: u64,
}

/// How long a pod that found no place waits before it is tried again, once something happened that may help it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first try; doubles with each.
    pub initial: Duration,
    /// The longest.
    pub max: Duration,
}

impl Default for Backoff {
    /// Upstream's: 1 s to 10 s.
    fn default() -> Self {
        Self { initial: Duration::from_secs(1), max: Duration::from_secs(10) }
    }
}

impl Default for Options {
    /// Upstream's default profile, ties broken at random with seed 0, no leader, 64 bindings at once, 1024 decisions kept, no metrics.
    fn default() -> Self {
        Self {
            profiles: vec![Profile::default_scheduler()],
            tie_break: TieBreak::default(),
            leader: None,
            backoff: Backoff::default(),
            bindings: 64,
            decisions: 1024,
            metrics: None,
            seed: 0,
        }
    }
}

/// Places the pods of a cluster.
#[derive(Debug)]
pub struct Scheduler {
    client: Arc<dyn Client>,
    clock: Arc<dyn Clock>,
    options: Options,
    seat: Arc<Seat>,
}

/// A pod that has a node, not bound yet.
#[derive(Debug, Clone)]
struct Placed {
    pod: Arc<Pod>,
    profile: Arc<Profile>,
    bind: Bind,
    /// When the try began, by the clock's `elapsed`.
    started: Duration,
    attempt: u32,
}

impl Scheduler {
    /// A scheduler that does nothing until [`Scheduler::run`].
    ///
    /// # Errors
    /// A profile lacks a policy that orders the queue or one that binds, or two profiles have one name or order the queue in
    /// different ways.
    pub fn new(client: Arc<dyn Client>, clock: Arc<dyn Clock>, options: Options) -> Result<Self, Error> {
        for (index, profile) in options.profiles.iter().enumerate() {
            profile.check_for_shell()?;
            if options.profiles[..index].iter().any(|other| other.name() == profile.name()) {
                return Err(Error::DuplicateProfile { profile: profile.name().to_owned() });
            }
            let sorts = |profile: &Profile| profile.queue_order_name().to_owned();
            let (first, other) = (sorts(&options.profiles[0]), sorts(profile));
            if first != other {
                return Err(Error::QueueOrder { profile: profile.name().to_owned(), other, first });
            }
        }
        Ok(Self { client, clock, options, seat: Arc::default() })
    }

    /// A way to ask the scheduler while it runs.
    pub fn handle(&self) -> SchedulerHandle {
        SchedulerHandle::new(self.seat.clone())
    }

    /// Places pods until cancelled; with a leader configured, whenever it leads. All it started has ended when it returns.
    pub async fn run(self, cancel: CancellationToken) {
        let informers = Informers::new(self.client.clone(), self.clock.clone(), self.options.seed);
        for kind in feed::kinds(self.options.profiles.iter()) {
            informers.of_kind(kind);
        }
        let caches = CancellationToken::new();
        let work = async {
            self.work(&informers, cancel).await;
            caches.cancel();
        };
        tokio::join!(informers.run(caches.clone()), work);
    }

    /// Places pods when it may. While another leads the caches are kept current, so that it begins at once when it is elected: what the
    /// other did last may be missing then, which costs a binding that the ledger refuses, as any news that comes late does.
    async fn work(&self, informers: &Informers, cancel: CancellationToken) {
        let Some(config) = self.options.leader.clone() else {
            return self.lead(informers, cancel, self.client.clone()).await;
        };
        let mut elector = LeaderElector::new(self.client.clone(), self.clock.clone(), config, self.options.seed);
        while !cancel.is_cancelled() {
            let ended = elector.run(cancel.clone(), |token, client| self.lead(informers, token, client)).await;
            if ended == Ended::Lost {
                tracing::warn!("the scheduler no longer leads; standing again");
            }
        }
    }

    async fn lead(&self, informers: &Informers, cancel: CancellationToken, client: Arc<dyn Client>) {
        let informers = informers.with_client(client);
        work::Loop::new(informers.clone(), self.clock.clone(), &self.options, self.seat.take()).run(cancel).await;
        informers.drop_handlers();
    }
}
