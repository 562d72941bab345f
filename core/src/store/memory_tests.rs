use std::time::Duration;

use futures::{FutureExt, StreamExt};

use super::*;
use crate::clock::VirtualClock;
use crate::store::WatchEvent;

fn small() -> HistoryLimits {
    HistoryLimits { changes_max: 10, bytes_max: 1 << 20 }
}

async fn put(store: &MemoryStore, key: &str, value: &str) -> Revision {
    match store.commit(Transaction::new().put(key, value.to_owned())).await.unwrap() {
        Committed::Done(revision) => revision,
        conflict => panic!("{conflict:?}"),
    }
}

#[tokio::test]
async fn a_full_ring_forgets_the_oldest() {
    let store = MemoryStore::with_clock(Arc::new(VirtualClock::new()), small());
    for index in 0..25 {
        put(&store, "/a", &index.to_string()).await;
    }
    let status = store.status().await.unwrap();
    assert_eq!((status.revision, status.compacted, status.keys), (26, 16, Some(1)));
    assert_eq!(store.watch("/", 15).await.err(), Some(Error::Compacted { requested: 15, oldest: 16 }));
    let old = store.list("/", ListOptions { revision: Some(16), ..Default::default() }).await.unwrap();
    assert_eq!(old.entries[0].value, "14");
}

#[tokio::test]
async fn a_watch_that_falls_behind_the_ring_is_cut_off_and_one_that_is_not_concerned_is_not() {
    let store = MemoryStore::with_clock(Arc::new(VirtualClock::new()), small());
    let mut slow = store.watch("/a", 1).await.unwrap();
    let mut idle = store.watch("/b", 1).await.unwrap();
    for index in 0..25 {
        put(&store, "/a", &index.to_string()).await;
    }
    assert_eq!(slow.next().await, Some(Err(Error::Lagged { last: 1 })));
    assert_eq!(slow.next().await, None);
    assert_eq!(idle.next().await, Some(Ok(WatchEvent::Progress(26))));
    assert!(idle.next().now_or_never().is_none());
    drop((slow, idle));
    assert_eq!(store.state.history.watchers(), 0);
}

#[tokio::test]
async fn keys_expire_when_the_clock_says_so() {
    let clock = VirtualClock::new();
    let store = MemoryStore::with_clock(Arc::new(clock.clone()), small());
    let mut watch = store.watch("/", 1).await.unwrap();
    store.commit(Transaction::new().put_with_ttl("/a", "x", Duration::from_secs(10))).await.unwrap();
    store.commit(Transaction::new().put_with_ttl("/b", "x", Duration::from_secs(5))).await.unwrap();
    put(&store, "/b", "forever").await;
    assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Changes { revision: 2, .. }))));
    clock.advance(Duration::from_millis(9_999));
    tokio::task::yield_now().await;
    assert!(store.get("/a").await.unwrap().value.is_some());
    clock.advance(Duration::from_millis(1));
    let deleted = loop {
        match watch.next().await.unwrap().unwrap() {
            WatchEvent::Changes { revision: 5, changes } => break changes,
            _ => continue,
        }
    };
    assert_eq!((deleted[0].key.as_str(), deleted.len()), ("/a", 1));
    assert!(store.get("/b").await.unwrap().value.is_some());
}

#[tokio::test]
async fn dropping_the_store_ends_its_watches_and_its_task() {
    let clock = VirtualClock::new();
    let store = MemoryStore::with_clock(Arc::new(clock.clone()), small());
    let mut watch = store.watch("/a", 1).await.unwrap();
    store.commit(Transaction::new().put_with_ttl("/b", "x", Duration::from_secs(10))).await.unwrap();
    tokio::task::yield_now().await;
    assert_eq!(clock.sleepers(), 1);
    drop(store);
    assert_eq!(watch.next().await, Some(Err(Error::Closed)));
    assert_eq!(watch.next().await, None);
    tokio::task::yield_now().await;
    assert_eq!(clock.sleepers(), 0);
}

#[tokio::test]
async fn a_watch_that_few_revisions_passed_by_names_them_when_it_is_told_to() {
    let history = History::new(1, HistoryLimits::default());
    let mut watch = history.watch("/a", 1).unwrap();
    assert_eq!(watch.next().await, Some(Ok(WatchEvent::Progress(1))));
    let waiting = async { watch.next().await };
    let elsewhere = async {
        let change = Change { key: "/b".into(), value: Some("".into()), previous: None, revision: 2, created: 2 };
        history.publish(vec![Commit { revision: 2, changes: vec![change] }]);
        history.tell_progress();
    };
    let (told, ()) = futures::join!(waiting, elsewhere);
    assert_eq!(told, Some(Ok(WatchEvent::Progress(2))));
}
