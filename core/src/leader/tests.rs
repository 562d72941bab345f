use std::sync::Mutex;
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
    let first = one.run(stop_one.clone(), |token, _| async move { token.cancelled().await });
    let second = two.run(stop_two.clone(), |token, _| async move { token.cancelled().await });
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
    let run = one.run(CancellationToken::new(), |token, _| async move { token.cancelled().await });
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
                        .run(stop.clone(), |token, _| async move {
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
    tokio::join!(two.run(stop.clone(), |token, _| async move { token.cancelled().await }), test);
    let stop = CancellationToken::new();
    let test = async {
        world.pass(1).await;
        assert_eq!((annotation().as_deref(), world.lease().holder_identity.unwrap()), (Some("here"), "one".to_owned()));
        stop.cancel();
    };
    tokio::join!(one.run(stop.clone(), |token, _| async move { token.cancelled().await }), test);
}

/// A client's write, of no matter what.
async fn write(client: &Arc<dyn Client>, name: &str) -> Result<(), Error> {
    let metadata =
        ObjectMeta { name: Some(name.to_owned()), namespace: Some("default".to_owned()), ..ObjectMeta::default() };
    let map = crate::api::ConfigMap { metadata, ..Default::default() };
    client.create(Box::new(map), &PostParams::default()).await.map(drop)
}

/// Leads, and hands out the client with which to write.
async fn lend(handed: &Mutex<Option<Arc<dyn Client>>>, token: CancellationToken, client: Arc<dyn Client>) {
    *handed.lock().unwrap() = Some(client);
    token.cancelled().await;
}

/// Lets time pass for a future that may not come to its end by it.
async fn during<T>(work: &mut (impl Future<Output = T> + Unpin), time: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = time => {}
        _ = work => panic!("it ended"),
    }
}

#[tokio::test]
async fn a_leader_that_was_stopped_past_its_term_writes_nothing_and_learns_that_it_leads_no_more() {
    let world = world(4);
    let (mut one, mut two) = (world.elector("one", 1), world.elector("two", 2));
    let (first, second) = (Mutex::new(None), Mutex::new(None));
    let cancel = CancellationToken::new();
    let mut run_one = Box::pin(one.run(CancellationToken::new(), |token, client| lend(&first, token, client)));
    let mut run_two = Box::pin(two.run(cancel.clone(), |token, client| lend(&second, token, client)));
    during(&mut run_one, world.pass(5)).await;
    let stopped = first.lock().unwrap().clone().unwrap();
    write(&stopped, "while-it-leads").await.unwrap();
    // Nothing polls the first from here on, as if its process had been sent SIGSTOP.
    during(&mut run_two, world.pass(30)).await;
    let error = write(&stopped, "too-late").await.unwrap_err();
    assert!(error.is_fenced() && error.code() == 409 && !error.is_conflict(), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the write came after its leader's term (lease kube-system/test of \"one\", transition 0): \"two\" leads, since transition 1"
    );
    // It goes on. The refused write tells it before it comes to look at the lease.
    assert_eq!(run_one.await, Ended::Lost);
    let leader = second.lock().unwrap().clone().unwrap();
    write(&leader, "by-the-second").await.unwrap();
    cancel.cancel();
    assert_eq!(run_two.await, Ended::Cancelled);
    let error = write(&leader, "after-it-was-handed-back").await.unwrap_err();
    assert!(error.is_fenced() && error.to_string().ends_with("nobody leads, after transition 1"), "{error}");
    let kind = KindType::of::<crate::api::ConfigMap>();
    let written = world.server.objects(kind).iter().map(|it| it.meta().name.clone().unwrap()).collect::<Vec<_>>();
    assert_eq!(written, ["by-the-second", "while-it-leads"]);
}

