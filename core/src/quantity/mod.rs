//! Amounts of resources, such as `100m` CPU or `64Gi` memory: exact, and printed as upstream does
//! (`k8s.io/apimachinery/pkg/api/resource`).
//!
//! The finest unit is one billionth; what is finer is rounded up, away from zero, so that who wants something gets
//! something. Every quantity therefore is a whole number of billionths, held in 128 bits where it fits.

mod amount;
mod parse;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::{AddAssign, Neg, SubAssign};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use amount::Amount;
pub use parse::ParseError;

/// How a quantity is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Format {
    /// With powers of ten: `n u m k M G T P E`.
    #[default]
    DecimalSi,
    /// With an exponent: `1e3`.
    DecimalExponent,
    /// With powers of 1024: `Ki Mi Gi Ti Pi Ei`.
    BinarySi,
}

impl Format {
    /// The format's name as upstream has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DecimalSi => "DecimalSI",
            Self::DecimalExponent => "DecimalExponent",
            Self::BinarySi => "BinarySI",
        }
    }
}

/// An amount of a resource.
///
/// Equality and order are of the amount, not of how it is written: `1000m` equals `1`.
///
/// ```
/// use longshore_core::quantity::Quantity;
///
/// let mut cpu: Quantity = "1500m".parse()?;
/// assert_eq!((cpu.value(), cpu.milli_value()), (2, 1500));
/// cpu += &"1.5".parse()?;
/// assert_eq!(cpu.to_string(), "3");
/// # Ok::<(), longshore_core::quantity::ParseError>(())
/// ```
#[derive(Clone)]
pub struct Quantity {
    nanos: Amount,
    format: Format,
    /// How upstream holds the amount. Decides only what [`Quantity::as_i64`] answers, and how negative amounts are rounded.
    form: Form,
    /// The text it was read from, where upstream prints that instead of the canonical one (`00012`, `1E3`).
    text: Option<Box<str>>,
}

/// Upstream's two ways to hold a number: digits times ten to a power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// 64 bits of digits, and this power.
    Short(i32),
    /// Any number of digits, and this power.
    Long(i32),
}

impl Form {
    fn power(self) -> i32 {
        match self {
            Self::Short(power) | Self::Long(power) => power,
        }
    }
}

impl Quantity {
    /// `value` whole units.
    pub fn from_value(value: i64, format: Format) -> Self {
        Self { nanos: Amount::from_scaled(value, 0), format, form: Form::Short(0), text: None }
    }

    /// `value` thousandths.
    pub fn from_milli(value: i64, format: Format) -> Self {
        Self { nanos: Amount::from_scaled(value, -3), format, form: Form::Short(-3), text: None }
    }

    /// How the quantity is written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whole units, rounded up (away from zero); the nearest that fits if the amount is beyond 64 bits.
    pub fn value(&self) -> i64 {
        self.scaled_value(0)
    }

    /// Thousandths, rounded up (away from zero); the nearest that fits if the amount is beyond 64 bits.
    pub fn milli_value(&self) -> i64 {
        self.scaled_value(-3)
    }

    /// The amount in units of ten to the power of `scale`, rounded up (away from zero); the nearest that fits.
    ///
    /// Kubernetes 1.35 rounds negative amounts differently where it holds them with arbitrary precision (those with a
    /// fraction of a binary unit, and what comes of calculating with them): -2684354558.5 becomes -2684354557, one more
    /// than the next whole unit towards zero. So does this.
    pub fn scaled_value(&self, scale: i32) -> i64 {
        let rounded = self.nanos.scaled(scale);
        match self.form {
            Form::Long(power) if power < scale && self.sign() < 0 && self.nanos.has_fraction(scale) => {
                rounded.saturating_add(if scale - power < 19 { 2 } else { 1 })
            }
            _ => rounded,
        }
    }

    /// The amount as a whole number, if upstream can tell without arbitrary precision (its `AsInt64`).
    pub fn as_i64(&self) -> Option<i64> {
        match self.form {
            Form::Short(0..) => self.nanos.exact_units(),
            _ => None,
        }
    }

    /// The nearest floating-point number.
    pub fn as_f64(&self) -> f64 {
        self.nanos.as_f64()
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.nanos.sign()
    }

    /// Whether the amount is zero.
    pub fn is_zero(&self) -> bool {
        self.sign() == 0
    }

    /// Rounds up (away from zero) to a multiple of ten to the power of `scale`; says whether nothing was lost.
    pub fn round_up(&mut self, scale: i32) -> bool {
        self.form = match self.form {
            Form::Short(power) if power >= scale => return true,
            Form::Short(_) => Form::Short(scale),
            Form::Long(_) => Form::Long(scale),
        };
        self.text = None;
        let (rounded, exact) = self.nanos.rounded(scale);
        self.nanos = rounded;
        exact
    }

