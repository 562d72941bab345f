//! OpenAPI v3 documents, one a group and version, derived from the kinds' schemas: `kubectl explain`, `apply` and the
//! checks of `--validate` read them.

use std::collections::BTreeMap;
use std::hash::Hasher;

use rustc_hash::FxHasher;
use serde_json::{Map, Value, json};

use crate::kind::{KindInfo, KindType, Subresource};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Scalars that are text or number, and have a name of their own: what their schema's format is, and what upstream calls
/// them.
const UNTYPED: [(&str, &str, [&str; 2]); 2] = [
    ("int-or-string", "io.k8s.apimachinery.pkg.util.intstr.IntOrString", ["integer", "string"]),
    ("quantity", "io.k8s.apimachinery.pkg.api.resource.Quantity", ["string", "number"]),
];

/// The content types that a patch may have.
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// The document of one group and version.
#[derive(Debug, Clone)]
pub struct Document {
    /// Where it is found below `/openapi/v3/`: `api/v1`, `apis/apps/v1`.
    pub path: String,
    /// The document as JSON text.
    pub body: Vec<u8>,
    /// A hash of the text. Part of the address that [`index`] gives, so that clients can keep what they read.
    pub hash: String,
}

/// The documents of `kinds`, by path.
pub fn documents(kinds: &[&KindType]) -> Vec<Document> {
    let core: BTreeMap<String, Value> =
        kinds.iter().filter(|kind| kind.info.group.is_empty()).flat_map(|kind| definitions(kind)).collect();
    let mut groups: BTreeMap<String, Vec<&KindType>> = BTreeMap::new();
    for kind in kinds {
        groups.entry(root(&kind.info)).or_default().push(kind);
    }
    groups.into_iter().map(|(path, kinds)| document(path, &kinds, &core)).collect()
}

/// The answer to `/openapi/v3`: where each document is.
pub fn index(documents: &[Document]) -> Value {
    let paths = documents.iter().map(|document| {
        let url = format!("/openapi/v3/{}?hash={}", document.path, document.hash);
        (document.path.clone(), json!({ "serverRelativeURL": url }))
    });
    json!({ "paths": paths.collect::<Map<_, _>>() })
}

fn root(info: &KindInfo) -> String {
    let start = if info.group.is_empty() { "api" } else { "apis" };
    format!("{start}/{}", info.api_version())
}

fn document(path: String, kinds: &[&KindType], core: &BTreeMap<String, Value>) -> Document {
    let (mut schemas, mut paths) = (Map::new(), Map::new());
    for (format, name, [first, second]) in UNTYPED {
        schemas.insert(name.into(), json!({ "format": format, "oneOf": [{ "type": first }, { "type": second }] }));
    }
    for kind in kinds {
        let own = package(&kind.info);
        let names: BTreeMap<String, String> = definitions(kind)
            .map(|(name, schema)| {
                let full = full_name(&name, &own, core.get(&name) == Some(&schema));
                (name, full)
            })
            .collect();
        for (name, schema) in definitions(kind) {
            schemas.insert(names[&name].clone(), convert(&schema, &names));
        }
        let mut schema = (kind.schema)().to_value();
        if let Some(schema) = schema.as_object_mut() {
            schema.remove("$defs");
        }
        let mut schema = convert(&schema, &names);
        // The derive knows the tag only as a constant.
        schema["properties"]["kind"] = json!({ "type": "string", "description": "Kind of the object." });
        schema["x-kubernetes-group-version-kind"] = json!([gvk(&kind.info)]);
        let name = format!("{own}.{}", kind.info.kind);
        add_paths(&kind.info, &name, &mut paths);
        schemas.insert(name, schema);
    }
    let body = json!({
        "openapi": "3.0.0",
        "info": { "title": "Longshore", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "schemas": schemas },
    });
    let body = body.to_string().into_bytes();
    let mut hasher = FxHasher::default();
    hasher.write(&body);
    Document { path, hash: format!("{:016X}", hasher.finish()), body }
}

fn definitions(kind: &KindType) -> impl Iterator<Item = (String, Value)> + use<> {
    let mut schema = (kind.schema)().to_value();
    let definitions = schema.as_object_mut().and_then(|schema| schema.remove("$defs"));
    match definitions {
        Some(Value::Object(definitions)) => definitions.into_iter(),
        _ => Map::new().into_iter(),
    }
}

/// Upstream's name of the package that a kind is in.
fn package(info: &KindInfo) -> String {
    let group = info.group.split('.').next().filter(|group| !group.is_empty()).unwrap_or("core");
    format!("io.k8s.api.{group}.{}", info.version)
}

