//! What limit ranges may say, in upstream's words.

use std::collections::BTreeSet;

use super::{LimitRangeItem, LimitRangeSpec, LimitType};
use crate::api::ResourceList;
use crate::quantity::{Format, Quantity};
use crate::validation::names::is_qualified_name;
use crate::validation::resources::{is_overcommit_allowed, validate_container_resource_name, validate_resource_name};
use crate::validation::{ErrorList, Path, Report};

/// Amounts above which upstream does not count in thousandths.
const MAX_MILLI: i64 = i64::MAX / 1000;

/// Checks the bounds.
pub(super) fn validate_spec(spec: &LimitRangeSpec, errors: &mut ErrorList) {
    let at = Path::new("spec").child("limits");
    for (index, item) in spec.limits.iter().enumerate() {
        let at = at.index(index);
        validate_type(&item.type_, &at.child("type"), errors);
        if spec.limits[..index].iter().any(|earlier| earlier.type_ == item.type_) {
            errors.duplicate(&at.child("type"), item.type_.as_str());
        }
        validate_names(item, &at, errors);
        let lists = [&item.max, &item.min, &item.default, &item.default_request, &item.max_limit_request_ratio];
        let names: BTreeSet<&String> = lists.into_iter().flat_map(ResourceList::keys).collect();
        for name in names {
            validate_amounts(item, name, &at, errors);
        }
    }
}

fn validate_type(type_: &LimitType, at: &Path, errors: &mut ErrorList) {
    let name = type_.as_str();
    let wrong = is_qualified_name(name);
    if wrong.is_empty() && !name.contains('/') && !type_.is_known() {
        errors.invalid(at, name, "must be a standard limit type or fully qualified");
    }
    errors.invalid_each(at, name, wrong);
}

fn validate_names(item: &LimitRangeItem, at: &Path, errors: &mut ErrorList) {
    let check = match item.type_ {
        LimitType::Pod | LimitType::Container => validate_container_resource_name,
        _ => validate_resource_name,
    };
    let check_all = |field: &str, list: &ResourceList, errors: &mut ErrorList| {
        list.keys().for_each(|name| check(name, &at.child(field).key(name), errors));
    };
    check_all("max", &item.max, errors);
    check_all("min", &item.min, errors);
    for (field, list) in [("default", &item.default), ("defaultRequest", &item.default_request)] {
        if item.type_ != LimitType::Pod {
            check_all(field, list, errors);
        } else if !list.is_empty() {
            errors.forbidden(&at.child(field), "may not be specified when `type` is 'Pod'");
        }
    }
    let bounded = item.min.contains_key("storage") || item.max.contains_key("storage");
    if item.type_ == LimitType::PersistentVolumeClaim && !bounded {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&at.child("limits"), why);
    }
    check_all("maxLimitRequestRatio", &item.max_limit_request_ratio, errors);
}

/// Checks the amounts of one resource against each other. Which of two amounts an error shows is upstream's choice.
fn validate_amounts(item: &LimitRangeItem, name: &str, at: &Path, errors: &mut ErrorList) {
    let of_pod = item.type_ == LimitType::Pod;
    let (min, max) = (item.min.get(name), item.max.get(name));
    let default = item.default.get(name).filter(|_| !of_pod);
    let request = item.default_request.get(name).filter(|_| !of_pod);
    let at_request = at.child("defaultRequest").key(name);
    let at_default = at.child("default").key(name);
    let mut ordered = |low: (Option<&Quantity>, &str), high: (Option<&Quantity>, &str), at: &Path, show_low: bool| {
        if let ((Some(low), low_is), (Some(high), high_is)) = (low, high)
            && low > high
        {
            let shown = if show_low { low } else { high };
            let why = format!("{low_is} {low} is greater than {high_is} {high}");
            errors.invalid(at, shown.to_string(), why);
        }
    };
    ordered((min, "min value"), (max, "max value"), &at.child("min").key(name), true);
    ordered((min, "min value"), (request, "default request value"), &at_request, false);
    ordered((request, "default request value"), (max, "max value"), &at_request, true);
    ordered((request, "default request value"), (default, "default limit value"), &at_request, true);
    ordered((min, "min value"), (default, "default value"), &at_default, true);
    ordered((default, "default value"), (max, "max value"), &at_default, false);
    if let Some(ratio) = item.max_limit_request_ratio.get(name) {
        validate_ratio(ratio, min, max, &at.child("maxLimitRequestRatio").key(name), errors);
    }
    if let (Some(default), Some(request)) = (default, request)
        && default != request
        && !is_overcommit_allowed(name)
    {
        let why = format!("default value {default} must equal to defaultRequest value {request} in {name}");
        errors.invalid(&at_request, request.to_string(), why);
    }
}

fn validate_ratio(ratio: &Quantity, min: Option<&Quantity>, max: Option<&Quantity>, at: &Path, errors: &mut ErrorList) {
    if *ratio < Quantity::from_value(1, Format::DecimalSi) {
        errors.invalid(at, ratio.to_string(), format!("ratio {ratio} is less than 1"));
    }
    let (Some(min), Some(max)) = (min, max) else { return };
    let fine = [ratio, min, max].iter().all(|amount| amount.value() < MAX_MILLI);
    let (wanted, most) = if fine {
        (ratio.milli_value() as f64 / 1000.0, max.milli_value() as f64 / min.milli_value() as f64)
    } else {
        (ratio.value() as f64, max.value() as f64 / min.value() as f64)
    };
    if wanted > most {
        errors.invalid(at, ratio.to_string(), format!("ratio {ratio} is greater than max/min = {most:.6}"));
    }
}
