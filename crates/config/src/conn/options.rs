//! The IKE half and the child half of a connection.

use std::num::NonZeroU32;
use std::time::Duration;

use cygnet_crypto::{
    AdditionalOffer, EspProposal, IkeProposal, KeyExchange, NameError, NameErrorKind,
};
use cygnet_engine::{
    ChildOptions, DeadPeerAction, IkeOptions, IpsecInterface, LabelMode, PlaneChoice, Shunt,
    Sourced,
};
use cygnet_ike::{
    AuthMethod, Childless, Encapsulation, Fragmentation, MAX_WINDOW, MIN_FRAGMENT_SIZE, PpkPolicy,
    RetransmitPolicy, Tcp,
};
use cygnet_ipsec::{Mark, Protocol, SecurityLabel};

use crate::keyword::Side;
use crate::redirect;
use crate::section::Values;
use crate::value::{
    Fault, Parsed, TimeUnit, ValueError, choice, count, duration, list, mark, number, percent,
    positive_duration, yes_no,
};

/// Names of post-quantum pre-shared keys.
fn ppk_ids(text: &str) -> Parsed<Vec<Vec<u8>>> {
    let id = |(_, id): (usize, &str)| match id.contains(char::is_control) {
        true => Err(ValueError::new(
            "the name of a key has no control characters",
        )),
        false => Ok(id.as_bytes().to_vec()),
    };
    list(text).map(id).collect()
}

/// A list of algorithms, with the mistake where the list has it.
fn proposals<T>(text: &str, parse: impl FnOnce(&str) -> Result<T, NameError>) -> Parsed<T> {
    if text.is_empty() {
        return Err(ValueError::new("a value is missing"));
    }
    parse(text).map_err(|e| {
        let error = ValueError {
            fault: match e.kind {
                NameErrorKind::NotSupported(_) => Fault::Unsupported,
                _ => Fault::Value,
            },
            ..ValueError::new(e.kind.to_string())
        };
        let error = match e.suggestion {
            Some(name) => error.help(format!("did you mean `{name}`?")),
            None => error,
        };
        error.at(e.offset..e.offset + e.token.len())
    })
}

const HOUR: Duration = Duration::from_secs(3600);
/// libreswan's longest life of an SA.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The life of an SA, cut to what is allowed with a warning.
fn lifetime(values: &mut Values<'_, '_>, name: &'static str) -> Duration {
    let given = values.get(name, 8 * HOUR, |text| {
        positive_duration(text, TimeUnit::Seconds)
    });
    if given <= MAX_LIFETIME {
        return given;
    }
    if let Some(assignment) = values.assignment(Side::Both, name) {
        values.diagnostics.warning(
            &assignment.value_span(),
            format!("{}: longer than 24h, cut to 24h", assignment.key.text),
            None,
        );
    }
    MAX_LIFETIME
}

/// That of IPsec NAT traversal (RFC 9329 §2).
const DEFAULT_TCP_PORT: u16 = 4500;

/// strongSwan's default, for both families.
const DEFAULT_FRAGMENT_SIZE: u16 = 1280;

/// The size of an IP datagram, or 0 for what RFC 7383 recommends.
fn fragment_size(text: &str) -> Parsed<u16> {
    if text == "0" {
        return Ok(0);
    }
    let size = number(text, MIN_FRAGMENT_SIZE.into()..=u16::MAX.into())?;
    Ok(u16::try_from(size).unwrap_or(u16::MAX))
}

