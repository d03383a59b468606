//! docs/modes.md is written from the code: what Child SAs can be, and which data plane has it.

use std::fmt::Write as _;
use std::path::Path;

use cygnet_dataplane::FEATURES;

const HEAD: &str = "\
# Modes, protocols and options of Child SAs

*Written by a test of `crates/dataplane` from what the code has; change it there.*

What the kernel has is found out when the daemon starts, by use; the column names what it takes. `dataplane=auto` is
the kernel where it has all that a connection needs, else user space. What a connection cannot do without and its
data plane does not have is refused when the connection is loaded; the rest is not offered to the peer, and declined
where the peer offers it.

| | ipsec.conf | specified in | in the kernel | in user space | without it |
|---|---|---|---|---|---|
";

const TAIL: &str = "
## Not negotiated yet

| | ipsec.conf | specified in |
|---|---|---|
| AH around ESP | `phase2=ah+esp` | RFC 4301 |

BEET mode is negotiated by a notification of strongSwan's, of a number for private use (40961). strongSwan takes it
from those who send its vendor ID, so `type=beet` sends that. AH does not go through a NAT: behind one a Child SA by
AH is refused with NO_PROPOSAL_CHOSEN. In user space packets with IPv6 extension headers in front of AH are dropped:
the sockets do not show them. Packets that do not become smaller are not compressed; a peer without IPComp
gets a Child SA without, and so does a tunnel with packets of the other family inside. IP-TFS is of ESP in tunnel mode
only, without IPComp and padding; a peer that does not agree to it, or requires congestion control, which the kernel
does not have, gets an ordinary tunnel. A kernel without the module may take SAs of IP-TFS and drop all that they should
carry; the daemon sees that. Linux 7.3.4 drops a packet of IP-TFS that arrives as a list of ten or more buffers
(XfrmInBufferError): only virtual wires bring what another kernel has aggregated so, until `ethtool -K DEVICE
tx-scatter-gather-fraglist off` at the sending end. A kernel with the modules esp4_offload and esp6_offload loaded does not
pad what leaves as ESP without UDP, whatever `tfc=` says. With `label-mode=simple` a security
label is negotiated and not given to the kernel, as strongSwan has it; labels have to be equal, octet by octet, and one
of `sec-label=` ends with a zero octet on the wire, as SELinux's do. SELinux lets packets go by SAs with the label of their
own sockets only: that is the one to configure, not one of a policy for several. Of SAs for single CPUs the first
Child SA is for all packets that have no other; each CPU on which packets are met then gets one of its own, which the first one takes along when it ends.
A kernel that asks for one drops what that CPU sends until it has it, or for 30 s, though the first Child SA is there: the
policies ask only as long as `clones=` and the peer let there be more. strongSwan 6.1 goes on asking a peer that has refused,
and loses what its own CPU sends.
";

fn written() -> String {
    let refused = "the connection is not loaded";
    let rows = [
        (
            "tunnel mode",
            "`type=tunnel`",
            "RFC 4301",
            "XFRM",
            true,
            refused,
        ),
        (
            "transport mode",
            "`type=transport`",
            "RFC 4301",
            "XFRM",
            FEATURES.transport,
            refused,
        ),
        (
            "BEET mode",
            "`type=beet`",
            "draft-nikander-esp-beet-mode",
            "INET_ESP and XFRM",
            FEATURES.beet,
            refused,
        ),
        (
            "AH",
            "`ah=`, `phase2=ah`",
            "RFC 4302",
            "INET_AH, INET6_AH",
            FEATURES.ah,
            refused,
        ),
        (
            "IPComp with DEFLATE",
            "`compress=yes`",
            "RFC 3173, RFC 2394",
            "INET_IPCOMP, INET6_IPCOMP",
            FEATURES.ipcomp,
            "not compressed",
        ),
        (
            "extended sequence numbers",
            "`esn=`",
            "RFC 4303",
            "2.6.39",
            FEATURES.esn,
            "both planes have them",
        ),
        (
            "IP-TFS",
            "`iptfs=yes`",
            "RFC 9347",
            "XFRM_IPTFS (6.14)",
            FEATURES.iptfs,
            "an ordinary tunnel",
        ),
        (
            "SAs for single CPUs",
            "`clones=`",
            "RFC 9611",
            "6.13",
            FEATURES.per_cpu,
            "one for all",
        ),
        (
            "padding against traffic analysis",
            "`tfc=`",
            "RFC 4303 §2.7",
            "2.6.38",
            FEATURES.tfc_padding,
            refused,
        ),
        (
            "security labels",
            "`sec-label=`",
            "RFC 9478",
            "SECURITY_NETWORK_XFRM and SELinux",
            FEATURES.labels,
            "`label-mode=simple`, or the connection is not loaded",
        ),
    ];
    let mut page = HEAD.to_owned();
    for (what, keyword, source, kernel, userspace, without) in rows {
        let userspace = if userspace { "yes" } else { "no" };
        let _ = writeln!(
            page,
            "| {what} | {keyword} | {source} | {kernel} | {userspace} | {without} |"
        );
    }
    page + TAIL
}

#[test]
fn the_page_of_modes_says_what_the_code_has() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/modes.md");
    let page = written();
    if std::env::var_os("CYGNET_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("to write docs/modes.md");
    }
    assert!(
        std::fs::read_to_string(&path).is_ok_and(|there| there == page),
        "docs/modes.md is not what the code says; write it anew with `CYGNET_UPDATE_DOCS=1 cargo test -p cygnet-dataplane \
         --test documentation`"
    );
}
