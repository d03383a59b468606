//! `cygnet xfrm stat`: which of the kernel's counters have moved, what moves them, what to do, and since when.

use std::path::Path;
use std::time::{Duration, SystemTime};

use cygnet_ipsec::Counter;
use cygnet_kernel::linux::xfrm_statistics;
use serde_json::{Value, json};

use super::Failure;
use crate::client;
use crate::view::span;

/// What to look at when a counter moves.
fn advice(counter: Counter) -> &'static str {
    match counter {
        Counter::InError | Counter::OutError => {
            "look for lack of memory, and for the route of the packets (ip route get)"
        }
        Counter::InBufferError => "look for SAs inside SAs: more than six are not taken off",
        Counter::InHdrError | Counter::FwdHdrError => {
            "somebody sends damaged packets: capture them"
        }
        Counter::InNoStates => {
            "the peer sends on an SA that is not here: one of the ends has lost or renewed it, or somebody tries; compare the SPI with `cygnet xfrm state`, and look at marks of the SA, which the packet must have"
        }
        Counter::InStateProtoError => {
            "keys or algorithms differ, or packets are damaged or forged: compare both ends' SAs"
        }
        Counter::InStateModeError => {
            "both ends must use the same mode; with VTI it must be tunnel mode"
        }
        Counter::InStateSeqError => {
            "packets come again or far out of order: raise replay-window= if the path reorders; `cygnet xfrm state -s` says which SA"
        }
        Counter::InStateExpired | Counter::OutStateExpired => {
            "a rekeying was too slow or did not succeed: cygnet status"
        }
        Counter::InStateMismatch => {
            "one end uses UDP encapsulation and the other does not, or the peer sends what the SA is not for: compare the traffic selectors"
        }
        Counter::InStateInvalid | Counter::OutStateInvalid => {
            "an SA is on its way out and its successor is not used yet"
        }
        Counter::InTmplMismatch => {
            "clear text, or the wrong SA, for what must be protected: compare reqid, mode and addresses of the inbound policy's template with the SA's; with xfrm interfaces the if_id too"
        }
        Counter::InNoPols => {
            "a packet out of a tunnel has no inbound or forward policy, or the default is to block: cygnet xfrm policy; with VTI set disable_policy"
        }
        Counter::InPolBlock | Counter::OutPolBlock => {
            "a policy blocks it: a connection that is not up (its fence), or type=drop; cygnet xfrm policy"
        }
        Counter::InPolError | Counter::OutPolError => {
            "a security module refuses, or a template cannot be resolved"
        }
        Counter::OutBundleGenError => {
            "there is no route for the ESP packet, or it leads into the tunnel itself: ip route get PEER, with the SA's output mark"
        }
        Counter::OutNoStates => {
            "the connection's SA is not up yet, or reqid, if_id, mark or addresses of template and SA differ: cygnet status"
        }
        Counter::OutStateProtoError => "the kernel's cryptography fails: look at its log",
        Counter::OutStateModeError => {
            "the packet is too big for the path: lower the MTU of the tunnel's route or device"
        }
        Counter::OutStateSeqError => {
            "all sequence numbers are used up: the SA should have been rekeyed; use ESN"
        }
        Counter::AcquireError => {
            "the peer sends before our SA is complete; a few of them at rekeying are harmless"
        }
        Counter::OutStateDirError | Counter::InStateDirError => {
            "an SA of one direction is used in the other: SPIs are mixed up"
        }
        Counter::InIptfsError => "fragments of inner packets are lost or damaged on the way",
        Counter::OutNoQueueSpace => "more is sent than the SA may: raise iptfs-max-queue-size=",
        Counter::OutBundleCheckError | Counter::OutPolDead => "no kernel that we know counts it",
    }
}

/// A counter as it is and as the daemon has seen it move.
struct Shown {
    name: String,
    value: u64,
    counter: Option<Counter>,
    /// By how much since the daemon's start, and seconds since 1970 of the first and the last time.
    moved: Option<(u64, u64, u64)>,
}

/// Shows the counters.
pub(super) fn run(run_dir: &Path, all: bool, as_json: bool) -> Result<(), Failure> {
    let counters = xfrm_statistics().map_err(|error| {
        Failure::new(format!(
            "the kernel's counters cannot be read (it needs CONFIG_XFRM_STATISTICS): {error}"
        ))
    })?;
    let status = client::current_status(run_dir);
    let moved = status.as_ref().map(|s| &s["kernel_counters"]);
    let shown: Vec<_> = counters
        .into_iter()
        .filter(|(_, value)| all || *value != 0)
        .map(|(name, value)| {
            let seen = moved.map(|m| &m[&name]);
            let n = |key: &str| seen.and_then(|s| s[key].as_u64());
            Shown {
                counter: Counter::ALL.into_iter().find(|c| c.name() == name),
                moved: n("count")
                    .zip(n("first"))
                    .zip(n("last"))
                    .map(|((c, f), l)| (c, f, l)),
                name,
                value,
            }
        })
        .collect();
    if as_json {
        let list: Vec<_> = shown.iter().map(json_of).collect();
        println!("{:#}", Value::Array(list));
        return Ok(());
    }
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    if shown.is_empty() {
        println!("no counter has moved since this network namespace was made");
    }
    for counter in &shown {
        print!("{}", text_of(counter, status.is_some(), now));
    }
    Ok(())
}

fn json_of(shown: &Shown) -> Value {
    let (count, first, last) = match shown.moved {
        Some((count, first, last)) => (Some(count), Some(first), Some(last)),
        None => (None, None, None),
    };
    json!({
        "name": shown.name,
        "value": shown.value,
        "cause": shown.counter.map(Counter::cause),
        "advice": shown.counter.map(advice),
        "since_start": count,
        "first_seen": first,
        "last_seen": last,
    })
}

fn text_of(shown: &Shown, daemon: bool, now: Duration) -> String {
    let ago = |at: u64| span(now.as_secs().saturating_sub(at));
    let since = match shown.moved {
        _ if shown.value == 0 => "never".to_owned(),
        Some((count, first, last)) if first == last => {
            format!(
                "{count} of them since the daemon started, {} ago",
                ago(last)
            )
        }
        Some((count, first, last)) => format!(
            "{count} of them since the daemon started, from {} ago to {} ago",
            ago(first),
            ago(last)
        ),
        None if daemon => "all before the daemon started".to_owned(),
        None => {
            "since this network namespace was made; a running daemon would know when".to_owned()
        }
    };
    let mut text = format!("{} {}: {since}\n", shown.name, shown.value);
    match shown.counter {
        Some(counter) if shown.value != 0 => {
            text += &format!("  {}\n  {}\n", counter.cause(), advice(counter));
        }
        Some(counter) => text += &format!("  {}\n", counter.cause()),
        None => text += "  not known to this version\n",
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_say_what_when_and_what_to_do() {
        let shown = |moved| Shown {
            name: "XfrmOutNoStates".to_owned(),
            value: 16,
            counter: Some(Counter::OutNoStates),
            moved,
        };
        let now = Duration::from_secs(1000);
        let text = text_of(&shown(Some((3, 940, 995))), true, now);
        assert!(text.starts_with(
            "XfrmOutNoStates 16: 3 of them since the daemon started, from 60 s ago to 5 s ago\n  A policy asks"
        ), "{text}");
        assert!(text_of(&shown(None), true, now).contains("all before the daemon started"));
        assert!(text_of(&shown(None), false, now).contains("a running daemon would know"));
    }
}
