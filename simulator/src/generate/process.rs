//! When things arrive.

use std::path::Path;
use std::time::Duration;

use rand::RngExt;
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

use super::distribution::{Distribution, Sampler};
use crate::traces::TraceError;

/// Later than any experiment ends, in seconds.
const LATEST: f64 = 3.2e9;

/// When things arrive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Process {
    /// One after another, so far apart, the first at once. With 0, all at once.
    #[serde(rename_all = "camelCase")]
    Every {
        /// How far.
        seconds: f64,
    },
    /// Each without knowing of the others.
    #[serde(rename_all = "camelCase")]
    Poisson {
        /// How many in the mean.
        rate_per_second: f64,
    },
    /// Apart from each other as a distribution says.
    #[serde(rename_all = "camelCase")]
    Renewal {
        /// How far.
        gap_seconds: Distribution,
    },
    /// Poisson with a rate that follows a sine, such as that of a day.
    #[serde(rename_all = "camelCase")]
    Diurnal {
        /// How many in the mean.
        rate_per_second: f64,
        /// How much the rate moves, as a part of the mean: from 0 to 1.
        amplitude: f64,
        /// How long until it comes again; by default a day.
        #[serde(default = "day")]
        period_seconds: f64,
        /// When the rate is highest for the first time.
        #[serde(default)]
        peak_seconds: f64,
    },
    /// Poisson with a rate that changes from stretch to stretch, and begins again after the last, such as that of the hours of a week.
    #[serde(rename_all = "camelCase")]
    Rates {
        /// How long each stretch is.
        each_seconds: f64,
        /// The rate in each.
        per_second: Vec<f64>,
    },
}

fn day() -> f64 {
    86_400.0
}

impl Process {
    /// The moments, endless and ascending.
    ///
    /// # Errors
    /// A parameter cannot be.
    pub fn moments(
        &self,
        base: &Path,
        rng: Pcg64,
    ) -> Result<impl Iterator<Item = Duration> + Send + use<>, TraceError> {
        Ok(Moments { gaps: self.gaps(base)?, now: 0.0, first: true, rng })
    }

    fn gaps(&self, base: &Path) -> Result<Gaps, TraceError> {
        let wrong = |reason: &str| TraceError::Setting { what: "arrivals", reason: format!("{self:?}: {reason}") };
        let positive = |number: f64| number.is_finite() && number > 0.0;
        let rate = |rate: f64| if positive(rate) { Ok(rate) } else { Err(wrong("the rate must be more than 0")) };
        Ok(match self {
            Self::Every { seconds } if seconds.is_finite() && *seconds >= 0.0 => Gaps::Every(*seconds),
            Self::Every { .. } => return Err(wrong("it must be at least 0")),
            Self::Poisson { rate_per_second } => Gaps::Thinned { most: rate(*rate_per_second)?, rate: Rate::Most },
            Self::Renewal { gap_seconds } => Gaps::Drawn(gap_seconds.sampler(base)?),
            Self::Diurnal { rate_per_second, amplitude, period_seconds, peak_seconds } => {
                if !(0.0..=1.0).contains(amplitude) || !positive(*period_seconds) || !peak_seconds.is_finite() {
                    return Err(wrong("the amplitude must be from 0 to 1, and the period more than 0"));
                }
                let mean = rate(*rate_per_second)?;
                let wave = Rate::Wave { mean, amplitude: *amplitude, period: *period_seconds, peak: *peak_seconds };
                Gaps::Thinned { most: mean * (1.0 + amplitude), rate: wave }
            }
            Self::Rates { each_seconds, per_second } => {
                let most = per_second.iter().copied().fold(0.0, f64::max);
                if !positive(*each_seconds)
                    || !positive(most)
                    || per_second.iter().any(|rate| rate.is_nan() || *rate < 0.0)
                {
                    return Err(wrong("stretches must be longer than 0, rates at least 0, and one of them more"));
                }
                Gaps::Thinned { most, rate: Rate::Stretches { each: *each_seconds, rates: per_second.clone() } }
            }
        })
    }
}

enum Gaps {
    Every(f64),
    Drawn(Sampler),
    /// At the highest rate, of which as many stay as the rate of the moment is a part of it (Lewis and Shedler, Simulation of nonhomogeneous Poisson
    /// processes by thinning, 1979).
    Thinned {
        most: f64,
        rate: Rate,
    },
}

enum Rate {
    Most,
    Wave { mean: f64, amplitude: f64, period: f64, peak: f64 },
    Stretches { each: f64, rates: Vec<f64> },
}

