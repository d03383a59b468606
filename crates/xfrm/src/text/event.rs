//! Notifications in the words of `ip xfrm monitor`.

use std::fmt::Write as _;

use super::Text;
use super::fields::address;
use crate::attribute::{Attribute, Attributes};
use crate::message::{Body, Message};
use crate::numbers::{PolicyType, SaProtocol};
use crate::structures::{AcquireInfo, AeventId, MappingInfo, Migrate, SaId};

/// Why the state of an SA is told (`XFRM_AE_*`).
const REASONS: [(u32, &str); 3] = [
    (16, "replay update"),
    (32, "timer expired"),
    (64, "policy updated"),
];

impl Text<'_> {
    /// A notification: one line at least, each ended. Requests, which nobody is told of, are shown by their type.
    pub fn event(&self, message: &Message) -> String {
        let attributes = &message.attributes;
        match &message.body {
            Body::NewSa(sa) => self.sa(sa, attributes),
            Body::UpdateSa(sa) => format!("Updated {}", self.sa(sa, attributes)),
            Body::DeleteSa(id) => format!("Deleted {}", self.deleted_sa(id, attributes)),
            Body::NewPolicy(policy) => self.policy(policy, attributes),
            Body::UpdatePolicy(policy) => format!("Updated {}", self.policy(policy, attributes)),
            Body::DeletePolicy(id) => {
                let whole = attributes.policy();
                let text = whole.map_or_else(
                    || format!("{}\n", self.selector(&id.selector)),
                    |policy| self.policy(policy, attributes),
                );
                format!("Deleted {text}")
            }
            Body::FlushSa(SaProtocol(0)) => "Flushed state proto 0\n".to_owned(),
            Body::FlushSa(proto) => format!("Flushed state proto {}\n", proto.ip_name()),
            Body::FlushPolicy => {
                let sub = attributes.policy_type() == Some(PolicyType::SUB);
                format!(
                    "Flushed policy ptype {}\n",
                    if sub { "sub" } else { "main" }
                )
            }
            Body::Expire(e) => {
                let hard = u8::from(e.hard);
                format!("Expired {}\thard {hard}\n", self.sa(&e.sa, attributes))
            }
            Body::PolicyExpire(e) => {
                let hard = u8::from(e.hard);
                format!(
                    "Expired {}\thard {hard}\n",
                    self.policy(&e.policy, attributes)
                )
            }
            Body::Acquire(acquire) => self.acquire(acquire, attributes),
            Body::Mapping(mapping) => self.mapping(mapping),
            Body::NewAe(id) => self.aevent(id),
            Body::Migrate(id) => {
                let mut text = format!("Migrated {}\n", self.selector(&id.selector));
                for attribute in attributes {
                    if let Attribute::Migrate(changes) = attribute {
                        text.extend(changes.iter().map(|m| self.migrated(m)));
                    }
                }
                text
            }
            Body::Report(r) => format!(
                "report proto {}\n\tsel {}\n",
                r.proto.ip_name(),
                self.selector(&r.selector)
            ),
            Body::GetDefault(values) | Body::SetDefault(values) => self.defaults(values),
            _ => format!("{}\n", message.kind()),
        }
    }

    fn deleted_sa(&self, id: &SaId, attributes: &Attributes) -> String {
        attributes.sa().map_or_else(
            || format!("dst {}\n", self.name(id)),
            |sa| self.sa(sa, attributes),
        )
    }

    fn name(&self, id: &SaId) -> String {
        format!(
            "{} proto {} spi {}",
            address(&id.daddr, id.family),
            id.proto.ip_name(),
            self.spi(id.spi)
        )
    }

    fn acquire(&self, acquire: &AcquireInfo, attributes: &Attributes) -> String {
        let mut text = format!("acquire proto {}", acquire.id.proto.ip_name());
        if self.statistics || acquire.id.spi != 0 {
            let _ = write!(text, " spi {}", self.spi(acquire.id.spi));
        }
        let _ = writeln!(text, "\n  sel {}", self.selector(&acquire.selector));
        text += "  policy ";
        for (n, line) in self.policy(&acquire.policy, attributes).lines().enumerate() {
            let indent = if n == 0 { "" } else { "    " };
            let _ = writeln!(text, "{indent}{line}");
        }
        if self.statistics {
            let _ = writeln!(
                text,
                "  seq 0x{:08x} enc-mask {:08x} auth-mask {:08x} comp-mask {:08x}",
                acquire.seq, acquire.ealgos, acquire.aalgos, acquire.calgos
            );
        }
        for attribute in attributes {
            if let Attribute::Cpu(cpu) = attribute {
                let _ = writeln!(text, "  pcpu-num {cpu}");
            }
        }
        text
    }

    fn mapping(&self, mapping: &MappingInfo) -> String {
        format!(
            "Mapping change {}:{} -> {}:{}\n\tdst {} reqid {}\n",
            address(&mapping.old_saddr, mapping.id.family),
            mapping.old_sport,
            address(&mapping.new_saddr, mapping.id.family),
            mapping.new_sport,
            self.name(&mapping.id),
            self.reqid(mapping.reqid),
        )
    }

    fn aevent(&self, id: &AeventId) -> String {
        let reasons: Vec<_> = REASONS
            .iter()
            .filter(|(bit, _)| id.flags & bit != 0)
            .map(|(_, reason)| *reason)
            .collect();
        format!(
            "Async event ({:#x}) {}\n\tsrc {} dst {} reqid {}\n",
            id.flags,
            reasons.join(", "),
            address(&id.saddr, id.id.family),
            self.name(&id.id),
            self.reqid(id.reqid),
        )
    }

    fn migrated(&self, m: &Migrate) -> String {
        format!(
            "\tsrc {} dst {} -> src {} dst {} proto {} reqid {} mode {}\n",
            address(&m.old_saddr, m.old_family),
            address(&m.old_daddr, m.old_family),
            address(&m.new_saddr, m.new_family),
            address(&m.new_daddr, m.new_family),
            m.proto.ip_name(),
            self.reqid(m.reqid),
            m.mode.ip_name(),
        )
    }
}
