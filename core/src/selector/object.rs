//! Label selectors as they stand in objects.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Error, Operator, Requirement, Selector};
use crate::api::wire::is_default;
use crate::string_enum;
use crate::validation::{self, ErrorList, Path, go_quote, names};

/// Which labels an object must have. All requirements must hold; no requirement at all matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct LabelSelector {
    /// Labels that must have exactly these values.
    #[serde(default, skip_serializing_if = "is_default")]
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// What one label must be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelectorRequirement {
    /// The label.
    #[serde(default)]
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    #[serde(default)]
    pub operator: LabelSelectorOperator,
    /// The values for `In` and `NotIn`; empty for the others.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub values: Vec<String>,
}

string_enum! {
    /// How a label is compared with a list of values.
    pub enum LabelSelectorOperator {
        /// The label has one of the values.
        In,
        /// The label is missing or has none of the values.
        NotIn,
        /// The label is there.
        Exists,
        /// The label is missing.
        DoesNotExist,
    }
}

impl LabelSelector {
    /// Whether there is no requirement at all, so that everything matches.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// The selector for matching.
    ///
    /// # Errors
    /// A key, a value or an operator that is not allowed.
    pub fn compile(&self) -> Result<Selector, Error> {
        let equal =
            self.match_labels.iter().map(|(key, value)| Requirement::new(key, Operator::Equals, [value.as_str()]));
        let others = self.match_expressions.iter().map(|expression| {
            let operator = match &expression.operator {
                LabelSelectorOperator::In => Operator::In,
                LabelSelectorOperator::NotIn => Operator::NotIn,
                LabelSelectorOperator::Exists => Operator::Exists,
                LabelSelectorOperator::DoesNotExist => Operator::DoesNotExist,
                other => return Err(Error::Operator(other.to_string())),
            };
            Requirement::new(&expression.key, operator, expression.values.iter().map(String::as_str))
        });
        equal.chain(others).collect()
    }

    /// The labels of a selector that only asks for equality, as the oldest kinds know it.
    ///
    /// # Errors
    /// The selector asks for something else.
    pub fn to_labels(&self) -> Result<BTreeMap<String, String>, Error> {
        let mut labels = self.match_labels.clone();
        for expression in &self.match_expressions {
            let operator = go_quote(expression.operator.as_str());
            let refused = match (&expression.operator, expression.values.as_slice()) {
                (LabelSelectorOperator::In, [value]) => {
                    labels.insert(expression.key.clone(), value.clone());
                    continue;
                }
                (LabelSelectorOperator::In, _) => format!(
                    "operator {operator} without a single value cannot be converted into the old label selector format"
                ),
                (known, _) if known.is_known() => {
                    format!("operator {operator} cannot be converted into the old label selector format")
                }
                _ => format!("{operator} is not a valid selector operator"),
            };
            return Err(Error::Conversion(refused));
        }
        Ok(labels)
    }

    /// Reads a selector from the text that people write.
    ///
    /// # Errors
    /// The text is no selector, or uses an operator that objects cannot hold.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let selector = Selector::parse(text)
            .map_err(|error| Error::Conversion(format!("couldn't parse the selector string \"{text}\": {error}")))?;
        let mut labels = Self::default();
        for requirement in selector.requirements().unwrap_or_default() {
            let operator = match requirement.operator() {
                Operator::Equals | Operator::DoubleEquals => {
                    let value = requirement.values().next().unwrap_or_default();
                    labels.match_labels.insert(requirement.key().to_owned(), value.to_owned());
                    continue;
                }
                Operator::In => LabelSelectorOperator::In,
                Operator::NotIn => LabelSelectorOperator::NotIn,
                Operator::Exists => LabelSelectorOperator::Exists,
                Operator::DoesNotExist => LabelSelectorOperator::DoesNotExist,
                operator @ (Operator::GreaterThan | Operator::LessThan) => {
                    let operator = go_quote(operator.as_str());
                    return Err(Error::Conversion(format!("{operator} isn't supported in label selectors")));
                }
                operator @ Operator::NotEquals => return Err(Error::Operator(operator.as_str().to_owned())),
            };
            labels.match_expressions.push(LabelSelectorRequirement {
                key: requirement.key().to_owned(),
                operator,
                values: requirement.values().map(str::to_owned).collect(),
            });
        }
        Ok(labels)
    }

    /// The selector as the tables of `kubectl get` show it: `<none>` if it asks for nothing, `<error>` if it is not valid.
    pub fn format(selector: Option<&Self>) -> String {
        let text = match selector.map(Self::compile) {
            None => String::new(),
            Some(Ok(selector)) => selector.to_string(),
            Some(Err(_)) => return "<error>".to_owned(),
        };
        if text.is_empty() { "<none>".to_owned() } else { text }
    }

    /// What is wrong with a selector that stands at `path`.
    pub fn validate(&self, path: &Path) -> ErrorList {
        let mut errors = validation::validate_labels(&self.match_labels, &path.child("matchLabels"));
        for (index, expression) in self.match_expressions.iter().enumerate() {
            errors.extend(expression.validate(&path.child("matchExpressions").index(index)));
        }
        errors
    }
}

impl LabelSelectorRequirement {
    fn validate(&self, path: &Path) -> ErrorList {
        let mut errors = ErrorList::new();
        let values = path.child("values");
        match self.operator {
            LabelSelectorOperator::In | LabelSelectorOperator::NotIn => {
                if self.values.is_empty() {
                    let why = "must be specified when `operator` is 'In' or 'NotIn'";
                    errors.push(validation::Error::required(&values, why));
                }
            }
            LabelSelectorOperator::Exists | LabelSelectorOperator::DoesNotExist => {
                if !self.values.is_empty() {
                    let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                    errors.push(validation::Error::forbidden(&values, why));
                }
            }
            _ => {
                let (at, operator) = (path.child("operator"), self.operator.as_str());
                errors.push(validation::Error::invalid(&at, operator, "not a valid selector operator"));
            }
        }
        errors.extend(names::validate_qualified_name(&self.key, &path.child("key")));
        for (index, value) in self.values.iter().enumerate() {
            let wrong = names::is_valid_label_value(value).into_iter();
            errors.extend(wrong.map(|why| validation::Error::invalid(&values.index(index), value.as_str(), why)));
        }
        errors
    }
}
