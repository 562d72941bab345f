//! A work queue of keys: no key twice, never the same key by two workers at once, back-off per key.
//!
//! # Contract
//!
//! 1. A key that is added while it waits waits once. A key that is added while it is worked on is handed out again when
//!    that work is done, never before.
//! 2. Higher priority first; among equals, first come first served. Adding a waiting key with a higher priority raises it.
//! 3. A failed key waits `base × 2ⁿ⁻¹` after its n-th failure in a row, at most `max`. Only the work on a key can fail
//!    it, once each time it was handed out, so news about a failing key cannot inflate its back-off.
//! 4. Delays pass by the [`Clock`]; of several delays of one key the earliest counts.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use crate::clock::Clock;

/// How long a key waits after failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Wait after the first failure.
    pub base: Duration,
    /// Longest wait.
    pub max: Duration,
}

impl Default for Backoff {
    /// As upstream's controllers: from 5 ms to 1,000 s.
    fn default() -> Self {
        Self { base: Duration::from_millis(5), max: Duration::from_secs(1000) }
    }
}

impl Backoff {
    /// The wait after `failures` failures in a row.
    pub fn after(&self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.max)
    }
}

/// A queue of keys of type `T`. Cheap to clone; clones share the queue.
pub struct WorkQueue<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    clock: Arc<dyn Clock>,
    backoff: Backoff,
    metrics: Option<Metrics>,
    state: Mutex<State<T>>,
    news: Notify,
}

struct State<T> {
    /// What can be handed out, best first.
    ready: BTreeMap<(Reverse<i32>, u64), T>,
    /// Where each waiting key stands in `ready`; `None` while it is worked on and waits for that to end.
    dirty: FxHashMap<T, (i32, Option<u64>)>,
    active: FxHashMap<T, Duration>,
    delayed: BTreeMap<(Duration, u64), (T, i32)>,
    due: FxHashMap<T, (Duration, u64)>,
    failures: FxHashMap<T, u32>,
    added: FxHashMap<T, Duration>,
    next: u64,
    closed: bool,
}

impl<T> Clone for WorkQueue<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T: Clone + Eq + Hash> fmt::Debug for WorkQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("WorkQueue")
            .field("ready", &state.ready.len())
            .field("active", &state.active.len())
            .field("delayed", &state.delayed.len())
            .field("closed", &state.closed)
            .finish()
    }
}

impl<T: Clone + Eq + Hash> WorkQueue<T> {
    /// An empty queue.
    pub fn new(clock: Arc<dyn Clock>, backoff: Backoff) -> Self {
        Self::build(clock, backoff, None)
    }

    /// An empty queue that counts under `name`.
    pub fn with_metrics(clock: Arc<dyn Clock>, backoff: Backoff, metrics: &QueueMetrics, name: &str) -> Self {
        Self::build(clock, backoff, Some(metrics.of(name)))
    }

    fn build(clock: Arc<dyn Clock>, backoff: Backoff, metrics: Option<Metrics>) -> Self {
        let state = State {
            ready: BTreeMap::new(),
            dirty: FxHashMap::default(),
            active: FxHashMap::default(),
            delayed: BTreeMap::new(),
            due: FxHashMap::default(),
            failures: FxHashMap::default(),
            added: FxHashMap::default(),
            next: 0,
            closed: false,
        };
        Self { shared: Arc::new(Shared { clock, backoff, metrics, state: Mutex::new(state), news: Notify::new() }) }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a key with priority 0.
    pub fn add(&self, key: T) {
        self.add_with(key, 0);
    }

    /// Adds a key with a priority.
    pub fn add_with(&self, key: T, priority: i32) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        self.insert(&mut state, key, priority);
        drop(state);
        self.shared.news.notify_one();
    }

    /// Adds a key after a delay.
    pub fn add_after(&self, key: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let mut state = self.lock();
        if state.closed {
            return;
        }
        let at = self.shared.clock.elapsed() + delay;
        state.delay(key, at, 0);
        drop(state);
        // Whoever sleeps until a later moment must set the alarm anew.
        self.shared.news.notify_one();
    }

    fn insert(&self, state: &mut State<T>, key: T, priority: i32) {
        if let Some(metrics) = &self.shared.metrics
            && !state.dirty.contains_key(&key)
        {
            metrics.adds.inc();
        }
        state.insert(key, priority, self.shared.clock.elapsed());
        self.gauge(state);
    }

