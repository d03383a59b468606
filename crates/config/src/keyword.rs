//! Every keyword of ipsec.conf, in one table: what it takes, its default, and
//! what Cygnet makes of it.
//!
//! The parser looks keywords up here, the documentation is written from here,
//! and a test compares the defaults named here with those in force. What
//! libreswan knows and Cygnet does not yet is listed too, so that nobody is
//! told that a right word is wrong.

/// Where a keyword may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// In `config setup`.
    Setup,
    /// In `conn`.
    Conn,
}

/// What Cygnet makes of a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does what it says.
    Supported,
    /// Another name for the keyword given.
    Alias(&'static str),
    /// It means nothing any more; accepted with a warning that says why.
    Obsolete(&'static str),
    /// It will do something, and until then it does no harm that it does not: accepted with a
    /// warning, without one for values that ask for nothing.
    NoEffectYet {
        /// Values that describe what happens anyway.
        inert: &'static [&'static str],
    },
    /// Leaving it out would change what the user asked for: refused, but for values that ask for nothing.
    NotSupportedYet {
        /// Values that describe what happens anyway.
        inert: &'static [&'static str],
    },
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyword {
    /// Its name, in lower case; without `left` or `right` if it is sided.
    pub name: &'static str,
    /// Where it may stand.
    pub section: Section,
    /// It exists as `left…` and as `right…`, one for each end.
    pub sided: bool,
    /// The values it takes, in words.
    pub values: &'static str,
    /// The value that is assumed without it; empty if there is none.
    pub default: &'static str,
    /// What it is for.
    pub summary: &'static str,
    /// What Cygnet makes of it.
    pub status: Status,
}

impl Keyword {
    /// The keyword as a user writes it; for a sided one, its left form.
    pub fn written(&self) -> String {
        if self.sided {
            format!("left{}", self.name)
        } else {
            self.name.to_owned()
        }
    }
}

/// Which end of a connection a keyword was written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// The connection as a whole.
    Both,
    Left,
    Right,
}

impl Side {
    /// The keyword of that side.
    pub(crate) fn write(self, name: &str) -> String {
        match self {
            Self::Both => name.to_owned(),
            Self::Left => format!("left{name}"),
            Self::Right => format!("right{name}"),
        }
    }
}

use Section::{Conn, Setup};
use Status::{Alias, NoEffectYet, NotSupportedYet, Obsolete, Supported};

const fn row(
    section: Section,
    name: &'static str,
    values: &'static str,
    default: &'static str,
    status: Status,
    summary: &'static str,
) -> Keyword {
    Keyword {
        name,
        section,
        sided: false,
        values,
        default,
        summary,
        status,
    }
}

const fn sided(
    name: &'static str,
    values: &'static str,
    default: &'static str,
    status: Status,
    summary: &'static str,
) -> Keyword {
    Keyword {
        name,
        section: Conn,
        sided: true,
        values,
        default,
        summary,
        status,
    }
}

/// Refused with any value.
const REFUSED: Status = NotSupportedYet { inert: &[] };
/// Without effect whatever the value.
const IDLE: Status = NoEffectYet { inert: &[] };
/// Refused but for `no`.
const REFUSED_UNLESS_NO: Status = NotSupportedYet { inert: &["no"] };
/// Without effect; `no` is what happens anyway.
const IDLE_BUT_NO: Status = NoEffectYet { inert: &["no"] };
/// Without effect; `yes` is what happens anyway.
const IDLE_BUT_YES: Status = NoEffectYet { inert: &["yes"] };
const IKEV1: Status = Obsolete("it concerns IKEv1, which Cygnet does not speak");

