//! Values as Go's `fmt` prints them, for texts that must be upstream's.

use std::fmt::Write;

use serde_json::{Number, Value};

/// As `%v` prints the value that Go's JSON decoder makes of `value`.
pub(crate) fn plain(value: &Value) -> String {
    let mut out = String::new();
    write_plain(&mut out, value);
    out
}

/// As `%s` prints it.
pub(crate) fn string(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "%!s(<nil>)".to_owned(),
        Value::Bool(flag) => format!("%!s(bool={flag})"),
        Value::Number(number) if number.is_f64() => format!("%!s(float64={})", float(number)),
        Value::Number(number) => format!("%!s(int64={number})"),
        Value::Array(_) | Value::Object(_) => plain(value),
    }
}

/// The Go type that the decoder makes of `value`, as `%s` of `reflect.TypeOf` prints it.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Lists as `%v` prints them.
pub(crate) fn list(items: &[Value]) -> String {
    let mut out = String::new();
    write_list(&mut out, items);
    out
}

fn write_list(out: &mut String, items: &[Value]) {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        write_plain(out, item);
    }
    out.push(']');
}

fn write_plain(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&float(number)),
        Value::String(text) => out.push_str(text),
        Value::Array(items) => write_list(out, items),
        Value::Object(fields) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort_unstable();
            out.push_str("map[");
            for (index, key) in keys.into_iter().enumerate() {
                let space = if index > 0 { " " } else { "" };
                write!(out, "{space}{key}:").expect("writing to a string does not fail");
                write_plain(out, &fields[key]);
            }
            out.push(']');
        }
    }
}

/// `%v` of a number: the shortest text, with an exponent below 1e-4 and from 1e6 on.
pub(crate) fn float(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => float_text(float),
        _ => number.to_string(),
    }
}

fn float_text(float: f64) -> String {
    let text = format!("{float:e}");
    let (mantissa, exponent) = text.split_once('e').expect("the format has an exponent");
    if exponent.parse::<i32>().is_ok_and(|exponent| (-4..6).contains(&exponent)) {
        return format!("{float}");
    }
    let (sign, digits) = exponent.strip_prefix('-').map_or(("+", exponent), |digits| ("-", digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// A text in quotes, as Go's `%q` prints it.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        let written = match c {
            '"' | '\\' => write!(quoted, "\\{c}"),
            '\x07' => write!(quoted, "\\a"),
            '\x08' => write!(quoted, "\\b"),
            '\x0c' => write!(quoted, "\\f"),
            '\n' => write!(quoted, "\\n"),
            '\r' => write!(quoted, "\\r"),
            '\t' => write!(quoted, "\\t"),
            '\x0b' => write!(quoted, "\\v"),
            '\0'..' ' | '\x7f' => write!(quoted, "\\x{:02x}", u32::from(c)),
            c if is_printable(c) => write!(quoted, "{c}"),
            c if u32::from(c) > 0xffff => write!(quoted, "\\U{:08x}", u32::from(c)),
            c => write!(quoted, "\\u{:04x}", u32::from(c)),
        };
        written.expect("writing to a string does not fail");
    }
    quoted.push('"');
    quoted
}

/// `strconv.Atoi`.
///
/// # Errors
/// Go's text of what is wrong.
pub(crate) fn atoi(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let wrong = if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        "invalid syntax"
    } else {
        match text.parse() {
            Ok(number) => return Ok(number),
            Err(_) => "value out of range",
        }
    };
    Err(format!("strconv.Atoi: parsing {}: {wrong}", quote(text)))
}

/// Whether Go prints a character as it is. Rust's escaping knows the same categories; only marks that combine with
/// the character before them are left alone by both when one stands there.
pub(crate) fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    let mut after_another = [0; 5];
    after_another[0] = b'a';
    let end = 1 + c.encode_utf8(&mut after_another[1..]).len();
    std::str::from_utf8(&after_another[..end]).is_ok_and(|text| text.escape_debug().count() == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_is_gos() {
        let text = "a\"\\\n\x01\u{7f}\u{e9}e\u{301}\u{a0}\u{200b}\u{f0000}'";
        assert_eq!(quote(text), "\"a\\\"\\\\\\n\\x01\\x7f\u{e9}e\u{301}\\u00a0\\u200b\\U000f0000'\"");
    }

    #[test]
    fn numbers_are_gos() {
        let float = |float: f64| super::float(&Number::from_f64(float).unwrap());
        assert_eq!(float(1.5), "1.5");
        assert_eq!(float(0.000_01), "1e-05");
        assert_eq!(float(123_456.0), "123456");
        assert_eq!(float(1_234_567.5), "1.2345675e+06");
    }
}
