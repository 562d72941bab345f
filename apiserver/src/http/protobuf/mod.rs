//! Objects as Go clients send them: kubectl's generators (`kubectl create deployment`, …) know no other format.
//!
//! Only requests are read; answers are JSON, which every client takes. The wire format names fields by number, and
//! upstream's numbers can be derived from nothing else, so they stand in `fields.txt`. From there on it is JSON, with the
//! same defaults, checks and errors as any other request.

mod table;
#[cfg(test)]
mod tests;
mod wire;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde_json::{Map, Value};

use table::{Label, Message, Table, Type};
use wire::{Reader, Wire};

/// The content type.
pub(super) const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What every document starts with.
const MAGIC: &[u8] = b"k8s\0";

/// An object in the form of JSON.
#[derive(Debug, PartialEq)]
pub(super) struct Document {
    pub(super) value: Value,
    /// Fields that are not known, one line each.
    pub(super) findings: Vec<String>,
}

/// Why a document cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("the body does not start as a protobuf document of Kubernetes does")]
    NoDocument,
    #[error("the protobuf document is cut off or malformed")]
    Malformed,
    #[error("{0:?} holds text that is not UTF-8")]
    NotText(String),
    #[error("no protobuf fields are known of {0}")]
    UnknownKind(String),
}

/// Reads a document.
pub(super) fn decode(bytes: &[u8]) -> Result<Document, Error> {
    let body = bytes.strip_prefix(MAGIC).ok_or(Error::NoDocument)?;
    let (mut api_version, mut kind, mut raw): (String, String, &[u8]) = (String::new(), String::new(), &[]);
    let mut envelope = Reader::new(body);
    while let Some((number, wire)) = envelope.field()? {
        match (number, wire) {
            (1, Wire::Bytes(type_meta)) => {
                let mut reader = Reader::new(type_meta);
                while let Some((number, wire)) = reader.field()? {
                    match (number, wire) {
                        (1, Wire::Bytes(bytes)) => api_version = text("apiVersion", bytes)?,
                        (2, Wire::Bytes(bytes)) => kind = text("kind", bytes)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let table = Table::get();
    let message =
        table.find(&api_version, &kind).ok_or_else(|| Error::UnknownKind(format!("{api_version}, Kind={kind}")))?;
    let mut decoder = Decoder { table, findings: Vec::new() };
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    decoder.message(message, raw, &mut object)?;
    Ok(Document { value: object.into(), findings: decoder.findings })
}

/// Most unknown fields that are named.
const MAX_FINDINGS: usize = 100;

struct Decoder {
    table: &'static Table,
    findings: Vec<String>,
}

impl Decoder {
    fn message(&mut self, message: &Message, bytes: &[u8], into: &mut Map<String, Value>) -> Result<(), Error> {
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.field()? {
            let Some(field) = message.field(number) else {
                if self.findings.len() < MAX_FINDINGS {
                    self.findings.push(format!("unknown field number {number} of {}", message.name));
                }
                continue;
            };
            match (field.label, wire) {
                (Label::Inline, Wire::Bytes(bytes)) => {
                    let Type::Message(inner) = field.type_ else { return Err(Error::Malformed) };
                    self.message(self.table.message(inner), bytes, into)?;
                }
                (Label::One, wire) => {
                    if let Some(value) = self.value(field.name, field.type_, wire)? {
                        into.insert(field.name.to_owned(), value);
                    }
                }
                (Label::List, wire) => {
                    let list = into.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
                    let Value::Array(list) = list else { return Err(Error::Malformed) };
                    match (field.type_, wire) {
                        // Numbers may also stand all in one.
                        (Type::Integer, Wire::Bytes(bytes)) => {
                            let mut packed = Reader::new(bytes);
                            while let Some(number) = packed.varint_or_end()? {
                                list.push((number as i64).into());
                            }
                        }
                        (type_, wire) => list.push(self.value(field.name, type_, wire)?.unwrap_or(Value::Null)),
                    }
                }
                (Label::Map, Wire::Bytes(bytes)) => {
                    let (key, value) = self.entry(field.name, field.type_, bytes)?;
                    let map = into.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
                    map.as_object_mut().ok_or(Error::Malformed)?.insert(key, value);
                }
                _ => return Err(Error::Malformed),
            }
        }
        Ok(())
    }

    fn entry(&mut self, name: &str, type_: Type, bytes: &[u8]) -> Result<(String, Value), Error> {
        let (mut key, mut value) = (String::new(), None);
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.field()? {
            match (number, wire) {
                (1, Wire::Bytes(bytes)) => key = text(name, bytes)?,
                (2, wire) => value = self.value(name, type_, wire)?,
                _ => {}
            }
        }
        let value = match value {
            Some(value) => value,
            None => self.value(name, type_, Wire::Bytes(&[]))?.unwrap_or_default(),
        };
        Ok((key, value))
    }

    /// A value; `None` for what Go writes though it is not there.
    fn value(&mut self, name: &str, type_: Type, wire: Wire<'_>) -> Result<Option<Value>, Error> {
        Ok(Some(match (type_, wire) {
            (Type::Integer, Wire::Varint(number)) => (number as i64).into(),
            (Type::Boolean, Wire::Varint(number)) => (number != 0).into(),
            (Type::Text, Wire::Bytes(bytes)) => text(name, bytes)?.into(),
            (Type::Bytes, Wire::Bytes(bytes)) => BASE64.encode(bytes).into(),
            (Type::Time { digits }, Wire::Bytes(bytes)) => return time(bytes, digits),
            (Type::Quantity, Wire::Bytes(bytes)) => {
                let fields = Scalars::read(name, bytes)?;
                if fields.text[1].is_empty() { "0".into() } else { fields.text[1].clone().into() }
            }
            (Type::IntOrString, Wire::Bytes(bytes)) => {
                let fields = Scalars::read(name, bytes)?;
                if fields.number[1] == 0 { fields.number[2].into() } else { fields.text[3].clone().into() }
            }
            (Type::Json, Wire::Bytes(bytes)) => {
                let fields = Scalars::read(name, bytes)?;
                if fields.text[1].is_empty() {
                    return Ok(None);
                }
                serde_json::from_str(&fields.text[1]).map_err(|_| Error::Malformed)?
            }
            (Type::Texts, Wire::Bytes(bytes)) => {
                let mut reader = Reader::new(bytes);
                let mut texts = Vec::new();
                while let Some((number, wire)) = reader.field()? {
                    if let (1, Wire::Bytes(bytes)) = (number, wire) {
                        texts.push(Value::from(text(name, bytes)?));
                    }
                }
                texts.into()
            }
            (Type::Message(inner), Wire::Bytes(bytes)) => {
                let mut object = Map::new();
                self.message(self.table.message(inner), bytes, &mut object)?;
                object.into()
            }
            _ => return Err(Error::Malformed),
        }))
    }
}

/// The fields of a small message that stands for one JSON value, by number.
#[derive(Default)]
struct Scalars {
    number: [i64; 4],
    text: [String; 4],
}

impl Scalars {
    fn read(name: &str, bytes: &[u8]) -> Result<Self, Error> {
        let mut read = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.field()? {
            let Some(at) = usize::try_from(number).ok().filter(|at| *at < read.number.len()) else { continue };
            match wire {
                Wire::Varint(number) => read.number[at] = number as i64,
                Wire::Bytes(bytes) => read.text[at] = text(name, bytes)?,
                Wire::Fixed => {}
            }
        }
        Ok(read)
    }
}

fn text(name: &str, bytes: &[u8]) -> Result<String, Error> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Error::NotText(name.to_owned()))
}

fn time(bytes: &[u8], digits: u8) -> Result<Option<Value>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let fields = Scalars::read("time", bytes)?;
    let nanoseconds = i32::try_from(fields.number[2]).map_err(|_| Error::Malformed)?;
    let time = Timestamp::new(fields.number[1], nanoseconds).map_err(|_| Error::Malformed)?;
    let printer = DateTimePrinter::new().precision(Some(digits));
    Ok(Some(printer.timestamp_to_string(&time).into()))
}
