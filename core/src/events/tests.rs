use super::*;
use crate::api::ConfigMap;
use crate::clock::VirtualClock;
use crate::kind::KindType;
use crate::testing::client::{FakeServer, Faults};

struct World {
    clock: VirtualClock,
    server: FakeServer,
    recorder: EventRecorder,
}

fn world() -> (World, EventWriter) {
    let clock = VirtualClock::new();
    let server = FakeServer::new(Arc::new(clock.clone()), 1);
    let (recorder, writer) = events(Arc::new(server.clone()), Arc::new(clock.clone()), "deployment-controller", "", 1);
    (World { clock, server, recorder }, writer)
}

fn object(name: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.into());
    map.metadata.namespace = Some("ns".into());
    map.metadata.uid = Some(format!("uid-of-{name}"));
    map
}

impl World {
    async fn settle(&self) {
        for _ in 0..40 {
            for _ in 0..400 {
                tokio::task::yield_now().await;
            }
            if self.clock.advance_to_next().is_none() {
                return;
            }
        }
    }

    fn stored(&self) -> Vec<Event> {
        let events = self.server.objects(KindType::of::<Event>());
        events.iter().map(|event| event.as_any().downcast_ref::<Event>().unwrap().clone()).collect()
    }

    fn say(&self, name: &str, message: &str) {
        self.recorder.record(&object(name), Severity::Warning, "FailedCreate", message);
        // A name is made of the time.
        self.clock.advance(Duration::from_secs(1));
    }
}

async fn run(test: impl AsyncFnOnce(&World)) {
    let (world, writer) = world();
    let cancel = CancellationToken::new();
    let test = async {
        test(&world).await;
        cancel.cancel();
    };
    tokio::join!(writer.run(cancel.clone()), test);
}

#[tokio::test]
async fn the_same_again_raises_the_count() {
    run(async |world| {
        for _ in 0..3 {
            world.say("a", "no quota");
        }
        world.say("b", "no quota");
        world.settle().await;
        let events = world.stored();
        assert_eq!(events.iter().map(|event| event.count).collect::<Vec<_>>(), [3, 1]);
        let event = &events[0];
        assert_eq!((event.type_.as_str(), event.reason.as_str()), ("Warning", "FailedCreate"));
        assert_eq!(event.source.component, "deployment-controller");
        assert_eq!(event.metadata.namespace.as_deref(), Some("ns"));
        assert!(event.metadata.name.as_deref().unwrap().starts_with("a.1816"), "{:?}", event.metadata.name);
        assert!(event.last_timestamp > event.first_timestamp);
        assert_eq!(event.involved_object.kind, "ConfigMap");
    })
    .await;
}

#[tokio::test]
async fn similar_messages_are_combined_and_floods_are_cut() {
    run(async |world| {
        for index in 0..40 {
            world.say("a", &format!("message {index}"));
        }
        world.settle().await;
        let events = world.stored();
        assert_eq!(events.len(), 10, "nine of their own, the rest in one");
        let combined = events.iter().find(|event| event.message.starts_with("(combined from similar events): "));
        let combined = combined.unwrap();
        assert_eq!((combined.count, combined.message.as_str()), (16, "(combined from similar events): message 24"));
        // One more is allowed after five minutes.
        world.clock.advance(Duration::from_secs(300));
        world.say("a", "later");
        world.settle().await;
        assert!(world.stored().iter().any(|event| event.message.ends_with("later")));
    })
    .await;
}

#[tokio::test]
async fn a_vanished_event_begins_anew_and_outages_are_waited_out() {
    run(async |world| {
        world.say("a", "no quota");
        world.settle().await;
        let name = world.stored()[0].metadata.name.clone().unwrap();
        world.server.remove(crate::client::Target { kind: KindType::of::<Event>(), namespace: "ns", name: &name });
        world.server.set_faults(Faults { refused: 0.3, answer_lost: 0.3, ..Faults::default() });
        world.say("a", "no quota");
        world.settle().await;
        let events = world.stored();
        assert_eq!((events.len(), events[0].count), (1, 2));
    })
    .await;
}

#[tokio::test]
async fn recording_never_waits() {
    let (world, writer) = world();
    for index in 0..5000 {
        world.say(&format!("object-{index}"), "x");
    }
    assert_eq!(writer.waiting.len(), WAITING_MAX);
}
