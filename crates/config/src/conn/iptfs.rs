//! `iptfs=` and what goes with it: aggregation and fragmentation of packets (RFC 9347).

use std::time::Duration;

use cygnet_engine::{ChildOptions, ConnectionKind};
use cygnet_ipsec::{Iptfs, Protocol};

use crate::keyword::Side;
use crate::section::Values;
use crate::value::{Parsed, TimeUnit, ValueError, duration, number, yes_no};

/// The least size of outer packets: smaller ones would hold their headers and next to nothing.
const MIN_PACKET_SIZE: u32 = 128;

/// The kernel counts microseconds in 32 bits.
const MAX_TIME: Duration = Duration::from_micros(u32::MAX as u64);

/// The size of outer packets, or 0 for that of the path.
fn packet_size(text: &str) -> Parsed<u32> {
    match text {
        "0" => Ok(0),
        _ => number(text, MIN_PACKET_SIZE..=u16::MAX.into()),
    }
}

fn time(text: &str) -> Parsed<Duration> {
    match duration(text, TimeUnit::Seconds)? {
        time if time > MAX_TIME => {
            Err(ValueError::new("out of range").help("it is at most 4294 seconds"))
        }
        time => Ok(time),
    }
}

/// What IP-TFS SAs are told, if they are wanted: of ESP in tunnel mode, without compression and padding of other kinds.
pub(super) fn iptfs(
    values: &mut Values<'_, '_>,
    kind: ConnectionKind,
    child: &ChildOptions,
) -> Option<Iptfs> {
    let default = Iptfs::default();
    let wanted = values.get("iptfs", false, yes_no);
    let options = Iptfs {
        dont_fragment: !values.get("iptfs-fragmentation", !default.dont_fragment, yes_no),
        packet_size: values.get("iptfs-packet-size", default.packet_size, packet_size),
        max_queue: values.get("iptfs-max-queue-size", default.max_queue, |text| {
            number(text, 0..=u32::MAX)
        }),
        init_delay: values.get("iptfs-init-delay", default.init_delay, time),
        drop_time: values.get("iptfs-drop-time", default.drop_time, time),
        reorder_window: values.get("iptfs-reorder-window", default.reorder_window, |text| {
            number(text, 0..=u16::MAX.into()).map(|n| u16::try_from(n).unwrap_or(u16::MAX))
        }),
    };
    let obstacle = [
        (kind != ConnectionKind::Tunnel, "another mode than tunnel"),
        (child.protocol != Protocol::Esp, "AH"),
        (child.compress, "`compress=yes`"),
        (child.tfc > 0, "`tfc=`"),
    ]
    .into_iter()
    .find_map(|(there, what)| there.then_some(what));
    if wanted
        && let Some(what) = obstacle
        && let Some(assignment) = values.assignment(Side::Both, "iptfs")
    {
        let error = ValueError::combination(format!("it cannot go with {what}"));
        values.refuse(assignment, error);
    }
    wanted.then_some(options)
}
