//! A world for tests: controllers over a server that lies, in virtual time.

use std::future::Future;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use longshore_core::client::{Api, Client};
use longshore_core::clock::VirtualClock;
use longshore_core::informer::Informers;
use longshore_core::kind::{AnyObject, Kind};
use longshore_core::queue::{Backoff, QueueMetrics};
use longshore_core::testing::client::FakeServer;
use tokio_util::sync::CancellationToken;

use crate::{Controller, Driver, Settings};

pub(crate) struct World {
    pub(crate) clock: VirtualClock,
    pub(crate) server: FakeServer,
    pub(crate) client: Arc<dyn Client>,
    pub(crate) seed: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let clock = VirtualClock::new();
        let server = FakeServer::new(Arc::new(clock.clone()), seed);
        Self { client: Arc::new(server.clone()), clock, server, seed }
    }

    pub(crate) fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), "ns")
    }

    /// A life of a controller's process: its caches and its driver.
    pub(crate) fn driver<C: Controller>(&self, controller: C) -> (Informers, Arc<Driver<C>>) {
        let informers = Informers::new(self.client.clone(), Arc::new(self.clock.clone()), self.seed);
        let backoff = Backoff { max: std::time::Duration::from_secs(60), ..Backoff::default() };
        let settings = Settings { workers: 2, backoff, ..Settings::default() };
        let clock = Arc::new(self.clock.clone());
        let driver = Driver::new(controller, &informers, clock, settings, &QueueMetrics::default());
        (informers, Arc::new(driver))
    }

    /// Runs a controller while `test` runs; then its process dies on the spot, whatever it was doing.
    pub(crate) async fn with<C: Controller, T>(&self, controller: C, test: impl Future<Output = T>) -> T {
        let (informers, driver) = self.driver(controller);
        let cancel = CancellationToken::new();
        let test = async {
            let synced = informers.synced();
            tokio::pin!(synced);
            // Listing may fail and wait before it tries again.
            while futures::poll!(&mut synced).is_pending() {
                self.yield_all().await;
                self.clock.advance_to_next();
            }
            test.await
        };
        let process = async { tokio::join!(informers.run(cancel.clone()), driver.run(cancel.clone())) };
        tokio::select! {
            _ = process => unreachable!("nobody cancels"),
            result = test => result,
        }
    }

    /// Lets everything happen that can happen without time passing.
    pub(crate) async fn yield_all(&self) {
        for _ in 0..60 {
            tokio::task::yield_now().await;
        }
    }

    /// Lets everything happen; time passes only while nothing else can.
    pub(crate) async fn settle(&self) {
        for _ in 0..60 {
            self.yield_all().await;
            if self.clock.advance_to_next().is_none() {
                break;
            }
        }
        self.yield_all().await;
    }
}

pub(crate) fn meta(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.into()), namespace: Some("ns".into()), ..ObjectMeta::default() }
}

/// A reference that blocks its owner's deletion.
pub(crate) fn owned_by(owner: &dyn AnyObject) -> OwnerReference {
    OwnerReference {
        api_version: owner.kind_type().info.api_version(),
        kind: owner.kind_type().info.kind.to_owned(),
        name: owner.meta().name.clone().unwrap(),
        uid: owner.meta().uid.clone().unwrap(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
