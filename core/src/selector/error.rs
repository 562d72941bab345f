//! What can be wrong with a selector.

use crate::validation::{self, ErrorList};

/// What is wrong with a selector, in upstream's words.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not a selector.
    #[error("{0}")]
    Syntax(String),
    /// One requirement of the text is wrong.
    #[error("unable to parse requirement: {0}")]
    Requirement(Box<Error>),
    /// Keys, values or their number break the rules.
    #[error("{}", validation::aggregate(.0))]
    Invalid(ErrorList),
    /// The operator is none of those that an object's selector may have.
    #[error("{} is not a valid label selector operator", validation::go_quote(.0))]
    Operator(String),
    /// A selector cannot be expressed in another form.
    #[error("{0}")]
    Conversion(String),
    /// The kind cannot be selected by this field.
    #[error("{0}")]
    FieldLabel(String),
}
