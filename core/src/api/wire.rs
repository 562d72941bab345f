//! Small serde helpers that give structs the wire format of Go's encoding.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Declares the zero-sized type that is a kind's `apiVersion` on the wire.
macro_rules! api_version {
    ($(#[$meta:meta])* $name:ident = $text:literal) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name;

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str($text)
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <::std::borrow::Cow<'de, str> as ::serde::Deserialize>::deserialize(deserializer)?;
                if text == $text || text.is_empty() {
                    return Ok(Self);
                }
                Err(::serde::de::Error::custom(format_args!("apiVersion is {text:?}, this kind is of {:?}", $text)))
            }
        }

        impl ::schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> ::std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut ::schemars::SchemaGenerator) -> ::schemars::Schema {
                ::schemars::json_schema!({ "type": "string" })
            }
        }
    };
}

api_version!(
    /// `apiVersion` of the core group.
    V1 = "v1"
);
api_version!(
    /// `apiVersion` of the workload kinds.
    AppsV1 = "apps/v1"
);
api_version!(
    /// `apiVersion` of requests for tokens.
    AuthenticationV1 = "authentication.k8s.io/v1"
);
api_version!(
    /// `apiVersion` of `Scale`.
    AutoscalingV1 = "autoscaling/v1"
);
api_version!(
    /// `apiVersion` of the kinds that run to completion.
    BatchV1 = "batch/v1"
);
api_version!(
    /// `apiVersion` of requests for certificates.
    CertificatesV1 = "certificates.k8s.io/v1"
);
api_version!(
    /// `apiVersion` of leases.
    CoordinationV1 = "coordination.k8s.io/v1"
);
api_version!(
    /// `apiVersion` of endpoint slices.
    DiscoveryV1 = "discovery.k8s.io/v1"
);
api_version!(
    /// `apiVersion` of ingresses.
    NetworkingV1 = "networking.k8s.io/v1"
);
api_version!(
    /// `apiVersion` of disruption budgets.
    PolicyV1 = "policy/v1"
);
api_version!(
    /// `apiVersion` of roles.
    RbacV1 = "rbac.authorization.k8s.io/v1"
);
api_version!(
    /// `apiVersion` of priority classes.
    SchedulingV1 = "scheduling.k8s.io/v1"
);
api_version!(
    /// `apiVersion` of pod groups.
    SchedulingXV1alpha1 = "scheduling.x-k8s.io/v1alpha1"
);
api_version!(
    /// `apiVersion` of storage classes.
    StorageV1 = "storage.k8s.io/v1"
);

/// Whether a value is its type's zero value, which Go's `omitempty` leaves out.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Writes an empty list as `null`: what an API server of upstream answers for a list without `omitempty`, because its
/// storage format does not tell an empty list from none.
pub(crate) fn empty_as_null<T: Serialize, S: Serializer>(list: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    if list.is_empty() { serializer.serialize_unit() } else { list.serialize(serializer) }
}

/// Reads `null` as the empty value.
pub(crate) fn null_as_empty<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads metadata and forgets what Go's `omitempty` would not write again: empty texts, lists and maps, and zeros.
pub(crate) fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let mut metadata: ObjectMeta = null_as_empty(deserializer)?;
    for text in [
        &mut metadata.name,
        &mut metadata.generate_name,
        &mut metadata.namespace,
        &mut metadata.self_link,
        &mut metadata.uid,
        &mut metadata.resource_version,
    ] {
        text.take_if(|text| text.is_empty());
    }
    for map in [&mut metadata.labels, &mut metadata.annotations] {
        map.take_if(|map| map.is_empty());
    }
    metadata.generation.take_if(|generation| *generation == 0);
    metadata.finalizers.take_if(|list| list.is_empty());
    metadata.owner_references.take_if(|list| list.is_empty());
    // An empty list of managed fields stays: it asks to forget who owns what.
    Ok(metadata)
}
