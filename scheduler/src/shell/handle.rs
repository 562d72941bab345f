//! Questions to a scheduler that runs.
//!
//! The loop answers between two decisions, and all it gives away is a copy: of the record, or of the whole engine. What
//! takes time is worked out on the copy, beside the loop, so nothing that is asked holds up placing for longer than copying
//! takes, and nothing can change what is decided.

use std::sync::{Arc, Mutex, PoisonError};

use longshore_core::api::pod::Pod;
use longshore_core::informer::ObjectKey;
use longshore_core::scheduling::Cycle;
use tokio::sync::{mpsc, oneshot};

use super::detail::{another_node, detail, hints};
use super::explained::{PodExplanation, RemedyText};
use super::record::{Decision, DecisionFilter};
use super::work::Loop;
use crate::engine::{Engine, WhatIf, unbound};
use crate::{Profile, engine::Unplaced};

/// Questions that may wait; whoever asks when there are more waits until there are fewer.
const QUESTIONS_MAX: usize = 16;

/// Why a scheduler gives no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// It is not placing pods.
    #[error("the scheduler does not run here: it has not started, has ended, or another one leads")]
    NotRunning,
    /// It has nothing to do with the pod.
    #[error(
        "the scheduler does not know pod {namespace}/{name}: it has ended, is being deleted, or asks for another scheduler"
    )]
    UnknownPod {
        /// The pod's namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// A way to ask a scheduler that runs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SchedulerHandle {
    seat: Arc<Seat>,
}

/// Where the loop that leads at the moment can be asked, if one does.
#[derive(Debug, Default)]
pub(super) struct Seat {
    questions: Mutex<Option<mpsc::Sender<Question>>>,
}

impl Seat {
    /// A loop begins to answer; it does until the receiver is dropped.
    pub(super) fn take(&self) -> mpsc::Receiver<Question> {
        let (sender, receiver) = mpsc::channel(QUESTIONS_MAX);
        *self.questions.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    fn sender(&self) -> Option<mpsc::Sender<Question>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the loop is asked, with where the answer goes.
#[derive(Debug)]
pub(super) enum Question {
    Decisions(DecisionFilter, oneshot::Sender<Vec<Decision>>),
    Pod(ObjectKey, oneshot::Sender<Option<Box<Seen>>>),
    Engine(oneshot::Sender<Box<Engine>>),
}

/// A pod as the loop sees it, with everything else.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) pod: Arc<Pod>,
    /// The node that it has, be it bound or not.
    pub(super) node: Option<String>,
    /// Where it is in the queue, in upstream's words.
    pub(super) queue: Option<&'static str>,
    pub(super) decisions: Vec<Decision>,
    pub(super) engine: Engine,
}

impl SchedulerHandle {
    pub(super) fn new(seat: Arc<Seat>) -> Self {
        Self { seat }
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Result<T, AskError> {
        let questions = self.seat.sender().ok_or(AskError::NotRunning)?;
        let (answer, answered) = oneshot::channel();
        questions.send(question(answer)).await.map_err(|_| AskError::NotRunning)?;
        answered.await.map_err(|_| AskError::NotRunning)
    }

    /// The last decisions, oldest first.
    ///
    /// # Errors
    /// [`AskError::NotRunning`].
    pub async fn decisions(&self, filter: DecisionFilter) -> Result<Vec<Decision>, AskError> {
        self.ask(|answer| Question::Decisions(filter, answer)).await
    }

    /// Explains where the pod can go and why not elsewhere. One that has a node is looked at as if it were to be placed now
    /// and were not there yet.
    ///
    /// # Errors
    /// [`AskError::NotRunning`], or [`AskError::UnknownPod`].
    pub async fn explain(&self, namespace: &str, name: &str) -> Result<PodExplanation, AskError> {
        let key = ObjectKey::new(namespace, name);
        let unknown = || AskError::UnknownPod { namespace: namespace.to_owned(), name: name.to_owned() };
        let seen = self.ask(|answer| Question::Pod(key, answer)).await?.ok_or_else(unknown)?;
        let explained = beside(move || explain(*seen)).await?;
        explained.map_err(|_| unknown())
    }

    /// Places pods on a copy of the cluster as it is; see [`Engine::what_if`].
    ///
    /// # Errors
    /// [`AskError::NotRunning`].
    pub async fn what_if(&self, profile: Option<Profile>, pods: Vec<Arc<Pod>>) -> Result<WhatIf, AskError> {
        let engine = self.ask(Question::Engine).await?;
        beside(move || engine.try_out(profile, &pods)).await
    }
}

/// Works something out where it holds up nobody.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, AskError> {
    // It ends early only with the runtime itself.
    tokio::task::spawn_blocking(work).await.map_err(|_| AskError::NotRunning)
}

fn explain(seen: Seen) -> Result<PodExplanation, Unplaced> {
    let Seen { pod, node, queue, decisions, mut engine } = seen;
    let key = ObjectKey::of(&*pod);
    let pod = if node.is_some() {
        engine.cluster_mut().remove_pod(&key.namespace, &key.name);
        unbound(&pod)
    } else {
        pod
    };
    let explanation = engine.explain(&pod)?;
    let remedies = engine.remedies(&pod)?;
    let texts = remedies.iter().map(|remedy| RemedyText { change: remedy.text(), nodes: remedy.nodes });
    let mut remedies: Vec<RemedyText> = texts.collect();
    if explanation.feasible.is_empty() && explanation.held.is_none() {
        remedies.extend(another_node(&mut engine, &pod));
    }
    let profile = engine.profile_of(&pod).map(|profile| profile.name().to_owned()).unwrap_or_default();
    let seen = PodExplanation { profile, node, queue, decisions, ..PodExplanation::of(&pod) };
    let shape = engine.cluster_mut().shape(&pod);
    let cycle = Cycle::new(&pod, &shape, engine.cluster());
    let hints = if explanation.feasible.is_empty() { hints(cycle) } else { Vec::new() };
    let seen = PodExplanation { hints, ..seen };
    Ok(seen.with(explanation, remedies, |refused| {
        let node = engine.cluster().node_id(&refused.node);
        node.map(|node| detail(cycle, cycle.node(node), refused)).unwrap_or_default()
    }))
}

impl Loop {
    pub(super) fn answer(&mut self, question: Question) {
        // Whoever asked may no longer wait for the answer.
        match question {
            Question::Decisions(filter, answer) => drop(answer.send(self.record.list(&filter))),
            Question::Engine(answer) => {
                self.take_in();
                drop(answer.send(Box::new(self.engine.twin())));
            }
            Question::Pod(key, answer) => {
                self.take_in();
                drop(answer.send(self.seen(&key).map(Box::new)));
            }
        }
    }

    fn seen(&self, key: &ObjectKey) -> Option<Seen> {
        let cluster = self.engine.cluster();
        let placed = cluster.find_pod(&key.namespace, &key.name);
        let node = placed.map(|placed| match placed.node() {
            Some(node) => cluster.name(node).to_owned(),
            None => placed.pod().spec.node_name.clone(),
        });
        let pod = placed.map(|placed| placed.pod()).or_else(|| self.queue.get(key))?;
        self.profile_of(pod)?;
        Some(Seen {
            pod: pod.clone(),
            node,
            queue: self.queue.place_of(key),
            decisions: self.record.list(&DecisionFilter::pod(&key.namespace, &key.name)),
            engine: self.engine.twin(),
        })
    }
}
