//! A durable store in one file, with group commit.
