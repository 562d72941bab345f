//! The state of a simulation, and its loop: what happens next, and what follows from it.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::Node;
use longshore_core::api::pod::Pod;
use longshore_core::clock::Clock;
use longshore_core::scheduling::NodeId;
use longshore_scheduler::{Engine, Profile};

use super::agenda::{Agenda, Appointment, Rank};
use super::claim::Record;
use super::configuration::{Architecture, Deciders, Simulation};
use super::error::{ConfigurationError, Error};
use super::jobs::{Jobs, Life, Live, PodKey, Stand, Waiting, pod_of};
use super::offer::{Limit, Offers};
use super::plan::take_out;
use super::queue::Queues;
use super::thought::Thought;
use crate::observer::{Happening, Observer, Placed, Why};
use crate::workload::{Class, Event, Job, Task, What};

/// What became of a simulation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How far it went: to the last moment in which anything happened, or to where it was told to stop.
    pub at: Duration,
    /// How many events of the workload happened.
    pub events: u64,
    /// How many jobs live.
    pub jobs: usize,
    /// How many pods have a place.
    pub running: usize,
    /// How many pods wait for one.
    pub waiting: u64,
    /// By scheduler: how long it was deciding, as far as it went.
    pub busy: Vec<Duration>,
}

/// A simulation under way. [`Simulation::start`] makes one.
#[derive(Debug)]
pub struct Running {
    pub(super) simulation: Simulation,
    pub(super) clock: Option<Arc<dyn Clock>>,
    pub(super) engine: Engine,
    pub(super) record: Record,
    pub(super) jobs: Jobs,
    pub(super) queues: Queues,
    pub(super) agenda: Agenda,
    /// By scheduler: what it thinks about.
    pub(super) thoughts: Vec<Option<Thought>>,
    pub(super) offers: Option<Offers>,
    pub(super) busy: Vec<Duration>,
    pub(super) now: Duration,
    /// How many events of the workload happened.
    pub(super) events: u64,
}

impl Simulation {
    /// An empty cluster at time zero.
    ///
    /// # Errors
    /// It cannot be run as it is configured.
    pub fn start(&self, deciders: impl Into<Deciders>) -> Result<Running, ConfigurationError> {
        let Deciders { mut profiles, clock } = {
            let deciders = deciders.into();
            self.check(&deciders)?;
            deciders
        };
        let schedulers = self.architecture.schedulers();
        let offers = matches!(self.architecture, Architecture::TwoLevel { .. }).then(|| {
            let limit = Limit::default();
            profiles = profiles.drain(..).map(|profile: Profile| profile.with(limit.clone())).collect();
            Offers::new(schedulers, limit)
        });
        Ok(Running {
            engine: Engine::with_profiles(profiles, self.tie_break())?,
            simulation: self.clone(),
            clock,
            record: Record::default(),
            jobs: Jobs::default(),
            queues: Queues::new(schedulers),
            agenda: Agenda::default(),
            thoughts: (0..schedulers).map(|_| None).collect(),
            offers,
            busy: vec![Duration::ZERO; schedulers],
            now: Duration::ZERO,
            events: 0,
        })
    }

    /// Runs a whole workload: until nothing can happen any more, or up to and including the moment `until`.
    ///
    /// # Errors
    /// It cannot be run as it is configured, or the workload is not in order.
    pub fn run<E: std::error::Error + 'static>(
        &self,
        deciders: impl Into<Deciders>,
        events: impl IntoIterator<Item = Result<Event, E>>,
        until: Option<Duration>,
        observer: &mut dyn Observer,
    ) -> Result<Ended, Error<E>> {
        self.start(deciders)?.advance(&mut events.into_iter().peekable(), until, observer)
    }
}

