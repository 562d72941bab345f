//! The loop of one pod: look, decide, start what is to be done, wait for news.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{AbortHandle, Abortable, Aborted, BoxFuture};
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use longshore_core::api::Pod;
use longshore_core::api::pod::PodStatus;
use longshore_core::client::Error;
use longshore_core::client::params::{Patch, PatchParams};
use longshore_core::kind::Subresource;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::act::{Context, Outcome, Problem, act};
use super::container_status::full_name;
use super::observed::{Disk, Failure, Net, Observed, Target};
use super::plan::{Step, plan};
use super::status::{Facts, status};
use crate::json_diff;
use crate::probes::check::{Place, check};
use crate::probes::{Due, Probes, Time};
use crate::shared::Shared;
use crate::volumes;

/// Wait before a look at a runtime that did not answer.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The pod as its object has it now.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) pod: Arc<Pod>,
    /// The object is gone; `pod` is its last state.
    pub(crate) gone: bool,
}

/// Something that was being done is done.
enum Done {
    Step(Step, Outcome),
    Probe(Due, Result<(), String>),
    Report(Result<Arc<Pod>, Error>),
}

/// A step being carried out.
struct Running {
    abort: AbortHandle,
    /// Until when it stops a container, if it does.
    stop: Option<Timestamp>,
}

