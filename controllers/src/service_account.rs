//! Gives every namespace its `default` service account.

use jiff::Timestamp;
use longshore_core::api::{Namespace, ServiceAccount};
use longshore_core::informer::{Change, ObjectKey};

use crate::controller::{Controller, Triggers, View};
use crate::plan::{Action, Plan};

/// The account that pods run under unless they say otherwise.
const DEFAULT: &str = "default";

/// The service account controller.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServiceAccountController;

/// A namespace that takes new objects.
pub(crate) fn is_open(view: &View<'_>, name: &str) -> bool {
    view.of::<Namespace>().get("", name).is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none())
}

/// The key of the namespace that an object is in.
pub(crate) fn namespace_of(namespace: Option<&str>) -> ObjectKey {
    ObjectKey::new("", namespace.unwrap_or_default())
}

impl Controller for ServiceAccountController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "serviceaccount"
    }

    fn triggers(&self, triggers: &Triggers<ObjectKey>) {
        triggers.on::<Namespace, _>(|change| [ObjectKey::of(&**change.object())]);
        triggers.on::<ServiceAccount, _>(|change| match change {
            Change::Deleted(account) => Some(namespace_of(account.metadata.namespace.as_deref())),
            Change::Added(_) | Change::Modified { .. } => None,
        });
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, _now: Timestamp) -> Plan {
        if !is_open(view, &key.name) || view.of::<ServiceAccount>().get(&key.name, DEFAULT).is_some() {
            return Plan::nothing();
        }
        let mut account = ServiceAccount::default();
        account.metadata.name = Some(DEFAULT.to_owned());
        account.metadata.namespace = Some(key.name.to_string());
        vec![Action::Create(Box::new(account))].into()
    }
}

#[cfg(test)]
mod tests {
    use longshore_core::client::params::{DeleteParams, PostParams};
    use longshore_core::kind::KindType;

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn every_namespace_has_one_and_gets_it_back() {
        let world = World::new(1);
        world
            .with(ServiceAccountController, async {
                let mut namespace = Namespace::default();
                namespace.metadata.name = Some("ns".into());
                world.client.create(Box::new(namespace), &PostParams::default()).await.unwrap();
                world.settle().await;
                let first = world.api::<ServiceAccount>().get(DEFAULT).await.unwrap();
                world.api::<ServiceAccount>().delete(DEFAULT, &DeleteParams::default()).await.unwrap();
                world.settle().await;
                let second = world.api::<ServiceAccount>().get(DEFAULT).await.unwrap();
                assert_ne!(first.metadata.uid, second.metadata.uid);
                assert_eq!(world.server.objects(KindType::of::<ServiceAccount>()).len(), 1);
            })
            .await;
    }
}
