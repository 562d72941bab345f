//! Requests to one of several API servers.

use std::time::Duration;

use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;

/// Longest wait for one answer.
const TRY_MAX: Duration = Duration::from_secs(4);

/// Between tries.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Why there is no answer that is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The server refused, with this code and message; nothing was changed.
    Refused(u16, String),
    /// Whether it happened is not known.
    Unknown(String),
}

/// A client of one API server, which tries nothing twice by itself.
///
/// # Errors
/// What is wrong with the kubeconfig.
pub async fn client(kubeconfig: &str) -> Result<Client, String> {
    let config = Kubeconfig::from_yaml(kubeconfig).map_err(|error| error.to_string())?;
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
    let mut config = config.map_err(|error| error.to_string())?;
    config.default_retry = false;
    config.connect_timeout = Some(TRY_MAX);
    Client::try_from(config).map_err(|error| error.to_string())
}

/// A request.
#[derive(Debug, Clone)]
pub struct Ask {
    method: Method,
    path: String,
    body: Option<Value>,
}

impl Ask {
    /// Reads.
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: None }
    }

    /// Creates.
    pub fn post(path: impl Into<String>, body: Value) -> Self {
        Self { method: Method::POST, path: path.into(), body: Some(body) }
    }

    /// Replaces.
    pub fn put(path: impl Into<String>, body: Value) -> Self {
        Self { method: Method::PUT, path: path.into(), body: Some(body) }
    }

    /// Changes by a merge patch.
    pub fn patch(path: impl Into<String>, body: Value) -> Self {
        Self { method: Method::PATCH, path: path.into(), body: Some(body) }
    }

    /// Deletes, under conditions.
    pub fn delete(path: impl Into<String>, options: Value) -> Self {
        Self { method: Method::DELETE, path: path.into(), body: Some(options) }
    }

    /// The request as `http` has it.
    ///
    /// # Errors
    /// If the path cannot be one.
    pub fn request(&self) -> Result<Request<Vec<u8>>, String> {
        let kind = if self.method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let body = self.body.as_ref().map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = Request::builder().method(self.method.clone()).uri(&self.path).header("content-type", kind);
        request.body(body).map_err(|error| error.to_string())
    }

    /// Tries once.
    ///
    /// # Errors
    /// As [`Failure`] says.
    pub async fn once(&self, client: &Client) -> Result<Value, Failure> {
        let request = self.request().map_err(|error| Failure::Refused(0, error))?;
        match tokio::time::timeout(TRY_MAX, client.request::<Value>(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) if status.code < 500 && status.code != 429 => {
                Err(Failure::Refused(status.code, status.message.clone()))
            }
            Ok(Err(error)) => Err(Failure::Unknown(error.to_string())),
            Err(_) => Err(Failure::Unknown("no answer in time".to_owned())),
        }
    }
}

/// A client that goes to the next API server when one does not answer.
#[derive(Clone)]
pub struct Retrying<'a> {
    servers: &'a [Client],
    at: usize,
}

impl std::fmt::Debug for Retrying<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Retrying").field("at", &self.at).finish_non_exhaustive()
    }
}

impl<'a> Retrying<'a> {
    /// Begins with one of the servers.
    pub fn new(servers: &'a [Client], at: usize) -> Self {
        Self { servers, at }
    }

    /// Tries once; after no answer the next request goes to the next server.
    ///
    /// # Errors
    /// As [`Failure`] says.
    pub async fn once(&mut self, ask: &Ask) -> Result<Value, Failure> {
        let answer = ask.once(&self.servers[self.at % self.servers.len()]).await;
        if matches!(answer, Err(Failure::Unknown(_))) {
            self.at += 1;
            tokio::time::sleep(BACK_OFF).await;
        }
        answer
    }

    /// Tries until there is an answer; also how often that took.
    pub async fn until_answered(&mut self, ask: &Ask) -> (Result<Value, Failure>, usize) {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.once(ask).await {
                Err(Failure::Unknown(_)) => {}
                answer => return (answer, tries),
            }
        }
    }
}
