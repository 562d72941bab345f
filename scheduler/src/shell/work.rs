//! The loop: takes in news, tries the next pod, binds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexSet;
use longshore_core::api::pod::Pod;
use longshore_core::api::{Namespace, Node};
use longshore_core::client::{Bind, Client};
use longshore_core::clock::Clock;
use longshore_core::events::{EventRecorder, EventWriter, Severity, events};
use longshore_core::informer::{Informers, ObjectKey};
use longshore_core::scheduling::{ClusterEvent, Cycle, Nomination, Permitted, Refusal, Waiting};
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::bind::{Ended, Outcome, bind};
use super::feed::Feed;
use super::handle::Question;
use super::queue::{Failure, Queue, Try};
use super::record::{Decision, Record, Verdict};
use super::report::{Errand, short};
use super::timed::Meter;
use super::waiting::Room;
use super::{Options, Placed, TRACED};
use crate::engine::{Diagnosis, Engine, Placement, Unplaced};
use crate::metrics::{Ending, SchedulerMetrics};
use crate::{DEFAULT_SCHEDULER_NAME, Profile};

/// Pods tried before the loop looks at news again, so that neither starves the other.
const TRIES: usize = 32;
/// Longest wait for the first listing of kinds that only some policies read.
const OTHERS_MAX: Duration = Duration::from_secs(10);
/// Conditions and evictions that may wait to be written; then pods are tried no faster than these are.
const ERRANDS_MAX: usize = 256;

pub(super) struct Loop {
    client: Arc<dyn Client>,
    pub(super) clock: Arc<dyn Clock>,
    informers: Informers,
    pub(super) feed: Feed,
    pub(super) engine: Engine,
    pub(super) queue: Queue,
    /// Pods that were given a node and are not known to be bound, with their uid.
    pub(super) assumed: FxHashMap<ObjectKey, Option<String>>,
    pub(super) waiting: Room,
    pub(super) record: Record,
    questions: mpsc::Receiver<Question>,
    metrics: Option<SchedulerMetrics>,
    meters: Vec<Arc<Meter>>,
    bindings_max: usize,
    bindings: JoinSet<Ended>,
    errands: JoinSet<()>,
    recorder: EventRecorder,
    writer: Option<EventWriter>,
}

/// The span of a try; what came of it is recorded later.
fn span_of(next: &Try) -> tracing::Span {
    tracing::debug_span!(
        target: TRACED,
        "scheduling",
        namespace = &*next.key.namespace,
        name = &*next.key.name,
        profile = next.profile.name(),
        attempt = next.attempt,
        result = tracing::field::Empty,
        node = tracing::field::Empty,
    )
}

impl Loop {
    /// A loop over informers that somebody runs; it writes through their client.
    pub(super) fn new(
        informers: Informers,
        clock: Arc<dyn Clock>,
        options: &Options,
        questions: mpsc::Receiver<Question>,
    ) -> Self {
        let client = informers.client().clone();
        let mut profiles = options.profiles.clone();
        let mut meters = Vec::new();
        if let Some(metrics) = &options.metrics {
            let measured = profiles.iter().map(|profile| Meter::around(profile, metrics, &clock));
            (profiles, meters) = measured.unzip();
        }
        let engine = Engine::with_profiles(profiles, options.tie_break);
        let engine = engine.expect("the scheduler's constructor refused profiles of the same name");
        let feed = Feed::new(&informers, engine.profiles());
        let component = options.profiles.first().map_or(DEFAULT_SCHEDULER_NAME, Profile::name);
        let (recorder, writer) = events(client.clone(), clock.clone(), component, "", options.seed);
        Self {
            client,
            clock,
            informers,
            feed,
            engine,
            queue: Queue::new(options.backoff, options.metrics.clone()),
            assumed: FxHashMap::default(),
            waiting: Room::default(),
            record: Record::new(options.decisions),
            questions,
            metrics: options.metrics.clone(),
            meters,
            bindings_max: options.bindings.max(1),
            bindings: JoinSet::new(),
            errands: JoinSet::new(),
            recorder,
            writer: Some(writer),
        }
    }

