//! Label selectors compiled for matching.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::{Error, parse};
use crate::validation::{self, ErrorList, Path, names};

/// A label selector ready to match: requirements sorted by key, their values sorted, numbers parsed.
///
/// The default matches everything. It prints as people write it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    nothing: bool,
    requirements: Vec<Requirement>,
}

/// What one label must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    key: Box<str>,
    operator: Operator,
    /// Sorted; a value may stand there twice, as it prints twice.
    values: Vec<Box<str>>,
    /// The bound of `>` and `<`.
    bound: i64,
}

/// How a label is compared with values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// The label is missing.
    DoesNotExist,
    /// The label has the one value.
    Equals,
    /// The same, as written with two signs.
    DoubleEquals,
    /// The label has one of the values.
    In,
    /// The label is missing or has another value.
    NotEquals,
    /// The label is missing or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is an integer above the value.
    GreaterThan,
    /// The label is an integer below the value.
    LessThan,
}

impl Operator {
    /// Upstream's name of the operator, such as `notin`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DoesNotExist => "!",
            Self::Equals => "=",
            Self::DoubleEquals => "==",
            Self::In => "in",
            Self::NotEquals => "!=",
            Self::NotIn => "notin",
            Self::Exists => "exists",
            Self::GreaterThan => "gt",
            Self::LessThan => "lt",
        }
    }
}

impl Requirement {
    /// A requirement on the label `key`.
    ///
    /// # Errors
    /// The key or a value is no label, or the operator takes another number of values.
    pub fn new<'a>(key: &str, operator: Operator, values: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let mut values: Vec<Box<str>> = values.into_iter().map(Box::from).collect();
        let errors = check(key, operator, &values);
        if !errors.is_empty() {
            return Err(Error::Invalid(errors));
        }
        values.sort_unstable();
        Ok(Self::trusted(key, operator, values))
    }

    fn trusted(key: &str, operator: Operator, values: Vec<Box<str>>) -> Self {
        let bound = values.first().and_then(|value| value.parse().ok()).unwrap_or_default();
        Self { key: key.into(), operator, values, bound }
    }

    /// The label.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How it is compared.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The values it is compared with, sorted, each once.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        let repeats = |at: usize| at > 0 && self.values[at] == self.values[at - 1];
        self.values.iter().enumerate().filter(move |(at, _)| !repeats(*at)).map(|(_, value)| &**value)
    }

    /// Whether labels meet the requirement.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_value(labels.get(&*self.key).map(String::as_str))
    }

    /// Whether the label's value meets the requirement; `None` if there is no such label.
    pub fn matches_value(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| match self.values.as_slice() {
            [one] => **one == *value,
            many => many.binary_search_by(|other| (**other).cmp(value)).is_ok(),
        };
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(listed),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => number(value).is_some_and(|value| value > self.bound),
            Operator::LessThan => number(value).is_some_and(|value| value < self.bound),
        }
    }
}

fn number(value: Option<&str>) -> Option<i64> {
    value?.parse().ok()
}

/// What is wrong with a requirement. Its path starts at the requirement itself, as upstream's does.
fn check(key: &str, operator: Operator, values: &[Box<str>]) -> ErrorList {
    let mut errors = check_key(key, &Path::new("key"));
    let at = Path::new("values");
    let mut number_of_values = |wrong: bool, why: &str| {
        if wrong {
            let given = if values.is_empty() {
                Value::Null
            } else {
                values.iter().map(|value| Value::from(&**value)).collect()
            };
            errors.push(validation::Error::invalid(&at, given, why));
        }
    };
    match operator {
        Operator::In | Operator::NotIn => {
            number_of_values(values.is_empty(), "for 'in', 'notin' operators, values set can't be empty");
        }
        Operator::Equals | Operator::DoubleEquals | Operator::NotEquals => {
            number_of_values(values.len() != 1, "exact-match compatibility requires one single value");
        }
        Operator::Exists | Operator::DoesNotExist => {
            number_of_values(!values.is_empty(), "values set must be empty for exists and does not exist");
        }
        Operator::GreaterThan | Operator::LessThan => {
            number_of_values(values.len() != 1, "for 'Gt', 'Lt' operators, exactly one value is required");
            for (index, value) in values.iter().enumerate().filter(|(_, value)| value.parse::<i64>().is_err()) {
                let why = "for 'Gt', 'Lt' operators, the value must be an integer";
                errors.push(validation::Error::invalid(&at.index(index), &**value, why));
            }
        }
    }
    for (index, value) in values.iter().enumerate() {
        errors.extend(check_value(value, &at.index(index).key(key)));
    }
    errors
}

