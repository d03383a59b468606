//! Values that name hosts and networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cygnet_engine::HostSpec;
use cygnet_ike::{Identity, ParseIdentityError, TsTemplate};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::value::{Parsed, ValueError, list, number};

/// An address.
pub(crate) fn address(text: &str) -> Parsed<IpAddr> {
    text.parse()
        .map_err(|_| ValueError::new(not_an_address(text)))
}

fn not_an_address(text: &str) -> &'static str {
    if text.is_empty() {
        "a value is missing"
    } else if text.contains(':') {
        "not an IPv6 address"
    } else if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        "not an IPv4 address"
    } else {
        "not an address"
    }
}

/// A list of addresses.
pub(crate) fn addresses(text: &str) -> Parsed<Vec<IpAddr>> {
    at_least_one(text, address)
}

/// A list of addresses with the prefix length of their network: `10.9.0.1/24`.
pub(crate) fn networks(text: &str) -> Parsed<Vec<IpNet>> {
    at_least_one(text, |part| {
        let network: Result<IpNet, _> = part.parse();
        network.map_err(|_| {
            ValueError::new("not an address with its prefix length")
                .help("such as 10.9.0.1/24 or 2001:db8::1/64")
        })
    })
}

fn at_least_one<T>(text: &str, read: impl Fn(&str) -> Parsed<T>) -> Parsed<Vec<T>> {
    let all: Vec<T> = list(text)
        .map(|(at, part)| read(part).map_err(|e| e.within(at, part)))
        .collect::<Result<_, _>>()?;
    if all.is_empty() {
        Err(ValueError::new("a value is missing"))
    } else {
        Ok(all)
    }
}

/// `left` and `right`.
pub(crate) fn host(text: &str) -> Parsed<HostSpec> {
    if let Some(word) = text.strip_prefix('%') {
        return match word.to_ascii_lowercase().as_str() {
            "any" => Ok(HostSpec::Any),
            "defaultroute" => Ok(HostSpec::DefaultRoute),
            "group" | "opportunistic" | "opportunisticgroup" => Err(ValueError::unsupported(
                "opportunistic encryption is not supported yet",
            )),
            _ if is_interface_name(word) => Ok(HostSpec::Interface(word.to_owned())),
            _ => Err(ValueError::new("not the name of an interface").help(
                "behind `%` stands `any`, `defaultroute` or an interface of at most 15 characters",
            )),
        };
    }
    match text.parse::<IpAddr>() {
        Ok(a) if a.is_unspecified() => Ok(HostSpec::Any),
        Ok(a) => Ok(HostSpec::Address(a)),
        Err(_) if is_dns_name(text) => Ok(HostSpec::Name(text.to_owned())),
        Err(_) => Err(ValueError::new(match not_an_address(text) {
            "not an address" => "neither an address nor a name",
            other => other,
        })),
    }
}

/// What the kernel lets an interface be called (`dev_valid_name`).
fn is_interface_name(text: &str) -> bool {
    (1..16).contains(&text.len())
        && !matches!(text, "." | "..")
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'/' && b != b':')
}

/// A name that a resolver can be asked for: labels of letters, digits and
/// hyphens (underscores are seen), and not something meant as an address.
fn is_dns_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= 253
        && name.split('.').all(label)
        && name
            .rsplit('.')
            .next()
            .is_some_and(|top| !top.bytes().all(|b| b.is_ascii_digit()))
}

/// `leftid`
pub(crate) fn identity(text: &str) -> Parsed<Identity> {
    match text.to_ascii_lowercase().as_str() {
        "%fromcert" | "%none" | "%null" | "%any" | "%myid" => {
            return Err(ValueError::unsupported(
                "this kind of identity is not supported yet",
            ));
        }
        lower if lower.starts_with('%') => {
            return Err(ValueError::new("unknown kind of identity")
                .help("an identity is an address, @name, user@name or @[key ID]"));
        }
        _ => {}
    }
    text.parse().map_err(|e| match e {
        ParseIdentityError::Empty => ValueError::new("the identity is empty"),
        ParseIdentityError::Hex(_) => ValueError::new("not an even number of hexadecimal digits"),
        ParseIdentityError::Bracket(_) => ValueError::new("the closing bracket is missing"),
        ParseIdentityError::DistinguishedName(_) => {
            ValueError::unsupported("distinguished names are not supported yet")
                .help("write the name in DER as @~ and hexadecimal digits")
        }
        ParseIdentityError::Name(_) => {
            ValueError::new("neither an address, a name nor a mail address")
        }
    })
}

