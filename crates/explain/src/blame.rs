//! What went wrong, and what to do about it: the verdicts on packets that no policy, or the wrong one, was for, and on
//! those that no SA could take.

use std::net::IpAddr;

use cygnet_ipsec::{
    Counter, Direction, Family, Flow, InstalledPolicy, Mark, OutboundDrop, OutboundLookup,
    OutboundLookupError, SaState, Template,
};

use crate::machine::{Device, Machine};
use crate::objection::{PolicyObjection, SaObjection, policy_text, sa_text, template_text};
use crate::report::{Cause, Fate, Verdict};

impl Machine<'_> {
    /// Why a policy with templates finds no SA.
    pub(crate) fn no_sa(
        &self,
        policy: &InstalledPolicy,
        template: &Template,
        flow: &Flow,
        ends: (IpAddr, IpAddr),
        found: OutboundLookup<u64>,
    ) -> Verdict {
        let nearest = self
            .databases
            .states()
            .filter_map(
                |x| match SaObjection::all(x, &policy.policy, template, flow, ends)[..] {
                    [one] => Some((x, one)),
                    _ => None,
                },
            )
            // An SA that would do but for one thing says more than a larval one.
            .min_by_key(|(x, _)| x.state != SaState::Valid);
        let dropped = |cause, text: String, cure: &str| {
            Verdict::dropped(cause, text, cure).counted(&[Counter::OutNoStates])
        };
        if found == OutboundLookup::Error(OutboundLookupError::SpiTaken) {
            let text = "the SPI that the template fixes belongs to another SA";
            return Verdict::dropped(Cause::Unresolvable, text, "use a template without SPI")
                .counted(OutboundDrop::SpiTaken.counters());
        }
        if found == OutboundLookup::Pending {
            let text = "a larval SA is there: somebody has been asked for keys, and until that is answered or given up nobody is asked again, for other packets neither".to_owned();
            let cure = "see why the negotiation does not end (cygnet status); a larval SA goes after net.core.xfrm_acq_expires seconds, or with `ip xfrm state flush` (which takes all others too)";
            return dropped(Cause::LarvalMutes, text, cure);
        }
        match nearest {
            Some((x, SaObjection::Reqid { sa, template })) => dropped(
                Cause::ReqidMismatch,
                format!(
                    "{} has reqid {sa}, the policy's template wants {template}, and they must be equal",
                    sa_text(x)
                ),
                "install policy and SA with the same reqid",
            ),
            Some((x, SaObjection::IfId { sa, policy })) => dropped(
                Cause::IfIdMismatch,
                format!(
                    "{} belongs to if_id {sa}, the policy to if_id {policy}",
                    sa_text(x)
                ),
                "install policy and SA with the if_id of the interface",
            ),
            Some((x, SaObjection::MarkOutsideMask(mark))) => dropped(
                Cause::MarkOutsideMask,
                format!(
                    "{}: its mark {mark} has bits outside its mask, so nothing ever finds it",
                    sa_text(x)
                ),
                "install it with a mark whose bits all lie inside the mask; the kernel clears such bits in policies only",
            ),
            Some((x, SaObjection::Mark { sa, policy })) => dropped(
                Cause::MarkMismatch,
                format!(
                    "{} is for mark {sa}, and the mark of the policy, which counts here, is {policy:#x}",
                    sa_text(x)
                ),
                "let the SA have no mark, or that of the policy",
            ),
            Some((x, SaObjection::Selector)) => dropped(
                Cause::SaSelector,
                format!(
                    "{} does not carry this packet: its selector is narrower than the policy",
                    sa_text(x)
                ),
                "a negotiation for the wider selectors is due: see the traffic selectors in cygnet status",
            ),
            Some((x, SaObjection::Dead)) => dropped(
                Cause::NoSa,
                format!("{} has expired or failed and is still there", sa_text(x)),
                "cygnet status says why no new one comes",
            ),
            _ => dropped(
                Cause::NoSa,
                format!("there is no SA for {}", template_text(template)),
                "bring the connection up: cygnet up NAME; cygnet status says what is in its way",
            ),
        }
    }

    pub(crate) fn blocked(
        &self,
        direction: Direction,
        flow: &Flow,
        if_id: u32,
        winner: &InstalledPolicy,
        counter: Counter,
    ) -> Verdict {
        let text = format!("{} blocks it", policy_text(winner));
        let cure = "if it is a connection's fence, bring the connection up (cygnet status); otherwise see who has installed it";
        let mut verdict = Verdict::dropped(Cause::PolicyBlocks, text, cure).counted(&[counter]);
        self.note_older_policy(&mut verdict, direction, flow, if_id, winner);
        verdict
    }

    /// Says so if the winner wins by its age alone.
    pub(crate) fn note_older_policy(
        &self,
        verdict: &mut Verdict,
        direction: Direction,
        flow: &Flow,
        if_id: u32,
        winner: &InstalledPolicy,
    ) {
        let meant = self.databases.policies().find(|p| {
            p.policy.key.direction == direction
                && p.policy.key.policy_type == winner.policy.key.policy_type
                && p.policy.priority == winner.policy.priority
                && p.pos > winner.pos
                && !p.policy.templates.is_empty()
                && PolicyObjection::all(&p.policy, flow, if_id).is_empty()
        });
        if let Some(meant) = meant {
            verdict.cause = Some(Cause::OlderPolicyWins);
            verdict.text += &format!(
                "; {} has the same priority and is younger",
                policy_text(meant)
            );
            verdict.cure = Some(
                "give the policy that is meant a smaller priority: of equal ones the older wins, however narrow the other is".to_owned(),
            );
        }
    }

    /// No policy, and nothing against it. Was one meant?
    pub(crate) fn in_clear(&self, flow: &Flow, device: &Device) -> Verdict {
        let mut verdict = Verdict::new(
            Fate::Clear,
            format!("it leaves in clear by {}: no policy is for it", device.name),
        );
        let (cause, cure) = match self.nearly(Direction::Out, flow, 0) {
            Some((_, PolicyObjection::IfId { policy, .. })) => (
                Cause::IfIdMismatch,
                format!(
                    "a policy for it belongs to if_id {policy}: route it to the xfrm interface with that if_id"
                ),
            ),
            Some((_, PolicyObjection::Mark { policy, .. })) => (
                Cause::MarkMismatch,
                format!(
                    "a policy is for packets with mark {policy}: mark them, or route them to the VTI with that key"
                ),
            ),
            _ => return verdict,
        };
        verdict.cause = Some(cause);
        verdict.cure = Some(cure);
        verdict
    }

    /// The policy that would protect it but for one thing.
    pub(crate) fn nearly(
        &self,
        direction: Direction,
        flow: &Flow,
        if_id: u32,
    ) -> Option<(&InstalledPolicy, PolicyObjection)> {
        self.databases
            .policies()
            .filter(|p| p.policy.key.direction == direction && !p.policy.templates.is_empty())
            .find_map(|p| match PolicyObjection::all(&p.policy, flow, if_id)[..] {
                [one] if !one.is_about_addresses() => Some((p, one)),
                _ => None,
            })
    }

    pub(crate) fn nothing_on_interface(&self, flow: &Flow, if_id: u32, device: &Device) -> Verdict {
        let text = format!(
            "no policy with if_id {if_id} is for it: {} drops it (its tx_errors, and an ICMP error to the sender)",
            device.name
        );
        match self.nearly(Direction::Out, flow, if_id) {
            Some((p, PolicyObjection::IfId { policy, .. })) => Verdict::dropped(
                Cause::IfIdMismatch,
                format!("{text}; {} has if_id {policy}", policy_text(p)),
                "let device, policies and SAs have one if_id",
            ),
            Some((p, PolicyObjection::Mark { policy, packet })) => Verdict::dropped(
                Cause::MarkMismatch,
                format!(
                    "{text}; {} is for mark {policy}, the packet has {packet:#x}",
                    policy_text(p)
                ),
                "an xfrm interface needs no mark on its policies: remove mark=",
            ),
            _ => Verdict::dropped(
                Cause::NoPolicyOnInterface,
                text,
                "bring up the connection of the interface, or widen its traffic selectors",
            ),
        }
    }
}

