//! The jobs that live, and which of their pods wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use longshore_core::api::pod::Pod;
use longshore_core::scheduling::NodeId;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::agenda::Entry;
use crate::workload::{Job, Task};

/// A pod: its job's number, and which of the job's it is.
pub(super) type PodKey = (u64, u64);

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stand {
    /// None of its pods waits.
    Content,
    /// In its scheduler's queue, at this turn.
    Queued(u64),
    /// Its scheduler thinks about it.
    Considered,
    /// It is tried again at this time.
    BacksOff(Entry),
    /// It waits for something that may help, since this time. `near`: other pods' coming may.
    Parked { since: Duration, near: bool },
}

/// A job that lives.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) job: Arc<Job>,
    pub(super) arrived: Duration,
    /// Who takes it.
    pub(super) scheduler: usize,
    pub(super) stand: Stand,
    /// Attempts of late that did not get all.
    pub(super) failures: u32,
    /// Attempts of late that came to grief by conflicts.
    pub(super) conflicts: u32,
    /// Whether it was tried at all.
    pub(super) tried: bool,
    pub(super) waiting: Waiting,
    pub(super) running: u64,
    /// No pod from this on ever had a place.
    pub(super) reach: u64,
}

impl Live {
    /// The place of a pod's task in the list of tasks, and the pods of this task.
    pub(super) fn task_of(&self, ordinal: u64) -> Option<(usize, &Task)> {
        let mut end = 0;
        let mut tasks = self.job.tasks.iter().enumerate();
        tasks.find(|(_, task)| {
            end += u64::from(task.count);
            ordinal < end
        })
    }
}

/// Pods that wait, in ranges of neighbours that do so since the same time: by first, the one past the last, and since when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    ranges: BTreeMap<u64, (u64, Duration)>,
    count: u64,
}

impl Waiting {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn ranges(&self) -> impl Iterator<Item = (u64, u64, Duration)> {
        self.ranges.iter().map(|(first, (end, since))| (*first, *end, *since))
    }

    /// Puts pods in that are not.
    pub(super) fn put(&mut self, first: u64, end: u64, since: Duration) {
        if first >= end {
            return;
        }
        self.count += end - first;
        let end = match self.ranges.get(&end) {
            Some((later, same)) if *same == since => {
                let later = *later;
                self.ranges.remove(&end);
                later
            }
            _ => end,
        };
        if let Some((_, before)) = self.ranges.range_mut(..first).next_back()
            && *before == (first, since)
        {
            before.0 = end;
            return;
        }
        self.ranges.insert(first, (end, since));
    }

    /// Takes a pod out; says since when it waited.
    pub(super) fn take(&mut self, ordinal: u64) -> Option<Duration> {
        let (&first, &(end, since)) = self.ranges.range(..=ordinal).next_back()?;
        if ordinal >= end {
            return None;
        }
        self.count -= 1;
        self.ranges.remove(&first);
        if first < ordinal {
            self.ranges.insert(first, (ordinal, since));
        }
        if ordinal + 1 < end {
            self.ranges.insert(ordinal + 1, (end, since));
        }
        Some(since)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A pod that has a place.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) pod: Arc<Pod>,
    pub(super) node: NodeId,
    pub(super) since: Duration,
    /// When it ends, if it does by itself.
    pub(super) end: Option<Entry>,
}

/// All that lives.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    pub(super) live: FxHashMap<u64, Live>,
    pub(super) lives: FxHashMap<PodKey, Life>,
    names: FxHashMap<Arc<str>, u64>,
    /// The number of the next job.
    pub(super) next: u64,
}

impl Jobs {
    pub(super) fn by_name(&self, name: &str) -> Option<u64> {
        self.names.get(name).copied()
    }

    pub(super) fn insert(&mut self, number: u64, live: Live) {
        self.names.insert(live.job.name.clone(), number);
        self.live.insert(number, live);
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Live> {
        let live = self.live.remove(&number)?;
        self.names.remove(&live.job.name);
        Some(live)
    }

    /// Whose pod this is.
    pub(super) fn key_of(&self, pod: &Pod) -> Option<PodKey> {
        let (job, ordinal) = pod.metadata.name.as_deref()?.rsplit_once('-')?;
        Some((self.by_name(job)?, ordinal.parse().ok()?))
    }
}

/// One of a job's pods, as it is when it starts. Its name ends in its number, so that its job can be told.
pub(super) fn pod_of(job: &Job, task: &Task, ordinal: u64, start: Duration) -> Pod {
    let mut pod = Pod::clone(&task.pod);
    pod.metadata.name = Some(format!("{}-{ordinal}", job.name));
    pod.status.start_time = time(start);
    pod
}

/// Policies of preemption compare it: those that began late have done the least.
pub(super) fn time(at: Duration) -> Option<Time> {
    Timestamp::UNIX_EPOCH.checked_add(at).ok().map(Time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_pods_are_ranges_of_neighbours() {
        let at = Duration::from_secs;
        let mut waiting = Waiting::default();
        waiting.put(0, 4, at(1));
        waiting.put(5, 5, at(1));
        assert_eq!(waiting.take(2), Some(at(1)));
        assert_eq!(waiting.take(2), None);
        assert_eq!(waiting.take(9), None);
        assert_eq!(waiting.ranges().collect::<Vec<_>>(), [(0, 2, at(1)), (3, 4, at(1))]);
        waiting.put(2, 3, at(7));
        assert_eq!(waiting.ranges().collect::<Vec<_>>(), [(0, 2, at(1)), (2, 3, at(7)), (3, 4, at(1))]);
        waiting.put(4, 6, at(1));
        assert_eq!((waiting.ranges().count(), waiting.count()), (3, 6));
        assert_eq!(waiting.take(2), Some(at(7)));
        waiting.put(2, 3, at(1));
        assert_eq!(waiting.ranges().collect::<Vec<_>>(), [(0, 6, at(1))], "equal states look equal");
    }
}
