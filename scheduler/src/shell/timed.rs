//! Measures how long policies take, by a policy around each of them; so neither the engine nor any policy knows of it.
//!
//! One of ten attempts is measured. Whether the present one is, is a matter of the thread: the loop decides in one piece,
//! and what is worked out beside it with the same policies (explanations, say) is no attempt.
//!
//! Every method of the traits is handed on, those with a default too: one that is forgotten here would be lost.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use longshore_core::api::pod::Pod;
use longshore_core::client::{Client, Error};
use longshore_core::clock::Clock;
use longshore_core::kind::KindType;
use longshore_core::scheduling::cluster::Change;
use longshore_core::scheduling::{
    Binder, Binding, Candidates, ClusterEvent, Cycle, Filter, Grouping, NodeId, NodeSet, Permit, Permitted, Policy,
    PostBind, PostFilter, PostFiltered, PreBind, PreEnqueue, PreFilter, PreScore, QueueOrder, Reach, Refusal,
    Reservation, Reserve, Score, ScoreRange, Scores, State, Trial, Update, Waiting,
};

use crate::Profile;
use crate::metrics::SchedulerMetrics;

/// One of so many attempts is measured.
const EVERY: u64 = 10;

thread_local! {
    static MEASURING: Cell<bool> = const { Cell::new(false) };
}

/// Extension points that are run within an attempt.
#[derive(Debug, Clone, Copy)]
enum Point {
    PreFilter,
    Filter,
    PostFilter,
    PreScore,
    Score,
    Reserve,
    Permit,
}

const POINTS: [&str; 7] = ["PreFilter", "Filter", "PostFilter", "PreScore", "Score", "Reserve", "Permit"];

/// What a policy said, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Success = 1,
    Unschedulable,
    Error,
}

impl Said {
    fn no_if(no: bool) -> Self {
        if no { Self::Unschedulable } else { Self::Success }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "Success",
            Self::Unschedulable => "Unschedulable",
            Self::Error => "Error",
        }
    }
}

/// What one extension point took in the present attempt.
#[derive(Debug, Default)]
struct Sum {
    nanos: AtomicU64,
    /// The worst that was said; 0 if nobody was asked.
    said: AtomicU8,
}

/// Measures the attempts of one profile.
#[derive(Debug)]
pub(super) struct Meter {
    profile: String,
    metrics: SchedulerMetrics,
    clock: Arc<dyn Clock>,
    attempts: AtomicU64,
    sums: [Sum; POINTS.len()],
}

impl Meter {
    /// The profile with each policy measured, and what measures them.
    pub(super) fn around(
        profile: &Profile,
        metrics: &SchedulerMetrics,
        clock: &Arc<dyn Clock>,
    ) -> (Profile, Arc<Self>) {
        let meter = Arc::new(Self {
            profile: profile.name().to_owned(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            attempts: AtomicU64::new(0),
            sums: Default::default(),
        });
        let measured = profile.map_policies(|policy| Arc::new(Timed { policy, meter: meter.clone() }));
        (measured, meter)
    }

    pub(super) fn is_of(&self, profile: &Profile) -> bool {
        self.profile == profile.name()
    }

    /// An attempt begins on this thread.
    pub(super) fn begin(&self) {
        if self.attempts.fetch_add(1, Relaxed).is_multiple_of(EVERY) {
            MEASURING.set(true);
        }
    }

    /// The attempt ends; `fits`: a node was found.
    pub(super) fn end(&self, fits: bool) {
        if !MEASURING.replace(false) {
            return;
        }
        if !fits {
            let filter = &self.sums[Point::Filter as usize].said;
            filter.store(filter.load(Relaxed) * Said::Unschedulable as u8, Relaxed);
        }
        for (point, sum) in POINTS.into_iter().zip(&self.sums) {
            let took = Duration::from_nanos(sum.nanos.swap(0, Relaxed));
            let said = match sum.said.swap(0, Relaxed) {
                0 => continue,
                1 => Said::Success,
                _ => Said::Unschedulable,
            };
            self.metrics.point(point, said.as_str(), &self.profile, took);
        }
    }

    fn add(&self, point: Point, policy: &str, said: Said, took: Duration) {
        self.metrics.policy(policy, POINTS[point as usize], said.as_str(), took);
        let sum = &self.sums[point as usize];
        sum.nanos.fetch_add(took.as_nanos().try_into().unwrap_or(u64::MAX), Relaxed);
        sum.said.fetch_max(said as u8, Relaxed);
    }

    /// Something that was waited for; in a profile of one such policy, it is all of its extension point.
    fn waited(&self, point: &'static str, policy: &str, said: Said, since: Duration) {
        let took = self.clock.elapsed().saturating_sub(since);
        self.metrics.policy(policy, point, said.as_str(), took);
        self.metrics.point(point, said.as_str(), &self.profile, took);
    }
}

/// A policy that is measured.
#[derive(Debug)]
struct Timed {
    policy: Arc<dyn Policy>,
    meter: Arc<Meter>,
}

impl Timed {
    fn time<T>(&self, point: Point, work: impl FnOnce() -> T, said: impl FnOnce(&T) -> Said) -> T {
        if !MEASURING.get() {
            return work();
        }
        let started = self.meter.clock.elapsed();
        let done = work();
        let took = self.meter.clock.elapsed().saturating_sub(started);
        self.meter.add(point, self.policy.name(), said(&done), took);
        done
    }

