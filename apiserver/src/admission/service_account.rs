//! ServiceAccount: every pod has a service account, which must exist.

use std::time::Duration;

use async_trait::async_trait;
use longshore_core::api::{Pod, ServiceAccount};
use longshore_core::client::{Error, Target};
use longshore_core::kind::{AnyObject, KindType};

use super::{AdmissionRule, Request, forbidden, new_pod};

/// The account of pods that name none.
const DEFAULT: &str = "default";

/// The annotation of a pod that an agent runs from a file and only shows to the API.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// How long a pod waits for its namespace's default account, which a controller makes soon after the namespace.
const PATIENCE: Duration = Duration::from_secs(1);

/// Every pod has a service account, `default` unless it names one; the account must exist, and its secrets for pulling
/// images become those of pods that have none. No token is mounted yet.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServiceAccounts;

#[async_trait]
impl AdmissionRule for ServiceAccounts {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    async fn mutate(&self, request: &mut Request<'_>, object: &mut dyn AnyObject) -> Result<(), Error> {
        let kind = KindType::of::<ServiceAccount>();
        let Some(pod) = new_pod(request, object) else { return Ok(()) };
        if is_mirror(pod) {
            if pod.spec.service_account_name.is_empty() {
                return Ok(());
            }
            return Err(forbidden(object, "a mirror pod may not reference service accounts"));
        }
        if pod.spec.service_account_name.is_empty() {
            DEFAULT.clone_into(&mut pod.spec.service_account_name);
        }
        pod.spec.service_account.clone_from(&pod.spec.service_account_name);
        if request.registry.serves(kind) {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let name = &pod.spec.service_account_name;
            let target = Target { kind, namespace, name };
            let patience = if name == DEFAULT { PATIENCE } else { Duration::ZERO };
            let Some(account) = request.registry.find(target, patience).await? else {
                let why =
                    format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
                return Err(forbidden(object, why));
            };
            if let Some(account) = account.as_any().downcast_ref::<ServiceAccount>()
                && pod.spec.image_pull_secrets.is_empty()
            {
                pod.spec.image_pull_secrets.clone_from(&account.image_pull_secrets);
            }
        }
        Ok(())
    }
}

fn is_mirror(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR))
}
