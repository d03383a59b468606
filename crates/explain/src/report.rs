//! What an explanation is made of, and how it reads.

use std::fmt;

use cygnet_ipsec::Counter;
use serde::Serialize;

/// A part of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Route of the clear packet.
    Route,
    /// The device that it goes to or comes from.
    Device,
    /// Search for a policy.
    Policy,
    /// Search for an SA for one template.
    Sa,
    /// What the SA does to the packet.
    Transform,
    /// Route of the protected packet.
    OuterRoute,
    /// Whether the packet fits.
    Mtu,
    /// Whether what came out of an SA is what the policy asks for.
    PolicyCheck,
    /// Whether the source of a received packet is where it should be.
    ReversePath,
}

impl Stage {
    /// The name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Device => "device",
            Self::Policy => "policy",
            Self::Sa => "SA",
            Self::Transform => "transform",
            Self::OuterRoute => "outer route",
            Self::Mtu => "MTU",
            Self::PolicyCheck => "policy check",
            Self::ReversePath => "reverse path",
        }
    }
}

/// Something that was looked at, and why it was taken or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// What.
    pub what: String,
    /// Whether it was taken.
    pub chosen: bool,
    /// Why not, or why.
    pub why: String,
}

/// One step of the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Where.
    pub stage: Stage,
    /// What happened.
    pub text: String,
    /// What there was to choose from, as far as it came near.
    pub candidates: Vec<Candidate>,
}

/// Where the packet ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It leaves protected.
    Protected,
    /// It leaves, or is taken, in clear.
    Clear,
    /// What came out of an SA is taken.
    Accepted,
    /// It is for this host and does not leave.
    Local,
    /// It is dropped.
    Dropped,
}

/// Why a packet does not get where it should: stable names for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// No route for the clear packet.
    NoRoute,
    /// A device on the way is down.
    DeviceDown,
    /// An xfrm interface without a policy for the packet.
    NoPolicyOnInterface,
    /// A policy blocks.
    PolicyBlocks,
    /// No policy, and the default is to block.
    DefaultBlocks,
    /// An older policy of the same priority wins, and it is not the one meant.
    OlderPolicyWins,
    /// There is no SA for the template at all.
    NoSa,
    /// There is an SA, with another reqid than the template.
    ReqidMismatch,
    /// Policy and SA, or packet and policy, belong to different xfrm interfaces.
    IfIdMismatch,
    /// The mark of the SA has bits outside its mask: nothing ever finds it.
    MarkOutsideMask,
    /// The mark of the packet or of the policy is not one that is accepted.
    MarkMismatch,
    /// A larval SA keeps the kernel from asking for another.
    LarvalMutes,
    /// The SA does not carry this packet: its selector.
    SaSelector,
    /// No route for the protected packet.
    NoOuterRoute,
    /// The protected packet is routed into the tunnel's own device.
    OuterRouteLoops,
    /// The protected packet does not fit and may not be fragmented.
    TooBig,
    /// In clear, where the policy asks for an SA.
    ClearButMustBeProtected,
    /// Out of a tunnel, and no policy is for it.
    TunnelWithoutPolicy,
    /// The same behind a VTI device, whose `disable_policy` is not set.
    MissingDisablePolicy,
    /// The reverse path filter drops it.
    ReversePathFilter,
    /// More templates than the kernel resolves, or another error of the databases.
    Unresolvable,
}

/// The end of the way in a line, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Where it ends.
    pub fate: Fate,
    /// The same as a sentence.
    pub text: String,
    /// Why it does not get where it should.
    pub cause: Option<Cause>,
    /// What to do about it.
    pub cure: Option<String>,
    /// The counters of `/proc/net/xfrm_stat` that move, by name.
    pub counters: Vec<&'static str>,
}

impl Verdict {
    pub(crate) fn new(fate: Fate, text: impl Into<String>) -> Self {
        Self {
            fate,
            text: text.into(),
            cause: None,
            cure: None,
            counters: Vec::new(),
        }
    }

    pub(crate) fn dropped(cause: Cause, text: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            cause: Some(cause),
            cure: Some(cure.into()),
            ..Self::new(Fate::Dropped, text)
        }
    }

    pub(crate) fn counted(mut self, counters: &[Counter]) -> Self {
        self.counters = counters.iter().map(|c| c.name()).collect();
        self
    }
}

/// A packet's way and end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The way.
    pub steps: Vec<Step>,
    /// The end.
    pub verdict: Verdict,
}

/// The way so far.
#[derive(Debug, Default)]
pub(crate) struct Way(Vec<Step>);

impl Way {
    pub(crate) fn step(&mut self, stage: Stage, text: impl Into<String>) {
        self.choice(stage, text, Vec::new());
    }

    pub(crate) fn choice(
        &mut self,
        stage: Stage,
        text: impl Into<String>,
        candidates: Vec<Candidate>,
    ) {
        self.0.push(Step {
            stage,
            text: text.into(),
            candidates,
        });
    }

    pub(crate) fn ends(self, verdict: Verdict) -> Explanation {
        Explanation {
            steps: self.0,
            verdict,
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.steps.iter().enumerate() {
            writeln!(f, "{}. {}: {}", n + 1, step.stage.name(), step.text)?;
            for candidate in &step.candidates {
                let sign = if candidate.chosen { '+' } else { '-' };
                writeln!(f, "     {sign} {}: {}", candidate.what, candidate.why)?;
            }
        }
        writeln!(f, "=> {}", self.verdict.text)?;
        if !self.verdict.counters.is_empty() {
            writeln!(f, "   counted as {}", self.verdict.counters.join(", "))?;
        }
        if let Some(cure) = &self.verdict.cure {
            writeln!(f, "   {cure}")?;
        }
        Ok(())
    }
}
