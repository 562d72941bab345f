//! Bytes that stand in JSON as base64.

use base64::engine::general_purpose::STANDARD;
use base64::{DecodeError, Engine};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes that stand in JSON as padded base64 text; line breaks in the text are skipped, as Go does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteString(pub Vec<u8>);

impl From<&str> for ByteString {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl Serialize for ByteString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for ByteString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text: Option<std::borrow::Cow<'de, str>> = Option::deserialize(deserializer)?;
        let mut text = text.unwrap_or_default();
        if text.contains(['\r', '\n']) {
            text = text.replace(['\r', '\n'], "").into();
        }
        let at = |offset| de::Error::custom(format_args!("illegal base64 data at input byte {offset}"));
        STANDARD.decode(text.as_bytes()).map(Self).map_err(|error| match error {
            DecodeError::InvalidByte(offset, _) | DecodeError::InvalidLastSymbol { offset, .. } => at(offset),
            DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => at(text.len()),
        })
    }
}

impl JsonSchema for ByteString {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteString".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "byte" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_base64_and_errors_name_the_place() {
        assert_eq!(serde_json::from_str::<ByteString>("\"AA\\nEC\"").unwrap().0, [0, 1, 2]);
        assert_eq!(serde_json::to_string(&ByteString::from("1")).unwrap(), "\"MQ==\"");
        let error = serde_json::from_str::<ByteString>("\"!!\"").unwrap_err().to_string();
        assert!(error.contains("illegal base64 data at input byte 0"), "{error}");
    }
}
