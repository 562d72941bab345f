//! Waits until objects are as far as their owner wanted.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::client::params::GetParams;
use longshore_core::client::{Client, Target};
use longshore_core::clock::Clock;
use longshore_core::kind::{DynObject, KindType};

use crate::progress::{Observer, Progress, Row};
use crate::readiness::readiness;
use crate::{Error, Readiness};

/// Time between looks. A look is a read from the cache of objects in this process.
const PERIOD: Duration = Duration::from_millis(50);

/// Something to wait for.
#[derive(Debug, Clone)]
pub(crate) struct Awaited {
    kind: &'static KindType,
    namespace: String,
    name: String,
}

impl Awaited {
    pub(crate) fn new(kind: &'static KindType, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub(crate) fn of(object: &DynObject) -> Self {
        let meta = object.meta();
        let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
        Self::new(object.kind_type(), namespace.unwrap_or_default(), name.unwrap_or_default())
    }

    fn target(&self) -> Target<'_> {
        Target { kind: self.kind, namespace: &self.namespace, name: &self.name }
    }

    async fn look(&self, client: &Arc<dyn Client>) -> Readiness {
        match client.get(self.target(), &GetParams::default()).await {
            Ok(object) => readiness(&*object),
            Err(error) if error.is_not_found() => {
                Readiness { ready: false, failed: false, text: "does not exist yet".to_owned() }
            }
            Err(error) => Readiness { ready: false, failed: false, text: error.to_string() },
        }
    }
}

/// What can be seen now.
pub(crate) async fn look(client: &Arc<dyn Client>, awaited: &[Awaited]) -> (Vec<Row>, bool) {
    let (mut rows, mut failed) = (Vec::new(), false);
    for one in awaited {
        let Readiness { ready, failed: broken, text } = one.look(client).await;
        failed |= broken;
        let singular = one.kind.info.kind.to_lowercase();
        let place = if one.namespace.is_empty() { String::new() } else { format!("{}/", one.namespace) };
        rows.push(Row { name: format!("{singular} {place}{}", one.name), state: text, ready });
    }
    (rows, failed)
}

/// Waits until all are ready, telling the observer whenever something changed.
///
/// # Errors
/// [`Error::NotReady`] after `patience`, or at once if something failed for good.
pub(crate) async fn until_ready(
    client: &Arc<dyn Client>,
    clock: &dyn Clock,
    awaited: &[Awaited],
    patience: Duration,
    observer: &Observer,
) -> Result<(), Error> {
    let start = clock.elapsed();
    let mut last = Vec::new();
    loop {
        let (rows, failed) = look(client, awaited).await;
        if rows.iter().all(|row| row.ready) {
            observer(Progress::Ready(rows));
            return Ok(());
        }
        let waited = clock.elapsed() - start;
        if failed || waited >= patience {
            let missing = rows.iter().filter(|row| !row.ready).map(|row| format!("{}: {}", row.name, row.state));
            let what = missing.collect::<Vec<_>>().join("; ");
            return Err(Error::NotReady { what, seconds: waited.as_secs() });
        }
        if rows != last {
            observer(Progress::Waiting(rows.clone()));
            last = rows;
        }
        clock.sleep(PERIOD).await;
    }
}
