//! A number or a text: ports by number or name, amounts absolute or in percent.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::go_format;

/// A number or a text, as upstream's `intstr.IntOrString`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IntOrString {
    /// A number.
    Int(i32),
    /// A text: a port's name, or a percentage such as `25%`.
    String(String),
}

/// Why a value is neither a number nor a percentage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid value for IntOrString: {reason}")]
pub struct PercentError {
    reason: String,
}

impl IntOrString {
    /// The number, or that percentage of `total`, rounded up or down.
    ///
    /// # Errors
    /// If a text is no percentage.
    pub fn scaled(&self, total: i32, round_up: bool) -> Result<i32, PercentError> {
        let text = match self {
            Self::Int(value) => return Ok(*value),
            Self::String(text) => text,
        };
        let error = |reason: String| PercentError { reason };
        let percent =
            text.strip_suffix('%').ok_or_else(|| error("invalid type: string is not a percentage".to_owned()))?;
        let percent = go_format::atoi(percent)
            .map_err(|wrong| error(format!("invalid value {}: {wrong}", go_format::quote(text))))?;
        let product = i128::from(percent) * i128::from(total);
        let scaled = if round_up {
            product.div_euclid(100) + i128::from(product.rem_euclid(100) != 0)
        } else {
            product.div_euclid(100)
        };
        Ok(i32::try_from(scaled).unwrap_or(if scaled < 0 { i32::MIN } else { i32::MAX }))
    }

    /// The number; a text read as one, 0 if it is none.
    pub fn int_value(&self) -> i32 {
        match self {
            Self::Int(value) => *value,
            Self::String(text) => text.parse().unwrap_or(0),
        }
    }
}

impl Default for IntOrString {
    fn default() -> Self {
        Self::Int(0)
    }
}

impl From<i32> for IntOrString {
    fn from(value: i32) -> Self {
        Self::Int(value)
    }
}

impl From<&str> for IntOrString {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => write!(f, "{value}"),
            Self::String(text) => f.pad(text),
        }
    }
}

impl Serialize for IntOrString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Int(value) => serializer.serialize_i32(*value),
            Self::String(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = IntOrString;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a 32-bit integer or a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<IntOrString, E> {
                Ok(text.into())
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<IntOrString, E> {
                i32::try_from(value)
                    .map(IntOrString::Int)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<IntOrString, E> {
                i32::try_from(value)
                    .map(IntOrString::Int)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl schemars::JsonSchema for IntOrString {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "IntOrString".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "format": "int-or-string",
            "oneOf": [{ "type": "integer" }, { "type": "string" }],
            "x-kubernetes-int-or-string": true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_both_ways() {
        let quarter = IntOrString::from("25%");
        assert_eq!((quarter.scaled(10, true), quarter.scaled(10, false)), (Ok(3), Ok(2)));
        assert_eq!(IntOrString::from(7).scaled(10, true), Ok(7));
        assert!(IntOrString::from("7").scaled(10, true).is_err());
        assert_eq!(IntOrString::from("80").int_value(), 80);
    }

    #[test]
    fn wire_form_keeps_the_kind_of_value() {
        for text in ["80", "\"http\""] {
            let value: IntOrString = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&value).unwrap(), text);
        }
        assert!(serde_json::from_str::<IntOrString>("3000000000").is_err());
    }
}
