//! Values as upstream's field errors print them: its own structs, whose fields have Go's names and are all there.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::{Map, Value};

use super::json;

/// A value as Go prints the struct that it stands for.
pub(crate) fn go_value<T: Serialize + JsonSchema>(value: &T) -> Value {
    let schema = SchemaSettings::default().into_generator().into_root_schema_for::<T>();
    let root = schema.as_value();
    expand(root, root, Some(&json(value)))
}

/// Values as Go prints a slice of the structs that they stand for.
pub(crate) fn go_values<T: Serialize + JsonSchema>(values: &[T]) -> Value {
    if values.is_empty() { Value::Null } else { values.iter().map(go_value).collect() }
}

fn expand(root: &Value, schema: &Value, value: Option<&Value>) -> Value {
    let value = value.filter(|value| !value.is_null());
    if let Some(target) = schema["$ref"].as_str() {
        // Types of the meta group have the same names in Go's JSON.
        let name = target.trim_start_matches("#/$defs/");
        if name.contains('.') || name == "LabelSelector" {
            return value.cloned().unwrap_or_default();
        }
        return expand(root, &root["$defs"][name], value);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let inner = choices.iter().find(|choice| choice["type"] != "null");
        return value.and_then(|value| Some(expand(root, inner?, Some(value)))).unwrap_or_default();
    }
    match (&schema["type"], value) {
        (Value::String(type_), _) if type_ == "object" && schema["properties"].is_object() => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            let field = |(name, schema): (&String, &Value)| {
                (go_name(name), expand(root, schema, value.and_then(|value| value.get(name))))
            };
            Value::Object(fields.map(field).collect::<Map<_, _>>())
        }
        (Value::String(type_), Some(Value::Array(items))) if type_ == "array" => {
            items.iter().map(|item| expand(root, &schema["items"], Some(item))).collect()
        }
        (_, Some(value)) => value.clone(),
        (Value::String(type_), None) => match type_.as_str() {
            "string" => "".into(),
            "integer" | "number" => 0.into(),
            "boolean" => false.into(),
            _ => Value::Null,
        },
        // What may be null is a pointer in Go.
        (_, None) => Value::Null,
    }
}

/// The name of a field in Go, from its name on the wire.
fn go_name(name: &str) -> String {
    const INITIALISMS: [(&str, &str); 5] =
        [("seLinux", "SELinux"), ("gmsa", "GMSA"), ("api", "API"), ("uid", "UID"), ("ip", "IP")];
    for (wire, go) in INITIALISMS {
        if let Some(rest) = name.strip_prefix(wire)
            && !rest.starts_with(|c: char| c.is_ascii_lowercase())
        {
            return format!("{go}{rest}");
        }
    }
    let mut letters = name.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pod::{PodResourceClaim, SELinuxOptions, SecurityContext};

    #[test]
    fn all_fields_are_there_and_have_gos_names() {
        let claim = PodResourceClaim { name: "a".into(), ..PodResourceClaim::default() };
        let text = r#"{"Name":"a","ResourceClaimName":null,"ResourceClaimTemplateName":null}"#;
        assert_eq!(go_value(&claim).to_string(), text);
        let context = SecurityContext {
            se_linux_options: Some(SELinuxOptions { user: "u".into(), ..SELinuxOptions::default() }),
            run_as_user: Some(1),
            ..SecurityContext::default()
        };
        let text = r#"{"Capabilities":null,"Privileged":null,"SELinuxOptions":{"User":"u","Role":"","Type":"","Level":""},"WindowsOptions":null,"RunAsUser":1,"RunAsGroup":null,"RunAsNonRoot":null,"ReadOnlyRootFilesystem":null,"AllowPrivilegeEscalation":null,"ProcMount":null,"SeccompProfile":null,"AppArmorProfile":null}"#;
        assert_eq!(go_value(&context).to_string(), text);
    }
}
