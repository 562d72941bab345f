//! The wire between a process and the API servers: what is asked is carried out in the server's process, if it gets there, and what is
//! answered comes back, if it does.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use longshore_apiserver::{LocalClient, Registry};
use longshore_core::api::TokenRequest;
use longshore_core::client::params::{
    DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, WatchParams,
};
use longshore_core::client::{Bind, Client, Deleted, DynList, Error, Scope, Target, WatchEvent, WatchStream};
use longshore_core::clock::Clock;
use longshore_core::kind::{AnyObject, DynObject, Subresource};
use longshore_core::leader::Fence;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use crate::fences::{Fences, Written};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many requests in a hundred are heard of a moment later rather than at once, though nothing is wrong.
const LATER_PERCENT: u32 = 20;

/// The longest such moment.
const LATER: Duration = Duration::from_millis(5);

/// Work for a server's process.
pub type Job = Box<dyn FnOnce(Arc<Registry>) -> BoxFuture<'static, ()> + Send>;

/// Where a server takes its work from; nobody is there while it does not run.
#[derive(Debug, Clone, Default)]
pub struct Port(Arc<Mutex<Option<mpsc::UnboundedSender<Job>>>>);

impl Port {
    /// A server that has just been started listens here.
    pub fn listen(&self) -> mpsc::UnboundedReceiver<Job> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *lock(&self.0) = Some(sender);
        receiver
    }

    /// The server is gone.
    pub fn close(&self) {
        *lock(&self.0) = None;
    }

    fn send(&self, job: Job) -> Result<(), &'static str> {
        let sent = lock(&self.0).as_ref().map(|sender| sender.send(job));
        sent.and_then(Result::ok).ok_or("connection refused")
    }
}

/// What is wrong with a wire.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Trouble {
    /// Nothing passes, and that is known at once.
    pub cut: bool,
    /// Nothing passes, and nobody is told.
    pub silent: bool,
    /// Of a hundred requests, how many are lost on their way.
    pub lost_requests: u32,
    /// Of a hundred answers, how many are.
    pub lost_answers: u32,
    /// Of a hundred events of watches, how many are the last of theirs.
    pub cut_watches: u32,
    /// The longest that a request, an answer or an event is on its way.
    pub latency: Duration,
}

