//! Family `decode`: strict decoding of the core group's kinds.

use longshore_core::decode::{DecodeError, FieldValidation, Format, decode, type_meta};
use serde_json::{Value, json};

use super::kinds;

/// What the library makes of one vector's input.
pub(crate) fn run(input: &Value) -> Value {
    let text = input["text"].as_str().unwrap_or_default();
    let format = if input["yaml"] == true { Format::Yaml } else { Format::Json };
    let meta = match type_meta(text.as_bytes(), format) {
        Ok(meta) => meta,
        Err(error) => {
            let mut out = failed(&error);
            if let (DecodeError::MissingKind(_) | DecodeError::MissingVersion(_), Some(meta)) =
                (&error, partial(text, input["yaml"] == true))
            {
                out["gvk"] = meta;
            }
            return out;
        }
    };
    let gvk = gvk(&meta.api_version, &meta.kind);
    // Upstream's vectors come from a scheme with the core group alone.
    let kind = if meta.api_version == "v1" { kinds::find(&meta.api_version, &meta.kind) } else { None };
    let Some(kind) = kind else {
        let mut out = failed(&DecodeError::NotRegistered(meta));
        out["gvk"] = gvk;
        return out;
    };
    match decode(kind, text.as_bytes(), format, FieldValidation::Strict) {
        Ok(decoded) => json!({ "gvk": gvk, "object": decoded.object.to_value() }),
        Err(error) => {
            let mut out = failed(&error);
            out["gvk"] = gvk;
            if let DecodeError::Strict { findings, .. } = &error {
                out["strictErrors"] = json!(findings);
                if let Ok(decoded) = decode(kind, text.as_bytes(), format, FieldValidation::Ignore) {
                    out["object"] = decoded.object.to_value();
                }
            }
            out
        }
    }
}

fn gvk(api_version: &str, kind: &str) -> Value {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    json!({ "group": group, "kind": kind, "version": version })
}

/// The kind and version as far as the document says them.
fn partial(text: &str, yaml: bool) -> Option<Value> {
    if yaml {
        return None;
    }
    let value: Value = serde_json::from_str(text).ok()?;
    let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    Some(gvk(&field("apiVersion"), &field("kind")))
}

fn failed(error: &DecodeError) -> Value {
    json!({
        "error": error.to_string().replace("pkg/api/legacyscheme/scheme.go:30", "SCHEME"),
        "missingKind": matches!(error, DecodeError::MissingKind(_)),
        "missingVersion": matches!(error, DecodeError::MissingVersion(_)),
        "notRegistered": matches!(error, DecodeError::NotRegistered(_)),
        "strictError": matches!(error, DecodeError::Strict { .. }),
    })
}

/// Texts of plain decoding errors quote Go types; that there is one is all that counts.
pub(crate) fn same(found: &Value, expected: &Value) -> bool {
    let plain =
        |out: &Value| out.get("error").is_some() && out["strictError"] == false && out["notRegistered"] == false;
    if plain(found) && plain(expected) {
        let without_text = |out: &Value| {
            let mut out = out.clone();
            out["error"] = Value::Null;
            out
        };
        return without_text(found) == without_text(expected);
    }
    found == expected
}
