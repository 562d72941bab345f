//! Which job is tried next, and when one that did not get all is tried again.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use super::agenda::Appointment;
use super::configuration::Retry;
use super::jobs::Stand;
use super::running::Running;
use crate::observer::{Happening, Observer};

/// As the scheduler of this project has it for pods whose place somebody else took.
const CONFLICT_INITIAL: Duration = Duration::from_millis(10);
const CONFLICT_MAX: Duration = Duration::from_secs(1);

/// A job's turn: by priority, then first come first served. The last is the job's number.
pub(super) type Turn = (Reverse<i32>, u64, u64);

#[derive(Debug)]
pub(super) struct Queues {
    /// By scheduler.
    pub(super) turns: Vec<BTreeSet<Turn>>,
    /// Jobs that wait for room.
    pub(super) parked: BTreeSet<u64>,
    /// Those of them that other pods' coming may help.
    pub(super) near: BTreeSet<u64>,
    /// The number of the next turn.
    pub(super) next: u64,
}

/// How an attempt ended that left pods waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Conflict,
    /// `near`: other pods' coming may help. `missed`: something that may help has happened since the attempt began.
    Refused {
        near: bool,
        missed: bool,
    },
    /// They came to wait meanwhile.
    Late,
}

impl Queues {
    pub(super) fn new(schedulers: usize) -> Self {
        let turns = (0..schedulers).map(|_| BTreeSet::new()).collect();
        Self { turns, parked: BTreeSet::new(), near: BTreeSet::new(), next: 0 }
    }
}

impl Running {
    /// A job is to be tried, after those that wait already.
    pub(super) fn queue(&mut self, number: u64) {
        let turn = self.queues.next;
        self.queues.next += 1;
        self.queue_at(number, turn);
    }

    pub(super) fn queue_at(&mut self, number: u64, turn: u64) {
        let Some(live) = self.jobs.live.get_mut(&number) else { return };
        live.stand = Stand::Queued(turn);
        self.queues.turns[live.scheduler].insert((Reverse(live.job.priority()), turn, number));
    }

    /// The next job of a scheduler.
    pub(super) fn next_of(&mut self, scheduler: usize) -> Option<u64> {
        self.queues.turns[scheduler].pop_first().map(|(.., number)| number)
    }

    /// Takes a job from where it waits.
    pub(super) fn withdraw(&mut self, number: u64) {
        let Some(live) = self.jobs.live.get_mut(&number) else { return };
        match std::mem::replace(&mut live.stand, Stand::Content) {
            Stand::Content | Stand::Considered => {}
            Stand::Queued(turn) => {
                self.queues.turns[live.scheduler].remove(&(Reverse(live.job.priority()), turn, number));
            }
            Stand::BacksOff(entry) => self.agenda.strike(entry, Appointment::Due(number)),
            Stand::Parked { .. } => {
                self.queues.parked.remove(&number);
                self.queues.near.remove(&number);
            }
        }
    }

    /// An attempt left pods of a job waiting.
    pub(super) fn try_again(&mut self, number: u64, failure: Failure, observer: &mut dyn Observer) {
        let retry = self.simulation.retry;
        let Some(live) = self.jobs.live.get_mut(&number) else { return };
        live.stand = Stand::Content;
        match failure {
            Failure::Late => return self.queue(number),
            Failure::Conflict => live.conflicts += 1,
            Failure::Refused { .. } => live.failures += 1,
        }
        match retry {
            Retry::Immediate { attempts } if live.failures.saturating_add(live.conflicts) >= attempts => {
                self.give_up(number, observer);
            }
            Retry::Immediate { .. } => self.queue(number),
            Retry::Backoff { initial, max } => match failure {
                Failure::Refused { missed: true, .. } => {
                    let wait = doubled(initial, live.failures, max);
                    self.back_off(number, self.now.saturating_add(wait));
                }
                Failure::Refused { near, .. } => self.park_since(number, self.now, near),
                Failure::Conflict | Failure::Late => {
                    let wait = doubled(CONFLICT_INITIAL, live.conflicts, CONFLICT_MAX);
                    self.back_off(number, self.now.saturating_add(wait));
                }
            },
        }
    }

    fn give_up(&mut self, number: u64, observer: &mut dyn Observer) {
        let Some(live) = self.jobs.live.get_mut(&number) else { return };
        let waiting = live.waiting.count();
        live.waiting.clear();
        (live.failures, live.conflicts) = (0, 0);
        let (job, arrived, is_over) = (live.job.clone(), live.arrived, live.running == 0);
        self.tell(observer, &Happening::GivenUp { job: &job, arrived, waiting });
        if is_over {
            self.end_job(number, observer);
        }
    }

    pub(super) fn set_stand(&mut self, number: u64, stand: Stand) {
        if let Some(live) = self.jobs.live.get_mut(&number) {
            live.stand = stand;
        }
    }

    fn back_off(&mut self, number: u64, due: Duration) {
        if due <= self.now {
            return self.queue(number);
        }
        let entry = self.agenda.enter(due, Appointment::Due(number));
        if let Some(live) = self.jobs.live.get_mut(&number) {
            live.stand = Stand::BacksOff(entry);
        }
    }

    pub(super) fn park_since(&mut self, number: u64, since: Duration, near: bool) {
        let Some(live) = self.jobs.live.get_mut(&number) else { return };
        live.stand = Stand::Parked { since, near };
        self.queues.parked.insert(number);
        if near {
            self.queues.near.insert(number);
        }
    }

    /// Something happened that may help those that wait for room, or, if a pod came, only those that want to be near some: they are
    /// tried again when their back-off is over.
    pub(super) fn release(&mut self, came: bool) {
        let Retry::Backoff { initial, max } = self.simulation.retry else { return };
        let helped = if came {
            let helped = std::mem::take(&mut self.queues.near);
            self.queues.parked.retain(|number| !helped.contains(number));
            helped
        } else {
            self.queues.near.clear();
            std::mem::take(&mut self.queues.parked)
        };
        for number in helped {
            let Some(live) = self.jobs.live.get(&number) else { continue };
            let Stand::Parked { since, .. } = live.stand else { continue };
            self.back_off(number, since.saturating_add(doubled(initial, live.failures, max)));
        }
    }
}

/// The wait after so many failures: it doubles with each.
fn doubled(initial: Duration, failures: u32, max: Duration) -> Duration {
    let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    initial.saturating_mul(factor).min(max)
}
