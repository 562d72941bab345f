//! Finds the fields of the list in an object.

use serde_json::Value;

use super::{FIELDS, Field, Found, is_set};

/// Kinds that hold a template of pods, and where.
const TEMPLATES: [(&str, &str); 8] = [
    ("CronJob", "spec.jobTemplate.spec.template."),
    ("DaemonSet", "spec.template."),
    ("Deployment", "spec.template."),
    ("Job", "spec.template."),
    ("PodTemplate", "template."),
    ("ReplicaSet", "spec.template."),
    ("ReplicationController", "spec.template."),
    ("StatefulSet", "spec.template."),
];

fn template(kind: &str) -> Option<&'static str> {
    TEMPLATES.iter().find(|(of, _)| *of == kind).map(|(_, path)| *path)
}

/// Whether the list says anything about a kind.
pub(super) fn concerns(kind: &str) -> bool {
    template(kind).is_some() || FIELDS.iter().any(|field| field.kind == kind)
}

/// All fields of the list that an object sets.
pub(super) fn find(kind: &str, object: &Value) -> Vec<Found> {
    let template = template(kind);
    let mut found = Vec::new();
    for field in FIELDS {
        let prefix = match template {
            _ if field.kind == kind => "",
            Some(prefix) if field.kind == "Pod" => prefix,
            _ => continue,
        };
        let alternatives = match field.path.split_once("{containers}") {
            None => vec![format!("{prefix}{}", field.path)],
            Some((before, after)) => {
                let lists = ["containers", "initContainers", "ephemeralContainers"];
                lists.map(|list| format!("{prefix}{before}{list}[*]{after}")).to_vec()
            }
        };
        for path in alternatives {
            let mut seek = Seek { field, template: !prefix.is_empty(), found: &mut found };
            seek.walk(object, &path, String::new());
        }
    }
    found
}

struct Seek<'a> {
    field: &'static Field,
    template: bool,
    found: &'a mut Vec<Found>,
}

impl Seek<'_> {
    /// Follows `rest` from `value`, which stands at `at`.
    fn walk(&mut self, value: &Value, rest: &str, at: String) {
        let (segment, rest) = rest.split_once('.').unwrap_or((rest, ""));
        let (name, each) = segment.strip_suffix("[*]").map_or((segment, false), |name| (name, true));
        let Some(value) = value.get(name) else { return };
        let at = if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
        if !each {
            return self.arrive(value, rest, at);
        }
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            self.arrive(item, rest, format!("{at}[{index}]"));
        }
    }

    fn arrive(&mut self, value: &Value, rest: &str, at: String) {
        if !rest.is_empty() {
            return self.walk(value, rest, at);
        }
        let meant = match self.field.value {
            None => is_set(value),
            Some(wanted) => match value {
                Value::String(text) => text == wanted,
                Value::Bool(value) => wanted.parse() == Ok(*value),
                _ => false,
            },
        };
        if meant {
            self.found.push(Found { field: self.field, path: at, template: self.template });
        }
    }
}
