//! What measures come to.

use serde::Serialize;

/// In what something is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Unit {
    /// Whole things.
    Count,
    /// Hundredths.
    Percent,
    /// One part of another, from 0 to 1 or beyond.
    Ratio,
    /// Seconds of virtual time.
    Seconds,
    /// Hours of virtual time.
    Hours,
}

impl Unit {
    /// Its sign, as it stands behind a number; empty if there is none.
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Count | Self::Ratio => "",
            Self::Percent => "%",
            Self::Seconds => "s",
            Self::Hours => "h",
        }
    }
}

/// One number of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What it is, in words that columns can be named by.
    pub name: String,
    /// In what it is counted.
    pub unit: Unit,
    /// How much.
    pub value: f64,
}

impl Figure {
    /// One number.
    pub fn new(name: impl Into<String>, unit: Unit, value: f64) -> Self {
        Self { name: name.into(), unit, value }
    }
}

/// One number of one run as another goes up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// Which plot it belongs to, in words that files can be named by.
    pub plot: String,
    /// Which line of the plot it is, beside what the run is called; empty if a run has but one there.
    pub line: String,
    /// What goes to the right, and in what it is counted.
    pub x: (&'static str, Unit),
    /// In what it is counted.
    pub unit: Unit,
    /// Both, the first in rising order.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// A number over time.
    pub fn over_time(plot: impl Into<String>, line: impl Into<String>, unit: Unit, points: Vec<(f64, f64)>) -> Self {
        Self { plot: plot.into(), line: line.into(), x: ("time", Unit::Hours), unit, points }
    }
}