/// Protocol and ports as far as they are restricted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProtocolPorts {
    pub(crate) protocol: u8,
    pub(crate) ports: (u16, u16),
}

impl ProtocolPorts {
    pub(crate) const ANY: Self = Self {
        protocol: 0,
        ports: (0, u16::MAX),
    };

    pub(crate) fn apply(self, template: TsTemplate) -> TsTemplate {
        template.with_protocol(self.protocol, self.ports)
    }
}

/// Protocols by the names of `/etc/protocols` (which is not read: the same file must mean the same everywhere).
const PROTOCOLS: [(&str, u8); 14] = [
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmp6", 58),
    ("ipv6-icmp", 58),
    ("ospf", 89),
    ("l2tp", 115),
    ("sctp", 132),
];

/// Ports of services that people name in `leftprotoport`.
const SERVICES: [(&str, u16); 8] = [
    ("ssh", 22),
    ("domain", 53),
    ("http", 80),
    ("ntp", 123),
    ("snmp", 161),
    ("bgp", 179),
    ("https", 443),
    ("l2f", 1701),
];

/// `protocol[/port]`
pub(crate) fn protoport(text: &str) -> Parsed<ProtocolPorts> {
    let (name, port) = match text.split_once('/') {
        Some((name, port)) => (name, Some((name.len() + 1, port))),
        None => (text, None),
    };
    let lower = name.to_ascii_lowercase();
    let protocol = match PROTOCOLS.iter().find(|(known, _)| *known == lower) {
        Some((_, number)) => *number,
        None if lower == "%any" => 0,
        None => {
            let wrong = |e: ValueError| {
                ValueError::new("unknown protocol").help(
                    match crate::diagnostic::did_you_mean(&lower, PROTOCOLS.iter().map(|(n, _)| *n))
                    {
                        Some(help) if e.message == "not a number" => help,
                        _ => "a protocol is a name such as `tcp` or a number from 0 to 255"
                            .to_owned(),
                    },
                )
            };
            let n = number(name, 0..=255).map_err(|e| wrong(e).within(0, name))?;
            u8::try_from(n).unwrap_or_default()
        }
    };
    let Some((at, port)) = port else {
        return Ok(ProtocolPorts {
            protocol,
            ..ProtocolPorts::ANY
        });
    };
    let lower = port.to_ascii_lowercase();
    let first = match SERVICES.iter().find(|(known, _)| *known == lower) {
        Some((_, port)) => *port,
        None if lower == "%any" => 0,
        None if lower == "%opaque" => {
            return Err(
                ValueError::unsupported("opaque ports are not supported yet").within(at, port),
            );
        }
        None => {
            let n = number(port, 0..=65535).map_err(|e| {
                ValueError {
                    message: "not a port".to_owned(),
                    ..e
                }
                .help("a port is a number from 0 to 65535 or `%any`")
                .within(at, port)
            })?;
            u16::try_from(n).unwrap_or_default()
        }
    };
    match (first, protocol) {
        (0, _) => Ok(ProtocolPorts {
            protocol,
            ..ProtocolPorts::ANY
        }),
        (_, 0) => Err(ValueError::new("a port needs a protocol")
            .help("write the protocol, such as `tcp`, before it")
            .within(at, port)),
        (port, _) => Ok(ProtocolPorts {
            protocol,
            ports: (port, port),
        }),
    }
}

