//! From schemars' JSON schema to [`Schema`].

use rustc_hash::FxHashMap;
use serde_json::{Map as Object, Value};

use super::{Field, List, ListKind, Map, Node, PatchStrategy, Scalar, Schema, Struct, TypeId};

/// Resolves a JSON schema whose definitions stand in `$defs` (or `definitions`).
///
/// What the schema does not say is left open: a type that cannot be told takes any JSON.
pub fn from_json_schema(name: &str, root: &Value) -> Schema {
    let definitions = root.get("$defs").or_else(|| root.get("definitions")).and_then(Value::as_object);
    let mut builder = Builder { definitions, nodes: Vec::new(), named: FxHashMap::default() };
    let root = builder.resolve(root, name);
    // The tag that says the kind is not part of what schemars derives for a struct.
    let kind = builder.push(Node::Scalar(Scalar::String));
    if let Node::Struct(object) = &mut builder.nodes[root.0 as usize] {
        object.fields.entry("kind".into()).or_insert_with(|| field(kind, &Value::Null));
    }
    Schema { nodes: builder.nodes, root }
}

struct Builder<'v> {
    definitions: Option<&'v Object<String, Value>>,
    nodes: Vec<Node>,
    /// Structs already resolved (or being resolved), by definition. Lists and maps carry extensions of the field
    /// that uses them, so only what stands in a definition is shared.
    named: FxHashMap<&'v str, TypeId>,
}

impl<'v> Builder<'v> {
    fn push(&mut self, node: Node) -> TypeId {
        let id = TypeId(u32::try_from(self.nodes.len()).expect("a schema has far fewer types"));
        self.nodes.push(node);
        id
    }

    /// Resolves `schema`; `name` is the type's name if the schema does not stand in a definition.
    fn resolve(&mut self, schema: &'v Value, name: &str) -> TypeId {
        let schema = without_null(schema);
        let Some(object) = schema.as_object() else { return self.push(Node::Any) };
        if let Some(definition) = reference(object) {
            // An extension beside the reference belongs to this use alone.
            return match object.get("x-kubernetes-map-type").and_then(Value::as_str) {
                Some(map_type) => self.copy(definition, map_type == "atomic"),
                None => self.resolve_definition(definition),
            };
        }
        self.node(object, name)
    }

    fn resolve_definition(&mut self, definition: &'v str) -> TypeId {
        if let Some(&id) = self.named.get(definition) {
            return id;
        }
        let Some(target) = self.definitions.and_then(|definitions| definitions.get(definition)) else {
            return self.push(Node::Any);
        };
        // Claimed before it is resolved, so that a type may contain itself.
        let id = self.push(Node::Any);
        self.named.insert(definition, id);
        let resolved = self.resolve(target, short_name(definition));
        let node = std::mem::replace(&mut self.nodes[resolved.0 as usize], Node::Any);
        self.nodes[id.0 as usize] = node;
        id
    }

    /// A node of its own for a definition that one field treats otherwise: as atomic, or not.
    fn copy(&mut self, definition: &'v str, as_atomic: bool) -> TypeId {
        let shared = self.named.remove(definition);
        let id = self.resolve_definition(definition);
        if let Some(shared) = shared {
            self.named.insert(definition, shared);
        }
        if let Node::Struct(Struct { atomic, .. }) | Node::Map(Map { atomic, .. }) = &mut self.nodes[id.0 as usize] {
            *atomic = as_atomic;
        }
        id
    }

