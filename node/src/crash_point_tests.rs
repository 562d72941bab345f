//! The agent is killed at each step that it takes for a pod, before the step and after it; the next agent brings the pod to
//! its end and leaves nothing behind.
//!
//! A step is a call that changes something: of the runtime, of the network, or of the API server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use longshore_core::api::pod::PodPhase;
use longshore_core::api::{Pod, TokenRequest};
use longshore_core::client::params::{
    DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, WatchParams,
};
use longshore_core::client::{Bind, Client, Deleted, DynList, Error as ClientError, Scope, Target, WatchStream};
use longshore_core::connection::Connection;
use longshore_core::kind::{AnyObject, DynObject, Subresource};
use longshore_core::network::{Attach, Attached, Error as NetworkError, Network, Peer, Policy, ServicePort};
use longshore_core::runtime::{
    Container, ContainerConfig, ContainerRef, Error, Event, ExecRequest, Images, Info, PodRef, Runtime, Sandbox,
    SandboxConfig, Session, Usage,
};
use serde_json::{Value, json};

use crate::NodeAgent;
use crate::testing::{World, pod, status};

/// Counts steps; at the last of them nothing goes on any more.
#[derive(Debug)]
struct Steps {
    taken: AtomicUsize,
    last: usize,
    /// Whether the last step is still taken, without anybody learning of it.
    taken_unseen: bool,
    died: AtomicBool,
}

impl Steps {
    async fn take<T>(&self, step: impl Future<Output = T>) -> T {
        let number = self.taken.fetch_add(1, Ordering::SeqCst) + 1;
        if number < self.last {
            return step.await;
        }
        if number == self.last && self.taken_unseen {
            step.await;
        }
        self.died.store(true, Ordering::SeqCst);
        std::future::pending().await
    }
}

#[derive(Debug, Clone)]
struct Mortal<T: ?Sized> {
    steps: Arc<Steps>,
    inner: Arc<T>,
}

#[async_trait]
impl Runtime for Mortal<dyn Runtime> {
    fn info(&self) -> Info {
        self.inner.info()
    }

    fn images(&self) -> &dyn Images {
        self.inner.images()
    }

    async fn list(&self) -> Result<Vec<Sandbox>, Error> {
        self.inner.list().await
    }

    async fn sandbox(&self, pod_uid: &str) -> Result<Option<Sandbox>, Error> {
        self.inner.sandbox(pod_uid).await
    }

    async fn events(&self) -> Result<BoxStream<'static, Event>, Error> {
        self.inner.events().await
    }

    async fn create_sandbox(&self, config: &SandboxConfig) -> Result<Sandbox, Error> {
        self.steps.take(self.inner.create_sandbox(config)).await
    }

    async fn remove_sandbox(&self, pod_uid: &str) -> Result<(), Error> {
        self.steps.take(self.inner.remove_sandbox(pod_uid)).await
    }

    async fn create_container(&self, config: &ContainerConfig) -> Result<Container, Error> {
        self.steps.take(self.inner.create_container(config)).await
    }

    async fn start_container(&self, container: &ContainerRef) -> Result<(), Error> {
        self.steps.take(self.inner.start_container(container)).await
    }

    async fn stop_container(&self, container: &ContainerRef, grace: Duration) -> Result<(), Error> {
        self.steps.take(self.inner.stop_container(container, grace)).await
    }

    async fn remove_container(&self, container: &ContainerRef) -> Result<(), Error> {
        self.steps.take(self.inner.remove_container(container)).await
    }

    async fn exec(&self, container: &ContainerRef, request: &ExecRequest) -> Result<Session, Error> {
        self.inner.exec(container, request).await
    }

    async fn attach(&self, container: &ContainerRef, stdin: bool) -> Result<Session, Error> {
        self.inner.attach(container, stdin).await
    }

    async fn connect(&self, pod_uid: &str, port: u16) -> Result<Box<dyn Connection>, Error> {
        self.inner.connect(pod_uid, port).await
    }

    async fn usage(&self, container: &ContainerRef) -> Result<Usage, Error> {
        self.inner.usage(container).await
    }
}

#[async_trait]
impl Network for Mortal<dyn Network> {
    async fn attach(&self, request: &Attach) -> Result<Attached, NetworkError> {
        self.steps.take(self.inner.attach(request)).await
    }

    async fn detach(&self, pod: &PodRef) -> Result<(), NetworkError> {
        self.steps.take(self.inner.detach(pod)).await
    }

    async fn attached(&self) -> Result<Vec<Attached>, NetworkError> {
        self.inner.attached().await
    }

    async fn set_services(&self, services: &[ServicePort]) -> Result<(), NetworkError> {
        self.inner.set_services(services).await
    }

    async fn set_policies(&self, policies: &[Policy]) -> Result<(), NetworkError> {
        self.inner.set_policies(policies).await
    }

    async fn set_peers(&self, peers: &[Peer]) -> Result<(), NetworkError> {
        self.inner.set_peers(peers).await
    }

    async fn repair(&self) -> Result<(), NetworkError> {
        self.inner.repair().await
    }

    async fn clean_up(&self) -> Result<(), NetworkError> {
        self.inner.clean_up().await
    }
}

