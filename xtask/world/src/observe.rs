//! Observers: watches of every kind at every API server, whose every change is written down.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use longshore_core::client::params::{ListParams, WatchParams};
use longshore_core::client::{Client, Scope, WatchEvent};
use longshore_core::clock::Clock;
use longshore_faults::history::{Change, Kind};

use crate::log::{Log, kind_type, namespace, revision};

/// Between tries.
const BACK_OFF: Duration = Duration::from_millis(300);

/// Watches a kind at a server. After a connection breaks off it goes on from where it was.
pub(crate) async fn run(client: Arc<dyn Client>, clock: Arc<dyn Clock>, server: usize, kind: Kind, log: Arc<Log>) {
    let scope = Scope { kind: kind_type(kind), namespace: namespace(kind) };
    let mut at = None;
    loop {
        if at.is_none()
            && let Ok(list) = client.list(scope, &ListParams::default()).await
        {
            let from = list.resource_version.parse().unwrap_or(0);
            log.listed(server, kind, from, list.items);
            at = Some(from);
        }
        if let Some(from) = at {
            at = follow(&*client, scope, server, kind, from, &log).await;
        }
        clock.sleep(BACK_OFF).await;
    }
}

/// One watch; answers from where to go on, `None` if it must begin anew.
async fn follow(client: &dyn Client, scope: Scope<'_>, server: usize, kind: Kind, from: u64, log: &Log) -> Option<u64> {
    let params = WatchParams { bookmarks: true, ..WatchParams::default() };
    let mut events = match client.watch(scope, &params, &from.to_string()).await {
        Ok(events) => events,
        Err(error) if error.is_expired() => return None,
        Err(_) => return Some(from),
    };
    let mut at = from;
    while let Some(event) = events.next().await {
        let (change, object) = match event {
            Ok(WatchEvent::Added(object)) => (Change::Added, object),
            Ok(WatchEvent::Modified(object)) => (Change::Modified, object),
            Ok(WatchEvent::Deleted(object)) => (Change::Deleted, object),
            Ok(WatchEvent::Bookmark { resource_version, .. }) => {
                let until = resource_version.parse().unwrap_or(at);
                log.bookmark(server, kind, until);
                at = at.max(until);
                continue;
            }
            Err(error) if error.is_expired() => return None,
            Err(_) => return Some(at),
        };
        at = at.max(revision(&object));
        log.changed(server, kind, change, object);
    }
    Some(at)
}
