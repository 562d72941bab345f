//! Field errors and the rules that many kinds share.

mod error;

pub use error::{Error, ErrorList, ErrorType, Path};
