//! The same experiment by many seeds.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;

use crate::{Outcome, Packing, PackingError};

/// A mean, and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// The sample's standard deviation; 0 of one value.
    pub deviation: f64,
    /// Half the width of the interval that has the true mean in 95 of 100 cases, by Student's distribution; 0 of one value.
    pub confidence: f64,
}

/// Quantiles of Student's distribution at 97.5 % for 1 to 30 degrees of freedom; beyond, that of the normal distribution is near enough.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

impl Estimate {
    /// Of these values; all zero if there is none.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        if values.is_empty() {
            return Self { mean: 0.0, deviation: 0.0, confidence: 0.0 };
        }
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = if values.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 };
        let quantile = values.len().checked_sub(2).map_or(0.0, |place| STUDENT.get(place).copied().unwrap_or(1.96));
        Self { mean, deviation, confidence: quantile * deviation / count.sqrt() }
    }
}

/// Runs each of the experiments, as many at a time as `jobs` says; the outcomes are in their order, whatever ended first. `progress`
/// hears whenever one has ended.
///
/// # Errors
/// The first experiment, in their order, that cannot be run.
pub fn sweep(
    experiments: &[Packing<'_>],
    jobs: NonZeroUsize,
    progress: impl Fn(&Outcome) + Sync,
) -> Result<Vec<Outcome>, PackingError> {
    in_parallel(experiments, jobs, |experiment| experiment.run(|_, _| ()).inspect(&progress))
}

/// Does the work for each item, for as many at a time as `jobs` says; the results are in the items' order, whatever ended first.
///
/// # Errors
/// Of all items whose work failed, what the first one said. After a failure no further items are begun.
pub fn in_parallel<T: Sync, R: Send, E: Send>(
    items: &[T],
    jobs: NonZeroUsize,
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<R, E>>>> = Mutex::new(items.iter().map(|_| None).collect());
    let go_on = || {
        while let Some((place, item)) = {
            let place = next.fetch_add(1, Ordering::Relaxed);
            items.get(place).map(|item| (place, item))
        } {
            let result = work(item);
            if result.is_err() {
                next.store(items.len(), Ordering::Relaxed);
            }
            results.lock().unwrap_or_else(PoisonError::into_inner)[place] = Some(result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.get().min(items.len()) {
            scope.spawn(go_on);
        }
        go_on();
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    // Items are begun in their order, so those that were not begun come after one that failed.
    results.into_iter().flatten().collect()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these are exact")]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_students() {
        let of = Estimate::of(&[1.0, 2.0, 3.0]);
        assert_eq!((of.mean, of.deviation), (2.0, 1.0));
        assert!((of.confidence - 4.303 / 3.0_f64.sqrt()).abs() < 1e-9, "{}", of.confidence);
        assert_eq!(Estimate::of(&[7.0]), Estimate { mean: 7.0, deviation: 0.0, confidence: 0.0 });
        assert_eq!(Estimate::of(&[]).mean, 0.0);
    }
}
