//! OpenAPI v3 over HTTP. Clients keep a document for as long as its hash stays.
//!
//! Version 2 is only a shell: kubectl asks for it to check the items of a `v1 List` before it sends them, and takes a kind
//! that it does not find there for one that it need not check. The server then checks each item anyway.

use std::sync::OnceLock;

use ::http::{HeaderValue, Response, header};
use axum::body::Body;
use bytes::Bytes;
use longshore_core::client::Error;
use longshore_core::kind::KindType;
use longshore_core::openapi;
use serde_json::{Value, json};

use super::{Call, answer};

/// A document of version 2 without paths and definitions, in the only format that kubectl asks for: fields 1 (`swagger`)
/// and 2 (`info`, of `title` and `version`) of the message that gnostic defines.
const V2: &[u8] = b"\x0a\x032.0\x12\x11\x0a\x09Longshore\x12\x041.35";

/// The type of [`V2`].
const V2_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The answer to `/openapi/v2`.
pub(super) fn v2(accept: &str) -> Response<Body> {
    if accept.contains("protobuf") {
        return answer::respond(200, V2_TYPE, Body::from(V2));
    }
    let info = json!({ "title": "Longshore", "version": "1.35" });
    answer::json(200, &json!({ "swagger": "2.0", "info": info, "paths": {}, "definitions": {} }))
}

/// The documents of one server, made when they are first asked for.
#[derive(Debug, Default)]
pub(super) struct Documents(OnceLock<Made>);

#[derive(Debug)]
struct Made {
    index: Value,
    documents: Vec<(String, String, Bytes)>,
}

impl Documents {
    fn made(&self, kinds: &[&'static KindType]) -> &Made {
        self.0.get_or_init(|| {
            let documents = openapi::documents(kinds);
            let index = openapi::index(&documents);
            let documents = documents.into_iter().map(|one| (one.path, one.hash, Bytes::from(one.body))).collect();
            Made { index, documents }
        })
    }

    /// The list of documents, or one of them.
    pub(super) fn serve(
        &self,
        kinds: &[&'static KindType],
        call: &Call,
        path: Option<&str>,
    ) -> Result<Response<Body>, Error> {
        let made = self.made(kinds);
        let Some(path) = path else { return Ok(answer::json(200, &made.index)) };
        let found = made.documents.iter().find(|(of, _, _)| of == path);
        let (_, hash, body) = found.ok_or_else(super::nothing_here)?;
        let mut response = answer::respond(200, "application/json", Body::from(body.clone()));
        if let Ok(tag) = HeaderValue::from_str(&format!("\"{hash}\"")) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        if call.param("hash") == hash {
            let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
            response.headers_mut().insert(header::CACHE_CONTROL, forever);
        }
        Ok(response)
    }
}
