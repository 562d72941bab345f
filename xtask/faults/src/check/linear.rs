//! Linearizability of a single key: there is an order of all requests, each between its call and its answer, in which
//! every answer is what a register would have given.
//!
//! The search is that of Wing and Gong ("Testing and verifying concurrent objects", 1993) as Lowe improved it ("Testing for
//! linearizability", 2017): calls and answers are one list in the order of time; whatever is called before the first
//! answer may come next; a pair of what has been ordered and the state it led to is tried once.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::check::Violation;
use crate::history::{Call, Operation, Outcome};

/// The register: `None` while the object is not there.
type State = Option<u64>;

/// The state after a call that was answered as it was; `None` if that answer cannot come in this state. What has an unknown outcome
/// is taken to happen here.
fn step(state: State, call: Call) -> Option<State> {
    let (legal, next) = match call {
        Call::Read(value) => (state == value, state),
        Call::Create(_, Outcome::Refused) => (state.is_some(), state),
        Call::Create(value, _) => (state.is_none(), Some(value)),
        Call::Swap(expected, _, Outcome::Refused) | Call::Delete(expected, Outcome::Refused) => {
            (state != Some(expected), state)
        }
        Call::Swap(expected, value, _) => (state == Some(expected), Some(value)),
        Call::Delete(expected, _) => (state == Some(expected), None),
    };
    legal.then_some(next)
}

fn is_unknown(call: Call) -> bool {
    matches!(
        call,
        Call::Create(_, Outcome::Unknown) | Call::Swap(_, _, Outcome::Unknown) | Call::Delete(_, Outcome::Unknown)
    )
}

/// An entry of the list: a call, or the answer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Called(usize),
    Answered(usize),
}

/// The calls and answers that are not ordered yet, linked in the order of time. Index 0 is the head.
struct Pending {
    entries: Vec<Entry>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Where an operation's answer is; `None` if it has none.
    answers: Vec<Option<usize>>,
}

impl Pending {
    fn new(operations: &[Operation]) -> Self {
        let mut timed: Vec<(Duration, bool, Entry)> = Vec::new();
        for (index, operation) in operations.iter().enumerate() {
            timed.push((operation.called, false, Entry::Called(index)));
            if !is_unknown(operation.call) {
                timed.push((operation.returned, true, Entry::Answered(index)));
            }
        }
        // At the same moment a call counts as before an answer: that allows more.
        timed.sort_by_key(|(at, answer, _)| (*at, *answer));
        let mut answers = vec![None; operations.len()];
        // The head's entry is never looked at.
        let mut entries = vec![Entry::Called(usize::MAX)];
        for (_, _, entry) in timed {
            if let Entry::Answered(operation) = entry {
                answers[operation] = Some(entries.len());
            }
            entries.push(entry);
        }
        let count = entries.len();
        let next = (1..=count).map(|index| index % count).collect();
        let previous = (0..count).map(|index| (index + count - 1) % count).collect();
        Self { entries, next, previous, answers }
    }

    fn unlink(&mut self, entry: usize) {
        let (previous, next) = (self.previous[entry], self.next[entry]);
        (self.next[previous], self.previous[next]) = (next, previous);
    }

    fn relink(&mut self, entry: usize) {
        let (previous, next) = (self.previous[entry], self.next[entry]);
        (self.next[previous], self.previous[next]) = (entry, entry);
    }

    /// Takes a call and its answer out.
    fn lift(&mut self, entry: usize, operation: usize) {
        self.unlink(entry);
        if let Some(answer) = self.answers[operation] {
            self.unlink(answer);
        }
    }

    /// Undoes the last [`Pending::lift`].
    fn put_back(&mut self, entry: usize, operation: usize) {
        if let Some(answer) = self.answers[operation] {
            self.relink(answer);
        }
        self.relink(entry);
    }
}

