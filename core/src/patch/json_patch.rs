//! JSON patch (RFC 6902) as evanphx/json-patch v4 applies it, with its extensions (negative indexes, `replace` of a
//! missing key, `copy` of a missing value) and its words.

use serde_json::{Map, Value};

use super::PatchError;
use crate::decode::json_kind;

/// The most operations a patch may have; upstream's API server answers more with 413.
pub const MAX_OPERATIONS: usize = 10_000;

/// How many bytes `copy` operations may add to a document, all together.
const MAX_COPIED: usize = 3 * 1024 * 1024;

/// How deep a patched document may be nested. Documents are read with a smaller limit; operations can only add to it.
const MAX_DEPTH: usize = 1_000;

/// A JSON patch that has been read but not yet applied.
#[derive(Debug)]
pub struct JsonPatch<'p> {
    operations: Vec<Option<&'p Map<String, Value>>>,
}

/// What is wrong, without the words that its caller puts in front.
enum Flaw {
    Missing,
    InvalidIndex(i64),
    NotAnIndex(String),
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("missing value"),
            Self::InvalidIndex(index) => write!(f, "Unable to access invalid index: {index}: invalid index referenced"),
            Self::NotAnIndex(text) => f.write_str(text),
        }
    }
}

type Outcome<T> = Result<T, PatchError>;

impl<'p> JsonPatch<'p> {
    /// Reads a patch.
    ///
    /// # Errors
    /// [`PatchError::Malformed`] if `patch` is not a list of objects.
    pub fn decode(patch: &'p Value) -> Result<Self, PatchError> {
        let wrong = |value: &Value, wanted: &str| {
            PatchError::malformed(format!(
                "json: cannot unmarshal {} into Go value of type jsonpatch.{wanted}",
                json_kind(value)
            ))
        };
        let items: &[Value] = match patch {
            Value::Array(items) => items,
            Value::Null => &[],
            other => return Err(wrong(other, "Patch")),
        };
        let operations = items
            .iter()
            .map(|item| match item {
                Value::Object(operation) => Ok(Some(operation)),
                Value::Null => Ok(None),
                other => Err(wrong(other, "Operation")),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { operations })
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether there is no operation.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Carries the operations out, one after the other.
    ///
    /// # Errors
    /// The first operation that fails; the document is lost then.
    pub fn apply(&self, mut document: Value) -> Result<Value, PatchError> {
        if !document.is_object() && !document.is_array() {
            let kind = json_kind(&document);
            return Err(not_applicable(format!(
                "json: cannot unmarshal {kind} into Go value of type jsonpatch.partialDoc"
            )));
        }
        let none = Map::new();
        let mut copied = 0;
        // An upper bound, made exact only when it says too much.
        let mut depth = height(&document);
        for operation in &self.operations {
            let operation = Operation(operation.unwrap_or(&none));
            match operation.0.get("op").and_then(Value::as_str).unwrap_or("unknown") {
                "add" => operation.add(&mut document),
                "remove" => operation.remove(&mut document),
                "replace" => operation.replace(&mut document),
                "move" => operation.relocate(&mut document),
                "test" => operation.test(&mut document),
                "copy" => operation.copy(&mut document, &mut copied),
                other => Err(not_applicable(format!("Unexpected kind: {other}"))),
            }?;
            depth = operation.deepest(depth);
            if depth > MAX_DEPTH {
                depth = height(&document);
            }
            if depth > MAX_DEPTH {
                return Err(not_applicable("exceeded max depth".to_owned()));
            }
        }
        Ok(document)
    }
}

struct Operation<'p>(&'p Map<String, Value>);

impl Operation<'_> {
    fn pointer(&self, name: &str, missing: &str) -> Result<&str, String> {
        match self.0.get(name) {
            None | Some(Value::Null) => Err(format!("{missing}: missing value")),
            Some(Value::String(path)) => Ok(path),
            Some(other) => Err(format!("json: cannot unmarshal {} into Go value of type string", json_kind(other))),
        }
    }

    fn path(&self) -> Result<&str, String> {
        self.pointer("path", "operation missing path field")
    }

    fn from(&self) -> Result<&str, String> {
        self.pointer("from", "operation, missing from field")
    }

    /// The value; a missing one acts as `null`.
    fn value(&self) -> Value {
        self.0.get("value").cloned().unwrap_or(Value::Null)
    }

    /// At most how deep a document of this depth is after the operation.
    fn deepest(&self, depth: usize) -> usize {
        let target = self.path().map_or(0, |path| path.split('/').count());
        let inserted = match self.0.get("op").and_then(Value::as_str) {
            Some("move" | "copy") => depth,
            _ => self.0.get("value").map_or(0, height),
        };
        depth.max(target + inserted)
    }

