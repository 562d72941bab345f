//! All pods of the node: one worker each, started when the pod is bound here and woken by what concerns it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use longshore_core::api::Pod;
use longshore_core::api::pod::helpers::is_terminal;
use longshore_core::devices::ANNOTATION;
use longshore_core::informer::Change;
use longshore_core::runtime::{Event, Sandbox};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admission;
use crate::orphans;
use crate::pod::events::Events;
use crate::pod::observed::{Net, Observed, Refusal};
use crate::pod::status::Facts;
use crate::pod::worker::{Wanted, Worker};
use crate::register::Reporter;
use crate::shared::Shared;
use crate::sysctls;

/// Wait before asking a part again that did not answer.
const RETRY: Duration = Duration::from_secs(1);
/// Time between looks at real containers that no event announced: events are hints.
const RELIST: Duration = Duration::from_secs(30);

struct Handle {
    wanted: watch::Sender<Wanted>,
    wake: Arc<Notify>,
}

/// Runs the node's pods until cancelled.
pub(crate) async fn run(shared: &Arc<Shared>, reporter: &Reporter, cancel: &CancellationToken) {
    let mut pods = Pods {
        shared: shared.clone(),
        facts: Facts {
            scheme: shared.info.name.clone(),
            host_ips: shared.options.addresses.iter().map(ToString::to_string).collect(),
        },
        handles: BTreeMap::new(),
        workers: JoinSet::new(),
        orphans: JoinSet::new(),
        stop: CancellationToken::new(),
    };
    cancel.run_until_cancelled(pods.work(reporter)).await;
    // Workers are told to leave, not torn down: what they had begun is safe to be dropped all the same.
    pods.stop.cancel();
    while pods.workers.join_next().await.is_some() {}
    pods.orphans.shutdown().await;
}

struct Pods {
    shared: Arc<Shared>,
    facts: Facts,
    /// By uid.
    handles: BTreeMap<String, Handle>,
    workers: JoinSet<Arc<Pod>>,
    orphans: JoinSet<()>,
    stop: CancellationToken,
}

impl Pods {
    async fn work(&mut self, reporter: &Reporter) {
        let mut changes = self.shared.pods.changes();
        self.shared.pods.synced().await;
        // Listening begins before the first look, so that nothing falls in between.
        let mut events = self.events().await;
        let sandboxes = self.sandboxes().await;
        let attached = self.attached().await;
        let mut first = Vec::new();
        while let Some(change) = changes.try_next() {
            first.extend(change.current().map(|pod| self.taken(pod)));
        }
        let has_sandbox = |pod: &Arc<Pod>| sandboxes.iter().any(|sandbox| sandbox.pod.uid == uid(pod));
        // What runs already keeps its place; then first come, first served.
        first.sort_by_cached_key(|pod| {
            (!has_sandbox(pod), pod.metadata.creation_timestamp.clone(), pod.metadata.name.clone())
        });
        self.remove_orphans(&first, &sandboxes, &attached);
        for pod in first {
            let known = has_sandbox(&pod);
            let sandbox = sandboxes.iter().find(|sandbox| sandbox.pod.uid == uid(&pod));
            if (known || pod.status.start_time.is_some()) && !is_terminal(&pod) {
                self.shared.devices.recover(&pod, sandbox.and_then(|sandbox| sandbox.annotations.get(ANNOTATION)));
            }
            let net = if known || attached.contains_key(uid(&pod)) { Net::Unknown } else { Net::Detached };
            self.begin(reporter, pod, known, net).await;
        }
        let relist = if self.shared.is_real() { RELIST } else { Duration::MAX };
        loop {
            tokio::select! {
                biased;
                change = changes.next() => self.change(reporter, change).await,
                event = events.next() => match event {
                    Some(event) => self.event(&event),
                    None => {
                        events = self.events().await;
                        self.event(&Event::Resync);
                    }
                },
                Some(ended) = self.workers.join_next() => self.ended(reporter, ended).await,
                Some(_) = self.orphans.join_next() => {}
                () = pause(&self.shared, relist) => self.event(&Event::Resync),
            }
        }
    }

