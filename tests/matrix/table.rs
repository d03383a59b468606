//! Rows and columns of `docs/interop.md`.

/// Features, in the order of the page: their names in `cell` lines, and for people.
pub const FEATURES: &[(&str, &str)] = &[
    (
        "psk",
        "IKE_SA_INIT, IKE_AUTH with pre-shared keys, first child SA",
    ),
    ("native-esp", "ESP as an IP protocol of its own"),
    ("udp-esp", "ESP in UDP"),
    ("algorithms", "every algorithm that both have"),
    ("rekey-child", "rekeying of child SAs, by either end"),
    ("rekey-ike", "rekeying of the IKE SA, by either end"),
    ("pfs", "forward secrecy of child SAs"),
    ("further-children", "several child SAs under one IKE SA"),
    (
        "reauthentication",
        "reauthentication, the new SA before the old one goes",
    ),
    ("liveness", "liveness checks (RFC 7296 §2.4)"),
    ("fragmentation", "IKE fragmentation (RFC 7383)"),
    ("window", "windows above 1 (RFC 7296 §2.3)"),
    ("nat", "a NAT on the way"),
    ("nat-both", "both ends behind NATs"),
    ("nat-mapping", "a NAT's mapping changes"),
    ("nat-transport", "transport mode behind a NAT"),
    ("mobike", "MOBIKE (RFC 4555)"),
    ("cookie", "cookies (RFC 7296 §2.6)"),
    ("puzzle", "client puzzles (RFC 8019)"),
    (
        "intermediate",
        "IKE_INTERMEDIATE and several key exchanges (RFC 9242, RFC 9370)",
    ),
    (
        "followup-ke",
        "several key exchanges in CREATE_CHILD_SA (RFC 9370)",
    ),
    ("ml-kem", "ML-KEM"),
    ("ppk", "post-quantum pre-shared keys (RFC 8784)"),
    (
        "ppk-intermediate",
        "the same in IKE_INTERMEDIATE (RFC 9867)",
    ),
    ("childless", "IKE SAs without child SA (RFC 6023)"),
    ("redirect", "redirect (RFC 5685)"),
    ("resumption", "session resumption (RFC 5723)"),
    ("crash-detection", "quick crash detection (RFC 6290)"),
    (
        "message-id-sync",
        "synchronisation of Message IDs (RFC 6311)",
    ),
    ("auth-lifetime", "authentication lifetime (RFC 4478)"),
    ("tcp", "TCP encapsulation (RFC 9329)"),
    ("transport", "transport mode"),
    ("beet", "BEET mode"),
    ("esn", "extended sequence numbers"),
    ("tfc", "padding against traffic analysis (TFC)"),
    ("ipcomp", "IPComp"),
    ("ah", "AH"),
    ("iptfs", "IP-TFS (RFC 9347)"),
    ("per-cpu", "child SAs per CPU (RFC 9611)"),
    ("labels", "security labels (RFC 9478)"),
];

/// Peers: their names in `cell` lines, and for people.
pub const PEERS: &[(&str, &str)] = &[
    ("strongswan-host", "strongSwan 5.9 on the host"),
    ("strongswan", "strongSwan 6"),
    ("libreswan", "libreswan 5"),
    ("openiked", "OpenIKED 7"),
];

const RFC_LIST: &str = "not among the RFCs that its documentation lists";

/// What a peer does not have, and how that is known.
pub const UNSUPPORTED: &[(&str, &str, &str)] = &[
    ("puzzle", "strongswan-host", RFC_LIST),
    ("puzzle", "strongswan", RFC_LIST),
    ("puzzle", "libreswan", RFC_LIST),
    ("puzzle", "openiked", RFC_LIST),
    ("resumption", "strongswan-host", RFC_LIST),
    ("resumption", "strongswan", RFC_LIST),
    ("crash-detection", "strongswan-host", RFC_LIST),
    ("crash-detection", "strongswan", RFC_LIST),
    ("crash-detection", "libreswan", RFC_LIST),
    ("crash-detection", "openiked", RFC_LIST),
    ("ppk-intermediate", "strongswan-host", RFC_LIST),
    ("ppk-intermediate", "strongswan", RFC_LIST),
    ("tcp", "strongswan-host", RFC_LIST),
    ("tcp", "strongswan", RFC_LIST),
    ("ml-kem", "strongswan-host", "came with 6.0"),
    ("intermediate", "strongswan-host", "came with 6.0"),
    ("followup-ke", "strongswan-host", "came with 6.0"),
    (
        "native-esp",
        "strongswan-host",
        "its user-space plane has UDP encapsulation only",
    ),
    (
        "beet",
        "strongswan-host",
        "its user-space plane has tunnel mode only",
    ),
    (
        "transport",
        "strongswan-host",
        "its user-space plane has tunnel mode only",
    ),
    ("ah", "strongswan-host", "its user-space plane has ESP only"),
    ("beet", "libreswan", "no such mode among its keywords"),
];