/// What is negotiated for the IKE SA.
pub(super) fn ike_options(values: &mut Values<'_, '_>) -> IkeOptions {
    let seconds = |text: &str| positive_duration(text, TimeUnit::Seconds);
    let default = RetransmitPolicy::default();
    let initial = values.get("retransmit-interval", default.initial, |text| {
        positive_duration(text, TimeUnit::Milliseconds)
    });
    let timeout = values.get("retransmit-timeout", default.timeout, seconds);
    if initial > timeout
        && let Some(assignment) = values
            .assignment(Side::Both, "retransmit-interval")
            .or_else(|| values.assignment(Side::Both, "retransmit-timeout"))
    {
        let error = ValueError::combination(
            "the interval is longer than the timeout, so nothing would be repeated",
        );
        values.refuse(assignment, error);
    }
    // The first word is strongSwan's for no probes at all, the second the absence of the keyword.
    let (probes, dead_peer) = values.get("dpdaction", (true, None), |text| {
        choice(
            text,
            &[
                ("none", (false, None)),
                ("clear", (true, Some(DeadPeerAction::Clear))),
                ("trap", (true, Some(DeadPeerAction::Trap))),
                ("hold", (true, Some(DeadPeerAction::Trap))),
                ("restart", (true, Some(DeadPeerAction::Restart))),
                ("restart-by-peer", (true, Some(DeadPeerAction::Restart))),
            ],
        )
    });
    let liveness = values.get("dpddelay", Duration::ZERO, |text| {
        duration(text, TimeUnit::Seconds)
    });
    let (send_redirect, redirect_to) = redirect::sent(values, "send-redirect", "redirect-to");
    IkeOptions {
        accept_redirect: redirect::accepted(values),
        send_redirect,
        redirect_to,
        proposals: ike_proposals(values),
        intermediate: values.get("intermediate", false, yes_no),
        fake_strongswan: values.get("fake-strongswan", false, yes_no),
        ppk: values.get("ppk", PpkPolicy::Never, |text| {
            choice(
                text,
                &[
                    ("never", PpkPolicy::Never),
                    ("no", PpkPolicy::Never),
                    ("permit", PpkPolicy::Permit),
                    ("propose", PpkPolicy::Propose),
                    ("yes", PpkPolicy::Propose),
                    ("insist", PpkPolicy::Insist),
                ],
            )
        }),
        ppk_ids: values.get("ppk-ids", Vec::new(), ppk_ids),
        auth: AuthMethod::Psk,
        retransmit: RetransmitPolicy {
            initial,
            timeout,
            max_interval: default.max_interval.max(initial),
            ..default
        },
        liveness: (probes && liveness > Duration::ZERO).then_some(liveness),
        dead_peer,
        keying_tries: values.get("keyingtries", None, |text| match text {
            "%forever" => Ok(None),
            _ => number(text, 0..=u32::MAX).map(NonZeroU32::new),
        }),
        tcp: values.get("enable-tcp", Tcp::No, |text| match yes_no(text) {
            Ok(true) => Ok(Tcp::Yes),
            Ok(false) => Ok(Tcp::No),
            Err(_) => choice(
                text,
                &[
                    ("no", Tcp::No),
                    ("yes", Tcp::Yes),
                    ("fallback", Tcp::Fallback),
                ],
            ),
        }),
        tcp_remote_port: values.get("tcp-remoteport", DEFAULT_TCP_PORT, |text| {
            number(text, 1..=u32::from(u16::MAX)).map(|n| u16::try_from(n).unwrap_or(u16::MAX))
        }),
        encapsulation: values.get("encapsulation", Encapsulation::Auto, |text| {
            match yes_no(text) {
                Ok(true) => Ok(Encapsulation::Yes),
                Ok(false) => Ok(Encapsulation::No),
                Err(_) => choice(
                    text,
                    &[
                        ("auto", Encapsulation::Auto),
                        ("yes", Encapsulation::Yes),
                        ("no", Encapsulation::No),
                    ],
                ),
            }
        }),
        fragmentation: values.get("fragmentation", Fragmentation::Yes, |text| {
            match yes_no(text) {
                Ok(true) => Ok(Fragmentation::Yes),
                Ok(false) => Ok(Fragmentation::No),
                Err(_) => choice(
                    text,
                    &[
                        ("yes", Fragmentation::Yes),
                        ("accept", Fragmentation::Accept),
                        ("force", Fragmentation::Force),
                        ("no", Fragmentation::No),
                    ],
                ),
            }
        }),
        fragment_size: values.get("fragment-size", DEFAULT_FRAGMENT_SIZE, fragment_size),
        mobike: values.get("mobike", false, yes_no),
        window: values.get("ike-window", 1, |text| number(text, 1..=MAX_WINDOW)),
        nat_keepalive: values.get("nat-keepalive", true, yes_no),
        childless: values.get("childless", Childless::Allow, |text| {
            choice(
                text,
                &[
                    ("never", Childless::Never),
                    ("allow", Childless::Allow),
                    ("prefer", Childless::Prefer),
                    ("force", Childless::Force),
                ],
            )
        }),
        lifetime: lifetime(values, "ikelifetime"),
        reauth: values.get("reauth", false, yes_no),
        initial_contact: values.get("initial-contact", true, yes_no),
        resumption: values.get("session-resumption", false, yes_no),
        crash_detection: values.get("crash-detection", true, yes_no),
        message_id_sync: values.get("message-id-sync", true, yes_no),
        replay_counter_sync: values.get("replay-counter-sync", true, yes_no),
    }
}

/// More child SAs of the same selectors than this are not to be.
const MAX_CLONES: u32 = 256;

