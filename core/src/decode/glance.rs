//! The pass that only looks: is there anything in the document that plain typed decoding would get wrong?

use std::borrow::Cow;
use std::fmt;

use rustc_hash::FxHashSet;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::normalize::check_time;
use crate::kind::KindType;
use crate::schema::{Field, Node, Scalar, Type};

/// Whether the document is of this kind and has no unknown field, no field twice, no null and, in metadata, nothing
/// empty. `false` also if it cannot be read.
pub(super) fn is_plain(bytes: &[u8], kind: &KindType, root: Type<'_>) -> bool {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let glance = Glance { type_: root, top: Some(kind), refuse_empty: false };
    glance.deserialize(&mut deserializer).is_ok() && deserializer.end().is_ok()
}

#[derive(Clone, Copy)]
struct Glance<'s> {
    type_: Type<'s>,
    /// The kind wanted, at the top of the document.
    top: Option<&'s KindType>,
    /// Whether an empty value here is left out by Go.
    refuse_empty: bool,
}

impl Glance<'_> {
    fn check_empty<E: Error>(self, empty: bool) -> Result<(), E> {
        if self.refuse_empty && empty { Err(notable()) } else { Ok(()) }
    }
}

/// The error that ends the pass; nobody reads it.
fn notable<E: Error>() -> E {
    E::custom("")
}

impl<'de> DeserializeSeed<'de> for Glance<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.type_.node() {
            Node::Any => IgnoredAny::deserialize_ignored(deserializer),
            _ => deserializer.deserialize_any(self),
        }
    }
}

trait Ignored: Sized {
    fn deserialize_ignored<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error>;
}

impl Ignored for IgnoredAny {
    fn deserialize_ignored<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_ignored_any(Self).map(drop)
    }
}

/// A text that must be one given word.
struct Word<'w>(&'w str);

impl<'de> DeserializeSeed<'de> for Word<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Word<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if text == self.0 { Ok(()) } else { Err(notable()) }
    }
}

/// A key, without a copy where the text has no escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

impl<'de> Visitor<'de> for Glance<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what the schema says")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.check_empty(number == 0)
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        // The type's own reader takes more than Go does.
        if matches!(self.type_.node(), Node::Scalar(Scalar::Time)) && check_time(text).is_err() {
            return Err(notable());
        }
        self.check_empty(text.is_empty())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Node::List(list) = self.type_.node() else { return Err(notable()) };
        let item = Glance { type_: self.type_.of_items(list), top: None, refuse_empty: false };
        let mut empty = true;
        while items.next_element_seed(item)?.is_some() {
            empty = false;
        }
        self.check_empty(empty)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        match self.type_.node() {
            Node::Struct(object) => {
                let mut seen: Vec<*const Field> = Vec::new();
                while let Some(key) = entries.next_key_seed(Key)? {
                    let field = object.field(&key).ok_or_else(notable)?;
                    if seen.contains(&std::ptr::from_ref(field)) {
                        return Err(notable());
                    }
                    seen.push(field);
                    match (self.top, &*key) {
                        (Some(kind), "kind") => entries.next_value_seed(Word(kind.info.kind))?,
                        (Some(kind), "apiVersion") => entries.next_value_seed(Word(&kind.info.api_version()))?,
                        _ => {
                            let refuse_empty = &*object.name == "ObjectMeta" && key != "managedFields";
                            entries.next_value_seed(Glance {
                                type_: self.type_.of_field(field),
                                top: None,
                                refuse_empty,
                            })?;
                        }
                    }
                }
                self.check_empty(seen.is_empty())
            }
            Node::Map(map) => {
                let value = Glance { type_: self.type_.of_values(map), top: None, refuse_empty: false };
                let mut seen = FxHashSet::default();
                while let Some(key) = entries.next_key_seed(Key)? {
                    entries.next_value_seed(value)?;
                    if !seen.insert(key) {
                        return Err(notable());
                    }
                }
                self.check_empty(seen.is_empty())
            }
            Node::Any | Node::Scalar(_) | Node::List(_) => Err(notable()),
        }
    }
}
