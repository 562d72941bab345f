//! Label selectors, as policies match them.

use std::collections::BTreeMap;

use longshore_core::selector::{LabelSelector, LabelSelectorOperator, LabelSelectorRequirement};

/// A selector with its meaning: none given matches nothing, an empty one everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selector {
    /// Matches nothing.
    Nothing,
    /// Matches what meets all of these; everything if there are none.
    All(Vec<LabelSelectorRequirement>),
}

impl Selector {
    /// A selector that cannot be read matches nothing.
    pub(super) fn of(selector: Option<&LabelSelector>) -> Self {
        let Some(selector) = selector else { return Self::Nothing };
        if selector.match_expressions.iter().any(|requirement| !requirement.operator.is_known()) {
            return Self::Nothing;
        }
        let mut all = Self::labels(&selector.match_labels);
        if let Self::All(requirements) = &mut all {
            requirements.extend(selector.match_expressions.iter().cloned());
        }
        all
    }

    /// Matches what has all these labels.
    pub(super) fn labels(labels: &BTreeMap<String, String>) -> Self {
        let equal = |(key, value): (&String, &String)| LabelSelectorRequirement {
            key: key.clone(),
            operator: LabelSelectorOperator::In,
            values: vec![value.clone()],
        };
        Self::All(labels.iter().map(equal).collect())
    }

    /// With the requirements of another; one that matches nothing has none.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::All(mut all), Self::All(more)) => {
                all.extend(more);
                Self::All(all)
            }
            (Self::All(all), Self::Nothing) => Self::All(all),
            (Self::Nothing, _) => Self::Nothing,
        }
    }

    /// Whether there is no requirement at all, so that everything matches.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::All(all) if all.is_empty())
    }

    pub(super) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Nothing => false,
            Self::All(all) => all.iter().all(|requirement| meets(requirement, labels.get(&requirement.key))),
        }
    }
}

fn meets(requirement: &LabelSelectorRequirement, value: Option<&String>) -> bool {
    match requirement.operator {
        LabelSelectorOperator::In => value.is_some_and(|value| requirement.values.contains(value)),
        LabelSelectorOperator::NotIn => value.is_none_or(|value| !requirement.values.contains(value)),
        LabelSelectorOperator::Exists => value.is_some(),
        LabelSelectorOperator::DoesNotExist => value.is_none(),
        _ => false,
    }
}
