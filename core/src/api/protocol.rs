//! Transport protocols.

crate::string_enum! {
    /// The transport protocol of a port.
    pub enum Protocol {
        /// TCP, the default.
        Tcp = "TCP",
        /// UDP.
        Udp = "UDP",
        /// SCTP.
        Sctp = "SCTP",
    }
}

impl Protocol {
    /// Makes an unset protocol TCP.
    pub(crate) fn set_default(&mut self) {
        if self.is_unset() {
            *self = Self::Tcp;
        }
    }
}
