//! All controllers together.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::client::Client;
use longshore_core::clock::Clock;
use longshore_core::events::{EventRecorder, EventWriter, events};
use longshore_core::informer::Informers;
use longshore_core::kind::KindType;
use longshore_core::leader::{Ended, LeaderConfig, LeaderElector};
use longshore_core::network::Ranges;
use longshore_core::queue::QueueMetrics;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::controller::Controller;
use crate::daemon_set::DaemonSetController;
use crate::deployment::DeploymentController;
use crate::disruption::{DisruptionController, StaleDisruptionController};
use crate::driver::{Driver, Settings};
use crate::endpoints::{EndpointSliceController, EndpointsController};
use crate::ephemeral_volume::EphemeralVolumeController;
use crate::garbage_collector::GarbageCollector;
use crate::job::JobController;
use crate::namespace::NamespaceController;
use crate::node_ipam::{NodeIpamController, NodeMasks};
use crate::node_lifecycle::NodeLifecycleController;
use crate::node_lifecycle::eviction::TaintEvictionController;
use crate::pod_gc::PodCollector;
use crate::pod_group::PodGroupController;
use crate::replicas::{ReplicaSetController, ReplicationManager};
use crate::root_ca::RootCaPublisher;
use crate::service_account::ServiceAccountController;
use crate::stateful_set::StatefulSetController;
use crate::volume_binder::VolumeBinder;
use crate::volume_protection::{ClaimProtection, VolumeProtection};

/// What to run, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// How each controller is driven.
    pub settings: Settings,
    /// The names of the controllers to run, as they stand in metrics (`deployment`, `garbage_collector`, …); `None` runs all.
    pub only: Option<Vec<String>>,
    /// The kinds that the garbage collector and the namespace controller watch over.
    pub kinds: Vec<&'static KindType>,
    /// Certificates (PEM) to publish in every namespace; `None` publishes nothing.
    pub root_ca: Option<String>,
    /// How long a node may be silent before its conditions are unknown.
    pub node_monitor_grace_period: Duration,
    /// How many pods that ended are kept; 0 keeps all.
    pub terminated_pods: usize,
    /// Addresses of which every node gets a range for its pods, one of each family that there is; `None` hands out none.
    pub cluster_cidr: Option<Ranges>,
    /// Addresses of Services, which no node gets although they are in `cluster_cidr`.
    pub service_cidr: Option<Ranges>,
    /// Prefix lengths of nodes' ranges.
    pub node_cidr_masks: NodeMasks,
    /// What is counted; a manager that takes over from another in the same process goes on with the same.
    pub metrics: QueueMetrics,
    /// For the jitter of back-offs.
    pub seed: u64,
}

impl Default for Options {
    /// Every kind that an API server offers, save events, which nobody owns and which expire by themselves.
    fn default() -> Self {
        let kinds = longshore_core::api::kinds().iter().copied().filter(|kind| kind.info.kind != "Event").collect();
        Self {
            settings: Settings::default(),
            only: None,
            kinds,
            root_ca: None,
            node_monitor_grace_period: Duration::from_secs(40),
            terminated_pods: 12_500,
            cluster_cidr: None,
            service_cidr: None,
            node_cidr_masks: NodeMasks::default(),
            metrics: QueueMetrics::default(),
            seed: 0,
        }
    }
}

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A driver that was set up and waits to be run.
type Start = Box<dyn FnOnce(CancellationToken) -> Running + Send>;

/// Runs controllers over one set of caches.
pub struct ControllerManager {
    informers: Informers,
    clock: Arc<dyn Clock>,
    settings: Settings,
    metrics: QueueMetrics,
    recorder: EventRecorder,
    writer: EventWriter,
    drivers: Vec<(&'static str, Start)>,
}

impl fmt::Debug for ControllerManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.drivers.iter().map(|(name, _)| name).collect();
        f.debug_struct("ControllerManager").field("controllers", &names).finish_non_exhaustive()
    }
}

impl ControllerManager {
    /// A manager of the built-in controllers that the options name, which do nothing until [`ControllerManager::run`].
    pub fn new(client: Arc<dyn Client>, clock: Arc<dyn Clock>, options: Options) -> Self {
        Self::over(Informers::new(client, clock.clone(), options.seed), clock, options)
    }

