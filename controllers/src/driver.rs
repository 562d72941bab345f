//! Runs a controller: takes keys from its queue, has it decide, and carries its plans out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use longshore_core::client::params::{
    DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, Preconditions,
};
use longshore_core::client::{Client, Error, Scope, Target};
use longshore_core::clock::Clock;
use longshore_core::events::{EventRecorder, Severity};
use longshore_core::informer::{DynInformer, Informers, ObjectKey};
use longshore_core::kind::KindType;
use longshore_core::queue::{Backoff, QueueMetrics, Work, WorkQueue};
use rustc_hash::FxHashMap;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::controller::{Controller, Failure, Triggers, View};
use crate::plan::{Action, Plan, Report, Verb};

/// Shortest time after which a key is looked at again because its plan said so.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(1);
/// Longest such time: plans wait for times of day, and the clock may be set meanwhile.
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(60);

/// How a driver runs its controller.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many keys are worked on at once.
    pub workers: usize,
    /// How long a failed key waits.
    pub backoff: Backoff,
    /// How many creations or deletions of one plan run side by side at most.
    pub batch_max: usize,
}

impl Default for Settings {
    /// Five workers, as upstream's controllers have.
    fn default() -> Self {
        Self { workers: 5, backoff: Backoff::default(), batch_max: 64 }
    }
}

/// A controller with its queue.
///
/// A plan ends at its first failure; the key is tried again after its back-off, with a fresh look. If the outcome of a
/// write is unknown, or the server knew better than the cache, what is in doubt is read anew before the key is decided
/// about again, so that nothing is done twice.
#[derive(Debug)]
pub struct Driver<C: Controller> {
    controller: C,
    informers: Informers,
    clock: Arc<dyn Clock>,
    queue: WorkQueue<C::Key>,
    settings: Settings,
    recorder: EventRecorder,
    memory: Mutex<FxHashMap<C::Key, Memory>>,
}

/// What the driver keeps about a key whose last plan failed.
#[derive(Debug, Clone, Default)]
struct Memory {
    failure: Option<Failure>,
    doubts: Vec<Doubt>,
}

/// Where the cache may be wrong, because the outcome of a write is unknown or because the server knew better.
#[derive(Debug, Clone, PartialEq)]
enum Doubt {
    /// One object, which can be asked for.
    Object(&'static KindType, ObjectKey),
    /// Something of a kind: the server would have chosen its name.
    Kind(&'static KindType),
}

impl Doubt {
    /// What a failed action on this object leaves in doubt.
    fn of(failure: &Failure, object: Option<ObjectKey>) -> Option<Self> {
        let error = &failure.error;
        let knew_better = error.is_conflict() || error.is_not_found() || error.is_already_exists();
        if matches!(error, Error::Api(_)) && !knew_better {
            return None;
        }
        Some(object.map_or(Self::Kind(failure.kind), |key| Self::Object(failure.kind, key)))
    }
}

/// How carrying out an action ended, if not well.
#[derive(Debug)]
enum Stop {
    Failed(Failure, Option<Doubt>),
    /// The world is not as the view showed it: look again.
    Stale,
    /// Nothing can be done and nothing will change that.
    Moot,
}

impl<C: Controller> Driver<C> {
    /// A driver that does nothing until [`Driver::run`]. Registers the controller's triggers, so make every driver
    /// before the informers run. Whoever makes the recorder runs its writer.
    pub fn new(
        controller: C,
        informers: &Informers,
        clock: Arc<dyn Clock>,
        settings: Settings,
        metrics: &QueueMetrics,
        recorder: &EventRecorder,
    ) -> Self {
        let queue = WorkQueue::with_metrics(clock.clone(), settings.backoff, metrics, controller.name());
        controller.triggers(&Triggers::new(informers.clone(), queue.clone()));
        let recorder = recorder.speaking_for(&controller.component());
        Self { controller, informers: informers.clone(), clock, queue, settings, recorder, memory: Mutex::default() }
    }

    /// The queue of keys that wait.
    pub fn queue(&self) -> &WorkQueue<C::Key> {
        &self.queue
    }

    fn memory(&self) -> MutexGuard<'_, FxHashMap<C::Key, Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until cancelled, beginning when the informers have their first listings. A plan that is being carried out
    /// when the cancellation comes is finished.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        if cancel.run_until_cancelled(self.informers.synced()).await.is_none() {
            return;
        }
        let mut workers = JoinSet::new();
        for _ in 0..self.settings.workers.max(1) {
            let (driver, cancel) = (self.clone(), cancel.clone());
            workers.spawn(async move {
                while let Some(Some(work)) = cancel.run_until_cancelled(driver.queue.get()).await {
                    let span =
                        tracing::debug_span!("reconcile", controller = driver.controller.name(), key = ?work.key());
                    driver.process(work).instrument(span).await;
                }
            });
        }
        while let Some(ended) = workers.join_next().await {
            if let Err(error) = ended {
                tracing::error!(controller = self.controller.name(), %error, "a worker broke");
            }
        }
    }

