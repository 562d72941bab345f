//! `/longshore/store`: what administrators ask of a store that only this process can open.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};

use ::http::{HeaderValue, Method, Response, header};
use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use longshore_core::client::Error;
use longshore_core::store::{self, Revision};
use serde_json::json;

use super::{Call, answer};
use crate::status;

/// The path at which a server says how its store is.
pub const STATUS_PATH: &str = "/longshore/store";

/// The path at which a server gives out a copy of its store.
pub const SNAPSHOT_PATH: &str = "/longshore/store/snapshot";

/// The path at which a server, asked by POST, has its store forget what was before a revision: that of the parameter `revision`, or the
/// current one.
pub const COMPACT_PATH: &str = "/longshore/store/compact";

/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;

/// Whoever has the store of a server open.
#[async_trait]
pub trait StoreKeeper: fmt::Debug + Send + Sync {
    /// How the store is.
    ///
    /// # Errors
    /// What the store says.
    async fn status(&self) -> Result<store::Status, store::Error>;

    /// A copy of everything that was acknowledged before the call, as one revision has it; the file is at its beginning.
    ///
    /// # Errors
    /// What the store says.
    async fn snapshot(&self) -> Result<File, store::Error>;

    /// Forgets what was before a revision (`None`: before now), and answers the revision.
    ///
    /// # Errors
    /// What the store says.
    async fn compact(&self, revision: Option<Revision>) -> Result<Revision, store::Error>;
}

/// What is asked of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    Status,
    Snapshot,
    Compact,
}

impl Question {
    /// Whether it is asked by this method.
    pub(super) fn is_asked_by(self, method: &Method) -> bool {
        match self {
            Self::Status | Self::Snapshot => method == Method::GET || method == Method::HEAD,
            Self::Compact => method == Method::POST,
        }
    }

    pub(super) async fn answer(self, keeper: &dyn StoreKeeper, call: &Call) -> Result<Response<Body>, Error> {
        match self {
            Self::Status => {
                let status =
                    keeper.status().await.map_err(|error| status::from_store(error, "read the store's status"))?;
                let (keys, bytes) = (status.keys, status.bytes);
                let known =
                    json!({"revision": status.revision, "compacted": status.compacted, "keys": keys, "bytes": bytes});
                Ok(answer::json(200, &known))
            }
            Self::Snapshot => {
                let file = keeper.snapshot().await.map_err(|error| status::from_store(error, "copy the store"))?;
                let length = file.metadata().map_err(status::internal)?.len();
                let mut response = answer::respond(200, "application/octet-stream", Body::from_stream(chunks(file)));
                // So that a copy that ends too early is noticed.
                response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
                Ok(response)
            }
            Self::Compact => {
                let revision = call.given("revision").map(|text| {
                    let wrong = |_| status::bad_request(format!("revision: {text:?} is no whole number"));
                    text.parse().map_err(wrong)
                });
                let compacted = keeper.compact(revision.transpose()?).await;
                let compacted = compacted.map_err(|error| status::from_store(error, "compact the store"))?;
                Ok(answer::json(200, &json!({"compacted": compacted})))
            }
        }
    }
}

