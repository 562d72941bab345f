//! Manifests: files of objects, applied when a cluster starts.

use std::path::Path;
use std::sync::Arc;

use longshore_core::api;
use longshore_core::client::params::{Patch, PatchParams};
use longshore_core::client::{Client, Error as ClientError, Target};
use longshore_core::decode::{self, FieldValidation, Format};
use longshore_core::kind::{AnyObject, DynObject};
use serde_json::Value;

use crate::Error;

/// Who applies manifests, in `managedFields`.
const MANAGER: &str = "longshore-up";

/// Namespace of objects that do not say theirs.
const DEFAULT_NAMESPACE: &str = "default";

/// One object of a manifest, and where it stands.
#[derive(Debug)]
pub struct Entry {
    file: String,
    document: usize,
    object: Box<dyn AnyObject>,
    value: Value,
}

impl Entry {
    /// The object.
    pub(crate) fn object(&self) -> &dyn AnyObject {
        &*self.object
    }

    /// The object as it was written.
    pub(crate) fn value(&self) -> &Value {
        &self.value
    }

    /// What is said of the object if it cannot be used.
    pub(crate) fn wrong(&self, reason: String) -> Error {
        Error::Manifest { file: self.file.clone(), document: self.document, reason }
    }
}

/// Reads a manifest file: JSON, or YAML documents separated by `---`; lists are taken apart.
///
/// # Errors
/// [`Error::File`]; [`Error::Manifest`] names the document that is malformed, of an unknown kind or has unknown fields.
pub fn read(path: &Path) -> Result<Vec<Entry>, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::file("read manifest", path))?;
    parse(&path.display().to_string(), &text)
}

/// The same from a text; `file` is for messages.
///
/// # Errors
/// [`Error::Manifest`].
pub fn parse(file: &str, text: &str) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    for (index, document) in documents(text).into_iter().enumerate() {
        let wrong = |reason: String| Error::Manifest { file: file.to_owned(), document: index + 1, reason };
        let (value, _) = decode::parse(document.as_bytes(), Format::Yaml).map_err(|error| wrong(error.to_string()))?;
        if value.is_null() {
            continue;
        }
        let values = match value["items"].as_array() {
            Some(items) if value["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => items.clone(),
            _ => vec![value],
        };
        for value in values {
            let object = object(&value).map_err(wrong)?;
            entries.push(Entry { file: file.to_owned(), document: index + 1, object, value });
        }
    }
    Ok(entries)
}

/// The documents of a YAML stream, separated as kubectl does it: by lines that begin with `---`.
fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line.starts_with("---") {
            documents.push(String::new());
        } else if let Some(last) = documents.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    documents.retain(|document| {
        document.lines().any(|line| !line.trim_start().is_empty() && !line.trim_start().starts_with('#'))
    });
    documents
}

fn object(value: &Value) -> Result<Box<dyn AnyObject>, String> {
    let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if api_version.is_empty() || kind.is_empty() {
        return Err("apiVersion and kind must be given".to_owned());
    }
    let kind = api::find(&api_version, &kind).ok_or_else(|| {
        format!("this cluster has no kind {kind} in {api_version}: `kubectl api-resources` lists them")
    })?;
    let bytes = serde_json::to_vec(value).map_err(|error| error.to_string())?;
    let decoded = decode::decode(kind, &bytes, Format::Json, FieldValidation::Strict)
        .map_err(|error| error.message(kind, &bytes))?;
    let mut object = decoded.object;
    if object.meta().name.as_deref().unwrap_or_default().is_empty() {
        return Err(format!("the {} has no metadata.name", kind.info.kind));
    }
    if kind.info.namespaced && object.meta().namespace.as_deref().unwrap_or_default().is_empty() {
        object.meta_mut().namespace = Some(DEFAULT_NAMESPACE.to_owned());
    }
    Ok(object)
}

/// Applies objects in their order by server-side apply, and returns them as stored.
///
/// # Errors
/// [`Error::Manifest`] with the server's refusal; what came before it stays applied.
pub async fn apply(client: &Arc<dyn Client>, entries: &[Entry]) -> Result<Vec<DynObject>, Error> {
    let mut applied = Vec::new();
    for entry in entries {
        let meta = entry.object.meta();
        let target = Target {
            kind: entry.object.kind_type(),
            namespace: meta.namespace.as_deref().unwrap_or_default(),
            name: meta.name.as_deref().unwrap_or_default(),
        };
        let params = PatchParams { force: true, field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Apply(entry.value.clone());
        let stored = client.patch(target, None, &patch, &params).await;
        let stored = stored.map_err(|error: ClientError| entry.wrong(format!("cannot apply {target}: {error}")))?;
        applied.push(stored);
    }
    Ok(applied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_lists_are_taken_apart() {
        let text = "# a comment\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n--- # more\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: b}}\n- {apiVersion: v1, kind: Secret, metadata: {name: c, namespace: b}}\n---\n";
        let entries = parse("f.yaml", text).unwrap();
        let names: Vec<_> = entries
            .iter()
            .map(|entry| (entry.object.kind_type().info.kind, entry.object.meta().namespace.as_deref(), entry.document))
            .collect();
        assert_eq!(names, [("ConfigMap", Some("default"), 1), ("Namespace", None, 2), ("Secret", Some("b"), 2)]);
    }

    #[test]
    fn errors_name_file_and_document() {
        for (text, what) in [
            ("a: [", "document 1"),
            ("kind: Pod", "apiVersion and kind must be given"),
            ("apiVersion: v7\nkind: Pod\nmetadata: {name: a}", "no kind Pod in v7"),
            ("apiVersion: v1\nkind: ConfigMap\nmetadata: {}", "has no metadata.name"),
            ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nspeck: 1", "unknown field \"speck\""),
        ] {
            let error = parse("f.yaml", text).unwrap_err().to_string();
            assert!(error.starts_with("f.yaml, document 1: ") && error.contains(what), "{error}");
        }
    }
}
