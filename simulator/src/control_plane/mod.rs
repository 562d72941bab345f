//! A workload played through a whole control plane: the API server's registry over a store in memory, the real controllers, the real
//! scheduler, and agents of hollow nodes, in virtual time and in one thread.
//!
//! Where a [`Simulation`](crate::simulation::Simulation) models what goes on around the scheduler's engine, here nothing is modelled but
//! time and containers: pods are made by the Job and Deployment controllers, queued, bound in transactions, started by their node's agent,
//! evicted and made anew when their node is silent for too long.
//!
//! What becomes of what:
//!
//! - A node is an agent that offers what the node has. When it is lost, its agent is gone from one moment to the next and nobody is told.
//! - A batch job is a Job for each of its tasks, whose pods run for the task's duration. A service is a Deployment, deleted after its
//!   duration. A gang is a group of pods.
//! - A job that is cancelled is deleted. A node that is drained takes no more pods, and those that it has are deleted.
//! - Other objects are created as they are.

mod mirror;
mod objects;
mod parts;
mod time;

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use longshore_core::api::pod::Pod;
use longshore_core::api::{Namespace, Node};
use longshore_core::client::params::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use longshore_core::client::{Api, Client, Error as ClientError, Target, WatchEvent, WatchStream};
use longshore_core::clock::{Clock, VirtualClock};
use longshore_core::informer::ObjectKey;
use longshore_core::kind::{AnyObject, Kind, KindType};
use longshore_scheduler::Options as SchedulerOptions;
use serde_json::json;

use self::mirror::Mirror;
use self::parts::Parts;
use crate::measures::Figure;
use crate::observer::{Observer, Why};
use crate::workload::{Class, Event, Job, What};

/// In virtual time, how long nodes may take to be there before pods come that are on them already.
const PATIENCE: Duration = Duration::from_secs(60);

/// How taints begin that tell of a node's state.
const CONDITION: &str = "node.kubernetes.io/";

/// What is to run, by which seed, and until when.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    /// How the scheduler decides.
    pub scheduler: SchedulerOptions,
    /// What chance depends on.
    pub seed: u64,
    /// When it ends. Something always happens: nodes tell that they live.
    pub until: Duration,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Lived {
    /// How many events of the workload happened.
    pub events: u64,
    /// How many pods have a place.
    pub running: usize,
    /// How many pods wait for one.
    pub waiting: u64,
    /// What is known of pods' lives beyond what observers hear.
    pub figures: Vec<Figure>,
}

/// Why it cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlPlaneError {
    /// The workload cannot be had.
    #[error(transparent)]
    Workload(Box<dyn std::error::Error + Send + Sync>),
    /// An event of the workload is earlier than the one before.
    #[error("event {number} of the workload is at {at:?}, before the one before it")]
    Order {
        /// Its number, from 1.
        number: u64,
        /// When it is.
        at: Duration,
    },
    /// Something of the workload has no place in an object.
    #[error("cannot make a {kind} of what the workload says: {reason}")]
    NoObject {
        /// The kind.
        kind: &'static str,
        /// Why.
        reason: String,
    },
    /// The API server refuses something of the workload.
    #[error("cannot {verb} {what}: {source}")]
    Refused {
        /// What was tried.
        verb: &'static str,
        /// On what.
        what: String,
        /// Why not.
        source: ClientError,
    },
    /// There are more nodes than addresses for them.
    #[error("there are more than {0} nodes")]
    TooManyNodes(usize),
    /// A part could not start, or has ended.
    #[error("{part}: {reason}")]
    Part {
        /// Which.
        part: &'static str,
        /// Why.
        reason: String,
    },
}

