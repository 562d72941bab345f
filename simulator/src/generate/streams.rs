//! Streams of events from others.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::Node;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use crate::traces::{Events, TraceError};
use crate::workload::{Event, Job, What};

/// The events of all streams in the order of time; of one moment, those of the first stream first.
pub fn merge(streams: impl IntoIterator<Item = Events>) -> Events {
    Box::new(Merge { streams: streams.into_iter().map(Iterator::peekable).collect() })
}

struct Merge {
    streams: Vec<Peekable<Events>>,
}

impl Iterator for Merge {
    type Item = Result<Event, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = |next: &Result<Event, TraceError>| next.as_ref().map_or(Duration::ZERO, |event| event.at);
        let heads = self.streams.iter_mut().enumerate().filter_map(|(place, stream)| Some((at(stream.peek()?), place)));
        let (_, place) = heads.min()?;
        self.streams.get_mut(place)?.next()
    }
}

/// Of each job so many copies as `jobs` says in the mean: which job has how many follows from the seed and its name alone.
pub(super) fn copies(events: Events, jobs: f64, seed: u64) -> Events {
    Box::new(events.flat_map(move |event| {
        let copy = |at, whats: Vec<What>| whats.into_iter().map(|what| Ok(Event { at, what })).collect();
        match event {
            Ok(Event { at, what: What::Job(job) }) => {
                let names = copies_of(&job.name, jobs, seed);
                copy(at, names.map(|name| What::Job(Job { name, ..job.clone() })).collect())
            }
            Ok(Event { at, what: What::Cancel(name) }) => {
                copy(at, copies_of(&name, jobs, seed).map(What::Cancel).collect())
            }
            other => vec![other],
        }
    }))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to a few thousands")]
fn copies_of(name: &Arc<str>, jobs: f64, seed: u64) -> impl Iterator<Item = Arc<str>> + use<> {
    // The hash is FNV-1a.
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let part: f64 = Pcg64::seed_from_u64(hash ^ seed).random();
    let count = jobs.trunc() as u32 + u32::from(part < jobs.fract());
    let name = name.clone();
    (0..count).map(move |copy| if copy == 0 { name.clone() } else { format!("{name}~{copy}").into() })
}

/// Moments and durations are so many times what they are.
pub(super) fn stretched(events: Events, time: f64, durations: f64) -> Events {
    let times = |duration: Duration, factor: f64| {
        Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
    };
    Box::new(events.map(move |event| {
        let Event { at, mut what } = event?;
        if let What::Job(job) = &mut what
            && durations != 1.0
        {
            for task in &mut job.tasks {
                task.duration = task.duration.map(|duration| times(duration, durations));
            }
        }
        Ok(Event { at: if time == 1.0 { at } else { times(at, time) }, what })
    }))
}

/// What happens from one moment until another, which it begins with. Nodes and other objects that were there before are there at its
/// beginning; jobs that arrived before are not, so that a job may be cancelled that never was.
pub(super) fn window(events: Events, from: Duration, until: Duration) -> Events {
    let events = events.take_while(move |event| event.as_ref().map_or(true, |event| event.at < until));
    let ready = Vec::new().into_iter();
    Box::new(Window { events: Box::new(events), from, before: Some(Before::default()), ready })
}

struct Window {
    events: Events,
    from: Duration,
    /// Until the window begins.
    before: Option<Before>,
    ready: std::vec::IntoIter<What>,
}

#[derive(Default)]
struct Before {
    nodes: BTreeMap<String, (Arc<Node>, bool)>,
    others: Vec<What>,
}

impl Before {
    fn hear(&mut self, what: What) {
        match what {
            What::Node(node) => drop(self.nodes.insert(node.metadata.name.clone().unwrap_or_default(), (node, false))),
            What::NodeLost(name) => drop(self.nodes.remove(&*name)),
            What::Drain(name) => {
                if let Some((_, drained)) = self.nodes.get_mut(&*name) {
                    *drained = true;
                }
            }
            What::Object(_) => self.others.push(what),
            What::Job(_) | What::Cancel(_) | What::Running { .. } => {}
        }
    }

    fn begin(self) -> Vec<What> {
        let nodes = self.nodes.into_iter().flat_map(|(name, (node, drained))| {
            std::iter::once(What::Node(node)).chain(drained.then(|| What::Drain(name.into())))
        });
        self.others.into_iter().chain(nodes).collect()
    }
}

impl Iterator for Window {
    type Item = Result<Event, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(what) = self.ready.next() {
                return Some(Ok(Event { at: Duration::ZERO, what }));
            }
            let event = match self.events.next() {
                Some(Ok(event)) => event,
                Some(Err(error)) => return Some(Err(error)),
                None => {
                    self.ready = self.before.take()?.begin().into_iter();
                    continue;
                }
            };
            if let Some(before) = &mut self.before {
                if event.at < self.from {
                    before.hear(event.what);
                    continue;
                }
                self.ready = self.before.take().unwrap_or_default().begin().into_iter();
                let rest = std::mem::replace(&mut self.events, Box::new(std::iter::empty()));
                self.events = Box::new(std::iter::once(Ok(event)).chain(rest));
                continue;
            }
            return Some(Ok(Event { at: event.at.saturating_sub(self.from), what: event.what }));
        }
    }
}
