//! What a scheduler's spans tell.

use std::sync::{Mutex, OnceLock};

use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use super::*;

/// The fields of a span.
#[derive(Default)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

/// Keeps spans of the scheduler once they are closed, as text.
#[derive(Clone, Default)]
pub(super) struct Spans(Arc<Mutex<Vec<String>>>);

/// The spans of all tests of this process. `tracing` asks once per process whether anyone wants a span, so whoever listens
/// must be there before the first scheduler of any test runs: [`World::new`] comes here first.
pub(super) fn spans() -> &'static Spans {
    static SPANS: OnceLock<Spans> = OnceLock::new();
    SPANS.get_or_init(|| {
        let spans = Spans::default();
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(spans.clone())).unwrap();
        spans
    })
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        values.record(context.span(id).unwrap().extensions_mut().get_mut::<Fields>().unwrap());
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).unwrap();
        if span.metadata().target() == "longshore::scheduler" {
            let extensions = span.extensions();
            let fields = extensions.get::<Fields>().unwrap().0.iter();
            let fields: Vec<String> = fields.map(|(name, value)| format!("{name}={value}")).collect();
            self.0.lock().unwrap().push(format!("{}: {}", span.name(), fields.join(" ")));
        }
    }
}

#[tokio::test]
async fn a_span_of_each_cycle_says_which_pod_it_was_about_and_what_came_of_it() {
    let mut world = World::new();
    world.node("a", "2").await;
    let here = json!({ "spec": { "schedulerName": "traced" } });
    world.pod("small", "500m", here.clone()).await;
    world.pod("large", "3", here).await;
    world.start(Profile::default_scheduler().named("traced"), 1);
    world.until("told", |world| world.events("FailedScheduling").len() == 1 && world.bound().len() == 1).await;
    let mut seen = spans().0.lock().unwrap().clone();
    seen.retain(|span| span.contains(" profile=traced "));
    seen.sort();
    let of = "namespace=default";
    assert_eq!(
        seen,
        [
            format!("binding: attempt=1 name=small {of} node=a profile=traced result=bound"),
            format!("scheduling: attempt=1 name=large {of} profile=traced result=unschedulable"),
            format!("scheduling: attempt=1 name=small {of} node=a profile=traced result=scheduled"),
        ]
    );
}
