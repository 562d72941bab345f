//! Probes and lifecycle hooks.

use crate::api::wire::is_default;
use crate::int_or_string::IntOrString;
use crate::string_enum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

string_enum! {
    /// Scheme of an HTTP request.
    pub enum UriScheme {
        /// Plain HTTP.
        Http = "HTTP",
        /// HTTP over TLS; certificates are not checked.
        Https = "HTTPS",
    }
}

/// A repeated check of a container's health.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// Runs a command; code 0 is success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecAction>,
    /// Asks an HTTP server; codes 200 to 399 are success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HTTPGetAction>,
    /// Opens a TCP connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TCPSocketAction>,
    /// Asks a gRPC health service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GRPCAction>,
    /// Seconds after the start before the first check.
    #[serde(default, skip_serializing_if = "is_default")]
    pub initial_delay_seconds: i32,
    /// Seconds after which a check counts as failed; 1 by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeout_seconds: i32,
    /// Seconds between checks; 10 by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub period_seconds: i32,
    /// Successes in a row that make a failed probe good; 1 by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub success_threshold: i32,
    /// Failures in a row that make a good probe failed; 3 by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failure_threshold: i32,
    /// Seconds to stop in after a failure; the pod's if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_grace_period_seconds: Option<i64>,
}

/// A command run in a container.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecAction {
    /// Program and arguments; no shell.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub command: Vec<String>,
}

/// An HTTP GET request.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HTTPGetAction {
    /// Path.
    #[serde(default, skip_serializing_if = "is_default")]
    pub path: String,
    /// Port by number or name.
    #[serde(default)]
    pub port: IntOrString,
    /// Host to connect to; the pod's address if empty.
    #[serde(default, skip_serializing_if = "is_default")]
    pub host: String,
    /// Scheme; HTTP by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scheme: UriScheme,
    /// Headers to send.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub http_headers: Vec<HTTPHeader>,
}

/// A header of an HTTP request.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HTTPHeader {
    /// Name.
    #[serde(default)]
    pub name: String,
    /// Value.
    #[serde(default)]
    pub value: String,
}

/// An attempt to connect by TCP.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TCPSocketAction {
    /// Port by number or name.
    #[serde(default)]
    pub port: IntOrString,
    /// Host to connect to; the pod's address if empty.
    #[serde(default, skip_serializing_if = "is_default")]
    pub host: String,
}

/// A call of a gRPC health service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GRPCAction {
    /// Port.
    #[serde(default)]
    pub port: i32,
    /// Service to ask about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// What runs at the turns of a container's life.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    /// Right after the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_start: Option<LifecycleHandler>,
    /// Before the stop; its time counts against the grace period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_stop: Option<LifecycleHandler>,
    /// Signal that asks the container to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
}

/// One of the things that a hook can do.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LifecycleHandler {
    /// Runs a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecAction>,
    /// Sends an HTTP request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HTTPGetAction>,
    /// Not supported; kept for compatibility.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TCPSocketAction>,
    /// Waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleep: Option<SleepAction>,
}

/// A wait.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SleepAction {
    /// Seconds to wait.
    #[serde(default)]
    pub seconds: i64,
}
