//! The one nftables table that we own, spoken to over nfnetlink directly.
//!
//! Equivalent to
//!
//! ```text
//! table ip6 cygnet {
//!     chain arrival {
//!         type filter hook prerouting priority -149; policy accept;
//!         meta mark set meta mark & 0xdfffffff
//!         iifname "ipsec0" meta mark set meta mark & 0xdfffffff ^ 0x20000000
//!     }
//!     chain leaving {
//!         type filter hook postrouting priority -300; policy accept;
//!         meta mark & 0x10000000 == 0x10000000 accept
//!         oifname "lo" accept
//!         oifname "ipsec0" accept
//!         rt ipsec exists accept
//!         meta l4proto esp accept
//!         meta l4proto ah accept
//!         icmpv6 type nd-neighbor-solicit accept
//!         icmpv6 type nd-neighbor-advert accept
//!         ip6 saddr 2001:db8:1::/48 ip6 daddr 2001:db8:2::/48 counter drop
//!     }
//! }
//! ```
//!
//! with a rule per device in both chains and one per open enclosure in the second. Why, says [`crate::fence`]. The
//! table is replaced as a whole in one transaction: there is no moment with half of it, and no state to keep in step.

use std::net::IpAddr;

use cygnet_ipsec::{Mark, PortMatch, Selector};
use ipnet::IpNet;

use crate::fence::{FilterTable, PacketFilter};
use crate::netlink::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, RequestError, RequestSocket, error_of, frames,
};

/// Name of our table, in the family `ip6`.
pub const TABLE: &str = "cygnet";
const ARRIVAL: &str = "arrival";
const LEAVING: &str = "leaving";

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_IPV6: u8 = 10;
const NLMSG_ERROR: u16 = 2;
const NLA_F_NESTED: u16 = 0x8000;

const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_META_SREG: u16 = 3;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;

const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_RT_DREG: u16 = 1;
const NFTA_RT_KEY: u16 = 2;

const NLM_F_APPEND: u16 = 0x800;
const NF_INET_PRE_ROUTING: u32 = 0;
const NF_INET_POST_ROUTING: u32 = 4;
/// Just after `mangle` (-150), where administrators set and restore marks: ours is added to theirs, not overwritten.
const ARRIVAL_PRIORITY: i32 = -149;
/// Before source NAT, which would hide that the packet was to be protected.
const LEAVING_PRIORITY: i32 = -300;
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
const NFT_META_MARK: u32 = 3;
const NFT_META_IIFNAME: u32 = 6;
const NFT_META_OIFNAME: u32 = 7;
const NFT_META_L4PROTO: u32 = 16;
const NFT_RT_XFRM: u32 = 4;
const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;
const NFT_CMP_EQ: u32 = 0;
const NFT_REG_VERDICT: u32 = 0;
const NFT_REG_1: u32 = 1;

/// Where the addresses are in the IPv6 header.
const IPV6_SOURCE: u32 = 8;
const IPV6_DESTINATION: u32 = 24;
const ESP: u8 = 50;
const AH: u8 = 51;
const ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u16 = 135;
const NEIGHBOUR_ADVERTISEMENT: u16 = 136;

/// Writes attributes; numbers in nftables are big-endian.
#[derive(Default)]
struct Attributes(Vec<u8>);

impl Attributes {
    fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    fn nested(self, kind: u16, inner: Self) -> Self {
        self.bytes(kind | NLA_F_NESTED, &inner.0)
    }

    fn expression(self, name: &str, data: Self) -> Self {
        let element = Self::default()
            .text(NFTA_EXPR_NAME, name)
            .nested(NFTA_EXPR_DATA, data);
        self.nested(NFTA_LIST_ELEM, element)
    }
}

/// The messages of one transaction.
struct Batch {
    bytes: Vec<u8>,
    first: u32,
    next: u32,
}

impl Batch {
    fn begin(first: u32) -> Self {
        let mut batch = Self {
            bytes: Vec::new(),
            first,
            next: first,
        };
        batch.frame(
            NFNL_MSG_BATCH_BEGIN,
            0,
            NFPROTO_UNSPEC,
            NFNL_SUBSYS_NFTABLES,
            &[],
        );
        batch
    }

