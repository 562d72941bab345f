//! Small serde helpers that give structs the wire format of Go's encoding.

/// Declares the zero-sized type that is a kind's `apiVersion` on the wire.
macro_rules! api_version {
    ($(#[$meta:meta])* $name:ident = $text:literal) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name;

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str($text)
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <::std::borrow::Cow<'de, str> as ::serde::Deserialize>::deserialize(deserializer)?;
                if text == $text || text.is_empty() {
                    return Ok(Self);
                }
                Err(::serde::de::Error::custom(format_args!("apiVersion is {text:?}, this kind is of {:?}", $text)))
            }
        }

        impl ::schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> ::std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut ::schemars::SchemaGenerator) -> ::schemars::Schema {
                ::schemars::json_schema!({ "type": "string" })
            }
        }
    };
}

api_version!(
    /// `apiVersion` of the core group.
    V1 = "v1"
);
api_version!(
    /// `apiVersion` of the workload kinds.
    AppsV1 = "apps/v1"
);

/// Whether a value is its type's zero value, which Go's `omitempty` leaves out.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