    async fn events(&self) -> BoxStream<'static, Event> {
        loop {
            match self.shared.runtime.events().await {
                Ok(events) => return events,
                Err(error) => tracing::warn!(%error, "cannot listen to the runtime, trying again"),
            }
            self.shared.clock.sleep(RETRY).await;
        }
    }

    async fn sandboxes(&self) -> Vec<Sandbox> {
        loop {
            match self.shared.runtime.list().await {
                Ok(sandboxes) => return sandboxes,
                Err(error) => tracing::warn!(%error, "cannot list what the runtime has, trying again"),
            }
            self.shared.clock.sleep(RETRY).await;
        }
    }

    /// Uids of the pods that the network knows.
    async fn attached(&self) -> orphans::Attached {
        loop {
            match self.shared.network.attached().await {
                Ok(attached) => return attached.into_iter().map(|found| (found.pod.uid.clone(), found.pod)).collect(),
                Err(error) => tracing::warn!(%error, "cannot list what the network has, trying again"),
            }
            self.shared.clock.sleep(RETRY).await;
        }
    }

    fn remove_orphans(&mut self, pods: &[Arc<Pod>], sandboxes: &[Sandbox], attached: &orphans::Attached) {
        let wanted = |id: &str| pods.iter().any(|pod| uid(pod) == id);
        for sandbox in sandboxes.iter().filter(|sandbox| !wanted(&sandbox.pod.uid)) {
            self.orphans.spawn(orphans::remove(self.shared.clone(), sandbox.clone(), self.stop.clone()));
        }
        let lost = attached.iter().filter(|(id, _)| !wanted(id) && sandboxes.iter().all(|of| of.pod.uid != **id));
        for (_, pod) in lost {
            self.orphans.spawn(orphans::detach(self.shared.clone(), pod.clone(), self.stop.clone()));
        }
        if self.shared.is_real() {
            let keep = pods.iter().map(|pod| uid(pod).to_owned());
            let keep = keep.chain(sandboxes.iter().map(|sandbox| sandbox.pod.uid.clone())).collect();
            self.orphans.spawn(orphans::remove_directories(self.shared.clone(), keep));
        }
    }

    async fn change(&mut self, reporter: &Reporter, change: Change<Arc<Pod>>) {
        match change.current() {
            Some(pod) => match self.handles.get(uid(pod)) {
                Some(handle) => {
                    handle.wanted.send_replace(Wanted { pod: self.taken(pod), gone: false });
                    if is_terminal(pod) {
                        // Nothing of it runs any more: what it took is free for the next.
                        self.release(uid(pod));
                    }
                }
                None => self.begin(reporter, self.taken(pod), false, Net::Detached).await,
            },
            // One that had ended goes without a word before; its logs are still there.
            None if !self.handles.contains_key(uid(change.object())) => {
                if self.shared.is_real() {
                    self.work_on(
                        self.taken(change.object()),
                        true,
                        Observed { net: Net::Detached, ..Observed::default() },
                    );
                }
            }
            None => {
                let last = self.taken(change.object());
                self.release(uid(&last));
                if let Some(handle) = self.handles.get(uid(&last)) {
                    handle.wanted.send_replace(Wanted { pod: last, gone: true });
                }
            }
        }
    }

    /// A pod as this node takes it.
    fn taken(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        if !self.shared.options.host_network || pod.spec.host_network {
            return pod.clone();
        }
        let mut pod = (**pod).clone();
        pod.spec.host_network = true;
        Arc::new(pod)
    }

    /// Starts a worker. A pod that the node has not taken before must fit.
    async fn begin(&mut self, reporter: &Reporter, pod: Arc<Pod>, known: bool, net: Net) {
        let mut refusal = None;
        if !is_terminal(&pod) {
            let new = !known && pod.status.start_time.is_none() && pod.metadata.deletion_timestamp.is_none();
            if new {
                refusal = self.refuse(reporter, &pod).await;
            }
            if !new {
                self.shared.room.keep(&pod);
            }
        }
        self.work_on(pod, false, Observed { net, refusal, ..Observed::default() });
    }

    fn work_on(&mut self, pod: Arc<Pod>, gone: bool, observed: Observed) {
        let id = uid(&pod).to_owned();
        let (sender, receiver) = watch::channel(Wanted { pod, gone });
        let wake = Arc::new(Notify::new());
        let worker = Worker::new(self.shared.clone(), self.facts.clone(), receiver, wake.clone(), observed);
        self.workers.spawn(worker.run(self.stop.clone()));
        self.handles.insert(id, Handle { wanted: sender, wake });
    }

    async fn refuse(&mut self, reporter: &Reporter, pod: &Arc<Pod>) -> Option<Refusal> {
        let refusal = self.admit(reporter, pod).await.err()?;
        self.release(uid(pod));
        let events = Events::of_pod(&self.shared.recorder, pod);
        events.warning(&refusal.reason, refusal.message.clone());
        Some(refusal)
    }

    /// Takes a pod in and gives it devices, or says why not.
    async fn admit(&self, reporter: &Reporter, pod: &Arc<Pod>) -> Result<(), Refusal> {
        let shared = &self.shared;
        sysctls::admit(pod, &shared.options.allowed_unsafe_sysctls)?;
        let tell = shared.devices.assign(pod)?;
        let node = admission::node(shared, reporter, pod).await;
        shared.room.admit(pod, node.as_deref(), &shared.offer().1)?;
        if let Some(note) = shared.devices.note(uid(pod)).filter(|_| tell) {
            admission::tell_devices(shared, pod, &note).await?;
        }
        Ok(())
    }

    /// What the pod took is free.
    fn release(&self, uid: &str) {
        self.shared.room.release(uid);
        self.shared.devices.release(uid);
    }

    fn event(&self, event: &Event) {
        let uid = match event {
            Event::Container(container) => &container.pod_uid,
            Event::Sandbox { pod_uid } => pod_uid,
            Event::Resync => {
                for handle in self.handles.values() {
                    handle.wake.notify_one();
                }
                return;
            }
        };
        if let Some(handle) = self.handles.get(uid) {
            handle.wake.notify_one();
        }
    }

    /// A worker left because nothing was to be done; its pod may have changed since.
    async fn ended(&mut self, reporter: &Reporter, ended: Result<Arc<Pod>, tokio::task::JoinError>) {
        let seen = match ended {
            Ok(pod) => pod,
            Err(error) => {
                tracing::error!(%error, "a pod's worker broke; its pod is taken up again when it changes");
                self.handles.retain(|_, handle| !handle.wanted.is_closed());
                return;
            }
        };
        let Some(handle) = self.handles.remove(uid(&seen)) else { return };
        self.release(uid(&seen));
        let now = handle.wanted.borrow().clone();
        if !now.gone && now.pod.metadata.resource_version != seen.metadata.resource_version {
            self.begin(reporter, now.pod, true, Net::Detached).await;
        }
    }
}

async fn pause(shared: &Shared, duration: Duration) {
    if duration == Duration::MAX { std::future::pending().await } else { shared.clock.sleep(duration).await }
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}
