//! The status of a condition.

crate::string_enum! {
    /// Whether a condition holds.
    pub enum ConditionStatus {
        /// It holds.
        True,
        /// It does not hold.
        False,
        /// Nobody can tell.
        Unknown,
    }
}