    fn filter(&self) -> &dyn Filter {
        self.policy.as_filter().unwrap_or(&Nothing)
    }

    fn score(&self) -> &dyn Score {
        self.policy.as_score().unwrap_or(&Nothing)
    }
}

/// Stands for an extension point that the policy does not take part in, which nobody calls.
struct Nothing;

impl Filter for Nothing {
    fn filter(&self, _: Cycle<'_>, _: &State, _: &mut Candidates) {}
}

impl Score for Nothing {
    fn score(&self, _: Cycle<'_>, _: &State, _: &NodeSet, _: &mut Scores) {}
}

impl Policy for Timed {
    fn name(&self) -> &str {
        self.policy.name()
    }

    fn kinds(&self) -> Vec<&'static KindType> {
        self.policy.kinds()
    }

    fn may_help(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        self.policy.may_help(pod, event)
    }

    fn as_pre_enqueue(&self) -> Option<&dyn PreEnqueue> {
        self.policy.as_pre_enqueue()
    }

    fn as_queue_order(&self) -> Option<&dyn QueueOrder> {
        self.policy.as_queue_order()
    }

    fn as_grouping(&self) -> Option<&dyn Grouping> {
        self.policy.as_grouping()
    }

    fn as_filter(&self) -> Option<&dyn Filter> {
        self.policy.as_filter().map(|_| self as &dyn Filter)
    }

    fn as_post_filter(&self) -> Option<&dyn PostFilter> {
        self.policy.as_post_filter().map(|_| self as &dyn PostFilter)
    }

    fn as_score(&self) -> Option<&dyn Score> {
        self.policy.as_score().map(|_| self as &dyn Score)
    }

    fn as_reserve(&self) -> Option<&dyn Reserve> {
        self.policy.as_reserve().map(|_| self as &dyn Reserve)
    }

    fn as_permit(&self) -> Option<&dyn Permit> {
        self.policy.as_permit().map(|_| self as &dyn Permit)
    }

    fn as_pre_bind(&self) -> Option<&dyn PreBind> {
        self.policy.as_pre_bind().map(|_| self as &dyn PreBind)
    }

    fn as_binder(&self) -> Option<&dyn Binder> {
        self.policy.as_binder().map(|_| self as &dyn Binder)
    }

    fn as_post_bind(&self) -> Option<&dyn PostBind> {
        self.policy.as_post_bind().map(|_| self as &dyn PostBind)
    }
}

impl Filter for Timed {
    fn pre_filter(&self, cycle: Cycle<'_>, state: &mut State) -> Result<PreFilter, Refusal> {
        let work = || Timed::filter(self).pre_filter(cycle, state);
        self.time(Point::PreFilter, work, |found| Said::no_if(found.is_err()))
    }

    fn filter(&self, cycle: Cycle<'_>, state: &State, candidates: &mut Candidates) {
        // Whether a node is left is not the policy's doing alone, and it may have been asked about few.
        self.time(Point::Filter, || Timed::filter(self).filter(cycle, state, candidates), |()| Said::Success);
    }

    fn reach(&self) -> Reach {
        Timed::filter(self).reach()
    }

    fn labels<'s>(&self, state: &'s State) -> Option<Vec<&'s str>> {
        Timed::filter(self).labels(state)
    }

    fn update(&self, cycle: Cycle<'_>, state: &mut State, changes: &[Change], affected: &mut NodeSet) -> Update {
        let work = || Timed::filter(self).update(cycle, state, changes, affected);
        self.time(Point::PreFilter, work, |_| Said::Success)
    }
}

