//! Puts the parts together: clusters for laptops and for tests.
