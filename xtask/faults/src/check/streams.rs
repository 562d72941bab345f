//! Watches: in order, each change once, and nothing missing that another watch has told.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::Violation;
use crate::history::{Change, Event, Kind, Span, Stream};

/// Checks the order within each watch, and each watch against all others.
pub fn check(streams: &[Stream]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for kind in Kind::ALL {
        let same: Vec<&Stream> = streams.iter().filter(|stream| stream.kind == kind).collect();
        let all: BTreeSet<(u64, &str)> = same
            .iter()
            .flat_map(|stream| stream.spans.iter().flat_map(|span| &span.events))
            .map(|event| (event.revision, event.name.as_str()))
            .collect();
        for stream in same {
            for span in &stream.spans {
                let mut report = |what: String| {
                    violations.push(Violation::new("watches", format!("{kind} of server {}: {what}", stream.server)));
                };
                order(span, &mut report);
                complete(span, &all, &mut report);
            }
        }
    }
    violations
}

fn order(span: &Span, report: &mut impl FnMut(String)) {
    let mut last = span.from;
    // What is there, as far as the span has told; what it began with is not known.
    let mut there: BTreeMap<&str, bool> = BTreeMap::new();
    for Event { name, revision, change, .. } in &span.events {
        if *revision <= last {
            report(format!("{name} at {revision} came after {last}"));
        }
        last = last.max(*revision);
        let fits = match (there.get(name.as_str()), change) {
            (Some(true), Change::Added) | (Some(false), Change::Modified | Change::Deleted) => false,
            (None | Some(_), _) => true,
        };
        if !fits {
            report(format!("{name} at {revision} was {change:?} and cannot be"));
        }
        there.insert(name, *change != Change::Deleted);
    }
}

fn complete(span: &Span, all: &BTreeSet<(u64, &str)>, report: &mut impl FnMut(String)) {
    let seen: BTreeSet<(u64, &str)> = span.events.iter().map(|event| (event.revision, event.name.as_str())).collect();
    let expected = all.iter().filter(|(revision, _)| (span.from + 1..=span.until).contains(revision));
    for (revision, name) in expected.filter(|place| !seen.contains(place)) {
        report(format!("{name} at {revision} is missing between {} and {}", span.from, span.until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{changed, found, stream};

    fn event(revision: u64, change: Change) -> Event {
        changed(Kind::Pod, "a", revision, change, serde_json::json!({}))
    }

    #[test]
    fn watches_that_tell_the_same_in_parts_are_no_violation() {
        let all = [(2, Change::Added), (3, Change::Modified), (5, Change::Deleted), (6, Change::Added)];
        let events =
            |from: usize, until: usize| all[from..until].iter().map(|(at, change)| event(*at, *change)).collect();
        let (whole, mut part) = (stream(0, Kind::Pod, 1, 9, events(0, 4)), stream(1, Kind::Pod, 1, 3, events(0, 2)));
        // A listing at 5 came between: what was before it was not told.
        part.spans.push(Span { from: 5, until: 6, events: events(3, 4) });
        assert_eq!(check(&[whole, part]), []);
    }

    #[test]
    fn a_change_that_one_watch_left_out_is_found() {
        let whole = stream(0, Kind::Pod, 1, 9, vec![event(2, Change::Added), event(3, Change::Modified)]);
        let part = stream(1, Kind::Pod, 1, 9, vec![event(3, Change::Modified)]);
        assert_eq!(found(&check(&[whole, part])), ["watches: Pod of server 1: a at 2 is missing between 1 and 9"]);
    }

    #[test]
    fn a_change_that_comes_late_or_twice_is_found() {
        for events in [
            [event(3, Change::Added), event(2, Change::Modified)],
            [event(3, Change::Modified), event(3, Change::Modified)],
        ] {
            assert_eq!(check(&[stream(0, Kind::Pod, 1, 9, events.to_vec())]).len(), 1);
        }
    }

    #[test]
    fn an_object_that_appears_twice_or_changes_when_gone_is_found() {
        for (first, then) in [(Change::Added, Change::Added), (Change::Deleted, Change::Modified)] {
            let told = vec![event(2, first), event(3, then)];
            assert_eq!(check(&[stream(0, Kind::Pod, 1, 9, told)]).len(), 1);
        }
    }
}