    /// The same over caches that are there already.
    fn over(informers: Informers, clock: Arc<dyn Clock>, options: Options) -> Self {
        let Options { settings, only, kinds, root_ca, metrics, seed, .. } = options;
        let mut manager = Self { metrics, ..Self::empty_over(informers, clock.clone(), settings, seed) };
        manager.offer(&only, NamespaceController::new(&kinds));
        manager.offer(&only, GarbageCollector::new(kinds));
        manager.offer(&only, ServiceAccountController);
        manager.offer(&only, ReplicaSetController::default());
        manager.offer(&only, ReplicationManager::default());
        manager.offer(&only, DeploymentController);
        manager.offer(&only, DaemonSetController);
        manager.offer(&only, StatefulSetController);
        manager.offer(&only, JobController);
        manager.offer(&only, EndpointsController);
        manager.offer(&only, EndpointSliceController);
        manager.offer(&only, NodeLifecycleController::new(options.node_monitor_grace_period, clock.clone()));
        manager.offer(&only, TaintEvictionController);
        manager.offer(&only, PodCollector::new(options.terminated_pods));
        manager.offer(&only, PodGroupController);
        manager.offer(&only, DisruptionController);
        manager.offer(&only, StaleDisruptionController);
        manager.offer(&only, VolumeBinder);
        manager.offer(&only, ClaimProtection);
        manager.offer(&only, VolumeProtection);
        manager.offer(&only, EphemeralVolumeController);
        if let Some(cluster) = options.cluster_cidr {
            manager.offer(&only, NodeIpamController::new(cluster, options.node_cidr_masks, options.service_cidr));
        }
        if let Some(bundle) = root_ca {
            manager.offer(&only, RootCaPublisher::new(bundle));
        }
        manager
    }

    /// A manager of no controllers, to [add](ControllerManager::add) to.
    pub fn empty(client: Arc<dyn Client>, clock: Arc<dyn Clock>, settings: Settings, seed: u64) -> Self {
        Self::empty_over(Informers::new(client, clock.clone(), seed), clock, settings, seed)
    }

    fn empty_over(informers: Informers, clock: Arc<dyn Clock>, settings: Settings, seed: u64) -> Self {
        let (recorder, writer) = events(informers.client().clone(), clock.clone(), "", "", seed);
        let metrics = QueueMetrics::default();
        Self { informers, clock, settings, metrics, recorder, writer, drivers: Vec::new() }
    }

    fn offer<C: Controller>(&mut self, only: &Option<Vec<String>>, controller: C) {
        if only.as_ref().is_none_or(|names| names.iter().any(|name| name == controller.name())) {
            self.add(controller);
        }
    }

    /// Adds a controller of one's own, which shares the caches of the others.
    pub fn add<C: Controller>(&mut self, controller: C) {
        let name = controller.name();
        let (informers, clock) = (&self.informers, self.clock.clone());
        let (settings, metrics, recorder) = (self.settings.clone(), &self.metrics, &self.recorder);
        let driver = Arc::new(Driver::new(controller, informers, clock, settings, metrics, recorder));
        self.drivers.push((name, Box::new(move |cancel| Box::pin(driver.run(cancel)))));
    }

    /// The caches that the controllers share.
    pub fn informers(&self) -> &Informers {
        &self.informers
    }

    /// The metrics of the controllers' queues, to register.
    pub fn metrics(&self) -> &QueueMetrics {
        &self.metrics
    }

    /// Runs everything until cancelled; every task that it starts has ended when it returns.
    pub async fn run(self, cancel: CancellationToken) {
        let informers = self.informers.clone();
        // The caches outlive the controllers' last plans.
        let caches = CancellationToken::new();
        let work = async {
            self.work(cancel).await;
            caches.cancel();
        };
        tokio::join!(informers.run(caches.clone()), work);
    }