    fn combine(&mut self, other: &Self, operation: fn(&Amount, &Amount) -> Amount) {
        let before = self.is_zero();
        if before {
            self.format = other.format;
        }
        self.text = None;
        let result = operation(&self.nanos, &other.nanos);
        let lower = self.form.power().min(other.form.power());
        self.form = match (self.form, other.form) {
            (form @ Form::Short(_), Form::Short(_)) if other.is_zero() => form,
            (Form::Short(_), form @ Form::Short(_)) if before => form,
            (Form::Short(_), Form::Short(_))
                if [&self.nanos, &other.nanos, &result].into_iter().all(|amount| amount.fits_scaled(lower)) =>
            {
                Form::Short(lower)
            }
            _ => Form::Long(lower),
        };
        self.nanos = result;
    }
}

/// The amount with the other sign.
impl Neg for Quantity {
    type Output = Self;

    fn neg(mut self) -> Self {
        self.text = None;
        self.nanos = self.nanos.neg();
        self
    }
}

/// A zero takes over the other's format.
impl AddAssign<&Self> for Quantity {
    fn add_assign(&mut self, other: &Self) {
        self.combine(other, Amount::add);
    }
}

/// A zero takes over the other's format.
impl SubAssign<&Self> for Quantity {
    fn sub_assign(&mut self, other: &Self) {
        self.combine(other, Amount::sub);
    }
}

impl Default for Quantity {
    fn default() -> Self {
        Self { nanos: Amount::default(), format: Format::default(), form: Form::Short(0), text: None }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        parse::parse(text)
    }
}

impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Quantity({self})")
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => f.pad(text),
            None => f.pad(&self.nanos.canonical(self.format)),
        }
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = Quantity;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a quantity such as \"100m\" or 2")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
        text.trim().parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Quantity, E> {
        Ok(Quantity::from_value(value, Format::DecimalSi))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Quantity, E> {
        value.to_string().parse().map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Quantity, E> {
        value.to_string().parse().map_err(E::custom)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Quantity, E> {
        Ok(Quantity::default())
    }
}

impl schemars::JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "format": "quantity", "oneOf": [{ "type": "string" }, { "type": "number" }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        text.parse::<Quantity>().map_or_else(|error| error.to_string(), |quantity| quantity.to_string())
    }

    #[test]
    fn prints_as_upstream() {
        for (text, expected) in [
            ("0", "0"),
            ("0.5", "500m"),
            ("5.", "5."),
            ("1000n", "1u"),
            ("1000m", "1"),
            ("00012", "00012"),
            ("0.5Mi", "512Ki"),
            ("0.1Ki", "102400m"),
            ("1024Ki", "1Mi"),
            ("1E3", "1E3"),
            ("1e2", "100"),
            ("10e2", "1e3"),
            ("1e19", "10e18"),
            ("1e100", "10e99"),
            ("1e-30", "1e-9"),
            ("-0.0", "0"),
            ("2.5k", "2500"),
            ("3.14159Gi", "3373256576860160u"),
            ("123456789.1234567891", "123456789123456790n"),
            ("27007418167410Gi", "9223372036854775807"),
            ("-366802118395150339228P", "-366802118395150339228P"),
            ("8454e-1", "845400e-3"),
            ("Gi", "0"),
            ("1e", "unable to parse quantity's suffix"),
            ("--1", "unable to parse quantity's suffix"),
        ] {
            assert_eq!(canonical(text), expected, "{text}");
        }
        assert!(canonical("").starts_with("quantities must match the regular expression"));
        assert!(canonical("1..2").starts_with("quantities must match the regular expression"));
    }

    #[test]
    fn huge_input_is_refused_quickly() {
        assert!("1e2147483647".parse::<Quantity>().is_err());
        // Upstream cuts exponents to 32 bits.
        assert_eq!(canonical("1e4294967299"), "1e4294967299");
        assert_eq!(canonical("10e4294967298"), "1e3");
        assert!("9".repeat(1_000_000).parse::<Quantity>().is_err());
    }

    #[test]
    fn rounds_away_from_zero() {
        let quantity: Quantity = "-1100m".parse().unwrap();
        assert_eq!((quantity.value(), quantity.milli_value()), (-2, -1100));
        let mut rounded: Quantity = "1500m".parse().unwrap();
        assert!(!rounded.round_up(0));
        assert_eq!(rounded.to_string(), "2");
        // Upstream's other way, for what it holds with arbitrary precision.
        let mut difference: Quantity = "1500m".parse().unwrap();
        difference -= &"2.5Gi".parse().unwrap();
        assert_eq!((difference.to_string().as_str(), difference.value()), ("-2684354558500m", -2_684_354_557));
    }

    #[test]
    fn a_zero_takes_over_the_format() {
        let mut sum = Quantity::default();
        sum += &"1Ki".parse().unwrap();
        assert_eq!((sum.to_string().as_str(), sum.format()), ("1Ki", Format::BinarySi));
        sum -= &"0.5".parse().unwrap();
        assert_eq!(sum.to_string(), "1023500m");
    }

    #[test]
    fn reads_json_strings_and_numbers() {
        let read = |text: &str| serde_json::from_str::<Quantity>(text).map(|quantity| quantity.to_string());
        assert_eq!(read("\" 1Gi \"").unwrap(), "1Gi");
        assert_eq!(read("0.5").unwrap(), "500m");
        assert_eq!(read("12345678901234567890").unwrap(), "12345678901234567890");
        assert!(read("[]").is_err());
    }
}
