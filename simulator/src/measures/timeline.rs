//! A value that holds until it changes.

use std::time::Duration;

/// How many points a timeline has at most; then it keeps every other one.
const POINTS_MAX: usize = 1024;

/// A value over time: its mean, each value weighted by how long it held, and what it was at regular moments.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    value: f64,
    /// Up to when all is counted.
    until: Duration,
    integral: f64,
    period: Duration,
    /// What the value was just before 0, 1, 2 … periods had gone by.
    points: Vec<f64>,
}

impl Timeline {
    /// 0 from the beginning, to be remembered at multiples of `period`, or of twice that, four times … if there are too many.
    pub fn new(period: Duration) -> Self {
        let period = period.max(Duration::from_millis(1));
        Self { value: 0.0, until: Duration::ZERO, integral: 0.0, period, points: Vec::new() }
    }

    /// From now on it is so much.
    pub fn set(&mut self, at: Duration, value: f64) {
        self.go_on(at);
        self.value = value;
    }

    /// The value now.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// The mean from the beginning to `end`, or to the last change if that is later.
    pub fn mean(&self, end: Duration) -> f64 {
        let mut all = self.clone();
        all.go_on(end);
        let seconds = all.until.as_secs_f64();
        if seconds > 0.0 { all.integral / seconds } else { all.value }
    }

    /// What it was at regular moments up to `end`: hours since the beginning, and the value.
    pub fn points(&self, end: Duration) -> Vec<(f64, f64)> {
        let mut all = self.clone();
        all.go_on(end);
        let hours = all.period.as_secs_f64() / 3600.0;
        all.points.iter().enumerate().map(|(place, value)| (place as f64 * hours, *value)).collect()
    }

    fn go_on(&mut self, at: Duration) {
        let Some(held) = at.checked_sub(self.until) else { return };
        self.integral += self.value * held.as_secs_f64();
        self.until = at;
        while self.next_point().is_some_and(|next| next <= at) {
            if self.points.len() == POINTS_MAX {
                let mut place = 0;
                self.points.retain(|_| {
                    place += 1;
                    place % 2 == 1
                });
                self.period = self.period.saturating_mul(2);
            } else {
                self.points.push(self.value);
            }
        }
    }

    fn next_point(&self) -> Option<Duration> {
        self.period.checked_mul(u32::try_from(self.points.len()).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_mean_is_weighted_by_time() {
        let mut line = Timeline::new(3600 * SECOND);
        line.set(10 * SECOND, 4.0);
        line.set(20 * SECOND, 1.0);
        line.set(20 * SECOND, 2.0);
        assert_eq!(line.mean(40 * SECOND), (4.0 * 10.0 + 2.0 * 20.0) / 40.0);
        assert_eq!((line.value(), line.mean(SECOND)), (2.0, 2.0), "what was counted stays counted");
        assert_eq!(Timeline::new(SECOND).mean(Duration::ZERO), 0.0);
    }

    #[test]
    fn points_are_what_was_before_the_moment() {
        let mut line = Timeline::new(1800 * SECOND);
        line.set(1800 * SECOND, 3.0);
        line.set(5000 * SECOND, 5.0);
        assert_eq!(line.points(5400 * SECOND), [(0.0, 0.0), (0.5, 0.0), (1.0, 3.0), (1.5, 5.0)]);
    }

    #[test]
    fn however_long_it_takes_there_are_few_points() {
        let mut line = Timeline::new(Duration::ZERO);
        line.set(Duration::from_secs(1 << 40), 1.0);
        let points = line.points(Duration::MAX);
        assert!((POINTS_MAX / 2..=POINTS_MAX).contains(&points.len()), "{}", points.len());
        assert!(points.is_sorted_by(|a, b| a.0 < b.0));
    }
}