    /// Works on one key.
    pub(crate) async fn process(&self, work: Work<C::Key>) {
        let Memory { failure, doubts } = self.memory().get(work.key()).cloned().unwrap_or_default();
        for doubt in &doubts {
            if let Err(error) = self.settle(doubt).await {
                tracing::debug!(controller = self.controller.name(), key = ?work.key(), %error, "still in doubt");
                work.failed();
                return;
            }
        }
        let view = View::new(&self.informers, failure.as_ref());
        let Plan { actions, look_again } = self.controller.reconcile(&view, work.key(), self.clock.now());
        let mut doubts = Vec::new();
        let ended = self.carry_out(actions, &mut doubts).await;
        let failure = match &ended {
            Err(Stop::Failed(failure, _)) => {
                let Failure { action, error, .. } = failure;
                tracing::debug!(controller = self.controller.name(), key = ?work.key(), %action, %error, "trying again");
                Some(failure.clone())
            }
            _ => None,
        };
        if failure.is_some() || !doubts.is_empty() {
            self.memory().insert(work.key().clone(), Memory { failure, doubts });
        } else {
            self.memory().remove(work.key());
        }
        match (ended, look_again) {
            // Whoever asks to look again at once would otherwise keep a worker for itself.
            (Ok(()), Some(delay)) => work.done_until(delay.clamp(LOOK_AGAIN_MIN, LOOK_AGAIN_MAX)),
            (Ok(()), None) | (Err(Stop::Moot), _) => work.done(),
            (Err(Stop::Stale | Stop::Failed(..)), _) => work.failed(),
        }
    }