fn chunks(file: File) -> impl futures::Stream<Item = io::Result<Bytes>> {
    stream::try_unfold(file, |mut file| async move {
        let read = tokio::task::spawn_blocking(move || {
            let mut chunk = vec![0; CHUNK];
            let length = file.read(&mut chunk)?;
            chunk.truncate(length);
            Ok::<_, io::Error>((Bytes::from(chunk), file))
        });
        let (chunk, file) = read.await.map_err(io::Error::other)??;
        Ok((!chunk.is_empty()).then_some((chunk, file)))
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};
    use std::sync::Arc;

    use http_body_util::BodyExt;
    use longshore_core::clock::VirtualClock;
    use longshore_core::store::{MemoryStore, Store};
    use tower::ServiceExt;

    use super::*;
    use crate::http::{HttpService, Identity};
    use crate::registry::{Options, Registry};

    /// Bytes of its copy.
    const COPY: usize = CHUNK + 7;

    #[derive(Debug)]
    struct Kept(Arc<MemoryStore>);

    #[async_trait]
    impl StoreKeeper for Kept {
        async fn status(&self) -> Result<store::Status, store::Error> {
            self.0.status().await
        }

        async fn snapshot(&self) -> Result<File, store::Error> {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&[7; COPY]).unwrap();
            file.rewind().unwrap();
            Ok(file)
        }

        async fn compact(&self, revision: Option<Revision>) -> Result<Revision, store::Error> {
            let revision = revision.unwrap_or(self.0.status().await?.revision);
            self.0.compact(revision).await.map(|()| revision)
        }
    }

    #[tokio::test]
    async fn administrators_and_nobody_else_look_after_the_store() {
        let store = Arc::new(MemoryStore::new());
        let registry = Registry::start(store.clone(), Arc::new(VirtualClock::new()), Options::new(1)).await.unwrap();
        let without = HttpService::new(registry);
        let service = without.clone().with_store_keeper(Arc::new(Kept(store)));
        let ask = async |service: &HttpService, groups: &[&str], method: Method, path: &str| {
            let groups = groups.iter().map(|group| (*group).to_owned()).collect();
            let identity = Identity { user: "somebody".to_owned(), groups, ..Identity::default() };
            let request = ::http::Request::builder().method(method).uri(path).extension(identity);
            let request = request.body(Body::empty()).unwrap();
            let (head, body) = service.clone().oneshot(request).await.unwrap().into_parts();
            (head.status.as_u16(), head.headers, body.collect().await.unwrap().to_bytes())
        };
        for groups in [&["system:authenticated"][..], &["system:nodes"], &["system:bootstrappers"], &[]] {
            for (method, path) in
                [(Method::GET, STATUS_PATH), (Method::GET, SNAPSHOT_PATH), (Method::POST, COMPACT_PATH)]
            {
                let (code, _, said) = ask(&service, groups, method, path).await;
                assert_eq!(code, 403, "{groups:?} at {path}: {said:?}");
            }
        }
        let masters = &["system:masters"][..];
        let (code, _, said) = ask(&service, masters, Method::GET, STATUS_PATH).await;
        let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
        assert_eq!((code, said["compacted"].as_u64()), (200, Some(0)), "{said}");
        let (code, headers, copy) = ask(&service, masters, Method::GET, SNAPSHOT_PATH).await;
        assert_eq!((code, headers[header::CONTENT_LENGTH].to_str().unwrap()), (200, COPY.to_string().as_str()));
        assert_eq!(copy, [7; COPY].as_slice());
        assert_eq!(ask(&without, masters, Method::GET, SNAPSHOT_PATH).await.0, 404);
        assert_eq!(ask(&service, masters, Method::POST, SNAPSHOT_PATH).await.0, 405);
    }

    #[tokio::test]
    async fn a_store_is_compacted_by_post_and_says_what_is_wrong_with_a_revision() {
        let store = Arc::new(MemoryStore::new());
        let registry = Registry::start(store.clone(), Arc::new(VirtualClock::new()), Options::new(1)).await.unwrap();
        let service = HttpService::new(registry).with_store_keeper(Arc::new(Kept(store.clone())));
        let ask = async |method: Method, query: &str| {
            let identity = Identity { groups: vec!["system:masters".to_owned()], ..Identity::default() };
            let request = ::http::Request::builder().method(method).uri(format!("{COMPACT_PATH}{query}"));
            let request = request.extension(identity).body(Body::empty()).unwrap();
            let (head, body) = service.clone().oneshot(request).await.unwrap().into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            (head.status.as_u16(), serde_json::from_slice::<serde_json::Value>(&body).unwrap())
        };
        let now = store.status().await.unwrap().revision;
        assert!(now > 1, "the registry has written something");
        assert_eq!(ask(Method::GET, "").await.0, 405);
        assert_eq!(ask(Method::POST, "?revision=x").await.0, 400);
        assert_eq!(ask(Method::POST, "?revision=1").await, (200, json!({"compacted": 1})));
        assert_eq!(store.status().await.unwrap().compacted, 1);
        assert_eq!(ask(Method::POST, "").await, (200, json!({"compacted": now})));
        assert_eq!(store.status().await.unwrap().compacted, now);
        assert_eq!(ask(Method::POST, "?revision=1").await.0, 410, "it is gone already");
        assert_eq!(ask(Method::POST, "?revision=99999").await.0, 504, "it is yet to come");
    }
}