/// `leftsubnet`: a list of `net/mask[/protocol[/port]]`.
///
/// `common` is what `leftprotoport` says.
pub(crate) fn subnets(text: &str, common: Option<ProtocolPorts>) -> Parsed<Vec<TsTemplate>> {
    let mut out = Vec::new();
    // Within quotation marks, braces may still stand around the list.
    let trimmed = text.trim_matches([' ', '\t']);
    let (inner, shift) = match trimmed.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
        Some(inner) => (
            inner,
            text.len() - text.trim_start_matches([' ', '\t']).len() + 1,
        ),
        None => (text, 0),
    };
    for (at, part) in list(inner) {
        let template = subnet(part, common).map_err(|e| e.within(at + shift, part))?;
        if !out.contains(&template) {
            out.push(template);
        }
    }
    if out.is_empty() {
        Err(ValueError::new("a value is missing"))
    } else {
        Ok(out)
    }
}

fn subnet(text: &str, common: Option<ProtocolPorts>) -> Parsed<TsTemplate> {
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("vhost:") || lower.starts_with("vnet:") {
        return Err(ValueError::unsupported(
            "virtual networks are not supported yet",
        ));
    }
    let mut slashes = text.match_indices('/').map(|(at, _)| at);
    let (net_end, selector_start) = match (slashes.next(), slashes.next()) {
        (Some(_), Some(second)) => (second, Some(second + 1)),
        _ => (text.len(), None),
    };
    let net_text = text.get(..net_end).unwrap_or_default();
    let net = prefix(net_text).map_err(|e| ValueError {
        at: e.at.or(Some(0..net_end)),
        ..e
    })?;
    let template = TsTemplate::prefix(net);
    match (
        selector_start.and_then(|at| Some((at, text.get(at..)?))),
        common,
    ) {
        (Some((at, _)), Some(_)) => Err(ValueError::new(
            "a protocol is given here and by protoport=",
        )
        .help("say it once: behind the network or in leftprotoport= and rightprotoport=")
        .at(at..text.len())),
        (Some((at, selector)), None) => Ok(protoport(selector)
            .map_err(|e| e.within(at, selector))?
            .apply(template)),
        (None, common) => Ok(common.unwrap_or(ProtocolPorts::ANY).apply(template)),
    }
}

/// A network whose host bits are zero: `10.1.0.0/16`, `10.1.0.0/255.255.0.0`, `2001:db8::/32` or an address.
fn prefix(text: &str) -> Parsed<IpNet> {
    let (address_text, mask) = match text.split_once('/') {
        Some((a, m)) => (a, Some((a.len() + 1, m))),
        None => (text, None),
    };
    // "0/0" is what people write for everything.
    let address = match (address_text, mask) {
        ("0", Some((_, "0"))) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => address(address_text).map_err(|e| e.within(0, address_text))?,
    };
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let len = match mask {
        None => bits,
        Some((at, mask)) => match (mask.parse::<Ipv4Addr>(), address) {
            (Ok(mask_address), IpAddr::V4(_)) => ipnet::ip_mask_to_prefix(IpAddr::V4(mask_address))
                .map_err(|_| {
                    ValueError::new("not a mask: its ones are not all in front").within(at, mask)
                })?,
            _ => {
                let wrong = |e: ValueError| ValueError {
                    message: "not a length of a prefix".to_owned(),
                    ..e
                };
                let n = number(mask, 0..=bits.into()).map_err(|e| wrong(e).within(at, mask))?;
                u8::try_from(n).unwrap_or(bits)
            }
        },
    };
    let net = IpNet::new(address, len).map_err(|_| ValueError::new("not a network"))?;
    if net.trunc() == net {
        return Ok(net);
    }
    Err(
        ValueError::new("the address has bits outside of its mask").help(format!(
            "the network is {}, the host alone {}",
            net.trunc(),
            host_net(address)
        )),
    )
}

/// The network of one host.
fn host_net(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(a) => IpNet::V4(Ipv4Net::from(a)),
        IpAddr::V6(a) => IpNet::V6(Ipv6Net::from(a)),
    }
}

