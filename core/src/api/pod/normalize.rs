//! What becomes of a pod's older fields when upstream converts it to its internal version and back.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{PodIP, PodSpec, PodStatus};

/// Annotations that held init containers before there was a field.
const INIT_ANNOTATIONS: [&str; 4] = [
    "pod.beta.kubernetes.io/init-containers",
    "pod.alpha.kubernetes.io/init-containers",
    "pod.beta.kubernetes.io/init-container-statuses",
    "pod.alpha.kubernetes.io/init-container-statuses",
];

/// Takes away annotations that an old agent would act on.
pub(super) fn drop_init_annotations(metadata: &mut ObjectMeta) {
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|name, _| !INIT_ANNOTATIONS.contains(&name.as_str()));
    }
    metadata.annotations.take_if(|annotations| annotations.is_empty());
}

/// Makes the two names of the service account one; the newer decides.
pub(super) fn spec(spec: &mut PodSpec) {
    if spec.service_account_name.is_empty() {
        spec.service_account_name.clone_from(&spec.service_account);
    }
    spec.service_account.clone_from(&spec.service_account_name);
}

/// Makes the pod's address the first of all its addresses; the single one decides.
pub(super) fn status(status: &mut PodStatus) {
    if !status.pod_ip.is_empty() && status.pod_ips.first().map(|first| &first.ip) != Some(&status.pod_ip) {
        status.pod_ips = vec![PodIP { ip: status.pod_ip.clone() }];
    }
    status.pod_ip = status.pod_ips.first().map(|first| first.ip.clone()).unwrap_or_default();
}