/// The table: `config setup`, then `conn`, each in the order of the documentation.
pub const KEYWORDS: &[Keyword] = &[
    // --- config setup ---
    row(
        Setup,
        "listen",
        "addresses",
        "",
        Supported,
        "Addresses that IKE binds to; without it, every address of the host.",
    ),
    row(
        Setup,
        "uniqueids",
        "yes, no",
        "yes",
        Supported,
        "A new IKE SA with an identity that is connected already replaces the old one.",
    ),
    row(
        Setup,
        "keep-alive",
        "duration",
        "20s",
        Supported,
        "Time between NAT keepalives.",
    ),
    row(
        Setup,
        "max-halfopen-ike",
        "number",
        "50000",
        Supported,
        "Half-open IKE SAs above which new ones are refused.",
    ),
    row(
        Setup,
        "ddos-mode",
        "auto, busy, unlimited",
        "auto",
        Supported,
        "Ask for cookies above the threshold, always, or never.",
    ),
    row(
        Setup,
        "ddos-ike-threshold",
        "number",
        "25000",
        Supported,
        "Half-open IKE SAs from which on cookies are asked for.",
    ),
    row(
        Setup,
        "protostack",
        "xfrm",
        "xfrm",
        Supported,
        "Kept for old files; `dataplane=` of a connection chooses who does ESP.",
    ),
    row(
        Setup,
        "ikev1-policy",
        "drop, reject, accept",
        "drop",
        NotSupportedYet { inert: &["drop"] },
        "What happens to IKEv1 packets.",
    ),
    row(
        Setup,
        "listen-udp",
        "yes, no",
        "yes",
        NotSupportedYet { inert: &["yes"] },
        "IKE on UDP ports 500 and 4500.",
    ),
    row(
        Setup,
        "listen-tcp",
        "yes, no",
        "no",
        REFUSED_UNLESS_NO,
        "IKE and ESP on TCP port 4500 (RFC 9329).",
    ),
    row(
        Setup,
        "ike-socket-bufsize",
        "number",
        "",
        IDLE,
        "Size of the socket buffers.",
    ),
    row(
        Setup,
        "ike-socket-errqueue",
        "yes, no",
        "yes",
        IDLE,
        "Heed ICMP errors on the IKE sockets.",
    ),
    row(
        Setup,
        "myvendorid",
        "text",
        "",
        IDLE,
        "Text of the vendor ID.",
    ),
    row(
        Setup,
        "drop-oppo-null",
        "yes, no",
        "no",
        IDLE_BUT_NO,
        "Ignore anonymous peers.",
    ),
    row(
        Setup,
        "global-redirect",
        "no, yes, auto",
        "no",
        REFUSED_UNLESS_NO,
        "Redirect peers in IKE_SA_INIT (RFC 5685).",
    ),
    row(
        Setup,
        "global-redirect-to",
        "list of hosts",
        "",
        REFUSED,
        "Where to.",
    ),
    row(
        Setup,
        "ipsec-interface-managed",
        "yes, no",
        "yes",
        IDLE_BUT_YES,
        "Whether the daemon owns the ipsec devices.",
    ),
    row(
        Setup,
        "nflog-all",
        "number",
        "0",
        NoEffectYet { inert: &["0"] },
        "Log group for all packets in clear.",
    ),
    row(
        Setup,
        "expire-lifetime",
        "duration",
        "30s",
        NoEffectYet {
            inert: &["30s", "30"],
        },
        "Life of the kernel's larval SAs.",
    ),
    row(
        Setup,
        "shuntlifetime",
        "duration",
        "15m",
        NoEffectYet { inert: &["15m"] },
        "Life of policies without a connection.",
    ),
    row(
        Setup,
        "expire-shunt-interval",
        "duration",
        "20s",
        NoEffectYet {
            inert: &["20s", "20"],
        },
        "How often those are looked at.",
    ),
    row(
        Setup,
        "virtual-private",
        "list of networks",
        "",
        IDLE,
        "Networks that clients behind NAT may have.",
    ),
    row(
        Setup,
        "curl-iface",
        "interface",
        "",
        IDLE,
        "Interface for CRL downloads.",
    ),
    row(
        Setup,
        "crl-strict",
        "yes, no",
        "no",
        IDLE_BUT_NO,
        "Refuse certificates without a fresh CRL.",
    ),
    row(
        Setup,
        "crlcheckinterval",
        "duration",
        "0",
        NoEffectYet { inert: &["0"] },
        "How often CRLs are fetched.",
    ),
    row(
        Setup,
        "crl-timeout",
        "duration",
        "5s",
        NoEffectYet {
            inert: &["5s", "5"],
        },
        "How long a CRL is waited for.",
    ),
    row(
        Setup,
        "ocsp-enable",
        "yes, no",
        "no",
        IDLE_BUT_NO,
        "Ask OCSP responders.",
    ),
    row(
        Setup,
        "ocsp-strict",
        "yes, no",
        "no",
        IDLE_BUT_NO,
        "Refuse certificates without an answer.",
    ),
    row(
        Setup,
        "ocsp-method",
        "get, post",
        "get",
        NoEffectYet { inert: &["get"] },
        "How they are asked.",
    ),
    row(
        Setup,
        "ocsp-timeout",
        "duration",
        "2s",
        NoEffectYet {
            inert: &["2s", "2"],
        },
        "How long an answer is waited for.",
    ),
    row(Setup, "ocsp-uri", "URI", "", IDLE, "The default responder."),
    row(
        Setup,
        "ocsp-trustname",
        "name",
        "",
        IDLE,
        "Its certificate.",
    ),
    row(
        Setup,
        "ocsp-cache-size",
        "number",
        "1000",
        NoEffectYet { inert: &["1000"] },
        "Answers that are remembered.",
    ),
    row(
        Setup,
        "ocsp-cache-min-age",
        "duration",
        "1h",
        NoEffectYet {
            inert: &["1h", "3600"],
        },
        "How long at least.",
    ),
    row(
        Setup,
        "ocsp-cache-max-age",
        "duration",
        "1d",
        NoEffectYet {
            inert: &["1d", "24h", "86400"],
        },
        "How long at most.",
    ),
    row(
        Setup,
        "dnssec-enable",
        "yes, no",
        "yes",
        IDLE_BUT_NO,
        "Validate DNS answers.",
    ),
    row(
        Setup,
        "dnssec-rootkey-file",
        "file",
        "",
        IDLE,
        "Trust anchor of the root.",
    ),
    row(
        Setup,
        "dnssec-anchors",
        "files",
        "",
        IDLE,
        "More trust anchors.",
    ),
    row(
        Setup,
        "dns-resolver",
        "file, systemd",
        "file",
        NoEffectYet { inert: &["file"] },
        "Where DNS servers from the peer are written.",
    ),
    row(
        Setup,
        "nhelpers",
        "number",
        "-1",
        NoEffectYet { inert: &["-1"] },
        "Threads for public-key operations.",
    ),
    row(
        Setup,
        "seccomp",
        "enabled, tolerant, disabled",
        "disabled",
        NoEffectYet {
            inert: &["disabled"],
        },
        "System-call filter.",
    ),
    row(Setup, "seedbits", "number", "", IDLE, "Extra random seed."),
    row(
        Setup,
        "seeddev",
        "file",
        "/dev/random",
        IDLE,
        "Where it is read.",
    ),
    row(
        Setup,
        "statsbin",
        "program",
        "",
        IDLE,
        "Program that is told about changes of tunnels.",
    ),
    row(
        Setup,
        "logfile",
        "file",
        "",
        IDLE,
        "Log to a file; Cygnet logs to its standard error.",
    ),
    row(
        Setup,
        "logtime",
        "yes, no",
        "yes",
        IDLE_BUT_YES,
        "Times in that file.",
    ),
    row(
        Setup,
        "logappend",
        "yes, no",
        "yes",
        IDLE_BUT_YES,
        "Append to that file.",
    ),
    row(
        Setup,
        "logip",
        "yes, no",
        "yes",
        IDLE_BUT_YES,
        "Addresses of peers in the log.",
    ),
    row(
        Setup,
        "loglimit",
        "yes, no",
        "yes",
        IDLE_BUT_YES,
        "Limit the rate of messages.",
    ),
    row(
        Setup,
        "audit-log",
        "yes, no",
        "yes",
        IDLE_BUT_NO,
        "Linux audit records.",
    ),
    row(
        Setup,
        "plutodebug",
        "list of topics",
        "",
        NoEffectYet {
            inert: &["none", ""],
        },
        "What to log more of.",
    ),
    row(
        Setup,
        "ipsecdir",
        "directory",
        "",
        IDLE,
        "Where policy groups are.",
    ),
    row(Setup, "nssdir", "directory", "", IDLE, "The NSS database."),
    row(
        Setup,
        "secretsfile",
        "file",
        "",
        REFUSED,
        "The secrets; an option of the daemon's command line here.",
    ),
    row(
        Setup,
        "dumpdir",
        "directory",
        "",
        IDLE,
        "Where core dumps go.",
    ),
    row(
        Setup,
        "rundir",
        "directory",
        "",
        Obsolete("only packagers could ever set it"),
        "Run-time directory.",
    ),
    row(
        Setup,
        "exampledir",
        "directory",
        "",
        Obsolete("only packagers could ever set it"),
        "Where the examples are.",
    ),
    // --- conn: the ends ---
    sided(
        "",
        "address, name, %any, %defaultroute, %INTERFACE",
        "",
        Supported,
        "Where the end is reached. Both are required.",
    ),
    sided(
        "id",
        "address, @name, mail address, @[key ID], @#hex",
        "its address",
        Supported,
        "Who the end is.",
    ),
    sided(
        "subnet",
        "net/mask[/protocol[/port]], …",
        "the host itself",
        Supported,
        "The networks behind the end: one or several, of one family or both, in one Child SA.",
    ),
    sided(
        "protoport",
        "protocol[/port]",
        "",
        Supported,
        "Only this protocol and port of the end; for ICMP, type*256+code.",
    ),
    sided(
        "sourceip",
        "addresses",
        "",
        Supported,
        "Source addresses of this host's own packets into the tunnel.",
    ),
    sided(
        "nexthop",
        "address, %direct, %defaultroute",
        "%direct",
        Supported,
        "Gateway toward the other end.",
    ),
    sided(
        "ikeport",
        "port",
        "500",
        Supported,
        "UDP port of the end's IKE.",
    ),
    sided(
        "auth",
        "secret",
        "",
        Supported,
        "How the end proves who it is. For both ends or neither.",
    ),
    sided(
        "interface-ip",
        "address/mask",
        "",
        REFUSED,
        "Address on the ipsec device.",
    ),
    sided(
        "subnets",
        "list",
        "",
        REFUSED,
        "Networks, each pair with a Child SA of its own.",
    ),
    sided(
        "addresspool",
        "ranges",
        "",
        REFUSED,
        "Addresses to lease to peers.",
    ),
    sided(
        "autheap",
        "none, tls",
        "none",
        NotSupportedYet { inert: &["none"] },
        "EAP method.",
    ),
    sided("cert", "nickname", "", REFUSED, "Certificate."),
    sided("ckaid", "hex", "", REFUSED, "Key by its ID."),
    sided("pubkey", "key", "", REFUSED, "Public key."),
    sided(
        "rsasigkey",
        "key",
        "",
        NotSupportedYet { inert: &["%none"] },
        "RSA public key.",
    ),
    sided(
        "ecdsakey",
        "key",
        "",
        NotSupportedYet { inert: &["%none"] },
        "ECDSA public key.",
    ),
    sided(
        "eddsakey",
        "key",
        "",
        NotSupportedYet { inert: &["%none"] },
        "EdDSA public key.",
    ),
    sided(
        "ca",
        "name",
        "",
        REFUSED,
        "Only certificates of this issuer.",
    ),
    sided(
        "sendcert",
        "always, sendifasked, never",
        "always",
        IDLE,
        "When to send the certificate.",
    ),
    sided(
        "updown",
        "command",
        "",
        NotSupportedYet {
            inert: &["", "%disabled", "ipsec _updown", "ipsec _updown.xfrm"],
        },
        "Command to run when the tunnel changes. Cygnet needs none for itself.",
    ),
    sided(
        "updown-config",
        "list",
        "",
        IDLE,
        "How that command is run.",
    ),
    sided(
        "vti",
        "address/mask",
        "",
        REFUSED,
        "Address on the VTI device.",
    ),
    sided(
        "modecfgserver",
        "yes, no",
        "no",
        REFUSED_UNLESS_NO,
        "The end leases addresses.",
    ),
    sided(
        "modecfgclient",
        "yes, no",
        "no",
        REFUSED_UNLESS_NO,
        "The end asks for an address.",
    ),
    sided(
        "cat",
        "yes, no",
        "no",
        REFUSED_UNLESS_NO,
        "Client address translation.",
    ),
    sided(
        "username",
        "name",
        "",
        REFUSED,
        "User name for EAP or XAUTH.",
    ),
    sided("xauthusername", "name", "", Alias("username"), ""),
    sided(
        "groundhog",
        "yes, no",
        "no",
        REFUSED_UNLESS_NO,
        "The end's clock stands still; for tests.",
    ),
    sided("xauthserver", "yes, no", "no", IKEV1, "XAUTH."),
    sided("xauthclient", "yes, no", "no", IKEV1, "XAUTH."),
    // --- conn: when and what ---
    row(
        Conn,
        "auto",
        "ignore, add, ondemand (route), start (up), keep",
        "ignore",
        Supported,
        "What to do when the connection is loaded: nothing; wait; negotiate with the first packet; negotiate now; keep up once it is up.",
    ),
    row(
        Conn,
        "also",
        "name of a conn",
        "",
        Supported,
        "Take over what the other section says and this one does not.",
    ),
    row(
        Conn,
        "type",
        "tunnel, transport, passthrough, drop",
        "tunnel",
        Supported,
        "What happens to the packets: ESP in one of its modes, nothing, or their end.",
    ),
    row(
        Conn,
        "dataplane",
        "auto, kernel, userspace",
        "auto",
        Supported,
        "Who does ESP: the kernel where it can, the kernel, Cygnet. libreswan does not know this keyword.",
    ),
    row(
        Conn,
        "keyexchange",
        "ikev2",
        "ikev2",
        Supported,
        "The protocol.",
    ),
    row(
        Conn,
        "ikev2",
        "yes, insist, propose",
        "yes",
        Supported,
        "Old form of `keyexchange=ikev2`.",
    ),
    row(
        Conn,
        "authby",
        "secret",
        "",
        Supported,
        "How both ends prove who they are. `never` goes with `type=passthrough` and `type=drop`.",
    ),
    row(
        Conn,
        "ike",
        "proposals",
        "a list of strong ones",
        Supported,
        "Algorithms of the IKE SA: ENCR[-PRF][-INTEG][-KE], …",
    ),
    row(
        Conn,
        "esp",
        "proposals",
        "a list of strong ones",
        Supported,
        "Algorithms of the Child SA: ENCR[-INTEG][-KE], …",
    ),
    row(Conn, "phase2alg", "proposals", "", Alias("esp"), ""),
    row(
        Conn,
        "phase2",
        "esp",
        "esp",
        Supported,
        "The protocol of the Child SA.",
    ),
    row(
        Conn,
        "ah",
        "proposals",
        "",
        REFUSED,
        "Authenticate with AH, do not encrypt.",
    ),
    row(
        Conn,
        "esn",
        "yes, no, either",
        "either",
        Supported,
        "Extended sequence numbers; `no` if there is no replay window.",
    ),
    row(
        Conn,
        "replay-window",
        "packets, up to 4096",
        "128",
        Supported,
        "Size of the replay window; 0: no replay check and no ESN.",
    ),
    // --- conn: lives ---
    row(
        Conn,
        "ikelifetime",
        "duration, up to 24h",
        "8h",
        Supported,
        "Life of the IKE SA.",
    ),
    row(
        Conn,
        "ipsec-lifetime",
        "duration, up to 24h",
        "8h",
        Supported,
        "Life of the Child SA.",
    ),
    row(
        Conn,
        "lifetime",
        "duration",
        "",
        Alias("ipsec-lifetime"),
        "",
    ),
    row(Conn, "keylife", "duration", "", Alias("ipsec-lifetime"), ""),
    row(
        Conn,
        "salifetime",
        "duration",
        "",
        Alias("ipsec-lifetime"),
        "",
    ),
    row(
        Conn,
        "ipsec-max-bytes",
        "octets",
        "2^63",
        Supported,
        "Octets that a Child SA may carry in each direction (KiB … EiB).",
    ),
    row(
        Conn,
        "ipsec-max-packets",
        "packets",
        "2^63",
        Supported,
        "Packets that it may carry (Ki … Ei).",
    ),
    row(
        Conn,
        "rekey",
        "yes, no",
        "yes",
        Supported,
        "Replace SAs before they end.",
    ),
    row(
        Conn,
        "rekeymargin",
        "duration",
        "9m",
        Supported,
        "How long before.",
    ),
    row(
        Conn,
        "rekeyfuzz",
        "percent",
        "100%",
        Supported,
        "How much longer, at random.",
    ),
    row(
        Conn,
        "retransmit-interval",
        "duration, in ms without a unit",
        "500ms",
        Supported,
        "Wait before the first repetition of a request; doubles each time.",
    ),
    row(
        Conn,
        "retransmit-timeout",
        "duration",
        "60s",
        Supported,
        "When a request is given up and the peer is dead.",
    ),
    row(
        Conn,
        "dpddelay",
        "duration",
        "0",
        Supported,
        "Silence after which the peer is probed; 0: never.",
    ),
    row(
        Conn,
        "pfs",
        "yes, no",
        "yes",
        IDLE_BUT_YES,
        "A key exchange with every Child SA but the first.",
    ),
    row(
        Conn,
        "reauth",
        "yes, no",
        "no",
        REFUSED_UNLESS_NO,
        "Authenticate anew instead of rekeying.",
    ),
    // --- conn: packets ---
    row(
        Conn,
        "negotiationshunt",
        "drop, passthrough",
        "drop",
        Supported,
        "Packets in clear while there is no SA yet.",
    ),
    row(
        Conn,
        "failureshunt",
        "none, drop, passthrough",
        "none",
        Supported,
        "Packets in clear after negotiation failed.",
    ),
    row(
        Conn,
        "encapsulation",
        "auto, yes, no",
        "auto",
        Supported,
        "ESP in UDP: behind NAT, always, never.",
    ),
    row(
        Conn,
        "encap-dscp",
        "yes, no",
        "yes",
        Supported,
        "Copy the DSCP outwards.",
    ),
    row(
        Conn,
        "decap-dscp",
        "yes, no",
        "no",
        Supported,
        "Copy the DSCP inwards.",
    ),
    row(
        Conn,
        "nopmtudisc",
        "yes, no",
        "no",
        Supported,
        "Leave DF clear in the outer header.",
    ),
    row(
        Conn,
        "mtu",
        "octets",
        "",
        Supported,
        "MTU of the routes into the tunnel.",
    ),
    row(
        Conn,
        "mark",
        "value[/mask]",
        "",
        Supported,
        "Only packets with this mark, both ways.",
    ),
    row(
        Conn,
        "mark-in",
        "value[/mask]",
        "",
        Supported,
        "The same, inbound.",
    ),
    row(
        Conn,
        "mark-out",
        "value[/mask]",
        "",
        Supported,
        "The same, outbound.",
    ),
    row(
        Conn,
        "priority",
        "number",
        "0",
        Supported,
        "Priority of the policies; 0: by the selectors.",
    ),
    row(
        Conn,
        "reqid",
        "1 to 16383",
        "",
        Supported,
        "Reqid of the SAs; without it, one is allocated.",
    ),
    // --- conn: not yet ---
    row(
        Conn,
        "ipsec-interface",
        "no, yes, number",
        "no",
        REFUSED_UNLESS_NO,
        "Route-based: an ipsec device.",
    ),
    row(
        Conn,
        "hostaddrfamily",
        "ipv4, ipv6",
        "",
        REFUSED,
        "Family of a name that has both.",
    ),
    row(
        Conn,
        "sendca",
        "none, issuer, all",
        "all",
        IDLE,
        "CA certificates to send.",
    ),
    row(
        Conn,
        "require-id-on-certificate",
        "yes, no",
        "yes",
        IDLE_BUT_YES,
        "The certificate must carry the ID.",
    ),
    row(
        Conn,
        "dns-match-id",
        "yes, no",
        "no",
        REFUSED_UNLESS_NO,
        "The ID must be the name of the address.",
    ),
    row(
        Conn,
        "pam-authorize",
        "yes, no",
        "no",
        REFUSED_UNLESS_NO,
        "PAM decides who may connect.",
    ),
    row(
        Conn,
        "send-supported-auth-methods",
        "yes, no",
        "no",
        IDLE_BUT_NO,
        "RFC 9593.",
    ),
    row(
        Conn,
        "fragmentation",
        "yes, no, force",
        "yes",
        IDLE_BUT_NO,
        "IKE fragments (RFC 7383).",
    ),
    row(
        Conn,
        "intermediate",
        "yes, no",
        "no",
        REFUSED_UNLESS_NO,
        "IKE_INTERMEDIATE (RFC 9242).",
    ),
    row(
        Conn,
        "ppk",
        "never, permit, propose, insist",
        "never",
        NotSupportedYet {
            inert: &["never", "no"],
        },
        "Post-quantum pre-shared keys (RFC 8784).",
    ),
    row(Conn, "ppk-ids", "list", "", REFUSED, "Which of them."),
    row(
        Conn,
        "mobike",
        "yes, no",
        "no",
        REFUSED_UNLESS_NO,
        "Changes of address (RFC 4555).",
    ),
    row(
        Conn,
        "narrowing",
        "yes, no",
        "no",
        IDLE_BUT_YES,
        "Accept smaller selectors. Cygnet always does.",
    ),
    row(
        Conn,
        "session-resumption",
        "yes, no",
        "no",
        REFUSED_UNLESS_NO,
        "RFC 5723.",
    ),
    row(
        Conn,
        "initial-contact",
        "yes, no",
        "yes",
        IDLE_BUT_YES,
        "Say that this is the only IKE SA with the peer.",
    ),
    row(
        Conn,
        "accept-redirect",
        "yes, no",
        "no",
        REFUSED_UNLESS_NO,
        "Follow redirections (RFC 5685).",
    ),
    row(
        Conn,
        "accept-redirect-to",
        "list",
        "%any",
        IDLE,
        "Where to.",
    ),
    row(
        Conn,
        "send-redirect",
        "yes, no, auto",
        "no",
        REFUSED_UNLESS_NO,
        "Redirect peers in IKE_AUTH.",
    ),
    row(Conn, "redirect-to", "host", "", REFUSED, "Where to."),
    row(
        Conn,
        "reject-simultaneous-ike-auth",
        "yes, no",
        "no",
        IDLE_BUT_NO,
        "Refuse a crossing IKE_AUTH.",
    ),
    row(
        Conn,
        "send-vendorid",
        "yes, no",
        "no",
        IDLE_BUT_NO,
        "Send a vendor ID.",
    ),
    row(
        Conn,
        "fake-strongswan",
        "yes, no",
        "no",
        IDLE_BUT_NO,
        "Send strongSwan's.",
    ),
    row(
        Conn,
        "ms-dh-downgrade",
        "yes, no",
        "no",
        IDLE_BUT_NO,
        "Work-around for a peer.",
    ),
    row(
        Conn,
        "pfs-rekey-workaround",
        "yes, no",
        "no",
        IDLE_BUT_NO,
        "Work-around for a peer.",
    ),
    row(
        Conn,
        "sha2-truncbug",
        "yes, no",
        "no",
        REFUSED_UNLESS_NO,
        "HMAC-SHA2-256 cut to 96 bits, for old peers.",
    ),
    row(Conn, "compress", "yes, no", "no", IDLE_BUT_NO, "IPComp."),
    row(
        Conn,
        "nat-keepalive",
        "yes, no",
        "yes",
        IDLE_BUT_YES,
        "Send NAT keepalives.",
    ),
    row(
        Conn,
        "connalias",
        "names",
        "",
        IDLE,
        "More names for the connection.",
    ),
    row(
        Conn,
        "overlapip",
        "yes, no",
        "no",
        IDLE_BUT_NO,
        "Equal networks behind several peers.",
    ),
    row(
        Conn,
        "metric",
        "number",
        "1",
        NoEffectYet { inert: &["1"] },
        "Metric of the routes into the tunnel.",
    ),
    row(Conn, "vti-interface", "name", "", REFUSED, "A VTI device."),
    row(
        Conn,
        "vti-routing",
        "yes, no",
        "no",
        IDLE_BUT_NO,
        "Routes into it.",
    ),
    row(
        Conn,
        "vti-shared",
        "yes, no",
        "no",
        IDLE_BUT_NO,
        "It serves several connections.",
    ),
    row(
        Conn,
        "enable-tcp",
        "no, yes, fallback",
        "no",
        REFUSED_UNLESS_NO,
        "IKE and ESP over TCP (RFC 9329).",
    ),
    row(
        Conn,
        "tcp-remoteport",
        "port",
        "4500",
        NoEffectYet { inert: &["4500"] },
        "The peer's TCP port.",
    ),
    row(
        Conn,
        "tfc",
        "octets",
        "0",
        NotSupportedYet { inert: &["0"] },
        "Pad packets to this size.",
    ),
    row(
        Conn,
        "send-esp-tfc-padding-not-supported",
        "yes, no",
        "no",
        IDLE_BUT_NO,
        "Tell the peer not to pad.",
    ),
    row(
        Conn,
        "send-no-esp-tfc",
        "yes, no",
        "",
        Alias("send-esp-tfc-padding-not-supported"),
        "",
    ),
    row(
        Conn,
        "nic-offload",
        "no, crypto, packet",
        "no",
        IDLE_BUT_NO,
        "ESP by the network card.",
    ),
    row(
        Conn,
        "clones",
        "number",
        "0",
        NoEffectYet {
            inert: &["0", "no"],
        },
        "Child SAs per CPU (RFC 9611).",
    ),
    row(
        Conn,
        "iptfs",
        "yes, no",
        "no",
        REFUSED_UNLESS_NO,
        "Aggregation and fragmentation (RFC 9347).",
    ),
    row(
        Conn,
        "iptfs-fragmentation",
        "yes, no",
        "yes",
        IDLE_BUT_YES,
        "Of IP-TFS.",
    ),
    row(Conn, "iptfs-packet-size", "octets", "", IDLE, "Of IP-TFS."),
    row(
        Conn,
        "iptfs-max-queue-size",
        "octets",
        "",
        IDLE,
        "Of IP-TFS.",
    ),
    row(Conn, "iptfs-init-delay", "duration", "", IDLE, "Of IP-TFS."),
    row(Conn, "iptfs-drop-time", "duration", "", IDLE, "Of IP-TFS."),
    row(
        Conn,
        "iptfs-reorder-window",
        "packets",
        "",
        IDLE,
        "Of IP-TFS.",
    ),
    row(
        Conn,
        "sec-label",
        "label",
        "",
        REFUSED,
        "SELinux label of the SAs.",
    ),
    row(Conn, "policy-label", "label", "", Alias("sec-label"), ""),
    row(
        Conn,
        "nflog-group",
        "number",
        "0",
        NoEffectYet { inert: &["0"] },
        "Log group for the packets in clear.",
    ),
    row(Conn, "nflog", "number", "", Alias("nflog-group"), ""),
    row(
        Conn,
        "debug",
        "list of topics",
        "",
        IDLE,
        "What to log more of.",
    ),
    row(
        Conn,
        "modecfgpull",
        "yes, no",
        "no",
        IDLE_BUT_NO,
        "Who asks.",
    ),
    row(
        Conn,
        "modecfgdns",
        "addresses",
        "",
        REFUSED,
        "DNS servers for peers.",
    ),
    row(
        Conn,
        "modecfgdomains",
        "names",
        "",
        REFUSED,
        "DNS domains for peers.",
    ),
    row(
        Conn,
        "modecfgbanner",
        "text",
        "",
        REFUSED,
        "Banner for peers.",
    ),
    row(
        Conn,
        "ignore-peer-dns",
        "yes, no",
        "no",
        IDLE_BUT_YES,
        "Leave the peer's DNS servers alone.",
    ),
    row(
        Conn,
        "nm-configured",
        "yes, no",
        "no",
        IDLE_BUT_NO,
        "NetworkManager manages the connection.",
    ),
    // --- conn: no more ---
    row(
        Conn,
        "dpdaction",
        "",
        "",
        Obsolete("a dead peer's connection does what `auto=` says"),
        "What to do about a dead peer.",
    ),
    row(
        Conn,
        "keyingtries",
        "",
        "",
        Obsolete("connections are tried until they are taken down"),
        "How often to try.",
    ),
    row(
        Conn,
        "clientaddrfamily",
        "",
        "",
        Obsolete("the networks say it themselves"),
        "Family of the networks.",
    ),
    row(
        Conn,
        "aggressive",
        "yes, no",
        "no",
        IKEV1,
        "Aggressive mode.",
    ),
    row(Conn, "aggrmode", "yes, no", "", Alias("aggressive"), ""),
    row(
        Conn,
        "ikepad",
        "yes, no",
        "yes",
        IKEV1,
        "Padding of messages.",
    ),
    row(
        Conn,
        "nat-ikev1-method",
        "rfc, drafts, both, none",
        "both",
        IKEV1,
        "NAT traversal.",
    ),
    row(Conn, "share-lease", "yes, no", "yes", IKEV1, "Leases."),
    row(
        Conn,
        "xauthby",
        "file, pam, alwaysok",
        "file",
        IKEV1,
        "XAUTH.",
    ),
    row(Conn, "xauthfail", "hard, soft", "hard", IKEV1, "XAUTH."),
    row(
        Conn,
        "cisco-unity",
        "yes, no",
        "no",
        IKEV1,
        "For Cisco peers.",
    ),
    row(
        Conn,
        "cisco-split",
        "yes, no",
        "no",
        IKEV1,
        "For Cisco peers.",
    ),
    row(
        Conn,
        "remote-peer-type",
        "ietf, cisco",
        "ietf",
        IKEV1,
        "For Cisco peers.",
    ),
    row(
        Conn,
        "remote_peer_type",
        "ietf, cisco",
        "",
        Alias("remote-peer-type"),
        "",
    ),
    row(
        Conn,
        "dpdtimeout",
        "duration",
        "",
        Obsolete("`retransmit-timeout=` decides when a peer is dead"),
        "Time after which a silent peer is dead.",
    ),
    row(
        Conn,
        "ikev1-dpdtimeout",
        "duration",
        "",
        Alias("dpdtimeout"),
        "",
    ),
];

