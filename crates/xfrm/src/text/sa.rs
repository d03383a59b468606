//! SAs in the words of `ip xfrm state`.

use std::fmt::Write as _;

use super::Text;
use super::fields::{address, flags, hexadecimal, lifetimes, mark, stats};
use crate::algorithm::{Algorithm, AlgorithmIcv};
use crate::attribute::{Attribute, Attributes};
use crate::key::KeyBytes;
use crate::numbers::{Family, OffloadFlags, SaDirection};
use crate::structures::{Encap, Offload, ReplayState, ReplayStateEsn, SaInfo};

impl Text<'_> {
    /// An SA: two lines at least, each ended.
    pub fn sa(&self, info: &SaInfo, attributes: &Attributes) -> String {
        let mut text = format!(
            "src {} dst {}\n\tproto {} spi {} reqid {} mode {}\n\treplay-window {}",
            address(&info.saddr, info.family),
            address(&info.id.daddr, info.family),
            info.id.proto.ip_name(),
            self.spi(info.id.spi),
            self.reqid(info.reqid),
            info.mode.ip_name(),
            info.replay_window,
        );
        if self.statistics {
            let _ = write!(text, " seq 0x{:08x}", info.seq);
        }
        text += &flags(
            "flag",
            info.flags.0.into(),
            &info.flags.ip_names(),
            self.statistics,
        );
        if self.statistics
            && let Some(extra) = attributes.extra_flags()
        {
            text += &flags("extra_flag", extra.0, &extra.ip_names(), true);
        }
        text.push('\n');
        text += &self.attributes(info, attributes);
        // A tunnel for both families has no selector.
        if info.selector.family != Family::UNSPEC {
            let _ = writeln!(text, "\tsel {}", self.selector(&info.selector));
        }
        if self.statistics {
            text += &lifetimes(&info.limits, &info.used);
            text += &stats(&info.stats);
        }
        text
    }

    /// One line for each attribute, in the order in which `ip` has them.
    fn attributes(&self, info: &SaInfo, attributes: &Attributes) -> String {
        let mut lines: Vec<(u8, String)> = attributes
            .iter()
            .filter_map(|a| self.attribute(info, attributes, a))
            .collect();
        lines.sort_by_key(|(place, _)| *place);
        let mut text: String = lines
            .into_iter()
            .map(|(_, line)| format!("\t{line}\n"))
            .collect();
        text += &iptfs(attributes);
        text
    }

    /// The line of an attribute and its place among the others; none where another line has it.
    fn attribute(
        &self,
        info: &SaInfo,
        all: &Attributes,
        attribute: &Attribute,
    ) -> Option<(u8, String)> {
        Some(match attribute {
            Attribute::Mark(m) => (0, format!("mark {}", mark(*m))),
            // Dumps have it beside the form with the ICV's length.
            Attribute::Auth(_) if all.auth_trunc().is_some() => return None,
            Attribute::Auth(a) => (1, self.algorithm("auth", a)),
            Attribute::AuthTrunc(a) => (1, self.algorithm_icv("auth-trunc", a)),
            Attribute::Aead(a) => (2, self.algorithm_icv("aead", a)),
            Attribute::Crypt(a) => (3, self.algorithm("enc", a)),
            Attribute::Compression(a) => (4, format!("comp {}", a.name)),
            Attribute::Encap(e) => (5, encap(e, info.family)),
            Attribute::CareOfAddress(a) => (6, format!("coa {}", address(a, info.family))),
            Attribute::LastUsed(t) => (7, format!("lastused {}", super::fields::moment(*t))),
            Attribute::Replay(r) => (8, replay(r)),
            Attribute::ReplayEsn(r) => (9, replay_esn(r)),
            Attribute::SecurityContext(c) => (10, security_context(c)),
            Attribute::Offload(o) => (11, self.offload(o)),
            Attribute::SetMark(value) => {
                let mask = all.set_mark_mask();
                let mask = mask.map_or_else(String::new, |m| format!("/{}", hexadecimal(m)));
                (0, format!("output-mark {}{mask}", hexadecimal(*value)))
            }
            Attribute::IfId(id) => (13, format!("if_id {}", hexadecimal(*id))),
            Attribute::TfcPadding(octets) => (14, format!("tfcpad {octets}")),
            Attribute::SaDirection(SaDirection::IN) => (15, "dir in".to_owned()),
            Attribute::SaDirection(SaDirection::OUT) => (15, "dir out".to_owned()),
            Attribute::SaDirection(d) => (15, format!("dir {}", d.0)),
            Attribute::Cpu(cpu) => (16, format!("pcpu-num {cpu}")),
            Attribute::MappingThreshold(s) => (17, format!("mtimer-thresh {s}")),
            Attribute::NatKeepaliveInterval(s) => (18, format!("nat-keepalive {s}")),
            Attribute::Unknown { kind, bytes } => (19, format!("attribute {kind} {}", hex(bytes))),
            _ => return None,
        })
    }

    fn key(&self, key: &KeyBytes) -> String {
        if key.is_empty() {
            return String::new();
        }
        if !self.keys {
            return " <<Keys hidden>>".to_owned();
        }
        let bits = match self.statistics {
            true => format!(" ({} bits)", key.bits()),
            false => String::new(),
        };
        format!(" 0x{}{bits}", hex(key.as_ref()))
    }

    fn algorithm(&self, word: &str, a: &Algorithm) -> String {
        format!("{word} {}{}", a.name, self.key(&a.key))
    }

    fn algorithm_icv(&self, word: &str, a: &AlgorithmIcv) -> String {
        format!("{word} {}{} {}", a.name, self.key(&a.key), a.icv_bits)
    }

    fn offload(&self, offload: &Offload) -> String {
        let packet = offload.flags.0 & OffloadFlags::PACKET.0 != 0;
        let inbound = offload.flags.0 & OffloadFlags::INBOUND.0 != 0;
        format!(
            "crypto offload parameters: dev {} dir {} mode {}",
            self.device(offload.ifindex),
            if inbound { "in" } else { "out" },
            if packet { "packet" } else { "crypto" },
        )
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn encap(encap: &Encap, family: Family) -> String {
    format!(
        "encap type {} sport {} dport {} addr {}",
        encap.kind.ip_name(),
        encap.sport,
        encap.dport,
        address(&encap.oa, family)
    )
}

fn replay(state: &ReplayState) -> String {
    format!(
        "anti-replay context: seq {:#x}, oseq {:#x}, bitmap 0x{:08x}",
        state.seq, state.oseq, state.bitmap
    )
}

fn replay_esn(state: &ReplayStateEsn) -> String {
    let mut text = format!(
        "anti-replay esn context:\n\t seq-hi {:#x}, seq {:#x}, oseq-hi {:#x}, oseq {:#x}\n\t replay_window {}, bitmap-length {}",
        state.seq_hi,
        state.seq,
        state.oseq_hi,
        state.oseq,
        state.replay_window,
        state.bitmap.len()
    );
    // The highest numbers first.
    for (place, word) in state.bitmap.iter().rev().enumerate() {
        text += if place % 8 == 0 { "\n\t " } else { " " };
        let _ = write!(text, "{word:08x}");
    }
    text
}

/// `xfrm_sec_ctx`: length, type, algorithm, domain, and the label.
fn security_context(bytes: &[u8]) -> String {
    let label = bytes.get(8..).unwrap_or_default();
    let label = label.strip_suffix(&[0]).unwrap_or(label);
    format!("security context {}", label.escape_ascii())
}

/// All about IP-TFS on one line.
fn iptfs(attributes: &Attributes) -> String {
    let words: Vec<String> = attributes
        .iter()
        .filter_map(|a| {
            Some(match a {
                Attribute::IptfsDontFragment => "dont-frag".to_owned(),
                Attribute::IptfsDropTime(us) => format!("drop-time {us}"),
                Attribute::IptfsReorderWindow(n) => format!("reorder-window {n}"),
                Attribute::IptfsInitDelay(us) => format!("init-delay {us}"),
                Attribute::IptfsMaxQueueSize(n) => format!("max-queue-size {n}"),
                Attribute::IptfsPacketSize(n) => format!("pkt-size {n}"),
                _ => return None,
            })
        })
        .collect();
    if words.is_empty() {
        return String::new();
    }
    format!("\tiptfs-opts {}\n", words.join(" "))
}
