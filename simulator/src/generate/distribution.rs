//! Distributions of times and amounts.

use std::path::{Path, PathBuf};

use rand::RngExt;
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

use super::fit;
use crate::traces::TraceError;

/// How likely a number is. Where it stands says what the number is of and in which unit.
///
/// ```
/// use longshore_simulator::generate::Distribution;
///
/// let fails: Distribution = serde_saphyr::from_str("weibull: { shape: 0.7, scale: 300 }")?;
/// assert_eq!(fails, Distribution::Weibull { shape: 0.7, scale: 300.0 });
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Distribution {
    /// Always this.
    Constant(f64),
    /// Each number of a range as likely.
    Uniform {
        /// The smallest.
        from: f64,
        /// The largest.
        to: f64,
    },
    /// The time between events that do not know of each other.
    Exponential {
        /// Its mean.
        mean: f64,
    },
    /// With `shape` below 1 what has lasted long will last longer, as jobs do; above 1 what is old fails.
    Weibull {
        /// k.
        shape: f64,
        /// λ: 63 % are smaller.
        #[serde(alias = "scaleSeconds")]
        scale: f64,
    },
    /// The logarithm is normal.
    LogNormal {
        /// Half are smaller.
        median: f64,
        /// The standard deviation of the natural logarithm.
        sigma: f64,
    },
    /// As these samples are: each number between the smallest and the largest of them, by straight lines between neighbours.
    Empirical(Samples),
    /// Of this family, with the parameters under which these samples are most likely.
    Fitted {
        /// The family.
        family: Family,
        /// What it shall resemble.
        to: Samples,
    },
    /// Bins of equal or unequal width, each number in a bin as likely.
    Histogram {
        /// Where bins begin and end: one more than there are bins, ascending.
        bounds: Vec<f64>,
        /// How likely each bin is, relative to the others.
        weights: Vec<f64>,
    },
}

/// Numbers that were measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Samples {
    /// These.
    Values(Vec<f64>),
    /// Those in a file, one in a line.
    File(PathBuf),
}

/// Families of distributions that can be fitted to samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Family {
    /// [`Distribution::Exponential`].
    Exponential,
    /// [`Distribution::Weibull`].
    Weibull,
    /// [`Distribution::LogNormal`].
    LogNormal,
}

impl Distribution {
    /// Checks the parameters and reads samples, from files that are relative to `base`.
    ///
    /// # Errors
    /// A parameter cannot be, or a file cannot be read.
    pub fn sampler(&self, base: &Path) -> Result<Sampler, TraceError> {
        let wrong = |reason: &str| TraceError::Setting { what: "distribution", reason: format!("{self:?}: {reason}") };
        let positive = |number: f64| number.is_finite() && number > 0.0;
        Ok(Sampler(match self {
            Self::Constant(value) if value.is_finite() && *value >= 0.0 => Kind::Constant(*value),
            Self::Constant(_) => return Err(wrong("it must be a number from 0")),
            Self::Uniform { from, to } if to.is_finite() && *from >= 0.0 && from <= to => {
                Kind::Steps { numbers: vec![*from, *to], parts: vec![0.0, 1.0] }
            }
            Self::Uniform { .. } => return Err(wrong("from must be at least 0, and to not less")),
            Self::Exponential { mean } if positive(*mean) => Kind::Weibull { shape: 1.0, scale: *mean },
            Self::Exponential { .. } => return Err(wrong("the mean must be more than 0")),
            Self::Weibull { shape, scale } if positive(*shape) && positive(*scale) => {
                Kind::Weibull { shape: *shape, scale: *scale }
            }
            Self::Weibull { .. } => return Err(wrong("shape and scale must be more than 0")),
            Self::LogNormal { median, sigma } if positive(*median) && sigma.is_finite() && *sigma >= 0.0 => {
                Kind::LogNormal { mu: median.ln(), sigma: *sigma }
            }
            Self::LogNormal { .. } => return Err(wrong("the median must be more than 0, and sigma at least 0")),
            Self::Empirical(samples) => {
                let mut numbers = samples.read(base)?;
                numbers.sort_by(f64::total_cmp);
                let last = (numbers.len() - 1).max(1) as f64;
                let parts = (0..numbers.len()).map(|place| place as f64 / last).collect();
                Kind::Steps { numbers, parts }
            }
            Self::Fitted { family, to } => {
                let fitted = fit::fit(*family, &to.read(base)?).map_err(|reason| wrong(&reason))?;
                return fitted.sampler(base);
            }
            Self::Histogram { bounds, weights } => histogram(bounds, weights).map_err(|reason| wrong(&reason))?,
        }))
    }
}

