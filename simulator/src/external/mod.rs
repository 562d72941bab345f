//! Placing by somebody else's choice: a closure, or a program in any language, such as a learned policy.
//!
//! The scheduler finds the nodes that can take a pod; a [`Chooser`] says which of them does. [`Program`] is a chooser that asks a process
//! over its standard input and output, a line of JSON each way; `docs/simulation.md` tells the protocol.
//!
//! ```
//! use std::sync::Arc;
//!
//! use longshore_simulator::external::{Choice, External, Question};
//! use longshore_simulator::openb::{Machine, Request};
//! use longshore_simulator::{Packing, Placement, what_fits};
//!
//! // The node with the fewest cores left.
//! let external = External::new(|question: &Question<'_>| {
//!     let least = question.candidates.iter().min_by_key(|node| node.cpu.free);
//!     least.map_or_else(|| Choice::Refuse("no node".to_owned()), |node| Choice::Node(node.node.to_owned()))
//! });
//! let machine = |name: &str, milli_cpu| Machine {
//!     name: name.to_owned(), milli_cpu, memory_mib: 4096, gpus: 1, model: "T4".to_owned(),
//! };
//! let request = Request {
//!     name: "p".to_owned(), milli_cpu: 1000, memory_mib: 1, gpus: 1, milli: 1000, models: String::new(),
//! };
//! let (machines, requests) = ([machine("a", 64_000), machine("b", 8000)], [request]);
//! let packing = Packing { machines: &machines, requests: &requests, placement: Placement::Random, tune: None, seed: 42 };
//! let outcome = packing.run_with(|_, _, _| what_fits("fewest-cores").with(external.clone()), |_, _| ())?;
//! external.failure().map_or(Ok(()), Err)?;
//! assert_eq!(outcome.placed, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod process;
mod question;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longshore_core::scheduling::{Candidates, Cycle, Filter, NodeId, NodeSet, Policy, Reach, Refusal, State};

pub use process::Program;
pub use question::{Amount, AskedPod, Candidate, Question};

/// What a chooser says.
#[derive(Debug, Clone, PartialEq)]
pub enum Choice {
    /// This node.
    Node(String),
    /// The node with the highest of these scores, of those with the same the first in the question. Nodes without a score are not taken.
    Scores(BTreeMap<String, f64>),
    /// None of them, and why.
    Refuse(String),
}

/// Says which node gets a pod.
pub trait Chooser: Send {
    /// Chooses; there is at least one candidate.
    ///
    /// # Errors
    /// Nothing can be asked any more; the simulation ends without further questions.
    fn choose(&mut self, question: &Question<'_>) -> Result<Choice, ExternalError>;
}

impl<F: FnMut(&Question<'_>) -> Choice + Send> Chooser for F {
    fn choose(&mut self, question: &Question<'_>) -> Result<Choice, ExternalError> {
        Ok(self(question))
    }
}

/// Why somebody else's choice cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExternalError {
    /// The program cannot be started.
    #[error("cannot start the policy {command:?}: {reason}")]
    Start {
        /// What was to be run.
        command: String,
        /// What the system says.
        reason: String,
    },
    /// The program is gone.
    #[error(
        "the policy {command:?} ended ({status}) and did not answer {question}; what it wrote to its standard error is above"
    )]
    Ended {
        /// What was run.
        command: String,
        /// How it ended.
        status: String,
        /// About what.
        question: String,
    },
    /// The program does not answer.
    #[error(
        "the policy {command:?} did not answer {question} within {} ms: does it write a line for each that it reads, and flush?",
        .patience.as_millis()
    )]
    Silent {
        /// What was run.
        command: String,
        /// How long it was waited for.
        patience: Duration,
        /// About what.
        question: String,
    },
    /// The program said something else than what the protocol allows.
    #[error("the policy {command:?} answered {question} by {answer:?}: {reason}")]
    Answer {
        /// What was run.
        command: String,
        /// About what.
        question: String,
        /// The beginning of what it said.
        answer: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A node was chosen that is none of the candidates.
    #[error("the policy chose {node:?} for pod {pod:?}, which is none of its {candidates} candidates")]
    NoCandidate {
        /// What was chosen.
        node: String,
        /// For whom.
        pod: String,
        /// How many there were.
        candidates: usize,
    },
    /// Scores were given, but of no node.
    #[error("the policy gave no scores for pod {pod:?}; to place it nowhere, refuse it")]
    NoScores {
        /// For whom.
        pod: String,
    },
}