#[tokio::test]
async fn a_leader_whose_lease_was_deleted_begins_another_term() {
    let world = world(5);
    let mut one = world.elector("one", 1);
    let handed = Mutex::new(None);
    let mut run = Box::pin(one.run(CancellationToken::new(), |token, client| lend(&handed, token, client)));
    during(&mut run, world.pass(5)).await;
    let client = handed.lock().unwrap().clone().unwrap();
    let target = crate::client::Target { kind: KindType::of::<Lease>(), namespace: "kube-system", name: "test" };
    world.server.remove(target);
    let error = write(&client, "a").await.unwrap_err();
    assert!(error.is_fenced() && error.to_string().ends_with("it is gone"), "{error}");
    drop(run);
    let mut run = Box::pin(one.run(CancellationToken::new(), |token, client| lend(&handed, token, client)));
    during(&mut run, world.pass(5)).await;
    let lease = world.lease();
    assert_eq!((lease.holder_identity.as_deref(), lease.lease_transitions), (Some("one"), Some(1)));
    let again = handed.lock().unwrap().clone().unwrap();
    write(&again, "a").await.unwrap();
    assert!(write(&client, "b").await.unwrap_err().is_fenced(), "what is left of the first term writes nothing");
}

#[tokio::test]
async fn a_process_that_was_started_again_under_its_name_leads_at_once_and_what_it_left_behind_writes_nothing() {
    let world = world(6);
    let handed = Mutex::new(None);
    let mut terms = Vec::new();
    for _ in 0..2 {
        let mut one = world.elector("one", 1);
        let mut run = Box::pin(one.run(CancellationToken::new(), |token, client| lend(&handed, token, client)));
        during(&mut run, world.pass(1)).await;
        terms.push(handed.lock().unwrap().take().unwrap());
    }
    assert!(write(&terms[0], "a").await.unwrap_err().is_fenced());
    write(&terms[1], "a").await.unwrap();
}

/// Whatever the last thing is that a leader did before it died, another leads soon, and writes of the first are refused from then on.
#[tokio::test]
async fn a_candidate_may_die_between_any_two_steps() {
    for steps in 0..60 {
        let world = world(7);
        let (mut one, mut two) = (world.elector("one", 1), world.elector("two", 2));
        let (first, second) = (Mutex::new(None), Mutex::new(None));
        let mut run = Box::pin(one.run(CancellationToken::new(), |token, client| lend(&first, token, client)));
        for _ in 0..steps {
            assert!(futures::poll!(&mut run).is_pending());
            world.clock.advance(Duration::from_millis(250));
            tokio::task::yield_now().await;
        }
        drop(run);
        let mut run = Box::pin(two.run(CancellationToken::new(), |token, client| lend(&second, token, client)));
        during(&mut run, world.pass(20)).await;
        let leader = second.lock().unwrap().clone().unwrap_or_else(|| panic!("nobody leads after {steps} steps"));
        let dead = first.lock().unwrap().clone();
        if let Some(dead) = dead {
            assert!(write(&dead, "a").await.unwrap_err().is_fenced(), "after {steps} steps");
        }
        write(&leader, "a").await.unwrap();
    }
}

#[tokio::test]
async fn a_candidate_takes_over_in_the_moment_in_which_the_lease_lapses() {
    for seed in 0..20 {
        let world = world(8);
        let (mut one, mut two) = (world.elector("one", 1), world.elector("two", seed));
        let second = Mutex::new(None);
        let mut run = Box::pin(one.run(CancellationToken::new(), |token, _| async move { token.cancelled().await }));
        during(&mut run, world.pass(1)).await;
        let mut run_two = Box::pin(two.run(CancellationToken::new(), |token, client| lend(&second, token, client)));
        during(&mut run_two, during(&mut run, world.pass(9))).await;
        // The last renewal may be as old as the renewal period, and as unseen as the longest wait between two looks.
        during(&mut run_two, world.pass(20)).await;
        assert!(second.lock().unwrap().is_some(), "seed {seed}");
    }
}

#[test]
fn timings_in_which_two_could_lead_are_refused() {
    let fine = LeaderTimings::default();
    assert_eq!(fine.check(), Ok(()));
    let long = LeaderTimings { renew_deadline: fine.lease_duration, ..fine };
    assert_eq!(long.check(), Err("leaseDuration must be greater than renewDeadline"));
    let slow = LeaderTimings { retry_period: Duration::from_secs(9), ..fine };
    assert_eq!(slow.check(), Err("renewDeadline must be greater than retryPeriod*JitterFactor"));
    assert_eq!(whole_seconds(Duration::from_millis(1001)), 2);
}
