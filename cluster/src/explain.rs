//! `pods/explain` from both ends: what the API server asks the scheduler, and what a program asks the API server.

use async_trait::async_trait;
use http::Request;
use longshore_apiserver::http::{ExplainError, Explained, Explainer};
use longshore_scheduler::{AskError, SchedulerHandle};

use crate::Error;
use crate::remote::kube_client;

/// Asks a scheduler in the same process.
#[derive(Debug)]
pub(crate) struct LocalExplainer(pub(crate) SchedulerHandle);

#[async_trait]
impl Explainer for LocalExplainer {
    async fn explain(&self, namespace: &str, pod: &str) -> Result<Explained, ExplainError> {
        let explanation = self.0.explain(namespace, pod).await.map_err(|error| match error {
            AskError::UnknownPod { .. } => ExplainError::UnknownPod(error.to_string()),
            other => ExplainError::Unavailable(other.to_string()),
        })?;
        let value = serde_json::to_value(&explanation).map_err(|error| ExplainError::Unavailable(error.to_string()))?;
        Ok(Explained { value, text: explanation.to_string() })
    }
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
    let client = kube_client(kubeconfig).map_err(failed)?;
    let accept = if json { "application/json" } else { "text/plain" };
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/explain");
    let request = Request::get(path).header("accept", accept).body(Vec::new());
    let request = request.map_err(|error| failed(error.to_string()))?;
    client.request_text(request).await.map_err(|error| match error {
        kube::Error::Api(status) if status.code == 404 && status.message.is_empty() => {
            failed("the server knows no explanations: it is not Longshore's".to_owned())
        }
        kube::Error::Api(status) => failed(status.message.clone()),
        kube::Error::Service(error) => failed(unreachable(&*error)),
        other => failed(other.to_string()),
    })
}

/// Says that nobody answers where the kubeconfig points.
fn unreachable(error: &(dyn std::error::Error + 'static)) -> String {
    let deepest = std::iter::successors(Some(error), |error| error.source()).last().unwrap_or(error);
    format!(
        "cannot reach the API server that the kubeconfig names ({deepest}); `longshore status` tells whether the cluster runs"
    )
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '-' | '.'))
}