    fn add(&self, document: &mut Value) -> Outcome<()> {
        let path =
            self.path().map_err(|_| not_applicable("add operation failed to decode path: missing value".to_owned()))?;
        let Some((parent, key)) = parent(document, path) else {
            return Err(not_applicable(format!(
                "add operation does not apply: doc is missing path: \"{path}\": missing value"
            )));
        };
        add(parent, &key, self.value())
            .map_err(|flaw| not_applicable(format!("error in add for path: '{path}': {flaw}")))
    }

    fn remove(&self, document: &mut Value) -> Outcome<()> {
        let path = self
            .path()
            .map_err(|_| not_applicable("remove operation failed to decode path: missing value".to_owned()))?;
        let Some((parent, key)) = parent(document, path) else {
            return Err(not_applicable(format!(
                "remove operation does not apply: doc is missing path: \"{path}\": missing value"
            )));
        };
        take(parent, &key)
            .map(drop)
            .map_err(|flaw| not_applicable(format!("error in remove for path: '{path}': {flaw}")))
    }

    fn replace(&self, document: &mut Value) -> Outcome<()> {
        let path =
            self.path().map_err(|error| not_applicable(format!("replace operation failed to decode path: {error}")))?;
        if path.is_empty() {
            let value = self.value();
            if !value.is_object() && !value.is_array() {
                return Err(not_applicable("replace operation value must be object or array: %!w(<nil>)".to_owned()));
            }
            *document = value;
            return Ok(());
        }
        let Some((parent, key)) = parent(document, path) else {
            return Err(not_applicable(format!(
                "replace operation does not apply: doc is missing path: {path}: missing value"
            )));
        };
        match parent {
            Value::Object(fields) => {
                fields.insert(key, self.value());
            }
            Value::Array(items) => {
                let place = index(&key).and_then(|at| existing(items, at)).map_err(|_| {
                    not_applicable(format!(
                        "replace operation does not apply: doc is missing key: {path}: missing value"
                    ))
                })?;
                items[place] = self.value();
            }
            _ => unreachable!("a parent is an object or a list"),
        }
        Ok(())
    }

    fn relocate(&self, document: &mut Value) -> Outcome<()> {
        let from =
            self.from().map_err(|error| not_applicable(format!("move operation failed to decode from: {error}")))?;
        let Some((source, key)) = parent(document, from) else {
            return Err(not_applicable(format!(
                "move operation does not apply: doc is missing from path: {from}: missing value"
            )));
        };
        let failed = |flaw: &Flaw| not_applicable(format!("error in move for path: '{key}': {flaw}"));
        let value = take(source, &key).map_err(|flaw| failed(&flaw))?;
        let path =
            self.path().map_err(|error| not_applicable(format!("move operation failed to decode path: {error}")))?;
        let Some((target, key)) = parent(document, path) else {
            return Err(not_applicable(format!(
                "move operation does not apply: doc is missing destination path: {path}: missing value"
            )));
        };
        add(target, &key, value).map_err(|flaw| not_applicable(format!("error in move for path: '{path}': {flaw}")))
    }

    fn test(&self, document: &mut Value) -> Outcome<()> {
        let path =
            self.path().map_err(|error| not_applicable(format!("test operation failed to decode path: {error}")))?;
        let failed = || PatchError::TestFailed(format!("testing value {path} failed: test failed"));
        if path.is_empty() {
            return if *document == self.value() { Ok(()) } else { Err(failed()) };
        }
        let Some((parent, key)) = parent(document, path) else {
            return Err(not_applicable(format!(
                "test operation does not apply: is missing path: {path}: missing value"
            )));
        };
        let found =
            get(parent, &key).map_err(|flaw| not_applicable(format!("error in test for path: '{path}': {flaw}")))?;
        if found.unwrap_or(Value::Null) == self.value() { Ok(()) } else { Err(failed()) }
    }