#[async_trait]
impl Client for Mortal<dyn Client> {
    async fn get(&self, target: Target<'_>, params: &GetParams) -> Result<DynObject, ClientError> {
        self.inner.get(target, params).await
    }

    async fn list(&self, scope: Scope<'_>, params: &ListParams) -> Result<DynList, ClientError> {
        self.inner.list(scope, params).await
    }

    async fn watch(
        &self,
        scope: Scope<'_>,
        params: &WatchParams,
        resource_version: &str,
    ) -> Result<WatchStream, ClientError> {
        self.inner.watch(scope, params, resource_version).await
    }

    async fn create(&self, object: Box<dyn AnyObject>, params: &PostParams) -> Result<DynObject, ClientError> {
        self.steps.take(self.inner.create(object, params)).await
    }

    async fn update(
        &self,
        object: Box<dyn AnyObject>,
        subresource: Option<Subresource>,
        params: &PostParams,
    ) -> Result<DynObject, ClientError> {
        self.steps.take(self.inner.update(object, subresource, params)).await
    }

    async fn patch(
        &self,
        target: Target<'_>,
        subresource: Option<Subresource>,
        patch: &Patch<Value>,
        params: &PatchParams,
    ) -> Result<DynObject, ClientError> {
        self.steps.take(self.inner.patch(target, subresource, patch, params)).await
    }

    async fn delete(&self, target: Target<'_>, params: &DeleteParams) -> Result<Deleted, ClientError> {
        self.steps.take(self.inner.delete(target, params)).await
    }

    async fn bind(&self, bind: &Bind) -> Result<(), ClientError> {
        self.steps.take(self.inner.bind(bind)).await
    }

    async fn create_token(&self, request: &TokenRequest) -> Result<TokenRequest, ClientError> {
        self.steps.take(self.inner.create_token(request)).await
    }
}

/// An agent that dies with its steps.
fn mortal(world: &World, steps: &Arc<Steps>) -> NodeAgent {
    let steps = steps.clone();
    let runtime: Mortal<dyn Runtime> = Mortal { steps: steps.clone(), inner: world.runtime.clone() };
    let network: Mortal<dyn Network> = Mortal { steps: steps.clone(), inner: world.network.clone() };
    let client: Mortal<dyn Client> = Mortal { steps, inner: world.client() };
    let clock = Arc::new(world.clock.clone());
    NodeAgent::new(Arc::new(client), Arc::new(runtime), Arc::new(network), clock, world.options.clone())
}

/// Brings the pod from wherever it is to its end, and away.
async fn live(world: &World, died: impl Fn() -> bool, crash: &str) -> Option<Pod> {
    let ended = || world.pod("a").filter(|pod| pod.status.phase == PodPhase::Succeeded);
    let is_over = || died() || world.pod("a").is_none() || ended().is_some();
    world.until(&format!("it ends, {crash}"), || is_over().then_some(())).await;
    let last = ended().filter(|_| !died())?;
    if last.metadata.deletion_timestamp.is_none() {
        world.delete("a", 5);
    }
    world.until(&format!("it goes, {crash}"), || (died() || world.pod("a").is_none()).then_some(())).await;
    let clean = || {
        let detached = world.network.pods.lock().unwrap().is_empty();
        (died() || detached).then_some(())
    };
    world.until(&format!("all of it goes, {crash}"), clean).await;
    Some(last)
}

#[tokio::test]
async fn an_agent_killed_before_or_after_any_step_leaves_a_pod_that_ends_as_it_should() {
    let spec = json!({
        "restartPolicy": "OnFailure",
        "initContainers": [
            {"name": "side", "image": "web", "restartPolicy": "Always"},
            {"name": "init", "image": "web", "command": ["true"]},
        ],
        "containers": [
            {"name": "main", "image": "web", "command": ["sleep", "1"]},
            {"name": "other", "image": "web", "command": ["sleep", "2"]},
        ],
    });
    let mut crashes = 0;
    for last in 1.. {
        let mut anybody_died = false;
        for taken_unseen in [false, true] {
            let world = World::new();
            world.create(pod("a", spec.clone())).await;
            let (taken, died) = (AtomicUsize::default(), AtomicBool::default());
            let steps = Arc::new(Steps { taken, last, taken_unseen, died });
            let has_died = || steps.died.load(Ordering::SeqCst);
            let crash = format!("killed {} step {last}", if taken_unseen { "after" } else { "before" });
            let mut end = world.with_agent(mortal(&world, &steps), live(&world, has_died, &crash)).await;
            if has_died() {
                anybody_died = true;
                crashes += 1;
                end = world.with(live(&world, || false, &crash)).await.or(end);
            }
            // A step after the pod's last report kills an agent that has nothing to say any more.
            for name in ["main", "other", "init"] {
                let restarts = end.as_ref().map(|pod| status(pod, name).restart_count);
                assert!(restarts.is_none_or(|count| count == 0), "{name} ran again, {crash}");
            }
            assert!(world.pod("a").is_none(), "{crash}");
            assert_eq!(world.runtime.list().await.unwrap(), [], "{crash}");
            assert!(world.network.pods.lock().unwrap().is_empty(), "{crash}");
        }
        if !anybody_died {
            break;
        }
    }
    println!("{crashes} crash points");
    assert!(crashes >= 40, "only {crashes} crash points: does the test still see the steps?");
}