    /// Runs everything but the caches.
    async fn work(self, cancel: CancellationToken) {
        let mut tasks = JoinSet::new();
        for (_, start) in self.drivers {
            tasks.spawn(start(cancel.clone()));
        }
        // The events outlive the controllers' last plans.
        let events = CancellationToken::new();
        let drivers = async {
            while let Some(ended) = tasks.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a controller broke");
                }
            }
            events.cancel();
        };
        tokio::join!(self.writer.run(events.clone()), drivers);
    }

    /// Runs the built-in controllers whenever they lead, until cancelled. Their caches are kept current in between, so that they act soon
    /// after they are elected.
    pub async fn run_elected(
        client: Arc<dyn Client>,
        clock: Arc<dyn Clock>,
        options: &Options,
        leader: LeaderConfig,
        cancel: CancellationToken,
    ) {
        let informers = Informers::new(client.clone(), clock.clone(), options.seed);
        // Its controllers name the kinds and indexes that the caches are to have. They are not the ones that will act: what they are told
        // while another leads would pile up.
        drop(Self::over(informers.clone(), clock.clone(), options.clone()));
        informers.drop_handlers();
        let caches = CancellationToken::new();
        let stand = async {
            let mut elector = LeaderElector::new(client, clock.clone(), leader, options.seed);
            let lead = async |token: CancellationToken, client| {
                let informers = informers.with_client(client);
                // What another did last while it led may not have come by the watches yet, and would be done twice.
                if token.run_until_cancelled(informers.refresh()).await.is_some() {
                    Self::over(informers.clone(), clock.clone(), options.clone()).work(token).await;
                    informers.drop_handlers();
                }
            };
            while elector.run(cancel.clone(), lead).await != Ended::Cancelled {
                tracing::warn!("the controllers no longer lead; standing again");
            }
            caches.cancel();
        };
        tokio::join!(informers.run(caches.clone()), stand);
    }
}

#[cfg(test)]
mod tests {
    use longshore_core::api::pod::RestartPolicy;
    use longshore_core::api::{
        ConfigMap, DaemonSet, Deployment, EndpointSlice, Job, Lease, Namespace, Node, Pod, ReplicaSet, Service,
        ServiceAccount, StatefulSet,
    };
    use longshore_core::client::params::PostParams;

    use super::*;
    use crate::testing::{Kubelet, World, meta, selector, template};

    #[tokio::test]
    async fn runs_all_and_ends_when_told() {
        let world = World::new(1);
        let options = Options { root_ca: Some("PEM".into()), ..Options::default() };
        let manager = ControllerManager::new(world.client.clone(), Arc::new(world.clock.clone()), options);
        let cancel = CancellationToken::new();
        let test = async {
            let mut namespace = Namespace::default();
            namespace.metadata.name = Some("ns".into());
            world.client.create(Box::new(namespace), &PostParams::default()).await.unwrap();
            world.settle().await;
            assert!(world.api::<ServiceAccount>().get("default").await.is_ok());
            assert!(world.api::<ConfigMap>().get("kube-root-ca.crt").await.is_ok());
            cancel.cancel();
        };
        tokio::join!(manager.run(cancel.clone()), test);
    }

    #[tokio::test]
    async fn runs_only_what_it_is_told_to() {
        let world = World::new(3);
        let options = Options { only: Some(vec!["job".into(), "deployment".into()]), ..Options::default() };
        let manager = ControllerManager::new(world.client.clone(), Arc::new(world.clock.clone()), options);
        assert_eq!(manager.drivers.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["deployment", "job"]);
    }