    pub(super) async fn run(mut self, cancel: CancellationToken) {
        let helpers = cancel.child_token();
        let mut tasks = JoinSet::new();
        if let Some(writer) = self.writer.take() {
            tasks.spawn(writer.run(helpers.clone()));
        }
        if cancel.run_until_cancelled(self.synced()).await.is_some() {
            cancel.run_until_cancelled(self.work()).await;
        }
        // What became of bindings that were under way, whoever schedules next learns from the watch.
        helpers.cancel();
        self.bindings.shutdown().await;
        self.errands.shutdown().await;
        while tasks.join_next().await.is_some() {}
    }

    /// Waits until what placing needs is known. A server that does not serve some kind that a policy would like to see must
    /// not keep pods from being placed for ever.
    async fn synced(&self) {
        self.informers.of::<Pod>().synced().await;
        self.informers.of::<Node>().synced().await;
        self.informers.of::<Namespace>().synced().await;
        let others = async {
            for informer in self.informers.all() {
                informer.answered().await;
            }
        };
        tokio::select! {
            biased;
            () = others => {}
            () = self.clock.sleep(OTHERS_MAX) => {}
        }
        let late = self.informers.all().into_iter().filter(|informer| !informer.has_synced());
        let kinds: Vec<&str> = late.map(|informer| informer.kind().info.kind).collect();
        if !kinds.is_empty() {
            tracing::warn!(?kinds, "cannot list these objects; placing pods without regard to them");
        }
    }

    async fn work(&mut self) {
        loop {
            self.take_in();
            self.time_passed();
            let mut tried = 0;
            while tried < TRIES && self.bindings.len() < self.bindings_max && self.errands.len() < ERRANDS_MAX {
                let Some(next) = self.queue.pop() else { break };
                self.try_pod(next);
                tried += 1;
            }
            self.settle();
            if let Some(metrics) = &self.metrics {
                self.queue.depths().into_iter().for_each(|(queue, pods)| metrics.pending(queue, pods));
            }
            if tried == TRIES {
                // There is more to do; let the others have a turn.
                tokio::task::yield_now().await;
                while let Some(ended) = self.bindings.try_join_next() {
                    self.binding_ended(ended);
                }
                if let Ok(question) = self.questions.try_recv() {
                    self.answer(question);
                }
            } else {
                self.wait().await;
            }
        }
    }