/// Checks what clients did with one key, which was not there at first.
pub fn check(key: &str, operations: &[Operation]) -> Option<Violation> {
    let mut pending = Pending::new(operations);
    let mut state: State = None;
    let mut ordered = vec![0_u64; operations.len().div_ceil(64)];
    let mut tried = BTreeSet::new();
    let mut path: Vec<(usize, usize, State)> = Vec::new();
    let (mut furthest, mut stuck) = (0, None);
    let mut entry = pending.next[0];
    loop {
        if entry == 0 {
            // No answer is left: what remains is unknown, and need not have happened.
            return None;
        }
        match pending.entries[entry] {
            Entry::Called(operation) => {
                let flip = |ordered: &mut Vec<u64>| ordered[operation / 64] ^= 1 << (operation % 64);
                flip(&mut ordered);
                let next = step(state, operations[operation].call);
                if let Some(next) = next
                    && tried.insert((ordered.clone(), next))
                {
                    path.push((entry, operation, state));
                    state = next;
                    pending.lift(entry, operation);
                    entry = pending.next[0];
                } else {
                    flip(&mut ordered);
                    entry = pending.next[entry];
                }
            }
            Entry::Answered(operation) => {
                if stuck.is_none() || path.len() > furthest {
                    (furthest, stuck) = (path.len(), Some((operation, state)));
                }
                let Some((last, undone, before)) = path.pop() else { break };
                ordered[undone / 64] ^= 1 << (undone % 64);
                state = before;
                pending.put_back(last, undone);
                entry = pending.next[last];
            }
        }
    }
    let why = stuck.map_or_else(String::new, |(operation, state)| {
        format!(
            ": after {furthest} the register holds {state:?}, and {:?} cannot be answered so",
            operations[operation]
        )
    });
    Some(Violation::new(
        "linearizability",
        format!("{key}: no order of its {} requests explains all answers{why}", operations.len()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(called: u64, returned: u64, call: Call) -> Operation {
        Operation { called: Duration::from_millis(called), returned: Duration::from_millis(returned), call }
    }

    #[test]
    fn what_a_register_could_have_answered_is_no_violation() {
        let history = [
            at(0, 10, Call::Create(1, Outcome::Done)),
            // At the same time, and in either order.
            at(11, 30, Call::Swap(1, 2, Outcome::Done)),
            at(12, 29, Call::Swap(1, 3, Outcome::Refused)),
            at(13, 28, Call::Read(Some(1))),
            at(14, 29, Call::Read(Some(2))),
            at(31, 40, Call::Delete(1, Outcome::Refused)),
            at(41, 50, Call::Delete(2, Outcome::Done)),
            at(51, 60, Call::Read(None)),
        ];
        assert_eq!(check("a", &history), None);
    }

    #[test]
    fn a_stale_read_is_found() {
        let history = [
            at(0, 10, Call::Create(1, Outcome::Done)),
            at(11, 20, Call::Swap(1, 2, Outcome::Done)),
            at(21, 30, Call::Read(Some(1))),
        ];
        assert!(check("a", &history).unwrap().what.starts_with("a: "));
    }

    #[test]
    fn two_writes_on_one_state_are_found() {
        let history = [
            at(0, 10, Call::Create(1, Outcome::Done)),
            at(11, 20, Call::Swap(1, 2, Outcome::Done)),
            at(11, 20, Call::Swap(1, 3, Outcome::Done)),
        ];
        assert!(check("a", &history).is_some());
    }

    #[test]
    fn a_write_that_was_refused_and_happened_is_found() {
        let history = [at(0, 10, Call::Create(1, Outcome::Done)), at(11, 20, Call::Swap(1, 2, Outcome::Refused))];
        assert!(check("a", &history).is_some());
        let created = [at(0, 10, Call::Create(1, Outcome::Refused)), at(11, 20, Call::Read(Some(1)))];
        assert!(check("a", &created).is_some());
    }

    #[test]
    fn what_has_an_unknown_outcome_may_happen_late_or_never() {
        let create = at(0, 10, Call::Create(1, Outcome::Done));
        let unknown = at(11, 0, Call::Swap(1, 2, Outcome::Unknown));
        for late in [Call::Read(Some(1)), Call::Read(Some(2)), Call::Swap(1, 3, Outcome::Refused)] {
            assert_eq!(check("a", &[create, unknown, at(500, 510, late)]), None, "{late:?}");
        }
        let both = [create, unknown, at(20, 30, Call::Read(Some(2))), at(40, 50, Call::Read(Some(1)))];
        assert!(check("a", &both).is_some(), "what has happened does not unhappen");
    }

    #[test]
    fn a_long_history_of_many_clients_is_checked_at_once() {
        let mut history = vec![at(0, 1, Call::Create(0, Outcome::Done))];
        for round in 0..400 {
            let start = 10 + round * 10;
            history.push(at(start, start + 9, Call::Swap(round, round + 1, Outcome::Done)));
            for _ in 0..3 {
                history.push(at(start + 1, start + 8, Call::Swap(round, 10_000 + round, Outcome::Refused)));
            }
            history.push(at(start + 2, 0, Call::Swap(round, 20_000 + round, Outcome::Unknown)));
        }
        assert_eq!(check("a", &history), None);
    }
}