/// Whether a text is the IPv6 address that stands for any.
pub(crate) fn is_unspecified_v6(text: &str) -> bool {
    text.parse::<Ipv6Addr>().is_ok_and(|a| a.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_names_or_words() {
        let ok = |text: &str| host(text).expect("a host");
        assert_eq!(
            ok("192.0.2.1"),
            HostSpec::Address("192.0.2.1".parse().expect("address"))
        );
        assert_eq!(ok("%any"), HostSpec::Any);
        assert_eq!(ok("0.0.0.0"), HostSpec::Any);
        assert_eq!(ok("::"), HostSpec::Any);
        assert_eq!(ok("%defaultroute"), HostSpec::DefaultRoute);
        assert_eq!(ok("%eth0.100"), HostSpec::Interface("eth0.100".into()));
        assert_eq!(
            ok("gw.example.com."),
            HostSpec::Name("gw.example.com.".into())
        );
        let wrong = |text: &str| host(text).expect_err("wrong").message;
        assert_eq!(wrong("192.0.2.256"), "not an IPv4 address");
        assert_eq!(wrong("2001:db8::g"), "not an IPv6 address");
        assert_eq!(wrong("a b"), "neither an address nor a name");
        assert_eq!(wrong("%sixteen-letters-x"), "not the name of an interface");
        assert_eq!(
            host("%group").expect_err("wrong").fault,
            crate::value::Fault::Unsupported
        );
    }

    #[test]
    fn subnets_carry_protocols_and_ports() {
        let got = subnets("10.0.0.0/8/tcp/22, 2001:db8::/32 192.0.2.1", None).expect("subnets");
        let net = |s: &str| TsTemplate::prefix(s.parse().expect("net"));
        assert_eq!(
            got,
            [
                net("10.0.0.0/8").with_protocol(6, (22, 22)),
                net("2001:db8::/32"),
                net("192.0.2.1/32"),
            ]
        );
        assert_eq!(
            subnets("{10.0.0.0/255.0.0.0}", None).expect("subnets"),
            [net("10.0.0.0/8")]
        );
        assert_eq!(subnets("0/0", None).expect("subnets"), [net("0.0.0.0/0")]);
        let udp = protoport("udp").expect("protocol");
        assert_eq!(
            subnets("10.0.0.0/8", Some(udp)).expect("subnets"),
            [net("10.0.0.0/8").with_protocol(17, (0, 65535))]
        );
    }

    #[test]
    fn wrong_subnets_are_pointed_at() {
        let wrong = |text: &str| {
            let e = subnets(text, None).expect_err("wrong");
            (text[e.at.expect("a place")].to_owned(), e.message)
        };
        assert_eq!(
            wrong("10.0.0.0/8, 10.1.2.3/16"),
            (
                "10.1.2.3/16".into(),
                "the address has bits outside of its mask".into()
            )
        );
        assert_eq!(
            wrong("10.0.0.0/33"),
            ("33".into(), "not a length of a prefix".into())
        );
        assert_eq!(
            wrong("10.0.0.0/255.0.255.0"),
            (
                "255.0.255.0".into(),
                "not a mask: its ones are not all in front".into()
            )
        );
        assert_eq!(
            wrong("10.0.0/8"),
            ("10.0.0".into(), "not an IPv4 address".into())
        );
        assert_eq!(
            wrong("{ 10.0.0.0/8/tpc }"),
            ("tpc".into(), "unknown protocol".into())
        );
        assert_eq!(wrong("10.0.0.0/8/tcp/x"), ("x".into(), "not a port".into()));
        assert_eq!(
            wrong("10.0.0.0/8/0/80"),
            ("80".into(), "a port needs a protocol".into())
        );
    }

    #[test]
    fn protoport_is_a_protocol_and_a_port() {
        assert_eq!(
            protoport("17/1701"),
            Ok(ProtocolPorts {
                protocol: 17,
                ports: (1701, 1701)
            })
        );
        assert_eq!(
            protoport("TCP/%any"),
            Ok(ProtocolPorts {
                protocol: 6,
                ports: (0, 65535)
            })
        );
        assert_eq!(
            protoport("icmp/2048"),
            Ok(ProtocolPorts {
                protocol: 1,
                ports: (2048, 2048)
            })
        );
        assert_eq!(protoport("%any"), Ok(ProtocolPorts::ANY));
        assert_eq!(
            protoport("tpc").expect_err("wrong").help.as_deref(),
            Some("did you mean `tcp`?")
        );
        assert!(protoport("256").is_err());
        assert!(protoport("tcp/").is_err());
        assert!(protoport("").is_err());
    }
}
