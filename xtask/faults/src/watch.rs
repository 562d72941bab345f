//! Watches of every kind at every API server, whose every change is recorded.

use std::rc::Rc;
use std::time::Duration;

use futures::TryStreamExt;
use kube::Client;
use kube::core::WatchEvent;
use serde_json::Value;

use crate::access::Ask;
use crate::history::{Change, Kind, revision};
use crate::recorder::Recorder;

/// Between tries.
const BACK_OFF: Duration = Duration::from_millis(200);

/// Watches a kind at a server until dropped. After a connection breaks off it goes on from where it was.
pub async fn run(client: Client, server: usize, kind: Kind, recorder: Rc<Recorder>) {
    let mut at = None;
    loop {
        let from = match at {
            Some(from) => from,
            None => match Ask::get(kind.path()).once(&client).await {
                Ok(list) => {
                    recorder.listed(server, kind, &list);
                    revision(&list)
                }
                Err(_) => {
                    tokio::time::sleep(BACK_OFF).await;
                    continue;
                }
            },
        };
        at = follow(&client, server, kind, from, &recorder).await;
        tokio::time::sleep(BACK_OFF).await;
    }
}

/// One watch; answers from where to go on, `None` if it must begin anew.
async fn follow(client: &Client, server: usize, kind: Kind, from: u64, recorder: &Recorder) -> Option<u64> {
    let path = format!("{}?watch=true&allowWatchBookmarks=true&resourceVersion={from}", kind.path());
    let Ok(request) = Ask::get(path).request() else { return Some(from) };
    let events = match client.request_events::<Value>(request).await {
        Ok(events) => events,
        Err(kube::Error::Api(status)) if status.code == 410 => return None,
        Err(_) => return Some(from),
    };
    let mut events = std::pin::pin!(events);
    let mut at = from;
    while let Some(event) = events.try_next().await.transpose() {
        let (change, object) = match event {
            Ok(WatchEvent::Added(object)) => (Change::Added, object),
            Ok(WatchEvent::Modified(object)) => (Change::Modified, object),
            Ok(WatchEvent::Deleted(object)) => (Change::Deleted, object),
            Ok(WatchEvent::Bookmark(bookmark)) => {
                let until = bookmark.metadata.resource_version.parse().unwrap_or(at);
                recorder.bookmark(server, kind, until);
                at = at.max(until);
                continue;
            }
            Ok(WatchEvent::Error(status)) if status.code == 410 => return None,
            Ok(WatchEvent::Error(_)) | Err(_) => return Some(at),
        };
        at = at.max(revision(&object));
        recorder.changed(server, kind, change, object);
    }
    Some(at)
}