pub(crate) struct Worker {
    shared: Arc<Shared>,
    facts: Facts,
    wanted: watch::Receiver<Wanted>,
    wake: Arc<Notify>,
    observed: Observed,
    probes: Probes,
    running: BTreeMap<Target, Running>,
    futures: FuturesUnordered<Abortable<BoxFuture<'static, Done>>>,
    /// Attempts whose back-off was reported in an event, by container.
    announced: BTreeMap<String, i32>,
    /// When volumes are refreshed, by the clock's `elapsed`.
    refresh: Option<Duration>,
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        facts: Facts,
        wanted: watch::Receiver<Wanted>,
        wake: Arc<Notify>,
        mut observed: Observed,
    ) -> Self {
        observed.remembered = wanted.borrow().pod.status.clone();
        Self {
            shared,
            facts,
            wanted,
            wake,
            observed,
            probes: Probes::default(),
            running: BTreeMap::new(),
            futures: FuturesUnordered::new(),
            announced: BTreeMap::new(),
            refresh: None,
        }
    }

    /// Works until nothing is left to do unless the pod's object changes, or until cancelled.
    pub(crate) async fn run(mut self, cancel: CancellationToken) -> Arc<Pod> {
        loop {
            let Wanted { pod, gone } = self.wanted.borrow_and_update().clone();
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            self.observed.gone = gone;
            match self.shared.sandboxes.get(uid).await {
                Ok(sandbox) => self.observed.sandbox = sandbox,
                Err(error) => {
                    tracing::warn!(pod = full_name(&pod), %error, "cannot look at the runtime");
                    self.shared.sandboxes.changed();
                    let pause = self.shared.clock.sleep(LOOK_AGAIN);
                    if cancel.run_until_cancelled(pause).await.is_none() {
                        return pod;
                    }
                    continue;
                }
            }
            let time = Time { now: self.shared.clock.now(), elapsed: self.shared.clock.elapsed() };
            self.probes.follow(&pod, &self.observed, time);
            self.observed.health = self.probes.health();
            self.read_log_tails(&pod);
            let status = status(&pod, &self.observed, &self.facts, time.now);
            // Compared as written: what is told apart in memory only, no report can ever change.
            let change = (!gone && status != pod.status)
                .then(|| json_diff::merge_patch(&json!(pod.status), &json!(status)))
                .flatten();
            self.observed.reported = change.is_none();
            self.observed.remembered = status.clone();
            self.announce(&pod, &status);
            let plan = plan(&pod, &self.observed, time.now);
            if plan.finished && self.running.is_empty() {
                return pod;
            }
            for step in plan.steps {
                self.launch(&pod, step);
            }
            if let Some(change) = change {
                self.report(&pod, change, time.now);
            }
            self.probe(&pod, time.elapsed);
            self.refresh_volumes(&pod, time.elapsed);
            let wake = plan.wake.into_iter().chain(self.observed.failures.get(&Target::Status).map(|f| f.until));
            let wake = wake.filter(|at| *at > time.now).map(|at| time.elapsed + until(time.now, at)).min();
            let next = [wake, self.probes.next_due(), self.refresh].into_iter().flatten().min();
            let pause = next.map(|at| at.saturating_sub(time.elapsed));
            if self.wait(pause, &cancel).await.is_none() {
                return pod;
            }
        }
    }

    /// Waits for news; `None` if cancelled.
    async fn wait(&mut self, pause: Option<Duration>, cancel: &CancellationToken) -> Option<()> {
        let clock = self.shared.clock.clone();
        let pause = async {
            match pause {
                Some(pause) => clock.sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        let done = tokio::select! {
            () = cancel.cancelled() => return None,
            done = self.futures.next(), if !self.futures.is_empty() => done,
            changed = self.wanted.changed() => {
                // Whatever kept a report from being written may be over.
                self.observed.failures.remove(&Target::Status);
                return changed.ok();
            }
            () = self.wake.notified() => return Some(()),
            () = pause => return Some(()),
        };
        match done {
            Some(Ok(done)) => self.take(done),
            Some(Err(Aborted)) | None => {}
        }
        Some(())
    }

    fn context(&self, pod: &Arc<Pod>) -> Context {
        let addresses = match &self.observed.net {
            Net::Attached(addresses) => addresses.clone(),
            _ => Vec::new(),
        };
        Context {
            shared: self.shared.clone(),
            pod: pod.clone(),
            addresses,
            network_namespace: self.observed.sandbox.as_ref().and_then(|sandbox| sandbox.network_namespace.clone()),
            deleted: self.observed.gone || pod.metadata.deletion_timestamp.is_some(),
        }
    }

    /// Starts a step unless its target is being worked on. A stop takes the place of a start, and of a stop that would
    /// take longer.
    fn launch(&mut self, pod: &Arc<Pod>, step: Step) {
        let target = step.target();
        let stop = match &step {
            Step::Stop { deadline, .. } => Some(*deadline),
            _ => None,
        };
        if let Some(running) = self.running.get(&target) {
            let sooner = stop.is_some_and(|wanted| running.stop.is_none_or(|present| wanted < present));
            if !sooner {
                return;
            }
            running.abort.abort();
        }
        let context = self.context(pod);
        let future = async move { Done::Step(step.clone(), act(context, step).await) };
        self.push(target, stop, Box::pin(future));
    }

    fn push(&mut self, target: Target, stop: Option<Timestamp>, future: BoxFuture<'static, Done>) {
        let (abort, registration) = AbortHandle::new_pair();
        self.futures.push(Abortable::new(future, registration));
        self.running.insert(target, Running { abort, stop });
    }

    fn report(&mut self, pod: &Arc<Pod>, change: Value, now: Timestamp) {
        let waits = self.observed.failures.get(&Target::Status).is_some_and(|failure| failure.until > now);
        if waits || self.running.contains_key(&Target::Status) {
            return;
        }
        let (shared, pod) = (self.shared.clone(), pod.clone());
        let future = async move {
            let meta = &pod.metadata;
            // The patch replaces lists, so it must be about the very state that it was made from.
            let patch = json!({
                "metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version},
                "status": change,
            });
            let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref());
            let name = name.unwrap_or_default();
            let (patch, params) = (Patch::Merge(patch), PatchParams::default());
            Done::Report(shared.pods.patch(namespace, name, Some(Subresource::Status), &patch, &params).await)
        };
        self.push(Target::Status, None, Box::pin(future));
    }

    fn probe(&mut self, pod: &Arc<Pod>, elapsed: Duration) {
        for due in self.probes.due(pod, elapsed) {
            let address = match &self.observed.net {
                Net::Attached(addresses) => addresses.first().copied(),
                _ => None,
            };
            let place = Place::new(pod, due.container.clone(), address);
            let check = check(self.shared.clone(), place, due.probe.clone());
            let future: BoxFuture<'static, Done> = Box::pin(async move { Done::Probe(due, check.await) });
            let (_, registration) = AbortHandle::new_pair();
            self.futures.push(Abortable::new(future, registration));
        }
    }

    fn take(&mut self, done: Done) {
        match done {
            Done::Step(step, outcome) => self.step_done(step, outcome),
            Done::Probe(due, result) => {
                let pod = self.wanted.borrow().pod.clone();
                if let Err(message) = &result {
                    let events = super::events::Events::of_container(&self.shared.recorder, &pod, &due.key.0);
                    events.warning("Unhealthy", format!("{} probe failed: {message}", due.key.1.title()));
                }
                let again = self.shared.is_real();
                self.probes.result(&due, result.is_ok(), self.shared.clock.elapsed(), again);
            }
            Done::Report(result) => {
                self.running.remove(&Target::Status);
                match result {
                    Ok(_) => {
                        self.observed.failures.remove(&Target::Status);
                        self.back_off_pulls();
                    }
                    Err(error) => {
                        if !error.is_conflict() && !error.is_not_found() {
                            tracing::warn!(%error, "cannot report a pod's status, trying again");
                        }
                        self.failed(Target::Status, Problem::new("", error.to_string()));
                    }
                }
            }
        }
    }

    fn step_done(&mut self, step: Step, outcome: Outcome) {
        let target = step.target();
        self.running.remove(&target);
        match outcome {
            Outcome::Failed(problem) => return self.failed(target, problem),
            Outcome::Attached(addresses) => self.observed.net = Net::Attached(addresses),
            Outcome::Done => match step {
                Step::PrepareVolumes => self.observed.disk = Disk::Ready,
                Step::RemoveVolumes => self.observed.disk = Disk::Removed,
                Step::Detach => self.observed.net = Net::Detached,
                Step::DeleteObject => self.observed.deleted = true,
                _ => {}
            },
        }
        self.observed.failures.remove(&target);
    }

    fn failed(&mut self, target: Target, problem: Problem) {
        let count = self.observed.failures.get(&target).map_or(0, |failure| failure.count) + 1;
        let (first, most) = match &target {
            Target::Container(_) if is_pull(problem.reason) => (10_000, 300_000),
            Target::Container(_) => (2_000, 60_000),
            _ => (500, 120_000),
        };
        let wait: u64 = (first << (count - 1).min(16)).min(most);
        let until = self.shared.clock.now().checked_add(Duration::from_millis(wait)).unwrap_or(Timestamp::MAX);
        let failure = Failure { until, count, reason: problem.reason.to_owned(), message: problem.message };
        self.observed.failures.insert(target, failure);
    }

    /// Once people could read that a pull failed, the container waits for the next one.
    fn back_off_pulls(&mut self) {
        let pod = self.wanted.borrow().pod.clone();
        for (target, failure) in &mut self.observed.failures {
            let (Target::Container(name), "ErrImagePull") = (target, failure.reason.as_str()) else { continue };
            let spec = pod.spec.containers.iter().chain(&pod.spec.init_containers).find(|of| of.name == *name);
            let image = spec.map_or("", |spec| spec.image.as_str());
            let message = format!("Back-off pulling image \"{image}\"");
            let events = super::events::Events::of_container(&self.shared.recorder, &pod, name);
            events.normal("BackOff", message.clone());
            events.warning("Failed", "Error: ImagePullBackOff");
            failure.message = format!("{message}: ErrImagePull: {}", failure.message);
            failure.reason = "ImagePullBackOff".to_owned();
        }
    }

    /// Tells once for each attempt that a container is held back.
    fn announce(&mut self, pod: &Pod, status: &PodStatus) {
        for found in status.container_statuses.iter().chain(&status.init_container_statuses) {
            let waits = found.state.waiting.as_ref().is_some_and(|waiting| waiting.reason == "CrashLoopBackOff");
            if waits && self.announced.insert(found.name.clone(), found.restart_count) != Some(found.restart_count) {
                let events = super::events::Events::of_container(&self.shared.recorder, pod, &found.name);
                let message = format!("Back-off restarting failed container {} in pod {}", found.name, full_name(pod));
                events.warning("BackOff", message);
            }
        }
    }

    /// Reads the end of the logs that serve as termination messages, once a container.
    fn read_log_tails(&mut self, pod: &Pod) {
        if !self.shared.is_real() {
            return;
        }
        let tails = crate::http::cri::termination_messages(pod, &self.observed);
        self.observed.log_tails.extend(tails);
    }

    fn refresh_volumes(&mut self, pod: &Arc<Pod>, elapsed: Duration) {
        if self.observed.disk != Disk::Ready || !self.shared.is_real() || !volumes::changes_in_place(pod) {
            self.refresh = None;
            return;
        }
        let interval = self.shared.options.volume_interval;
        let due = *self.refresh.get_or_insert(elapsed + interval);
        let running = self.observed.is_running() && pod.metadata.deletion_timestamp.is_none();
        if due <= elapsed {
            self.refresh = Some(elapsed + interval);
            if running {
                self.launch(pod, Step::PrepareVolumes);
            }
        }
    }
}

fn is_pull(reason: &str) -> bool {
    matches!(
        reason,
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" | "ImageInspectError"
    )
}

fn until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}
