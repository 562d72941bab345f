//! Events: telling people what happened to an object, without ever holding up who tells.
//!
//! [`EventRecorder`] takes reports and never waits; [`EventWriter`] writes them to the cluster. In between stands the
//! `Correlator`, which keeps a storm from reaching the server: the same report again raises a count,
//! similar reports are combined, and an object about which too much is said is ignored for a while.

mod correlator;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube_core::params::{Patch, PatchParams, PostParams};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::correlator::{Correlator, Outcome};
use crate::api::event::EventSource;
use crate::api::{Event, ObjectReference};
use crate::client::{Api, Client, Error};
use crate::clock::Clock;
use crate::kind::AnyObject;

/// Reports that wait to be written; more are dropped.
const WAITING_MAX: usize = 1000;
/// How often writing is tried while the server cannot be reached.
const TRIES_MAX: u32 = 12;
/// Longest wait between tries; the first is jittered.
const RETRY: Duration = Duration::from_secs(10);

/// How grave an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Normal,
    /// Something is wrong.
    Warning,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Takes reports. Cheap to clone.
#[derive(Clone)]
pub struct EventRecorder {
    source: EventSource,
    clock: Arc<dyn Clock>,
    waiting: mpsc::Sender<Event>,
    /// Tells reports of one moment apart.
    serial: Arc<AtomicU64>,
}

impl fmt::Debug for EventRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventRecorder").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Writes what its recorders take.
pub struct EventWriter {
    client: Arc<dyn Client>,
    clock: Arc<dyn Clock>,
    waiting: mpsc::Receiver<Event>,
    correlator: Correlator,
    rng: Pcg64,
}

impl fmt::Debug for EventWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventWriter").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

/// A recorder for `component` (such as `deployment-controller`) on `host` (empty where that means nothing), and the
/// writer to run for it. The seed is for jitter.
pub fn events(
    client: Arc<dyn Client>,
    clock: Arc<dyn Clock>,
    component: &str,
    host: &str,
    seed: u64,
) -> (EventRecorder, EventWriter) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let source = EventSource { component: component.to_owned(), host: host.to_owned() };
    // Recorders of other components begin elsewhere: they too may report about the same object at the same moment.
    let speaker = component.bytes().chain(host.bytes());
    let start = speaker.fold(seed, |sum, byte| sum.rotate_left(5) ^ u64::from(byte)) & 0x00ff_ffff;
    let serial = Arc::new(AtomicU64::new(start));
    let recorder = EventRecorder { source, clock: clock.clone(), waiting: sender, serial };
    let correlator = Correlator::default();
    (recorder, EventWriter { client, clock, waiting: receiver, correlator, rng: Pcg64::seed_from_u64(seed) })
}

/// The reference to an object that an event about it carries.
pub fn reference(object: &dyn AnyObject) -> ObjectReference {
    let (info, meta) = (&object.kind_type().info, object.meta());
    ObjectReference {
        kind: info.kind.to_owned(),
        api_version: info.api_version(),
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        field_path: String::new(),
    }
}

impl EventRecorder {
    /// The same recorder speaking for another component.
    #[must_use]
    pub fn speaking_for(&self, component: &str) -> Self {
        let source = EventSource { component: component.to_owned(), host: self.source.host.clone() };
        Self { source, ..self.clone() }
    }

    /// Reports that something happened to an object.
    pub fn record(&self, object: &dyn AnyObject, severity: Severity, reason: &str, message: impl Into<String>) {
        self.record_about(reference(object), severity, reason, message);
    }

    /// Reports that something happened to the object, or the part of one, that the reference names. If too many reports
    /// wait, this one is dropped.
    pub fn record_about(&self, about: ObjectReference, severity: Severity, reason: &str, message: impl Into<String>) {
        let now = self.clock.now();
        let namespace = if about.namespace.is_empty() { "default" } else { &about.namespace };
        // The time makes the name unique, as upstream does it; where it stands still, the serial number does.
        let unique = now.as_nanosecond() + i128::from(self.serial.fetch_add(1, Ordering::Relaxed));
        let name = format!("{}.{unique:x}", about.name);
        let metadata = ObjectMeta { name: Some(name), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() };
        let event = Event {
            metadata,
            reason: reason.to_owned(),
            message: message.into(),
            reporting_component: self.source.component.clone(),
            reporting_instance: self.source.host.clone(),
            source: self.source.clone(),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: 1,
            type_: severity.as_str().to_owned(),
            involved_object: about,
            ..Event::default()
        };
        if self.waiting.try_send(event).is_err() {
            tracing::debug!(reason, "too many events wait, or nobody writes them: dropped one");
        }
    }
}

impl EventWriter {
    /// Writes until cancelled or until the last recorder is gone.
    pub async fn run(mut self, cancel: CancellationToken) {
        while let Some(Some(event)) = cancel.run_until_cancelled(self.waiting.recv()).await {
            if cancel.run_until_cancelled(self.write(event)).await.is_none() {
                return;
            }
        }
    }

    async fn write(&mut self, event: Event) {
        let Some(outcome) = self.correlator.correlate(event, self.clock.elapsed()) else { return };
        for attempt in 0..TRIES_MAX {
            match self.send(&outcome).await {
                Ok(stored) => {
                    self.correlator.stored(&outcome, stored.metadata.name.as_deref().unwrap_or_default());
                    return;
                }
                // Trying again would not change the server's mind.
                Err(error @ (Error::Api(_) | Error::Decode { .. })) => {
                    tracing::debug!(%error, reason = outcome.event.reason, "the server refused an event");
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, attempt, "cannot write an event, trying again");
                    let wait = if attempt == 0 { RETRY.mul_f64(self.rng.random()) } else { RETRY };
                    self.clock.sleep(wait).await;
                }
            }
        }
    }

    async fn send(&self, outcome: &Outcome) -> Result<Arc<Event>, Error> {
        let event = &outcome.event;
        let namespace = event.metadata.namespace.as_deref().unwrap_or("default");
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        if let Some(name) = &outcome.known {
            let patch = json!({
                "count": event.count,
                "lastTimestamp": event.last_timestamp,
                "message": event.message,
            });
            match api.patch(name, &Patch::Merge(patch), &PatchParams::default()).await {
                Err(error) if error.is_not_found() => {}
                other => return other,
            }
        }
        match api.create(event.clone(), &PostParams::default()).await {
            // An earlier try got through after all.
            Err(error) if error.is_already_exists() => {
                api.get(event.metadata.name.as_deref().unwrap_or_default()).await
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests;