    fn gauge(&self, state: &State<T>) {
        if let Some(metrics) = &self.shared.metrics {
            metrics.depth.set(i64::try_from(state.ready.len()).unwrap_or(i64::MAX));
        }
    }

    /// Waits for a key to work on; `None` once the queue is closed and empty. Dropping the future loses nothing.
    pub async fn get(&self) -> Option<Work<T>> {
        loop {
            let wait = {
                let mut state = self.lock();
                let now = self.shared.clock.elapsed();
                while let Some(entry) = state.delayed.first_entry() {
                    if entry.key().0 > now {
                        break;
                    }
                    let (key, priority) = entry.remove();
                    state.due.remove(&key);
                    self.insert(&mut state, key, priority);
                }
                if let Some((_, key)) = state.ready.pop_first() {
                    state.dirty.remove(&key);
                    state.active.insert(key.clone(), now);
                    let waited = state.added.remove(&key).map_or(Duration::ZERO, |added| now.saturating_sub(added));
                    if let Some(metrics) = &self.shared.metrics {
                        metrics.queue_duration.observe(waited.as_secs_f64());
                    }
                    self.gauge(&state);
                    let more = !state.ready.is_empty() || !state.delayed.is_empty();
                    drop(state);
                    if more {
                        // One notification stands for any number of additions: pass it on.
                        self.shared.news.notify_one();
                    }
                    return Some(Work { queue: self.clone(), key, settled: false });
                }
                if state.closed {
                    drop(state);
                    self.shared.news.notify_one();
                    return None;
                }
                state.delayed.first_key_value().map(|(&(at, _), _)| at.saturating_sub(now))
            };
            match wait {
                None => self.shared.news.notified().await,
                Some(wait) => {
                    tokio::select! {
                        biased;
                        () = self.shared.news.notified() => {}
                        () = self.shared.clock.sleep(wait) => {}
                    }
                }
            }
        }
    }

    /// How many keys can be handed out at once.
    pub fn len(&self) -> usize {
        self.lock().ready.len()
    }

    /// Whether no key can be handed out at once.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nothing waits to be handed out, now or later, and nothing is worked on.
    pub fn is_idle(&self) -> bool {
        let state = self.lock();
        state.ready.is_empty() && state.active.is_empty() && state.delayed.is_empty()
    }

    /// Whether nothing can be handed out at once and nothing is worked on; delayed keys may wait.
    pub fn is_quiet(&self) -> bool {
        let state = self.lock();
        state.ready.is_empty() && state.active.is_empty() && state.dirty.is_empty()
    }

    /// How often in a row the key failed.
    pub fn failures(&self, key: &T) -> u32 {
        self.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// Takes nothing new, forgets what is delayed; what is ready is still handed out.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.delayed.clear();
        state.due.clear();
        drop(state);
        self.shared.news.notify_one();
    }

    fn settle(&self, key: &T, outcome: Outcome) {
        let mut state = self.lock();
        let now = self.shared.clock.elapsed();
        if let Some(begun) = state.active.remove(key)
            && let Some(metrics) = &self.shared.metrics
        {
            metrics.work_duration.observe(now.saturating_sub(begun).as_secs_f64());
        }
        // Added in between: it can be handed out again now.
        if let Some((priority, place @ None)) = state.dirty.get(key).copied() {
            let at = state.next;
            state.next += 1;
            let _: Option<u64> = place;
            state.dirty.insert(key.clone(), (priority, Some(at)));
            state.ready.insert((Reverse(priority), at), key.clone());
        }
        match outcome {
            Outcome::Done => {
                state.failures.remove(key);
            }
            Outcome::Failed if !state.closed => {
                let failures = state.failures.entry(key.clone()).or_default();
                *failures = failures.saturating_add(1);
                let at = now + self.shared.backoff.after(*failures);
                state.delay(key.clone(), at, 0);
                if let Some(metrics) = &self.shared.metrics {
                    metrics.retries.inc();
                }
            }
            Outcome::Failed | Outcome::Dropped => {}
        }
        self.gauge(&state);
        drop(state);
        self.shared.news.notify_one();
    }
}

impl<T: Clone + Eq + Hash> State<T> {
    fn insert(&mut self, key: T, priority: i32, now: Duration) {
        if let Some(&(have, place)) = self.dirty.get(&key) {
            if priority <= have {
                return;
            }
            if let Some(place) = place {
                self.ready.remove(&(Reverse(have), place));
                self.ready.insert((Reverse(priority), place), key.clone());
            }
            self.dirty.insert(key, (priority, place));
            return;
        }
        self.added.entry(key.clone()).or_insert(now);
        let place = if self.active.contains_key(&key) {
            None
        } else {
            let place = self.next;
            self.next += 1;
            self.ready.insert((Reverse(priority), place), key.clone());
            Some(place)
        };
        self.dirty.insert(key, (priority, place));
    }

