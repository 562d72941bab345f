//! Field selectors: which values some fields of an object must have.

use std::fmt;

use super::Error;
use crate::kind::{AnyObject, KindType};
use crate::validation::go_quote;

/// A field selector ready to match: requirements in the order of their texts. The default matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

/// What one field must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRequirement {
    /// The field's label, such as `spec.nodeName`.
    pub field: String,
    /// Whether the field must have the value, or must not.
    pub equals: bool,
    /// The value. A field that is not there is empty.
    pub value: String,
}

impl FieldSelector {
    /// Reads what people write: `status.phase!=Failed,spec.nodeName=n1`.
    ///
    /// # Errors
    /// The text is no selector.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut parts = split(text);
        parts.sort_unstable();
        let mut requirements = Vec::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let Some((field, equals, value)) = split_term(part) else {
                return Err(Error::Syntax(format!("invalid selector: '{text}'; can't understand '{part}'")));
            };
            requirements.push(FieldRequirement { field: field.to_owned(), equals, value: unescape(value)? });
        }
        Ok(Self { requirements })
    }

    /// Reads a selector for objects of a kind, its labels converted to those that [`AnyObject::field`] answers.
    ///
    /// # Errors
    /// The text is no selector, or the kind cannot be selected by one of its fields.
    pub fn parse_for(kind: &KindType, text: &str) -> Result<Self, Error> {
        let mut selector = Self::parse(text)?;
        for requirement in &mut selector.requirements {
            let label = convert_field_label(kind, &requirement.field)?;
            if label != requirement.field {
                requirement.field = label.to_owned();
            }
        }
        Ok(selector)
    }

    /// What the fields must be.
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }

    /// Whether there is no requirement, so that everything matches.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether the fields that `value_of` knows meet all requirements; a field that it does not know is empty.
    pub fn matches_by<T: AsRef<str>>(&self, mut value_of: impl FnMut(&str) -> Option<T>) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = value_of(&requirement.field);
            (value.as_ref().map_or("", AsRef::as_ref) == requirement.value) == requirement.equals
        })
    }

    /// Whether an object's fields meet all requirements.
    pub fn matches(&self, object: &dyn AnyObject) -> bool {
        self.matches_by(|field| object.field(field))
    }

    /// The value that a field must have for an object to match.
    pub fn requires_exact(&self, field: &str) -> Option<&str> {
        let pins = |requirement: &&FieldRequirement| requirement.equals && requirement.field == field;
        self.requirements.iter().find(pins).map(|requirement| requirement.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let sign = if requirement.equals { "=" } else { "!=" };
            write!(f, "{comma}{}{sign}{}", requirement.field, escape_field_value(&requirement.value))?;
        }
        Ok(())
    }
}

/// Splits at commas without a backslash before them.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Splits at the first sign of comparison.
fn split_term(text: &str) -> Option<(&str, bool, &str)> {
    let is_sign = |(at, _): &(usize, char)| text[*at..].starts_with("!=") || text[*at..].starts_with('=');
    let (at, _) = text.char_indices().find(is_sign)?;
    let (field, rest) = text.split_at(at);
    if let Some(value) = rest.strip_prefix("!=") {
        return Some((field, false, value));
    }
    Some((field, true, rest.strip_prefix("==").unwrap_or(&rest[1..])))
}

fn unescape(text: &str) -> Result<String, Error> {
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => value.push(c),
                other => {
                    let sequence: String = ['\\'].into_iter().chain(other).collect();
                    return Err(Error::Syntax(format!("invalid field selector: invalid escape sequence: {sequence}")));
                }
            },
            // Upstream prints the character's number.
            ',' | '=' => {
                let number = u32::from(c);
                return Err(Error::Syntax(format!("invalid field selector: unescaped character in value: {number}")));
            }
            c => value.push(c),
        }
    }
    Ok(value)
}

/// A value as it may stand in a selector.
pub fn escape_field_value(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '\\' | ',' | '=') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// The present name of a field by which objects of a kind can be selected.
///
/// # Errors
/// The kind cannot be selected by this field.
pub fn convert_field_label<'a>(kind: &KindType, label: &'a str) -> Result<&'a str, Error> {
    let own = (kind.selectable_fields)();
    let metadata = match label {
        "metadata.name" => true,
        // A kind without fields of its own takes the namespace even if its objects have none.
        "metadata.namespace" => own.is_empty() || kind.info.namespaced,
        _ => false,
    };
    if metadata || own.contains(&label) {
        return Ok(label);
    }
    if let Some((_, now)) = (kind.renamed_fields)().iter().find(|(before, _)| *before == label) {
        return Ok(now);
    }
    Err(Error::FieldLabel(match (own.is_empty(), kind.info.group, kind.info.kind) {
        (true, ..) => {
            format!("{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"", go_quote(label))
        }
        (false, "", _) => format!("field label not supported: {label}"),
        (false, _, kind) => format!("field label {} not supported for {kind}", go_quote(label)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ConfigMap, Job, Node, Pod};

    #[test]
    fn fields_are_those_of_the_kind() {
        let pod = KindType::of::<Pod>();
        assert_eq!(convert_field_label(pod, "spec.host"), Ok("spec.nodeName"));
        assert_eq!(convert_field_label(pod, "status.podIPs"), Ok("status.podIPs"));
        assert!(convert_field_label(KindType::of::<Node>(), "metadata.namespace").is_err());
        assert!(convert_field_label(KindType::of::<ConfigMap>(), "metadata.namespace").is_ok());
        let error = convert_field_label(KindType::of::<Job>(), "x").unwrap_err();
        assert_eq!(error.to_string(), "field label \"x\" not supported for Job");
    }

    #[test]
    fn pods_are_selected_by_their_node() {
        let mut pod = Pod::default();
        pod.spec.node_name = "n,1".to_owned();
        let selector = FieldSelector::parse_for(KindType::of::<Pod>(), "spec.host=n\\,1").unwrap();
        assert!(selector.matches(&pod));
        assert_eq!(selector.to_string(), "spec.nodeName=n\\,1");
        assert_eq!(selector.requires_exact("spec.nodeName"), Some("n,1"));
    }
}
