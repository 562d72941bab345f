//! Keeps a storm of events from reaching the server.
//!
//! Three steps, with upstream's bounds: an object about which a source says too much is ignored for a while; more than
//! ten different messages for one reason within ten minutes are combined; a message that came before raises a count.

use std::collections::BTreeSet;
use std::hash::Hash;
use std::time::Duration;

use lru::LruCache;

use crate::api::Event;

/// What is remembered at most, in each of the three steps.
const REMEMBERED_MAX: usize = 4096;
/// Different messages after which they are combined.
const SIMILAR_MAX: usize = 10;
/// How long messages count as similar after the last one.
const SIMILAR_INTERVAL: Duration = Duration::from_secs(600);
/// Reports at once that a source may make about an object.
const BURST: f64 = 25.0;
/// Time after which it may make one more.
const REFILL: Duration = Duration::from_secs(300);

/// Who says what sort of thing about what.
type Subject = [String; 10];

/// What to write.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    /// The event as it shall be.
    pub(super) event: Event,
    /// The name of the stored event that it continues.
    pub(super) known: Option<String>,
    key: (Subject, String),
}

#[derive(Debug, Default)]
pub(super) struct Correlator {
    allowances: Lru<[String; 7], (f64, Duration)>,
    similar: Lru<Subject, (BTreeSet<String>, Duration)>,
    seen: Lru<(Subject, String), Seen>,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    count: i32,
    first: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    name: String,
}

/// A map that forgets what was used least recently.
#[derive(Debug)]
struct Lru<K: Hash + Eq, V>(LruCache<K, V>);

impl<K: Hash + Eq, V> Default for Lru<K, V> {
    fn default() -> Self {
        // The crate makes room for all at once if it is told how much; most processes have few events.
        Self(LruCache::unbounded())
    }
}

impl<K: Hash + Eq, V> Lru<K, V> {
    /// Takes the value out; putting it back makes it the most recent.
    fn take(&mut self, key: &K) -> Option<V> {
        self.0.pop(key)
    }

    fn put(&mut self, key: K, value: V) {
        if self.0.len() >= REMEMBERED_MAX {
            self.0.pop_lru();
        }
        self.0.put(key, value);
    }
}

fn subject(event: &Event) -> Subject {
    let about = &event.involved_object;
    [
        &event.source.component,
        &event.source.host,
        &about.kind,
        &about.namespace,
        &about.name,
        &about.uid,
        &about.api_version,
        &about.field_path,
        &event.type_,
        &event.reason,
    ]
    .map(Clone::clone)
}

impl Correlator {
    /// What to write about this report, if anything. `now` is [`Clock::elapsed`](crate::clock::Clock::elapsed).
    pub(super) fn correlate(&mut self, mut event: Event, now: Duration) -> Option<Outcome> {
        if !self.allows(&event, now) {
            return None;
        }
        let subject = subject(&event);
        let (mut messages, last) = self.similar.take(&subject).unwrap_or_default();
        if now.saturating_sub(last) > SIMILAR_INTERVAL {
            messages.clear();
        }
        let combined = !messages.contains(&event.message) && messages.len() >= SIMILAR_MAX - 1;
        let mut local = event.message.clone();
        if combined {
            // All combined messages continue one event, whatever they say.
            local.clear();
            event.message = format!("(combined from similar events): {}", event.message);
        } else {
            messages.insert(event.message.clone());
        }
        self.similar.put(subject.clone(), (messages, now));

        let key = (subject, local);
        let mut seen = self.seen.take(&key).unwrap_or_default();
        seen.count = seen.count.saturating_add(1);
        event.count = seen.count;
        if let Some(first) = &seen.first {
            event.first_timestamp = Some(first.clone());
        } else {
            seen.first.clone_from(&event.first_timestamp);
        }
        let known = (!seen.name.is_empty()).then(|| seen.name.clone());
        self.seen.put(key.clone(), seen);
        Some(Outcome { event, known, key })
    }

    /// The server stored an outcome under this name.
    pub(super) fn stored(&mut self, outcome: &Outcome, name: &str) {
        if let Some(seen) = self.seen.0.get_mut(&outcome.key) {
            name.clone_into(&mut seen.name);
        }
    }

    fn allows(&mut self, event: &Event, now: Duration) -> bool {
        let about = &event.involved_object;
        let key = [
            &event.source.component,
            &event.source.host,
            &about.kind,
            &about.namespace,
            &about.name,
            &about.uid,
            &about.api_version,
        ]
        .map(Clone::clone);
        let (allowance, since) = self.allowances.take(&key).unwrap_or((BURST, now));
        let refilled = now.saturating_sub(since).as_secs_f64() / REFILL.as_secs_f64();
        let allowance = (allowance + refilled).min(BURST);
        let allows = allowance >= 1.0;
        self.allowances.put(key, (if allows { allowance - 1.0 } else { allowance }, now));
        allows
    }
}