    fn frame(&mut self, kind: u16, flags: u16, family: u8, resource: u16, body: &[u8]) {
        let length = u32::try_from(20 + body.len()).unwrap_or(u32::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend(self.next.to_ne_bytes());
        self.bytes.extend([0; 4]);
        // struct nfgenmsg: family, version, resource id in network order.
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        self.bytes.extend(body);
        self.next = self.next.wrapping_add(1);
    }

    fn message(&mut self, kind: u16, flags: u16, attributes: Attributes) {
        self.frame(
            (NFNL_SUBSYS_NFTABLES << 8) | kind,
            flags,
            NFPROTO_IPV6,
            0,
            &attributes.0,
        );
    }

    fn end(&mut self) {
        self.frame(
            NFNL_MSG_BATCH_END,
            0,
            NFPROTO_UNSPEC,
            NFNL_SUBSYS_NFTABLES,
            &[],
        );
    }
}

/// nftables in the network namespace of the opening thread.
#[derive(Debug)]
pub struct Nftables {
    socket: RequestSocket,
}

impl Nftables {
    /// Opens the socket.
    ///
    /// # Errors
    /// `Socket` with `EPROTONOSUPPORT` on a kernel without nfnetlink.
    pub fn open() -> Result<Self, RequestError> {
        Ok(Self {
            socket: RequestSocket::open(netlink_sys::protocols::NETLINK_NETFILTER)?,
        })
    }

    fn commit(&mut self, operation: &str, batch: &Batch) -> Result<(), RequestError> {
        // The last message before BATCH_END asks for an acknowledgement; failing ones report by themselves, earlier.
        let last = batch.next.wrapping_sub(2);
        self.socket.send(operation, &batch.bytes)?;
        loop {
            let datagram = self.socket.receive(operation)?;
            for frame in frames(datagram) {
                // Anything outside the range belongs to an earlier, failed transaction.
                if frame.kind != NLMSG_ERROR || !(batch.first..=last).contains(&frame.sequence) {
                    continue;
                }
                let (errno, text) = error_of(&frame).ok_or_else(|| {
                    RequestError::malformed(operation, "an error message without a code")
                })?;
                match errno {
                    0 if frame.sequence == last => return Ok(()),
                    0 => {}
                    // ENOENT means the object in question everywhere else; here, that nf_tables or an expression is
                    // not built into the kernel.
                    libc::ENOENT | libc::EINVAL if text.is_empty() => {
                        return Err(RequestError::Unsupported {
                            operation: operation.to_owned(),
                            text,
                        });
                    }
                    _ => return Err(RequestError::from_errno(operation, errno, text)),
                }
            }
        }
    }

    fn batch(&mut self) -> Batch {
        // Sequence numbers of one batch are consecutive; reserve them by the socket's counter.
        let first = self.socket.next_sequence();
        Batch::begin(first)
    }

    fn finish(&mut self, operation: &str, mut batch: Batch) -> Result<(), RequestError> {
        batch.end();
        let result = self.commit(operation, &batch);
        while self.socket.next_sequence() < batch.next {}
        result
    }
}

/// Creates the table if it is missing and deletes it: empties what an earlier run left.
fn clear(batch: &mut Batch, flags: u16) {
    batch.table(NFT_MSG_NEWTABLE, NLM_F_CREATE);
    batch.table(NFT_MSG_DELTABLE, flags);
}

/// The expressions of one rule, in the order in which the kernel runs them.
#[derive(Default)]
struct Rule(Attributes);

fn value(bytes: &[u8]) -> Attributes {
    Attributes::default().bytes(NFTA_DATA_VALUE, bytes)
}

/// A device name as registers hold it. Compared over the whole field: `ipsec1` must not match `ipsec10`.
fn device_name(device: &str) -> [u8; libc::IFNAMSIZ] {
    let mut name = [0u8; libc::IFNAMSIZ];
    for (to, from) in name
        .iter_mut()
        .take(libc::IFNAMSIZ - 1)
        .zip(device.as_bytes())
    {
        *to = *from;
    }
    name
}

impl Rule {
    fn expression(self, name: &str, data: Attributes) -> Self {
        Self(self.0.expression(name, data))
    }

    /// Loads a property of the packet into register 1.
    fn meta(self, key: u32) -> Self {
        self.expression(
            "meta",
            Attributes::default()
                .number(NFTA_META_DREG, NFT_REG_1)
                .number(NFTA_META_KEY, key),
        )
    }

    /// Loads octets of the packet into register 1.
    fn payload(self, base: u32, offset: u32, length: u32) -> Self {
        self.expression(
            "payload",
            Attributes::default()
                .number(NFTA_PAYLOAD_DREG, NFT_REG_1)
                .number(NFTA_PAYLOAD_BASE, base)
                .number(NFTA_PAYLOAD_OFFSET, offset)
                .number(NFTA_PAYLOAD_LEN, length),
        )
    }

