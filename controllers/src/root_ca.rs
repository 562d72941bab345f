//! Publishes the certificate authority of the API server in every namespace, as the config map `kube-root-ca.crt`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use longshore_core::api::config_map::ROOT_CA as NAME;
use longshore_core::api::{ConfigMap, Namespace};
use longshore_core::informer::ObjectKey;

use crate::controller::{Controller, Triggers, View};
use crate::plan::{Action, Plan};
use crate::service_account::{is_open, namespace_of};

const KEY: &str = "ca.crt";
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.",
);

/// The root CA publisher.
#[derive(Debug, Clone)]
pub struct RootCaPublisher {
    bundle: String,
}

impl RootCaPublisher {
    /// Publishes these certificates (PEM).
    pub fn new(bundle: impl Into<String>) -> Self {
        Self { bundle: bundle.into() }
    }
}

impl Controller for RootCaPublisher {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "root_ca_cert_publisher"
    }

    fn triggers(&self, triggers: &Triggers<ObjectKey>) {
        triggers.on::<Namespace, _>(|change| [ObjectKey::of(&**change.object())]);
        triggers.on::<ConfigMap, _>(|change| {
            let metadata = &change.object().metadata;
            (metadata.name.as_deref() == Some(NAME)).then(|| namespace_of(metadata.namespace.as_deref()))
        });
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, _now: Timestamp) -> Plan {
        if !is_open(view, &key.name) {
            return Plan::nothing();
        }
        let data = BTreeMap::from([(KEY.to_owned(), self.bundle.clone())]);
        let Some(known) = view.of::<ConfigMap>().get(&key.name, NAME) else {
            let mut map = ConfigMap { data, ..ConfigMap::default() };
            map.metadata.name = Some(NAME.to_owned());
            map.metadata.namespace = Some(key.name.to_string());
            map.metadata.annotations = Some([(DESCRIPTION.0.to_owned(), DESCRIPTION.1.to_owned())].into());
            return vec![Action::Create(Box::new(map))].into();
        };
        let described = known.metadata.annotations.iter().flatten().any(|(name, _)| name == DESCRIPTION.0);
        if known.data == data && described {
            return Plan::nothing();
        }
        let mut map = ConfigMap { data, ..(*known).clone() };
        let annotations = map.metadata.annotations.get_or_insert_default();
        annotations.insert(DESCRIPTION.0.to_owned(), DESCRIPTION.1.to_owned());
        vec![Action::Update { object: Box::new(map), subresource: None }].into()
    }
}

#[cfg(test)]
mod tests {
    use longshore_core::client::params::PostParams;

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn is_published_and_put_right() {
        let world = World::new(1);
        world
            .with(RootCaPublisher::new("PEM"), async {
                let mut namespace = Namespace::default();
                namespace.metadata.name = Some("ns".into());
                world.client.create(Box::new(namespace), &PostParams::default()).await.unwrap();
                world.settle().await;
                let map = world.api::<ConfigMap>().get(NAME).await.unwrap();
                assert_eq!(map.data[KEY], "PEM");
                let mut wrong = (*map).clone();
                wrong.data.insert(KEY.into(), "other".into());
                world.api().update(wrong, &PostParams::default()).await.unwrap();
                world.settle().await;
                assert_eq!(world.api::<ConfigMap>().get(NAME).await.unwrap().data[KEY], "PEM");
            })
            .await;
    }
}
