//! Policies in the words of `ip xfrm policy`.

use std::fmt::Write as _;

use super::Text;
use super::fields::{address, flags, hexadecimal, lifetimes, mark};
use crate::attribute::{Attribute, Attributes};
use crate::numbers::{Action, DefaultAction, PolicyType};
use crate::structures::{PolicyDefaults, PolicyInfo, Template};

impl Text<'_> {
    /// A policy: two lines at least, each ended.
    pub fn policy(&self, info: &PolicyInfo, attributes: &Attributes) -> String {
        let mut text = format!("{}\n\t", self.selector(&info.selector));
        let word = if info.direction.is_socket() {
            "socket"
        } else {
            "dir"
        };
        let _ = write!(text, "{word} {}", info.direction.ip_name());
        match info.action {
            Action::ALLOW if self.statistics => text += " action allow",
            Action::ALLOW => {}
            Action::BLOCK => text += " action block",
            Action(number) => {
                let _ = write!(text, " action {number}");
            }
        }
        if self.statistics {
            let _ = write!(text, " index {}", info.index);
        }
        let _ = write!(text, " priority {}", info.priority);
        match attributes.policy_type() {
            Some(PolicyType::MAIN) => text += " ptype main",
            Some(PolicyType::SUB) => text += " ptype sub",
            Some(PolicyType(number)) => {
                let _ = write!(text, " ptype {number}");
            }
            None => {}
        }
        if self.statistics || info.share != 0 {
            let _ = write!(text, " share {}", share(info.share));
        }
        text += &flags(
            "flag",
            info.flags.0.into(),
            &info.flags.ip_names(),
            self.statistics,
        );
        text.push('\n');
        if self.statistics {
            text += &lifetimes(&info.limits, &info.used);
        }
        if let Some(m) = attributes.mark() {
            let _ = writeln!(text, "\tmark {}", mark(m));
        }
        for template in attributes.templates() {
            text += &self.template(template);
        }
        if let Some(Attribute::Offload(o)) = attributes
            .iter()
            .find(|a| matches!(a, Attribute::Offload(_)))
        {
            let _ = writeln!(
                text,
                "\tcrypto offload parameters: dev {} mode packet",
                self.device(o.ifindex)
            );
        }
        if let Some(id) = attributes.if_id() {
            let _ = writeln!(text, "\tif_id {}", hexadecimal(id));
        }
        text
    }

    /// What happens to packets that no policy is for, as `ip xfrm policy getdefault` says it.
    pub fn defaults(&self, defaults: &PolicyDefaults) -> String {
        let name = |action: DefaultAction| match action {
            DefaultAction::BLOCK => "block".to_owned(),
            DefaultAction::ACCEPT => "accept".to_owned(),
            DefaultAction(number) => number.to_string(),
        };
        format!(
            "Default policies:\n in:  {}\n fwd: {}\n out: {}\n",
            name(defaults.inbound),
            name(defaults.forward),
            name(defaults.outbound)
        )
    }

    fn template(&self, t: &Template) -> String {
        let mut text = format!(
            "\ttmpl src {} dst {}\n\t\tproto {}",
            address(&t.saddr, t.family),
            address(&t.id.daddr, t.family),
            t.id.proto.ip_name(),
        );
        if t.id.spi != 0 || self.statistics {
            let _ = write!(text, " spi {}", self.spi(t.id.spi));
        }
        let _ = writeln!(
            text,
            " reqid {} mode {}",
            self.reqid(t.reqid),
            t.mode.ip_name()
        );
        let level = if t.optional { "use" } else { "required" };
        if self.statistics {
            let _ = writeln!(
                text,
                "\t\tlevel {level} share {}\n\t\tenc-mask {:08x} auth-mask {:08x} comp-mask {:08x}",
                share(t.share),
                t.ealgos,
                t.aalgos,
                t.calgos
            );
        } else if t.optional {
            let _ = writeln!(text, "\t\tlevel {level}");
        }
        text
    }
}

fn share(share: u8) -> String {
    match share {
        0 => "any".to_owned(),
        1 => "session".to_owned(),
        2 => "user".to_owned(),
        3 => "unique".to_owned(),
        number => number.to_string(),
    }
}