/// The wire of one process. Clones are the same wire.
#[derive(Debug, Clone)]
pub struct Wire {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    ports: Vec<Port>,
    state: Mutex<State>,
    /// Changes when all connections break off.
    broken: watch::Sender<u64>,
    fences: Arc<Fences>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("state", &self.state).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct State {
    rng: Pcg64,
    trouble: Trouble,
    /// The port in use.
    at: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wire {
    /// A wire to servers, of which the first is used until it fails.
    pub fn new(clock: Arc<dyn Clock>, ports: Vec<Port>, fences: Arc<Fences>, seed: u64) -> Self {
        let state = State { rng: Pcg64::seed_from_u64(seed), trouble: Trouble::default(), at: 0 };
        Self {
            inner: Arc::new(Inner { clock, ports, state: Mutex::new(state), broken: watch::Sender::new(0), fences }),
        }
    }

    /// Changes what is wrong from now on. Connections break off where a wire was cut or silent.
    pub fn set(&self, trouble: Trouble) {
        let before = std::mem::replace(&mut lock(&self.inner.state).trouble, trouble);
        if trouble.cut || before.silent {
            self.inner.broken.send_modify(|times| *times += 1);
        }
    }

    /// A client over this wire, whose writes are noted as `manager`'s.
    pub fn client(&self, manager: &'static str) -> Arc<dyn Client> {
        Arc::new(Remote { wire: self.inner.clone(), manager })
    }
}

/// What is drawn for one message.
#[derive(Debug, Clone, Copy)]
enum Way {
    Arrives(Duration),
    Lost,
    Never,
    Refused,
}

impl Inner {
    /// What becomes of a message of which so many in a hundred are lost.
    fn way(&self, lost: impl Fn(&Trouble) -> u32) -> Way {
        let State { rng, trouble, .. } = &mut *lock(&self.state);
        if trouble.cut {
            return Way::Refused;
        }
        if trouble.silent {
            return Way::Never;
        }
        if lost(trouble) > rng.random_range(0..100) {
            return Way::Lost;
        }
        let longest =
            if rng.random_range(0..100) < LATER_PERCENT { trouble.latency.max(LATER) } else { trouble.latency };
        Way::Arrives(if longest.is_zero() { longest } else { longest.mul_f64(rng.random()) })
    }

    async fn pass(&self, lost: impl Fn(&Trouble) -> u32) -> Result<(), &'static str> {
        match self.way(lost) {
            Way::Arrives(after) => {
                self.clock.sleep(after).await;
                Ok(())
            }
            Way::Lost => Err("connection reset"),
            Way::Refused => Err("no route"),
            Way::Never => std::future::pending().await,
        }
    }

    /// Has a server do something. What is carried out there goes on when the caller gives up, or it does not: both occur.
    async fn call<T, F>(self: &Arc<Self>, what: &str, manager: &'static str, work: F) -> Result<T, Error>
    where
        T: Written + Send + 'static,
        F: FnOnce(LocalClient) -> BoxFuture<'static, Result<T, Error>> + Send + 'static,
    {
        let (port, goes_on) = {
            let state = &mut *lock(&self.state);
            (state.at, state.rng.random())
        };
        let attempt = async {
            self.pass(|trouble| trouble.lost_requests).await?;
            let (mut answer, answered) = oneshot::channel();
            let (fence, fences) = (Fence::current(), self.fences.clone());
            let job: Job = Box::new(move |registry| {
                let work = fences.guard(fence, work(LocalClient::new(registry, manager)));
                async move {
                    if goes_on {
                        let _ = answer.send(work.await);
                        return;
                    }
                    tokio::select! {
                        biased;
                        () = answer.closed() => {}
                        done = work => drop(answer.send(done)),
                    }
                }
                .boxed()
            });
            self.ports[port].send(job)?;
            let done = answered.await.map_err(|_| "connection broken off")?;
            self.pass(|trouble| trouble.lost_answers).await?;
            Ok(done)
        };
        let done = tokio::select! {
            biased;
            done = attempt => done,
            () = self.clock.sleep(PATIENCE) => Err("no answer in time"),
        };
        let done = done.unwrap_or_else(|reason: &str| {
            Err(Error::Unavailable { operation: what.to_owned(), reason: reason.to_owned() })
        });
        if matches!(done, Err(Error::Unavailable { .. })) {
            let mut state = lock(&self.state);
            if state.at == port {
                state.at = (port + 1) % self.ports.len();
            }
        }
        done
    }
}

/// The client that a process has.
#[derive(Debug)]
struct Remote {
    wire: Arc<Inner>,
    manager: &'static str,
}

#[async_trait]
impl Client for Remote {
    async fn get(&self, target: Target<'_>, params: &GetParams) -> Result<DynObject, Error> {
        let (place, params) = (Owned::of(target), params.clone());
        let work = |client: LocalClient| async move { client.get(place.target(), &params).await }.boxed();
        self.wire.call("get", self.manager, work).await
    }

    async fn list(&self, scope: Scope<'_>, params: &ListParams) -> Result<DynList, Error> {
        let (kind, namespace, params) = (scope.kind, scope.namespace.map(str::to_owned), params.clone());
        let work = move |client: LocalClient| {
            async move { client.list(Scope { kind, namespace: namespace.as_deref() }, &params).await }.boxed()
        };
        self.wire.call("list", self.manager, work).await
    }

    async fn watch(
        &self,
        scope: Scope<'_>,
        params: &WatchParams,
        resource_version: &str,
    ) -> Result<WatchStream, Error> {
        let (kind, namespace, params) = (scope.kind, scope.namespace.map(str::to_owned), params.clone());
        let from = resource_version.to_owned();
        let broken = self.wire.broken.subscribe();
        let port = self.wire.ports[lock(&self.wire.state).at].clone();
        let work = move |client: LocalClient| {
            async move {
                let events = client.watch(Scope { kind, namespace: namespace.as_deref() }, &params, &from).await?;
                let (sender, receiver) = mpsc::unbounded_channel();
                // Goes on in the server's process for as long as somebody listens.
                let pump: Job = Box::new(move |_| pump(events, sender).boxed());
                port.send(pump)
                    .map_err(|reason| Error::Unavailable { operation: "watch".into(), reason: reason.into() })?;
                Ok(receiver)
            }
            .boxed()
        };
        let events = self.wire.call("watch", self.manager, work).await?;
        let state = Some((self.wire.clone(), events, broken));
        Ok(futures::stream::unfold(state, |state| async {
            let (wire, mut events, mut broken) = state?;
            match wire.next_event(&mut events, &mut broken).await {
                Ok(event) => Some((event, Some((wire, events, broken)))),
                Err(reason) => {
                    let (operation, reason) = ("watch".to_owned(), reason.to_owned());
                    Some((Err(Error::Unavailable { operation, reason }), None))
                }
            }
        })
        .boxed())
    }

    async fn create(&self, object: Box<dyn AnyObject>, params: &PostParams) -> Result<DynObject, Error> {
        let params = params.clone();
        let work = move |client: LocalClient| async move { client.create(object, &params).await }.boxed();
        self.wire.call("create", self.manager, work).await
    }

    async fn update(
        &self,
        object: Box<dyn AnyObject>,
        subresource: Option<Subresource>,
        params: &PostParams,
    ) -> Result<DynObject, Error> {
        let params = params.clone();
        let work = move |client: LocalClient| async move { client.update(object, subresource, &params).await }.boxed();
        self.wire.call("update", self.manager, work).await
    }

    async fn patch(
        &self,
        target: Target<'_>,
        subresource: Option<Subresource>,
        patch: &Patch<Value>,
        params: &PatchParams,
    ) -> Result<DynObject, Error> {
        let (place, patch, params) = (Owned::of(target), patch.clone(), params.clone());
        let work = move |client: LocalClient| {
            async move { client.patch(place.target(), subresource, &patch, &params).await }.boxed()
        };
        self.wire.call("patch", self.manager, work).await
    }

    async fn delete(&self, target: Target<'_>, params: &DeleteParams) -> Result<Deleted, Error> {
        let (place, params) = (Owned::of(target), params.clone());
        let work = move |client: LocalClient| async move { client.delete(place.target(), &params).await }.boxed();
        self.wire.call("delete", self.manager, work).await
    }

    async fn bind(&self, bind: &Bind) -> Result<(), Error> {
        let bind = bind.clone();
        let work = move |client: LocalClient| async move { client.bind(&bind).await }.boxed();
        self.wire.call("bind", self.manager, work).await
    }

    async fn create_token(&self, request: &TokenRequest) -> Result<TokenRequest, Error> {
        let request = request.clone();
        let work = move |client: LocalClient| async move { client.create_token(&request).await }.boxed();
        self.wire.call("create token", self.manager, work).await
    }
}

type Events = mpsc::UnboundedReceiver<Result<WatchEvent<DynObject>, Error>>;

async fn pump(mut events: WatchStream, to: mpsc::UnboundedSender<Result<WatchEvent<DynObject>, Error>>) {
    loop {
        let event = tokio::select! {
            biased;
            () = to.closed() => return,
            event = events.next() => event,
        };
        let Some(event) = event else { return };
        if to.send(event).is_err() {
            return;
        }
    }
}

impl Inner {
    /// The next event of a watch; why there is none, where the connection broke off.
    async fn next_event(
        &self,
        events: &mut Events,
        broken: &mut watch::Receiver<u64>,
    ) -> Result<Result<WatchEvent<DynObject>, Error>, &'static str> {
        let next = async {
            let event = events.recv().await.ok_or("connection broken off")?;
            self.pass(|trouble| trouble.cut_watches).await?;
            Ok(event)
        };
        tokio::select! {
            biased;
            _ = broken.changed() => Err("connection broken off"),
            next = next => next,
        }
    }
}

/// A [`Target`] that can be sent.
struct Owned {
    kind: &'static longshore_core::kind::KindType,
    namespace: String,
    name: String,
}

impl Owned {
    fn of(target: Target<'_>) -> Self {
        Self { kind: target.kind, namespace: target.namespace.to_owned(), name: target.name.to_owned() }
    }

    fn target(&self) -> Target<'_> {
        Target { kind: self.kind, namespace: &self.namespace, name: &self.name }
    }
}