/// How many child SAs there may be for single CPUs; `u32::MAX`: one for each.
fn clones(text: &str) -> Parsed<u32> {
    match text {
        "yes" => Ok(u32::MAX),
        "no" => Ok(0),
        _ => number(text, 0..=MAX_CLONES),
    }
}

/// What is negotiated for the child SA, and how it is installed; without IP-TFS, which has keywords of its own.
pub(super) fn child_options(
    values: &mut Values<'_, '_>,
    plane: PlaneChoice,
    ike: &IkeOptions,
) -> ChildOptions {
    let replay_window = values.get("replay-window", 128, |text| number(text, 0..=4096));
    let lifetime = lifetime(values, "ipsec-lifetime");
    let margin = rekey_margin(values, lifetime);
    let (protocol, proposals) = child_proposals(values, replay_window, plane, ike);
    let (proposals, additional_of_ike) = forward_secret(values, proposals, ike);
    let mark_both = values.optional(Side::Both, "mark", mark);
    let mark_in = values.optional(Side::Both, "mark-in", mark);
    let mark_out = values.optional(Side::Both, "mark-out", mark);
    if let Some(assignment) = values.assignment(Side::Both, "mark")
        && (mark_in.is_some() || mark_out.is_some())
    {
        let error = ValueError::combination("it cannot go with `mark-in=` and `mark-out=`")
            .help("`mark=` is both of them");
        values.refuse(assignment, error);
    }
    let shunts = [
        ("none", Shunt::None),
        ("drop", Shunt::Drop),
        ("passthrough", Shunt::Passthrough),
        ("hold", Shunt::Drop),
        ("pass", Shunt::Passthrough),
    ];
    ChildOptions {
        protocol,
        proposals,
        additional_of_ike,
        lifetime,
        inactivity: values.get("inactivity", None, |text| {
            duration(text, TimeUnit::Seconds).map(|time| (!time.is_zero()).then_some(time))
        }),
        max_bytes: values.get("ipsec-max-bytes", None, |text| count(text, "B")),
        max_packets: values.get("ipsec-max-packets", None, |text| count(text, "")),
        rekey: values.get("rekey", true, yes_no),
        rekey_margin: margin,
        rekey_fuzz: values.get("rekeyfuzz", 100, percent),
        replay_window,
        reqid: values.optional(Side::Both, "reqid", |text| number(text, 1..=16383)),
        priority: values.get("priority", None, |text| {
            number(text, 0..=u32::MAX).map(|n| (n != 0).then_some(n))
        }),
        interface: values.get("ipsec-interface", None, ipsec_interface),
        metric: values.get("metric", 1, |text| number(text, 0..=u32::MAX)),
        mark_in: mark_in.or(mark_both).unwrap_or(Mark::ANY),
        mark_out: mark_out.or(mark_both).unwrap_or(Mark::ANY),
        negotiation_shunt: values.get("negotiationshunt", Shunt::Drop, |text| {
            choice(text, shunts.get(1..).unwrap_or_default())
        }),
        failure_shunt: values.get("failureshunt", Shunt::None, |text| choice(text, &shunts)),
        encap_dscp: values.get("encap-dscp", true, yes_no),
        decap_dscp: values.get("decap-dscp", false, yes_no),
        no_pmtu_disc: values.get("nopmtudisc", false, yes_no),
        label: values.optional(Side::Both, "sec-label", security_label),
        label_mode: values.get("label-mode", LabelMode::SeLinux, |text| {
            let modes = [
                ("selinux", LabelMode::SeLinux),
                ("simple", LabelMode::Simple),
            ];
            choice(text, &modes)
        }),
        compress: values.get("compress", false, yes_no),
        tfc: values.get("tfc", 0, |text| match text {
            "mtu" => Ok(u32::MAX),
            _ => number(text, 0..=65535),
        }),
        iptfs: None,
        clones: values.get("clones", 0, clones),
        refuse_tfc: values.get("send-esp-tfc-padding-not-supported", false, yes_no),
        // 68 is the least of IPv4 (RFC 791); whether the tunnel carries IPv6 (1280) is known only later.
        mtu: values.optional(Side::Both, "mtu", |text| number(text, 68..=65535)),
    }
}

/// `ipsec-interface`: here 0 and 1 are numbers of devices.
fn ipsec_interface(text: &str) -> Parsed<Option<IpsecInterface>> {
    match text {
        "no" => Ok(None),
        "yes" => Ok(Some(IpsecInterface(1))),
        // The kernel takes every if_id but 0.
        _ => number(text, 0..=u32::MAX - 1).map(|n| Some(IpsecInterface(n))),
    }
}

