//! Nomad's two ways to score a node.

use super::{Use, prefers_by_use};

/// The best score before it is made comparable.
const BEST: f64 = 18.0;

/// `10^(part of CPU left) + 10^(part of memory left)`: 20 for an idle node, 2 for a full one. Of GPUs nothing is said.
fn total(uses: &[Use]) -> f64 {
    uses.iter().take(2).map(|it| 10_f64.powf(it.left())).sum()
}

/// Prefers nodes that would be full, as HashiCorp Nomad's `binpack` does: `20 − (10^cpu left + 10^memory left)`, from 0 to 18, of which
/// 18 is a score of 100.
///
/// The formula of `ScoreFitBinPack` in Nomad's `nomad/structs/funcs.go`, which calls it "BestFit v3" after a talk on Google's clusters. Nomad
/// scores a few nodes in random order only; here all are.
#[derive(Debug, Clone, Copy, Default)]
pub struct NomadBinpack;

impl NomadBinpack {
    fn of_uses(uses: &[Use]) -> f64 {
        (20.0 - total(uses)).clamp(0.0, BEST) / BEST
    }
}

prefers_by_use!(NomadBinpack, "NomadBinpack");

/// Prefers nodes that would be empty, as HashiCorp Nomad's `spread` does: `10^cpu left + 10^memory left − 2`, from 0 to 18, of which 18 is a
/// score of 100. (`ScoreFitSpread`; see [`NomadBinpack`].)
#[derive(Debug, Clone, Copy, Default)]
pub struct NomadSpread;

impl NomadSpread {
    fn of_uses(uses: &[Use]) -> f64 {
        (total(uses) - 2.0).clamp(0.0, BEST) / BEST
    }
}

prefers_by_use!(NomadSpread, "NomadSpread");