impl Rate {
    fn at(&self, now: f64, most: f64) -> f64 {
        match self {
            Self::Most => most,
            Self::Wave { mean, amplitude, period, peak } => {
                mean * (1.0 + amplitude * (std::f64::consts::TAU * (now - peak) / period).cos())
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to the length")]
            Self::Stretches { each, rates } => {
                let place = (now / each).rem_euclid(rates.len() as f64) as usize;
                rates.get(place).copied().unwrap_or(0.0)
            }
        }
    }
}

struct Moments {
    gaps: Gaps,
    now: f64,
    first: bool,
    rng: Pcg64,
}

impl Iterator for Moments {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        match &self.gaps {
            Gaps::Every(seconds) => self.now += if self.first { 0.0 } else { *seconds },
            Gaps::Drawn(sampler) => self.now += sampler.draw(&mut self.rng),
            Gaps::Thinned { most, rate } => {
                while self.now <= LATEST {
                    self.now -= (1.0 - self.rng.random::<f64>()).ln() / most;
                    if self.rng.random::<f64>() * most < rate.at(self.now, *most) {
                        break;
                    }
                }
            }
        }
        self.first = false;
        (self.now <= LATEST).then(|| Duration::from_secs_f64(self.now))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn seconds(text: &str, until: f64) -> Vec<f64> {
        let process: Process = serde_saphyr::from_str(text).unwrap();
        let moments = process.moments(Path::new(""), Pcg64::seed_from_u64(11)).unwrap();
        moments.map(|moment| moment.as_secs_f64()).take_while(|at| *at < until).take(200_000).collect()
    }

    fn between(moments: &[f64], from: f64, to: f64) -> f64 {
        moments.iter().filter(|at| (from..to).contains(*at)).count() as f64
    }

    #[test]
    fn arrivals_are_as_many_as_their_rate_says() {
        let poisson = seconds("poisson: { ratePerSecond: 2.0 }", 10_000.0);
        assert!((poisson.len() as f64 - 20_000.0).abs() < 4.0 * 20_000_f64.sqrt(), "{}", poisson.len());
        let gaps: Vec<f64> = poisson.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let longer = gaps.iter().filter(|gap| **gap > 0.5).count() as f64 / gaps.len() as f64;
        assert!((longer - (-1.0_f64).exp()).abs() < 0.02, "{longer}");
        assert_eq!(seconds("every: { seconds: 2 }", 7.0), [0.0, 2.0, 4.0, 6.0]);
        assert_eq!(seconds("renewal: { gapSeconds: { constant: 3 } }", 7.0), [3.0, 6.0]);
    }

    #[test]
    fn a_day_has_its_peak() {
        let text = "diurnal: { ratePerSecond: 1.0, amplitude: 0.8, periodSeconds: 1000, peakSeconds: 250 }";
        let moments = seconds(text, 100_000.0);
        assert!((moments.len() as f64 - 100_000.0).abs() < 1500.0, "{}", moments.len());
        let phase: Vec<f64> = moments.iter().map(|at| at % 1000.0).collect();
        // The mean of 1 + 0.8 cos over a tenth of the period around its highest and its lowest point.
        let (high, low) = (between(&phase, 200.0, 300.0) / 10_000.0, between(&phase, 700.0, 800.0) / 10_000.0);
        assert!((high - 1.787).abs() < 0.06 && (low - 0.213).abs() < 0.03, "{high} {low}");
        let stretches = seconds("rates: { eachSeconds: 100, perSecond: [2, 0, 1] }", 30_000.0);
        let phase: Vec<f64> = stretches.iter().map(|at| at % 300.0).collect();
        assert_eq!(between(&phase, 100.0, 200.0), 0.0);
        assert!((between(&phase, 0.0, 100.0) / 20_000.0 - 1.0).abs() < 0.05);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for text in [
            "every: { seconds: -1 }",
            "poisson: { ratePerSecond: 0 }",
            "diurnal: { ratePerSecond: 1, amplitude: 2 }",
            "rates: { eachSeconds: 1, perSecond: [] }",
            "rates: { eachSeconds: 1, perSecond: [1, -1] }",
        ] {
            let process: Process = serde_saphyr::from_str(text).unwrap();
            assert!(process.moments(Path::new(""), Pcg64::seed_from_u64(1)).is_err(), "{text}");
        }
        assert!(seconds("poisson: { ratePerSecond: 1e-30 }", f64::INFINITY).is_empty(), "it ends in a century");
    }
}