    fn copy(&self, document: &mut Value, copied: &mut usize) -> Outcome<()> {
        let from =
            self.from().map_err(|error| not_applicable(format!("copy operation failed to decode from: {error}")))?;
        let Some((source, key)) = parent(document, from) else {
            return Err(not_applicable(format!(
                "copy operation does not apply: doc is missing from path: {from}: missing value"
            )));
        };
        let value = get(source, &key)
            .map_err(|flaw| not_applicable(format!("error in copy for from: '{from}': {flaw}")))?
            .unwrap_or(Value::Null);
        let path = self
            .path()
            .map_err(|_| not_applicable("copy operation failed to decode path: missing value".to_owned()))?;
        let Some((target, key)) = parent(document, path) else {
            return Err(not_applicable(format!(
                "copy operation does not apply: doc is missing destination path: {path}: missing value"
            )));
        };
        *copied += value.to_string().len();
        if *copied > MAX_COPIED {
            return Err(not_applicable(format!(
                "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED}"
            )));
        }
        add(target, &key, value).map_err(|flaw| not_applicable(format!("error while adding value during copy: {flaw}")))
    }
}

fn not_applicable(text: String) -> PatchError {
    PatchError::NotApplicable(text)
}

/// The object or list that holds what `path` names, and the last part of the path.
fn parent<'d>(document: &'d mut Value, path: &str) -> Option<(&'d mut Value, String)> {
    let (_, rest) = path.split_once('/')?;
    let mut parts = rest.split('/').map(unescaped);
    let mut key = parts.next()?;
    let mut current = document;
    for next in parts {
        current = match current {
            Value::Object(fields) => fields.get_mut(&key)?,
            Value::Array(items) => {
                let place = existing(items, index(&key).ok()?).ok()?;
                &mut items[place]
            }
            _ => return None,
        };
        if !current.is_object() && !current.is_array() {
            return None;
        }
        key = next;
    }
    Some((current, key))
}

fn unescaped(part: &str) -> String {
    if !part.contains('~') {
        return part.to_owned();
    }
    let mut out = String::with_capacity(part.len());
    let mut rest = part;
    while let Some(at) = rest.find('~') {
        out.push_str(&rest[..at]);
        let (text, used) = match rest.as_bytes().get(at + 1) {
            Some(b'1') => ("/", 2),
            Some(b'0') => ("~", 2),
            _ => ("~", 1),
        };
        out.push_str(text);
        rest = &rest[at + used..];
    }
    out + rest
}

/// A list index as Go's `strconv.Atoi` reads it.
fn index(key: &str) -> Result<i64, Flaw> {
    let digits = key.strip_prefix(['+', '-']).unwrap_or(key);
    let why = if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        "invalid syntax"
    } else {
        match key.strip_prefix('+').unwrap_or(key).parse() {
            Ok(index) => return Ok(index),
            Err(_) => "value out of range",
        }
    };
    Err(Flaw::NotAnIndex(format!("strconv.Atoi: parsing {key:?}: {why}")))
}

/// The place of an item; a negative index counts from the end.
fn existing(items: &[Value], at: i64) -> Result<usize, Flaw> {
    place(items.len(), at).filter(|place| *place < items.len()).ok_or(Flaw::InvalidIndex(at))
}

fn place(length: usize, at: i64) -> Option<usize> {
    let place = if at < 0 { at.checked_add(i64::try_from(length).ok()?)? } else { at };
    usize::try_from(place).ok()
}

fn get(parent: &Value, key: &str) -> Result<Option<Value>, Flaw> {
    match parent {
        Value::Object(fields) => Ok(fields.get(key).cloned()),
        Value::Array(items) => existing(items, index(key)?).map(|place| Some(items[place].clone())),
        _ => Err(Flaw::Missing),
    }
}

fn add(parent: &mut Value, key: &str, value: Value) -> Result<(), Flaw> {
    match parent {
        Value::Object(fields) => {
            fields.insert(key.to_owned(), value);
        }
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => {
            let at = index(key)
                .map_err(|flaw| Flaw::NotAnIndex(format!("value was not a proper array index: '{key}': {flaw}")))?;
            let length = items.len();
            let place = place(length + 1, at).filter(|place| *place <= length).ok_or(Flaw::InvalidIndex(at))?;
            items.insert(place, value);
        }
        _ => return Err(Flaw::Missing),
    }
    Ok(())
}

fn take(parent: &mut Value, key: &str) -> Result<Value, Flaw> {
    match parent {
        Value::Object(fields) => {
            let missing = || Flaw::NotAnIndex(format!("Unable to remove nonexistent key: {key}: missing value"));
            fields.swap_remove(key).ok_or_else(missing)
        }
        Value::Array(items) => {
            let place = existing(items, index(key)?)?;
            Ok(items.remove(place))
        }
        _ => Err(Flaw::Missing),
    }
}

/// How deep lists and objects are nested.
fn height(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(height).max().unwrap_or_default(),
        Value::Object(fields) => 1 + fields.values().map(height).max().unwrap_or_default(),
        _ => 0,
    }
}
