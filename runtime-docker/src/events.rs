//! Changes as the engine tells them.

use std::sync::Arc;
use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures::stream::{self, BoxStream, StreamExt};
use longshore_core::runtime::{ContainerRef, Error, Event};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};

use crate::config::{ATTEMPT, CONTAINER, INSTANCE, UID};
use crate::engine::Engine;

/// The engine's events after which a container is not as it was before.
const ACTIONS: [&str; 5] = ["create", "start", "oom", "die", "destroy"];

/// Between two tries to reach an engine that has gone away.
const RETRY: Duration = Duration::from_millis(500);

/// How many events may wait for one who does not listen.
const EVENTS_WAITING: usize = 256;

type Engines = BoxStream<'static, Result<EventMessage, bollard::errors::Error>>;

/// What one listener hears.
struct Listening {
    engine: Arc<Engine>,
    /// What the engine tells; `None` while it is away.
    engines: Option<Engines>,
    /// What it does not know of.
    own: broadcast::Receiver<Event>,
}

/// Everything that changes from now on.
pub(crate) async fn stream(engine: &Arc<Engine>) -> Result<BoxStream<'static, Event>, Error> {
    let (own, engines) = (engine.changes.subscribe(), engine.listen());
    // An engine that is away is told of at once.
    engine.client.ping().await.map_err(|error| engine.failed("listen for events", &error))?;
    let mut listening = Listening { engine: engine.clone(), engines: Some(engines), own };
    let (tell, told) = mpsc::channel(EVENTS_WAITING);
    // It listens from now on, whenever the answer is asked for the first, so that it notices an engine's end.
    engine.spawn(async move {
        loop {
            tokio::select! {
                () = tell.closed() => return,
                event = listening.next() => if tell.send(event).await.is_err() {
                    return;
                },
            }
        }
    });
    Ok(stream::unfold(told, |mut told| async move { Some((told.recv().await?, told)) }).boxed())
}

impl Engine {
    /// What the engine tells from this moment, whenever it is asked for it.
    fn listen(&self) -> Engines {
        let now = self.clock.now();
        let since = format!("{}.{:09}", now.as_second(), now.subsec_nanosecond());
        let filters = [
            ("type", vec!["container".to_owned()]),
            ("label", vec![format!("{INSTANCE}={}", self.instance)]),
            ("event", ACTIONS.map(str::to_owned).to_vec()),
        ];
        let options = EventsOptionsBuilder::default().since(&since).filters(&filters.into()).build();
        let client = self.client.clone();
        stream::once(async move { client.events(Some(options)) }).flatten().boxed()
    }
}

impl Listening {
    async fn next(&mut self) -> Event {
        loop {
            let Some(engines) = &mut self.engines else {
                self.engine.clock.sleep(RETRY).await;
                let engines = self.engine.listen();
                if self.engine.client.ping().await.is_ok() {
                    self.engines = Some(engines);
                    return Event::Resync;
                }
                continue;
            };
            tokio::select! {
                event = engines.next() => match event {
                    Some(Ok(event)) => {
                        if let Some(event) = meaning(event) {
                            return event;
                        }
                    }
                    // With an engine that ends, so do containers.
                    Some(Err(_)) | None => {
                        self.engines = None;
                        return Event::Resync;
                    }
                },
                own = self.own.recv() => match own {
                    Ok(event) => return event,
                    Err(RecvError::Lagged(_) | RecvError::Closed) => return Event::Resync,
                },
            }
        }
    }
}

/// What an event of the engine's tells; its attributes are the container's labels and more.
fn meaning(event: EventMessage) -> Option<Event> {
    let mut labels = event.actor?.attributes?;
    let pod_uid = labels.remove(UID)?;
    let Some(name) = labels.remove(CONTAINER) else { return Some(Event::Sandbox { pod_uid }) };
    Some(Event::Container(ContainerRef { pod_uid, name, attempt: labels.remove(ATTEMPT)?.parse().ok()? }))
}