impl ControlPlane {
    /// Plays a workload on the calling thread. The same workload and seed give the same outcome.
    ///
    /// # Errors
    /// The workload cannot be had or is out of order, the API server refuses something of it, or a part breaks.
    pub fn run<E: std::error::Error + Send + Sync + 'static>(
        &self,
        events: impl IntoIterator<Item = Result<Event, E>>,
        observer: &mut dyn Observer,
    ) -> Result<Lived, ControlPlaneError> {
        let clock = VirtualClock::new();
        let events = events.into_iter().map(|event| event.map_err(|error| ControlPlaneError::Workload(error.into())));
        let lived = time::run(clock.clone(), async {
            let parts = Parts::start(&clock, self.scheduler.clone(), self.seed).await?;
            let player = Player::start(clock.clone(), parts, Mirror::new(observer)).await?;
            player.play(events.peekable(), self.until).await
        });
        lived.map_err(|error| ControlPlaneError::Part { part: "the runtime", reason: error.to_string() })?
    }
}

/// Has what the workload says happen, and hears what comes of it.
struct Player<'o> {
    clock: VirtualClock,
    parts: Parts,
    client: Arc<dyn Client>,
    mirror: Mirror<'o>,
    nodes: WatchStream<Arc<Node>>,
    pods: WatchStream<Arc<Pod>>,
    /// Jobs of the workload by their name.
    jobs: BTreeMap<Arc<str>, Created>,
    /// When services are no longer wanted, by their numbers.
    ends: BTreeSet<(Duration, u64, Arc<str>)>,
    machines: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    arrived: u64,
}

/// What there is of a job: its number, and its objects.
struct Created {
    number: u64,
    objects: Vec<(&'static KindType, ObjectKey)>,
}

impl<'o> Player<'o> {
    async fn start(clock: VirtualClock, parts: Parts, mirror: Mirror<'o>) -> Result<Self, ControlPlaneError> {
        let client = parts.client("workload");
        let (nodes, pods) = (watch(&client).await?, watch(&client).await?);
        let (jobs, ends) = (BTreeMap::new(), BTreeSet::new());
        let (machines, namespaces) =
            (BTreeSet::new(), BTreeSet::from(["default".to_owned(), "kube-system".to_owned()]));
        Ok(Self { clock, parts, client, mirror, nodes, pods, jobs, ends, machines, namespaces, arrived: 0 })
    }

    async fn play(
        mut self,
        mut events: Peekable<impl Iterator<Item = Result<Event, ControlPlaneError>>>,
        until: Duration,
    ) -> Result<Lived, ControlPlaneError> {
        let (mut happened, mut last) = (0, Duration::ZERO);
        loop {
            let next = match events.peek() {
                Some(Ok(event)) => event.at,
                Some(Err(_)) => Duration::ZERO,
                None => Duration::MAX,
            };
            let ends = self.ends.first().map_or(Duration::MAX, |(at, ..)| *at);
            let moment = next.min(ends).min(until);
            self.hear_until(moment).await?;
            if ends <= moment {
                let Some((_, number, job)) = self.ends.pop_first() else { continue };
                if self.jobs.get(&job).is_some_and(|created| created.number == number) {
                    self.cancel(&job).await?;
                }
            } else if next <= moment {
                let Some(event) = events.next() else { continue };
                let event = event?;
                happened += 1;
                if event.at < last {
                    return Err(ControlPlaneError::Order { number: happened, at: event.at });
                }
                last = event.at;
                self.happen(event.what).await?;
            } else {
                break;
            }
        }
        let (running, waiting) = self.mirror.counts();
        Ok(Lived { events: happened, running, waiting, figures: self.mirror.figures() })
    }

    /// Hears what happens until a moment.
    async fn hear_until(&mut self, moment: Duration) -> Result<(), ControlPlaneError> {
        let clock = self.clock.clone();
        let mut come = std::pin::pin!(clock.sleep(moment.saturating_sub(clock.elapsed())));
        loop {
            tokio::select! {
                biased;
                node = self.nodes.next() => self.hear_node(node)?,
                pod = self.pods.next() => self.hear_pod(pod)?,
                error = self.parts.broken() => return Err(error),
                () = &mut come => return Ok(()),
            }
        }
    }

    fn hear_node(
        &mut self,
        event: Option<Result<WatchEvent<Arc<Node>>, ClientError>>,
    ) -> Result<(), ControlPlaneError> {
        if let WatchEvent::Added(node) | WatchEvent::Modified(node) = heard("nodes", event)? {
            self.mirror.node(self.clock.elapsed(), node);
        }
        Ok(())
    }

