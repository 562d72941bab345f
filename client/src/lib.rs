//! The client that speaks HTTP, to Longshore or to any Kubernetes API server.
//!
//! [`RemoteClient`] is [`longshore_core::client::Client`] over a [`kube::Client`]: whatever is written against the trait
//! runs in another process, or against upstream Kubernetes, unchanged.

mod failover;

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use http::HeaderValue;
use kube_core::Request;
use kube_core::watch::WatchEvent as Wire;
use longshore_core::api::{ServiceAccount, TokenRequest};
use longshore_core::client::params::{
    DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, WatchParams,
};
use longshore_core::client::{Bind, Client, Deleted, DynList, Error, Scope, Status, Target, WatchEvent, WatchStream};
use longshore_core::kind::{AnyObject, DynObject, KindType, Subresource};
use longshore_core::leader::Fence;
use serde::Deserialize;
use serde_json::{Value, json};

pub use failover::{Cut, Failover};

/// Marks the bookmark that closes the initial events of a watch.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// A client of an API server elsewhere. Cheap to clone.
#[derive(Clone)]
pub struct RemoteClient {
    client: kube::Client,
}

impl std::fmt::Debug for RemoteClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteClient").finish_non_exhaustive()
    }
}

impl RemoteClient {
    /// A client over this connection, which may come from a kubeconfig, from inside a pod, or from a tower service.
    pub fn new(client: kube::Client) -> Self {
        Self { client }
    }

    /// A client of several API servers of one cluster, which goes over from one that answers no more to the next.
    pub fn over(servers: Failover) -> Self {
        Self::new(kube::Client::new(servers, "default"))
    }

    /// A client as the environment says: `KUBECONFIG`, the default kubeconfig, or the pod's service account.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if none of them is there or it cannot be read.
    pub async fn from_environment() -> Result<Self, Error> {
        let client = kube::Client::try_default().await;
        client.map(Self::new).map_err(|error| failed(error, "find out how to reach the API server"))
    }

    /// The connection beneath.
    pub fn connection(&self) -> &kube::Client {
        &self.client
    }

    async fn send(&self, request: Built, operation: &str) -> Result<Value, Error> {
        let mut request = request.map_err(|error| malformed(&error, operation))?;
        if let Some(fence) = Fence::current() {
            let value = HeaderValue::from_bytes(&fence.to_header()).expect("a fence is written as a header holds it");
            request.headers_mut().insert(Fence::HEADER, value);
        }
        let text = self.client.request_text(request).await.map_err(|error| failed(error, operation))?;
        serde_json::from_str(&text)
            .map_err(|error| Error::Decode { operation: operation.to_owned(), reason: error.to_string() })
    }

    async fn object(&self, kind: &'static KindType, request: Built, operation: &str) -> Result<DynObject, Error> {
        let value = self.send(request, operation).await?;
        read(kind, value, operation)
    }
}

type Built = Result<http::Request<Vec<u8>>, kube_core::request::Error>;

#[derive(Debug, Deserialize)]
struct WireList {
    metadata: WireListMeta,
    #[serde(default)]
    items: Vec<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireListMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    continue_token: Option<String>,
    remaining_item_count: Option<i64>,
}

/// Requests about a kind's objects in a namespace, or in all.
fn requests(kind: &KindType, namespace: Option<&str>) -> Request {
    let info = &kind.info;
    let root = if info.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", info.group) };
    let namespace = namespace.filter(|namespace| !namespace.is_empty());
    let place = namespace.map(|namespace| format!("namespaces/{namespace}/")).unwrap_or_default();
    Request::new(format!("{root}/{}/{place}{}", info.version, info.plural))
}

fn failed(error: kube::Error, operation: &str) -> Error {
    match error {
        kube::Error::Api(status) => Error::Api(status),
        kube::Error::SerdeError(error) => Error::Decode { operation: operation.to_owned(), reason: error.to_string() },
        other => Error::Unavailable { operation: operation.to_owned(), reason: other.to_string() },
    }
}

/// A request that cannot be sent because what it is about has no place in a path.
fn malformed(error: &kube_core::request::Error, operation: &str) -> Error {
    let status = Status::failure(&format!("cannot {operation}: {error}"), "BadRequest").with_code(400);
    Error::Api(Box::new(status))
}

/// An object from an answer. Lists of upstream leave out each item's kind and version.
fn read(kind: &'static KindType, mut value: Value, operation: &str) -> Result<DynObject, Error> {
    if let Some(fields) = value.as_object_mut() {
        fields.entry("kind").or_insert_with(|| kind.info.kind.into());
        fields.entry("apiVersion").or_insert_with(|| kind.info.api_version().into());
    }
    let decoded = longshore_core::decode::decode_value(kind, value, longshore_core::decode::FieldValidation::Ignore);
    let decoded =
        decoded.map_err(|error| Error::Decode { operation: operation.to_owned(), reason: error.to_string() })?;
    Ok(Arc::from(decoded.object))
}

