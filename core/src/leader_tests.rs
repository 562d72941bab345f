use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use super::*;
use crate::clock::VirtualClock;
use crate::kind::KindType;
use crate::testing::client::{FakeServer, Faults};

struct World {
    clock: VirtualClock,
    server: FakeServer,
}

fn world(seed: u64) -> World {
    let clock = VirtualClock::new();
    World { server: FakeServer::new(Arc::new(clock.clone()), seed), clock }
}

impl World {
    fn elector(&self, identity: &str, seed: u64) -> LeaderElector {
        let config = LeaderConfig::new("kube-system", "test", identity);
        LeaderElector::new(Arc::new(self.server.clone()), Arc::new(self.clock.clone()), config, seed)
    }

    fn lease(&self) -> LeaseSpec {
        let leases = self.server.objects(KindType::of::<Lease>());
        leases[0].as_any().downcast_ref::<Lease>().unwrap().spec.clone()
    }

    async fn pass(&self, seconds: u64) {
        let end = self.clock.elapsed() + Duration::from_secs(seconds);
        loop {
            for _ in 0..30 {
                tokio::task::yield_now().await;
            }
            if self.clock.elapsed() >= end {
                return;
            }
            self.clock.advance(Duration::from_millis(250));
        }
    }
}

#[tokio::test]
async fn first_leads_second_takes_over_when_it_stops() {
    let world = world(1);
    let (mut one, mut two) = (world.elector("one", 1), world.elector("two", 2));
    let (stop_one, stop_two) = (CancellationToken::new(), CancellationToken::new());
    let first = one.run(stop_one.clone(), |token| async move { token.cancelled().await });
    let second = two.run(stop_two.clone(), |token| async move { token.cancelled().await });
    let test = async {
        world.pass(1).await;
        assert_eq!(world.lease().holder_identity.as_deref(), Some("one"));
        world.pass(60).await;
        let lease = world.lease();
        assert_eq!((lease.holder_identity.as_deref(), lease.lease_transitions), (Some("one"), Some(0)));
        assert_eq!(lease.lease_duration_seconds, Some(15));
        assert!(lease.renew_time > lease.acquire_time);
        stop_one.cancel();
        // Handed back: no need to wait for it to lapse.
        world.pass(6).await;
        let lease = world.lease();
        assert_eq!((lease.holder_identity.as_deref(), lease.lease_transitions), (Some("two"), Some(1)));
        stop_two.cancel();
    };
    let ((first, second), ()) = tokio::join!(async { tokio::join!(first, second) }, test);
    assert_eq!((first, second), (Ended::Cancelled, Ended::Cancelled));
}

#[tokio::test]
async fn a_leader_that_cannot_renew_stops_before_others_start() {
    let world = world(2);
    let mut one = world.elector("one", 1);
    let run = one.run(CancellationToken::new(), |token| async move { token.cancelled().await });
    let test = async {
        world.pass(3).await;
        world.server.set_faults(Faults { refused: 1.0, ..Faults::default() });
        world.pass(13).await;
    };
    let (ended, ()) = tokio::join!(run, test);
    assert_eq!(ended, Ended::Lost);
}

/// Candidates that die, lose answers and cannot reach the server: never two that lead at once, and always somebody in
/// the end.
#[tokio::test]
async fn never_two_leaders() {
    for seed in 0..8 {
        let world = world(seed);
        let (leading, terms) = (AtomicI32::new(0), AtomicU32::new(0));
        let stop = CancellationToken::new();
        let candidate = |name: &'static str, seed: u64| {
            let (world, leading, terms, stop) = (&world, &leading, &terms, stop.clone());
            async move {
                let mut elector = world.elector(name, seed);
                while !stop.is_cancelled() {
                    elector
                        .run(stop.clone(), |token| async move {
                            assert_eq!(leading.fetch_add(1, Ordering::SeqCst), 0, "seed {seed}: two lead");
                            terms.fetch_add(1, Ordering::SeqCst);
                            token.cancelled().await;
                            leading.fetch_sub(1, Ordering::SeqCst);
                        })
                        .await;
                }
            }
        };
        let test = async {
            for round in 0..12 {
                let refused = if round % 3 == 0 { 0.9 } else { 0.3 };
                world.server.set_faults(Faults { refused, answer_lost: 0.1, ..Faults::default() });
                world.pass(20).await;
            }
            world.server.set_faults(Faults::default());
            world.pass(40).await;
            assert_eq!(leading.load(Ordering::SeqCst), 1, "seed {seed}");
            stop.cancel();
        };
        tokio::join!(candidate("one", 1), candidate("two", 2), candidate("three", 3), test);
        assert!(terms.load(Ordering::SeqCst) > 1, "seed {seed}: leadership never moved");
    }
}

#[tokio::test]
async fn the_leader_writes_on_the_lease_what_it_has_to_say() {
    let world = world(3);
    let mut config = LeaderConfig::new("kube-system", "test", "one");
    config.annotations.insert("where".to_owned(), "here".to_owned());
    let mut one = LeaderElector::new(Arc::new(world.server.clone()), Arc::new(world.clock.clone()), config, 1);
    let mut two = world.elector("two", 2);
    let annotation = || {
        let leases = world.server.objects(KindType::of::<Lease>());
        leases[0].meta().annotations.as_ref().and_then(|annotations| annotations.get("where").cloned())
    };
    let stop = CancellationToken::new();
    let test = async {
        world.pass(1).await;
        assert_eq!((annotation(), world.lease().holder_identity.unwrap()), (None, "two".to_owned()));
        stop.cancel();
    };
    tokio::join!(two.run(stop.clone(), |token| async move { token.cancelled().await }), test);
    let stop = CancellationToken::new();
    let test = async {
        world.pass(1).await;
        assert_eq!((annotation().as_deref(), world.lease().holder_identity.unwrap()), (Some("here"), "one".to_owned()));
        stop.cancel();
    };
    tokio::join!(one.run(stop.clone(), |token| async move { token.cancelled().await }), test);
}
