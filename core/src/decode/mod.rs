//! From a request's text to an object: JSON or YAML, checked against the kind's schema, with upstream's words for
//! what is wrong.
//!
//! [`decode`] first tries the cheap way: one pass that only looks (unknown or repeated fields, nulls, empty metadata),
//! then plain typed decoding. Only if that pass finds something is the document taken apart field by field, so that
//! findings can be named and nulls turned into what Go makes of them.

mod glance;
mod go_json;
mod normalize;
#[cfg(test)]
pub(crate) mod tests;
mod tree;
mod yaml;

use serde_json::Value;

use crate::kind::{AnyObject, KindType};
use crate::schema;

pub(crate) use go_json::{check_syntax, json_kind};

/// The largest request body that upstream's API server reads, in bytes; more is answered with 413.
pub const MAX_BODY_BYTES: usize = 3 * 1024 * 1024;

/// The most unknown or repeated fields that are named.
const MAX_FINDINGS: usize = 100;

/// What happens to fields that the kind does not have and to fields given twice: the `fieldValidation` of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// They are dropped (of two fields the last stays).
    Ignore,
    /// They are dropped, and each is named in a warning. The API's default.
    #[default]
    Warn,
    /// They are an error.
    Strict,
}

/// The text's format, from its content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
}

/// An object that was read.
#[derive(Debug)]
pub struct Decoded {
    /// The object, without defaults.
    pub object: Box<dyn AnyObject>,
    /// What was dropped, one line each; for the `Warning` headers of the answer.
    pub warnings: Vec<String>,
}

/// Why a document could not be read. The text is upstream's; see [`DecodeError::message`] for the whole of an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The text is neither JSON nor YAML.
    #[error("couldn't get version/kind; json parse error: {0}")]
    Syntax(String),
    /// The text is not YAML.
    #[error("{0}")]
    YamlSyntax(String),
    /// The document does not say its `apiVersion`.
    #[error("Object 'apiVersion' is missing in '{0}'")]
    MissingVersion(String),
    /// The document does not say its `kind`.
    #[error("Object 'Kind' is missing in '{0}'")]
    MissingKind(String),
    /// The document is of a kind that is not served here.
    #[error("no kind {:?} is registered for version {:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\"", .0.kind, .0.api_version)]
    NotRegistered(TypeMeta),
    /// A value has the wrong type.
    #[error("{text}")]
    Type {
        /// What the document says it is.
        type_meta: TypeMeta,
        /// What is wrong.
        text: String,
    },
    /// There are unknown or repeated fields, and validation is strict.
    #[error("strict decoding error: {}", .findings.join(", "))]
    Strict {
        /// What the document says it is.
        type_meta: TypeMeta,
        /// One for each field.
        findings: Vec<String>,
    },
}

impl DecodeError {
    /// The message of upstream's answer (status 400, reason BadRequest) to a request for `kind` with this `body`.
    pub fn message(&self, kind: &KindType, body: &[u8]) -> String {
        let wanted = kind.info.kind;
        match self {
            Self::Type { type_meta, .. } | Self::Strict { type_meta, .. } | Self::NotRegistered(type_meta) => {
                let found = if type_meta.kind.is_empty() { wanted } else { &type_meta.kind };
                let version = type_meta.api_version.rsplit('/').next().filter(|version| !version.is_empty());
                let version = version.unwrap_or(kind.info.version);
                format!("{found} in version {version:?} cannot be handled as a {wanted}: {self}")
            }
            _ => format!("the object provided is unrecognized (must be of type {wanted}): {self} ({})", summary(body)),
        }
    }
}

/// The start of a body as upstream's errors quote it: text if it looks like an object, else hexadecimal.
fn summary(body: &[u8]) -> String {
    let start = &body[..body.len().min(30)];
    let dots = if body.len() > 30 { " ..." } else { "" };
    match start.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{dots}", String::from_utf8_lossy(start)),
        Some(_) => format!("{}{dots}", start.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}

/// What a document says it is; empty where it does not say.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TypeMeta {
    /// Such as `apps/v1`.
    pub api_version: String,
    /// Such as `Deployment`.
    pub kind: String,
}

