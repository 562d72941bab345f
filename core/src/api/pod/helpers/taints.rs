//! Taints of a node and tolerations of a pod.

use crate::api::node::Taint;
use crate::api::pod::{Toleration, TolerationOperator};

/// Whether a toleration puts up with a taint. Comparing by number is an alpha feature of upstream, off by default, so
/// the operators `Lt` and `Gt` tolerate nothing.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    (toleration.effect.is_empty() || toleration.effect == taint.effect.as_str())
        && (toleration.key.is_empty() || toleration.key == taint.key)
        && match toleration.operator {
            TolerationOperator::Unset | TolerationOperator::Equal => toleration.value == taint.value,
            TolerationOperator::Exists => true,
            _ => false,
        }
}

/// The first taint, among those that `counts` accepts, that no toleration puts up with.
pub fn find_untolerated_taint<'a>(
    taints: &'a [Taint],
    tolerations: &[Toleration],
    counts: impl Fn(&Taint) -> bool,
) -> Option<&'a Taint> {
    let tolerated = |taint: &Taint| tolerations.iter().any(|toleration| tolerates(toleration, taint));
    taints.iter().find(|taint| counts(taint) && !tolerated(taint))
}
