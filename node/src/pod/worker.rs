//! The loop of one pod: look, decide, start what is to be done, wait for news.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{AbortHandle, Abortable, BoxFuture};
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use longshore_core::api::Pod;
use longshore_core::client::Error;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::act::{Context, Outcome, Problem, act};
use super::container_status::full_name;
use super::events::Events;
use super::observed::{Disk, Failure, Net, Observed, Target};
use super::plan::{Step, Why, ending, plan};
use super::status::{Facts, status};
use super::{report, resize};
use crate::probes::check::{Place, check};
use crate::probes::{Due, Probes, Time};
use crate::shared::Shared;
use crate::volumes::{self, usage};

/// Wait before a look at a runtime that did not answer.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The pod as its object has it now.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) pod: Arc<Pod>,
    /// The object is gone; `pod` is its last state.
    pub(crate) gone: bool,
}

/// Labels or annotations.
type Notes = Option<BTreeMap<String, String>>;

/// Something that was being done is done.
enum Done {
    Step(Step, Outcome),
    Probe(Box<Due>, Result<(), String>),
    /// What the pod uses of the node was measured: why that is too much, if it is.
    Measured(Option<String>),
    /// A report about this state of the pod.
    Report(Arc<Pod>, Result<Arc<Pod>, Error>),
}

/// A step being carried out.
struct Running {
    abort: AbortHandle,
    /// It starts a container.
    starts: bool,
    /// Until when it stops a container, if it does.
    stop: Option<Timestamp>,
}

