//! A whole number of billionths.

use std::cmp::Ordering;

use num_bigint::{BigInt, Sign};

use super::Format;

/// Digits after the point.
pub(super) const NANO: i32 = -9;

/// A whole number of billionths, in 128 bits where it fits: then it is always `Small`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Amount {
    Small(i128),
    Big(Box<BigInt>),
}

impl Default for Amount {
    fn default() -> Self {
        Self::Small(0)
    }
}

impl From<BigInt> for Amount {
    fn from(big: BigInt) -> Self {
        i128::try_from(&big).map_or_else(|_| Self::Big(Box::new(big)), Self::Small)
    }
}

impl Amount {
    fn big(&self) -> BigInt {
        match self {
            Self::Small(small) => BigInt::from(*small),
            Self::Big(big) => (**big).clone(),
        }
    }

    /// `value` times ten to the power of `scale`, which is at least that of a billionth.
    pub(super) fn from_scaled(value: i64, scale: i32) -> Self {
        let factor = u32::try_from(scale - NANO).ok().and_then(|power| 10_i128.checked_pow(power));
        match factor.and_then(|factor| i128::from(value).checked_mul(factor)) {
            Some(small) => Self::Small(small),
            None => Self::rounded_up(BigInt::from(value), scale),
        }
    }

    /// `value` times ten to the power of `scale`, rounded away from zero to billionths.
    pub(super) fn rounded_up(value: BigInt, scale: i32) -> Self {
        let shift = scale - NANO;
        if shift >= 0 {
            (value * power_of_ten(shift)).into()
        } else {
            divide_away(&value, &power_of_ten(-shift)).0.into()
        }
    }

    pub(super) fn sign(&self) -> i32 {
        match self {
            Self::Small(small) => i32::try_from(small.signum()).expect("a sign is -1, 0 or 1"),
            Self::Big(big) => match big.sign() {
                Sign::Minus => -1,
                Sign::NoSign => 0,
                Sign::Plus => 1,
            },
        }
    }

    pub(super) fn add(&self, other: &Self) -> Self {
        if let (Self::Small(a), Self::Small(b)) = (self, other)
            && let Some(sum) = a.checked_add(*b)
        {
            return Self::Small(sum);
        }
        (self.big() + other.big()).into()
    }

    pub(super) fn sub(&self, other: &Self) -> Self {
        if let (Self::Small(a), Self::Small(b)) = (self, other)
            && let Some(difference) = a.checked_sub(*b)
        {
            return Self::Small(difference);
        }
        (self.big() - other.big()).into()
    }

    pub(super) fn neg(&self) -> Self {
        Self::Small(0).sub(self)
    }

    /// In units of ten to the power of `scale`, rounded away from zero, the nearest that fits 64 bits.
    pub(super) fn scaled(&self, scale: i32) -> i64 {
        let shift = scale - NANO;
        if let (Self::Small(small), 0..=38) = (self, shift) {
            let divisor = 10_i128.pow(shift.unsigned_abs());
            let rounded = small / divisor + if small % divisor == 0 { 0 } else { small.signum() };
            return clamp(rounded);
        }
        let rounded = if shift >= 0 {
            divide_away(&self.big(), &power_of_ten(shift)).0
        } else {
            self.big() * power_of_ten(-shift)
        };
        match i64::try_from(&rounded) {
            Ok(value) => value,
            Err(_) if rounded.sign() == Sign::Minus => i64::MIN,
            Err(_) => i64::MAX,
        }
    }

    /// Whole units, if it is a whole number that fits 64 bits.
    pub(super) fn exact_units(&self) -> Option<i64> {
        let Self::Small(small) = self else { return None };
        (small % 1_000_000_000 == 0).then(|| i64::try_from(small / 1_000_000_000).ok()).flatten()
    }

    /// Whether it is a whole number of ten to the power of `scale` that fits 64 bits.
    pub(super) fn fits_scaled(&self, scale: i32) -> bool {
        let power = scale - NANO;
        if let (Self::Small(small), Some(divisor)) =
            (self, u32::try_from(power).ok().and_then(|power| 10_i128.checked_pow(power)))
        {
            return small % divisor == 0 && i64::try_from(small / divisor).is_ok();
        }
        if power < 0 {
            return false;
        }
        let (quotient, exact) = divide_away(&self.big(), &power_of_ten(power));
        exact && i64::try_from(&quotient).is_ok()
    }

    /// Whether it is no whole number of ten to the power of `scale`.
    pub(super) fn has_fraction(&self, scale: i32) -> bool {
        scale > NANO && !divide_away(&self.big(), &power_of_ten(scale - NANO)).1
    }

    /// Rounded away from zero to a multiple of ten to the power of `scale`, and whether it was one.
    pub(super) fn rounded(&self, scale: i32) -> (Self, bool) {
        if scale <= NANO {
            return (self.clone(), true);
        }
        let unit = power_of_ten(scale - NANO);
        let (quotient, exact) = divide_away(&self.big(), &unit);
        ((quotient * unit).into(), exact)
    }

    pub(super) fn as_f64(&self) -> f64 {
        // The parser of the standard library rounds to nearest, which no arithmetic on rounded parts does.
        format!("{}e{NANO}", self.big()).parse().expect("digits and an exponent are a number")
    }

    /// As upstream prints it.
    pub(super) fn canonical(&self, format: Format) -> String {
        const KIBI: i64 = 1024;
        if self.sign() == 0 {
            return "0".to_owned();
        }
        let (units, exact) = divide_away(&self.big(), &power_of_ten(-NANO));
        let small = self > &Self::from_scaled(-KIBI, 0) && self < &Self::from_scaled(KIBI, 0);
        if format == Format::BinarySi && exact && !small {
            let (number, power) = strip(units, 1024, 6);
            return format!("{number}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]);
        }
        let steps_max = if format == Format::DecimalExponent { usize::MAX } else { 9 };
        let (number, power) = strip(self.big(), 1000, steps_max);
        if format == Format::DecimalExponent {
            return match i64::try_from(power).expect("a number of divisions is small") * 3 + i64::from(NANO) {
                0 => number.to_string(),
                exponent => format!("{number}e{exponent}"),
            };
        }
        format!("{number}{}", ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][power])
    }
}

impl PartialOrd for Amount {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Amount {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Small(a), Self::Small(b)) => a.cmp(b),
            _ => self.big().cmp(&other.big()),
        }
    }
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

fn power_of_ten(power: i32) -> BigInt {
    BigInt::from(10).pow(power.unsigned_abs())
}

/// The quotient rounded away from zero, and whether nothing remained.
fn divide_away(value: &BigInt, divisor: &BigInt) -> (BigInt, bool) {
    let (quotient, remainder) = (value / divisor, value % divisor);
    match remainder.sign() {
        Sign::NoSign => (quotient, true),
        Sign::Plus => (quotient + 1, false),
        Sign::Minus => (quotient - 1, false),
    }
}

/// Divides by `factor` as often as nothing remains, at most `most` times.
fn strip(mut number: BigInt, factor: i32, most: usize) -> (BigInt, usize) {
    let mut power = 0;
    while power < most {
        let quotient = &number / factor;
        if &quotient * factor != number {
            break;
        }
        number = quotient;
        power += 1;
    }
    (number, power)
}
