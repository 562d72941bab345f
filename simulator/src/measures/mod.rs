//! What is measured while a simulation runs: observers that come to [`Figure`]s and [`Series`].
//!
//! Each is one file, and of use alone; [`Measures`] is all of them. Where a measure is from the literature it says from where.

mod amounts;
mod bands;
mod counts;
mod distribution;
mod evictions;
mod fairness;
mod figure;
mod fragmentation;
mod schedulers;
mod stranded;
#[cfg(test)]
mod testing;
mod timeline;
mod utilisation;
mod waits;

use std::time::Duration;

use longshore_core::scheduling::cluster::Cluster;

pub use amounts::{Amounts, RESOURCES};
pub use bands::Bands;
pub use counts::Counts;
pub use distribution::Distribution;
pub use evictions::Evictions;
pub use fairness::{Fairness, jain};
pub use figure::{Figure, Series, Unit};
pub use fragmentation::{FRAGMENT_KINDS, Fragmentation, fragments_by_kind};
pub use schedulers::Schedulers;
pub use stranded::Stranded;
pub use timeline::Timeline;
pub use utilisation::Utilisation;
pub use waits::Waits;

use crate::observer::{Happening, Observer};

/// An observer that comes to something.
pub trait Measure: Observer {
    /// The numbers, if the simulation ended at this moment. What was never seen has none.
    fn figures(&self, end: Duration) -> Vec<Figure>;

    /// The lines to draw, if the simulation ended at this moment.
    fn series(&self, end: Duration) -> Vec<Series> {
        let _ = end;
        Vec::new()
    }
}

/// Measures, in the order in which they report.
#[derive(Default)]
pub struct Measures {
    all: Vec<Box<dyn Measure + Send>>,
}

impl Measures {
    /// All of this module but [`Fragmentation`], which needs to know what pods to expect; moments to draw are `period` apart.
    pub fn standard(bands: &Bands, period: Duration) -> Self {
        Self::default()
            .with(Counts::default())
            .with(Waits::new(bands.clone()))
            .with(Utilisation::new(period))
            .with(Stranded::new(period))
            .with(Schedulers::default())
            .with(Evictions::new(bands.clone()))
            .with(Fairness::new(period))
    }

    /// One more.
    #[must_use]
    pub fn with(mut self, measure: impl Measure + Send + 'static) -> Self {
        self.all.push(Box::new(measure));
        self
    }
}

impl Observer for Measures {
    fn hear(&mut self, at: Duration, what: &Happening<'_>, cluster: &Cluster) {
        for measure in &mut self.all {
            measure.hear(at, what, cluster);
        }
    }
}

impl Measure for Measures {
    fn figures(&self, end: Duration) -> Vec<Figure> {
        self.all.iter().flat_map(|measure| measure.figures(end)).collect()
    }

    fn series(&self, end: Duration) -> Vec<Series> {
        self.all.iter().flat_map(|measure| measure.series(end)).collect()
    }
}
