//! Arithmetic on 64 neighbouring nodes at once.
//!
//! A pod of a shape that nobody had before is scored on every node, and then divisions are most of the work. In floating
//! point the compiler turns them into vector instructions; below 2^45 that is exact, and what is not is left to the caller.

#![allow(unsafe_code, reason = "instructions that only some processors have are called for after they were looked for")]

/// How many nodes go together: those of one word of a node set.
pub(super) const LANES: usize = 64;

/// From here on whole numbers may not be exact in floating point.
const INEXACT: f64 = 4_503_599_627_370_496.0;
/// Amounts below this are exact, and a hundred times as much, too.
const AMOUNT_MAX: u64 = 1 << 45;

/// A number for each of the nodes.
pub(super) type Lane = [f64; LANES];

/// What nodes have of a resource, and what would be taken of it.
pub(super) struct Lanes {
    pub(super) taken: Lane,
    pub(super) there: Lane,
}

impl Lanes {
    pub(super) const ZERO: Self = Self { taken: [0.0; LANES], there: [0.0; LANES] };

    /// Takes the 64 nodes from `start` on, with `more` taken of each; false if that is not exact, or one has none of it.
    #[must_use]
    pub(super) fn load(&mut self, taken: &[i64], there: &[i64], more: i64, start: usize) -> bool {
        let Some((taken, there)) = chunk(taken, start).zip(chunk(there, start)) else { return false };
        let (mut bits, mut none) = (0, false);
        for lane in 0..LANES {
            let (taken, there) = (taken[lane].wrapping_add(more).cast_unsigned(), there[lane].cast_unsigned());
            bits |= taken | there;
            self.taken[lane] = small(taken);
            self.there[lane] = small(there);
            none |= self.there[lane] == 0.0;
        }
        bits < AMOUNT_MAX && !none
    }
}

/// Runs this with the widest vectors of floating point that this processor has; what is compiled into it (mark it
/// `#[inline(always)]`) uses them. The results are the same to the bit: one operation of theirs is many of the narrow ones.
#[inline]
pub(super) fn widest<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn wide<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: the processor has what `wide` is compiled for, as was just asked.
        return unsafe { wide(work) };
    }
    work()
}

/// What a column has for the 64 nodes from `start` on; `None` if it ends before.
pub(super) fn chunk(column: &[i64], start: usize) -> Option<&[i64; LANES]> {
    column.get(start..start + LANES)?.try_into().ok()
}

/// A number below 2^52; anything for others. Written so that it needs no conversion instruction, of which there is none for
/// vectors of 64-bit integers.
fn small(number: u64) -> f64 {
    f64::from_bits(number | INEXACT.to_bits()) - INEXACT
}

/// The whole number that a number from 0 to 2^51 is.
pub(super) fn whole(number: f64) -> i64 {
    ((number + INEXACT).to_bits() ^ INEXACT.to_bits()).cast_signed()
}

/// The next whole number, below or above.
fn nearest(number: f64) -> f64 {
    (number + INEXACT) - INEXACT
}

/// The largest whole number that is not more than this.
pub(super) fn floor(number: f64) -> f64 {
    let near = nearest(number);
    if near > number { near - 1.0 } else { near }
}

/// The quotient of whole numbers, truncated; exact where their product with it is below 2^52.
pub(super) fn quotient(dividend: f64, divisor: f64) -> f64 {
    let near = nearest(dividend / divisor);
    if near * divisor > dividend { near - 1.0 } else { near }
}

#[cfg(test)]
#[expect(clippy::float_cmp, clippy::cast_precision_loss, reason = "all of this is to be exact")]
mod tests {
    use super::*;

    #[test]
    fn quotients_are_those_of_integers() {
        for dividend in (0..3000_i64).chain([(1 << 44) * 100, ((1 << 44) - 1) * 100]) {
            for divisor in [1, 2, 3, 7, 99, 100, 101, 1 << 44] {
                let expected = dividend / divisor;
                if expected * divisor < 1 << 52 {
                    assert_eq!(quotient(dividend as f64, divisor as f64), expected as f64, "{dividend} / {divisor}");
                }
            }
        }
    }

    #[test]
    fn floors_are_those_of_floating_point() {
        for number in (0..2000).map(|n| f64::from(n) / 16.0).chain([0.1 + 0.2, 99.999_999_999_999_99, 100.0]) {
            assert_eq!(floor(number), number.floor(), "{number}");
            assert_eq!(whole(floor(number)) as f64, number.floor(), "{number}");
        }
    }

    #[test]
    fn what_is_not_exact_is_left_alone() {
        let (ones, mut odd, mut lanes) = ([1; LANES], [1; LANES], Lanes::ZERO);
        assert!(lanes.load(&ones, &ones, 5, 0));
        assert_eq!(lanes.taken, [6.0; LANES]);
        assert!(!lanes.load(&ones, &ones, 5, 1), "the columns end");
        for value in [0, -1, 1 << 45, i64::MAX] {
            odd[17] = value;
            assert!(!lanes.load(&ones, &odd, 0, 0), "{value}");
        }
        assert!(!lanes.load(&ones, &ones, -5, 0));
    }
}
