//! How values are spread, in bounded memory.

use std::collections::BTreeMap;

/// How many of a number's leading bits tell its class: sign, exponent and seven of the fraction, so that a class is less than 1 % wide.
const CLASS_SHIFT: u32 = 52 - 7;

/// Values that are not negative: their mean as it is, quantiles to within 1 %, whatever their number. Logarithms would be as good, but
/// differ from machine to machine; a number's own bits do not.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Distribution {
    classes: BTreeMap<u64, u64>,
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
}

impl Distribution {
    /// Adds a value; what is negative or no number counts as 0.
    pub fn add(&mut self, value: f64) {
        self.add_many(value, 1);
    }

    /// Adds a value so many times.
    pub fn add_many(&mut self, value: f64, times: u64) {
        if times == 0 {
            return;
        }
        let value = if value > 0.0 { value } else { 0.0 };
        (self.min, self.max) =
            if self.count == 0 { (value, value) } else { (self.min.min(value), self.max.max(value)) };
        self.count += times;
        self.sum += value * times as f64;
        *self.classes.entry(value.to_bits() >> CLASS_SHIFT).or_default() += times;
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; 0 if there are none.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }

    /// The largest; 0 if there are none.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// The value that so many of all do not pass, from 0 to 1: the nearest rank; 0 if there are none.
    pub fn quantile(&self, part: f64) -> f64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to the count")]
        let rank = ((part * self.count as f64).ceil().max(1.0)) as u64;
        let mut seen = 0;
        let class = self.classes.iter().find(|(_, count)| {
            seen += **count;
            seen >= rank
        });
        let Some((class, _)) = class else { return self.max };
        // The least number of the class: that of round numbers is themselves.
        f64::from_bits(class << CLASS_SHIFT).clamp(self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near_and_means_exact() {
        let mut all = Distribution::default();
        assert_eq!((all.mean(), all.quantile(0.5), all.max()), (0.0, 0.0, 0.0));
        (1..=1000).for_each(|value| all.add(f64::from(value)));
        assert_eq!((all.count(), all.mean(), all.max()), (1000, 500.5, 1000.0));
        for (part, exact) in [(0.0, 1.0), (0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (1.0, 1000.0)] {
            let near = all.quantile(part);
            assert!((near - exact).abs() <= 0.01 * exact, "{part}: {near}");
        }
    }

    #[test]
    fn zeros_stay_zeros_and_no_number_does_no_harm() {
        let mut all = Distribution::default();
        all.add_many(0.0, 99);
        all.add_many(7.0, 0);
        all.add(f64::NAN);
        all.add(-3.0);
        all.add(5.0);
        assert_eq!((all.count(), all.quantile(0.9), all.max()), (102, 0.0, 5.0));
        assert!((all.quantile(1.0) - 5.0).abs() < 0.05);
        all.add(f64::INFINITY);
        assert_eq!(all.quantile(1.0), f64::INFINITY);
    }
}