impl TypeMeta {
    fn fits(&self, kind: &KindType) -> bool {
        let version = kind.info.api_version();
        (self.kind.is_empty() || self.kind == kind.info.kind)
            && (self.api_version.is_empty() || self.api_version == version)
    }
}

/// Reads what a document says it is, and nothing else of it.
///
/// # Errors
/// The text is not JSON (or YAML), not an object, or does not say its kind or version.
pub fn type_meta(bytes: &[u8], format: Format) -> Result<TypeMeta, DecodeError> {
    let text = String::from_utf8_lossy(bytes);
    let meta = read_tree(&text, format)?.tree.type_meta().map_err(DecodeError::Syntax)?;
    let quoted = || if format == Format::Json { text.to_string() } else { yaml_as_json(&text) };
    if meta.kind.is_empty() {
        return Err(DecodeError::MissingKind(quoted()));
    }
    if meta.api_version.is_empty() {
        return Err(DecodeError::MissingVersion(quoted()));
    }
    Ok(meta)
}

fn yaml_as_json(text: &str) -> String {
    yaml::parse(text).map(|read| read.tree.into_value().to_string()).unwrap_or_default()
}

/// Reads a document as plain JSON, such as the configuration of a server-side apply. Keys given twice are returned
/// beside it (JSON has none: there the last stays), as they are found only in YAML.
///
/// # Errors
/// The text is malformed.
pub fn parse(bytes: &[u8], format: Format) -> Result<(Value, Vec<String>), DecodeError> {
    let read = read_tree(&String::from_utf8_lossy(bytes), format)?;
    Ok((read.tree.into_value(), read.findings))
}

/// Reads an object of `kind`. A document that does not say its kind or version is taken to be of it.
///
/// # Errors
/// The text is malformed, of another kind, has values of wrong types, or (if strict) unknown or repeated fields.
pub fn decode(
    kind: &'static KindType,
    bytes: &[u8],
    format: Format,
    validation: FieldValidation,
) -> Result<Decoded, DecodeError> {
    let schema = schema::of(kind);
    if format == Format::Json
        && glance::is_plain(bytes, kind, schema.root())
        && let Ok(object) = (kind.from_slice)(bytes)
    {
        return Ok(Decoded { object, warnings: Vec::new() });
    }
    let text = String::from_utf8_lossy(bytes);
    let read = read_tree(&text, format)?;
    decode_tree(kind, read, validation)
}

/// Reads an object of `kind` from a value, such as the result of a patch.
///
/// # Errors
/// As [`decode`].
pub fn decode_value(
    kind: &'static KindType,
    value: Value,
    validation: FieldValidation,
) -> Result<Decoded, DecodeError> {
    decode_tree(kind, tree::Read { tree: tree::Tree::from_value(value), findings: Vec::new() }, validation)
}

fn read_tree(text: &str, format: Format) -> Result<tree::Read, DecodeError> {
    match format {
        Format::Json => tree::parse_json(text).map_err(DecodeError::Syntax),
        Format::Yaml => yaml::parse(text).map_err(DecodeError::YamlSyntax),
    }
}

fn decode_tree(kind: &'static KindType, read: tree::Read, validation: FieldValidation) -> Result<Decoded, DecodeError> {
    let type_meta = read.tree.type_meta().map_err(DecodeError::Syntax)?;
    if !type_meta.fits(kind) {
        return Err(DecodeError::NotRegistered(type_meta));
    }
    let wrong_type = |text| DecodeError::Type { type_meta: type_meta.clone(), text };
    let normal = normalize::normalize(read.tree, schema::of(kind).root()).map_err(wrong_type)?;
    let object = (kind.from_value)(normal.value).map_err(|error| wrong_type(error.to_string()))?;
    let mut findings = read.findings;
    findings.extend(normal.findings);
    match validation {
        FieldValidation::Ignore => Ok(Decoded { object, warnings: Vec::new() }),
        FieldValidation::Strict if !findings.is_empty() => Err(DecodeError::Strict { type_meta, findings }),
        FieldValidation::Warn | FieldValidation::Strict => Ok(Decoded { object, warnings: findings }),
    }
}