/// Upstream's name of a definition. What a kind shares with the core group belongs to that.
fn full_name(name: &str, own: &str, in_core: bool) -> String {
    match name {
        _ if name.starts_with("io.k8s.") => name.to_owned(),
        "LabelSelector" | "LabelSelectorRequirement" => format!("{META}.{name}"),
        _ if in_core => format!("io.k8s.api.core.v1.{name}"),
        _ => format!("{own}.{name}"),
    }
}

fn gvk(info: &KindInfo) -> Value {
    json!({ "group": info.group, "version": info.version, "kind": info.kind })
}

/// From the JSON schema of the derive to what OpenAPI 3.0 knows: one type, no `null`, nothing beside a `$ref`.
fn convert(schema: &Value, names: &BTreeMap<String, String>) -> Value {
    let Value::Object(schema) = schema else { return json!({}) };
    let mut out = Map::new();
    if let Some((_, name, _)) = UNTYPED.iter().find(|(format, ..)| schema.get("format").is_some_and(|of| of == format))
    {
        out.insert("$ref".into(), format!("#/components/schemas/{name}").into());
        for key in schema
            .keys()
            .filter(|key| !["type", "format", "oneOf", "x-kubernetes-int-or-string"].contains(&key.as_str()))
        {
            out.insert(key.clone(), schema[key].clone());
        }
        return beside_reference(out);
    }
    for (key, value) in schema {
        match (key.as_str(), value) {
            ("$ref", Value::String(target)) => {
                let name = target.rsplit('/').next().unwrap_or_default();
                let name = names.get(name).map_or(name, String::as_str);
                out.insert("$ref".into(), format!("#/components/schemas/{name}").into());
            }
            ("type", Value::Array(types)) => {
                let type_ = types.iter().find(|type_| *type_ != "null").cloned().unwrap_or_default();
                out.insert(key.clone(), type_);
            }
            // Either the thing or nothing: the thing, which may be left out anyway.
            ("anyOf", Value::Array(choices)) => {
                let choice = choices.iter().find(|choice| choice["type"] != "null");
                if let Value::Object(choice) = choice.map(|choice| convert(choice, names)).unwrap_or_default() {
                    for (key, value) in choice {
                        out.entry(key).or_insert(value);
                    }
                }
            }
            ("properties", Value::Object(properties)) => {
                let converted = properties.iter().map(|(name, of)| (name.clone(), convert(of, names)));
                out.insert(key.clone(), converted.collect::<Map<_, _>>().into());
            }
            ("items" | "additionalProperties", Value::Object(_)) => {
                out.insert(key.clone(), convert(value, names));
            }
            // The names of what one struct is tagged with, and the derive's own keywords.
            ("const" | "required" | "default" | "title" | "$schema" | "minimum" | "maximum", _) => {}
            _ => {
                out.insert(key.clone(), value.clone());
            }
        }
    }
    beside_reference(out)
}

/// Moves a reference that has company to where it may have some.
fn beside_reference(mut out: Map<String, Value>) -> Value {
    if out.len() > 1
        && let Some(target) = out.remove("$ref")
    {
        out.insert("allOf".into(), json!([{ "$ref": target }]));
    }
    out.into()
}

