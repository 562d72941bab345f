//! What will happen by itself, in the order of time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::jobs::PodKey;

/// What comes first of what happens in one moment: what frees room, then what comes from outside, then decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    End,
    Outside,
    Due,
    Decided,
}

/// Something that will happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appointment {
    /// A pod ends.
    End(PodKey),
    /// A job's back-off is over.
    Due(u64),
    /// A scheduler has made up its mind.
    Decided(usize),
}

impl Appointment {
    fn rank(self) -> Rank {
        match self {
            Self::End(_) => Rank::End,
            Self::Due(_) => Rank::Due,
            Self::Decided(_) => Rank::Decided,
        }
    }
}

/// When something will happen, and the so manieth it was to be entered: with this it can be struck out.
pub(super) type Entry = (Duration, u64);

#[derive(Debug, Default)]
pub(super) struct Agenda {
    entries: BTreeMap<(Duration, Rank, u64), Appointment>,
    /// The number of the next entry.
    pub(super) next: u64,
}

impl Agenda {
    pub(super) fn enter(&mut self, at: Duration, what: Appointment) -> Entry {
        let number = self.next;
        self.next += 1;
        self.restore((at, number), what);
        (at, number)
    }

    /// Enters what was entered before, under its number.
    pub(super) fn restore(&mut self, (at, number): Entry, what: Appointment) {
        self.entries.insert((at, what.rank(), number), what);
    }

    pub(super) fn strike(&mut self, (at, number): Entry, what: Appointment) {
        self.entries.remove(&(at, what.rank(), number));
    }

    /// When the next thing happens, and its rank.
    pub(super) fn first(&self) -> Option<(Duration, Rank)> {
        self.entries.keys().next().map(|(at, rank, _)| (*at, *rank))
    }

    pub(super) fn pop(&mut self) -> Option<Appointment> {
        self.entries.pop_first().map(|(_, what)| what)
    }
}
