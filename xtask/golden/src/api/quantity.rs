//! Family `quantity`: exact amounts.

use longshore_core::quantity::{ParseError, Quantity};
use serde_json::{Value, json};

/// What the library makes of one vector's input.
pub(crate) fn run(input: &Value) -> Value {
    match answer(input) {
        Ok(out) => out,
        Err(error) => json!({ "error": error }),
    }
}

fn answer(input: &Value) -> Result<Value, String> {
    let read = |name: &str| -> Result<Quantity, String> {
        input[name].as_str().unwrap_or_default().parse().map_err(|error: ParseError| error.to_string())
    };
    let scale = input["scale"].as_i64().unwrap_or_default() as i32;
    Ok(match input["op"].as_str().unwrap_or_default() {
        "parse" => describe(&read("s")?),
        "json" => return from_json(input["text"].as_str().unwrap_or_default()),
        "cmp" => {
            let (a, b) = (read("a")?, read("b")?);
            json!({ "cmp": a.cmp(&b) as i8, "equal": a == b })
        }
        "add" => {
            let mut sum = read("a")?;
            sum += &read("b")?;
            describe(&sum)
        }
        "sub" => {
            let mut difference = read("a")?;
            difference -= &read("b")?;
            describe(&difference)
        }
        "neg" => describe(&-read("a")?),
        "roundUp" => {
            let mut rounded = read("a")?;
            let exact = rounded.round_up(scale);
            let mut out = describe(&rounded);
            out["exact"] = exact.into();
            out
        }
        "scaledValue" => {
            let quantity = read("a")?;
            json!({ "scaledValue": in_reach(&quantity, quantity.scaled_value(scale)) })
        }
        op => json!({ "unknown": op }),
    })
}

/// Upstream reads the raw text of any JSON value.
fn from_json(text: &str) -> Result<Value, String> {
    if text == "null" {
        let mut out = describe(&Quantity::default());
        out["format"] = "".into();
        return Ok(out);
    }
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    inner.trim().parse().map(|quantity| describe(&quantity)).map_err(|error: ParseError| error.to_string())
}

fn describe(quantity: &Quantity) -> Value {
    let mut out = json!({
        "string": quantity.to_string(),
        "format": quantity.format().as_str(),
        "value": in_reach(quantity, quantity.value()),
        "milliValue": in_reach(quantity, quantity.milli_value()),
        "sign": quantity.sign(),
        "isZero": quantity.is_zero(),
        "json": quantity.to_string(),
        "asApproximateFloat64": quantity.as_f64(),
    });
    if let Some(value) = quantity.as_i64() {
        out["asInt64"] = value.into();
    }
    out
}

/// A value, or nothing where upstream's calculation wraps around: it cuts negative amounts to 64 bits of billionths
/// before it scales them.
fn in_reach(quantity: &Quantity, value: i64) -> Value {
    let beyond = quantity.sign() < 0 && quantity.scaled_value(-9) == i64::MIN;
    if beyond && quantity.as_i64().is_none() { Value::Null } else { value.into() }
}

/// Equal, but for what overflows 64 bits upstream and for the last bits of floating-point numbers.
pub(crate) fn same(found: &Value, expected: &Value) -> bool {
    let (Some(found), Some(expected)) = (found.as_object(), expected.as_object()) else {
        return found == expected;
    };
    found.len() == expected.len()
        && expected.iter().all(|(key, expected)| {
            found.get(key).is_some_and(|found| match key.as_str() {
                "value" | "milliValue" | "scaledValue" => found == expected || found.is_null() || saturated(found),
                "asApproximateFloat64" => close(found, expected),
                _ => found == expected,
            })
        })
}

fn saturated(found: &Value) -> bool {
    found.as_i64().is_some_and(|value| value == i64::MAX || value == i64::MIN)
}

fn close(found: &Value, expected: &Value) -> bool {
    match (found.as_f64(), expected.as_f64()) {
        (Some(found), Some(expected)) => (found - expected).abs() <= expected.abs() * 1e-14,
        // JSON has no infinity: ours prints as null, upstream's as a text.
        _ => found.is_null() && expected.is_string(),
    }
}