pub(crate) fn default_blocks() -> Verdict {
    Verdict::dropped(
        Cause::DefaultBlocks,
        "no policy is for it, and the default for outbound packets is to block: the sender gets EPERM, nothing counts it",
        "install a policy for it, or `ip xfrm policy setdefault out accept`",
    )
}

pub(crate) fn loops(device: &Device, peer: IpAddr, set_mark: Option<Mark>) -> Verdict {
    let text = format!(
        "the protected packet to {peer} is routed into {} again: a loop (the device counts a collision)",
        device.name
    );
    let cure = match set_mark {
        Some(mark) => format!(
            "packets with mark {mark} need a rule and a table of their own with the route to {peer}: ip rule add fwmark {mark} lookup TABLE"
        ),
        None => format!(
            "the peer lies inside the remote network: the SA needs an output mark (mark-out=), a rule for that mark, and a table with the route to {peer}"
        ),
    };
    Verdict::dropped(Cause::OuterRouteLoops, text, cure)
}

pub(crate) fn too_big(flow: &Flow, device: &Device, size: usize, fits: usize) -> Verdict {
    let what = match flow.family() {
        Family::V6 => "the sender is told by ICMPv6 (packet too big)",
        Family::V4 => {
            "with DF set the sender is told by ICMP (fragmentation needed), else it is fragmented"
        }
    };
    let text = format!("{size} octets are too many, {fits} would fit: {what}");
    if device.kind.is_ipsec() {
        let cure = format!("set the MTU of {} to {fits}", device.name);
        return Verdict::dropped(Cause::TooBig, text, cure);
    }
    let cure = format!("give the route an MTU of {fits}, and let TCP know (--clamp-mss-to-pmtu)");
    let verdict = Verdict::dropped(Cause::TooBig, text, cure);
    verdict.counted(&[Counter::OutStateModeError])
}
