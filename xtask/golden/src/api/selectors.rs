//! Family `selectors`: label and field selectors.

use std::collections::BTreeMap;

use longshore_core::selector::{
    Error, FieldSelector, LabelSelector, Selector, convert_field_label, escape_field_value, format_labels,
    labels_from_selector,
};
use longshore_core::validation::Path;
use serde_json::{Value, json};

use super::names::field_errors;
use super::{kinds, read};

type Labels = BTreeMap<String, String>;

/// What the library makes of one vector's input.
pub(crate) fn run(input: &Value) -> Value {
    let text = input["s"].as_str().unwrap_or_default();
    let sets: Vec<Labels> = read(&input["sets"]);
    let made = match input["op"].as_str().unwrap_or_default() {
        "labels.Parse" => Selector::parse(text).map(|selector| {
            let mut out = describe(&selector, &sets);
            out["requirements"] = requirements(&selector);
            out
        }),
        "LabelSelector" => Ok(object(&input["selector"], &sets)),
        "ParseToLabelSelector" => LabelSelector::parse(text).map(|selector| json!({ "selector": selector })),
        "ConvertSelectorToLabelsMap" => labels_from_selector(text).map(|labels| json!({ "map": labels })),
        "SelectorFromSet" => Ok(from_set(&read(&input["map"]), &sets)),
        "fields.ParseSelector" => FieldSelector::parse(text).map(|selector| fields(&selector, &sets)),
        "fields.EscapeValue" => Ok(json!({ "s": escape_field_value(text) })),
        "ConvertFieldLabel" => convert(input),
        op => Ok(json!({ "unknown": op })),
    };
    made.unwrap_or_else(|error| json!({ "error": error.to_string() }))
}

fn describe(selector: &Selector, sets: &[Labels]) -> Value {
    let matches: Vec<bool> = sets.iter().map(|set| selector.matches(set)).collect();
    json!({ "string": selector.to_string(), "empty": selector.is_empty(), "matches": matches })
}

fn requirements(selector: &Selector) -> Value {
    let list = selector.requirements();
    let show = |requirement: &longshore_core::selector::Requirement| {
        let values: Vec<&str> = requirement.values().collect();
        json!({ "key": requirement.key(), "operator": requirement.operator().as_str(), "values": values })
    };
    let shown: Vec<Value> = list.unwrap_or_default().iter().map(show).collect();
    json!({ "selectable": list.is_some(), "list": shown })
}

fn object(selector: &Value, sets: &[Labels]) -> Value {
    let selector: Option<LabelSelector> = read(selector);
    let mut out = match Selector::from_object(selector.as_ref()) {
        Ok(compiled) => describe(&compiled, sets),
        Err(error) => json!({ "error": error.to_string() }),
    };
    out["formatted"] = LabelSelector::format(selector.as_ref()).into();
    if let Some(selector) = selector {
        out["validation"] = field_errors(&selector.validate(&Path::new("spec").child("selector")));
        match selector.to_labels() {
            Ok(labels) => out["asMap"] = json!(labels),
            Err(error) => out["asMapError"] = error.to_string().into(),
        }
    }
    out
}

fn from_set(labels: &Labels, sets: &[Labels]) -> Value {
    let selector = Selector::from_labels(labels);
    let mut out = describe(&selector, sets);
    if let Some(out) = out.as_object_mut() {
        out.shift_remove("empty");
    }
    out["setString"] = format_labels(labels).into();
    match Selector::from_valid_labels(labels) {
        Ok(selector) => out["validatedString"] = selector.to_string().into(),
        Err(error) => out["validatedError"] = error.to_string().into(),
    }
    out
}

fn fields(selector: &FieldSelector, sets: &[Labels]) -> Value {
    let matches: Vec<bool> = sets.iter().map(|set| selector.matches_by(|field| set.get(field))).collect();
    let show = |requirement: &longshore_core::selector::FieldRequirement| {
        let operator = if requirement.equals { "=" } else { "!=" };
        json!({ "field": requirement.field, "operator": operator, "value": requirement.value })
    };
    let requirements: Vec<Value> = selector.requirements().iter().map(show).collect();
    let mut out = json!({
        "string": selector.to_string(), "empty": selector.is_empty(), "matches": matches, "requirements": requirements,
    });
    if let Some(name) = selector.requires_exact("metadata.name") {
        out["requiresExactMetadataName"] = name.into();
    }
    out
}

fn convert(input: &Value) -> Result<Value, Error> {
    let label = input["label"].as_str().unwrap_or_default();
    let kind = input["kind"].as_str().unwrap_or_default();
    // Kinds that we do not have are, as in upstream's scheme, selected by their metadata alone.
    let plain = || kinds::find("v1", "ConfigMap");
    let Some(kind) = kinds::find("v1", kind).or_else(plain) else { return Ok(json!({ "unknown": kind })) };
    let label = convert_field_label(kind, label)?;
    Ok(json!({ "label": label, "value": input["value"] }))
}
