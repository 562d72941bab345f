//! What a scheduler counts and measures, under upstream's names.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAttempt {
    result: &'static str,
    profile: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPoint {
    extension_point: &'static str,
    status: &'static str,
    profile: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfProfile {
    profile: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPolicy {
    plugin: String,
    extension_point: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfQueue {
    queue: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfEntry {
    queue: &'static str,
    event: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The metrics of a scheduler. Clones count together.
///
/// How long extension points and policies take is measured in one of ten attempts, and not at all without a
/// [`SchedulerMetrics`] in the [`Options`](crate::Options).
#[derive(Debug, Clone)]
pub struct SchedulerMetrics {
    attempts: Family<OfAttempt, Counter>,
    attempt_duration: Histograms<OfAttempt>,
    algorithm_duration: Histogram,
    pod_attempts: Histogram,
    point_duration: Histograms<OfPoint>,
    policy_duration: Histograms<OfPolicy>,
    pending: Family<OfQueue, Gauge>,
    incoming: Family<OfEntry, Counter>,
    preemption_attempts: Counter,
    preemption_victims: Histogram,
    sampling_loss: Histograms<OfProfile>,
}

impl Default for SchedulerMetrics {
    fn default() -> Self {
        Self {
            attempts: Family::default(),
            attempt_duration: Family::new_with_constructor(|| Histogram::new(exponential_buckets(1e-3, 2.0, 15))),
            algorithm_duration: Histogram::new(exponential_buckets(1e-3, 2.0, 15)),
            pod_attempts: Histogram::new(exponential_buckets(1.0, 2.0, 5)),
            point_duration: Family::new_with_constructor(|| Histogram::new(exponential_buckets(1e-4, 2.0, 12))),
            policy_duration: Family::new_with_constructor(|| Histogram::new(exponential_buckets(1e-5, 1.5, 20))),
            pending: Family::default(),
            incoming: Family::default(),
            preemption_attempts: Counter::default(),
            preemption_victims: Histogram::new(exponential_buckets(1.0, 2.0, 7)),
            sampling_loss: Family::new_with_constructor(|| {
                Histogram::new(std::iter::once(0.0).chain(exponential_buckets(1.0, 2.0, 10)))
            }),
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Scheduled,
    Unschedulable,
    Error,
}

impl SchedulerMetrics {
    /// Makes the metrics part of a registry.
    pub fn register(&self, registry: &mut Registry) {
        let text = "Attempts to place a pod, by how they ended";
        registry.register("scheduler_schedule_attempts", text, self.attempts.clone());
        let text = "Seconds from the begin of an attempt to its end, which is the binding if it succeeded";
        registry.register("scheduler_scheduling_attempt_duration_seconds", text, self.attempt_duration.clone());
        let text = "Seconds to find a node";
        registry.register("scheduler_scheduling_algorithm_duration_seconds", text, self.algorithm_duration.clone());
        let text = "Attempts until a pod was bound";
        registry.register("scheduler_pod_scheduling_attempts", text, self.pod_attempts.clone());
        let text = "Seconds that all policies of an extension point took in an attempt; sampled";
        registry.register("scheduler_framework_extension_point_duration_seconds", text, self.point_duration.clone());
        let text = "Seconds that a policy took at an extension point; sampled";
        registry.register("scheduler_plugin_execution_duration_seconds", text, self.policy_duration.clone());
        let text = "Pods that wait, by where they do";
        registry.register("scheduler_pending_pods", text, self.pending.clone());
        let text = "Pods that came to wait, by where and why";
        registry.register("scheduler_queue_incoming_pods", text, self.incoming.clone());
        let text = "Attempts to make room for a pod";
        registry.register("scheduler_preemption_attempts", text, self.preemption_attempts.clone());
        let text = "Pods chosen to be evicted in an attempt to make room";
        registry.register("scheduler_preemption_victims", text, self.preemption_victims.clone());
        let text = "How much better the best node was than the one chosen from a sample";
        registry.register("scheduler_sampling_score_loss", text, self.sampling_loss.clone());
    }

    pub(crate) fn attempt(&self, profile: &str, ending: Ending, took: Duration) {
        let result = match ending {
            Ending::Scheduled => "scheduled",
            Ending::Unschedulable => "unschedulable",
            Ending::Error => "error",
        };
        let labels = OfAttempt { result, profile: profile.to_owned() };
        self.attempts.get_or_create(&labels).inc();
        self.attempt_duration.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A node was chosen from a sample; the best of all has so much more.
    pub(crate) fn sampled(&self, profile: &str, loss: i64) {
        #[expect(clippy::cast_precision_loss, reason = "a sum of weighted scores is far below 2^52")]
        self.sampling_loss.get_or_create(&OfProfile { profile: profile.to_owned() }).observe(loss as f64);
    }

    pub(crate) fn algorithm(&self, took: Duration) {
        self.algorithm_duration.observe(took.as_secs_f64());
    }

    /// A pod was bound in this attempt.
    pub(crate) fn bound(&self, attempt: u32) {
        self.pod_attempts.observe(f64::from(attempt));
    }

    pub(crate) fn point(&self, extension_point: &'static str, status: &'static str, profile: &str, took: Duration) {
        let labels = OfPoint { extension_point, status, profile: profile.to_owned() };
        self.point_duration.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(crate) fn policy(&self, policy: &str, extension_point: &'static str, status: &'static str, took: Duration) {
        let labels = OfPolicy { plugin: policy.to_owned(), extension_point, status };
        self.policy_duration.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(crate) fn pending(&self, queue: &'static str, pods: usize) {
        self.pending.get_or_create(&OfQueue { queue }).set(pods.try_into().unwrap_or(i64::MAX));
    }

    pub(crate) fn incoming(&self, queue: &'static str, event: &'static str) {
        self.incoming.get_or_create(&OfEntry { queue, event }).inc();
    }

    pub(crate) fn preemption(&self, victims: Option<usize>) {
        self.preemption_attempts.inc();
        if let Some(victims) = victims {
            self.preemption_victims.observe(f64::from(u32::try_from(victims).unwrap_or(u32::MAX)));
        }
    }
}
