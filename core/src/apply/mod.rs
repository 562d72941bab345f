//! Server-side apply: who owns which field.

pub mod fields;