impl Running {
    /// The time.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// How many events of the workload have happened: after a [`checkpoint`](Running::checkpoint) go on with those after them.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Goes on until nothing can happen any more, or up to and including the moment `until`. What is later is not taken from `events`,
    /// so that one can go on again.
    ///
    /// # Errors
    /// The workload cannot be read on, or is not in order; what came before has happened.
    pub fn advance<E: std::error::Error + 'static>(
        &mut self,
        events: &mut Peekable<impl Iterator<Item = Result<Event, E>>>,
        until: Option<Duration>,
        observer: &mut dyn Observer,
    ) -> Result<Ended, Error<E>> {
        loop {
            let outside = match events.next_if(Result::is_err) {
                Some(Err(source)) => return Err(Error::Events { events: self.events, at: self.now, source }),
                _ => events.peek().and_then(|event| event.as_ref().ok()).map(|event| event.at),
            };
            if let Some(at) = outside.filter(|at| *at < self.now) {
                return Err(Error::OutOfOrder { number: self.events + 1, at, now: self.now });
            }
            let outside = outside.map(|at| (at, Rank::Outside));
            let next = self.agenda.first().into_iter().chain(outside).min();
            // All that happens in a moment has happened before anybody begins to decide.
            if next.is_none_or(|(at, _)| at > self.now) && self.begin() {
                continue;
            }
            let Some((at, _)) = next.filter(|(at, _)| until.is_none_or(|until| *at <= until)) else {
                return Ok(self.ended(next.and(until)));
            };
            self.now = at;
            if next == outside
                && let Some(Ok(event)) = events.next()
            {
                self.happen(event.what, observer)?;
                self.events += 1;
            } else if let Some(appointment) = self.agenda.pop() {
                self.keep(appointment, observer);
            }
        }
    }

    fn ended(&self, until: Option<Duration>) -> Ended {
        let at = until.unwrap_or(self.now);
        let unfinished = self.thoughts.iter().map(|thought| thought.as_ref().map(|thought| at - thought.began.min(at)));
        let busy = self.busy.iter().zip(unfinished).map(|(busy, more)| *busy + more.unwrap_or_default()).collect();
        Ended {
            at,
            events: self.events,
            jobs: self.jobs.live.len(),
            running: self.jobs.lives.len(),
            waiting: self.jobs.live.values().map(|live| live.waiting.count()).sum(),
            busy,
        }
    }

    pub(super) fn tell(&self, observer: &mut dyn Observer, what: &Happening<'_>) {
        observer.hear(self.now, what, self.engine.cluster());
    }

    fn keep(&mut self, appointment: Appointment, observer: &mut dyn Observer) {
        match appointment {
            Appointment::End(key) => self.leave(key, Why::Finished, observer),
            Appointment::Due(job) => self.queue(job),
            Appointment::Decided(scheduler) => self.decide(scheduler, observer),
        }
    }

    fn happen<E: std::error::Error + 'static>(
        &mut self,
        what: What,
        observer: &mut dyn Observer,
    ) -> Result<(), Error<E>> {
        match what {
            What::Node(node) if node.metadata.name.as_deref().unwrap_or_default().is_empty() => {
                return Err(Error::NamelessNode { at: self.now });
            }
            What::Node(node) => self.node_up(node, observer),
            What::NodeLost(name) => self.node_down(&name, Why::NodeLost, observer),
            What::Drain(name) => self.node_down(&name, Why::Drained, observer),
            What::Job(job) if self.jobs.by_name(&job.name).is_some() => {
                return Err(Error::SameJob { job: job.name, at: self.now });
            }
            What::Job(job) => self.arrive(job, observer),
            What::Cancel(name) => self.cancel(&name, observer),
            What::Running { pod, node } => self.runs_already(pod, &node, observer),
            What::Object(object) => {
                self.engine.cluster_mut().put_object(object);
                self.release(false);
            }
        }
        Ok(())
    }

    fn node_up(&mut self, node: Arc<Node>, observer: &mut dyn Observer) {
        let cluster = self.engine.cluster_mut();
        let is_new = cluster.node_id(node.metadata.name.as_deref().unwrap_or_default()).is_none();
        let id = cluster.put_node(node);
        if is_new {
            self.record.come(id);
        } else {
            self.record.free(id);
        }
        if let Some(offers) = &mut self.offers {
            offers.node_came(self.engine.cluster(), id);
        }
        self.tell(observer, &Happening::NodeUp(id));
        self.release(false);
    }

    /// A node that is emptied is out of the cluster, so that it takes no pods whatever the policies.
    fn node_down(&mut self, name: &str, why: Why, observer: &mut dyn Observer) {
        let Some(node) = self.engine.cluster().node_id(name) else { return };
        for key in self.pods_on(node) {
            self.leave(key, why, observer);
        }
        self.engine.cluster_mut().remove_node(name);
        self.record.change(node);
        if let Some(offers) = &mut self.offers {
            offers.node_gone(node);
        }
        self.tell(observer, &Happening::NodeDown(node));
    }

    fn pods_on(&self, node: NodeId) -> BTreeSet<PodKey> {
        self.engine.cluster().pods_on(node).filter_map(|placed| self.jobs.key_of(placed.pod())).collect()
    }

    /// A pod runs already: a job of its own, which no scheduler has to place.
    fn runs_already(&mut self, pod: Arc<Pod>, node: &str, observer: &mut dyn Observer) {
        let Some(node) = self.engine.cluster().node_id(node) else { return };
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let name = format!("{namespace}/{}", pod.metadata.name.as_deref().unwrap_or_default());
        let tasks = vec![Task { pod, count: 1, duration: None }];
        let job = Job { name: name.into(), user: namespace.into(), class: Class::Service, gang: false, tasks };
        let pod = Arc::new(pod_of(&job, &job.tasks[0], 0, self.now));
        let number = self.admit(job, observer);
        let Some(live) = self.jobs.live.get_mut(&number) else { return };
        let (job, waiting_since, duration) = (live.job.clone(), self.now, None);
        live.waiting.clear();
        (live.running, live.reach) = (1, 1);
        let scheduler = live.scheduler;
        self.engine.cluster_mut().place(pod.clone(), node);
        if let Some(offers) = &mut self.offers {
            let shape = self.engine.cluster_mut().shape(&pod);
            offers.charge(scheduler, shape.requests(), 1);
        }
        self.record.change(node);
        self.tell(observer, &Happening::Placed(Placed { job: &job, pod: &pod, node, waiting_since, duration }));
        self.jobs.lives.insert((number, 0), Life { pod, node, since: self.now, end: None });
    }

    fn arrive(&mut self, job: Job, observer: &mut dyn Observer) {
        let pods = job.pods();
        let number = self.admit(job, observer);
        if pods == 0 {
            self.end_job(number, observer);
        } else {
            self.queue(number);
        }
    }

    /// A job is there; all of its pods wait.
    fn admit(&mut self, job: Job, observer: &mut dyn Observer) -> u64 {
        let number = self.jobs.next;
        self.jobs.next += 1;
        let job = Arc::new(job);
        let scheduler = self.simulation.architecture.scheduler_of(&job.name, job.class);
        let mut waiting = Waiting::default();
        waiting.put(0, job.pods(), self.now);
        let live = Live {
            job: job.clone(),
            arrived: self.now,
            scheduler,
            stand: Stand::Content,
            failures: 0,
            conflicts: 0,
            tried: false,
            waiting,
            running: 0,
            reach: 0,
        };
        self.jobs.insert(number, live);
        self.tell(observer, &Happening::JobArrived(&job));
        number
    }

    fn cancel(&mut self, name: &str, observer: &mut dyn Observer) {
        let Some(number) = self.jobs.by_name(name) else { return };
        let Some(live) = self.jobs.live.get_mut(&number) else { return };
        live.waiting.clear();
        let keys = (0..live.reach).map(|ordinal| (number, ordinal));
        let keys: Vec<PodKey> = keys.filter(|key| self.jobs.lives.contains_key(key)).collect();
        if keys.is_empty() {
            self.end_job(number, observer);
        }
        keys.into_iter().for_each(|key| self.leave(key, Why::Cancelled, observer));
    }

    /// A pod leaves its node.
    pub(super) fn leave(&mut self, key: PodKey, why: Why, observer: &mut dyn Observer) {
        self.gone(key, why, observer);
        self.release(false);
    }

    /// A pod leaves its node, if it has not been taken from it already. Who waits does not yet hear of it.
    pub(super) fn gone(&mut self, key: PodKey, why: Why, observer: &mut dyn Observer) {
        let Some(life) = self.jobs.lives.remove(&key) else { return };
        if let Some(end) = life.end {
            self.agenda.strike(end, Appointment::End(key));
        }
        take_out(&mut self.engine, &life.pod);
        self.record.free(life.node);
        let Some(live) = self.jobs.live.get_mut(&key.0) else { return };
        live.running -= 1;
        if let Some(offers) = &mut self.offers {
            let shape = self.engine.cluster_mut().shape(&life.pod);
            offers.charge(live.scheduler, shape.requests(), -1);
        }
        let job = live.job.clone();
        let waits_again = matches!(why, Why::NodeLost | Why::Drained | Why::Preempted);
        if waits_again {
            live.waiting.put(key.1, key.1 + 1, self.now);
        }
        let (is_over, is_content) = (live.running == 0 && live.waiting.count() == 0, live.stand == Stand::Content);
        self.tell(observer, &Happening::Left { job: &job, pod: &life.pod, node: life.node, since: life.since, why });
        if is_over {
            self.end_job(key.0, observer);
        } else if waits_again && is_content {
            self.queue(key.0);
        }
    }

    /// A job is over, or is no longer wanted.
    pub(super) fn end_job(&mut self, number: u64, observer: &mut dyn Observer) {
        self.withdraw(number);
        if let Some(live) = self.jobs.remove(number) {
            self.tell(observer, &Happening::JobEnded { job: &live.job, arrived: live.arrived });
        }
    }
}
