//! YAML as upstream prints it in the error of a three-way diff that finds conflicts.

use serde_json::Value;

/// `value` as YAML with sorted keys and a newline at the end.
pub(super) fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => block(&mut out, value, 0),
        Value::Array(items) if !items.is_empty() => block(&mut out, value, 0),
        other => {
            out.push_str(&flow(other, 0));
            out.push('\n');
        }
    }
    out
}

/// Writes a filled object or list, the first line without indentation of its own.
fn block(out: &mut String, value: &Value, indent: usize) {
    let pad = " ".repeat(indent);
    let mut first = true;
    let mut start = |out: &mut String| {
        if !std::mem::take(&mut first) {
            out.push_str(&pad);
        }
    };
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort_unstable();
            for key in keys {
                start(out);
                out.push_str(&scalar(key, indent));
                out.push(':');
                match &fields[key] {
                    inner @ Value::Object(fields) if !fields.is_empty() => {
                        out.push('\n');
                        out.push_str(&" ".repeat(indent + 2));
                        block(out, inner, indent + 2);
                    }
                    inner @ Value::Array(items) if !items.is_empty() => {
                        out.push('\n');
                        out.push_str(&pad);
                        block(out, inner, indent);
                    }
                    inner => {
                        out.push(' ');
                        out.push_str(&flow(inner, indent + 2));
                        out.push('\n');
                    }
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                start(out);
                out.push_str("- ");
                match item {
                    Value::Object(fields) if !fields.is_empty() => block(out, item, indent + 2),
                    Value::Array(items) if !items.is_empty() => block(out, item, indent + 2),
                    inner => {
                        out.push_str(&flow(inner, indent + 2));
                        out.push('\n');
                    }
                }
            }
        }
        _ => {}
    }
}

fn flow(value: &Value, indent: usize) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => super::go_format::float(number),
        Value::String(text) => scalar(text, indent),
        Value::Array(_) => "[]".to_owned(),
        Value::Object(_) => "{}".to_owned(),
    }
}

fn scalar(text: &str, indent: usize) -> String {
    if text.contains('\n')
        && text.chars().all(|c| c == '\n' || c == '\t' || !c.is_control())
        && !text.starts_with([' ', '\n'])
    {
        let chomp = if !text.ends_with('\n') {
            "-"
        } else if text.ends_with("\n\n") {
            "+"
        } else {
            ""
        };
        let pad = " ".repeat(indent);
        let lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
        let body: Vec<String> =
            lines.map(|line| if line.is_empty() { String::new() } else { format!("{pad}{line}") }).collect();
        return format!("|{chomp}\n{}", body.join("\n"));
    }
    if reads_as_other_type(text) || text.chars().any(char::is_control) {
        return format!("{text:?}");
    }
    let special_start = text.starts_with(|c: char| "!&*-?|>@`\"'%{}[],#:".contains(c))
        && !(text.len() > 1 && text.starts_with(['-', '?', ':']) && !text[1..].starts_with(' '));
    let special = special_start
        || text.starts_with(' ')
        || text.ends_with(' ')
        || text.ends_with(':')
        || text.contains(": ")
        || text.contains(" #");
    if special { format!("'{}'", text.replace('\'', "''")) } else { text.to_owned() }
}

/// Whether YAML 1.1 would read the bare text as something other than a string.
fn reads_as_other_type(text: &str) -> bool {
    const WORDS: &[&str] = &[
        "", "~", "null", "Null", "NULL", "true", "True", "TRUE", "false", "False", "FALSE", "y", "Y", "yes", "Yes",
        "YES", "n", "N", "no", "No", "NO", "on", "On", "ON", "off", "Off", "OFF", "<<", ".nan", ".NaN", ".NAN", ".inf",
        ".Inf", ".INF", "+.inf", "-.inf",
    ];
    if WORDS.contains(&text) {
        return true;
    }
    let number = text.replace('_', "");
    let unsigned = number.strip_prefix(['+', '-']).unwrap_or(&number);
    let radix = [("0x", 16), ("0b", 2), ("0o", 8)];
    let is_radix = radix.iter().any(|(prefix, radix)| {
        unsigned
            .strip_prefix(prefix)
            .is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_digit(*radix)))
    });
    let starts_number = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let sexagesimal = starts_number
        && unsigned.contains(':')
        && unsigned.split(':').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let date = text.len() >= 8
        && text.is_char_boundary(4)
        && text[..4].bytes().all(|b| b.is_ascii_digit())
        && text[4..].starts_with('-')
        && text[5..].bytes().all(|b| b.is_ascii_digit() || b"-:TtZz.+ ".contains(&b));
    is_radix || sexagesimal || date || (starts_number && unsigned.parse::<f64>().is_ok())
}