    /// Goes on if register 1 has this value.
    fn equals(self, with: &[u8]) -> Self {
        self.expression(
            "cmp",
            Attributes::default()
                .number(NFTA_CMP_SREG, NFT_REG_1)
                .number(NFTA_CMP_OP, NFT_CMP_EQ)
                .nested(NFTA_CMP_DATA, value(with)),
        )
    }

    /// `register 1 = register 1 & mask ^ xor`.
    fn bits(self, mask: &[u8], xor: &[u8]) -> Self {
        let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
        self.expression(
            "bitwise",
            Attributes::default()
                .number(NFTA_BITWISE_SREG, NFT_REG_1)
                .number(NFTA_BITWISE_DREG, NFT_REG_1)
                .number(NFTA_BITWISE_LEN, length)
                .nested(NFTA_BITWISE_MASK, value(mask))
                .nested(NFTA_BITWISE_XOR, value(xor)),
        )
    }

    /// `meta mark set meta mark & ~MASK ^ VALUE`. Registers hold marks in host order.
    fn set_mark(self, mark: Mark) -> Self {
        self.meta(NFT_META_MARK)
            .bits(&(!mark.mask).to_ne_bytes(), &mark.value.to_ne_bytes())
            .expression(
                "meta",
                Attributes::default()
                    .number(NFTA_META_KEY, NFT_META_MARK)
                    .number(NFTA_META_SREG, NFT_REG_1),
            )
    }

    fn verdict(self, code: u32) -> Self {
        let verdict = Attributes::default().number(NFTA_VERDICT_CODE, code);
        self.expression(
            "immediate",
            Attributes::default()
                .number(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT)
                .nested(
                    NFTA_IMMEDIATE_DATA,
                    Attributes::default().nested(NFTA_DATA_VERDICT, verdict),
                ),
        )
    }

    fn prefix(self, offset: u32, prefix: &IpNet) -> Self {
        let (IpAddr::V6(network), IpAddr::V6(mask)) = (prefix.network(), prefix.netmask()) else {
            // Not of this table's family: never matches, see `drops`.
            return self;
        };
        self.payload(NFT_PAYLOAD_NETWORK_HEADER, offset, 16)
            .bits(&mask.octets(), &[0; 16])
            .equals(&network.octets())
    }

    fn port(self, offset: u32, port: PortMatch) -> Self {
        if port.mask == 0 {
            return self;
        }
        self.payload(NFT_PAYLOAD_TRANSPORT_HEADER, offset, 2)
            .bits(&port.mask.to_be_bytes(), &[0; 2])
            .equals(&(port.port & port.mask).to_be_bytes())
    }

    /// ICMP's type and code are single octets.
    fn octet(self, offset: u32, port: PortMatch) -> Self {
        if port.mask == 0 {
            return self;
        }
        let [_, mask] = port.mask.to_be_bytes();
        let [_, octet] = (port.port & port.mask).to_be_bytes();
        self.payload(NFT_PAYLOAD_TRANSPORT_HEADER, offset, 1)
            .bits(&[mask], &[0])
            .equals(&[octet])
    }

    /// Goes on if the packet is one that the selector means.
    fn selector(self, selector: &Selector) -> Self {
        let mut rule = self
            .prefix(IPV6_SOURCE, &selector.src)
            .prefix(IPV6_DESTINATION, &selector.dst);
        if selector.protocol != 0 {
            rule = rule.meta(NFT_META_L4PROTO).equals(&[selector.protocol]);
        }
        if selector.protocol == ICMPV6 {
            rule.octet(0, selector.sport).octet(1, selector.dport)
        } else {
            rule.port(0, selector.sport).port(2, selector.dport)
        }
    }

