//! Puts the parts together: a whole cluster in one process, for laptops and for tests.

mod data_dir;
mod error;
mod manifests;
mod parts;
mod readiness;

pub use data_dir::{DataDir, Lock, Settings};
pub use error::Error;
pub use manifests::{Entry, apply, parse, read};
pub use readiness::{Readiness, readiness};
