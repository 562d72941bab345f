//! Label and field selectors of list and watch requests.

use std::collections::BTreeMap;

use longshore_core::client::Error;
use longshore_core::kind::{AnyObject, KindType};

use crate::status;

/// What a listing or a watch wants to see.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Filter {
    labels: Vec<LabelRequirement>,
    fields: Vec<FieldRequirement>,
}

#[derive(Debug, Clone, PartialEq)]
struct LabelRequirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

#[derive(Debug, Clone, PartialEq)]
struct FieldRequirement {
    label: String,
    equals: bool,
    value: String,
}

impl Filter {
    /// Reads both selectors of a request for `kind`.
    ///
    /// # Errors
    /// A bad request that says what is wrong.
    pub(crate) fn parse(kind: &KindType, labels: Option<&str>, fields: Option<&str>) -> Result<Self, Error> {
        let labels = labels.filter(|text| !text.is_empty()).map(parse_labels).transpose()?.unwrap_or_default();
        let fields = fields
            .filter(|text| !text.is_empty())
            .map(|text| parse_fields(kind, text))
            .transpose()?
            .unwrap_or_default();
        Ok(Self { labels, fields })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, object: &dyn AnyObject) -> bool {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        let labels = object.meta().labels.as_ref().unwrap_or(&NONE);
        self.labels.iter().all(|requirement| requirement.matches(labels))
            && self.fields.iter().all(|requirement| {
                (object.field(&requirement.label).unwrap_or_default() == requirement.value) == requirement.equals
            })
    }
}

impl LabelRequirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let number = |compare: fn(&i64, &i64) -> bool| {
            let own: Option<i64> = value.and_then(|value| value.parse().ok());
            let wanted: Option<i64> = self.values.first().and_then(|value| value.parse().ok());
            own.zip(wanted).is_some_and(|(own, wanted)| compare(&own, &wanted))
        };
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => number(i64::gt),
            Operator::LessThan => number(i64::lt),
        }
    }
}

fn unparsable(text: &str, why: &str) -> Error {
    status::bad_request(format!("unable to parse requirement: {why} in {text:?}"))
}

/// Splits at the commas that are not inside parentheses.
fn split_requirements(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0usize, 0, Vec::new());
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn parse_labels(text: &str) -> Result<Vec<LabelRequirement>, Error> {
    split_requirements(text).into_iter().map(|part| parse_label(part.trim())).collect()
}

fn parse_label(text: &str) -> Result<LabelRequirement, Error> {
    let requirement = |key: &str, operator, values: Vec<String>| {
        let key = key.trim();
        if key.is_empty() || key.contains(|c: char| c.is_whitespace() || "!=<>(),".contains(c)) {
            return Err(unparsable(text, "the label key is not valid"));
        }
        Ok(LabelRequirement { key: key.to_owned(), operator, values })
    };
    for (sign, operator) in [
        ("!=", Operator::NotIn),
        ("==", Operator::In),
        ("=", Operator::In),
        (">", Operator::GreaterThan),
        ("<", Operator::LessThan),
    ] {
        if let Some((key, value)) = text.split_once(sign) {
            return requirement(key, operator, vec![value.trim().to_owned()]);
        }
    }
    if let Some(key) = text.strip_prefix('!') {
        return requirement(key, Operator::DoesNotExist, Vec::new());
    }
    let Some((head, values)) = text.split_once('(') else {
        return requirement(text, Operator::Exists, Vec::new());
    };
    let values = values.strip_suffix(')').ok_or_else(|| unparsable(text, "')' is missing"))?;
    let values = values.split(',').map(|value| value.trim().to_owned()).collect();
    let head = head.trim_end();
    if let Some(key) = head.strip_suffix(" notin") {
        return requirement(key, Operator::NotIn, values);
    }
    match head.strip_suffix(" in") {
        Some(key) => requirement(key, Operator::In, values),
        None => Err(unparsable(text, "found neither 'in' nor 'notin'")),
    }
}

fn parse_fields(kind: &KindType, text: &str) -> Result<Vec<FieldRequirement>, Error> {
    let mut requirements = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (label, equals, value) = if let Some((label, value)) = part.split_once("!=") {
            (label, false, value)
        } else if let Some((label, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
            (label, true, value)
        } else {
            return Err(status::bad_request(format!("invalid selector: '{text}'; can't understand '{part}'")));
        };
        let known = label == "metadata.name"
            || (label == "metadata.namespace" && kind.info.namespaced)
            || (kind.selectable_fields)().contains(&label);
        if !known {
            return Err(status::bad_request(format!(
                "Unable to find {:?} that match label selector \"\", field selector {text:?}: field label not supported: {label}",
                format!("{}, Resource={}", kind.info.api_version(), kind.info.plural),
            )));
        }
        let value = value.replace("\\,", ",").replace("\\=", "=").replace("\\\\", "\\");
        requirements.push(FieldRequirement { label: label.to_owned(), equals, value });
    }
    Ok(requirements)
}
