//! Schedulers at work: one takes a job, thinks about it for a time, and then does what it can.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::pod::Pod;

use super::agenda::{Appointment, Entry};
use super::claim::claim;
use super::configuration::{Architecture, DecisionTime};
use super::jobs::{Life, Stand};
use super::plan::{Manner, Plan, Planned};
use super::queue::Failure;
use super::running::Running;
use crate::observer::{Attempt, Happening, Observer, Placed, Why};
use crate::workload::Job;

/// What a scheduler thinks about.
#[derive(Debug)]
pub(super) struct Thought {
    pub(super) number: u64,
    pub(super) job: Arc<Job>,
    pub(super) arrived: Duration,
    pub(super) first: bool,
    pub(super) began: Duration,
    pub(super) ends: Entry,
    /// The number of the last change when it began.
    pub(super) seen: u64,
    /// Whether somebody else had an offer when it got its own: what was missing may be there then.
    pub(super) contested: bool,
    /// What it will claim, worked out on the state of the cell when it began; `None` if it decides on the state when it ends.
    pub(super) plan: Option<Plan>,
}

impl Running {
    /// Lets schedulers begin that have nothing else to do; says whether any did.
    pub(super) fn begin(&mut self) -> bool {
        let mut idle: Vec<usize> = (0..self.thoughts.len())
            .filter(|place| self.thoughts[*place].is_none() && !self.queues.turns[*place].is_empty())
            .collect();
        let Some(offers) = &mut self.offers else {
            idle.iter().for_each(|scheduler| self.think(*scheduler));
            return !idle.is_empty();
        };
        let cluster = self.engine.cluster();
        idle.sort_by(|a, b| offers.dominant_share(*a, cluster).total_cmp(&offers.dominant_share(*b, cluster)));
        // The first gets all that is free; for the others nothing is left.
        let Some(chosen) = idle.into_iter().find(|scheduler| offers.make(*scheduler, cluster)) else { return false };
        self.think(chosen);
        true
    }

    fn think(&mut self, scheduler: usize) {
        let Some(number) = self.next_of(scheduler) else { return };
        let Some(live) = self.jobs.live.get_mut(&number) else { return };
        live.stand = Stand::Considered;
        let first = !std::mem::replace(&mut live.tried, true);
        let (job, arrived, pods) = (live.job.clone(), live.arrived, live.waiting.count());
        let time = self.simulation.architecture.decision(scheduler, job.class);
        let is_shared = matches!(self.simulation.architecture, Architecture::SharedState { .. });
        let started = self.clock.as_ref().map(|clock| clock.elapsed());
        let plan = (is_shared || time == DecisionTime::Measured).then(|| {
            let plan = self.plan(number);
            plan.take_back(&mut self.engine);
            plan
        });
        let took = match time {
            DecisionTime::Modelled { per_job, per_task } => {
                let pods = u32::try_from(pods).unwrap_or(u32::MAX);
                per_job.saturating_add(per_task.saturating_mul(pods))
            }
            DecisionTime::Measured => {
                let ended = self.clock.as_ref().map(|clock| clock.elapsed());
                ended.unwrap_or_default().saturating_sub(started.unwrap_or_default())
            }
        };
        let ends = self.agenda.enter(self.now.saturating_add(took), Appointment::Decided(scheduler));
        let plan = plan.filter(|_| is_shared);
        let (began, seen) = (self.now, self.record.last);
        let contested = self.offers.as_ref().is_some_and(|offers| offers.open.len() > 1);
        self.thoughts[scheduler] = Some(Thought { number, job, arrived, first, began, ends, seen, contested, plan });
    }

    /// Finds places for a job's pods, which have them then in the engine's cluster.
    fn plan(&mut self, number: u64) -> Plan {
        let Some(live) = self.jobs.live.get(&number) else { return Plan::default() };
        let gang = live.job.gang || self.simulation.architecture.is_gang();
        let manner = Manner { now: self.now, gang, preemption: self.simulation.preemption };
        Plan::carried_out(&mut self.engine, live, manner)
    }