fn add_paths(info: &KindInfo, schema: &str, paths: &mut Map<String, Value>) {
    let start = format!("/{}", root(info));
    let collection = if info.namespaced {
        format!("{start}/namespaces/{{namespace}}/{}", info.plural)
    } else {
        format!("{start}/{}", info.plural)
    };
    let body = |types: &[&str], schema: Value| {
        let types = types.iter().map(|type_| ((*type_).to_owned(), json!({ "schema": schema })));
        json!({ "content": types.collect::<Map<_, _>>() })
    };
    let object = json!({ "$ref": format!("#/components/schemas/{schema}") });
    let operation = |action: &str, parameters: &[&str], sent: Option<Value>| {
        let parameters: Vec<Value> = parameters
            .iter()
            .map(|name| json!({ "name": name, "in": "query", "schema": { "type": "string" } }))
            .collect();
        let mut operation = json!({
            "parameters": parameters,
            "responses": { "200": body(&["application/json"], object.clone()).as_object().map(|content| {
                let mut content = content.clone();
                content.insert("description".into(), "OK".into());
                content
            }) },
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": gvk(info),
        });
        if let Some(sent) = sent {
            operation["requestBody"] = sent;
        }
        operation
    };
    const WRITE: [&str; 3] = ["dryRun", "fieldManager", "fieldValidation"];
    const PATCH: [&str; 4] = ["dryRun", "fieldManager", "fieldValidation", "force"];
    const DELETE: [&str; 3] = ["dryRun", "gracePeriodSeconds", "propagationPolicy"];
    const LIST: [&str; 5] = ["continue", "fieldSelector", "labelSelector", "limit", "watch"];
    let whole = || body(&["application/json", "application/yaml"], object.clone());
    let patch = || operation("patch", &PATCH, Some(body(&PATCHES, json!({ "type": "object" }))));
    let one = json!({
        "get": operation("get", &[], None),
        "put": operation("put", &WRITE, Some(whole())),
        "patch": patch(),
        "delete": operation("delete", &DELETE, None),
    });
    paths.insert(format!("{start}/{}", info.plural), json!({ "get": operation("list", &LIST, None) }));
    let all = json!({ "get": operation("list", &LIST, None), "post": operation("post", &WRITE, Some(whole())) });
    paths.insert(collection.clone(), all);
    // Only what has the kind's own shape; the others are described by no document of ours yet.
    for subresource in info.subresources.iter().filter(|of| matches!(of, Subresource::Status | Subresource::Resize)) {
        let of = json!({
            "get": operation("get", &[], None),
            "put": operation("put", &WRITE, Some(whole())),
            "patch": patch(),
        });
        paths.insert(format!("{collection}/{{name}}/{}", subresource.as_str()), of);
    }
    paths.insert(format!("{collection}/{{name}}"), one);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api;

    /// The names that a document refers to but does not define; empty if it is whole.
    fn missing(document: &Value) -> BTreeSet<String> {
        fn walk(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(map) => {
                    if let Some(target) = map.get("$ref").and_then(Value::as_str) {
                        found.insert(target.rsplit('/').next().unwrap_or_default().to_owned());
                    }
                    map.values().for_each(|value| walk(value, found));
                }
                Value::Array(list) => list.iter().for_each(|value| walk(value, found)),
                _ => {}
            }
        }
        let mut found = BTreeSet::new();
        walk(document, &mut found);
        found.retain(|name| document["components"]["schemas"].get(name).is_none());
        found
    }

    fn document(path: &str) -> Value {
        let documents = documents(api::kinds());
        let document = documents.iter().find(|document| document.path == path).unwrap();
        serde_json::from_slice(&document.body).unwrap()
    }

    #[test]
    fn the_index_names_every_document_by_its_hash() {
        let documents = documents(api::kinds());
        let index = index(&documents);
        let url = index["paths"]["api/v1"]["serverRelativeURL"].as_str().unwrap();
        assert!(url.starts_with("/openapi/v3/api/v1?hash="), "{url}");
        assert_eq!(index["paths"].as_object().unwrap().len(), documents.len());
        assert!(documents.iter().any(|document| document.path == "apis/apps/v1"));
    }

    #[test]
    fn documents_are_whole() {
        for document in documents(api::kinds()) {
            let value: Value = serde_json::from_slice(&document.body).unwrap();
            assert_eq!(missing(&value), BTreeSet::new(), "{}", document.path);
        }
    }

    #[test]
    fn schemas_have_upstream_names_and_patch_keys() {
        let document = document("api/v1");
        let schemas = &document["components"]["schemas"];
        let service = &schemas["io.k8s.api.core.v1.Service"];
        assert_eq!(
            service["x-kubernetes-group-version-kind"],
            json!([{ "group": "", "version": "v1", "kind": "Service" }])
        );
        assert_eq!(
            service["properties"]["spec"]["allOf"],
            json!([{ "$ref": "#/components/schemas/io.k8s.api.core.v1.ServiceSpec" }])
        );
        assert_eq!(service["properties"]["kind"]["type"], "string");
        let ports = &schemas["io.k8s.api.core.v1.ServiceSpec"]["properties"]["ports"];
        assert_eq!(ports["x-kubernetes-patch-merge-key"], "port");
        assert_eq!(ports["x-kubernetes-list-map-keys"], json!(["port", "protocol"]));
        assert!(schemas.get(format!("{META}.ObjectMeta")).is_some());
        let target = &schemas["io.k8s.api.core.v1.ServicePort"]["properties"]["targetPort"]["allOf"][0]["$ref"];
        assert_eq!(target, "#/components/schemas/io.k8s.apimachinery.pkg.util.intstr.IntOrString");
    }

    #[test]
    fn patches_say_what_they_take() {
        let document = document("api/v1");
        let patch = &document["paths"]["/api/v1/namespaces/{namespace}/services/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Service");
        let parameters = patch["parameters"].as_array().unwrap();
        for name in ["dryRun", "fieldValidation"] {
            assert!(parameters.iter().any(|parameter| parameter["name"] == name), "{name}");
        }
        for type_ in PATCHES {
            assert!(patch["requestBody"]["content"].get(type_).is_some(), "{type_}");
        }
    }
}
