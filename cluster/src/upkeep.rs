//! How a node keeps house: options of whoever starts a node.

pub use longshore_core::runtime::LogLimits;
use longshore_node::Options as NodeOptions;
pub use longshore_node::{ImageGc, parse_sysctl};

use crate::Error;

/// How a node keeps house.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// When images that nobody uses are removed.
    pub image_gc: ImageGc,
    /// How much of a container's log is kept.
    pub log_limits: LogLimits,
    /// Kernel parameters that pods may set beyond the safe ones, as [`parse_sysctl`] takes them.
    pub allowed_unsafe_sysctls: Vec<String>,
}

impl Upkeep {
    pub(crate) fn apply(&self, options: &mut NodeOptions) -> Result<(), Error> {
        let ImageGc { high_percent, low_percent, .. } = self.image_gc;
        if low_percent >= high_percent {
            return Err(Error::Missing {
                what: format!("images would be removed from {high_percent} % of their disk on down to {low_percent} %"),
                remedy: "make --image-gc-low-threshold less than --image-gc-high-threshold".to_owned(),
            });
        }
        options.image_gc = self.image_gc;
        options.log_limits = self.log_limits;
        options.allowed_unsafe_sysctls.clone_from(&self.allowed_unsafe_sysctls);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_chosen_reaches_the_node_unless_it_makes_no_sense() {
        let mut upkeep = Upkeep { allowed_unsafe_sysctls: vec!["net.core.somaxconn".into()], ..Upkeep::default() };
        upkeep.image_gc.low_percent = 70;
        upkeep.log_limits.max_files = 3;
        let mut options = NodeOptions::new("n", "/nowhere", 1);
        upkeep.apply(&mut options).unwrap();
        assert_eq!((options.image_gc.low_percent, options.log_limits.max_files), (70, 3));
        assert_eq!(options.allowed_unsafe_sysctls, ["net.core.somaxconn"]);
        upkeep.image_gc.high_percent = 70;
        let error = upkeep.apply(&mut options).unwrap_err().to_string();
        assert!(error.contains("--image-gc-low-threshold"), "{error}");
    }
}
