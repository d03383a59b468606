//! What was asked for when the project was founded: the requirements by their numbers.

/// Number and what it asks for, as far as today's kernels have it so.
pub const REQUIREMENTS: &[(&str, &str)] = &[
    (
        "S0.1",
        "Interfaces are called `ipsec0`, `ipsec1`, …; `ipsec0` has the if_id 16384, since the kernel refuses 0.",
    ),
    (
        "S0.2",
        "A device of another name is used where it is not ours to make.",
    ),
    ("S0.3", "By default the mark that SAs set is the if_id."),
    (
        "S0.4",
        "The daemon makes the device by netlink, no script does.",
    ),
    (
        "S0.5",
        "A kernel without xfrm interfaces is found out at run time and named.",
    ),
    ("S0.6", "One interface carries IPv4 and IPv6 at once."),
    (
        "S0.7",
        "An interface serves transport, tunnel and BEET mode.",
    ),
    (
        "S0.8",
        "What is routed into an interface is protected or dropped.",
    ),
    (
        "S0.9",
        "Policies and SAs are bound to it by a key of their own, the if_id.",
    ),
    ("S0.10", "Hardware offload of the device below can be used."),
    (
        "S0.11",
        "What a VTI cannot do: several endpoints, both families, modes but tunnel.",
    ),
    (
        "S0.12",
        "The lookup mark and the mark that SAs set are two things, configured apart, each with a mask.",
    ),
    (
        "S1.1",
        "`ipsec-interface=` is no, yes or a number; a device that is there already is used.",
    ),
    ("S1.2", "`interface-ip=` puts addresses on the interface."),
    (
        "S1.3",
        "Marks differ by direction: `mark=`, `mark-in=`, `mark-out=`.",
    ),
    (
        "S1.4",
        "Networks that differ are routed into the interface, equal ones (everything to everything) are not.",
    ),
    (
        "S1.5",
        "The mark that SAs set: with its mask, on outgoing ESP and on what comes out of it.",
    ),
    (
        "S1.6",
        "Bits of a mark outside the mask stay as they were, from end to end.",
    ),
    (
        "S1.7",
        "A lookup mark on an inbound SA chooses it by the mark of the ESP packet and marks nothing.",
    ),
    (
        "S1.8",
        "Networks without the peer's address need neither rule nor mark.",
    ),
    (
        "S1.9",
        "The peer's address may lie inside the remote network.",
    ),
    (
        "S1.10",
        "Routing recipe A: a rule by peer and mark to `main`, one by peer to a table with the device.",
    ),
    (
        "S1.11",
        "Routing recipe B: what has not the mark looks into a table with the device.",
    ),
    (
        "S1.12",
        "Routing recipe C: the device in `main`, what has the mark looks into a table with the way out.",
    ),
    (
        "S1.13",
        "Routing recipe D: the mark leads to `main`, the peer to a table with the device.",
    ),
    (
        "S1.14",
        "Routing recipe E: one rule by peer and absence of the mark.",
    ),
    (
        "S1.15",
        "IKE to a peer inside the remote network goes past the interface.",
    ),
    (
        "S1.16",
        "Several providers with marks of their own: connection marks survive the tunnel.",
    ),
    (
        "S1.17",
        "A VTI as the only user of marks, and one beside two providers.",
    ),
    (
        "S1.18",
        "A network namespace ends although it had interfaces, and a stop takes SAs, policies, device away in this order.",
    ),
    (
        "S1.19",
        "One destination through two gateways, by the source; numbers of table and rules can be chosen.",
    ),
    (
        "S1.20",
        "With offload, the device is the one that carries the packets; a mismatch is warned about.",
    ),
    (
        "S1.21",
        "Where xfrm interfaces are missing, all else works.",
    ),
    (
        "S2.1",
        "A VTI's inbound packets are found by outer addresses, without any marking.",
    ),
    (
        "S2.2",
        "A VTI's key, not the packet's mark, chooses the outbound policy and SA.",
    ),
    (
        "S2.3",
        "The inbound check of a VTI has its input key for a mark.",
    ),
    ("S2.4", "A VTI leaves packets' marks as they are."),
    (
        "S2.5",
        "With a VTI, SAs have any mark and policies the key.",
    ),
    (
        "S2.6",
        "Policies beside a VTI ask for mark 0, lest they take its packets.",
    ),
    (
        "S2.7",
        "The recipe of a VTI with keys, policies, SAs and a route can be expressed.",
    ),
    (
        "S2.8",
        "`disable_policy` is set on a VTI, `disable_xfrm` is not: today it breaks it.",
    ),
    (
        "S2.9",
        "`disable_policy` spares the later check, not that of the VTI itself.",
    ),
    (
        "S3.1",
        "IKE sockets: one for each address, never over an ipsec interface.",
    ),
    ("S3.2", "The address for `left=%defaultroute`."),
    ("S3.3", "The address for `left=%eth1`."),
    ("S3.4", "Changes of addresses are followed."),
    (
        "S3.5",
        "SAs and policies: installed, changed, removed, moved, counted; acquire and expiry heard.",
    ),
    (
        "S3.6",
        "IPv6 neighbour discovery works whatever is blocked.",
    ),
    ("S3.7", "Offload of a network card is found out."),
    (
        "S3.8",
        "Addresses are put on devices and counted by their users.",
    ),
    ("S3.9", "A default route that comes late is heeded."),
    (
        "S3.10",
        "xfrm interfaces are part of the kernel's plane, no stack of their own.",
    ),
    (
        "S3.11",
        "A second data plane beside the kernel's, chosen for each connection.",
    ),
    (
        "S3.12",
        "Differences of kernels are found by trying; bypass and error queues belong to the socket operations.",
    ),
    (
        "S4.1",
        "ESP and AH; protect, discard, pass; several transforms in one policy.",
    ),
    (
        "S4.2",
        "A trap for one protocol gets an SA between the hosts when a packet asks for it.",
    ),
    (
        "S4.3",
        "Transport, tunnel and BEET as they are on the wire, octet by octet.",
    ),
    (
        "S4.4",
        "Key lengths in bits with the salt, ICV lengths, and the room that headers and trailers take.",
    ),
    ("S4.5", "The route is looked up first, then the policy."),
    (
        "S4.6",
        "Without an SA, one is asked for; the packet is dropped or held.",
    ),
    (
        "S4.7",
        "Expiry, replay and overflow are checked for each packet, in the kernel's order.",
    ),
    (
        "S4.8",
        "What filters see of an outgoing packet: in clear, then as ESP.",
    ),
    (
        "S4.9",
        "Segments and batches: packets of one SA are worked on together.",
    ),
    (
        "S4.10",
        "Who takes an ESP packet: VTI, xfrm interface, plain; an unknown SPI is counted and dropped.",
    ),
    (
        "S4.11",
        "Inner and outer family may differ in tunnel-like modes only.",
    ),
    (
        "S4.12",
        "`cygnet explain` names the stages of a packet's way.",
    ),
    (
        "S4.13",
        "What was decrypted passes firewall and routing again.",
    ),
];