    /// Waits for the next thing to do, and does it if it is not for [`Loop::take_in`].
    async fn wait(&mut self) {
        let now = self.clock.elapsed();
        let due = self.queue.next_due().into_iter().chain(self.waiting.next_due()).min();
        let clock = self.clock.clone();
        let timer = async move {
            match due {
                Some(due) => clock.sleep(due.saturating_sub(now)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(ended) = self.bindings.join_next() => self.binding_ended(ended),
            Some(_) = self.errands.join_next() => {}
            change = self.feed.nodes.next() => self.node_changed(change),
            change = self.feed.namespaces.next() => self.namespace_changed(change),
            () = self.feed.others.news.notified() => {}
            change = self.feed.pods.next() => self.pod_changed(change),
            Some(question) = self.questions.recv() => self.answer(question),
            () = timer => {}
        }
    }

    fn time_passed(&mut self) {
        let now = self.clock.elapsed();
        self.queue.tick(now);
        self.waiting.expire(now);
        self.settle();
    }

    /// The profile by whose name the pod asks for a scheduler.
    pub(super) fn profile_of(&self, pod: &Pod) -> Option<Arc<Profile>> {
        let name = &pod.spec.scheduler_name;
        let name = if name.is_empty() { DEFAULT_SCHEDULER_NAME } else { name };
        let profile = self.engine.profile_of(pod)?;
        (profile.name() == name).then(|| profile.clone())
    }

    fn try_pod(&mut self, next: Try) {
        let span = span_of(&next).entered();
        let started = self.clock.elapsed();
        let meter = self.meters.iter().find(|meter| meter.is_of(&next.profile)).cloned();
        if let Some(meter) = &meter {
            meter.begin();
        }
        let placed = self.engine.place(&next.pod);
        if let Some(metrics) = &self.metrics {
            metrics.algorithm(self.clock.elapsed().saturating_sub(started));
        }
        let fits = placed.is_ok();
        match placed {
            Ok(placement) => {
                let Placement { score, sampled, .. } = placement;
                span.record("result", "scheduled").record("node", &*placement.node);
                tracing::debug!(target: TRACED, score, "placed");
                if let (Some(metrics), Some(sampled)) = (&self.metrics, sampled) {
                    metrics.sampled(next.profile.name(), sampled.loss());
                }
                let verdict = Verdict::Placed { node: placement.node.clone(), score, sampled };
                self.decided(&next, started, verdict);
                self.placed(next, placement, started);
            }
            Err(Unplaced::Refused(diagnosis)) => {
                span.record("result", "unschedulable");
                tracing::debug!(target: TRACED, %diagnosis, "no node");
                let verdict = self.refused(&next, *diagnosis);
                self.decided(&next, started, verdict);
            }
            Err(why) => {
                span.record("result", "unschedulable");
                tracing::debug!(target: TRACED, %why, "refused");
                let (policies, message) = (why.policies(), why.to_string());
                self.tell(&next.pod, "Unschedulable", message.clone(), None);
                self.set_back(&next.key, &next.pod, &next.profile, policies.clone());
                let verdict = Verdict::Refused { message, reasons: BTreeMap::new(), policies, nominated: None };
                self.decided(&next, started, verdict);
            }
        }
        if let Some(meter) = &meter {
            meter.end(fits);
        }
    }

    /// Counts an attempt that ended.
    pub(super) fn ended(&self, profile: &Profile, ending: Ending, started: Duration) {
        if let Some(metrics) = &self.metrics {
            metrics.attempt(profile.name(), ending, self.clock.elapsed().saturating_sub(started));
        }
    }

    /// Notes a decision.
    fn decided(&mut self, next: &Try, started: Duration, verdict: Verdict) {
        if let Verdict::Refused { .. } = verdict {
            self.ended(&next.profile, Ending::Unschedulable, started);
        }
        if !self.record.is_kept() {
            return;
        }
        let took = self.clock.elapsed().saturating_sub(started);
        self.record.push(Decision {
            number: 0,
            namespace: next.key.namespace.clone(),
            name: next.key.name.clone(),
            uid: next.pod.metadata.uid.clone().unwrap_or_default(),
            time: self.clock.now(),
            profile: next.profile.name().to_owned(),
            attempt: next.attempt,
            micros: took.as_micros().try_into().unwrap_or(u64::MAX),
            verdict,
        });
    }

    /// Notes that a pod does not get the node it was given.
    pub(super) fn lost(&mut self, key: &ObjectKey, node: &str, message: &str) {
        let Some(last) = self.record.last_of(key).cloned() else { return };
        let verdict = Verdict::Lost { node: node.to_owned(), message: message.to_owned() };
        self.record.push(Decision { time: self.clock.now(), verdict, ..last });
    }

    /// The pod has a node: asks for permission, and binds if everyone gives it.
    fn placed(&mut self, next: Try, placement: Placement, started: Duration) {
        let Try { key, pod, profile, attempt } = next;
        let key = &key;
        self.engine.cluster_mut().clear_nomination(&key.namespace, &key.name);
        self.assumed.insert(key.clone(), pod.metadata.uid.clone());
        let bind = Bind {
            namespace: key.namespace.to_string(),
            pod: key.name.to_string(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            node: placement.node,
            annotations: placement.annotations,
        };
        let placed = Placed { pod: pod.clone(), profile: profile.clone(), bind, started, attempt };
        let now = self.clock.elapsed();
        let mut pending: Vec<(usize, Duration)> = Vec::new();
        if profile.permits().next().is_some() {
            let shape = self.engine.cluster_mut().shape(&pod);
            for (place, policy) in profile.permits() {
                let cycle = Cycle::new(&pod, &shape, self.engine.cluster());
                match policy.permit(cycle, placement.id, &mut self.waiting.seen_by(Some(place))) {
                    Permitted::Allow => {}
                    Permitted::Wait(timeout) => pending.push((place, now + timeout)),
                    Permitted::Refuse(why) => return self.not_permitted(key, &placed, place, &why),
                }
            }
        }
        if pending.is_empty() {
            self.start_binding(placed);
        } else {
            self.waiting.insert(key.clone(), placed, pending);
            self.give_up_group(&pod, &profile, None, &[]);
        }
    }

    fn not_permitted(&mut self, key: &ObjectKey, placed: &Placed, place: usize, why: &Refusal) {
        let policy = placed.profile.name_of(place).to_owned();
        self.lost(key, &placed.bind.node, &why.to_string());
        self.ended(&placed.profile, Ending::Unschedulable, placed.started);
        self.assumed.remove(key);
        self.forget(key);
        self.tell(&placed.pod, "Unschedulable", why.to_string(), None);
        self.set_back(key, &placed.pod, &placed.profile, vec![policy]);
    }

    /// Carries out what policies said about pods that wait.
    fn settle(&mut self) {
        loop {
            if let Some((key, entry, policy, why)) = self.waiting.next_refused() {
                // Refused by a policy that sees all of them: it is named by whoever asks for permission.
                let place = policy.or_else(|| entry.placed.profile.permits().next().map(|(place, _)| place));
                self.not_permitted(&key, &entry.placed, place.unwrap_or(usize::MAX), &why);
            } else if let Some((_, entry)) = self.waiting.next_ready() {
                self.start_binding(entry.placed);
            } else {
                return;
            }
        }
    }

    fn start_binding(&mut self, placed: Placed) {
        self.bindings.spawn(bind(self.client.clone(), self.clock.clone(), placed));
    }

    fn binding_ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let Ended { key, binding, outcome, profile, started, attempt } = match ended {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(%error, "a binding's task broke");
                return;
            }
        };
        let uid = binding.pod.metadata.uid.as_deref().unwrap_or_default();
        let bind = &binding.bind;
        let ending = if matches!(outcome, Outcome::Bound) { Ending::Scheduled } else { Ending::Error };
        self.ended(&profile, ending, started);
        if let Outcome::Bound = outcome {
            if let Some(metrics) = &self.metrics {
                metrics.bound(attempt);
            }
            let message = format!("Successfully assigned {}/{} to {}", bind.namespace, bind.pod, bind.node);
            self.recorder.record(&*binding.pod, Severity::Normal, "Scheduled", message);
            if self.queue.get(&key).is_some_and(|pod| pod.metadata.uid.as_deref().unwrap_or_default() == uid) {
                self.queue.remove(&key);
            }
            return;
        }
        // Unless the watch told better meanwhile, the pod gives its node back.
        if self.assumed.get(&key).is_none_or(|assumed| assumed.as_deref().unwrap_or_default() != uid) {
            return;
        }
        self.assumed.remove(&key);
        self.forget(&key);
        let now = self.clock.elapsed();
        match outcome {
            Outcome::Bound => {}
            Outcome::Gone => self.queue.remove(&key),
            Outcome::Conflict(why) => {
                self.lost(&key, &bind.node, &why);
                tracing::debug!(pod = %key, node = bind.node, why, "somebody else was quicker; trying again");
                self.queue.failed(&key, Failure::Conflict, now);
            }
            Outcome::Failed(why) => {
                self.lost(&key, &bind.node, &why);
                self.tell(&binding.pod, "SchedulerError", format!("binding rejected: {why}"), None);
                self.queue.failed(&key, Failure::Error, now);
            }
        }
        self.settle();
    }

    /// The pod gives its node back.
    pub(super) fn forget(&mut self, key: &ObjectKey) {
        self.waiting.remove(key);
        let Some(pod) = self.engine.cluster().find_pod(&key.namespace, &key.name).map(|placed| placed.pod().clone())
        else {
            return;
        };
        self.engine.unplace_telling(&key.namespace, &key.name, &mut self.waiting.seen_by(None));
        self.queue.event(&ClusterEvent::PodForgotten(&pod), self.clock.elapsed());
    }

    /// No node can take the pod: room may be made.
    fn refused(&mut self, next: &Try, mut diagnosis: Diagnosis) -> Verdict {
        let pod = &next.pod;
        let found = self.engine.post_filter(pod, &diagnosis);
        if let Some(metrics) = &self.metrics
            && next.profile.post_filters().next().is_some()
        {
            metrics.preemption(found.nomination.as_ref().map(|way| way.victims.len()));
        }
        let nominated = found.nomination.map(|way| self.make_room(pod, &next.profile, &way));
        diagnosis.post_filter = found.message;
        let (policies, message) = (diagnosis.policies(), diagnosis.to_string());
        self.tell(pod, "Unschedulable", message.clone(), nominated.clone());
        if nominated.is_some() {
            self.queue.failed(&next.key, Failure::Refused(policies.clone()), self.clock.elapsed());
        } else {
            self.set_back(&next.key, pod, &next.profile, policies.clone());
        }
        let reasons = diagnosis.reasons().into_iter().map(|(reason, nodes)| (reason.to_owned(), nodes)).collect();
        Verdict::Refused { message, reasons, policies, nominated }
    }

    /// Evicts the victims and keeps their room for the pod. Says on which node.
    fn make_room(&mut self, pod: &Arc<Pod>, profile: &Profile, way: &Nomination) -> String {
        let node = self.engine.cluster().name(way.node).to_owned();
        for victim in &way.victims {
            let key = ObjectKey::of(&**victim);
            let refusal = Refusal::unschedulable("preempted");
            if self.assumed.contains_key(&key) {
                // Not bound yet: it just does not get the node, if it waits for permission.
                self.waiting.seen_by(None).refuse(&key, refusal);
                continue;
            }
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            let message = format!("Preempted by pod {uid} on node {node}");
            self.recorder.record(&**victim, Severity::Normal, "Preempted", message);
            self.run_errand(Errand::Evict { victim: victim.clone(), scheduler: profile.name().to_owned() });
        }
        // Less important pods for which room was being made there look elsewhere.
        let own = pod.spec.priority.unwrap_or(0);
        let lower = self.engine.cluster().nominated(way.node).iter();
        let lower: IndexSet<ObjectKey> =
            lower.filter(|other| other.spec.priority.unwrap_or(0) < own).map(|other| ObjectKey::of(&**other)).collect();
        for key in lower {
            self.engine.cluster_mut().clear_nomination(&key.namespace, &key.name);
            if let Some(pod) = self.queue.get(&key).cloned() {
                self.run_errand(Errand::Unnominate { pod });
            }
        }
        self.engine.cluster_mut().nominate(pod.clone(), way.node);
        node
    }

    /// Tells people and other parts why the pod has no node.
    pub(super) fn tell(&mut self, pod: &Arc<Pod>, reason: &'static str, message: String, nominated: Option<String>) {
        self.recorder.record(&**pod, Severity::Warning, "FailedScheduling", short(&message));
        self.run_errand(Errand::Unscheduled { pod: pod.clone(), reason, message, nominated });
    }

    fn run_errand(&mut self, errand: Errand) {
        while self.errands.try_join_next().is_some() {}
        self.errands.spawn(errand.run(self.client.clone(), self.clock.now()));
    }
}
