//! The numbers of fields, read from `fields.txt` when the first document comes.

use std::sync::OnceLock;

use rustc_hash::FxHashMap;

const TEXT: &str = include_str!("fields.txt");

/// How often a field's type occurs in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    One,
    List,
    Map,
    Inline,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Integer,
    Boolean,
    Text,
    Bytes,
    Time {
        /// Digits below the second.
        digits: u8,
    },
    Quantity,
    IntOrString,
    /// JSON text.
    Json,
    /// A list of texts in a message of its own.
    Texts,
    /// The message at this place of the table.
    Message(usize),
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u64,
    pub(super) name: &'static str,
    pub(super) label: Label,
    pub(super) type_: Type,
}

#[derive(Debug)]
pub(super) struct Message {
    /// Package and name, such as `core/v1.Pod`.
    pub(super) name: &'static str,
    pub(super) fields: Vec<Field>,
}

impl Message {
    pub(super) fn field(&self, number: u64) -> Option<&Field> {
        self.fields.iter().find(|field| field.number == number)
    }
}

#[derive(Debug)]
pub(super) struct Table {
    messages: Vec<Message>,
    places: FxHashMap<&'static str, usize>,
}

impl Table {
    pub(super) fn get() -> &'static Self {
        static TABLE: OnceLock<Table> = OnceLock::new();
        TABLE.get_or_init(|| Self::parse(TEXT))
    }

    pub(super) fn message(&self, place: usize) -> &Message {
        &self.messages[place]
    }

    /// The message of a kind.
    pub(super) fn find(&self, api_version: &str, kind: &str) -> Option<&Message> {
        let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
        let package = group.split('.').next().unwrap_or_default();
        // Options have the version of the API that they are sent to, but are everywhere the same.
        let name =
            if kind == "DeleteOptions" { format!("meta/v1.{kind}") } else { format!("{package}/{version}.{kind}") };
        self.places.get(name.as_str()).map(|place| &self.messages[*place])
    }

    fn parse(text: &'static str) -> Self {
        let lines = || text.lines().filter(|line| !line.starts_with('#'));
        let names = lines().filter(|line| !line.contains(' '));
        let places: FxHashMap<&'static str, usize> = names.enumerate().map(|(place, name)| (name, place)).collect();
        let mut messages: Vec<Message> = Vec::with_capacity(places.len());
        for line in lines() {
            let mut words = line.split(' ');
            let (Some(first), Some(name), Some(type_)) = (words.next(), words.next(), words.next()) else {
                messages.push(Message { name: line, fields: Vec::new() });
                continue;
            };
            let message = messages.last_mut().expect("the table begins with a message");
            let package = message.name.split('.').next().unwrap_or_default();
            let (label, type_) = match (type_.strip_prefix("[]"), type_.strip_prefix("{}")) {
                (Some(type_), _) => (Label::List, type_),
                (_, Some(type_)) => (Label::Map, type_),
                _ if name == "~" => (Label::Inline, type_),
                _ => (Label::One, type_),
            };
            let number = first.parse().expect("every field has a number");
            message.fields.push(Field { number, name, label, type_: of(type_, package, &places) });
        }
        Self { messages, places }
    }
}

fn of(type_: &str, package: &str, places: &FxHashMap<&'static str, usize>) -> Type {
    match type_ {
        "int32" | "int64" => Type::Integer,
        "bool" => Type::Boolean,
        "string" => Type::Text,
        "bytes" => Type::Bytes,
        "Time" => Type::Time { digits: 0 },
        "MicroTime" => Type::Time { digits: 6 },
        "Quantity" => Type::Quantity,
        "IntOrString" => Type::IntOrString,
        "FieldsV1" | "RawExtension" => Type::Json,
        "ExtraValue" => Type::Texts,
        name => {
            let full = if name.contains('.') { name.to_owned() } else { format!("{package}.{name}") };
            Type::Message(*places.get(full.as_str()).expect("a test reads the whole table"))
        }
    }
}
