//! Reading FieldsV1.

use serde_json::{Map, Value};

use super::{Element, Set, quoted};

/// Why FieldsV1 could not be read, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FieldsError(String);

impl Set {
    /// Reads FieldsV1. Elements of a kind unknown here are dropped, as a later version of the format may have more.
    ///
    /// # Errors
    /// A key or a value is malformed.
    pub fn from_fields_v1(fields: &Value) -> Result<Self, FieldsError> {
        let unread = || FieldsError(explain(&fields.to_string()));
        match fields {
            Value::Null => Ok(Self::default()),
            Value::Object(fields) => read(fields).map(|(set, _)| set.unwrap_or_default()).ok_or_else(unread),
            _ => Err(unread()),
        }
    }
}

/// The set below, if there is any, and whether the field itself is a member; `None` if something is malformed.
fn read(fields: &Map<String, Value>) -> Option<(Option<Set>, bool)> {
    let (mut members, mut children): (Vec<Element>, Vec<(Element, Set)>) = (Vec::new(), Vec::new());
    let mut is_member = false;
    for (key, value) in fields {
        if key == "." {
            is_member = true;
            continue;
        }
        let Some(element) = element(key).ok()? else { continue };
        let (set, member) = match value {
            Value::Object(fields) => read(fields)?,
            Value::Null => (None, true),
            _ => return None,
        };
        if let Some(set) = set {
            if member {
                members.push(element.clone());
            }
            children.push((element, set));
        } else {
            members.push(element);
        }
    }
    if members.is_empty() && children.is_empty() {
        return Some((None, true));
    }
    // Almost always sorted already.
    if !members.is_sorted() {
        members.sort();
    }
    members.dedup();
    if !children.is_sorted_by(|left, right| left.0 < right.0) {
        children.sort_by(|left, right| left.0.cmp(&right.0));
        children.reverse();
        children.dedup_by(|left, right| left.0 == right.0);
        children.reverse();
    }
    Some((Some(Set::from_parts(members, children)), is_member))
}

/// The element that a key stands for; `None` if its kind is unknown.
fn element(key: &str) -> Result<Option<Element>, String> {
    if key.len() < 2 {
        return Err("key must be 2 characters long:".to_owned());
    }
    if key.as_bytes()[1] != b':' {
        return Err(format!("missing colon: {key}"));
    }
    let rest = &key[2..];
    Ok(Some(match key.as_bytes()[0] {
        b'f' => Element::field(rest),
        b'v' => Element::Value(leading_value(rest).ok_or_else(|| Reader::new(rest).value_flaw())?),
        b'k' => Element::Key(keys(rest)?),
        b'i' => {
            Element::Index(rest.parse().map_err(|_| format!("strconv.Atoi: parsing {}: invalid syntax", quoted(rest)))?)
        }
        _ => return Ok(None),
    }))
}

fn keys(text: &str) -> Result<Vec<(Box<str>, Value)>, String> {
    let fields = match leading_value(text) {
        Some(Value::Object(fields)) => fields,
        Some(Value::Null) => Map::new(),
        _ => return Err(Reader::new(text).object_flaw()),
    };
    let mut keys: Vec<(Box<str>, Value)> = fields.into_iter().map(|(name, value)| (name.into(), value)).collect();
    keys.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(keys)
}

/// The JSON value that `text` starts with; upstream's reader does not look at what follows.
fn leading_value(text: &str) -> Option<Value> {
    let mut value = serde_json::Deserializer::from_str(text).into_iter().next()?.ok()?;
    floats(&mut value);
    Some(value)
}

/// Upstream reads all numbers as floats, and prints whole ones without a fraction.
fn floats(value: &mut Value) {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Array(items) => items.iter_mut().for_each(floats),
        Value::Object(fields) => fields.values_mut().for_each(floats),
        Value::Number(number) => {
            if let Some(float) = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= EXACT) {
                #[expect(clippy::cast_possible_truncation, reason = "a whole number that an i64 holds")]
                let whole = float as i64;
                *number = whole.into();
            }
        }
        _ => {}
    }
}

/// The first flaw of `text`, which is JSON that [`read`] refused.
fn explain(text: &str) -> String {
    let mut reader = Reader::new(text);
    let mut depth_first = Vec::new();
    reader.map(&mut depth_first);
    depth_first.into_iter().next().unwrap_or_else(|| "FieldsV1 is malformed".to_owned())
}

/// Follows the bytes that upstream's JSON reader has consumed, since its errors quote them.
struct Reader<'t> {
    text: &'t [u8],
    head: usize,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str) -> Self {
        Self { text: text.as_bytes(), head: 0 }
    }

    fn flaw(&self, operation: &str, message: &str) -> String {
        let slice = |reach: usize| {
            let end = (self.head + reach).min(self.text.len());
            String::from_utf8_lossy(&self.text[self.head.saturating_sub(reach)..end]).into_owned()
        };
        let at = self.head - self.head.saturating_sub(10);
        format!(
            "{operation}: {message}, error found in #{at} byte of ...|{}|..., bigger context ...|{}|...",
            slice(10),
            slice(50)
        )
    }

    /// Why this is no JSON value.
    fn value_flaw(&self) -> String {
        self.flaw("Read", "unexpected value type: 0")
    }

    /// Why this is no object.
    fn object_flaw(&mut self) -> String {
        let found = self.next();
        self.flaw("ReadObjectCB", &format!("expect {{ or n, but found {}", char::from(found)))
    }

    fn next(&mut self) -> u8 {
        let found = self.text.get(self.head).copied();
        self.head += usize::from(found.is_some());
        found.unwrap_or_default()
    }

    /// Reads a FieldsV1 object (compact JSON) and notes what is wrong.
    fn map(&mut self, flaws: &mut Vec<String>) {
        match self.next() {
            b'{' => {}
            b'n' => {
                self.head += 3;
                return;
            }
            other => {
                flaws.push(self.flaw("ReadMapCB", &format!("expect {{ or n, but found {}", char::from(other))));
                return;
            }
        }
        while flaws.is_empty() && self.text.get(self.head) == Some(&b'"') {
            let mut parsed = serde_json::Deserializer::from_slice(&self.text[self.head..]).into_iter::<String>();
            let Some(Ok(key)) = parsed.next() else { return };
            self.head += parsed.byte_offset() + 1;
            match element(&key) {
                _ if key == "." => self.skip(),
                Ok(Some(_)) => self.map(flaws),
                Ok(None) => self.skip(),
                Err(error) => flaws.push(self.flaw("parsing key as path element", &error)),
            }
            self.head += 1;
        }
        if self.text.get(self.head) == Some(&b'}') {
            self.head += 1;
        }
    }

    fn skip(&mut self) {
        let mut parsed =
            serde_json::Deserializer::from_slice(&self.text[self.head..]).into_iter::<serde::de::IgnoredAny>();
        if matches!(parsed.next(), Some(Ok(_))) {
            self.head += parsed.byte_offset();
        }
    }
}
