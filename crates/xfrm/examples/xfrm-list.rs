//! Lists the SAs and policies of this network namespace, one line each; keys are not shown.
//!
//! ```text
//! cargo run -p cygnet-xfrm --example xfrm-list
//! ```

use cygnet_xfrm::{
    Action, Address, Attribute, Attributes, Client, Family, PolicyDirection, PolicyInfo, SaInfo,
    Selector, Template,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = Client::open()?;
    for (info, attributes) in client.dump_sas()? {
        println!("{}", sa(&info, &attributes));
    }
    for (info, attributes) in client.dump_policies()? {
        println!("{}", policy(&info, &attributes));
    }
    Ok(())
}

fn ip(address: &Address, family: Family) -> String {
    address
        .ip(family)
        .map_or_else(|| "any".into(), |ip| ip.to_string())
}

fn sa(info: &SaInfo, attributes: &Attributes) -> String {
    let mut line = format!(
        "{} {:08x} {} > {} {} reqid {}",
        info.id.proto.name().unwrap_or("?").to_lowercase(),
        info.id.spi,
        ip(&info.saddr, info.family),
        ip(&info.id.daddr, info.family),
        info.mode.name().unwrap_or("?").to_lowercase(),
        info.reqid,
    );
    for attribute in attributes {
        match attribute {
            Attribute::Aead(a) => line += &format!(" {}", a.name),
            Attribute::AuthTrunc(a) => line += &format!(" {} {}", a.name, a.icv_bits),
            Attribute::Crypt(a) => line += &format!(" {}", a.name),
            Attribute::Encap(e) => line += &format!(" udp {}-{}", e.sport, e.dport),
            Attribute::Mark(m) => line += &format!(" mark {:#x}/{:#x}", m.value, m.mask),
            Attribute::IfId(id) => line += &format!(" if_id {id}"),
            Attribute::SaDirection(d) => line += &format!(" {d}"),
            _ => {}
        }
    }
    let used = &info.used;
    line + &format!(" {} packets {} bytes", used.packets, used.bytes)
}

fn selector(s: &Selector) -> String {
    let mut text = format!(
        "{}/{} > {}/{}",
        ip(&s.saddr, s.family),
        s.prefixlen_s,
        ip(&s.daddr, s.family),
        s.prefixlen_d
    );
    if s.proto != 0 {
        text += &format!(" proto {}", s.proto);
    }
    for (name, port, mask) in [
        ("sport", s.sport, s.sport_mask),
        ("dport", s.dport, s.dport_mask),
    ] {
        if mask != 0 {
            text += &format!(" {name} {port}/{mask:#x}");
        }
    }
    text
}

fn template(t: &Template) -> String {
    format!(
        " [{} {} {} > {} reqid {}]",
        t.id.proto.name().unwrap_or("?").to_lowercase(),
        t.mode.name().unwrap_or("?").to_lowercase(),
        ip(&t.saddr, t.family),
        ip(&t.id.daddr, t.family),
        t.reqid
    )
}

fn policy(info: &PolicyInfo, attributes: &Attributes) -> String {
    let direction = match info.direction {
        PolicyDirection::IN => "in",
        PolicyDirection::OUT => "out",
        PolicyDirection::FWD => "fwd",
        _ => "socket",
    };
    let action = match info.action {
        Action::BLOCK => "block",
        _ => "allow",
    };
    let mut line = format!(
        "{direction} {action} {} priority {} index {:#x}",
        selector(&info.selector),
        info.priority,
        info.index
    );
    if let Some(mark) = attributes.mark() {
        line += &format!(" mark {:#x}/{:#x}", mark.value, mark.mask);
    }
    if let Some(if_id) = attributes.if_id() {
        line += &format!(" if_id {if_id}");
    }
    line + &attributes
        .templates()
        .iter()
        .map(template)
        .collect::<String>()
}
