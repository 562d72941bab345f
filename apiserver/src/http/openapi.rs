//! OpenAPI v3 over HTTP. Clients keep a document for as long as its hash stays.
//!
//! There is no `/openapi/v2`: kubectl asks for it only where v3 is missing.

use std::sync::OnceLock;

use ::http::{HeaderValue, Response, header};
use axum::body::Body;
use bytes::Bytes;
use longshore_core::client::Error;
use longshore_core::kind::KindType;
use longshore_core::openapi;
use serde_json::Value;

use super::{Call, answer};

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
