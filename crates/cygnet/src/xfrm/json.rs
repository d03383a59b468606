//! SAs, policies and events as JSON: everything that the kernel says, keys only if they are wanted.

use cygnet_xfrm::{
    Action, Address, Algorithm, AlgorithmIcv, Attribute, Attributes, Body, DefaultAction, Family,
    INFINITE, KeyBytes, LifetimeLimits, LifetimeUsed, Message, OffloadFlags, PolicyDefaults,
    PolicyInfo, PolicyType, SaDirection, SaId, SaInfo, Selector, Template, upper_layer_name,
};
use serde_json::{Map, Value, json};

use super::names::Names;

fn address(address: &Address, family: Family) -> Value {
    address.ip(family).map(|ip| ip.to_string()).into()
}

fn hexadecimal(value: u32) -> String {
    format!("{value:08x}")
}

/// The selector of an SA or a policy; `null` for a tunnel of both families.
fn selector(s: &Selector, names: &Names) -> Value {
    if s.family == Family::UNSPEC {
        return Value::Null;
    }
    let network = |a: &Address, length: u8| {
        a.ip(s.family)
            .map(|ip| format!("{ip}/{length}"))
            .map_or(Value::Null, Value::from)
    };
    let mut value = json!({
        "src": network(&s.saddr, s.prefixlen_s),
        "dst": network(&s.daddr, s.prefixlen_d),
    });
    if s.proto != 0 {
        value["protocol"] = upper_layer_name(s.proto).into();
    }
    for (name, port, mask) in [
        ("sport", s.sport, s.sport_mask),
        ("dport", s.dport, s.dport_mask),
    ] {
        if mask != 0 {
            value[name] = port.into();
        }
        if mask != 0 && mask != u16::MAX {
            value[format!("{name}_mask")] = mask.into();
        }
    }
    if let Ok(index @ 1..) = u32::try_from(s.ifindex) {
        value["device"] = names
            .device(index)
            .map_or_else(|| index.into(), Value::from);
    }
    value
}

fn limits(limits: &LifetimeLimits) -> Value {
    // No limit is 2^64 - 1 for octets and packets, and 0 for times.
    let count = |n: u64| (n != INFINITE).then_some(n);
    let seconds = |n: u64| (n != 0).then_some(n);
    json!({
        "soft_bytes": count(limits.soft_bytes),
        "hard_bytes": count(limits.hard_bytes),
        "soft_packets": count(limits.soft_packets),
        "hard_packets": count(limits.hard_packets),
        "soft_seconds": seconds(limits.soft_add_seconds),
        "hard_seconds": seconds(limits.hard_add_seconds),
        "soft_use_seconds": seconds(limits.soft_use_seconds),
        "hard_use_seconds": seconds(limits.hard_use_seconds),
    })
}

fn used(used: &LifetimeUsed) -> Value {
    json!({
        "bytes": used.bytes,
        "packets": used.packets,
        "added": used.add_time,
        "first_used": (used.use_time != 0).then_some(used.use_time),
    })
}

fn key(key: &KeyBytes, keys: bool) -> (Value, Value) {
    let bits = key.bits().into();
    let octets = keys.then(|| {
        key.as_ref()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect::<String>()
    });
    (bits, octets.into())
}

fn algorithm(a: &Algorithm, keys: bool) -> Value {
    let (key_bits, key) = key(&a.key, keys);
    json!({ "name": a.name.to_string(), "key_bits": key_bits, "key": key })
}

fn algorithm_icv(a: &AlgorithmIcv, keys: bool) -> Value {
    let (key_bits, key) = key(&a.key, keys);
    json!({ "name": a.name.to_string(), "icv_bits": a.icv_bits, "key_bits": key_bits, "key": key })
}

