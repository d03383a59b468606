//! S3.7: whether a device can do ESP in hardware.

use crate::netlink::RequestError;

/// What a device's driver offers for ESP (`ethtool -k`, features `esp-hw-offload`, `esp-tx-csum-hw-offload`,
/// `tx-esp-segmentation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EspOffload {
    /// The device can encrypt and decrypt.
    pub esp: bool,
    /// The device computes checksums of packets that it encrypts.
    pub checksum: bool,
    /// The device segments packets that it encrypts.
    pub segmentation: bool,
}

/// Asking devices for their features.
pub trait OffloadProbe {
    /// What is switched on at the moment.
    ///
    /// # Errors
    /// [`RequestError::NotFound`] if there is no such device. A device without any features is no error.
    fn esp_offload(&mut self, device: &str) -> Result<EspOffload, RequestError>;
}