    /// What the leader did last, the watches of who takes over have not told yet.
    #[tokio::test]
    async fn who_takes_over_does_nothing_that_another_did() {
        let world = World::new(4);
        let options = Options { only: Some(vec!["replicaset".into()]), ..Options::default() };
        let stand = |identity: &str| {
            let (client, clock, options) = (world.client.clone(), Arc::new(world.clock.clone()), options.clone());
            let leader = LeaderConfig::new("kube-system", "test", identity);
            async move { ControllerManager::run_elected(client, clock, &options, leader, CancellationToken::new()).await }
        };
        let mut processes = JoinSet::new();
        let first = processes.spawn(stand("first"));
        world.yield_all().await;
        processes.spawn(stand("second"));
        let mut web = ReplicaSet { metadata: meta("web"), ..ReplicaSet::default() };
        (web.spec.replicas, web.spec.selector, web.spec.template) = (Some(3), selector("web"), template("web", "a"));
        world.create(web).await;
        let pass = async |seconds| {
            for _ in 0..seconds * 2 {
                world.yield_all().await;
                world.clock.advance(Duration::from_millis(500));
            }
            world.yield_all().await;
        };
        pass(5).await;
        assert_eq!(world.all::<Pod>().len(), 3);
        world.server.set_lagging(true);
        world.edit::<ReplicaSet>("web", |web| web.spec.replicas = Some(5));
        world.server.tell(1);
        pass(1).await;
        assert_eq!(world.all::<Pod>().len(), 5);
        first.abort();
        pass(20).await;
        let lease = world.server.objects(KindType::of::<Lease>());
        let lease = lease[0].as_any().downcast_ref::<Lease>().unwrap();
        assert_eq!(lease.spec.holder_identity.as_deref(), Some("second"));
        assert_eq!(world.all::<Pod>().len(), 5);
        // And it does what is to be done.
        world.edit::<ReplicaSet>("web", |web| web.spec.replicas = Some(6));
        world.server.set_lagging(false);
        pass(2).await;
        assert_eq!(world.all::<Pod>().len(), 6);
    }

    /// All controllers at once bring a cluster to rest: when it is as wanted nobody writes any more.
    #[tokio::test]
    async fn all_together_come_to_rest() {
        let world = World::new(2);
        world.server.set_graceful(true);
        let mut kubelet = Kubelet::new(2);
        let options = Options { cluster_cidr: Some("10.244.0.0/16".parse().unwrap()), ..Options::default() };
        let manager = ControllerManager::new(world.client.clone(), Arc::new(world.clock.clone()), options);
        let cancel = CancellationToken::new();
        let test = async {
            let mut namespace = Namespace::default();
            namespace.metadata.name = Some("ns".into());
            world.client.create(Box::new(namespace), &PostParams::default()).await.unwrap();
            for name in &kubelet.nodes {
                let mut node = Node::default();
                node.metadata.name = Some(name.clone());
                world.create(node).await;
            }
            let mut web = Deployment { metadata: meta("web"), ..Deployment::default() };
            (web.spec.replicas, web.spec.selector, web.spec.template) =
                (Some(3), selector("web"), template("web", "a"));
            world.create(web).await;
            let mut db = StatefulSet { metadata: meta("db"), ..StatefulSet::default() };
            (db.spec.replicas, db.spec.selector, db.spec.template) = (Some(2), selector("db"), template("db", "a"));
            world.create(db).await;
            let mut log = DaemonSet { metadata: meta("log"), ..DaemonSet::default() };
            (log.spec.selector, log.spec.template) = (selector("log"), template("log", "a"));
            world.create(log).await;
            let mut work = Job { metadata: meta("work"), ..Job::default() };
            work.spec.template = template("work", "a");
            work.spec.template.spec.restart_policy = RestartPolicy::Never;
            world.create(work).await;
            let mut service = Service { metadata: meta("web"), ..Service::default() };
            service.spec.selector = [("app".to_owned(), "web".to_owned())].into();
            world.create(service).await;
            world.settle_with(&mut kubelet).await;

            assert_eq!(world.one::<Deployment>("web").status.available_replicas, 3);
            assert_eq!(world.one::<StatefulSet>("db").status.ready_replicas, 2);
            assert_eq!(world.one::<DaemonSet>("log").status.number_available, 3);
            assert_eq!(world.one::<Job>("work").status.succeeded, 1);
            assert_eq!(world.all::<EndpointSlice>()[0].endpoints.len(), 3);
            assert!(world.all::<Node>().iter().all(|node| node.spec.pod_cidr.starts_with("10.244.")));
            let before = world.server.writes();
            for _ in 0..20 {
                world.yield_all().await;
                world.clock.advance(Duration::from_secs(1));
            }
            assert_eq!(world.server.writes(), before, "somebody writes without need");
            cancel.cancel();
        };
        tokio::join!(manager.run(cancel.clone()), test);
    }
}
