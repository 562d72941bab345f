//! What a scheduler counts, under the names that dashboards know.

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::*;
use crate::{DecisionFilter, Sampling, SchedulerMetrics, Verdict};

struct Measured {
    registry: Registry,
    metrics: SchedulerMetrics,
}

impl Measured {
    fn new() -> Self {
        let (mut registry, metrics) = (Registry::default(), SchedulerMetrics::default());
        metrics.register(&mut registry);
        Self { registry, metrics }
    }

    fn options(&self, profile: Profile) -> Options {
        Options { profiles: vec![profile], metrics: Some(self.metrics.clone()), ..Options::default() }
    }

    /// The value of a series, as it is shown; `None` if there is none.
    fn value(&self, series: &str) -> Option<String> {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text.lines().find_map(|line| Some(line.strip_prefix(series)?.strip_prefix(' ')?.to_owned()))
    }

    #[track_caller]
    fn is(&self, series: &str, value: &str) {
        assert_eq!(self.value(series).as_deref(), Some(value), "{series}");
    }
}

#[tokio::test]
async fn attempts_queues_and_evictions_are_counted_under_upstreams_names() {
    let (mut world, measured) = (World::new(), Measured::new());
    world.node("a", "2").await;
    world.pod("small", "500m", json!({})).await;
    world.pod("large", "3", json!({})).await;
    world.pod("gated", "1", json!({ "spec": { "schedulingGates": [{ "name": "later" }] } })).await;
    world.start_with(measured.options(Profile::default_scheduler()));
    world.until("told", |world| world.events("FailedScheduling").len() == 1 && world.bound().len() == 1).await;
    let of = r#"profile="default-scheduler""#;
    measured.is(&format!(r#"scheduler_schedule_attempts_total{{result="scheduled",{of}}}"#), "1");
    measured.is(&format!(r#"scheduler_schedule_attempts_total{{result="unschedulable",{of}}}"#), "1");
    let duration = "scheduler_scheduling_attempt_duration_seconds_count";
    measured.is(&format!(r#"{duration}{{result="scheduled",{of}}}"#), "1");
    measured.is("scheduler_scheduling_algorithm_duration_seconds_count", "2");
    measured.is("scheduler_pod_scheduling_attempts_sum", "1.0");
    for (queue, pods) in [("active", "0"), ("backoff", "0"), ("unschedulable", "1"), ("gated", "1")] {
        measured.is(&format!(r#"scheduler_pending_pods{{queue="{queue}"}}"#), pods);
    }
    let incoming =
        |queue: &str, event: &str| format!(r#"scheduler_queue_incoming_pods_total{{queue="{queue}",event="{event}"}}"#);
    measured.is(&incoming("active", "PodAdd"), "2");
    measured.is(&incoming("unschedulable", "PodAdd"), "1");
    measured.is(&incoming("unschedulable", "ScheduleAttemptFailure"), "1");
    measured.is("scheduler_preemption_attempts_total", "1");
    measured.is("scheduler_preemption_victims_count", "0");
    // An important one gets the room of another.
    world.pod("important", "2", json!({ "spec": { "priority": 10 } })).await;
    world.until("bound", |world| world.bound().contains_key("important")).await;
    measured.is("scheduler_preemption_victims_sum", "1.0");
    world.stop().await;
}

#[tokio::test]
async fn policies_are_measured_in_one_of_ten_attempts() {
    let (mut world, measured) = (World::new(), Measured::new());
    world.node("a", "8").await;
    world.start_with(measured.options(Profile::default_scheduler()));
    for index in 0..11 {
        world.pod(&format!("p{index}"), "100m", json!({})).await;
    }
    world.until("all are bound", |world| world.bound().len() == 11).await;
    let point = |point: &str| {
        let of = r#"profile="default-scheduler""#;
        let name = "scheduler_framework_extension_point_duration_seconds_count";
        format!(r#"{name}{{extension_point="{point}",status="Success",{of}}}"#)
    };
    measured.is(&point("Filter"), "2");
    measured.is(&point("Score"), "2");
    measured.is(&point("Bind"), "11");
    let name = "scheduler_plugin_execution_duration_seconds_count";
    let filter = r#"plugin="NodeResourcesFit",extension_point="Filter",status="Success""#;
    measured.is(&format!("{name}{{{filter}}}"), "2");
    world.pod("large", "100", json!({})).await;
    world.until("told", |world| world.events("FailedScheduling").len() == 1).await;
    assert_eq!(measured.value(&point("PostFilter")), None, "the twelfth attempt is not measured");
    world.stop().await;
}

#[tokio::test]
async fn a_measured_policy_is_the_policy_it_was() {
    let (profile, measured) = (Profile::default_scheduler(), Measured::new());
    let clock: Arc<dyn Clock> = Arc::new(VirtualClock::new());
    let (around, _) = crate::shell::timed::Meter::around(&profile, &measured.metrics, &clock);
    for (plain, timed) in profile.policies().iter().zip(around.policies()) {
        assert_eq!((plain.policy().name(), plain.weight()), (timed.policy().name(), timed.weight()));
        let (plain, timed) = (plain.policy(), timed.policy());
        assert_eq!(plain.kinds().len(), timed.kinds().len());
        assert_eq!(plain.as_filter().map(|of| of.reach()), timed.as_filter().map(|of| of.reach()));
        assert_eq!(plain.as_score().map(|of| of.reach()), timed.as_score().map(|of| of.reach()));
        assert_eq!(plain.as_score().map(|of| of.is_normalised()), timed.as_score().map(|of| of.is_normalised()));
        let takes_part = |of: &dyn longshore_core::scheduling::Policy| {
            [
                of.as_pre_enqueue().is_some(),
                of.as_queue_order().is_some(),
                of.as_post_filter().is_some(),
                of.as_reserve().is_some(),
                of.as_permit().is_some(),
                of.as_pre_bind().is_some(),
                of.as_binder().is_some(),
                of.as_post_bind().is_some(),
            ]
        };
        assert_eq!(takes_part(plain), takes_part(timed), "{}", plain.name());
    }
}

#[tokio::test]
async fn what_a_sample_cost_is_counted_and_kept_with_the_decision() {
    let (mut world, measured) = (World::new(), Measured::new());
    world.node("a", "2").await;
    world.pod("p", "1", json!({})).await;
    let handle = world.start_with(measured.options(Profile::default_scheduler().with_sampling(Sampling::Adaptive)));
    world.until("bound", |world| world.bound().len() == 1).await;
    let of = r#"profile="default-scheduler""#;
    measured.is(&format!("scheduler_sampling_score_loss_count{{{of}}}"), "1");
    measured.is(&format!("scheduler_sampling_score_loss_sum{{{of}}}"), "0.0");
    let decision = handle.decisions(DecisionFilter::pod("default", "p")).await.unwrap().pop().unwrap();
    let Verdict::Placed { score, sampled: Some(sampled), .. } = decision.verdict else { panic!("{decision:?}") };
    assert_eq!((sampled.looked_at, sampled.chosen_score, sampled.best_score), (1, score, score));
    world.stop().await;
}
