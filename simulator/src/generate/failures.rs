//! Nodes fail and are repaired.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::iter::Peekable;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::Node;
use rand_pcg::Pcg64;

use super::distribution::Sampler;
use crate::traces::{Events, TraceError};
use crate::workload::{Event, What};

/// No two failures of a node are closer, so that time goes on.
const SHORTEST: f64 = 1e-3;

/// Longer than any experiment.
const LONGEST: f64 = 3.2e9;

/// What happens anyway, with each node's failures and repairs in between. In memory are all nodes that are there.
pub(super) struct Failing {
    events: Peekable<Events>,
    /// How long a node is up, in seconds.
    up: Sampler,
    /// How long it is down.
    down: Sampler,
    /// When failures end; if left out, with the last of the events.
    until: Option<Duration>,
    rng: Pcg64,
    nodes: BTreeMap<Arc<str>, State>,
    /// When the next turn of a node is: its number tells whether it is still the same node.
    turns: BinaryHeap<Reverse<(Duration, u64, Arc<str>)>>,
    count: u64,
}

struct State {
    node: Arc<Node>,
    is_up: bool,
    number: u64,
}

impl Failing {
    pub(super) fn new(events: Events, up: Sampler, down: Sampler, until: Option<Duration>, rng: Pcg64) -> Self {
        let (nodes, turns) = (BTreeMap::new(), BinaryHeap::new());
        Self { events: events.peekable(), up, down, until, rng, nodes, turns, count: 0 }
    }

    fn later(&mut self, at: Duration, is_up: bool, number: u64, name: Arc<str>) {
        let sampler = if is_up { &self.up } else { &self.down };
        let seconds = sampler.draw(&mut self.rng).clamp(SHORTEST, LONGEST);
        self.turns.push(Reverse((at.saturating_add(Duration::from_secs_f64(seconds)), number, name)));
    }

    /// A node's turn, if it is still there.
    fn turn(&mut self, at: Duration, number: u64, name: Arc<str>) -> Option<Event> {
        let state = self.nodes.get_mut(&name).filter(|state| state.number == number)?;
        state.is_up = !state.is_up;
        let is_up = state.is_up;
        let what = if is_up { What::Node(state.node.clone()) } else { What::NodeLost(name.clone()) };
        self.later(at, is_up, number, name);
        Some(Event { at, what })
    }

    /// What of an event is left where nodes may be down.
    fn passed(&mut self, event: Event) -> Option<Event> {
        match &event.what {
            What::Node(node) => {
                let name: Arc<str> = node.metadata.name.as_deref().unwrap_or_default().into();
                if let Some(state) = self.nodes.get_mut(&name) {
                    state.node = node.clone();
                    return state.is_up.then_some(event);
                }
                self.count += 1;
                let state = State { node: node.clone(), is_up: true, number: self.count };
                self.nodes.insert(name.clone(), state);
                self.later(event.at, true, self.count, name);
                Some(event)
            }
            What::NodeLost(name) => self.nodes.remove(name).is_none_or(|state| state.is_up).then_some(event),
            // A node that is down is drained already; it must not come back by itself.
            What::Drain(name) => {
                let state = self.nodes.remove(name);
                state.is_none_or(|state| state.is_up).then_some(event)
            }
            _ => Some(event),
        }
    }
}

impl Iterator for Failing {
    type Item = Result<Event, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let next = match self.events.peek() {
                Some(Ok(event)) => Some(event.at),
                Some(Err(_)) => return self.events.next(),
                None => None,
            };
            let turn = self.turns.peek().map(|Reverse((at, ..))| *at);
            let until = self.until.or(next);
            let event = match (turn, next) {
                (Some(turn), _) if next.is_none_or(|next| turn < next) && until.is_some_and(|until| turn < until) => {
                    let Reverse((at, number, name)) = self.turns.pop()?;
                    self.turn(at, number, name)
                }
                (_, None) => return None,
                _ => match self.events.next()? {
                    Ok(event) => self.passed(event),
                    Err(error) => return Some(Err(error)),
                },
            };
            if let Some(event) = event {
                return Some(Ok(event));
            }
        }
    }
}