/// One SA.
pub(super) fn sa(sa: &SaInfo, attributes: &Attributes, names: &Names, keys: bool) -> Value {
    let mut value = json!({
        "src": address(&sa.saddr, sa.family),
        "dst": address(&sa.id.daddr, sa.family),
        "protocol": sa.id.proto.ip_name(),
        "spi": hexadecimal(sa.id.spi),
        "reqid": sa.reqid,
        "mode": sa.mode.ip_name(),
        "replay_window": sa.replay_window,
        "seq": sa.seq,
        "flags": sa.flags.ip_names(),
        "selector": selector(&sa.selector, names),
        "limits": limits(&sa.limits),
        "used": used(&sa.used),
        "stats": {
            "replay_window": sa.stats.replay_window,
            "replay": sa.stats.replay,
            "integrity_failed": sa.stats.integrity_failed,
        },
    });
    if let Value::Object(members) = &mut value {
        for attribute in attributes {
            if let Some((name, value)) = sa_attribute(sa, attribute, names, keys) {
                members.insert(name.to_owned(), value);
            }
        }
    }
    value
}

fn sa_attribute(
    sa: &SaInfo,
    attribute: &Attribute,
    names: &Names,
    keys: bool,
) -> Option<(&'static str, Value)> {
    Some(match attribute {
        Attribute::Mark(m) => ("mark", json!({ "value": m.value, "mask": m.mask })),
        Attribute::Auth(a) => ("auth", algorithm(a, keys)),
        Attribute::AuthTrunc(a) => ("auth_trunc", algorithm_icv(a, keys)),
        Attribute::Aead(a) => ("aead", algorithm_icv(a, keys)),
        Attribute::Crypt(a) => ("enc", algorithm(a, keys)),
        Attribute::Compression(a) => ("comp", a.name.to_string().into()),
        Attribute::Encap(e) => (
            "encap",
            json!({
                "type": e.kind.ip_name(),
                "sport": e.sport,
                "dport": e.dport,
                "address": address(&e.oa, sa.family),
            }),
        ),
        Attribute::LastUsed(seconds) => ("last_used", (*seconds).into()),
        Attribute::Replay(r) => (
            "replay",
            json!({ "seq": r.seq, "oseq": r.oseq, "bitmap": hexadecimal(r.bitmap) }),
        ),
        Attribute::ReplayEsn(r) => {
            let bitmap: Vec<_> = r.bitmap.iter().copied().map(hexadecimal).collect();
            let long = |high: u32, low: u32| (u64::from(high) << 32) | u64::from(low);
            let value = json!({
                "seq": long(r.seq_hi, r.seq),
                "oseq": long(r.oseq_hi, r.oseq),
                "window": r.replay_window,
                "bitmap": bitmap,
            });
            ("replay_esn", value)
        }
        Attribute::Offload(o) => (
            "offload",
            json!({
                "device": u32::try_from(o.ifindex).ok().and_then(|i| names.device(i)),
                "mode": if o.flags.0 & OffloadFlags::PACKET.0 == 0 { "crypto" } else { "packet" },
            }),
        ),
        Attribute::SaExtraFlags(flags) => ("extra_flags", json!(flags.ip_names())),
        Attribute::SetMark(mark) => ("output_mark", (*mark).into()),
        Attribute::SetMarkMask(mask) => ("output_mark_mask", (*mask).into()),
        Attribute::IfId(id) => ("if_id", (*id).into()),
        Attribute::TfcPadding(octets) => ("tfcpad", (*octets).into()),
        Attribute::SaDirection(d) => (
            "direction",
            match *d {
                SaDirection::IN => "in".into(),
                SaDirection::OUT => "out".into(),
                SaDirection(number) => number.into(),
            },
        ),
        Attribute::Cpu(cpu) => ("cpu", (*cpu).into()),
        Attribute::NatKeepaliveInterval(seconds) => ("nat_keepalive", (*seconds).into()),
        Attribute::MappingThreshold(seconds) => ("mapping_threshold", (*seconds).into()),
        Attribute::IptfsDontFragment => ("iptfs_dont_fragment", true.into()),
        Attribute::IptfsDropTime(us) => ("iptfs_drop_time", (*us).into()),
        Attribute::IptfsReorderWindow(n) => ("iptfs_reorder_window", (*n).into()),
        Attribute::IptfsInitDelay(us) => ("iptfs_init_delay", (*us).into()),
        Attribute::IptfsMaxQueueSize(n) => ("iptfs_max_queue_size", (*n).into()),
        Attribute::IptfsPacketSize(n) => ("iptfs_packet_size", (*n).into()),
        _ => return None,
    })
}

