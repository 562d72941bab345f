//! Priorities that are reported together.

/// Bands of priorities, from the lowest: each begins with a priority and ends where the next begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Bands {
    /// Each priority by itself.
    #[default]
    Each,
    /// By name, each from this priority on, the lowest first. What is below the first belongs to it.
    Named(Vec<(String, i32)>),
}

impl Bands {
    /// Those of Google's trace of 2011 as Reiss et al. (SoCC '12) sort them: gratis 0 and 1, other 2 to 8, production 9, monitoring 10,
    /// infrastructure 11.
    pub fn google_2011() -> Self {
        Self::named([("gratis", 0), ("other", 2), ("production", 9), ("monitoring", 10), ("infrastructure", 11)])
    }

    /// Those of Google's traces of 2019 (Tirmazi et al., EuroSys '20): free to 99, best-effort batch to 115, mid to 119, production to 359,
    /// monitoring.
    pub fn google_2019() -> Self {
        Self::named([("free", 0), ("batch", 100), ("mid", 116), ("production", 120), ("monitoring", 360)])
    }

    /// These, in any order.
    pub fn named(bands: impl IntoIterator<Item = (impl Into<String>, i32)>) -> Self {
        let mut bands: Vec<(String, i32)> = bands.into_iter().map(|(name, from)| (name.into(), from)).collect();
        bands.sort_by_key(|(_, from)| *from);
        Self::Named(bands)
    }

    /// The band of a priority, as a number that sorts as the bands do.
    pub(super) fn key(&self, priority: i32) -> i32 {
        match self {
            Self::Each => priority,
            Self::Named(bands) => {
                let after = bands.partition_point(|(_, from)| *from <= priority);
                i32::try_from(after.saturating_sub(1)).unwrap_or(i32::MAX)
            }
        }
    }

    /// The name of a band.
    pub(super) fn name(&self, key: i32) -> String {
        let of_place = |bands: &[(String, i32)]| bands.get(usize::try_from(key).ok()?).map(|(name, _)| name.clone());
        match self {
            Self::Each => format!("priority {key}"),
            Self::Named(bands) => of_place(bands).unwrap_or_else(|| "all".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_belongs_to_the_band_that_began_last() {
        let bands = Bands::google_2019();
        let name = |priority| bands.name(bands.key(priority));
        assert_eq!(
            [-5, 0, 99, 100, 119, 200, 9000].map(name),
            ["free", "free", "free", "batch", "mid", "production", "monitoring"]
        );
        assert_eq!(Bands::Each.name(Bands::Each.key(-7)), "priority -7");
        assert_eq!(Bands::Named(Vec::new()).name(Bands::Named(Vec::new()).key(3)), "all");
        assert_eq!(Bands::named([("high", 10), ("low", 0)]).key(3), 0, "they are sorted");
    }
}
