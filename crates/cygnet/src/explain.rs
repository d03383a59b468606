//! `cygnet explain`: the machine as it is now, for [`cygnet_explain`] to follow a packet through.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Instant;

use cygnet_explain::{
    Device, DeviceKind, Machine, NoRoute, Question, Route, RouteQuestion, Routes,
};
use cygnet_ipsec::reference::Databases;
use cygnet_ipsec::{Direction, SaDirection};
use cygnet_kernel::linux::Rtnetlink;
use cygnet_kernel::{
    InterfaceAddrs, Link, LinkKind, Links, RouteLookup, RouteQuery, Setting, sadb,
};
use cygnet_xfrm::upper_layer_name;

use crate::cli::{ExplainOptions, Way};

/// Exit status where the packet does not get where it should.
const ASTRAY: u8 = 1;
/// Exit status where nothing can be said.
const UNABLE: u8 = 2;

/// Explains a packet.
pub(crate) fn run(options: &ExplainOptions) -> ExitCode {
    match explain(options) {
        Ok(good) if good => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(ASTRAY),
        Err(text) => {
            eprintln!("cygnet: {text}");
            ExitCode::from(UNABLE)
        }
    }
}

/// Whether nothing is wrong about the packet's way.
fn explain(options: &ExplainOptions) -> Result<bool, String> {
    let mut netlink = Rtnetlink::open().map_err(|e| e.to_string())?;
    let links = netlink.links().map_err(|e| e.to_string())?;
    let question = question(options, &links)?;
    let devices = links
        .iter()
        .map(|link| device(&mut netlink, link, options.dst.is_ipv6()))
        .collect();
    let own = netlink.addresses().map_err(|e| e.to_string())?;
    let own: Vec<IpAddr> = own.iter().map(|a| a.address.addr()).collect();
    let (databases, left_out) = databases(&own)?;
    if left_out > 0 {
        eprintln!("cygnet: {left_out} entries of Mobile IPv6 are left out");
    }
    let mut routes = Live(netlink);
    let mut machine = Machine {
        devices,
        databases,
        routes: &mut routes,
    };
    let explanation = machine.explain(&question);
    if options.json {
        let json = serde_json::to_string_pretty(&explanation).map_err(|e| e.to_string())?;
        println!("{json}");
    } else {
        print!("{explanation}");
    }
    Ok(explanation.verdict.cause.is_none())
}

fn question(options: &ExplainOptions, links: &[Link]) -> Result<Question, String> {
    let direction = match options.way {
        Way::Out => Direction::Out,
        Way::In => Direction::In,
        Way::Fwd => Direction::Fwd,
    };
    let src: Option<IpAddr> = match (options.src.as_str(), direction) {
        ("any", Direction::Out) => None,
        (text, _) => Some(text.parse().map_err(|_| format!("{text} is no address"))?),
    };
    if src.is_some_and(|src| src.is_ipv6() != options.dst.is_ipv6()) {
        return Err("source and destination are of different families".to_owned());
    }
    let protocol = protocol(&options.protocol)?;
    let mark = number(&options.mark).ok_or_else(|| format!("{} is no mark", options.mark))?;
    let device = match &options.interface {
        Some(name) => Some(
            links
                .iter()
                .find(|link| link.name == *name)
                .map(|link| link.index)
                .ok_or_else(|| format!("there is no device {name}"))?,
        ),
        None => None,
    };
    Ok(Question {
        protocol,
        sport: options.sport,
        dport: options.dport,
        mark,
        device,
        size: options.size,
        ..Question::new(direction, src, options.dst)
    })
}

/// A protocol by number or by a name that `cygnet xfrm` shows.
fn protocol(text: &str) -> Result<u8, String> {
    (0..=u8::MAX)
        .find(|number| upper_layer_name(*number) == text || number.to_string() == text)
        .ok_or_else(|| format!("{text} is no protocol"))
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A device with those of its settings that have to do with IPsec. What cannot be read is not set.
fn device(netlink: &mut Rtnetlink, link: &Link, ipv6: bool) -> Device {
    let mut is_set = |setting| netlink.setting(&link.name, setting).is_ok_and(|n| n != 0);
    let disable_policy = is_set(if ipv6 {
        Setting::DisablePolicyV6
    } else {
        Setting::DisablePolicyV4
    });
    let disable_xfrm = is_set(Setting::DisableXfrmV4);
    let mut rp_filter = |device: &str| netlink.setting(device, Setting::RpFilter).unwrap_or(0);
    let rp_filter = rp_filter(&link.name).max(rp_filter("all"));
    Device {
        index: link.index,
        name: link.name.clone(),
        kind: match link.kind {
            _ if link.loopback => DeviceKind::Loopback,
            LinkKind::Xfrm { if_id } => DeviceKind::Xfrm { if_id },
            LinkKind::Vti {
                input_key,
                output_key,
            } => DeviceKind::Vti {
                input_key,
                output_key,
            },
            _ => DeviceKind::Plain,
        },
        up: link.up,
        mtu: usize::try_from(link.mtu).unwrap_or(usize::MAX),
        disable_xfrm,
        disable_policy,
        rp_filter: u8::try_from(rp_filter).unwrap_or(0),
    }
}

/// SPD and SAD as they are, and how many entries could not be read. An SA need not say its direction: if just one of its
/// ends is ours, that tells.
fn databases(own: &[IpAddr]) -> Result<(Databases, usize), String> {
    let dump = sadb::dump().map_err(|e| e.to_string())?;
    let mut databases = Databases::new();
    let mut left_out = dump.untranslatable;
    for policy in &dump.policies {
        left_out += usize::from(databases.insert_policy(policy, false).is_err());
    }
    let now = Instant::now();
    for report in dump.sas {
        let added = report.counters.added.unwrap_or(now);
        let mut sa = report.sa;
        match (own.contains(&sa.src), own.contains(&sa.id.dst)) {
            (true, false) => sa.direction = SaDirection::Out,
            (false, true) => sa.direction = SaDirection::In,
            _ => {}
        }
        databases.adopt_sa(added, sa, report.state);
    }
    for direction in Direction::ALL {
        if let Some(action) = dump.defaults.get(direction as usize) {
            databases.set_default(direction, *action);
        }
    }
    Ok((databases, left_out))
}

/// The kernel's own answers about routes.
struct Live(Rtnetlink);

impl Routes for Live {
    fn route(&mut self, question: &RouteQuestion) -> Result<Route, NoRoute> {
        let query = RouteQuery {
            destination: question.dst,
            source: question.src,
            mark: question.mark,
            ifindex: question.output,
        };
        let answer = match self.0.route_to(&query) {
            // Of a packet that is forwarded the source is nobody's address here, which the kernel does not answer about.
            Err(_) if question.src.is_some() => self.0.route_to(&RouteQuery {
                source: None,
                ..query
            }),
            answer => answer,
        };
        let answer = answer.map_err(|e| NoRoute(e.to_string()))?;
        Ok(Route {
            device: answer.ifindex,
            source: answer.source,
            gateway: answer.gateway,
            table: answer.table,
            mtu: answer.mtu.and_then(|mtu| usize::try_from(mtu).ok()),
            local: answer.local,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_and_marks_are_read() {
        assert_eq!(protocol("tcp"), Ok(6));
        assert_eq!(protocol("58"), Ok(58));
        assert_eq!(protocol("253"), Ok(253));
        assert!(protocol("ftp").is_err() && protocol("256").is_err());
        assert_eq!(number("0x10000000"), Some(0x1000_0000));
        assert_eq!(number("7"), Some(7));
        assert_eq!(number("0xg"), None);
    }
}
