//! Controllers that decide as pure functions, and the driver that acts.
