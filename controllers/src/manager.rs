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
        let Options { settings, only, kinds, root_ca, metrics, seed, .. } = options;
        let mut manager = Self { metrics, ..Self::empty(client, clock.clone(), settings, seed) };
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
        let (recorder, writer) = events(client.clone(), clock.clone(), "", "", seed);
        let informers = Informers::new(client, clock.clone(), seed);
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
        let mut tasks = JoinSet::new();
        for (_, start) in self.drivers {
            tasks.spawn(start(cancel.clone()));
        }
        // The caches and the events outlive the controllers' last plans.
        let caches = CancellationToken::new();
        let drivers = async {
            while let Some(ended) = tasks.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a controller broke");
                }
            }
            caches.cancel();
        };
        tokio::join!(self.informers.run(caches.clone()), self.writer.run(caches.clone()), drivers);
    }
}

#[cfg(test)]
mod tests {
    use longshore_core::api::pod::RestartPolicy;
    use longshore_core::api::{
        ConfigMap, DaemonSet, Deployment, EndpointSlice, Job, Namespace, Node, Service, ServiceAccount, StatefulSet,
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
