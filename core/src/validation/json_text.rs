//! JSON that stands in a text of an object, such as an annotation.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::decode::{check_syntax, json_kind};

/// Reads it; the error is Go's, at least where the syntax or the outermost type is wrong. `go_type` is what Go reads it
/// into: a list or a map.
pub(crate) fn read_json<T: DeserializeOwned + Default>(text: &[u8], go_type: &str) -> Result<T, String> {
    check_syntax(text)?;
    let value: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    match &value {
        Value::Null => return Ok(T::default()),
        Value::Array(_) if go_type.starts_with('[') => {}
        Value::Object(_) if !go_type.starts_with('[') => {}
        other => return Err(format!("json: cannot unmarshal {} into Go value of type {go_type}", json_kind(other))),
    }
    serde_json::from_value(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_gos() {
        let error = |text: &str| read_json::<Vec<String>>(text.as_bytes(), "[]string").unwrap_err();
        assert_eq!(error("x"), "invalid character 'x' looking for beginning of value");
        assert_eq!(error("["), "unexpected end of JSON input");
        assert_eq!(error("{}"), "json: cannot unmarshal object into Go value of type []string");
        assert_eq!(read_json::<Vec<String>>(b"null", "[]string"), Ok(vec![]));
    }
}
