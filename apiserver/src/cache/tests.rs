//! How long events are kept.

use std::time::Duration;

use longshore_core::api::ConfigMap;
use longshore_core::kind::KindType;

use super::{EVENTS_AGE, EVENTS_MIN, Event, State};

fn event(revision: u64, at: Duration) -> Event {
    let object = (KindType::of::<ConfigMap>().from_slice)(b"{}").unwrap();
    Event { at, revision, key: "default/a".to_owned(), object: object.into(), previous: None, deleted: false }
}

#[test]
fn old_events_go_when_there_are_enough_and_young_ones_when_there_are_too_many() {
    let mut state = State::default();
    let start = Duration::from_secs(1);
    for revision in 1..=300 {
        state.push(event(revision, start), 1000);
    }
    assert_eq!((state.events.len(), state.oldest), (300, 0));
    state.push(event(301, start + EVENTS_AGE + start), 1000);
    assert_eq!((state.events.len(), state.oldest), (EVENTS_MIN, 301 - EVENTS_MIN as u64));
    for revision in 302..=2000 {
        state.push(event(revision, start + EVENTS_AGE + start), 1000);
    }
    assert_eq!((state.events.len(), state.oldest), (1000, 1000));
}
