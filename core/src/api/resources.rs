//! Amounts of resources by name.

use std::collections::BTreeMap;

use crate::quantity::Quantity;

/// Amounts by name of resource, such as `cpu` or `memory`.
pub type ResourceList = BTreeMap<String, Quantity>;

/// Rounds amounts up to thousandths, the finest that the API keeps.
pub(crate) fn round_up(list: &mut ResourceList) {
    const MILLI: i32 = -3;
    for amount in list.values_mut() {
        amount.round_up(MILLI);
    }
}
