//! Family `names`: names, labels, annotations and object metadata.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use longshore_core::validation::{self, Error, ErrorList, ErrorType, NameRule, Path, names};
use serde_json::{Value, json};

/// Field errors as the vectors have them.
pub(crate) fn field_errors(errors: &[Error]) -> Value {
    let show = |error: &Error| {
        let mut out = json!({
            "type": error.type_, "field": error.field, "detail": error.detail, "message": error.message(),
        });
        let without = [ErrorType::FieldValueRequired, ErrorType::FieldValueForbidden, ErrorType::InternalError];
        if !without.contains(&error.type_) {
            out["badValue"] = error.bad_value.clone();
        }
        out
    };
    errors.iter().map(show).collect()
}

/// What the library makes of one vector's input.
pub(crate) fn run(input: &Value) -> Value {
    let function = input["fn"].as_str().unwrap_or_default();
    let text = input["s"].as_str().unwrap_or_default();
    if let Some(messages) = messages(function, text, input) {
        return json!({ "messages": messages });
    }
    let path = Path::new(input["path"].as_str().unwrap_or("metadata"));
    match errors(function, text, input, &path) {
        Some(errors) => json!({ "errors": field_errors(&errors) }),
        None => json!({ "unknown": function }),
    }
}

fn messages(function: &str, text: &str, input: &Value) -> Option<Vec<String>> {
    let rule = |rule: NameRule| rule.check(text, function.ends_with("/prefix"));
    Some(match function.trim_end_matches("/prefix") {
        "IsDNS1123Label" => names::is_dns1123_label(text),
        "IsDNS1123Subdomain" => names::is_dns1123_subdomain(text),
        "IsWildcardDNS1123Subdomain" => names::is_wildcard_dns1123_subdomain(text),
        "IsDNS1035Label" => names::is_dns1035_label(text),
        "IsQualifiedName" => names::is_qualified_name(text),
        "IsValidLabelValue" => names::is_valid_label_value(text),
        "IsCIdentifier" => names::is_c_identifier(text),
        "IsValidPercent" => names::is_valid_percent(text),
        "IsHTTPHeaderName" => names::is_http_header_name(text),
        "IsEnvVarName" => names::is_env_var_name(text),
        "IsRelaxedEnvVarName" => names::is_relaxed_env_var_name(text),
        "IsConfigMapKey" => names::is_config_map_key(text),
        "IsValidPortName" => names::is_valid_port_name(text),
        "IsValidPortNum" => names::is_valid_port_num(input["i"].as_i64().unwrap_or_default()),
        "NameIsDNSSubdomain" | "ValidatePodName" | "ValidateNodeName" => rule(NameRule::DnsSubdomain),
        "NameIsDNSLabel" | "ValidateNamespaceName" => rule(NameRule::DnsLabel),
        "NameIsDNS1035Label" => rule(NameRule::Dns1035Label),
        _ => return None,
    })
}

fn errors(function: &str, text: &str, input: &Value, path: &Path) -> Option<ErrorList> {
    let map = || serde_json::from_value::<BTreeMap<String, String>>(input["map"].clone()).unwrap_or_default();
    let meta = |name: &str| serde_json::from_value::<ObjectMeta>(input[name].clone()).unwrap_or_default();
    Some(match function {
        "ValidateQualifiedName" | "ValidateLabelName" => names::validate_qualified_name(text, path),
        "ValidateFinalizerName" => names::validate_finalizer_name(text, path),
        "ValidateSignerName" => names::validate_signer_name(text, path),
        "ValidateRuntimeClassName" => {
            names::is_dns1123_subdomain(text).into_iter().map(|message| Error::invalid(path, text, message)).collect()
        }
        "IsFullyQualifiedDomainName" => names::is_fully_qualified_domain_name(path, text),
        "IsFullyQualifiedName" => names::is_fully_qualified_name(path, text),
        "IsDomainPrefixedKey" => names::is_domain_prefixed_key(path, text),
        "IsDomainPrefixedPath" => names::is_domain_prefixed_path(path, text),
        "IsValidIP" => names::is_valid_ip(path, text),
        "IsValidIPForLegacyField" => names::is_valid_ip_for_legacy_field(path, text),
        "IsValidCIDR" => names::is_valid_cidr(path, text),
        "ValidateFieldManager" => names::validate_field_manager(text, path),
        "ValidateLabels" => validation::validate_labels(&map(), path),
        "ValidateAnnotations" => validation::validate_annotations(&map(), path),
        "ValidateAnnotations(size)" => {
            let value = "x".repeat(input["valueLength"].as_u64().unwrap_or_default() as usize);
            let key = input["key"].as_str().unwrap_or_default().to_owned();
            validation::validate_annotations(&[(key, value)].into(), path)
        }
        "ValidateObjectMeta" => {
            let rule = if input["nameFn"] == "NameIsDNSLabel" { NameRule::DnsLabel } else { NameRule::DnsSubdomain };
            validation::validate_object_meta(&meta("metadata"), input["requiresNamespace"] == true, rule, path)
        }
        "ValidateObjectMetaUpdate" => validation::validate_object_meta_update(&meta("new"), &meta("old"), path),
        _ => return None,
    })
}
