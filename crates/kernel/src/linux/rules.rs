//! Routing rules by rtnetlink.

use cygnet_ipsec::Mark;
use ipnet::IpNet;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Rtnetlink, family_of};
use crate::netlink::{NLM_F_CREATE, NLM_F_EXCL, RequestError};
use crate::routes::Rule;

/// The rule that a message describes; `None` for families other than IP and for actions other than a lookup.
pub(crate) fn rule_of(message: &RuleMessage) -> Option<Rule> {
    let ipv6 = match message.header.family {
        AddressFamily::Inet => false,
        AddressFamily::Inet6 => true,
        _ => return None,
    };
    if message.header.action != RuleAction::ToTable {
        return None;
    }
    let mut rule = Rule {
        ipv6,
        priority: 0,
        mark: None,
        invert: message.header.flags.contains(RuleFlags::Invert),
        source: None,
        destination: None,
        table: u32::from(message.header.table),
        protocol: 0,
    };
    let mut mark = Mark::ANY;
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Table(table) => rule.table = *table,
            RuleAttribute::FwMark(value) => mark.value = *value,
            RuleAttribute::FwMask(mask) => mark.mask = *mask,
            RuleAttribute::Protocol(protocol) => rule.protocol = u8::from(*protocol),
            RuleAttribute::Source(ip) => {
                rule.source = IpNet::new(*ip, message.header.src_len).ok();
            }
            RuleAttribute::Destination(ip) => {
                rule.destination = IpNet::new(*ip, message.header.dst_len).ok();
            }
            _ => {}
        }
    }
    rule.mark = (mark.mask != 0).then_some(mark);
    Some(rule)
}

fn message_of(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family_of(rule.ipv6);
    message.header.action = RuleAction::ToTable;
    message.header.table = u8::try_from(rule.table).unwrap_or(0);
    if rule.invert {
        message.header.flags = RuleFlags::Invert;
    }
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(rule.priority));
    attributes.push(RuleAttribute::Table(rule.table));
    attributes.push(RuleAttribute::Protocol(RouteProtocol::from(rule.protocol)));
    if let Some(mark) = rule.mark {
        attributes.push(RuleAttribute::FwMark(mark.value));
        attributes.push(RuleAttribute::FwMask(mark.mask));
    }
    if let Some(source) = rule.source {
        message.header.src_len = source.prefix_len();
        attributes.push(RuleAttribute::Source(source.network()));
    }
    if let Some(destination) = rule.destination {
        message.header.dst_len = destination.prefix_len();
        attributes.push(RuleAttribute::Destination(destination.network()));
    }
    message
}

impl Rtnetlink {
    pub(crate) fn create_rule(&mut self, rule: &Rule) -> Result<(), RequestError> {
        self.ask(
            &format!("add rule {rule}"),
            RouteNetlinkMessage::NewRule(message_of(rule)),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .map(drop)
    }

    pub(crate) fn remove_rule(&mut self, rule: &Rule) -> Result<(), RequestError> {
        self.ask(
            &format!("delete rule {rule}"),
            RouteNetlinkMessage::DelRule(message_of(rule)),
            0,
        )
        .map(drop)
    }

    pub(crate) fn list_owned_rules(&mut self) -> Result<Vec<Rule>, RequestError> {
        let mut rules = Vec::new();
        for ipv6 in [false, true] {
            let mut message = RuleMessage::default();
            message.header.family = family_of(ipv6);
            let answers = match self.dump("list rules", &RouteNetlinkMessage::GetRule(message)) {
                Ok(answers) => answers,
                Err(RequestError::Unsupported { .. } | RequestError::NotFound { .. }) => continue,
                Err(error) => return Err(error),
            };
            rules.extend(answers.iter().filter_map(|m| match m {
                RouteNetlinkMessage::NewRule(m) => {
                    rule_of(m).filter(|r| r.protocol == crate::OWNER_PROTOCOL)
                }
                _ => None,
            }));
        }
        Ok(rules)
    }
}