pub(crate) struct Worker {
    shared: Arc<Shared>,
    facts: Facts,
    wanted: watch::Receiver<Wanted>,
    wake: Arc<Notify>,
    /// Tells when there may be room for what the pod asks for.
    freed: watch::Receiver<u64>,
    observed: Observed,
    probes: Probes,
    running: BTreeMap<Target, Running>,
    futures: FuturesUnordered<Abortable<BoxFuture<'static, Done>>>,
    /// The version that the last report was about, and replaced: the next is about a newer one, as it will be seen soon.
    replaced: Option<String>,
    /// Attempts whose back-off was reported in an event, by container.
    announced: BTreeMap<String, i32>,
    /// When volumes are refreshed, by the clock's `elapsed`.
    refresh: Option<Duration>,
    /// Labels and annotations when volumes were last looked at.
    told: Option<(Notes, Notes)>,
    /// When it is measured what the pod uses, by the clock's `elapsed`.
    measure: Option<Duration>,
    measuring: bool,
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
            freed: shared.room.freed(),
            shared,
            facts,
            wanted,
            wake,
            observed,
            probes: Probes::default(),
            running: BTreeMap::new(),
            futures: FuturesUnordered::new(),
            replaced: None,
            announced: BTreeMap::new(),
            refresh: None,
            told: None,
            measure: None,
            measuring: false,
        }
    }

    /// Works until nothing is left to do unless the pod's object changes, or until cancelled.
    pub(crate) async fn run(mut self, cancel: CancellationToken) -> Arc<Pod> {
        loop {
            let Wanted { pod, gone } = self.wanted.borrow_and_update().clone();
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            self.observed.gone = gone;
            let (shared, known) = (&self.shared, &self.observed.remembered);
            self.freed.borrow_and_update();
            let (pod, pending) = resize::grant(&pod, known, |pod| shared.room.grant(pod, &shared.allocatable));
            self.observed.pending = pending;
            match self.shared.runtime.sandbox(&uid).await {
                Ok(sandbox) => self.observed.sandbox = sandbox,
                Err(error) => {
                    tracing::warn!(pod = full_name(&pod), %error, "cannot look at the runtime");
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
            let change = if gone { None } else { report::difference(&pod.status, &status) };
            self.observed.reported = change.is_none();
            self.observed.remembered = status.clone();
            report::announce(&self.shared.recorder, &pod, &status, &mut self.announced);
            let plan = plan(&pod, &self.observed, time);
            if plan.finished && self.running.is_empty() {
                return pod;
            }
            if ending(&pod, &self.observed, time.now).is_some() {
                self.abandon_starts();
            }
            for step in plan.steps {
                self.launch(&pod, step);
            }
            if let Some(change) = change {
                self.report(&pod, change, time.elapsed);
            }
            let probe = self.probe(&pod, time.elapsed);
            let refresh = self.refresh_volumes(&pod, time.elapsed);
            let measure = self.measure_usage(&pod, time.elapsed);
            let report = self.observed.failures.get(&Target::Status).map(|failure| failure.until);
            let report = report.filter(|until| *until > time.elapsed);
            let next = [plan.wake, report, probe, refresh, measure].into_iter().flatten().min();
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
            biased;
            () = cancel.cancelled() => return None,
            done = self.futures.next(), if !self.futures.is_empty() => done,
            changed = self.wanted.changed() => {
                // Whatever kept a report from being written may be over.
                self.observed.failures.remove(&Target::Status);
                return changed.ok();
            }
            Ok(()) = self.freed.changed(), if self.observed.pending.is_some() => return Some(()),
            () = self.wake.notified() => return Some(()),
            () = pause => return Some(()),
        };
        // What was broken off has been replaced already.
        if let Some(Ok(done)) = done {
            self.take(done);
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
        }
    }

    /// Starts a step unless its target is being worked on. A stop takes the place of a start, and of a stop that would
    /// take longer.
    fn launch(&mut self, pod: &Arc<Pod>, step: Step) {
        let target = step.target();
        let stop = match &step {
            Step::Stop { deadline, container, why } => {
                if *why != Why::PodEnds {
                    self.observed.stopped.insert(container.name.clone(), container.attempt);
                }
                Some(*deadline)
            }
            _ => None,
        };
        if let Some(running) = self.running.get(&target) {
            let sooner = stop.is_some_and(|wanted| running.stop.is_none_or(|present| wanted < present));
            if !sooner {
                return;
            }
            running.abort.abort();
        }
        let starts = matches!(step, Step::Start { .. });
        let context = self.context(pod);
        let future = async move { Done::Step(step.clone(), act(context, step).await) };
        let abort = self.push(Box::pin(future));
        self.running.insert(target, Running { abort, starts, stop });
    }

    fn push(&mut self, future: BoxFuture<'static, Done>) -> AbortHandle {
        let (abort, registration) = AbortHandle::new_pair();
        self.futures.push(Abortable::new(future, registration));
        abort
    }

    /// Nobody waits for a pull once the pod is to end.
    fn abandon_starts(&mut self) {
        self.running.retain(|_, running| {
            if running.starts {
                running.abort.abort();
            }
            !running.starts
        });
    }

    fn report(&mut self, pod: &Arc<Pod>, change: Value, elapsed: Duration) {
        let waits = self.observed.failures.get(&Target::Status).is_some_and(|failure| failure.until > elapsed);
        let outdated = self.replaced.is_some() && self.replaced == pod.metadata.resource_version;
        if waits || outdated || self.running.contains_key(&Target::Status) {
            return;
        }
        let (base, write) = (pod.clone(), report::write(self.shared.clone(), pod.clone(), change));
        let abort = self.push(Box::pin(async move { Done::Report(base, write.await) }));
        self.running.insert(Target::Status, Running { abort, starts: false, stop: None });
    }

    /// Starts the probes that are due; says when the next one is.
    fn probe(&mut self, pod: &Arc<Pod>, elapsed: Duration) -> Option<Duration> {
        // Before the pod's address is known nobody can tell how it is.
        let Net::Attached(addresses) = &self.observed.net else { return None };
        let address = addresses.first().copied();
        for due in self.probes.due(pod, elapsed) {
            let place = Place::new(pod, due.container.clone(), address);
            let check = check(self.shared.clone(), place, due.probe.clone());
            self.push(Box::pin(async move { Done::Probe(Box::new(due), check.await) }));
        }
        self.probes.next_due()
    }

    fn take(&mut self, done: Done) {
        match done {
            Done::Step(step, outcome) => self.step_done(step, outcome),
            Done::Probe(due, result) => {
                let pod = self.wanted.borrow().pod.clone();
                if let Err(message) = &result {
                    let events = Events::of_container(&self.shared.recorder, &pod, &due.key.0);
                    events.warning("Unhealthy", format!("{} probe failed: {message}", due.key.1.title()));
                }
                let again = self.shared.is_real();
                self.probes.result(&due, result.is_ok(), self.shared.clock.elapsed(), again);
            }
            Done::Measured(excess) => {
                self.measuring = false;
                let pod = self.wanted.borrow().pod.clone();
                let runs = ending(&pod, &self.observed, self.shared.clock.now()).is_none();
                if let Some(message) = excess.filter(|_| runs) {
                    Events::of_pod(&self.shared.recorder, &pod).warning("Evicted", message.clone());
                    self.observed.excess = Some(message);
                }
            }
            Done::Report(base, result) => {
                self.running.remove(&Target::Status);
                let pod = self.wanted.borrow().pod.clone();
                match result {
                    Ok(written) => {
                        let (old, new) = (&base.metadata.resource_version, &written.metadata.resource_version);
                        self.replaced = old.clone().filter(|_| old != new);
                        self.observed.failures.remove(&Target::Status);
                        report::back_off_pulls(&self.shared.recorder, &pod, &mut self.observed.failures);
                    }
                    // What the report was about is known by now, so there is nothing to wait for.
                    Err(error)
                        if error.is_conflict() && pod.metadata.resource_version != base.metadata.resource_version => {}
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
                Step::RemoveVolumes { logs } => self.observed.disk = if logs { Disk::Removed } else { Disk::Emptied },
                Step::Detach => self.observed.net = Net::Detached,
                Step::DeleteObject => self.observed.deleted = true,
                _ => {}
            },
        }
        self.observed.failures.remove(&target);
    }

    fn failed(&mut self, target: Target, problem: Problem) {
        let count = self.observed.failures.get(&target).map_or(0, |failure| failure.count) + 1;
        let wait = report::wait_after(&target, problem.reason, count);
        let until = self.shared.clock.elapsed() + wait;
        let failure = Failure { until, count, reason: problem.reason.to_owned(), message: problem.message };
        self.observed.failures.insert(target, failure);
    }

    /// Reads the end of the logs that serve as termination messages, once a container.
    fn read_log_tails(&mut self, pod: &Pod) {
        if !self.shared.is_real() {
            return;
        }
        let tails = crate::http::cri::termination_messages(pod, &self.observed);
        self.observed.log_tails.extend(tails);
    }

    /// Brings the volumes of a running pod up to date when it is time; says when it is the next time.
    fn refresh_volumes(&mut self, pod: &Arc<Pod>, elapsed: Duration) -> Option<Duration> {
        if !self.shared.is_real() || !volumes::changes_in_place(pod) || self.observed.disk != Disk::Ready {
            self.refresh = None;
            return None;
        }
        // What is being written may be old already: it is looked at again when that is done.
        if self.running.contains_key(&Target::Volumes) {
            return None;
        }
        let interval = self.shared.options.volume_interval;
        let due = *self.refresh.get_or_insert(elapsed + interval);
        // A file may tell of labels and annotations.
        let told = (pod.metadata.labels.clone(), pod.metadata.annotations.clone());
        let changed = self.told.as_ref().is_some_and(|before| *before != told);
        self.told = Some(told);
        if due > elapsed && !changed {
            return Some(due);
        }
        self.refresh = Some(elapsed + interval);
        if self.observed.is_running() && pod.metadata.deletion_timestamp.is_none() {
            self.launch(pod, Step::PrepareVolumes);
        }
        self.refresh
    }
}

impl Worker {
    /// Measures what a running pod uses of the node, when it may use only so much and it is time; says when it is the next
    /// time.
    fn measure_usage(&mut self, pod: &Arc<Pod>, elapsed: Duration) -> Option<Duration> {
        let ready = self.shared.is_real() && self.observed.disk == Disk::Ready && self.observed.excess.is_none();
        if !ready || self.measuring || !usage::is_limited(pod) {
            return None;
        }
        let interval = self.shared.options.check_interval;
        let due = *self.measure.get_or_insert(elapsed + interval);
        if due > elapsed {
            return Some(due);
        }
        self.measure = None;
        self.measuring = true;
        let (shared, pod) = (self.shared.clone(), pod.clone());
        self.push(Box::pin(async move { Done::Measured(usage::excess(&shared.options, &pod).await) }));
        None
    }
}
