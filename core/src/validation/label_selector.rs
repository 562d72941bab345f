//! What label selectors in objects may say, in upstream's words (`k8s.io/apimachinery/pkg/apis/meta/v1/validation`).

use super::names::{is_valid_label_value, validate_qualified_name};
use super::{ErrorList, Path, Report, validate_labels};
use crate::selector::{LabelSelector, LabelSelectorOperator};

/// Checks a label selector; one that is not given is right.
pub(crate) fn validate_label_selector(selector: Option<&LabelSelector>, at: &Path, errors: &mut ErrorList) {
    let Some(selector) = selector else { return };
    errors.extend(validate_labels(&selector.match_labels, &at.child("matchLabels")));
    for (index, requirement) in selector.match_expressions.iter().enumerate() {
        let at = at.child("matchExpressions").index(index);
        let values = at.child("values");
        match requirement.operator {
            LabelSelectorOperator::In | LabelSelectorOperator::NotIn => {
                if requirement.values.is_empty() {
                    errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
                }
            }
            LabelSelectorOperator::Exists | LabelSelectorOperator::DoesNotExist => {
                if !requirement.values.is_empty() {
                    errors.forbidden(&values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
                }
            }
            LabelSelectorOperator::Unset | LabelSelectorOperator::Other(_) => {
                let operator = requirement.operator.as_str();
                errors.invalid(&at.child("operator"), operator, "not a valid selector operator");
            }
        }
        errors.extend(validate_qualified_name(&requirement.key, &at.child("key")));
        for (index, value) in requirement.values.iter().enumerate() {
            errors.invalid_each(&values.index(index), value, is_valid_label_value(value));
        }
    }
}