/// `sec-label`, as it travels: with the zero octet by which SELinux's labels end, as strongSwan and libreswan send it.
fn security_label(text: &str) -> Parsed<SecurityLabel> {
    let octets = [text.as_bytes(), &[0]].concat();
    match text.chars().all(|c| c.is_ascii_graphic()) {
        true => SecurityLabel::new(octets).map_err(|error| ValueError::new(error.to_string())),
        false => Err(ValueError::new(
            "a label has no spaces and no letters beyond ASCII",
        )),
    }
}

/// `rekeymargin`, halved to fit as libreswan does if it is longer than the life itself.
fn rekey_margin(values: &mut Values<'_, '_>, lifetime: Duration) -> Duration {
    let margin = values.get("rekeymargin", Duration::from_secs(540), |text| {
        positive_duration(text, TimeUnit::Seconds)
    });
    if margin < lifetime || values.lenient() {
        return margin;
    }
    let place = values
        .assignment(Side::Both, "rekeymargin")
        .or_else(|| values.assignment(Side::Both, "ipsec-lifetime"));
    if let Some(assignment) = place {
        let half = (lifetime / 2).as_secs_f64();
        let message = format!(
            "the life of the SA is not longer than rekeymargin=, which is cut to half of it ({half}s)"
        );
        values
            .diagnostics
            .warning(&assignment.value_span(), message, None);
    }
    lifetime / 2
}

/// `ike`.
fn ike_proposals(values: &mut Values<'_, '_>) -> Sourced<Vec<IkeProposal>> {
    let list = values
        .sourced(Side::Both, "ike", |text| {
            proposals(text, IkeProposal::parse_ipsec_conf)
        })
        .unwrap_or_else(|| Sourced::default_value(IkeProposal::default_list()));
    warn_of_weak(
        values,
        "ike",
        list.value.iter().flat_map(|p| p.weaknesses()),
    );
    list
}

/// Weak algorithms are used only where they are named, and then with a warning, once for each.
fn warn_of_weak(
    values: &mut Values<'_, '_>,
    name: &'static str,
    weaknesses: impl Iterator<Item = &'static str>,
) {
    let Some(assignment) = values.assignment(Side::Both, name) else {
        return;
    };
    let span = assignment.value_span();
    for weakness in weaknesses.collect::<std::collections::BTreeSet<_>>() {
        values
            .diagnostics
            .warning(&span, format!("{name}: weak: {weakness}"), None);
    }
}

/// `pfs`: proposals that name no key exchange get those of the IKE SA, or none has any. If no proposal names one, the
/// additional key exchanges of the IKE SA come along; then `true`, since it may turn out to have none.
fn forward_secret(
    values: &mut Values<'_, '_>,
    mut list: Sourced<Vec<EspProposal>>,
    ike: &IkeOptions,
) -> (Sourced<Vec<EspProposal>>, bool) {
    let none = AdditionalOffer::default();
    if !values.get("pfs", true, yes_no) {
        for proposal in &mut list.value {
            proposal.key_exchange.clear();
            proposal.additional = none.clone();
        }
        return (list, false);
    }
    let of_ike = |additional: Option<&AdditionalOffer>| {
        let mut methods: Vec<KeyExchange> = Vec::new();
        for proposal in &ike.proposals.value {
            if additional.is_none_or(|additional| proposal.additional == *additional) {
                let fresh = |method: &&KeyExchange| !methods.contains(method);
                let fresh: Vec<_> = proposal.key_exchange.iter().filter(fresh).collect();
                methods.extend(fresh);
            }
        }
        methods
    };
    let mut hybrid = Vec::new();
    let bare = |p: &EspProposal| p.key_exchange.is_empty() && p.additional == none;
    if list.value.iter().all(bare) {
        let mut seen = vec![&none];
        for IkeProposal { additional, .. } in &ike.proposals.value {
            if seen.contains(&additional) {
                continue;
            }
            seen.push(additional);
            hybrid.extend(list.value.iter().map(|p| EspProposal {
                key_exchange: of_ike(Some(additional)),
                additional: additional.clone(),
                ..p.clone()
            }));
        }
    }
    for proposal in &mut list.value {
        if proposal.key_exchange.is_empty() {
            proposal.key_exchange = of_ike(None);
        }
    }
    let additional_of_ike = !hybrid.is_empty();
    // Those without come last, for peers that make additional key exchanges in IKE_SA_INIT only.
    list.value.splice(..0, hybrid);
    (list, additional_of_ike)
}