fn histogram(bounds: &[f64], weights: &[f64]) -> Result<Kind, String> {
    if weights.is_empty() || bounds.len() != weights.len() + 1 {
        return Err("there must be one bound more than weights".to_owned());
    }
    let ascending = bounds.windows(2).all(|pair| pair[0] <= pair[1]);
    if !ascending || bounds.iter().any(|bound| !bound.is_finite() || *bound < 0.0) {
        return Err("bounds must be at least 0 and ascend".to_owned());
    }
    let total: f64 = weights.iter().sum();
    if !total.is_finite() || total <= 0.0 || weights.iter().any(|weight| *weight < 0.0) {
        return Err("weights must be at least 0, and one of them more".to_owned());
    }
    let mut sum = 0.0;
    let ends = weights.iter().map(|weight| {
        sum += weight;
        sum / total
    });
    Ok(Kind::Steps { numbers: bounds.to_vec(), parts: std::iter::once(0.0).chain(ends).collect() })
}

impl Samples {
    /// The samples, at least one.
    fn read(&self, base: &Path) -> Result<Vec<f64>, TraceError> {
        let wrong = |reason: String| TraceError::Setting { what: "samples", reason };
        let numbers = match self {
            Self::Values(values) => values.clone(),
            Self::File(file) => {
                let file = base.join(file);
                let text =
                    std::fs::read_to_string(&file).map_err(|source| TraceError::Read { file: file.clone(), source })?;
                let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
                let number = |(line, number): (&str, u64)| {
                    let bad = || wrong(format!("{}: line {number} is {line:?}: it must be a number", file.display()));
                    line.trim().parse().map_err(|_| bad())
                };
                lines.map(number).collect::<Result<_, _>>()?
            }
        };
        match numbers.iter().find(|number| !number.is_finite() || **number < 0.0) {
            Some(number) => Err(wrong(format!("{number} is among them: all must be numbers from 0"))),
            None if numbers.is_empty() => Err(wrong("there is none".to_owned())),
            None => Ok(numbers),
        }
    }
}

/// Draws numbers of a distribution.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampler(Kind);

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Constant(f64),
    Weibull {
        shape: f64,
        scale: f64,
    },
    LogNormal {
        mu: f64,
        sigma: f64,
    },
    /// Up to each number there is such a part of all; straight lines between.
    Steps {
        numbers: Vec<f64>,
        parts: Vec<f64>,
    },
}

impl Sampler {
    /// A number: not negative, and finite.
    pub fn draw(&self, rng: &mut Pcg64) -> f64 {
        let number = match &self.0 {
            Kind::Constant(value) => *value,
            // By the inverse of the distribution's function.
            Kind::Weibull { shape, scale } => scale * (-unit(rng).ln()).powf(1.0 / shape),
            Kind::LogNormal { mu, sigma } => (mu + sigma * normal(rng)).exp(),
            Kind::Steps { numbers, parts } => step(numbers, parts, 1.0 - unit(rng)),
        };
        number.clamp(0.0, f64::MAX)
    }
}

/// From 0 to 1, never 0.
fn unit(rng: &mut Pcg64) -> f64 {
    1.0 - rng.random::<f64>()
}

/// A number of the standard normal distribution (Box and Muller).
fn normal(rng: &mut Pcg64) -> f64 {
    (-2.0 * unit(rng).ln()).sqrt() * (std::f64::consts::TAU * unit(rng)).cos()
}

