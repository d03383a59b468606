//! `cygnet status` for people.

use std::fmt::Write as _;

use serde_json::Value;

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("-")
}

fn list(value: &Value, key: &str) -> String {
    value[key]
        .as_array()
        .map(|items| {
            items
                .iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .unwrap_or_default()
}

/// Seconds as people say them.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86400),
    }
}

fn traffic(value: &Value) -> String {
    if value.is_null() {
        return "no counters".to_owned();
    }
    let n = |key: &str| value[key].as_u64().unwrap_or(0);
    let mut out = format!("{} packets, {} bytes", n("packets"), n("bytes"));
    if n("replayed") > 0 {
        let _ = write!(out, ", {} replayed", n("replayed"));
    }
    if n("integrity_failed") > 0 {
        let _ = write!(
            out,
            ", {} with wrong integrity check value",
            n("integrity_failed")
        );
    }
    out
}

/// The whole status as text.
pub(crate) fn status(status: &Value) -> String {
    let mut out = String::new();
    let empty = Vec::new();
    let connections = status["connections"].as_array().unwrap_or(&empty);
    let ikes = status["ike_sas"].as_array().unwrap_or(&empty);
    if connections.is_empty() {
        out.push_str("no connections are loaded\n");
    }
    for c in connections {
        let _ = writeln!(
            out,
            "{}: {} (wanted: {}), {} data plane, {} === {}",
            text(c, "name"),
            text(c, "state"),
            text(c, "intent").replace('_', " "),
            text(c, "plane"),
            text(c, "local"),
            c["remote"].as_str().unwrap_or("any"),
        );
        if let Some(interface) = c["interface"].as_str() {
            let _ = writeln!(out, "  interface {interface}");
        }
        if let Some(reason) = c["reason"].as_str() {
            let _ = writeln!(out, "  because: {reason}");
        }
        if let Some(failure) = c["last_failure"].as_object() {
            let ago = failure.get("ago").and_then(Value::as_u64).unwrap_or(0);
            let reason = failure.get("text").and_then(Value::as_str).unwrap_or("-");
            let _ = writeln!(out, "  last attempt failed {} ago: {reason}", span(ago));
        }
        if c["resumable"] == true {
            out.push_str("  the lost session may be resumed\n");
        }
        if let Some(wait) = c["retry_in"].as_u64() {
            let _ = writeln!(out, "  next attempt in {}", span(wait));
        }
        for ike in ikes.iter().filter(|i| i["connection"] == c["name"]) {
            ike_sa(&mut out, ike);
        }
        for child in c["children"].as_array().unwrap_or(&empty) {
            child_sa(&mut out, child);
        }
    }
    for ike in ikes.iter().filter(|i| i["connection"].is_null()) {
        out.push_str("unknown peer:\n");
        ike_sa(&mut out, ike);
    }
    strangers(&mut out, &status["strangers"]);
    counters(&mut out, "IKE", &status["ike_counters"]);
    counters(
        &mut out,
        "IKE has dropped",
        &status["ike_counters"]["dropped"],
    );
    counters(&mut out, "user-space data plane", &status["counters"]);
    out
}

/// Counters under a title, if there are any.
fn counters(out: &mut String, title: &str, counters: &Value) {
    let counters: Vec<_> = counters
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, count)| Some((name, count.as_u64()?)))
        .collect();
    if !counters.is_empty() {
        let _ = writeln!(out, "{title}:");
    }
    for (name, count) in counters {
        let _ = writeln!(out, "  {name} {count}");
    }
}

/// One line about those who are not authenticated, if there is anything to say.
fn strangers(out: &mut String, strangers: &Value) {
    let n = |key: &str| strangers[key].as_u64().unwrap_or(0);
    let defence = text(strangers, "defence");
    if n("half_open") == 0 && matches!(defence, "none" | "-") {
        return;
    }
    let _ = writeln!(
        out,
        "strangers: {} IKE SAs half open, asked for {}; {} cookies and {} puzzles sent, {} solved",
        n("half_open"),
        if defence == "none" {
            "nothing"
        } else {
            defence
        },
        n("cookies_sent"),
        n("puzzles_sent"),
        n("puzzles_solved"),
    );
}

