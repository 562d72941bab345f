//! UnsupportedFields: what Longshore knows but does not act on yet is not passed over in silence.
//!
//! [`FIELDS`] is the one list. A field is *refused* (403, naming it) where ignoring it would change safety, data or placement; it
//! is *ignored*, with a `Warning` header, otherwise. The list shrinks as parts learn more; [`table`] prints it for the docs.

mod fields;
mod find;

use async_trait::async_trait;
use kube_core::response::StatusCause;
use longshore_core::client::Error;
use longshore_core::kind::{AnyObject, Subresource};
use serde_json::Value;

use super::{AdmissionRule, Operation, Request, forbidden};

pub use fields::FIELDS;

/// What happens to an object that sets a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is refused.
    Refused,
    /// It is taken with a warning.
    Ignored,
}

/// A field that Longshore knows but does not act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// The kind, such as `Pod`. What is said of pods goes for templates of pods too, there always as a warning.
    pub kind: &'static str,
    /// The field, such as `spec.volumes[*].csi`; `[*]` is each item of a list, `{containers}` is `containers` and
    /// `initContainers`.
    pub path: &'static str,
    /// Only this value; `None` for any but an empty one.
    pub value: Option<&'static str>,
    /// What happens.
    pub effect: Effect,
    /// Why, for people.
    pub why: &'static str,
}

/// What is done about fields that are refused by the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unsupported {
    /// Objects with them are refused.
    #[default]
    Refuse,
    /// Objects with them are taken with a warning, at the user's risk.
    Warn,
}

impl std::str::FromStr for Unsupported {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "warn" => Ok(Self::Warn),
            _ => Err(format!("{text:?} is neither refuse nor warn")),
        }
    }
}

/// Refuses or warns about fields that nothing acts on yet; see the [module](self).
#[derive(Debug, Clone, Copy, Default)]
pub struct UnsupportedFields {
    /// What is done about fields that are refused by the list.
    pub mode: Unsupported,
}

/// A field that an object sets.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    field: &'static Field,
    /// Where it is, such as `spec.volumes[0].csi`.
    path: String,
    /// In a template, from which nothing is made yet.
    template: bool,
}

impl Found {
    fn message(&self) -> String {
        let value = self.field.value.map(|value| format!(" {value:?}")).unwrap_or_default();
        format!("{}{value} is not supported: {}", self.path, self.field.why)
    }
}

#[async_trait]
impl AdmissionRule for UnsupportedFields {
    fn name(&self) -> &'static str {
        "UnsupportedFields"
    }

    async fn validate(&self, request: &mut Request<'_>, object: &dyn AnyObject) -> Result<(), Error> {
        let looks = match request.operation {
            Operation::Create => true,
            Operation::Update(subresource) => {
                matches!(subresource, None | Some(Subresource::EphemeralContainers | Subresource::Resize))
            }
            Operation::Delete => false,
        };
        let kind = object.kind_type().info.kind;
        if !looks || !find::concerns(kind) {
            return Ok(());
        }
        let mut found = find::find(kind, &object.to_unmanaged_value());
        if !found.is_empty()
            && let Some(old) = request.old
        {
            // What was let in stays: an update answers only for what it adds.
            let before = find::find(kind, &old.to_unmanaged_value());
            found.retain(|found| !before.contains(found));
        }
        let refuses = |found: &Found| {
            self.mode == Unsupported::Refuse && found.field.effect == Effect::Refused && !found.template
        };
        let (refused, ignored): (Vec<_>, Vec<_>) = found.into_iter().partition(refuses);
        request.warnings.extend(ignored.iter().map(Found::message));
        if refused.is_empty() { Ok(()) } else { Err(refusal(object, &refused)) }
    }
}

fn refusal(object: &dyn AnyObject, refused: &[Found]) -> Error {
    let messages: Vec<String> = refused.iter().map(Found::message).collect();
    let mut error = forbidden(object, messages.join("; "));
    if let Error::Api(status) = &mut error
        && let Some(details) = &mut status.details
    {
        details.causes = refused
            .iter()
            .map(|found| StatusCause {
                reason: "FieldValueNotSupported".to_owned(),
                message: found.field.why.to_owned(),
                field: found.path.clone(),
            })
            .collect();
    }
    error
}

/// The list as a table in Markdown.
pub fn table() -> String {
    let mut table = "| Kind | Field | Value | Effect | Why |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for field in FIELDS {
        let value = field.value.map_or_else(|| "any".to_owned(), |value| format!("`{value}`"));
        let effect = match field.effect {
            Effect::Refused => "refused",
            Effect::Ignored => "ignored",
        };
        table.push_str(&format!("| {} | `{}` | {value} | {effect} | {} |\n", field.kind, field.path, field.why));
    }
    table
}

/// Whether a value says anything.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        // An empty object chooses (`emptyDir: {}`), so it counts.
        _ => true,
    }
}
