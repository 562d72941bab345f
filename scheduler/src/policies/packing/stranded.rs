//! Borg's hybrid between best fit and as little as possible out of reach.

use super::{Use, mean, prefers_by_use};

/// Prefers, in equal parts, nodes of which little would be left, and nodes where the pod strands little, or frees what was stranded.
///
/// Large-scale cluster management at Google with Borg (Verma et al., EuroSys '15, § 3.2) says that Borg's hybrid tries to reduce
/// resources that cannot be used because another one on the machine is used up, and packs 3 to 5 % better than best fit; not how it
/// measures. Here, what of a resource is out of reach is the part left beyond that of the scarcest one, and a node's is the mean over
/// its resources. The score is `100 · ½ (1 − left) + 100 · ½ · ½ (1 − (stranded after − stranded before))`.
#[derive(Debug, Clone, Copy, Default)]
pub struct StrandedResources;

impl StrandedResources {
    fn of_uses(uses: &[Use]) -> f64 {
        let more = stranded(uses, |it| it.left()) - stranded(uses, |it| 1.0 - it.before());
        let packed = mean(uses, |it| it.after());
        0.5 * packed + 0.25 * (1.0 - more)
    }
}

/// The mean part left beyond what is left of the scarcest.
fn stranded(uses: &[Use], left: impl Fn(&Use) -> f64) -> f64 {
    let scarcest = uses.iter().map(&left).fold(1.0, f64::min);
    mean(uses, |it| left(it) - scarcest)
}

prefers_by_use!(StrandedResources, "StrandedResources");
