//! A world for tests: controllers over a server that lies, in virtual time.

mod kubelet;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use longshore_core::api::PodTemplateSpec;
use longshore_core::api::pod::Container;
use longshore_core::client::params::PostParams;
use longshore_core::client::{Api, Client, Target};
use longshore_core::clock::VirtualClock;
use longshore_core::events::events;
use longshore_core::informer::Informers;
use longshore_core::kind::{AnyObject, Kind, KindType, Subresource};
use longshore_core::queue::{Backoff, QueueMetrics};
use longshore_core::selector::LabelSelector;
use longshore_core::testing::client::FakeServer;
use tokio_util::sync::CancellationToken;

pub(crate) use self::kubelet::{Kubelet, end, set_ready};
use crate::{Controller, ControllerManager, Driver, Settings};

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
        let backoff = Backoff { max: Duration::from_secs(60), ..Backoff::default() };
        let settings = Settings { workers: 2, backoff, ..Settings::default() };
        let clock = Arc::new(self.clock.clone());
        // Nobody writes these events: the tests that want them run a manager.
        let (recorder, _) = events(self.client.clone(), clock.clone(), "", "", self.seed);
        let driver = Driver::new(controller, &informers, clock, settings, &QueueMetrics::default(), &recorder);
        (informers, Arc::new(driver))
    }

    /// Runs a controller while `test` runs; then its process dies on the spot, whatever it was doing.
    pub(crate) async fn with<C: Controller, T>(&self, controller: C, test: impl Future<Output = T>) -> T {
        let (informers, driver) = self.driver(controller);
        let cancel = CancellationToken::new();
        let test = async {
            self.sync(&informers).await;
            test.await
        };
        let process = async { tokio::join!(informers.run(cancel.clone()), driver.run(cancel.clone())) };
        tokio::select! {
            _ = process => unreachable!("nobody cancels"),
            result = test => result,
        }
    }

    /// Runs several controllers while `test` runs; then their process dies on the spot, whatever it was doing.
    pub(crate) async fn with_all<T>(
        &self,
        add: impl FnOnce(&mut ControllerManager),
        test: impl Future<Output = T>,
    ) -> T {
        let backoff = Backoff { max: Duration::from_secs(60), ..Backoff::default() };
        let settings = Settings { workers: 2, backoff, ..Settings::default() };
        let clock = Arc::new(self.clock.clone());
        let mut manager = ControllerManager::empty(self.client.clone(), clock, settings, self.seed);
        add(&mut manager);
        let informers = manager.informers().clone();
        let test = async {
            self.sync(&informers).await;
            test.await
        };
        tokio::select! {
            () = manager.run(CancellationToken::new()) => unreachable!("nobody cancels"),
            result = test => result,
        }
    }

    /// What the server really holds of a kind.
    pub(crate) fn all<K: Kind>(&self) -> Vec<K> {
        let objects = self.server.objects(KindType::of::<K>());
        objects.iter().map(|object| object.as_any().downcast_ref::<K>().unwrap().clone()).collect()
    }

    /// One object as the server really holds it.
    pub(crate) fn one<K: Kind>(&self, name: &str) -> K {
        let named = |object: &K| AnyObject::meta(object).name.as_deref() == Some(name);
        self.all::<K>().into_iter().find(named).unwrap_or_else(|| panic!("no {} {name}", K::INFO.kind))
    }

    /// Changes an object as its user would, without faults.
    pub(crate) fn edit<K: Kind>(&self, name: &str, change: impl FnOnce(&mut K)) {
        self.change(name, None, change);
    }

    /// Changes an object's status, without faults.
    pub(crate) fn report<K: Kind>(&self, name: &str, change: impl FnOnce(&mut K)) {
        self.change(name, Some(Subresource::Status), change);
    }

    fn change<K: Kind>(&self, name: &str, subresource: Option<Subresource>, change: impl FnOnce(&mut K)) {
        let namespace = if K::INFO.namespaced { "ns" } else { "" };
        self.server.modify(Target { kind: KindType::of::<K>(), namespace, name }, |object| {
            let object = object.as_any_mut().downcast_mut::<K>().unwrap();
            let old = object.clone();
            change(object);
            Kind::prepare_for_update(object, &old, subresource);
        });
    }

    /// Creates an object as its user would, with its defaults.
    pub(crate) async fn create<K: Kind>(&self, mut object: K) -> Arc<K> {
        Kind::set_defaults(&mut object);
        let api = if K::INFO.namespaced { self.api() } else { Api::all(self.client.clone()) };
        api.create(object, &PostParams::default()).await.unwrap()
    }

    /// Lets the controllers and a kubelet work until neither has anything to do; little time passes.
    pub(crate) async fn settle_with(&self, kubelet: &mut Kubelet) {
        for _ in 0..80 {
            self.yield_all().await;
            self.clock.advance(Duration::from_millis(100));
            kubelet.step(self);
        }
        self.yield_all().await;
    }

    /// Waits for the first listings; time passes only while one that failed waits before it tries again.
    async fn sync(&self, informers: &Informers) {
        let synced = informers.synced();
        tokio::pin!(synced);
        while futures::poll!(&mut synced).is_pending() {
            self.yield_all().await;
            if futures::poll!(&mut synced).is_ready() {
                return;
            }
            self.clock.advance_to_next();
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

/// A template of pods with the label `app` and one container of this image.
pub(crate) fn template(app: &str, image: &str) -> PodTemplateSpec {
    let mut template = PodTemplateSpec::default();
    template.metadata.labels = Some([("app".to_owned(), app.to_owned())].into());
    template.spec.containers = vec![Container { name: "main".into(), image: image.into(), ..Container::default() }];
    template
}

/// A selector of what the label `app` names.
pub(crate) fn selector(app: &str) -> Option<LabelSelector> {
    let match_labels = [("app".to_owned(), app.to_owned())].into();
    Some(LabelSelector { match_labels, ..LabelSelector::default() })
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
