//! Whether a selector selects labels.

use std::collections::BTreeMap;

use longshore_core::selector::{LabelSelector, LabelSelectorOperator};

/// Labels as they stand in an object's metadata.
pub(crate) type Labels = Option<BTreeMap<String, String>>;

/// Whether every requirement of the selector holds. A selector without requirements selects everything, one with an
/// unknown operator nothing.
pub(crate) fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    let value = |key: &str| labels.as_ref().and_then(|labels| labels.get(key));
    selects_all(&selector.match_labels, labels)
        && selector.match_expressions.iter().all(|requirement| {
            let value = value(&requirement.key);
            let listed = value.is_some_and(|value| requirement.values.contains(value));
            match requirement.operator {
                LabelSelectorOperator::In => listed,
                LabelSelectorOperator::NotIn => !listed,
                LabelSelectorOperator::Exists => value.is_some(),
                LabelSelectorOperator::DoesNotExist => value.is_none(),
                _ => false,
            }
        })
}

/// Whether the labels have all of these values.
pub(crate) fn selects_all(wanted: &BTreeMap<String, String>, labels: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.as_ref().and_then(|labels| labels.get(key)) == Some(value))
}

/// Whether the selector would select everything.
pub(crate) fn selects_everything(selector: &LabelSelector) -> bool {
    selector.match_labels.is_empty() && selector.match_expressions.is_empty()
}

#[cfg(test)]
mod tests {
    use longshore_core::selector::LabelSelectorRequirement;

    use super::*;

    #[test]
    fn expressions() {
        let labels: Labels = Some([("a".to_owned(), "1".to_owned())].into());
        let selects = |key: &str, operator, values: &[&str]| {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            let requirement = LabelSelectorRequirement { key: key.into(), operator, values };
            super::selects(&LabelSelector { match_expressions: vec![requirement], ..Default::default() }, &labels)
        };
        assert!(selects("a", LabelSelectorOperator::In, &["1", "2"]));
        assert!(!selects("b", LabelSelectorOperator::In, &["1"]));
        assert!(!selects("a", LabelSelectorOperator::NotIn, &["1"]));
        assert!(selects("b", LabelSelectorOperator::NotIn, &["1"]), "a label that is missing is none of the values");
        assert!(selects("a", LabelSelectorOperator::Exists, &[]) && !selects("b", LabelSelectorOperator::Exists, &[]));
        assert!(selects("b", LabelSelectorOperator::DoesNotExist, &[]));
        assert!(super::selects(&LabelSelector::default(), &None));
    }
}