    /// A scheduler has made up its mind.
    pub(super) fn decide(&mut self, scheduler: usize, observer: &mut dyn Observer) {
        let Some(thought) = self.thoughts[scheduler].take() else { return };
        let Thought { number, job, arrived, first, began, seen, contested, plan, .. } = thought;
        self.busy[scheduler] += self.now.saturating_sub(began);
        let lives = self.jobs.live.contains_key(&number);
        let is_copy = plan.is_some();
        let (plan, conflicts) = match plan {
            _ if !lives => (Plan::default(), 0),
            Some(plan) => self.commit(plan, &job, seen),
            None => (self.plan_within_offer(number, scheduler), 0),
        };
        let contested =
            conflicts > 0 || (contested && plan.refused > 0 && self.would_fit_without_offers(number, &plan));
        // Who decided on the state when it began has missed what happened since.
        let (missed, missed_near) =
            if is_copy { (self.record.freed > seen, self.record.last > seen) } else { (false, false) };
        if let (Some(offers), false) = (&mut self.offers, lives) {
            offers.open.remove(&scheduler);
        }
        let placed = plan.placed.len() as u64;
        let evicted = self.adopt(number, &job, plan.placed, observer);
        for pod in &plan.spokesmen {
            self.tell(observer, &Happening::Refused { job: &job, pod });
        }
        let count = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let attempt = Attempt {
            scheduler,
            job: &job,
            arrived,
            first,
            began,
            placed: count(placed),
            conflicts: count(conflicts),
            refused: count(plan.refused),
        };
        self.tell(observer, &Happening::Attempt(attempt));
        let near = plan.spokesmen.iter().any(|pod| looks_at_others(pod));
        let failure = match contested {
            true => Failure::Conflict,
            false if plan.refused == 0 => Failure::Late,
            false => Failure::Refused { near, missed: missed || (near && missed_near) },
        };
        self.settle(number, failure, observer);
        if evicted {
            self.release(false);
        } else if placed > 0 {
            self.release(true);
        }
    }

    /// Where the job goes after an attempt.
    fn settle(&mut self, number: u64, failure: Failure, observer: &mut dyn Observer) {
        let Some(live) = self.jobs.live.get_mut(&number) else { return };
        live.stand = Stand::Content;
        if live.waiting.count() == 0 {
            (live.failures, live.conflicts) = (0, 0);
            return;
        }
        self.try_again(number, failure, observer);
    }

    /// Whether what was missing is on offer to somebody else.
    fn would_fit_without_offers(&mut self, number: u64, plan: &Plan) -> bool {
        if self.jobs.live.get(&number).is_some_and(|live| live.job.gang) {
            let all = self.plan(number);
            all.take_back(&mut self.engine);
            return !all.placed.is_empty();
        }
        plan.spokesmen.iter().any(|pod| self.engine.decide(pod).is_ok())
    }

    fn commit(&mut self, mut plan: Plan, job: &Job, seen: u64) -> (Plan, u64) {
        let Architecture::SharedState { conflicts, .. } = self.simulation.architecture else { return (plan, 0) };
        let gang = job.gang || self.simulation.architecture.is_gang();
        let start = super::jobs::time(self.now);
        for planned in &mut plan.placed {
            Arc::make_mut(&mut planned.pod).status.start_time.clone_from(&start);
        }
        let in_conflict = claim(&mut plan, &mut self.engine, (&self.record, seen), conflicts, gang);
        (plan, in_conflict)
    }

    fn plan_within_offer(&mut self, number: u64, scheduler: usize) -> Plan {
        if let Some(offers) = &mut self.offers {
            offers.use_it(scheduler, self.engine.cluster());
        }
        let plan = self.plan(number);
        if let Some(offers) = &mut self.offers {
            offers.returned();
        }
        plan
    }

    /// Pods that were given places have them; says whether others had to go.
    fn adopt(&mut self, number: u64, job: &Arc<Job>, all: Vec<Planned>, observer: &mut dyn Observer) -> bool {
        let mut evicted = false;
        for victim in all.iter().flat_map(|planned| &planned.victims) {
            if let Some(key) = self.jobs.key_of(victim) {
                evicted = true;
                self.gone(key, Why::Preempted, observer);
            }
        }
        for planned in all {
            let Planned { ordinal, pod, node, .. } = planned;
            let Some(live) = self.jobs.live.get_mut(&number) else { break };
            let Some(waiting_since) = live.waiting.take(ordinal) else { continue };
            live.running += 1;
            live.reach = live.reach.max(ordinal + 1);
            let duration = live.task_of(ordinal).and_then(|(_, task)| task.duration);
            let scheduler = live.scheduler;
            let key = (number, ordinal);
            let end =
                duration.map(|duration| self.agenda.enter(self.now.saturating_add(duration), Appointment::End(key)));
            if let Some(offers) = &mut self.offers {
                let shape = self.engine.cluster_mut().shape(&pod);
                offers.charge(scheduler, shape.requests(), 1);
            }
            // With its devices, if it has any.
            let meta = &pod.metadata;
            let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
            let there = self.engine.cluster().find_pod(namespace.unwrap_or_default(), name.unwrap_or_default());
            let pod = there.map_or(pod.clone(), |there| there.pod().clone());
            self.record.change(node);
            self.tell(observer, &Happening::Placed(Placed { job, pod: &pod, node, waiting_since, duration }));
            self.jobs.lives.insert(key, Life { pod, node, since: self.now, end });
        }
        evicted
    }
}

/// Whether pods that come may help this one: it wants to be near some, or spread with them.
fn looks_at_others(pod: &Pod) -> bool {
    let affinity = pod.spec.affinity.as_deref();
    !pod.spec.topology_spread_constraints.is_empty()
        || affinity.is_some_and(|affinity| affinity.pod_affinity.is_some() || affinity.pod_anti_affinity.is_some())
}