    fn into_attributes(self, chain: &str) -> Attributes {
        Attributes::default()
            .text(NFTA_RULE_TABLE, TABLE)
            .text(NFTA_RULE_CHAIN, chain)
            .nested(NFTA_RULE_EXPRESSIONS, self.0)
    }
}

/// The rules that give the mark to what arrives from the devices, and to nothing else: a firewall that keeps marks by
/// connection (`meta mark set ct mark`) would give it to clear text that looks like a tunnelled connection.
fn arrivals(table: &FilterTable) -> Vec<Rule> {
    let arrival = table.arrival.normalized();
    let unmarked = Mark {
        value: !arrival.value & arrival.mask,
        mask: arrival.mask,
    };
    let from_devices = table.devices.iter().map(|device| {
        let from_device = Rule::default()
            .meta(NFT_META_IIFNAME)
            .equals(&device_name(device));
        from_device.set_mark(arrival)
    });
    std::iter::once(Rule::default().set_mark(unmarked))
        .chain(from_devices)
        .collect()
}

/// The rules that let packets leave unguarded.
fn exempts(table: &FilterTable) -> Vec<Rule> {
    let escape = table.escape.normalized();
    let mut rules = vec![
        Rule::default()
            .meta(NFT_META_MARK)
            .bits(&escape.mask.to_ne_bytes(), &[0; 4])
            .equals(&escape.value.to_ne_bytes()),
        // The kernel's own IPsec is about to protect it.
        Rule::default()
            .expression(
                "rt",
                Attributes::default()
                    .number(NFTA_RT_DREG, NFT_REG_1)
                    .number(NFTA_RT_KEY, NFT_RT_XFRM),
            )
            .equals(&[1]),
    ];
    // What goes into any of our devices is not on its way out in clear, whichever enclosure it is of.
    rules.extend(
        std::iter::once("lo")
            .chain(table.devices.iter().map(String::as_str))
            .map(|device| {
                Rule::default()
                    .meta(NFT_META_OIFNAME)
                    .equals(&device_name(device))
            }),
    );
    for protocol in [ESP, AH] {
        rules.push(Rule::default().meta(NFT_META_L4PROTO).equals(&[protocol]));
    }
    for kind in [NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT] {
        rules.push(
            Rule::default()
                .meta(NFT_META_L4PROTO)
                .equals(&[ICMPV6])
                .octet(0, PortMatch::exact(kind)),
        );
    }
    rules.extend(
        table
            .exceptions
            .iter()
            .filter(|s| s.src.addr().is_ipv6())
            .map(|s| Rule::default().selector(s)),
    );
    rules
        .into_iter()
        .map(|rule| rule.verdict(NF_ACCEPT))
        .collect()
}

/// The rules that drop what leaves by any other device.
fn drops(table: &FilterTable) -> Vec<Rule> {
    table
        .guarded
        .iter()
        .filter(|s| s.src.addr().is_ipv6() && s.dst.addr().is_ipv6())
        .map(|selector| {
            Rule::default()
                .selector(selector)
                .expression("counter", Attributes::default())
                .verdict(NF_DROP)
        })
        .collect()
}

impl Batch {
    fn table(&mut self, kind: u16, flags: u16) {
        let table = Attributes::default().text(NFTA_TABLE_NAME, TABLE);
        self.message(kind, flags, table);
    }

    fn chain(&mut self, name: &str, hook: u32, priority: i32) {
        let hook = Attributes::default()
            .number(NFTA_HOOK_HOOKNUM, hook)
            .bytes(NFTA_HOOK_PRIORITY, &priority.to_be_bytes());
        self.message(
            NFT_MSG_NEWCHAIN,
            NLM_F_CREATE,
            Attributes::default()
                .text(NFTA_CHAIN_TABLE, TABLE)
                .text(NFTA_CHAIN_NAME, name)
                .nested(NFTA_CHAIN_HOOK, hook)
                .number(NFTA_CHAIN_POLICY, NF_ACCEPT)
                .text(NFTA_CHAIN_TYPE, "filter"),
        );
    }
}

impl PacketFilter for Nftables {
    fn load(&mut self, table: &FilterTable) -> Result<(), RequestError> {
        let operation = "load table ip6 cygnet";
        let mut batch = self.batch();
        clear(&mut batch, 0);
        batch.table(NFT_MSG_NEWTABLE, NLM_F_CREATE);
        let rules: Vec<(&str, Rule)> = arrivals(table)
            .into_iter()
            .map(|rule| (ARRIVAL, rule))
            .chain(exempts(table).into_iter().map(|rule| (LEAVING, rule)))
            .chain(drops(table).into_iter().map(|rule| (LEAVING, rule)))
            .collect();
        batch.chain(ARRIVAL, NF_INET_PRE_ROUTING, ARRIVAL_PRIORITY);
        batch.chain(LEAVING, NF_INET_POST_ROUTING, LEAVING_PRIORITY);
        let count = rules.len();
        for (place, (chain, rule)) in rules.into_iter().enumerate() {
            // Never empty: the exempting rules are always there.
            let ack = if place + 1 == count { NLM_F_ACK } else { 0 };
            batch.message(
                NFT_MSG_NEWRULE,
                NLM_F_CREATE | NLM_F_APPEND | ack,
                rule.into_attributes(chain),
            );
        }
        self.finish(operation, batch)
    }

    fn unload(&mut self) -> Result<(), RequestError> {
        let mut batch = self.batch();
        clear(&mut batch, NLM_F_ACK);
        self.finish("delete table ip6 cygnet", batch)
    }
}