    fn delay(&mut self, key: T, at: Duration, priority: i32) {
        if let Some(&(have, place)) = self.due.get(&key) {
            if have <= at {
                return;
            }
            self.delayed.remove(&(have, place));
        }
        let place = self.next;
        self.next += 1;
        self.delayed.insert((at, place), (key.clone(), priority));
        self.due.insert(key, (at, place));
    }
}

#[derive(Debug, Clone, Copy)]
enum Outcome {
    Done,
    Failed,
    Dropped,
}

/// A key that is being worked on. Until this is settled or dropped, nobody else gets the key.
///
/// Dropping it unsettled (a worker that was cancelled) neither forgives nor counts a failure.
#[must_use = "the key is blocked until this is settled or dropped"]
pub struct Work<T: Clone + Eq + Hash> {
    queue: WorkQueue<T>,
    key: T,
    settled: bool,
}

impl<T: Clone + Eq + Hash + fmt::Debug> fmt::Debug for Work<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Work").field(&self.key).finish()
    }
}

impl<T: Clone + Eq + Hash> Work<T> {
    /// The key.
    pub fn key(&self) -> &T {
        &self.key
    }

    /// The work succeeded: earlier failures are forgotten.
    pub fn done(mut self) {
        self.settled = true;
        self.queue.settle(&self.key, Outcome::Done);
    }

    /// The work succeeded; look at the key again after a while.
    pub fn done_until(mut self, delay: Duration) {
        self.settled = true;
        self.queue.add_after(self.key.clone(), delay);
        self.queue.settle(&self.key, Outcome::Done);
    }

    /// The work failed: try again after the key's back-off.
    pub fn failed(mut self) {
        self.settled = true;
        self.queue.settle(&self.key, Outcome::Failed);
    }
}

impl<T: Clone + Eq + Hash> Drop for Work<T> {
    fn drop(&mut self) {
        if !self.settled {
            self.queue.settle(&self.key, Outcome::Dropped);
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Name {
    name: String,
}

/// The metrics of a process's work queues, under upstream's names.
#[derive(Debug, Clone)]
pub struct QueueMetrics {
    depth: Family<Name, Gauge>,
    adds: Family<Name, Counter>,
    retries: Family<Name, Counter>,
    queue_duration: Family<Name, Histogram, fn() -> Histogram>,
    work_duration: Family<Name, Histogram, fn() -> Histogram>,
}

impl Default for QueueMetrics {
    fn default() -> Self {
        Self {
            depth: Family::default(),
            adds: Family::default(),
            retries: Family::default(),
            queue_duration: Family::new_with_constructor(seconds),
            work_duration: Family::new_with_constructor(seconds),
        }
    }
}

/// Buckets from a microsecond to half an hour.
fn seconds() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(1e-6, 10.0, 10))
}

#[derive(Debug, Clone)]
struct Metrics {
    depth: Gauge,
    adds: Counter,
    retries: Counter,
    queue_duration: Histogram,
    work_duration: Histogram,
}

impl QueueMetrics {
    /// Makes the metrics part of a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("workqueue_depth", "Current depth of workqueue", self.depth.clone());
        registry.register("workqueue_adds", "Total number of adds handled by workqueue", self.adds.clone());
        registry.register("workqueue_retries", "Total number of retries handled by workqueue", self.retries.clone());
        let text = "How long in seconds an item stays in workqueue before being requested";
        registry.register("workqueue_queue_duration_seconds", text, self.queue_duration.clone());
        let text = "How long in seconds processing an item from workqueue takes";
        registry.register("workqueue_work_duration_seconds", text, self.work_duration.clone());
    }

    /// The depth of the queue of this name.
    pub fn depth(&self, name: &str) -> i64 {
        self.depth.get_or_create_owned(&Name { name: name.to_owned() }).get()
    }

    fn of(&self, name: &str) -> Metrics {
        let name = Name { name: name.to_owned() };
        Metrics {
            depth: self.depth.get_or_create_owned(&name),
            adds: self.adds.get_or_create_owned(&name),
            retries: self.retries.get_or_create_owned(&name),
            queue_duration: self.queue_duration.get_or_create_owned(&name),
            work_duration: self.work_duration.get_or_create_owned(&name),
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