    fn hear_pod(&mut self, event: Option<Result<WatchEvent<Arc<Pod>>, ClientError>>) -> Result<(), ControlPlaneError> {
        let at = self.clock.elapsed();
        match heard("pods", event)? {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => self.mirror.pod(at, pod),
            WatchEvent::Deleted(pod) => self.mirror.gone(at, &ObjectKey::of(&*pod)),
            WatchEvent::Bookmark { .. } => {}
        }
        Ok(())
    }

    async fn happen(&mut self, what: What) -> Result<(), ControlPlaneError> {
        match what {
            What::Node(node) => self.node(&node).await,
            What::NodeLost(node) => {
                self.machines.remove(&*node);
                self.parts.lose_node(&node);
                self.mirror.node_goes(self.clock.elapsed(), &node, Why::NodeLost);
                Ok(())
            }
            What::Drain(node) => self.drain(&node).await,
            What::Job(job) => self.job(job).await,
            What::Cancel(job) => self.cancel(&job).await,
            What::Running { pod, node } => self.runs_already(&pod, &node).await,
            What::Object(object) => self.create(object.clone_box()).await,
        }
    }

    /// A node comes, or is other than before.
    async fn node(&mut self, node: &Node) -> Result<(), ControlPlaneError> {
        let name = node.metadata.name.clone().unwrap_or_default();
        self.mirror.node_comes(&name);
        self.machines.insert(name.clone());
        let mut bare = Node::default();
        (bare.metadata.name, bare.metadata.labels) = (Some(name.clone()), node.metadata.labels.clone());
        bare.spec.unschedulable = node.spec.unschedulable;
        // Those of the cluster's own are for its controllers to set.
        bare.spec.taints = node.spec.taints.iter().filter(|taint| !taint.key.starts_with(CONDITION)).cloned().collect();
        let api: Api<Node> = Api::all(self.client.clone());
        match api.create(bare, &PostParams::default()).await {
            Err(error) if error.is_already_exists() => self.set_unschedulable(&name, node.spec.unschedulable).await?,
            created => drop(created.map_err(refused("create", format!("node {name}")))?),
        }
        self.parts.start_node(node)
    }

    async fn set_unschedulable(&self, node: &str, unschedulable: bool) -> Result<(), ControlPlaneError> {
        let api: Api<Node> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({"spec": {"unschedulable": unschedulable}}));
        let patched = api.patch(node, &patch, &PatchParams::default()).await;
        patched.map(drop).map_err(refused("change", format!("node {node}")))
    }

    async fn drain(&mut self, node: &str) -> Result<(), ControlPlaneError> {
        self.mirror.node_goes(self.clock.elapsed(), node, Why::Drained);
        self.set_unschedulable(node, true).await?;
        let params = ListParams { field_selector: Some(format!("spec.nodeName={node}")), ..ListParams::default() };
        let pods: Api<Pod> = Api::all(self.client.clone());
        let pods = pods.list(&params).await.map_err(refused("list", format!("pods of node {node}")))?;
        for pod in pods.items {
            self.delete(KindType::of::<Pod>(), &ObjectKey::of(&*pod)).await?;
        }
        Ok(())
    }

    async fn job(&mut self, job: Job) -> Result<(), ControlPlaneError> {
        let (number, at) = (self.arrived, self.clock.elapsed());
        self.arrived += 1;
        let objects = objects::of_job(number, &job)?;
        let durations: Option<Vec<Duration>> = job.tasks.iter().map(|task| task.duration).collect();
        if let (Class::Service, Some(longest)) = (job.class, durations.and_then(|all| all.into_iter().max())) {
            self.ends.insert((at.saturating_add(longest), number, job.name.clone()));
        }
        let keys = objects.iter().filter(|object| object.kind_type().info.namespaced);
        let keys = keys.map(|object| (object.kind_type(), ObjectKey::of(&**object))).collect();
        self.jobs.insert(job.name.clone(), Created { number, objects: keys });
        self.mirror.arrive(at, number.to_string(), Arc::new(job));
        for object in objects {
            self.create(object).await?;
        }
        Ok(())
    }

