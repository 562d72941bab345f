//! The subresource `token` of service accounts: authentication.k8s.io/v1 TokenRequest.

use ::http::Response;
use axum::body::Body;
use longshore_core::api::TokenRequest;
use longshore_core::client::{Error, Target};
use serde_json::{Value, json};

use super::{Call, answer, authorization, options};
use crate::registry::Registry;
use crate::status;

pub(super) async fn serve(registry: &Registry, call: &Call, target: Target<'_>) -> Result<Response<Body>, Error> {
    let mut body = options::value(call)?;
    if let Some(kind) = body["kind"].as_str().filter(|kind| *kind != "TokenRequest" && !kind.is_empty()) {
        return Err(status::bad_request(format!("the body is a {kind}, not a TokenRequest")));
    }
    // What a client says of the outcome is of no interest.
    let read = json!({ "kind": "TokenRequest", "metadata": or_empty(&mut body, "metadata"), "spec": or_empty(&mut body, "spec") });
    let mut request: TokenRequest =
        serde_json::from_value(read).map_err(|error| status::bad_request(error.to_string()))?;
    let places = [
        ("name", "name", &mut request.metadata.name, target.name),
        ("namespace", "namespace", &mut request.metadata.namespace, target.namespace),
    ];
    for (what, of, written, meant) in places {
        let written = written.get_or_insert_default();
        if !written.is_empty() && written != meant {
            return Err(status::bad_request(format!(
                "the {what} of the token request ({written}) does not match the {of} of the service account on the URL ({meant})"
            )));
        }
        meant.clone_into(written);
    }
    authorization::check_token(registry, &call.identity, target, &request.spec).await?;
    let made = registry.create_token(&request).await?;
    Ok(answer::json(201, &json!(made)))
}

fn or_empty(body: &mut Value, field: &str) -> Value {
    match body.get_mut(field) {
        Some(value) if !value.is_null() => value.take(),
        _ => json!({}),
    }
}
