//! What a kind of object is: its names, its rules, and how parts that know no type handle it.
//!
//! A kind is one struct (wire format by serde, schema by schemars) plus one `impl Kind` that points to the rules
//! beside it: defaults, validation, what an update may touch, and printer columns. Everything that handles objects
//! without knowing their type (registry, tables, patches, caches) goes through [`AnyObject`], which every kind gets
//! for free.

mod unmanaged;

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::validation::ErrorList;

/// The names under which the API serves a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindInfo {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// API version, such as `v1`.
    pub version: &'static str,
    /// CamelCase kind, such as `ReplicaSet`.
    pub kind: &'static str,
    /// Lower-case plural used in paths and keys, such as `replicasets`.
    pub plural: &'static str,
    /// Lower-case singular, such as `replicaset`.
    pub singular: &'static str,
    /// Abbreviations that kubectl accepts, such as `rs`.
    pub short_names: &'static [&'static str],
    /// Groups of kinds that kubectl expands, such as `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Parts of the object that have a path of their own.
    pub subresources: &'static [Subresource],
}

impl KindInfo {
    /// `apiVersion` as written in objects: `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `plural.group` as upstream's errors name a resource; only the plural in the core group.
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Whether the kind serves this subresource.
    pub fn has(&self, subresource: Subresource) -> bool {
        self.subresources.contains(&subresource)
    }
}

/// A part of an object that is read or written through a path of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Subresource {
    /// What the system observed.
    Status,
    /// The number of replicas, in the shape of autoscaling/v1 Scale.
    Scale,
    /// A pod's assignment to a node.
    Binding,
    /// A pod's resources, changed in place.
    Resize,
    /// A pod's debugging containers.
    EphemeralContainers,
    /// A namespace's finalizers.
    Finalize,
    /// What was decided about a request for a certificate.
    Approval,
    /// A pod's removal subject to disruption budgets.
    Eviction,
    /// A container's output.
    Log,
    /// A process run in a container.
    Exec,
    /// A container's own process.
    Attach,
    /// A pod's ports.
    PortForward,
    /// A service account's tokens.
    Token,
    /// What the scheduler thinks of a pod, node by node. Not upstream's.
    Explain,
}

impl Subresource {
    /// The path segment, such as `status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Binding => "binding",
            Self::Resize => "resize",
            Self::EphemeralContainers => "ephemeralcontainers",
            Self::Finalize => "finalize",
            Self::Approval => "approval",
            Self::Eviction => "eviction",
            Self::Log => "log",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
            Self::Token => "token",
            Self::Explain => "explain",
        }
    }
}

/// A column of the table that `kubectl get` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Heading, such as `Ready`.
    pub name: &'static str,
    /// OpenAPI type of the cells: `string`, `integer`, `boolean`, `number` or `date`.
    pub type_: &'static str,
    /// OpenAPI format; `name` marks the object's name.
    pub format: &'static str,
    /// What the column shows.
    pub description: &'static str,
    /// 0 is always shown, above that only with `-o wide`.
    pub priority: i32,
}

/// Static description of a kind, implemented by the [`kind!`](crate::kind!) macro.
pub trait Described:
    kube_core::Resource<DynamicType = ()>
    + Serialize
    + DeserializeOwned
    + JsonSchema
    + Clone
    + Debug
    + Default
    + PartialEq
    + Send
    + Sync
    + 'static
{
    /// The kind's names.
    const INFO: KindInfo;
}

/// The rules of one kind of object. Every method has the meaning "nothing special" unless overridden.
///
/// Rules are pure: they see only the objects given. What needs the rest of the cluster (does the namespace exist,
/// which address is free) is admission or allocation in the API server.
pub trait Kind: Described {
    /// Fills what the user left out, as upstream's `SetDefaults_*`. Idempotent.
    fn set_defaults(&mut self) {}

    /// Makes the changes that upstream makes by converting to its internal version and back, such as moving a
    /// secret's `stringData` into `data`. Runs after [`Kind::set_defaults`]. Idempotent.
    fn normalize(&mut self) {}

    /// Clears what a creator may not set (status, generation, …), as upstream's strategy `PrepareForCreate`.
    fn prepare_for_create(&mut self) {}

    /// Puts back what this kind of update may not change and bumps `metadata.generation` where the desired state
    /// changed, as upstream's `PrepareForUpdate`. `subresource` is `None` for the object's own path.
    fn prepare_for_update(&mut self, _old: &Self, _subresource: Option<Subresource>) {}

    /// Checks a new object, `metadata` included. Errors in upstream's order and words.
    fn validate(&self) -> ErrorList;

    /// Checks a change from `old` to `self`.
    fn validate_update(&self, old: &Self, subresource: Option<Subresource>) -> ErrorList;

    /// Columns of `kubectl get`, the name first, `Age` where upstream has it.
    fn columns() -> &'static [Column];