fn step(numbers: &[f64], parts: &[f64], part: f64) -> f64 {
    let next = parts.partition_point(|reached| *reached <= part).min(parts.len().saturating_sub(1));
    let before = next.saturating_sub(1);
    let (Some(low), Some(high)) = (numbers.get(before), numbers.get(next)) else { return 0.0 };
    let (Some(from), Some(to)) = (parts.get(before), parts.get(next)) else { return *low };
    if to > from { low + (high - low) * ((part - from) / (to - from)).clamp(0.0, 1.0) } else { *high }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn draws(distribution: &Distribution) -> Vec<f64> {
        let sampler = distribution.sampler(Path::new("")).unwrap();
        let mut rng = Pcg64::seed_from_u64(7);
        (0..40_000).map(|_| sampler.draw(&mut rng)).collect()
    }

    fn quantile(draws: &[f64], part: f64) -> f64 {
        let mut sorted = draws.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[(part * (sorted.len() - 1) as f64) as usize]
    }

    #[test]
    fn draws_have_the_quantiles_of_their_distribution() {
        let values = Samples::Values(vec![30.0, 10.0, 20.0]);
        for (distribution, quartiles) in [
            (Distribution::Constant(3.0), [3.0, 3.0, 3.0]),
            (Distribution::Uniform { from: 2.0, to: 6.0 }, [3.0, 4.0, 5.0]),
            // -ln(1 - p) of the mean.
            (Distribution::Exponential { mean: 10.0 }, [2.877, 6.931, 13.863]),
            // scale · (-ln(1 - p))^(1/shape)
            (Distribution::Weibull { shape: 2.0, scale: 10.0 }, [5.364, 8.326, 11.774]),
            // median · e^(±0.6745 sigma)
            (Distribution::LogNormal { median: 10.0, sigma: 1.0 }, [5.094, 10.0, 19.63]),
            (Distribution::Empirical(values), [15.0, 20.0, 25.0]),
            (
                Distribution::Histogram { bounds: vec![0.0, 1.0, 5.0, 6.0], weights: vec![1.0, 0.0, 1.0] },
                [0.5, 1.0, 5.5],
            ),
        ] {
            let draws = draws(&distribution);
            for (part, expected) in [0.25, 0.5, 0.75].into_iter().zip(quartiles) {
                let found = quantile(&draws, part);
                let tolerance = if (part, expected) == (0.5, 1.0) { 4.1 } else { 0.03 * expected };
                assert!((found - expected).abs() <= tolerance, "{distribution:?}: {part}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn what_cannot_be_is_refused_and_named() {
        for (text, expected) in [
            ("constant: -1", "from 0"),
            ("uniform: { from: 2, to: 1 }", "not less"),
            ("exponential: { mean: 0 }", "more than 0"),
            ("weibull: { shape: 0, scale: 1 }", "more than 0"),
            ("logNormal: { median: 1, sigma: -1 }", "at least 0"),
            ("empirical: { values: [] }", "there is none"),
            ("empirical: { values: [1, -2] }", "-2 is among them"),
            ("empirical: { file: nowhere.txt }", "nowhere.txt"),
            ("histogram: { bounds: [0, 1], weights: [] }", "one bound more"),
            ("histogram: { bounds: [1, 0], weights: [1] }", "ascend"),
            ("histogram: { bounds: [0, 1], weights: [0] }", "one of them more"),
            ("fitted: { family: weibull, to: { values: [0, 0] } }", "more than 0"),
        ] {
            let distribution: Distribution = serde_saphyr::from_str(text).unwrap();
            let error = distribution.sampler(Path::new("/here")).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(serde_saphyr::from_str::<Distribution>("weibull: { shape: 1, scale: 1, extra: 2 }").is_err());
    }

    #[test]
    fn samples_of_a_file_are_read_and_a_bad_line_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("good"), "1\n\n 2.5 \n").unwrap();
        std::fs::write(directory.path().join("bad"), "1\nx\n").unwrap();
        let read = |name: &str| Samples::File(name.into()).read(directory.path());
        assert_eq!(read("good").unwrap(), [1.0, 2.5]);
        assert!(read("bad").unwrap_err().to_string().contains("line 2 is \"x\""));
    }
}
