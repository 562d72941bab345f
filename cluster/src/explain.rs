//! `pods/explain` from both ends: what the API server asks the scheduler, and what a program asks the API server.

use async_trait::async_trait;
use http::Request;
use longshore_apiserver::http::{ExplainError, Explainer, Form};
use longshore_core::api::Pod;
use longshore_scheduler::{AskError, SchedulerHandle};

use crate::Error;
use crate::connection::{kube_config, refused};

/// Asks a scheduler in the same process.
#[derive(Debug)]
pub(crate) struct LocalExplainer(pub(crate) SchedulerHandle);

#[async_trait]
impl Explainer for LocalExplainer {
    async fn explain(&self, pod: &Pod, form: Form) -> Result<axum::body::Body, ExplainError> {
        let meta = &pod.metadata;
        let (namespace, name) =
            (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        let explained = answer(&self.0, namespace, name, form).await;
        explained.map(Into::into).map_err(|error| match error {
            AskError::UnknownPod { .. } => ExplainError::UnknownPod(error.to_string()),
            other => ExplainError::Unavailable(other.to_string()),
        })
    }
}

/// A scheduler's explanation, written down.
pub(crate) async fn answer(
    handle: &SchedulerHandle,
    namespace: &str,
    pod: &str,
    form: Form,
) -> Result<String, AskError> {
    let explanation = handle.explain(namespace, pod).await?;
    Ok(match form {
        Form::Json => serde_json::json!(explanation).to_string(),
        Form::Text => explanation.to_string(),
    })
}

/// Asks an API server why a pod is where it is, or nowhere: JSON for programs, else text for people.
///
/// # Errors
/// [`Error::Part`]: the kubeconfig cannot be used, the server does not answer, there is no such pod, or nobody there
/// knows why.
pub async fn explain(kubeconfig: &str, namespace: &str, pod: &str, json: bool) -> Result<String, Error> {
    let failed = |reason: String| Error::Part { part: "explain", reason };
    // They become part of a path.
    if let Some(odd) = [namespace, pod].into_iter().find(|name| !is_name(name)) {
        return Err(failed(format!("{odd:?} cannot be the name of a pod or namespace")));
    }
    let mut config = kube_config(kubeconfig).map_err(failed)?;
    // That no scheduler can be asked now is the answer, and nothing to try again for minutes.
    config.default_retry = false;
    let client = kube::Client::try_from(config).map_err(|error| failed(error.to_string()))?;
    let accept = if json { "application/json" } else { "text/plain" };
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/explain");
    let request = Request::get(path).header("accept", accept).body(Vec::new());
    let request = request.map_err(|error| failed(error.to_string()))?;
    client.request_text(request).await.map_err(|error| match error {
        kube::Error::Api(status) if status.code == 404 && status.message.is_empty() => {
            failed("the server knows no explanations: it is not Longshore's".to_owned())
        }
        other => refused("explain")(other),
    })
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '-' | '.'))
}