    /// One cell for each column.
    fn row(&self, now: Timestamp) -> Vec<Value>;

    /// The value of a field selector's label such as `spec.nodeName`; `None` if the kind does not offer it.
    /// `metadata.name` and `metadata.namespace` are handled for every kind.
    fn field(&self, _label: &str) -> Option<String> {
        None
    }

    /// Labels that [`Kind::field`] answers, besides the two that every kind has.
    fn selectable_fields() -> &'static [&'static str] {
        &[]
    }

    /// Older names of selectable fields, each with its present one.
    fn renamed_fields() -> &'static [(&'static str, &'static str)] {
        &[]
    }
}

/// A kind at run time: its names and the way to read an object of it.
#[derive(Debug)]
pub struct KindType {
    /// The kind's names.
    pub info: KindInfo,
    /// Reads an object from JSON bytes; unknown fields are ignored.
    pub from_slice: fn(&[u8]) -> serde_json::Result<Box<dyn AnyObject>>,
    /// Reads an object from a JSON value; unknown fields are ignored.
    pub from_value: fn(Value) -> serde_json::Result<Box<dyn AnyObject>>,
    /// Columns of `kubectl get`.
    pub columns: fn() -> &'static [Column],
    /// Field selectors besides `metadata.name` and `metadata.namespace`.
    pub selectable_fields: fn() -> &'static [&'static str],
    /// See [`Kind::renamed_fields`].
    pub renamed_fields: fn() -> &'static [(&'static str, &'static str)],
    /// The kind's JSON schema as schemars derives it, with Kubernetes' extensions.
    pub schema: fn() -> schemars::Schema,
}

impl KindType {
    /// The run-time description of `K`.
    pub const fn of<K: Kind>() -> &'static Self {
        struct Of<K>(std::marker::PhantomData<K>);
        impl<K: Kind> Of<K> {
            const TYPE: &'static KindType = &KindType {
                info: K::INFO,
                from_slice: |bytes| Ok(Box::new(serde_json::from_slice::<K>(bytes)?)),
                from_value: |value| Ok(Box::new(serde_json::from_value::<K>(value)?)),
                columns: K::columns,
                selectable_fields: K::selectable_fields,
                renamed_fields: K::renamed_fields,
                schema: || schemars::generate::SchemaSettings::default().into_generator().into_root_schema_for::<K>(),
            };
        }
        Of::<K>::TYPE
    }
}

impl PartialEq for KindType {
    fn eq(&self, other: &Self) -> bool {
        self.info.group == other.info.group && self.info.kind == other.info.kind
    }
}

/// Why no object fails to be written.
const SERIALIZES: &str = "API objects have string keys and no failing serializers";

/// A shared object of a kind known only at run time.
pub type DynObject = Arc<dyn AnyObject>;

/// An object whose kind is known only at run time. Implemented for every [`Kind`]; not meant to be implemented otherwise.
pub trait AnyObject: Debug + Send + Sync + 'static {
    /// The object's kind.
    fn kind_type(&self) -> &'static KindType;
    /// The object's metadata.
    fn meta(&self) -> &ObjectMeta;
    /// The object's metadata, to change.
    fn meta_mut(&mut self) -> &mut ObjectMeta;
    /// The object as JSON, with `apiVersion` and `kind`.
    fn to_value(&self) -> Value;
    /// The same without `metadata.managedFields`.
    fn to_unmanaged_value(&self) -> Value;
    /// The object as JSON text, with `apiVersion` and `kind`.
    fn to_vec(&self) -> Vec<u8>;
    /// A copy.
    fn clone_box(&self) -> Box<dyn AnyObject>;
    /// Whether both are of the same kind and equal.
    fn equals(&self, other: &dyn AnyObject) -> bool;
    /// See [`Kind::set_defaults`].
    fn set_defaults(&mut self);
    /// See [`Kind::normalize`].
    fn normalize(&mut self);
    /// See [`Kind::prepare_for_create`].
    fn prepare_for_create(&mut self);
    /// See [`Kind::prepare_for_update`]; `old` must be of the same kind.
    fn prepare_for_update(&mut self, old: &dyn AnyObject, subresource: Option<Subresource>);
    /// See [`Kind::validate`].
    fn validate(&self) -> ErrorList;
    /// See [`Kind::validate_update`]; `old` must be of the same kind.
    fn validate_update(&self, old: &dyn AnyObject, subresource: Option<Subresource>) -> ErrorList;
    /// See [`Kind::row`].
    fn row(&self, now: Timestamp) -> Vec<Value>;
    /// The value of a field selector's label, `metadata.name` and `metadata.namespace` included.
    fn field(&self, label: &str) -> Option<String>;
    /// For downcasting a reference.
    fn as_any(&self) -> &dyn Any;
    /// For downcasting a reference, to change the object.
    fn as_any_mut(&mut self) -> &mut dyn Any;
    /// For downcasting a shared object.
    fn into_any_arc(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    /// For downcasting an owned object.
    fn into_any_box(self: Box<Self>) -> Box<dyn Any + Send + Sync>;
}