/// A policy that leaves one node for a pod: the one that a [`Chooser`] says. It belongs behind all other filters of a profile.
///
/// Copies share the chooser. Choosers may remember what they were asked, so nothing they said is used twice: the chooser is asked about
/// every pod that some node can take, once for each attempt.
#[derive(Clone)]
pub struct External(Arc<Mutex<Asked>>);

struct Asked {
    chooser: Box<dyn Chooser>,
    failure: Option<ExternalError>,
}

impl fmt::Debug for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("External").field("failure", &self.failure()).finish_non_exhaustive()
    }
}

impl External {
    /// The policy by this chooser.
    pub fn new(chooser: impl Chooser + 'static) -> Self {
        Self(Arc::new(Mutex::new(Asked { chooser: Box::new(chooser), failure: None })))
    }

    /// Why the chooser is not asked any more. From then on every pod is refused, and what came out is worth nothing.
    pub fn failure(&self) -> Option<ExternalError> {
        self.asked().failure.clone()
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    /// The node, or why there is none.
    fn choose(&mut self, cycle: Cycle<'_>, nodes: &NodeSet) -> Result<NodeId, Refusal> {
        if self.failure.is_some() {
            return Err(Refusal::unschedulable("the external policy failed"));
        }
        let ids: Vec<NodeId> = nodes.iter().collect();
        let question = Question::of(cycle, &ids);
        let place = self.chooser.choose(&question).and_then(|choice| chosen(&question, choice));
        match place {
            Ok(Ok(place)) => Ok(ids[place]),
            Ok(Err(reason)) => Err(Refusal::unschedulable(format!("the external policy refused: {reason}"))),
            Err(failure) => {
                self.failure = Some(failure);
                Err(Refusal::unschedulable("the external policy failed"))
            }
        }
    }
}

/// The place of the candidate that was chosen, or why none was.
fn chosen(question: &Question<'_>, choice: Choice) -> Result<Result<usize, String>, ExternalError> {
    let pod = || question.pod.name.clone();
    let place = |node: &str| {
        let place = question.candidates.iter().position(|candidate| candidate.node == node);
        let candidates = question.candidates.len();
        place.ok_or_else(|| ExternalError::NoCandidate { node: node.to_owned(), pod: pod(), candidates })
    };
    match choice {
        Choice::Node(node) => place(&node).map(Ok),
        Choice::Refuse(reason) => Ok(Err(reason)),
        Choice::Scores(scores) => {
            let mut best: Option<(f64, usize)> = None;
            for (node, score) in scores {
                let place = place(&node)?;
                if best.is_none_or(|(high, first)| score > high || (score >= high && place < first)) {
                    best = Some((score, place));
                }
            }
            best.map(|(_, place)| Ok(place)).ok_or_else(|| ExternalError::NoScores { pod: pod() })
        }
    }
}

impl Policy for External {
    fn name(&self) -> &str {
        "External"
    }

    fn as_filter(&self) -> Option<&dyn Filter> {
        Some(self)
    }
}

impl Filter for External {
    fn filter(&self, cycle: Cycle<'_>, _: &State, candidates: &mut Candidates) {
        if candidates.nodes().is_empty() {
            return;
        }
        let nodes = candidates.nodes().clone();
        match self.asked().choose(cycle, &nodes) {
            Ok(node) => candidates.keep_only(&NodeSet::only(node), Refusal::unschedulable("node(s) were not chosen")),
            Err(refusal) => candidates.refuse_all(&nodes, refusal),
        }
    }

    fn reach(&self) -> Reach {
        Reach::Outside
    }
}

#[cfg(test)]
mod tests;
