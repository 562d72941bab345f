//! Puts the parts together: clusters for the laptop, for tests and for examples.
