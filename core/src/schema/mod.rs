//! A kind's schema in the compact form that patches, server-side apply and strict decoding walk.
//!
//! [`of`] resolves what schemars derives from a kind's struct (references, `Option`s, Kubernetes' extensions) once per
//! process. The result answers, per field: which JSON is right, how a strategic merge patch merges it, and who can own
//! which part of it in server-side apply.

mod build;
#[cfg(test)]
mod tests;

use std::sync::{OnceLock, RwLock};

use rustc_hash::FxHashMap;
use serde_json::Value;

use crate::kind::KindType;

pub use build::from_json_schema;

/// The resolved schema of one kind.
#[derive(Debug)]
pub struct Schema {
    nodes: Vec<Node>,
    root: TypeId,
}

/// Index of a node in its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TypeId(u32);

/// One type of a schema. Cheap to copy; two are equal if they are the same node.
#[derive(Debug, Clone, Copy)]
pub struct Type<'s> {
    schema: &'s Schema,
    id: TypeId,
}

/// What JSON a type takes.
#[derive(Debug)]
pub enum Node {
    /// A string, number or boolean.
    Scalar(Scalar),
    /// An object with the fields listed, and no others.
    Struct(Struct),
    /// An object with free keys.
    Map(Map),
    /// A list.
    List(List),
    /// Any JSON at all.
    Any,
}

/// The scalars of the API. The untyped ones take more than one JSON type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    /// Text.
    String,
    /// Base64 text.
    Bytes,
    /// Whole number of 32 bits.
    Int32,
    /// Whole number of 64 bits.
    Int64,
    /// Number.
    Float,
    /// `true` or `false`.
    Bool,
    /// Text in RFC 3339, such as `2026-01-01T00:00:00Z`.
    Time,
    /// Text or whole number.
    IntOrString,
    /// An amount: text or number.
    Quantity,
}

impl Scalar {
    /// Whether server-side apply takes any scalar here.
    pub(crate) fn is_untyped(self) -> bool {
        matches!(self, Self::Time | Self::IntOrString | Self::Quantity)
    }

    /// The name of the Go type's kind, as errors print it.
    pub(crate) fn go_kind(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Bytes => "slice",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Float => "float64",
            Self::Bool => "bool",
            Self::Time | Self::IntOrString | Self::Quantity => "struct",
        }
    }
}

/// An object with named fields.
#[derive(Debug)]
pub struct Struct {
    /// Name of the type without its package, such as `PodSpec`.
    pub name: Box<str>,
    /// Whether server-side apply treats the object as one value.
    pub atomic: bool,
    fields: FxHashMap<Box<str>, Field>,
}

impl Struct {
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.get(name)
    }

    /// The field that Go's decoder would take for `name`: the same, or else one that differs only in case.
    pub(crate) fn field_like(&self, name: &str) -> Option<&Field> {
        self.field(name).or_else(|| {
            self.fields
                .iter()
                .filter(|(key, _)| key.eq_ignore_ascii_case(name))
                .min_by_key(|(key, _)| *key)
                .map(|(_, field)| field)
        })
    }
}

/// A field of a [`Struct`].
#[derive(Debug)]
pub struct Field {
    id: TypeId,
    /// How a strategic merge patch treats the field.
    pub patch: PatchStrategy,
    /// The value that stands for the field where it is part of a list's key but missing.
    pub key_default: Option<Value>,
}

/// How a strategic merge patch treats a field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PatchStrategy {
    /// Lists are merged item by item.
    pub merge: bool,
    /// Objects are replaced rather than merged.
    pub replace: bool,
    /// The patch may say which keys of the object stay (`$retainKeys`).
    pub retain_keys: bool,
    /// The field that identifies an item of the list; empty for lists of scalars.
    pub merge_key: Box<str>,
}

/// An object with free keys.
#[derive(Debug)]
pub struct Map {
    values: TypeId,
    /// Whether server-side apply treats the object as one value.
    pub atomic: bool,
}

/// A list.
#[derive(Debug)]
pub struct List {
    items: TypeId,
    /// Who can own its items.
    pub kind: ListKind,
}

/// Who can own the items of a list in server-side apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListKind {
    /// The list has one owner.
    Atomic,
    /// Each scalar has its owners.
    Set,
    /// Each item has its owners and is identified by the fields named.
    Map(Vec<Box<str>>),
}

impl Schema {
    /// The type of the whole object.
    pub fn root(&self) -> Type<'_> {
        Type { schema: self, id: self.root }
    }
}

impl<'s> Type<'s> {
    /// What JSON the type takes.
    pub fn node(self) -> &'s Node {
        &self.schema.nodes[self.id.0 as usize]
    }

    /// The type of a field of this struct.
    pub(crate) fn of_field(self, field: &Field) -> Self {
        Self { schema: self.schema, id: field.id }
    }

    /// The type of this map's values.
    pub(crate) fn of_values(self, map: &Map) -> Self {
        Self { schema: self.schema, id: map.values }
    }

    /// The type of this list's items.
    pub(crate) fn of_items(self, list: &List) -> Self {
        Self { schema: self.schema, id: list.items }
    }

    /// The type of what stands at `key`, and whether `key` is a field of a struct. `None` if there is no such thing.
    pub(crate) fn at_key(self, key: &str) -> Option<(Self, bool)> {
        match self.node() {
            Node::Struct(object) => object.field(key).map(|field| (self.of_field(field), true)),
            Node::Map(map) => Some((self.of_values(map), false)),
            Node::Any => Some((self, false)),
            Node::Scalar(_) | Node::List(_) => None,
        }
    }
}

impl PartialEq for Type<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.schema, other.schema) && self.id == other.id
    }
}

/// The schema of a kind, resolved at the first call and kept for the life of the process.
pub fn of(kind: &'static KindType) -> &'static Schema {
    static SCHEMAS: OnceLock<RwLock<FxHashMap<(&str, &str), &'static Schema>>> = OnceLock::new();
    let schemas = SCHEMAS.get_or_init(RwLock::default);
    let key = (kind.info.group, kind.info.kind);
    let known = schemas.read().expect("nothing panics while it holds the lock").get(&key).copied();
    known.unwrap_or_else(|| {
        let schema = from_json_schema(kind.info.kind, (kind.schema)().as_value());
        let mut schemas = schemas.write().expect("nothing panics while it holds the lock");
        schemas.entry(key).or_insert_with(|| Box::leak(Box::new(schema)))
    })
}