impl<K: Kind> AnyObject for K {
    fn kind_type(&self) -> &'static KindType {
        KindType::of::<K>()
    }
    fn meta(&self) -> &ObjectMeta {
        kube_core::Resource::meta(self)
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        kube_core::Resource::meta_mut(self)
    }
    fn to_value(&self) -> Value {
        serde_json::to_value(self).expect(SERIALIZES)
    }
    fn to_unmanaged_value(&self) -> Value {
        unmanaged::to_value(self, self.meta()).expect(SERIALIZES)
    }
    fn to_vec(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect(SERIALIZES)
    }
    fn clone_box(&self) -> Box<dyn AnyObject> {
        Box::new(self.clone())
    }
    fn equals(&self, other: &dyn AnyObject) -> bool {
        other.as_any().downcast_ref::<K>().is_some_and(|other| self == other)
    }
    fn set_defaults(&mut self) {
        Kind::set_defaults(self);
    }
    fn normalize(&mut self) {
        Kind::normalize(self);
    }
    fn prepare_for_create(&mut self) {
        Kind::prepare_for_create(self);
    }
    fn prepare_for_update(&mut self, old: &dyn AnyObject, subresource: Option<Subresource>) {
        Kind::prepare_for_update(self, same_kind(old), subresource);
    }
    fn validate(&self) -> ErrorList {
        Kind::validate(self)
    }
    fn validate_update(&self, old: &dyn AnyObject, subresource: Option<Subresource>) -> ErrorList {
        Kind::validate_update(self, same_kind(old), subresource)
    }
    fn row(&self, now: Timestamp) -> Vec<Value> {
        Kind::row(self, now)
    }
    fn field(&self, label: &str) -> Option<String> {
        match label {
            "metadata.name" => Some(AnyObject::meta(self).name.clone().unwrap_or_default()),
            "metadata.namespace" if K::INFO.namespaced => {
                Some(AnyObject::meta(self).namespace.clone().unwrap_or_default())
            }
            _ => Kind::field(self, label),
        }
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
    fn into_any_arc(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
    fn into_any_box(self: Box<Self>) -> Box<dyn Any + Send + Sync> {
        self
    }
}

fn same_kind<K: Kind>(old: &dyn AnyObject) -> &K {
    old.as_any().downcast_ref().expect("an update compares objects of one kind")
}

/// Implements [`Described`] and `kube_core::Resource` for a struct that has `metadata: ObjectMeta`.
///
/// ```text
/// kind!(ReplicaSet, apps/v1, "replicasets", Namespaced, short ["rs"], categories ["all"], subresources [Status, Scale]);
/// kind!(Node, v1, "nodes", Cluster, short ["no"], categories [], subresources [Status]);
/// ```
#[macro_export]
macro_rules! kind {
    ($type:ident, $version:ident, $($rest:tt)*) => {
        $crate::kind!(@ $type, "", stringify!($version), stringify!($version), $($rest)*);
    };
    ($type:ident, $group:literal / $version:ident, $($rest:tt)*) => {
        $crate::kind!(@ $type, $group, stringify!($version), concat!($group, "/", stringify!($version)), $($rest)*);
    };
    (@ $type:ident, $group:expr, $version:expr, $api_version:expr, $plural:literal, singular $singular:literal, $scope:ident,
        short [$($short:literal),*], categories [$($category:literal),*], subresources [$($sub:ident),*]) => {
        impl ::kube_core::Resource for $type {
            type DynamicType = ();
            type Scope = $crate::kind!(@scope $scope);
            fn kind(_: &()) -> ::std::borrow::Cow<'_, str> {
                stringify!($type).into()
            }
            fn group(_: &()) -> ::std::borrow::Cow<'_, str> {
                $group.into()
            }
            fn version(_: &()) -> ::std::borrow::Cow<'_, str> {
                $version.into()
            }
            fn plural(_: &()) -> ::std::borrow::Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &mut self.metadata
            }
        }
        impl $crate::kind::Described for $type {
            const INFO: $crate::kind::KindInfo = $crate::kind::KindInfo {
                group: $group,
                version: $version,
                kind: stringify!($type),
                plural: $plural,
                singular: $singular,
                short_names: &[$($short),*],
                categories: &[$($category),*],
                namespaced: $crate::kind!(@namespaced $scope),
                subresources: &[$($crate::kind::Subresource::$sub),*],
            };
        }
    };
    (@scope Namespaced) => { ::k8s_openapi::NamespaceResourceScope };
    (@scope Cluster) => { ::k8s_openapi::ClusterResourceScope };
    (@namespaced Namespaced) => { true };
    (@namespaced Cluster) => { false };
}