fn ike_sa(out: &mut String, ike: &Value) {
    let _ = write!(
        out,
        "  IKE SA #{} {} as {}, {} [{}] to {} [{}]",
        ike["id"],
        text(ike, "state"),
        text(ike, "role"),
        text(ike, "local"),
        text(ike, "local_id"),
        text(ike, "remote"),
        text(ike, "remote_id"),
    );
    if let Some(age) = ike["established"].as_u64() {
        let _ = write!(out, ", for {}", span(age));
    }
    let _ = writeln!(
        out,
        "\n    SPIs {} (initiator) {} (responder), {}{}",
        text(ike, "initiator_spi"),
        text(ike, "responder_spi"),
        text(ike, "suite"),
        [
            "ppk",
            "resumed",
            "childless",
            "fragmentation",
            "mobike",
            "crash_token",
            "message_id_sync",
            "replay_counter_sync"
        ]
        .into_iter()
        .filter(|field| ike[*field] == true)
        .chain((ike["transport"] == "tcp").then_some("over TCP"))
        .map(|field| format!(", {}", field.replace('_', " ")))
        .collect::<String>(),
    );
    let windows = (ike["own_window"].as_u64(), ike["peer_window"].as_u64());
    if let (Some(own), Some(peer)) = windows
        && (own, peer) != (1, 1)
    {
        let _ = writeln!(
            out,
            "    requests at a time: {own} of the peer, {peer} of ours"
        );
    }
    let ticket = ike["ticket_expires_in"].as_u64();
    match (ticket, ike["ticket_granted"] == true) {
        (Some(left), _) => {
            let _ = writeln!(out, "    a ticket to resume it, for {}", span(left));
        }
        (None, true) => out.push_str("    the peer has a ticket to resume it\n"),
        (None, false) => {}
    }
    if let Some(from) = ike["redirected_from"].as_str() {
        let _ = writeln!(out, "    sent there by the gateway {from}");
    }
    renewal(out, ike, "#");
    match (ike["nat_local"].as_bool(), ike["nat_remote"].as_bool()) {
        (Some(true), Some(true)) => out.push_str("    both ends are behind a NAT\n"),
        (Some(true), _) => out.push_str("    we are behind a NAT\n"),
        (_, Some(true)) => out.push_str("    the peer is behind a NAT\n"),
        _ => {}
    }
}

fn child_sa(out: &mut String, child: &Value) {
    let _ = write!(
        out,
        "  child SA ${} of #{}, {} mode, {}{}, {}",
        child["id"],
        child["ike"],
        text(child, "mode"),
        text(child, "protocol").to_uppercase(),
        match child["encapsulation"].as_str() {
            Some("udp") => " in UDP",
            Some("tcp") => " in TCP",
            _ => "",
        },
        text(child, "suite"),
    );
    if child["ipcomp"].is_array() {
        out.push_str(", compressed");
    }
    if let Some(label) = child["label"].as_str() {
        let _ = write!(out, ", label {label}");
    }
    if let Some(cpu) = child["cpu"].as_u64() {
        let _ = write!(out, ", CPU {cpu}");
    }
    if let Some(age) = child["established"].as_u64() {
        let _ = write!(out, ", for {}", span(age));
    }
    let _ = writeln!(
        out,
        "\n    {} === {}\n    in  {}: {}\n    out {}: {}",
        list(child, "local_ts"),
        list(child, "remote_ts"),
        text(child, "spi_in"),
        traffic(&child["inbound"]),
        text(child, "spi_out"),
        traffic(&child["outbound"]),
    );
    renewal(out, child, "$");
}