    fn node(&mut self, schema: &'v Object<String, Value>, name: &str) -> TypeId {
        let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
        if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) || matches!(format, "int-or-string") {
            let scalar = if name.contains("Quantity") { Scalar::Quantity } else { Scalar::IntOrString };
            return self.push(Node::Scalar(scalar));
        }
        if name == "Quantity" || format == "quantity" {
            return self.push(Node::Scalar(Scalar::Quantity));
        }
        let node = match type_name(schema) {
            Some("string") => Node::Scalar(match format {
                "date-time" => Scalar::Time,
                "byte" => Scalar::Bytes,
                "quantity" => Scalar::Quantity,
                _ => Scalar::String,
            }),
            Some("integer") => Node::Scalar(if format == "int32" { Scalar::Int32 } else { Scalar::Int64 }),
            Some("number") => Node::Scalar(Scalar::Float),
            Some("boolean") => Node::Scalar(Scalar::Bool),
            Some("array") => {
                let items = match schema.get("items") {
                    Some(items) => self.resolve(items, ""),
                    None => self.push(Node::Any),
                };
                Node::List(List { items, kind: list_kind(schema) })
            }
            Some("object") => return self.object(schema, name),
            _ if schema.contains_key("properties") => return self.object(schema, name),
            _ => Node::Any,
        };
        self.push(node)
    }

    fn object(&mut self, schema: &'v Object<String, Value>, name: &str) -> TypeId {
        let atomic = schema.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic");
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            let mut fields = FxHashMap::default();
            fields.reserve(properties.len());
            for (key, property) in properties {
                let id = self.resolve(property, "");
                fields.insert(key.as_str().into(), field(id, property));
            }
            if name == "ObjectMeta" {
                self.amend_object_meta(&mut fields);
            }
            let atomic = atomic || matches!(name, "OwnerReference" | "LabelSelector");
            return self.push(Node::Struct(Struct { name: name.into(), atomic, fields }));
        }
        let values = match schema.get("additionalProperties") {
            Some(values @ Value::Object(_)) => self.resolve(values, ""),
            _ => return self.push(Node::Any),
        };
        self.push(Node::Map(Map { values, atomic }))
    }

    /// ObjectMeta comes from another crate, whose schema lacks Kubernetes' extensions.
    fn amend_object_meta(&mut self, fields: &mut FxHashMap<Box<str>, Field>) {
        let lists = [("finalizers", ListKind::Set, ""), ("ownerReferences", ListKind::Map(vec!["uid".into()]), "uid")];
        for (name, kind, merge_key) in lists {
            let Some(field) = fields.get_mut(name) else { continue };
            field.patch = PatchStrategy { merge: true, merge_key: merge_key.into(), ..PatchStrategy::default() };
            if let Node::List(list) = &mut self.nodes[field.id.0 as usize] {
                list.kind = kind;
            }
        }
    }
}

fn field(id: TypeId, property: &Value) -> Field {
    let text = |key| property.get(key).and_then(Value::as_str).unwrap_or_default();
    let strategies: Vec<&str> = text("x-kubernetes-patch-strategy").split(',').collect();
    Field {
        id,
        patch: PatchStrategy {
            merge: strategies.contains(&"merge"),
            replace: strategies.contains(&"replace"),
            retain_keys: strategies.contains(&"retainKeys"),
            merge_key: text("x-kubernetes-patch-merge-key").into(),
        },
        key_default: property
            .get("default")
            .filter(|value| value.as_str().is_some_and(|text| !text.is_empty()))
            .cloned(),
    }
}

fn list_kind(schema: &Object<String, Value>) -> ListKind {
    let keys = || {
        let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
        keys.into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect()
    };
    match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListKind::Set,
        Some("map") => ListKind::Map(keys()),
        _ => ListKind::Atomic,
    }
}

fn reference(schema: &Object<String, Value>) -> Option<&str> {
    let path = schema.get("$ref")?.as_str()?;
    path.strip_prefix("#/$defs/").or_else(|| path.strip_prefix("#/definitions/"))
}

/// The schema without the `null` that an `Option` adds; the wrapper itself if it carries extensions.
fn without_null(schema: &Value) -> &Value {
    for keyword in ["anyOf", "oneOf", "allOf"] {
        let Some(choices) = schema.get(keyword).and_then(Value::as_array) else { continue };
        let mut choices = choices.iter().filter(|choice| choice.get("type").and_then(Value::as_str) != Some("null"));
        if let (Some(only), None) = (choices.next(), choices.next()) {
            return only;
        }
    }
    schema
}

fn type_name(schema: &Object<String, Value>) -> Option<&str> {
    match schema.get("type")? {
        Value::String(name) => Some(name),
        Value::Array(names) => {
            let mut names = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
            names.next().filter(|_| names.next().is_none())
        }
        _ => None,
    }
}

/// `PodSpec` of `io.k8s.api.core.v1.PodSpec`.
fn short_name(definition: &str) -> &str {
    definition.rsplit('.').next().unwrap_or(definition)
}
