//! `/metrics`: what the parts in this process count and measure.

use ::http::Response;
use axum::body::Body;
use longshore_core::client::Error;
use prometheus_client::registry::Registry;

use super::answer;
use crate::status;

/// The text format of OpenMetrics, which Prometheus reads.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The answer to a request for these metrics.
///
/// # Errors
/// A metric that cannot be written down.
pub fn show_metrics(registry: &Registry) -> Result<Response<Body>, Error> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).map_err(status::internal)?;
    Ok(answer::respond(200, CONTENT_TYPE, Body::from(text)))
}
