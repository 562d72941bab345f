//! Closed sets of strings as enums that lose nothing.

/// Declares an enum for a closed set of strings of the API.
///
/// Besides the variants listed there are `Unset` (the empty string, left out on the wire; the default) and `Other`,
/// which keeps a value that is not in the set until validation refuses it, so that the error can quote it.
///
/// A variant's text is its name unless given: `Tcp = "TCP"`.
#[macro_export]
macro_rules! string_enum {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$vmeta:meta])* $variant:ident $(= $text:literal)?),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        $vis enum $name {
            /// Not given.
            #[default]
            Unset,
            $($(#[$vmeta])* $variant,)+
            /// A value outside the set, kept so that validation can quote it.
            Other(Box<str>),
        }

        impl $name {
            /// Every value of the set, as text, in the order declared.
            pub const ALL: &'static [&'static str] = &[$($crate::string_enum!(@text $variant $($text)?)),+];

            /// The value as it stands on the wire; empty if unset.
            pub fn as_str(&self) -> &str {
                match self {
                    Self::Unset => "",
                    $(Self::$variant => $crate::string_enum!(@text $variant $($text)?),)+
                    Self::Other(text) => text,
                }
            }

            /// Whether no value was given.
            pub fn is_unset(&self) -> bool {
                matches!(self, Self::Unset)
            }

            /// Whether the value is one of the set.
            pub fn is_known(&self) -> bool {
                !matches!(self, Self::Unset | Self::Other(_))
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    "" => Self::Unset,
                    $($crate::string_enum!(@text $variant $($text)?) => Self::$variant,)+
                    other => Self::Other(other.into()),
                }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(Self::from(&*<::std::borrow::Cow<'de, str> as ::serde::Deserialize>::deserialize(deserializer)?))
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
                ::schemars::json_schema!({ "type": "string", "enum": Self::ALL })
            }
        }
    };
    (@text $variant:ident) => { stringify!($variant) };
    (@text $variant:ident $text:literal) => { $text };
}