/// `phase2`, and the keyword that names the algorithms. `phase2=ah` makes `phase2alg=`, which is `esp=`, those of AH.
fn child_protocol(
    values: &mut Values<'_, '_>,
    ike: &IkeOptions,
) -> (Protocol, Option<&'static str>) {
    let protocol = values.optional(Side::Both, "phase2", |text| {
        match text.to_ascii_lowercase().as_str() {
            "ah+esp" => Err(ValueError::unsupported(
                "AH and ESP at once are not supported",
            )),
            _ => choice(text, &[("esp", Protocol::Esp), ("ah", Protocol::Ah)]),
        }
    });
    let named = ["ah", "esp"].map(|name| values.assignment(Side::Both, name));
    if let [Some(assignment), other] = named
        && (other.is_some() || protocol == Some(Protocol::Esp))
    {
        let error = ValueError::combination("a Child SA is protected by ESP or by AH, not by both");
        values.refuse(assignment, error);
    }
    let keyword = match named {
        [Some(_), _] => Some("ah"),
        [None, Some(_)] => Some("esp"),
        [None, None] => None,
    };
    let protocol = match keyword {
        Some("ah") => Protocol::Ah,
        _ => protocol.unwrap_or(Protocol::Esp),
    };
    if protocol == Protocol::Ah
        && ike.encapsulation == Encapsulation::Yes
        && let Some(assignment) = values.assignment(Side::Both, "encapsulation")
    {
        let error = ValueError::combination("AH does not go through a NAT, nor into UDP");
        values.refuse(assignment, error);
    }
    (protocol, keyword)
}

/// `phase2` with `esp` or `ah`, narrowed by `esn` and by there being no replay window.
fn child_proposals(
    values: &mut Values<'_, '_>,
    replay_window: u32,
    plane: PlaneChoice,
    ike: &IkeOptions,
) -> (Protocol, Sourced<Vec<EspProposal>>) {
    let (protocol, keyword) = child_protocol(values, ike);
    let (parse, default): (fn(&str) -> _, fn() -> _) = match protocol {
        Protocol::Ah => (
            EspProposal::parse_ah_ipsec_conf,
            EspProposal::ah_default_list,
        ),
        Protocol::Esp | Protocol::Comp => {
            (EspProposal::parse_ipsec_conf, EspProposal::default_list)
        }
    };
    let keyword = keyword.unwrap_or("esp");
    let list = values
        .sourced(Side::Both, keyword, |text| proposals(text, parse))
        .unwrap_or_else(|| Sourced::default_value(default()));
    let weaknesses = list.value.iter().flat_map(|p| p.weaknesses());
    warn_of_weak(values, keyword, weaknesses);
    let list = with_sequence_numbers(values, keyword, list, replay_window, plane);
    (protocol, list)
}

/// `esn` and `replay-window` applied to the proposals that `keyword` names.
fn with_sequence_numbers(
    values: &mut Values<'_, '_>,
    keyword: &'static str,
    mut list: Sourced<Vec<EspProposal>>,
    replay_window: u32,
    plane: PlaneChoice,
) -> Sourced<Vec<EspProposal>> {
    let implicit_iv = (list.value.iter())
        .flat_map(|p| &p.encryption)
        .any(|e| e.has_implicit_iv());
    if implicit_iv
        && plane != PlaneChoice::Userspace
        && let Some(assignment) = values.assignment(Side::Both, "esp")
    {
        let error = ValueError::combination("the kernel has no ciphers with implicit IV")
            .help("use `dataplane=userspace`");
        values.refuse(assignment, error);
    }
    let wanted = values.optional(Side::Both, "esn", |text| match yes_no(text) {
        Ok(yes) => Ok(Some(yes)),
        Err(_) => choice(
            text,
            &[("yes", Some(true)), ("no", Some(false)), ("either", None)],
        ),
    });
    if replay_window == 0
        && wanted == Some(Some(true))
        && let Some(assignment) = values.assignment(Side::Both, "esn")
    {
        // The kernel refuses ESN without a replay window (K12).
        let error =
            ValueError::combination("`replay-window=0` leaves no extended sequence numbers");
        values.refuse(assignment, error);
        return list;
    }
    let wanted = if replay_window == 0 {
        Some(false)
    } else {
        wanted.flatten()
    };
    let Some(wanted) = wanted else { return list };
    let mut possible = true;
    for proposal in &mut list.value {
        proposal.esn.retain(|esn| *esn == wanted);
        possible &= !proposal.esn.is_empty();
    }
    if !possible && let Some(assignment) = values.assignment(Side::Both, keyword) {
        let error = ValueError::combination(
            "the sequence numbers it names are not those of `esn=` and `replay-window=`",
        );
        values.refuse(assignment, error);
    }
    list
}