/// What is wrong with a label's key, all in one error.
pub(super) fn check_key(key: &str, path: &Path) -> ErrorList {
    joined(key, names::is_qualified_name(key), path)
}

fn check_value(value: &str, path: &Path) -> ErrorList {
    joined(value, names::is_valid_label_value(value), path)
}

fn joined(text: &str, wrong: Vec<String>, path: &Path) -> ErrorList {
    if wrong.is_empty() { ErrorList::new() } else { vec![validation::Error::invalid(path, text, wrong.join("; "))] }
}

impl Selector {
    /// Matches everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches nothing, not even an object without labels.
    pub fn nothing() -> Self {
        Self { nothing: true, requirements: Vec::new() }
    }

    /// Reads what people write: `app=web,tier in (a,b),!old`.
    ///
    /// # Errors
    /// The text is no selector.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Ok(parse::requirements(text)?.into_iter().collect())
    }

    /// Matches objects that have all of these labels. The labels are not checked.
    pub fn from_labels(labels: &BTreeMap<String, String>) -> Self {
        let equals =
            |(key, value): (&String, &String)| Requirement::trusted(key, Operator::Equals, vec![value.as_str().into()]);
        labels.iter().map(equals).collect()
    }

    /// The same, with the labels checked.
    ///
    /// # Errors
    /// A key or a value is no label.
    pub fn from_valid_labels(labels: &BTreeMap<String, String>) -> Result<Self, Error> {
        labels.iter().map(|(key, value)| Requirement::new(key, Operator::Equals, [value.as_str()])).collect()
    }

    /// Compiles the selector of an object; without one nothing matches.
    ///
    /// # Errors
    /// The selector is not valid.
    pub fn from_object(selector: Option<&super::LabelSelector>) -> Result<Self, Error> {
        selector.map_or_else(|| Ok(Self::nothing()), super::LabelSelector::compile)
    }

    /// Whether labels meet all requirements.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.matches(labels))
    }

    /// Whether an object's labels, if it has any, meet all requirements.
    pub fn matches_optional(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.matches(labels.unwrap_or(&NONE))
    }

    /// Whether there is no requirement, so that everything matches.
    pub fn is_empty(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// The requirements, sorted by key; `None` if nothing can match.
    pub fn requirements(&self) -> Option<&[Requirement]> {
        (!self.nothing).then_some(&self.requirements)
    }
}

impl FromIterator<Requirement> for Selector {
    fn from_iter<T: IntoIterator<Item = Requirement>>(requirements: T) -> Self {
        let mut requirements: Vec<Requirement> = requirements.into_iter().collect();
        requirements.sort_by(|left, right| left.key.cmp(&right.key));
        Self { nothing: false, requirements }
    }
}

impl FromStr for Selector {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            write!(f, "{}{requirement}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::Exists => write!(f, "{key}"),
            Operator::In | Operator::NotIn => write!(f, "{key} {} ({values})", self.operator.as_str()),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals => {
                write!(f, "{key}{}{values}", self.operator.as_str())
            }
        }
    }
}

/// The labels of a text that only asks for equality, such as `a=b,c=d`.
///
/// # Errors
/// The text asks for something else, or for what is no label.
pub fn labels_from_selector(text: &str) -> Result<BTreeMap<String, String>, Error> {
    let mut labels = BTreeMap::new();
    if text.is_empty() {
        return Ok(labels);
    }
    for part in text.split(',') {
        let sides: Vec<&str> = part.split('=').collect();
        let [key, value] = sides[..] else {
            return Err(Error::Syntax(format!("invalid selector: [{}]", sides.join(" "))));
        };
        let (key, value) = (key.trim(), value.trim());
        let mut errors = check_key(key, &parse::no_path());
        if errors.is_empty() {
            errors = check_value(value, &Path::default().key(key));
        }
        if !errors.is_empty() {
            return Err(Error::Invalid(errors));
        }
        labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(labels)
}

/// Labels as `a=1,b=2`, in the order of these pairs as texts.
pub fn format_labels(labels: &BTreeMap<String, String>) -> String {
    let pairs: BTreeSet<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.into_iter().collect::<Vec<_>>().join(",")
}