fn template(t: &Template) -> Value {
    json!({
        "src": address(&t.saddr, t.family),
        "dst": address(&t.id.daddr, t.family),
        "protocol": t.id.proto.ip_name(),
        "spi": (t.id.spi != 0).then(|| hexadecimal(t.id.spi)),
        "reqid": t.reqid,
        "mode": t.mode.ip_name(),
        "optional": t.optional,
    })
}

/// One policy.
pub(super) fn policy(policy: &PolicyInfo, attributes: &Attributes, names: &Names) -> Value {
    let templates: Vec<_> = attributes.templates().iter().map(template).collect();
    let mut value = json!({
        "selector": selector(&policy.selector, names),
        "direction": policy.direction.ip_name(),
        "socket": policy.direction.is_socket(),
        "action": match policy.action {
            Action::ALLOW => "allow".into(),
            Action::BLOCK => "block".into(),
            Action(number) => Value::from(number),
        },
        "priority": policy.priority,
        "index": policy.index,
        "flags": policy.flags.ip_names(),
        "limits": limits(&policy.limits),
        "used": used(&policy.used),
        "templates": templates,
    });
    for attribute in attributes {
        match attribute {
            Attribute::Mark(m) => value["mark"] = json!({ "value": m.value, "mask": m.mask }),
            Attribute::IfId(id) => value["if_id"] = (*id).into(),
            Attribute::PolicyType(PolicyType::SUB) => value["type"] = "sub".into(),
            Attribute::PolicyType(PolicyType::MAIN) => value["type"] = "main".into(),
            _ => {}
        }
    }
    value
}

/// What happens to packets that no policy is for.
pub(super) fn defaults(defaults: &PolicyDefaults) -> Value {
    let action = |action| match action {
        DefaultAction::BLOCK => "block".into(),
        DefaultAction::ACCEPT => "accept".into(),
        DefaultAction(number) => Value::from(number),
    };
    json!({
        "in": action(defaults.inbound),
        "fwd": action(defaults.forward),
        "out": action(defaults.outbound),
    })
}

fn sa_name(id: &SaId) -> Value {
    json!({
        "dst": address(&id.daddr, id.family),
        "protocol": id.proto.ip_name(),
        "spi": hexadecimal(id.spi),
    })
}

/// One notification: what it is, and what it is about.
pub(super) fn event(message: &Message, names: &Names, keys: bool) -> Value {
    let attributes = &message.attributes;
    let about = match &message.body {
        Body::NewSa(info) | Body::UpdateSa(info) => sa(info, attributes, names, keys),
        Body::DeleteSa(id) => attributes
            .sa()
            .map_or_else(|| sa_name(id), |info| sa(info, attributes, names, keys)),
        Body::Expire(e) => {
            let mut value = sa(&e.sa, attributes, names, keys);
            value["hard"] = e.hard.into();
            value
        }
        Body::NewPolicy(info) | Body::UpdatePolicy(info) => policy(info, attributes, names),
        Body::DeletePolicy(id) => attributes.policy().map_or_else(
            || json!({ "selector": selector(&id.selector, names) }),
            |info| policy(info, attributes, names),
        ),
        Body::PolicyExpire(e) => {
            let mut value = policy(&e.policy, attributes, names);
            value["hard"] = e.hard.into();
            value
        }
        Body::Acquire(a) => {
            let cpu = attributes.cpu();
            json!({
                "protocol": a.id.proto.ip_name(),
                "seq": a.seq,
                "cpu": cpu,
                "selector": selector(&a.selector, names),
                "policy": policy(&a.policy, attributes, names),
            })
        }
        Body::Mapping(m) => json!({
            "sa": sa_name(&m.id),
            "reqid": m.reqid,
            "old": { "address": address(&m.old_saddr, m.id.family), "port": m.old_sport },
            "new": { "address": address(&m.new_saddr, m.id.family), "port": m.new_sport },
        }),
        Body::NewAe(a) => json!({ "sa": sa_name(&a.id), "reqid": a.reqid, "reason": a.flags }),
        Body::FlushSa(protocol) => json!({ "protocol": protocol.ip_name() }),
        Body::GetDefault(d) | Body::SetDefault(d) => defaults(d),
        _ => Value::Object(Map::new()),
    };
    json!({ "event": message.kind().to_string().to_lowercase(), "about": about })
}
