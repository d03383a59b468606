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
    (
        "uniqueness",
        "one IKE SA for an identity, INITIAL_CONTACT (RFC 7296 §2.4)",
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
    (
        "replay-counter-sync",
        "synchronisation of replay counters (RFC 6311)",
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
    (
        "interface",
        "route-based tunnels, both ends on xfrm interfaces",
    ),
];

/// Peers: their names in `cell` lines, and for people.
pub const PEERS: &[(&str, &str)] = &[
    ("strongswan-host", "strongSwan 5.9 on the host"),
    ("strongswan", "strongSwan 6"),
    ("libreswan", "libreswan 5"),
    ("openiked", "OpenIKED 7"),
];

const RFC_LIST: &str = "not among the RFCs that its documentation lists";
const NAME_ONLY: &str =
    "its program has the name of the notification and nothing that sends or heeds it";
const NO_KEYWORD: &str = "nothing of it in its program or among its keywords";
const HOST_PLANE: &str = "its user-space plane has ESP in tunnel mode and in UDP only";

/// What a peer does not have, and how that is known.
#[rustfmt::skip]
pub const UNSUPPORTED: &[(&str, &str, &str)] = &[
    ("native-esp", "strongswan-host", HOST_PLANE),
    ("transport", "strongswan-host", HOST_PLANE),
    ("beet", "strongswan-host", HOST_PLANE),
    ("ah", "strongswan-host", HOST_PLANE),
    ("ipcomp", "strongswan-host", HOST_PLANE),
    ("iptfs", "strongswan-host", HOST_PLANE),
    ("per-cpu", "strongswan-host", HOST_PLANE),
    ("interface", "strongswan-host", HOST_PLANE),
    ("nat-transport", "strongswan-host", HOST_PLANE),
    ("window", "strongswan-host", NAME_ONLY),
    ("puzzle", "strongswan-host", RFC_LIST),
    ("intermediate", "strongswan-host", "came with 6.0"),
    ("followup-ke", "strongswan-host", "came with 6.0"),
    ("ml-kem", "strongswan-host", "came with 6.0"),
    ("ppk-intermediate", "strongswan-host", RFC_LIST),
    ("resumption", "strongswan-host", RFC_LIST),
    ("crash-detection", "strongswan-host", RFC_LIST),
    ("tcp", "strongswan-host", RFC_LIST),
    ("window", "strongswan", NAME_ONLY),
    ("puzzle", "strongswan", RFC_LIST),
    ("ppk-intermediate", "strongswan", RFC_LIST),
    ("resumption", "strongswan", RFC_LIST),
    ("crash-detection", "strongswan", RFC_LIST),
    ("replay-counter-sync", "strongswan-host", NAME_ONLY),
    ("replay-counter-sync", "strongswan", "it answers IKE_AUTH without IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED, in vm/message-id-sync"),
    ("tcp", "strongswan", RFC_LIST),
    ("window", "libreswan", NAME_ONLY),
    ("puzzle", "libreswan", NAME_ONLY),
    ("crash-detection", "libreswan", NAME_ONLY),
    ("message-id-sync", "libreswan", NAME_ONLY),
    ("replay-counter-sync", "libreswan", NAME_ONLY),
    ("auth-lifetime", "libreswan", NAME_ONLY),
    ("nat-transport", "libreswan", "it does not substitute addresses (RFC 7296 §2.23.1): it refused the NAT's in our answer with TS_UNACCEPTABLE"),
    ("intermediate", "libreswan", "IKE_INTERMEDIATE for post-quantum pre-shared keys only, no additional key exchange"),
    ("followup-ke", "libreswan", NAME_ONLY),
    ("ml-kem", "libreswan", "not among the key exchanges that it prints (`ipsec algparse`)"),
    ("ppk-intermediate", "libreswan", "only under a notification type that it has chosen itself, 50209 instead of 16445"),
    ("beet", "libreswan", "no such mode among its keywords"),
    ("iptfs", "libreswan", "its test of the kernel's IP-TFS fails on the kernel with which strongSwan 6 has it, and it loads no connection with iptfs=yes"),
    ("per-cpu", "libreswan", NO_KEYWORD),
    ("further-children", "openiked", "as responder it answers with all flows of its policy at once, whatever was asked for"),
    ("reauthentication", "openiked", NO_KEYWORD),
    ("window", "openiked", NAME_ONLY),
    ("puzzle", "openiked", NO_KEYWORD),
    ("redirect", "openiked", NAME_ONLY),
    ("childless", "openiked", NAME_ONLY),
    ("resumption", "openiked", NAME_ONLY),
    ("crash-detection", "openiked", NAME_ONLY),
    ("message-id-sync", "openiked", NAME_ONLY),
    ("replay-counter-sync", "openiked", NAME_ONLY),
    ("auth-lifetime", "openiked", NAME_ONLY),
    ("mobike", "openiked", "as responder only, and its PF_KEY has no message on Linux that moves an SA"),
    ("intermediate", "openiked", NO_KEYWORD),
    ("followup-ke", "openiked", NO_KEYWORD),
    ("ml-kem", "openiked", "its hybrid key exchange is sntrup761x25519, one of its own"),
    ("ppk", "openiked", NO_KEYWORD),
    ("ppk-intermediate", "openiked", NO_KEYWORD),
    ("tcp", "openiked", NO_KEYWORD),
    ("beet", "openiked", NO_KEYWORD),
    ("uniqueness", "openiked", NAME_ONLY),
    ("nat-transport", "openiked", "it does not substitute addresses (RFC 7296 §2.23.1): its program takes its selectors from its configuration as they are"),
    ("ipcomp", "openiked", "its SAs of IPComp are of no use on Linux, where PF_KEY cannot bind them to those of ESP: what came in ESP got no further"),
    ("esn", "openiked", "PF_KEY has none on Linux; its program has a message for that"),
    ("tfc", "openiked", NAME_ONLY),
    ("iptfs", "openiked", NO_KEYWORD),
    ("per-cpu", "openiked", NO_KEYWORD),
    ("labels", "openiked", NO_KEYWORD),
    ("interface", "openiked", "on Linux it speaks PF_KEY, which has no if_id"),
];

/// What none of the peers has, and what takes their place.
pub const WITHOUT_PEER: &[(&str, &str)] = &[
    (
        "window",
        "octets of crates/wire/tests/wire/samples.rs, dissected by tshark in tshark.rs beside it; both ends in \
         crates/ike/tests/it/window.rs",
    ),
    (
        "puzzle",
        "the RFC's own puzzles in crates/ike/src/puzzle.rs; octets of crates/wire/tests/wire/samples.rs, dissected by tshark \
         in tshark.rs beside it; both ends in crates/ike/tests/it/puzzles.rs",
    ),
    (
        "ppk-intermediate",
        "both ends in crates/ike/tests/it/ppk.rs; the key schedule alone in crates/crypto/src/key_schedule/tests.rs",
    ),
    (
        "replay-counter-sync",
        "octets of the RFC and both ends in crates/ike/tests/it/replay_counter_sync.rs, dissected by tshark in \
         tests/netns/takeover.rs; the kernel's SAs in crates/kernel/tests/sadb/moves.rs, those in user space in \
         crates/dataplane/src/core/tests/inbound.rs",
    ),
    (
        "crash-detection",
        "octets of the RFC and both ends in crates/ike/tests/it/crash_detection.rs; what a killed daemon's successor says, \
         dissected by tshark in tests/netns/crash.rs",
    ),
];