/// Finds a keyword of a section, without regard to case.
pub(crate) fn find(section: Section, key: &str) -> Option<(Side, &'static Keyword)> {
    let key = key.to_ascii_lowercase();
    let one = |side: Side, name: &str| {
        KEYWORDS
            .iter()
            .find(|k| k.section == section && k.sided == (side != Side::Both) && k.name == name)
            .map(|k| (side, k))
    };
    one(Side::Both, &key)
        .or_else(|| one(Side::Left, key.strip_prefix("left")?))
        .or_else(|| one(Side::Right, key.strip_prefix("right")?))
        .map(|(side, keyword)| match keyword.status {
            Alias(of) => one(side, of).unwrap_or((side, keyword)),
            _ => (side, keyword),
        })
}

/// What to say about a keyword that a section does not have.
pub(crate) fn help_for_unknown(section: Section, key: &str) -> Option<String> {
    let lower = key.to_ascii_lowercase();
    let other = match section {
        Setup => Conn,
        Conn => Setup,
    };
    if find(other, &lower).is_some() {
        return Some(match other {
            Setup => format!("`{lower}=` belongs into `config setup`"),
            Conn => format!("`{lower}=` belongs into a `conn`"),
        });
    }
    if section == Conn {
        let has = |name: &str, sided: bool| {
            !name.is_empty()
                && KEYWORDS
                    .iter()
                    .any(|k| k.section == Conn && k.sided == sided && k.name == name)
        };
        if has(&lower, true) {
            return Some(format!(
                "each end has its own: `left{lower}=` and `right{lower}=`"
            ));
        }
        if let Some(name) = lower
            .strip_prefix("left")
            .or_else(|| lower.strip_prefix("right"))
            && has(name, false)
        {
            return Some(format!("both ends have it in common: `{name}=`"));
        }
    }
    let known: Vec<String> = KEYWORDS
        .iter()
        .filter(|k| k.section == section)
        .flat_map(|k| {
            let (one, two) = if k.sided {
                (Side::Left, Some(Side::Right))
            } else {
                (Side::Both, None)
            };
            [Some(one), two]
                .into_iter()
                .flatten()
                .map(|side| side.write(k.name))
        })
        .collect();
    crate::diagnostic::did_you_mean(&lower, known.iter().map(String::as_str))
}

