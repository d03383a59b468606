//! Numbers of the IKE header and of payload headers.

use super::registry;

registry! {
    /// Exchange types (RFC 7296, 3.1).
    pub struct ExchangeType(u8) {
        34 IKE_SA_INIT ("RFC 7296"),
        35 IKE_AUTH ("RFC 7296"),
        36 CREATE_CHILD_SA ("RFC 7296"),
        37 INFORMATIONAL ("RFC 7296"),
        38 IKE_SESSION_RESUME ("RFC 5723"),
        39 GSA_AUTH ("RFC 9838"),
        40 GSA_REGISTRATION ("RFC 9838"),
        41 GSA_REKEY ("RFC 9838"),
        42 GSA_INBAND_REKEY ("RFC 9838"),
        43 IKE_INTERMEDIATE ("RFC 9242"),
        44 IKE_FOLLOWUP_KE ("RFC 9370"),
    }
}

registry! {
    /// Payload types (RFC 7296, 3.2), named by their notation.
    pub struct PayloadType(u8) {
        0 NONE = "No Next Payload" ("RFC 7296"),
        33 SA ("RFC 7296"),
        34 KE ("RFC 7296"),
        35 ID_I = "IDi" ("RFC 7296"),
        36 ID_R = "IDr" ("RFC 7296"),
        37 CERT ("RFC 7296"),
        38 CERTREQ ("RFC 7296"),
        39 AUTH ("RFC 7296"),
        40 NONCE = "Nonce" ("RFC 7296"),
        41 NOTIFY = "Notify" ("RFC 7296"),
        42 DELETE = "Delete" ("RFC 7296"),
        43 VENDOR_ID = "Vendor ID" ("RFC 7296"),
        44 TS_I = "TSi" ("RFC 7296"),
        45 TS_R = "TSr" ("RFC 7296"),
        46 SK ("RFC 7296"),
        47 CP ("RFC 7296"),
        48 EAP ("RFC 7296"),
        49 GSPM ("RFC 6467"),
        50 ID_G = "IDg" ("RFC 9838"),
        51 GSA ("RFC 9838"),
        52 KD ("RFC 9838"),
        53 SKF ("RFC 7383"),
        54 PS ("RFC 8019"),
    }
}

impl PayloadType {
    /// Whether RFC 7296 defines it, so that the critical bit has no meaning for it (RFC 7296, 2.5), or another RFC does
    /// and this crate understands it.
    #[must_use]
    pub const fn is_understood(self) -> bool {
        matches!(self.0, 33..=48 | 53 | 54)
    }

    /// SK or SKF: the payload that ends the clear part of a message.
    #[must_use]
    pub const fn is_encrypted(self) -> bool {
        matches!(self, Self::SK | Self::SKF)
    }
}

registry! {
    /// Security protocol identifiers, as in proposals, notifications and deletes (RFC 7296, 3.3.1).
    pub struct ProtocolId(u8) {
        0 NONE = "none" ("RFC 7296"),
        1 IKE ("RFC 7296"),
        2 AH ("RFC 7296"),
        3 ESP ("RFC 7296"),
        4 FC_ESP_HEADER ("RFC 4595"),
        5 FC_CT_AUTHENTICATION ("RFC 4595"),
        6 GIKE_UPDATE ("RFC 9838"),
    }
}

impl ProtocolId {
    /// Octets of an SPI of this protocol: 8 for IKE, 4 for AH and ESP; `None` for others.
    #[must_use]
    pub const fn spi_len(self) -> Option<usize> {
        match self {
            Self::IKE => Some(8),
            Self::AH | Self::ESP => Some(4),
            _ => None,
        }
    }
}
