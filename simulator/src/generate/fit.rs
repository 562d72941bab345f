//! Parameters under which samples are most likely.

use super::distribution::{Distribution, Family};

/// The distribution of this family that fits the samples best, by maximum likelihood.
///
/// For Weibull the likelihood's equation for the shape is solved by Newton's method, kept within bounds by halving (Balakrishnan and Kateri, On the
/// maximum likelihood estimation of parameters of Weibull distribution based on complete and censored data, 2008: the root is unique).
///
/// # Errors
/// With words: there are fewer than two different samples, or one is not more than 0.
pub fn fit(family: Family, samples: &[f64]) -> Result<Distribution, String> {
    if samples.iter().any(|sample| !(sample.is_finite() && *sample > 0.0)) {
        return Err("samples to fit a distribution to must be more than 0".to_owned());
    }
    let count = samples.len() as f64;
    let first = samples.first().copied().unwrap_or_default();
    if samples.iter().all(|sample| *sample == first) {
        return Err("there must be at least two different samples to fit a distribution to".to_owned());
    }
    let mean = |of: &dyn Fn(f64) -> f64| samples.iter().map(|sample| of(*sample)).sum::<f64>() / count;
    Ok(match family {
        Family::Exponential => Distribution::Exponential { mean: mean(&|sample| sample) },
        Family::LogNormal => {
            let mu = mean(&f64::ln);
            let sigma = mean(&|sample| (sample.ln() - mu).powi(2)).sqrt();
            Distribution::LogNormal { median: mu.exp(), sigma }
        }
        Family::Weibull => {
            // Of samples relative to the largest, powers neither overflow nor all vanish.
            let largest = samples.iter().copied().fold(0.0, f64::max);
            let logs: Vec<f64> = samples.iter().map(|sample| sample.ln() - largest.ln()).collect();
            let shape = weibull_shape(&logs);
            let power = logs.iter().map(|log| (shape * log).exp()).sum::<f64>() / count;
            Distribution::Weibull { shape, scale: largest * power.powf(1.0 / shape) }
        }
    })
}

/// The root of Σ xᵏ ln x / Σ xᵏ − 1/k − mean ln x, which grows with k.
fn weibull_shape(logs: &[f64]) -> f64 {
    let mean = logs.iter().sum::<f64>() / logs.len() as f64;
    let (mut low, mut high) = (1e-3, 1e3);
    let mut shape = 1.0;
    for _ in 0..200 {
        let (mut power, mut first, mut second) = (0.0, 0.0, 0.0);
        for log in logs {
            let weight = (shape * log).exp();
            power += weight;
            first += weight * log;
            second += weight * log * log;
        }
        let value = first / power - 1.0 / shape - mean;
        let slope = second / power - (first / power).powi(2) + 1.0 / (shape * shape);
        if value > 0.0 {
            high = shape;
        } else {
            low = shape;
        }
        let newton = shape - value / slope;
        let next = if newton > low && newton < high { newton } else { (low + high) / 2.0 };
        if (next - shape).abs() <= 1e-12 * shape {
            return next;
        }
        shape = next;
    }
    shape
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rand::SeedableRng;
    use rand_pcg::Pcg64;

    use super::*;

    #[test]
    fn what_was_drawn_is_found_again() {
        let (weibull, log_normal) =
            (Distribution::Weibull { shape: 0.7, scale: 300.0 }, Distribution::LogNormal { median: 20.0, sigma: 1.5 });
        let exponential = Distribution::Exponential { mean: 40.0 };
        for (family, original) in
            [(Family::Weibull, weibull), (Family::LogNormal, log_normal), (Family::Exponential, exponential)]
        {
            let sampler = original.sampler(Path::new("")).unwrap();
            let mut rng = Pcg64::seed_from_u64(3);
            let samples: Vec<f64> = (0..50_000).map(|_| sampler.draw(&mut rng)).collect();
            let numbers = |distribution: &Distribution| match distribution {
                Distribution::Weibull { shape, scale } => [*shape, *scale],
                Distribution::LogNormal { median, sigma } => [*median, *sigma],
                Distribution::Exponential { mean } => [*mean, 1.0],
                other => panic!("{other:?}"),
            };
            let found = fit(family, &samples).unwrap();
            for (found, original) in numbers(&found).into_iter().zip(numbers(&original)) {
                assert!((found / original - 1.0).abs() < 0.02, "{family:?}: {found}, not {original}");
            }
        }
    }

    #[test]
    fn a_weibull_of_few_samples_solves_the_likelihoods_equation() {
        let samples = [1.0, 2.0, 4.0, 8.0];
        let Distribution::Weibull { shape, scale } = fit(Family::Weibull, &samples).unwrap() else { panic!() };
        let likelihood = |shape: f64, scale: f64| -> f64 {
            let log = |x: f64| (shape / scale).ln() + (shape - 1.0) * (x / scale).ln() - (x / scale).powf(shape);
            samples.iter().map(|x| log(*x)).sum()
        };
        let best = likelihood(shape, scale);
        for (k, l) in [(1.01, 1.0), (0.99, 1.0), (1.0, 1.01), (1.0, 0.99)] {
            assert!(likelihood(shape * k, scale * l) < best);
        }
    }

    #[test]
    fn samples_of_any_size_are_fitted_or_refused() {
        for samples in [&[1e-300, 1e300][..], &[1e-9, 1e-9, 2e-9], &[5.0, 5.000_001]] {
            let fitted = fit(Family::Weibull, samples).unwrap();
            assert!(fitted.sampler(Path::new("")).is_ok(), "{fitted:?}");
        }
        assert!(fit(Family::Weibull, &[3.0, 3.0]).unwrap_err().contains("two different"));
        assert!(fit(Family::Weibull, &[]).unwrap_err().contains("two different"));
        assert!(fit(Family::LogNormal, &[0.0, 1.0]).unwrap_err().contains("more than 0"));
    }
}