    /// Makes the cache right where it may be wrong.
    async fn settle(&self, doubt: &Doubt) -> Result<(), Error> {
        let (kind, key) = match doubt {
            Doubt::Kind(kind) => return self.informers.of_kind(kind).refresh().await,
            Doubt::Object(kind, key) => (*kind, key),
        };
        let informer = self.informers.of_kind(kind);
        let target = Target { kind, namespace: &key.namespace, name: &key.name };
        match self.informers.client().get(target, &GetParams::default()).await {
            Ok(object) => informer.observe_write(&object),
            Err(error) if error.is_not_found() => {
                if informer.get(&key.namespace, &key.name).is_some() {
                    informer.refresh().await?;
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Carries out actions until one fails. What is in doubt then is added to `doubts`.
    async fn carry_out(&self, actions: Vec<Action>, doubts: &mut Vec<Doubt>) -> Result<(), Stop> {
        let mut actions = actions.into_iter().peekable();
        let (mut size, mut last) = (1, None);
        while let Some(first) = actions.next() {
            let sort = first.sort();
            // A batch of one finds out whether such actions work at all before many are tried.
            size = if sort.is_some() && sort == last { (size * 2).min(self.settings.batch_max) } else { 1 };
            last = sort;
            let mut batch = vec![first];
            while batch.len() < size
                && let Some(next) = actions.next_if(|next| next.sort() == sort)
            {
                batch.push(next);
            }
            let mut stop = None;
            for ended in join_all(batch.into_iter().map(|action| self.act(action))).await {
                if let Err(Stop::Failed(_, Some(doubt))) = &ended
                    && !doubts.contains(doubt)
                {
                    doubts.push(doubt.clone());
                }
                stop = stop.or(ended.err());
            }
            if let Some(stop) = stop {
                return Err(stop);
            }
        }
        Ok(())
    }

    async fn act(&self, action: Action) -> Result<(), Stop> {
        let (action, tell) = match action {
            Action::Reported { action, about, words } => (*action, Some((about, words))),
            action => (action, None),
        };
        let (text, verb, kind) = (action.to_string(), action.verb(), action.kind());
        let Some(kind) = kind else {
            if let Action::Event(note) = action {
                self.recorder.record_about(note.about, note.severity, note.reason, note.message);
            }
            return Ok(());
        };
        let (prefix, object) = (prefix(&action), action.object());
        let ended = self.write(&self.informers.of_kind(kind), action).await;
        if let Some((about, words)) = tell {
            let outcome = match &ended {
                Ok(name) => Some((name, None)),
                Err(Refused::By(error)) if !error.is_namespace_terminating() => Some((&prefix, Some(error))),
                Err(_) => None,
            };
            if let Some((name, error)) = outcome {
                let (reason, message) = words(&Report { verb, kind, name, about: &about, error });
                let severity = if error.is_some() { Severity::Warning } else { Severity::Normal };
                self.recorder.record_about(about, severity, reason, message);
            }
        }
        match ended {
            Ok(_) => Ok(()),
            Err(Refused::Stale) => Err(Stop::Stale),
            Err(Refused::By(error)) if verb == Verb::Create && error.is_namespace_terminating() => Err(Stop::Moot),
            Err(Refused::By(error)) => {
                let failure = Failure { verb, kind, action: text, error };
                let doubt = Doubt::of(&failure, object);
                Err(Stop::Failed(failure, doubt))
            }
        }
    }

    /// Carries out one action and answers with the name of the object that it was about.
    async fn write(&self, informer: &DynInformer, action: Action) -> Result<String, Refused> {
        let client: &Arc<dyn Client> = self.informers.client();
        let post = PostParams::default();
        let written = match action {
            Action::Create(object) => client.create(object, &post).await?,
            Action::Update { object, subresource } => client.update(object, subresource, &post).await?,
            Action::Patch { target, subresource, patch } => {
                let (patch, params) = (Patch::Merge(patch), PatchParams::default());
                client.patch(target.target(), subresource, &patch, &params).await?
            }
            Action::Delete { target, resource_version, propagation, grace_seconds } => {
                let preconditions = Preconditions { uid: Some(target.uid.clone()), resource_version };
                let params = DeleteParams {
                    grace_period_seconds: grace_seconds,
                    propagation_policy: propagation,
                    preconditions: Some(preconditions),
                    ..DeleteParams::default()
                };
                match client.delete(target.target(), &params).await {
                    Ok(deleted) => informer.observe_delete(&deleted),
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error.into()),
                }
                return Ok(target.key.name.into_string());
            }
            Action::ConfirmGone(target) => {
                return match client.get(target.target(), &GetParams::default()).await {
                    Ok(object) if target.uid.is_empty() || object.meta().uid.as_deref() == Some(&target.uid) => {
                        informer.observe_write(&object);
                        Err(Refused::Stale)
                    }
                    Ok(_) => Ok(String::new()),
                    Err(error) if error.is_not_found() => Ok(String::new()),
                    Err(error) => Err(error.into()),
                };
            }
            Action::ConfirmAlive(target) => {
                let found = client.get(target.target(), &GetParams::default()).await;
                match found {
                    Ok(object) => {
                        informer.observe_write(&object);
                        let meta = object.meta();
                        if meta.uid.as_deref() == Some(&target.uid) && meta.deletion_timestamp.is_none() {
                            return Ok(String::new());
                        }
                    }
                    Err(error) if error.is_not_found() => informer.refresh().await?,
                    Err(error) => return Err(error.into()),
                }
                return Err(Refused::Stale);
            }
            Action::ConfirmEmpty { kind, namespace } => {
                let params = ListParams { limit: Some(1), ..ListParams::default() };
                let scope = Scope { kind, namespace: Some(&namespace) };
                if client.list(scope, &params).await?.items.is_empty() {
                    return Ok(String::new());
                }
                informer.refresh().await?;
                return Err(Refused::Stale);
            }
            Action::ConfirmNone { kind, namespace, name, concerns } => {
                let scope = Scope { kind, namespace: Some(&namespace) };
                let found = client.list(scope, &ListParams::default()).await?.items;
                let Some(object) = found.iter().find(|object| concerns(&***object, &name)) else {
                    return Ok(String::new());
                };
                informer.observe_write(object);
                return Err(Refused::Stale);
            }
            // Neither touches an object of its own; see `act`.
            Action::Event(_) | Action::Reported { .. } => return Ok(String::new()),
        };
        informer.observe_write(&written);
        Ok(written.meta().name.clone().unwrap_or_default())
    }
}

/// Why an action had no effect.
#[derive(Debug)]
enum Refused {
    By(Error),
    Stale,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::By(error)
    }
}

/// What is known of the name of the object that an action is about.
fn prefix(action: &Action) -> String {
    match action {
        Action::Create(object) | Action::Update { object, .. } => {
            let meta = object.meta();
            meta.name.clone().or_else(|| meta.generate_name.clone()).unwrap_or_default()
        }
        Action::Patch { target, .. } | Action::Delete { target, .. } => target.key.name.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
