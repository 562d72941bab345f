//! Family `defaulting`: what an object becomes by decoding and defaults, and by one conversion there and back.

use longshore_core::decode::{DecodeError, FieldValidation, Format, decode, type_meta};
use serde_json::{Value, json};

use super::kinds;

/// What the library makes of one vector's input.
pub(crate) fn run(input: &Value) -> Value {
    let text = input["object"].to_string();
    let decoded = type_meta(text.as_bytes(), Format::Json).and_then(|meta| {
        let Some(kind) = kinds::find(&meta.api_version, &meta.kind) else {
            return Err(DecodeError::NotRegistered(meta));
        };
        decode(kind, text.as_bytes(), Format::Json, FieldValidation::Ignore)
    });
    let mut object = match decoded {
        Ok(decoded) => decoded.object,
        Err(error) => {
            let error = error.to_string().replace("pkg/api/legacyscheme/scheme.go:30", "SCHEME");
            return json!({ "error": error });
        }
    };
    object.set_defaults();
    let defaulted = object.to_value();
    object.normalize();
    let round_trip = object.to_value();
    if round_trip == defaulted {
        json!({ "defaulted": defaulted })
    } else {
        json!({ "defaulted": defaulted, "roundTrip": round_trip })
    }
}

/// Texts that quote Go types are loose; that there is an error is all that counts then.
pub(crate) fn same(found: &Value, expected: &Value) -> bool {
    match (found["error"].as_str(), expected["error"].as_str()) {
        (Some(_), Some(text)) if text.contains("into Go ") => true,
        _ => found == expected,
    }
}