fn place_of(object: &dyn AnyObject) -> (String, String) {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

#[async_trait]
impl Client for RemoteClient {
    async fn get(&self, target: Target<'_>, params: &GetParams) -> Result<DynObject, Error> {
        let request = requests(target.kind, Some(target.namespace)).get(target.name, params);
        self.object(target.kind, request, &format!("get {target}")).await
    }

    async fn list(&self, scope: Scope<'_>, params: &ListParams) -> Result<DynList, Error> {
        let operation = format!("list {}", scope.kind.info.resource());
        let value = self.send(requests(scope.kind, scope.namespace).list(params), &operation).await?;
        let list: WireList = serde_json::from_value(value)
            .map_err(|error| Error::Decode { operation: operation.clone(), reason: error.to_string() })?;
        let items = list.items.into_iter().map(|item| read(scope.kind, item, &operation));
        Ok(DynList {
            items: items.collect::<Result<_, _>>()?,
            resource_version: list.metadata.resource_version,
            continue_token: list.metadata.continue_token.filter(|token| !token.is_empty()),
            remaining: list.metadata.remaining_item_count,
        })
    }

    async fn watch(
        &self,
        scope: Scope<'_>,
        params: &WatchParams,
        resource_version: &str,
    ) -> Result<WatchStream, Error> {
        let kind = scope.kind;
        let operation = format!("watch {}", kind.info.resource());
        let request = requests(kind, scope.namespace).watch(params, resource_version);
        let request = request.map_err(|error| malformed(&error, &operation))?;
        let events = self.client.request_events::<Value>(request).await.map_err(|error| failed(error, &operation))?;
        let events = events.map(move |event| match event.map_err(|error| failed(error, &operation))? {
            Wire::Added(value) => Ok(WatchEvent::Added(read(kind, value, &operation)?)),
            Wire::Modified(value) => Ok(WatchEvent::Modified(read(kind, value, &operation)?)),
            Wire::Deleted(value) => Ok(WatchEvent::Deleted(read(kind, value, &operation)?)),
            Wire::Bookmark(bookmark) => Ok(WatchEvent::Bookmark {
                initial_events_end: bookmark.metadata.annotations.contains_key(INITIAL_EVENTS_END),
                resource_version: bookmark.metadata.resource_version,
            }),
            Wire::Error(status) => Err(Error::Api(status)),
        });
        Ok(events.boxed())
    }

    async fn create(&self, object: Box<dyn AnyObject>, params: &PostParams) -> Result<DynObject, Error> {
        let kind = object.kind_type();
        let (namespace, name) = place_of(&*object);
        let request = requests(kind, Some(&namespace)).create(params, object.to_vec());
        self.object(kind, request, &format!("create {} {namespace}/{name}", kind.info.resource())).await
    }

    async fn update(
        &self,
        object: Box<dyn AnyObject>,
        subresource: Option<Subresource>,
        params: &PostParams,
    ) -> Result<DynObject, Error> {
        let kind = object.kind_type();
        let (namespace, name) = place_of(&*object);
        let requests = requests(kind, Some(&namespace));
        let request = match subresource {
            None => requests.replace(&name, params, object.to_vec()),
            Some(part) => requests.replace_subresource(part.as_str(), &name, params, object.to_vec()),
        };
        self.object(kind, request, &format!("update {} {namespace}/{name}", kind.info.resource())).await
    }

    async fn patch(
        &self,
        target: Target<'_>,
        subresource: Option<Subresource>,
        patch: &Patch<Value>,
        params: &PatchParams,
    ) -> Result<DynObject, Error> {
        let requests = requests(target.kind, Some(target.namespace));
        let request = match subresource {
            None => requests.patch(target.name, params, patch),
            Some(part) => requests.patch_subresource(part.as_str(), target.name, params, patch),
        };
        self.object(target.kind, request, &format!("patch {target}")).await
    }

    /// Of an object that is gone the server may send only its name: then so does this client.
    async fn delete(&self, target: Target<'_>, params: &DeleteParams) -> Result<Deleted, Error> {
        let operation = format!("delete {target}");
        let request = requests(target.kind, Some(target.namespace)).delete(target.name, params);
        let value = self.send(request, &operation).await?;
        if value["kind"] == "Status" {
            let metadata = json!({
                "name": target.name, "namespace": Some(target.namespace).filter(|text| !text.is_empty()),
                "uid": value["details"]["uid"],
            });
            return Ok(Deleted::Gone(read(target.kind, json!({ "metadata": metadata }), &operation)?));
        }
        let object = read(target.kind, value, &operation)?;
        let meta = object.meta();
        let held = meta.finalizers.as_ref().is_some_and(|finalizers| !finalizers.is_empty())
            || meta.deletion_grace_period_seconds.is_some_and(|seconds| seconds > 0)
            || target.kind.info.kind == "Namespace";
        Ok(if held { Deleted::Pending(object) } else { Deleted::Gone(object) })
    }

    async fn bind(&self, bind: &Bind) -> Result<(), Error> {
        let operation = format!("bind pods {}/{} to {}", bind.namespace, bind.pod, bind.node);
        let mut metadata = json!({ "name": bind.pod, "namespace": bind.namespace, "annotations": bind.annotations });
        if !bind.uid.is_empty() {
            metadata["uid"] = bind.uid.as_str().into();
        }
        let body = json!({
            "kind": "Binding", "apiVersion": "v1", "metadata": metadata,
            "target": { "kind": "Node", "apiVersion": "v1", "name": bind.node },
        });
        let requests = Request::new(format!("/api/v1/namespaces/{}/pods", bind.namespace));
        let body = body.to_string().into_bytes();
        let request = requests.create_subresource("binding", &bind.pod, &PostParams::default(), body);
        self.send(request, &operation).await.map(|_| ())
    }

    async fn create_token(&self, request: &TokenRequest) -> Result<TokenRequest, Error> {
        let namespace = request.metadata.namespace.as_deref().unwrap_or_default();
        let name = request.metadata.name.as_deref().unwrap_or_default();
        let operation = format!("create a token for serviceaccounts {namespace}/{name}");
        let wrong =
            |error: serde_json::Error| Error::Decode { operation: operation.clone(), reason: error.to_string() };
        let body = serde_json::to_vec(request).map_err(wrong)?;
        let requests = requests(KindType::of::<ServiceAccount>(), Some(namespace));
        let sent = requests.create_subresource("token", name, &PostParams::default(), body);
        serde_json::from_value(self.send(sent, &operation).await?).map_err(wrong)
    }
}
