//! What a data plane can do beyond ESP in tunnel mode, so that nothing is negotiated that cannot be installed.

/// What a data plane has. Algorithms are another matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct PlaneFeatures {
    /// Transport mode (RFC 4301 §4.1).
    pub transport: bool,
    /// BEET mode.
    pub beet: bool,
    /// AH (RFC 4302).
    pub ah: bool,
    /// IPComp with DEFLATE (RFC 3173, RFC 2394).
    pub ipcomp: bool,
    /// Extended sequence numbers (RFC 4303 §2.2.1).
    pub esn: bool,
    /// Sending of traffic flow confidentiality padding (RFC 4303 §2.7); taking it off is ESP's duty.
    pub tfc_padding: bool,
    /// Aggregation and fragmentation (RFC 9347).
    pub iptfs: bool,
    /// SAs for single CPUs (RFC 9611).
    pub per_cpu: bool,
    /// Security labels (RFC 9478).
    pub labels: bool,
    /// Policies and SAs that belong to a device by its `if_id` (K6).
    pub interfaces: bool,
}