impl PostFilter for Timed {
    fn post_filter(&self, trial: &mut dyn Trial, refused: &Candidates, state: &mut State) -> PostFiltered {
        let Some(policy) = self.policy.as_post_filter() else { return PostFiltered::default() };
        let work = || policy.post_filter(trial, refused, state);
        self.time(Point::PostFilter, work, |found| Said::no_if(found.nomination.is_none()))
    }
}

impl Score for Timed {
    fn pre_score(&self, cycle: Cycle<'_>, state: &mut State, feasible: &NodeSet) -> PreScore {
        let work = || Timed::score(self).pre_score(cycle, state, feasible);
        self.time(Point::PreScore, work, |_| Said::Success)
    }

    fn score(&self, cycle: Cycle<'_>, state: &State, nodes: &NodeSet, scores: &mut Scores) {
        let work = || Timed::score(self).score(cycle, state, nodes, scores);
        self.time(Point::Score, work, |()| Said::Success);
    }

    fn is_normalised(&self) -> bool {
        Timed::score(self).is_normalised()
    }

    fn normalise(&self, cycle: Cycle<'_>, state: &State, range: ScoreRange, nodes: &NodeSet, scores: &mut Scores) {
        let work = || Timed::score(self).normalise(cycle, state, range, nodes, scores);
        self.time(Point::Score, work, |()| Said::Success);
    }

    fn reach(&self) -> Reach {
        Timed::score(self).reach()
    }

    fn labels<'s>(&self, state: &'s State) -> Option<Vec<&'s str>> {
        Timed::score(self).labels(state)
    }

    fn update(
        &self,
        cycle: Cycle<'_>,
        state: &mut State,
        changes: &[Change],
        feasible: &NodeSet,
        affected: &mut NodeSet,
    ) -> Update {
        let work = || Timed::score(self).update(cycle, state, changes, feasible, affected);
        self.time(Point::PreScore, work, |_| Said::Success)
    }
}

impl Reserve for Timed {
    fn reserve(&self, cycle: Cycle<'_>, node: NodeId, reservation: &mut Reservation) -> Result<(), Refusal> {
        let Some(policy) = self.policy.as_reserve() else { return Ok(()) };
        let work = || policy.reserve(cycle, node, reservation);
        self.time(Point::Reserve, work, |done| Said::no_if(done.is_err()))
    }

    fn unreserve(&self, pod: &Pod, node: &str, waiting: &mut dyn Waiting) {
        if let Some(policy) = self.policy.as_reserve() {
            policy.unreserve(pod, node, waiting);
        }
    }
}

impl Permit for Timed {
    fn permit(&self, cycle: Cycle<'_>, node: NodeId, waiting: &mut dyn Waiting) -> Permitted {
        let Some(policy) = self.policy.as_permit() else { return Permitted::Allow };
        let work = || policy.permit(cycle, node, waiting);
        self.time(Point::Permit, work, |said| Said::no_if(matches!(said, Permitted::Refuse(_))))
    }
}

#[async_trait]
impl PreBind for Timed {
    async fn pre_bind(&self, client: &Arc<dyn Client>, clock: &dyn Clock, binding: &Binding) -> Result<(), Error> {
        let Some(policy) = self.policy.as_pre_bind() else { return Ok(()) };
        let since = self.meter.clock.elapsed();
        let done = policy.pre_bind(client, clock, binding).await;
        let said = if done.is_ok() { Said::Success } else { Said::Error };
        self.meter.waited("PreBind", self.policy.name(), said, since);
        done
    }
}

#[async_trait]
impl Binder for Timed {
    async fn bind(&self, client: &Arc<dyn Client>, binding: &Binding) -> Result<bool, Error> {
        let Some(policy) = self.policy.as_binder() else { return Ok(false) };
        let since = self.meter.clock.elapsed();
        let done = policy.bind(client, binding).await;
        let said = if done.is_ok() { Said::Success } else { Said::Error };
        self.meter.waited("Bind", self.policy.name(), said, since);
        done
    }
}

#[async_trait]
impl PostBind for Timed {
    async fn post_bind(&self, client: &Arc<dyn Client>, binding: &Binding) {
        let Some(policy) = self.policy.as_post_bind() else { return };
        let since = self.meter.clock.elapsed();
        policy.post_bind(client, binding).await;
        self.meter.waited("PostBind", self.policy.name(), Said::Success, since);
    }
}
