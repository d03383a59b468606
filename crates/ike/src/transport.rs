//! What carries IKE messages between two ends.

use cygnet_wire::NON_ESP_MARKER;

/// What carries the messages of an IKE SA, and what its child SAs may put ESP into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Datagrams on the port of IKE alone (500).
    Udp,
    /// Datagrams on the port that ESP shares (4500), behind the non-ESP marker (RFC 3948 §2.2).
    UdpEncap,
    /// A TCP stream, which carries ESP too (RFC 9329). Its addresses and ports name it.
    Tcp,
}

impl Transport {
    /// The name for status and log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp | Self::UdpEncap => "udp",
            Self::Tcp => "tcp",
        }
    }

    /// What stands in front of a message, so that it is not taken for ESP.
    pub fn marker(self) -> &'static [u8] {
        match self {
            Self::Udp => &[],
            Self::UdpEncap | Self::Tcp => &NON_ESP_MARKER,
        }
    }
}
