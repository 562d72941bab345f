//! One informer a kind, shared by everyone in a process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::reflector::{DynInformer, Selection};
use super::typed::Informer;
use crate::client::Client;
use crate::clock::Clock;
use crate::kind::{Kind, KindType};

/// Between tries of [`Informers::refresh`].
const REFRESH_AGAIN: Duration = Duration::from_millis(200);

/// The informers of a process: whoever asks for a kind gets the same one. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Informers {
    client: Arc<dyn Client>,
    clock: Arc<dyn Clock>,
    seed: u64,
    kinds: Arc<Mutex<BTreeMap<(&'static str, &'static str), DynInformer>>>,
}

impl Informers {
    /// No informers yet. The seed is for the jitter of their back-off.
    pub fn new(client: Arc<dyn Client>, clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self { client, clock, seed, kinds: Arc::default() }
    }

    /// The client to write through: the one that the informers read with, unless [`Informers::with_client`] gave another.
    pub fn client(&self) -> &Arc<dyn Client> {
        &self.client
    }

    /// The same informers for somebody who writes through another client.
    #[must_use]
    pub fn with_client(&self, client: Arc<dyn Client>) -> Self {
        Self { client, ..self.clone() }
    }

    /// The informer of a kind. Ask before [`Informers::run`]: one made later does not run.
    pub fn of<K: Kind>(&self) -> Informer<K> {
        Informer::from_dyn(self.of_kind(KindType::of::<K>()))
    }

    /// The informer of a kind known only at run time.
    pub fn of_kind(&self, kind: &'static KindType) -> DynInformer {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let seed = self.seed.wrapping_add(kinds.len() as u64);
        kinds
            .entry((kind.info.group, kind.info.kind))
            .or_insert_with(|| {
                DynInformer::new(self.client.clone(), self.clock.clone(), kind, Selection::default(), seed)
            })
            .clone()
    }

    /// The informers there are.
    pub fn all(&self) -> Vec<DynInformer> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Waits until every informer has its first listing.
    pub async fn synced(&self) {
        for informer in self.all() {
            informer.synced().await;
        }
    }

    /// Reads everything anew, as often as it takes, and merges it: afterwards the caches show at least what the server had when the call
    /// began. For whoever is to go on where another left off, with caches that may be behind the other's last writes.
    pub async fn refresh(&self) {
        let refresh = async |informer: DynInformer| {
            // A kind that is not served has nothing that could be missed.
            while let Err(error) = informer.refresh().await
                && !error.is_not_found()
            {
                tracing::warn!(kind = informer.kind().info.plural, %error, "cannot list, trying again");
                self.clock.sleep(REFRESH_AGAIN).await;
            }
        };
        join_all(self.all().into_iter().map(refresh)).await;
    }

    /// Lets go of everybody who listens, while the informers may run on. Handlers often know their informer, which would keep each other
    /// alive.
    pub fn drop_handlers(&self) {
        for informer in self.all() {
            informer.drop_handlers();
        }
    }

    /// Runs the informers that there are until cancelled, each as a task of its own that this future awaits. Then their
    /// handlers are let go.
    pub async fn run(&self, cancel: CancellationToken) {
        let mut tasks = JoinSet::new();
        for informer in self.all() {
            let cancel = cancel.clone();
            tasks.spawn(async move { informer.run(cancel).await });
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "an informer's task broke");
            }
        }
        self.drop_handlers();
    }
}
