//! YAML as upstream's converter to JSON reads it: YAML 1.1's booleans and octal numbers, merge keys, the first
//! document of a stream.

use granit_parser::{Event, Parser, ScalarStyle, Tag};
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::{Number, Value};

use super::tree::{Read, Tree};

/// The most nodes that a document may have once its aliases are put in; upstream has a like bound.
const MAX_NODES: usize = 1_000_000;

/// How deep lists and objects may be nested once aliases are put in. The reader calls itself for each level, and a thread
/// has two megabytes of stack: debug builds overflow it at about 250 levels.
const MAX_DEPTH: usize = 100;

/// Reads the first document of `text`; findings are keys given twice.
pub(super) fn parse(text: &str) -> Result<Read, String> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        anchors: FxHashMap::default(),
        nodes: 0,
        depth: 0,
        repeated: Vec::new(),
    };
    let tree = reader.document()?;
    let findings = if reader.repeated.is_empty() {
        Vec::new()
    } else {
        vec![format!("yaml: unmarshal errors:\n{}", reader.repeated.join("\n"))]
    };
    Ok(Read { tree, findings })
}

struct Reader<'t> {
    events: Parser<'t, granit_parser::StrInput<'t>>,
    anchors: FxHashMap<usize, Anchored>,
    nodes: usize,
    /// How many lists and objects are open.
    depth: usize,
    repeated: Vec<String>,
}

/// A node that aliases may stand for.
struct Anchored {
    tree: Tree,
    nodes: usize,
    height: usize,
}

/// A node's start.
enum Start {
    Scalar(Tree, usize),
    List(usize),
    Object(usize),
    Alias(usize),
    End,
}

impl<'t> Reader<'t> {
    /// The next event that is not presentation, with its line.
    fn next(&mut self) -> Result<Option<(Event<'t>, usize)>, String> {
        loop {
            match self.events.next_event() {
                None => return Ok(None),
                Some(Err(error)) => {
                    let line = error.marker().line();
                    let text = error.info();
                    let text = go_words(&text);
                    return Err(if line > 1 { format!("yaml: line {line}: {text}") } else { format!("yaml: {text}") });
                }
                Some(Ok((Event::Comment(..) | Event::Anchor(..), _))) => {}
                Some(Ok((event, span))) => return Ok(Some((event, span.start.line()))),
            }
        }
    }

    fn document(&mut self) -> Result<Tree, String> {
        while let Some((event, line)) = self.next()? {
            match event {
                Event::StreamStart | Event::DocumentStart(..) => {}
                Event::StreamEnd | Event::DocumentEnd => break,
                event => {
                    let start = self.start(event)?;
                    let tree = self.node(start, line)?;
                    // What stands behind the first node must be well-formed as well.
                    while let Some((event, _)) = self.next()? {
                        if matches!(event, Event::DocumentEnd | Event::StreamEnd) {
                            break;
                        }
                    }
                    return Ok(tree);
                }
            }
        }
        Ok(Tree::Scalar(Value::Null))
    }

    fn start(&mut self, event: Event<'t>) -> Result<Start, String> {
        self.nodes += 1;
        Ok(match event {
            Event::Scalar(text, style, anchor, tag) => {
                Start::Scalar(Tree::Scalar(scalar(&text, style, tag.as_deref())), anchor)
            }
            Event::SequenceStart(_, anchor, _) => Start::List(anchor),
            Event::MappingStart(_, anchor, _) => Start::Object(anchor),
            Event::Alias(anchor) => Start::Alias(anchor),
            Event::UnresolvedAlias(name) => return Err(format!("yaml: unknown anchor '{name}' referenced")),
            _ => Start::End,
        })
    }

    fn node(&mut self, start: Start, line: usize) -> Result<Tree, String> {
        let nodes = self.nodes;
        let (tree, anchor) = match start {
            Start::Scalar(tree, anchor) => (tree, anchor),
            Start::List(_) | Start::Object(_) if self.depth >= MAX_DEPTH => {
                return Err("yaml: exceeded max depth".to_owned());
            }
            Start::List(anchor) => {
                self.depth += 1;
                let list = self.list()?;
                self.depth -= 1;
                (list, anchor)
            }
            Start::Object(anchor) => {
                self.depth += 1;
                let object = self.object()?;
                self.depth -= 1;
                (object, anchor)
            }
            Start::Alias(anchor) => {
                let target = self.anchors.get(&anchor).ok_or("yaml: anchor contains itself")?;
                if self.depth + target.height > MAX_DEPTH {
                    return Err("yaml: exceeded max depth".to_owned());
                }
                let (tree, nodes) = (target.tree.clone(), target.nodes);
                self.add_nodes(nodes)?;
                return Ok(tree);
            }
            Start::End => return Err(format!("yaml: line {line}: did not find expected node content")),
        };
        if anchor > 0 {
            let size = self.nodes - nodes + 1;
            // The copy that is kept counts as well.
            self.add_nodes(size)?;
            let anchored = Anchored { tree: tree.clone(), nodes: size, height: tree.height() };
            self.anchors.insert(anchor, anchored);
        }
        Ok(tree)
    }

