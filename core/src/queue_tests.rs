use super::*;
use crate::clock::VirtualClock;

fn queue() -> (WorkQueue<&'static str>, VirtualClock, QueueMetrics) {
    let clock = VirtualClock::new();
    let metrics = QueueMetrics::default();
    let queue = WorkQueue::with_metrics(Arc::new(clock.clone()), Backoff::default(), &metrics, "test");
    (queue, clock, metrics)
}

macro_rules! pending {
    ($future:expr) => {
        assert!(futures::poll!(&mut $future).is_pending())
    };
}

#[tokio::test]
async fn key_waits_once_and_is_never_worked_on_twice_at_once() {
    let (queue, _, metrics) = queue();
    queue.add("a");
    queue.add("a");
    assert_eq!((queue.len(), metrics.depth("test")), (1, 1));
    let work = queue.get().await.unwrap();
    queue.add("a");
    {
        let next = queue.get();
        tokio::pin!(next);
        pending!(next);
    }
    work.done();
    assert_eq!(queue.get().await.unwrap().key(), &"a");
    assert!(queue.is_idle());
}

#[tokio::test]
async fn priority_then_arrival() {
    let (queue, ..) = queue();
    for (key, priority) in [("low", -1), ("a", 0), ("b", 0), ("high", 5), ("b", 9)] {
        queue.add_with(key, priority);
    }
    let mut order = Vec::new();
    while !queue.is_empty() {
        order.push(*queue.get().await.unwrap().key());
    }
    assert_eq!(order, ["b", "high", "a", "low"]);
}

#[tokio::test]
async fn back_off_doubles_is_bounded_and_does_not_inflate() {
    let (queue, clock, _) = queue();
    queue.add("a");
    queue.get().await.unwrap().failed();
    // News about the key while it waits changes nothing about its back-off.
    for _ in 0..50 {
        queue.add("a");
        drop(queue.get().await.unwrap());
    }
    assert_eq!(queue.failures(&"a"), 1);
    let start = clock.elapsed();
    for expect in [5, 15] {
        let next = queue.get();
        tokio::pin!(next);
        pending!(next);
        clock.advance_to_next().unwrap();
        next.await.unwrap().failed();
        assert_eq!((clock.elapsed() - start).as_millis(), expect);
    }
    assert_eq!(Backoff::default().after(u32::MAX), Duration::from_secs(1000));
    assert_eq!(Backoff::default().after(10), Duration::from_millis(2560));
    clock.advance(Duration::from_secs(1));
    queue.get().await.unwrap().done();
    assert_eq!(queue.failures(&"a"), 0);
}

#[tokio::test]
async fn earliest_delay_counts() {
    let (queue, clock, _) = queue();
    queue.add_after("a", Duration::from_secs(5));
    queue.add_after("a", Duration::from_secs(2));
    queue.add_after("a", Duration::from_secs(9));
    let next = queue.get();
    tokio::pin!(next);
    pending!(next);
    assert_eq!(clock.advance_to_next(), Some(Duration::from_secs(2)));
    next.await.unwrap().done();
    assert!(queue.is_idle());
}

#[tokio::test]
async fn shorter_delay_wakes_a_waiting_worker() {
    let (queue, clock, _) = queue();
    queue.add_after("late", Duration::from_secs(60));
    let next = queue.get();
    tokio::pin!(next);
    pending!(next);
    queue.add_after("soon", Duration::from_secs(1));
    pending!(next);
    clock.advance_to_next().unwrap();
    assert_eq!(next.await.unwrap().key(), &"soon");
}

#[tokio::test]
async fn closing_drains_and_ends_every_worker() {
    let (queue, ..) = queue();
    queue.add("a");
    queue.add_after("b", Duration::from_secs(1));
    queue.close();
    queue.add("c");
    assert_eq!(queue.get().await.unwrap().key(), &"a");
    assert!(queue.get().await.is_none());
    assert!(queue.get().await.is_none());
}

#[tokio::test]
async fn two_waiting_workers_share_two_keys() {
    let (queue, ..) = queue();
    let (first, second) = (queue.get(), queue.get());
    tokio::pin!(first, second);
    pending!(first);
    pending!(second);
    queue.add("a");
    queue.add("b");
    let (first, second) = tokio::join!(first, second);
    let mut keys = [*first.unwrap().key(), *second.unwrap().key()];
    keys.sort_unstable();
    assert_eq!(keys, ["a", "b"]);
}
