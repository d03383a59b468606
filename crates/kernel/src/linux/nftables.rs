//! The one nftables table that we own, spoken to over nfnetlink directly.
//!
//! Equivalent to
//!
//! ```text
//! table ip6 cygnet {
//!     chain arrival {
//!         type filter hook prerouting priority -149; policy accept;
//!         iifname "ipsec0" meta mark set meta mark & 0xdfffffff ^ 0x20000000
//!     }
//! }
//! ```
//!
//! with one rule per device. Why, says [`crate::fence`]. The table is replaced as a whole in one transaction, so that
//! there is no moment with half of it, and no state to keep in step. A foreign `flush ruleset` removes it: traffic out of
//! the tunnel is then dropped by the fence's block policies, never the other way round.

use cygnet_ipsec::Mark;

use crate::fence::ArrivalMarks;
use crate::netlink::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, RequestError, RequestSocket, error_of, frames,
};

/// Name of our table, in the family `ip6`.
pub const TABLE: &str = "cygnet";
const CHAIN: &str = "arrival";

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

const NF_INET_PRE_ROUTING: u32 = 0;
/// Just after `mangle` (-150), where administrators set marks: ours is added to theirs, not overwritten.
const PRIORITY: i32 = -149;
const NF_ACCEPT: u32 = 1;
const NFT_META_MARK: u32 = 3;
const NFT_META_IIFNAME: u32 = 6;
const NFT_CMP_EQ: u32 = 0;
const NFT_REG_1: u32 = 1;

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
    let table = || Attributes::default().text(NFTA_TABLE_NAME, TABLE);
    batch.message(NFT_MSG_NEWTABLE, NLM_F_CREATE, table());
    batch.message(NFT_MSG_DELTABLE, flags, table());
}

/// `iifname DEVICE meta mark set meta mark & ~MASK ^ VALUE`.
fn mark_rule(device: &str, mark: Mark) -> Attributes {
    let mark = mark.normalized();
    // Compared over the whole field: `ipsec1` must not match `ipsec10`.
    let mut name = [0u8; libc::IFNAMSIZ];
    for (to, from) in name
        .iter_mut()
        .take(libc::IFNAMSIZ - 1)
        .zip(device.as_bytes())
    {
        *to = *from;
    }
    let value = |bytes: &[u8]| Attributes::default().bytes(NFTA_DATA_VALUE, bytes);
    let expressions = Attributes::default()
        .expression(
            "meta",
            Attributes::default()
                .number(NFTA_META_DREG, NFT_REG_1)
                .number(NFTA_META_KEY, NFT_META_IIFNAME),
        )
        .expression(
            "cmp",
            Attributes::default()
                .number(NFTA_CMP_SREG, NFT_REG_1)
                .number(NFTA_CMP_OP, NFT_CMP_EQ)
                .nested(NFTA_CMP_DATA, value(&name)),
        )
        .expression(
            "meta",
            Attributes::default()
                .number(NFTA_META_DREG, NFT_REG_1)
                .number(NFTA_META_KEY, NFT_META_MARK),
        )
        .expression(
            // Registers hold the mark in host order.
            "bitwise",
            Attributes::default()
                .number(NFTA_BITWISE_SREG, NFT_REG_1)
                .number(NFTA_BITWISE_DREG, NFT_REG_1)
                .number(NFTA_BITWISE_LEN, 4)
                .nested(NFTA_BITWISE_MASK, value(&(!mark.mask).to_ne_bytes()))
                .nested(NFTA_BITWISE_XOR, value(&mark.value.to_ne_bytes())),
        )
        .expression(
            "meta",
            Attributes::default()
                .number(NFTA_META_KEY, NFT_META_MARK)
                .number(NFTA_META_SREG, NFT_REG_1),
        );
    Attributes::default()
        .text(NFTA_RULE_TABLE, TABLE)
        .text(NFTA_RULE_CHAIN, CHAIN)
        .nested(NFTA_RULE_EXPRESSIONS, expressions)
}

impl ArrivalMarks for Nftables {
    fn set_arrival_marks(&mut self, devices: &[String], mark: Mark) -> Result<(), RequestError> {
        if devices.is_empty() {
            return self.clear_arrival_marks();
        }
        let operation = format!("mark ipv6 packets from {}", devices.join(", "));
        let mut batch = self.batch();
        clear(&mut batch, 0);
        batch.message(
            NFT_MSG_NEWTABLE,
            NLM_F_CREATE,
            Attributes::default().text(NFTA_TABLE_NAME, TABLE),
        );
        let hook = Attributes::default()
            .number(NFTA_HOOK_HOOKNUM, NF_INET_PRE_ROUTING)
            .bytes(NFTA_HOOK_PRIORITY, &PRIORITY.to_be_bytes());
        batch.message(
            NFT_MSG_NEWCHAIN,
            NLM_F_CREATE,
            Attributes::default()
                .text(NFTA_CHAIN_TABLE, TABLE)
                .text(NFTA_CHAIN_NAME, CHAIN)
                .nested(NFTA_CHAIN_HOOK, hook)
                .number(NFTA_CHAIN_POLICY, NF_ACCEPT)
                .text(NFTA_CHAIN_TYPE, "filter"),
        );
        for (place, device) in devices.iter().enumerate() {
            let ack = if place + 1 == devices.len() {
                NLM_F_ACK
            } else {
                0
            };
            // NLM_F_APPEND (0x800) keeps the order of the list.
            batch.message(
                NFT_MSG_NEWRULE,
                NLM_F_CREATE | 0x800 | ack,
                mark_rule(device, mark),
            );
        }
        self.finish(&operation, batch)
    }

    fn clear_arrival_marks(&mut self) -> Result<(), RequestError> {
        let mut batch = self.batch();
        clear(&mut batch, NLM_F_ACK);
        self.finish("delete table ip6 cygnet", batch)
    }
}