    fn add_nodes(&mut self, count: usize) -> Result<(), String> {
        self.nodes += count;
        if self.nodes > MAX_NODES { Err("yaml: document contains excessive aliasing".to_owned()) } else { Ok(()) }
    }

    fn list(&mut self) -> Result<Tree, String> {
        let mut items = Vec::new();
        while let Some((event, line)) = self.next()? {
            let start = self.start(event)?;
            if matches!(start, Start::End) {
                break;
            }
            items.push(self.node(start, line)?);
        }
        Ok(Tree::List(items))
    }

    fn object(&mut self) -> Result<Tree, String> {
        let mut fields: Vec<(String, Tree)> = Vec::new();
        let mut merged: Vec<Tree> = Vec::new();
        let mut seen: FxHashMap<String, usize> = FxHashMap::default();
        while let Some((event, line)) = self.next()? {
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let start = self.start(event)?;
            if matches!(start, Start::End) {
                break;
            }
            let key = match self.node(start, line)? {
                Tree::Scalar(Value::String(key)) => key,
                Tree::Scalar(Value::Null) => "null".to_owned(),
                Tree::Scalar(other) => other.to_string(),
                Tree::List(_) | Tree::Object(_) => {
                    return Err(format!("yaml: invalid map key: line {line}"));
                }
            };
            let (event, value_line) = self.next()?.ok_or("yaml: unexpected end")?;
            let start = self.start(event)?;
            let value = self.node(start, value_line)?;
            if is_merge {
                merged.push(value);
                continue;
            }
            match seen.get(&key) {
                Some(&place) => {
                    self.repeated.push(format!("  line {line}: key {key:?} already set in map"));
                    fields[place].1 = value;
                }
                None => {
                    seen.insert(key.clone(), fields.len());
                    fields.push((key, value));
                }
            }
        }
        let mut known: FxHashSet<String> = seen.into_keys().collect();
        for source in merged {
            let sources = match source {
                Tree::List(items) => items,
                other => vec![other],
            };
            for source in sources {
                let Tree::Object(source) = source else {
                    return Err("yaml: map merge requires map or sequence of maps as the value".to_owned());
                };
                fields.extend(source.into_iter().filter(|(key, _)| known.insert(key.clone())));
            }
        }
        Ok(Tree::Object(fields))
    }
}

/// Upstream's words for the most common error.
fn go_words(text: &str) -> String {
    if text.contains("mapping values are not allowed") {
        return "mapping values are not allowed in this context".to_owned();
    }
    text.to_owned()
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let tagged_string = tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
    if style == ScalarStyle::Plain && !tagged_string { plain(text) } else { Value::String(text.to_owned()) }
}

/// The value of a plain scalar.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        let digits = text.replace('_', "");
        if let Some(number) = integer(&digits).or_else(|| float(&digits)) {
            return Value::Number(number);
        }
    }
    Value::String(text.to_owned())
}

/// An integer, with the prefixes of Go: `0x`, `0o` or just `0`, `0b`.
fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = match lower.as_str() {
        "0" => ("0", 10),
        other => [("0x", 16), ("0b", 2), ("0o", 8), ("0", 8)]
            .into_iter()
            .find_map(|(prefix, radix)| other.strip_prefix(prefix).map(|digits| (digits, radix)))
            .unwrap_or((other, 10)),
    };
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if negative { Some(0_i64.checked_sub_unsigned(magnitude)?.into()) } else { Some(magnitude.into()) }
}

/// A decimal number; a whole one comes out as an integer, as Go prints it.
fn float(text: &str) -> Option<Number> {
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = body.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && body.contains(|c: char| c.is_ascii_digit())
        && body.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    let float: f64 = text.parse().ok().filter(|_| is_number)?;
    if float.fract() == 0.0 && float.abs() < 1e15 {
        // Exact: the bound is far below 2^53.
        #[expect(clippy::cast_possible_truncation, reason = "a whole number within the range checked")]
        return Some((float as i64).into());
    }
    Number::from_f64(float)
}