    async fn cancel(&mut self, job: &Arc<str>) -> Result<(), ControlPlaneError> {
        let Some(Created { number, objects }) = self.jobs.remove(job) else { return Ok(()) };
        for (kind, key) in &objects {
            self.delete(kind, key).await?;
        }
        self.mirror.cancel(self.clock.elapsed(), &number.to_string());
        Ok(())
    }

    async fn delete(&self, kind: &'static KindType, key: &ObjectKey) -> Result<(), ControlPlaneError> {
        let target = Target { kind, namespace: &key.namespace, name: &key.name };
        match self.client.delete(target, &DeleteParams::background()).await {
            // What has ended is gone by itself.
            Err(error) if error.is_not_found() => Ok(()),
            deleted => deleted.map(drop).map_err(refused("delete", target.to_string())),
        }
    }

    async fn runs_already(&mut self, pod: &Pod, node: &str) -> Result<(), ControlPlaneError> {
        let patience = self.clock.elapsed() + PATIENCE;
        // A node's agent registers it first.
        while self.mirror.nodes() < self.machines.len() && self.clock.elapsed() < patience {
            let moment = self.clock.elapsed() + Duration::from_millis(100);
            self.hear_until(moment).await?;
        }
        let mut pod = pod.clone();
        pod.spec.node_name = node.to_owned();
        self.create(Box::new(pod)).await
    }

    /// Creates an object as if nobody had done so before, in its namespace.
    async fn create(&mut self, mut object: Box<dyn AnyObject>) -> Result<(), ControlPlaneError> {
        let kind = object.kind_type();
        if let Some(pod) = object.as_any_mut().downcast_mut::<Pod>() {
            let node = pod.spec.node_name.clone();
            let class = objects::prepare(pod);
            pod.spec.node_name = node;
            if let Some(class) = class {
                self.create_bare(Box::new(class)).await?;
            }
        }
        if kind.info.namespaced {
            let namespace = object.meta().namespace.clone().unwrap_or_default();
            if self.namespaces.insert(namespace.clone()) {
                let mut object = Namespace::default();
                object.metadata.name = Some(namespace);
                self.create_bare(Box::new(object)).await?;
            }
        }
        let meta = object.meta_mut();
        (meta.uid, meta.resource_version, meta.creation_timestamp) = (None, None, None);
        (meta.owner_references, meta.managed_fields, meta.generation) = (None, None, None);
        self.create_bare(object).await
    }

    async fn create_bare(&self, object: Box<dyn AnyObject>) -> Result<(), ControlPlaneError> {
        let key = ObjectKey::of(&*object);
        let target = Target { kind: object.kind_type(), namespace: &key.namespace, name: &key.name }.to_string();
        match self.client.create(object, &PostParams::default()).await {
            // Some are there in every cluster, such as its first service.
            Err(error) if error.is_already_exists() => Ok(()),
            created => created.map(drop).map_err(refused("create", target)),
        }
    }
}

fn refused(verb: &'static str, what: String) -> impl FnOnce(ClientError) -> ControlPlaneError {
    move |source| ControlPlaneError::Refused { verb, what, source }
}

/// All objects of a kind, from the first one on.
async fn watch<K: Kind>(client: &Arc<dyn Client>) -> Result<WatchStream<Arc<K>>, ControlPlaneError> {
    let api: Api<K> = Api::all(client.clone());
    let events = api.watch(&WatchParams::default(), "").await;
    events.map_err(refused("watch", K::INFO.plural.to_owned()))
}

/// What a watch tells, which does not end while its server lives.
fn heard<T>(of: &str, event: Option<Result<T, ClientError>>) -> Result<T, ControlPlaneError> {
    let ended = || ClientError::Unavailable { operation: format!("watch {of}"), reason: "it has ended".to_owned() };
    event.ok_or_else(ended).flatten().map_err(refused("watch", of.to_owned()))
}

#[cfg(test)]
mod tests;