/// Whether a value is among those that ask for nothing.
pub(crate) fn is_inert(value: &str, inert: &[&str]) -> bool {
    let value = value.to_ascii_lowercase();
    let plain = match value.as_str() {
        "true" | "on" | "1" if !inert.contains(&"1") => "yes",
        "false" | "off" | "0" if !inert.contains(&"0") => "no",
        other => other,
    };
    inert.contains(&plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_in_lower_case() {
        for (i, a) in KEYWORDS.iter().enumerate() {
            assert_eq!(a.name, a.name.to_ascii_lowercase());
            let twin = KEYWORDS
                .iter()
                .skip(i + 1)
                .find(|b| (b.section, b.sided, b.name) == (a.section, a.sided, a.name));
            assert_eq!(twin, None);
        }
    }

    #[test]
    fn aliases_lead_to_keywords_that_are_none() {
        for k in KEYWORDS {
            if let Alias(of) = k.status {
                let (_, found) = find(k.section, &k.written()).expect("itself");
                assert_eq!(found.name, of);
                assert!(!matches!(found.status, Alias(_)), "{of}");
            }
        }
    }

    #[test]
    fn keywords_are_found_on_their_side_only() {
        let found = |key| find(Conn, key).map(|(side, k)| (side, k.name));
        assert_eq!(found("left"), Some((Side::Left, "")));
        assert_eq!(found("RightSubnet"), Some((Side::Right, "subnet")));
        assert_eq!(found("auto"), Some((Side::Both, "auto")));
        assert_eq!(found("subnet"), None);
        assert_eq!(found("leftauto"), None);
        assert_eq!(found("listen"), None);
    }

    #[test]
    fn help_knows_the_other_section_the_sides_and_near_names() {
        let help = |section, key| help_for_unknown(section, key).unwrap_or_default();
        assert_eq!(
            help(Conn, "uniqueids"),
            "`uniqueids=` belongs into `config setup`"
        );
        assert_eq!(help(Setup, "leftid"), "`leftid=` belongs into a `conn`");
        assert_eq!(
            help(Conn, "subnet"),
            "each end has its own: `leftsubnet=` and `rightsubnet=`"
        );
        assert_eq!(
            help(Conn, "leftauto"),
            "both ends have it in common: `auto=`"
        );
        assert_eq!(help(Conn, "rightsubent"), "did you mean `rightsubnet`?");
        assert_eq!(help(Conn, "frobnicate"), "");
    }
}
