//! The families of `api`: how upstream's API machinery behaves, one file a family.

mod cron;
mod decode;
mod defaulting;
mod downward;
mod fieldset;
mod kinds;
mod names;
mod patch;
mod podhelpers;
mod quantity;
mod selectors;
mod ssa;
mod status;
mod validation;

use serde_json::Value;

use crate::Family;

/// Every family of `api`. A new one is one more line here.
pub(crate) const FAMILIES: &[Family] = &[
    Family { name: "cron", run: cron::run, same: equal },
    Family { name: "decode", run: decode::run, same: decode::same },
    Family { name: "defaulting", run: defaulting::run, same: defaulting::same },
    Family { name: "downward", run: downward::run, same: equal },
    Family { name: "fieldset", run: fieldset::run, same: equal },
    Family { name: "names", run: names::run, same: equal },
    Family { name: "patch", run: patch::run, same: equal },
    Family { name: "podhelpers", run: podhelpers::run, same: equal },
    Family { name: "quantity", run: quantity::run, same: quantity::same },
    Family { name: "selectors", run: selectors::run, same: equal },
    Family { name: "ssa", run: ssa::run, same: equal },
    Family { name: "status", run: status::run, same: equal },
    Family { name: "validation", run: validation::run, same: validation::same },
    Family { name: "validation_update", run: validation::run_update, same: validation::same },
];

fn equal(found: &Value, expected: &Value) -> bool {
    found == expected
}

/// Reads a part of a vector's input; one that is missing is the type's zero value, as in Go.
fn read<T: serde::de::DeserializeOwned + Default>(value: &Value) -> T {
    serde_json::from_value::<Option<T>>(value.clone()).ok().flatten().unwrap_or_default()
}