/// When an SA is renewed and when it ends, and from which one it was made.
fn renewal(out: &mut String, sa: &Value, sign: &str) {
    let mut parts: Vec<String> = [("rekeyed", "rekey_in"), ("ends", "expires_in")]
        .into_iter()
        .filter_map(|(what, field)| Some(format!("{what} in {}", span(sa[field].as_u64()?))))
        .collect();
    parts.extend(
        sa["replaces"]
            .as_u64()
            .map(|old| format!("in place of {sign}{old}")),
    );
    if sa["sending"] == false {
        parts.push("not sent on yet".to_owned());
    }
    if !parts.is_empty() {
        let _ = writeln!(out, "    {}", parts.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_as_people_see_it() {
        let value = serde_json::json!({
            "connections": [{
                "name": "office", "intent": "up", "state": "up", "reason": null, "plane": "userspace",
                "local": "192.0.2.1", "remote": "198.51.100.2", "reqid": 16384,
                "last_failure": null, "retry_in": null,
                "children": [{
                    "id": 1, "ike": 1, "mode": "tunnel", "protocol": "esp", "encapsulation": null,
                    "suite": "AES_GCM_16_256", "spi_in": "d0000001", "spi_out": "c1234567",
                    "local_ts": ["10.1.0.0/24"], "remote_ts": ["10.2.0.0/24"], "reqid": 16384,
                    "established": 130,
                    "inbound": {"bytes": 840, "packets": 10, "replayed": 0, "integrity_failed": 2},
                    "outbound": null,
                    "replaces": 7, "sending": true, "rekey_in": 3000, "expires_in": 3600
                }]
            }, {
                "name": "branch", "intent": "up", "state": "retrying", "reason": "no response",
                "plane": "kernel", "local": "192.0.2.1", "remote": null, "reqid": 16385, "interface": "ipsec1",
                "last_failure": {"reason": "no_response", "text": "no response", "ago": 7}, "retry_in": 4,
                "resumable": true, "children": []
            }],
            "ike_sas": [{
                "id": 1, "connection": "office", "role": "initiator", "state": "established",
                "local": "192.0.2.1:500", "remote": "198.51.100.2:500",
                "local_id": "@west", "remote_id": "@east",
                "initiator_spi": "0011223344556677", "responder_spi": "8899aabbccddeeff",
                "suite": "AES_GCM_16_256-HMAC_SHA2_256-DH31", "nat_local": false, "nat_remote": true, "fragmentation": true, "crash_token": true, "message_id_sync": true, "replay_counter_sync": true,
                "resumed": true, "ticket_expires_in": 3000, "ticket_granted": false,
                "own_window": 1, "peer_window": 4,
                "established": 130, "last_heard": 2, "rekey_in": 27000, "expires_in": 40000
            }],
            "strangers": {
                "half_open": 40000, "defence": "puzzles",
                "cookies_sent": 12000, "puzzles_sent": 3000, "puzzles_solved": 2
            },
            "ike_counters": {
                "datagrams_in": 52345, "established": 1, "dropped": { "malformed": 12, "unknown_spi": 7 }
            },
            "counters": { "XfrmInNoStates": 3 }
        });
        insta::assert_snapshot!(status(&value), @r"
        office: up (wanted: up), userspace data plane, 192.0.2.1 === 198.51.100.2
          IKE SA #1 established as initiator, 192.0.2.1:500 [@west] to 198.51.100.2:500 [@east], for 2 min
            SPIs 0011223344556677 (initiator) 8899aabbccddeeff (responder), AES_GCM_16_256-HMAC_SHA2_256-DH31, resumed, fragmentation, crash token, message id sync, replay counter sync
            requests at a time: 1 of the peer, 4 of ours
            a ticket to resume it, for 50 min
            rekeyed in 7 h, ends in 11 h
            the peer is behind a NAT
          child SA $1 of #1, tunnel mode, ESP, AES_GCM_16_256, for 2 min
            10.1.0.0/24 === 10.2.0.0/24
            in  d0000001: 10 packets, 840 bytes, 2 with wrong integrity check value
            out c1234567: no counters
            rekeyed in 50 min, ends in 60 min, in place of $7
        branch: retrying (wanted: up), kernel data plane, 192.0.2.1 === any
          interface ipsec1
          because: no response
          last attempt failed 7 s ago: no response
          the lost session may be resumed
          next attempt in 4 s
        strangers: 40000 IKE SAs half open, asked for puzzles; 12000 cookies and 3000 puzzles sent, 2 solved
        IKE:
          datagrams_in 52345
          established 1
        IKE has dropped:
          malformed 12
          unknown_spi 7
        user-space data plane:
          XfrmInNoStates 3
        ");
    }
}
