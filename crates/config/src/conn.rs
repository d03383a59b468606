//! A `conn`: what `also=` and `%default` bring in, and what it all means.

mod iptfs;
mod options;

use std::collections::{BTreeMap, BTreeSet};

use cygnet_engine::{
    ChildOptions, Connection, ConnectionKind, HostEnd, HostSpec, IkeOptions, Origin, PlaneChoice,
    Sourced, StartAction,
};
use cygnet_ike::{Tcp, TsAddresses, TsTemplate};

use crate::address::{ProtocolPorts, addresses, host, identity, networks, protoport, subnets};
use crate::diagnostic::{Diagnostics, did_you_mean};
use crate::document::{Assignment, Conn, Document};
use crate::keyword::Side;
use crate::section::Values;
use crate::value::{Fault, Parsed, ValueError, choice};
use iptfs::iptfs;
use options::{child_options, ike_options};

/// Sections that take over sections that take over … more than this is a mistake.
const MAX_ALSO_DEPTH: usize = 100;

/// The keywords of a connection; the first definition of each wins.
type Entries<'a> = BTreeMap<(Side, &'static str), &'a Assignment>;

/// Reads all connections.
pub(crate) fn connections(document: &Document, diagnostics: &mut Diagnostics) -> Vec<Connection> {
    check_also(document, diagnostics);
    if !document.defaults.is_empty() {
        // Also what every connection overrides must be right.
        let mut entries = Entries::new();
        defaults(document, &mut entries);
        let mut values = Values::new(entries, true, diagnostics);
        read(&mut values);
    }
    document
        .conns
        .iter()
        .filter_map(|conn| connection(conn, document, diagnostics))
        .collect()
}

/// Adds what `%default` says; there, the last definition wins.
fn defaults<'a>(document: &'a Document, entries: &mut Entries<'a>) {
    for assignment in document.defaults.iter().rev() {
        entries
            .entry((assignment.side, assignment.keyword.name))
            .or_insert(assignment);
    }
}

/// The sections that a section takes over, in order.
fn also<'a>(conn: &'a Conn, document: &Document) -> Vec<(&'a Assignment, Option<usize>)> {
    conn.assignments
        .iter()
        .filter(|a| a.keyword.name == "also")
        .map(|a| (a, document.by_name.get(&a.value.text).copied()))
        .collect()
}

/// Reports names that are none and loops, each once.
fn check_also(document: &Document, diagnostics: &mut Diagnostics) {
    #[derive(Clone, Copy, PartialEq)]
    enum Visit {
        Not,
        Under,
        Done,
    }
    let mut visits = vec![Visit::Not; document.conns.len()];
    for (root, conn) in document.conns.iter().enumerate() {
        if visits.get(root) != Some(&Visit::Not) {
            continue;
        }
        // Depth first with a stack of our own: the files decide how deep it gets.
        let mut stack = vec![(root, also(conn, document).into_iter())];
        mark_visit(&mut visits, root, Visit::Under);
        while let Some((at, rest)) = stack.last_mut() {
            let at = *at;
            let Some((assignment, target)) = rest.next() else {
                mark_visit(&mut visits, at, Visit::Done);
                stack.pop();
                continue;
            };
            let Some((target, next)) = target.and_then(|t| Some((t, document.conns.get(t)?)))
            else {
                let name = &assignment.value.text;
                let help = did_you_mean(name, document.conns.iter().map(|c| c.name.as_str()));
                diagnostics.error(
                    &assignment.value_span(),
                    "also: there is no connection of that name",
                    help,
                );
                continue;
            };
            match visits.get(target) {
                Some(Visit::Under) => {
                    let message = "also: this takes the section over into itself";
                    diagnostics.error(&assignment.value_span(), message, None);
                }
                Some(Visit::Not) if stack.len() >= MAX_ALSO_DEPTH => {
                    let message =
                        format!("also: sections are nested more than {MAX_ALSO_DEPTH} deep");
                    diagnostics.error(&assignment.value_span(), message, None);
                    mark_visit(&mut visits, target, Visit::Done);
                }
                Some(Visit::Not) => {
                    mark_visit(&mut visits, target, Visit::Under);
                    stack.push((target, also(next, document).into_iter()));
                }
                _ => {}
            }
        }
    }

    fn mark_visit(visits: &mut [Visit], at: usize, visit: Visit) {
        if let Some(v) = visits.get_mut(at) {
            *v = visit;
        }
    }
}

/// Everything a section says, its own words first, then those of the sections it takes over, then the defaults.
fn merge<'a>(conn: &'a Conn, document: &'a Document, diagnostics: &mut Diagnostics) -> Entries<'a> {
    let mut entries = Entries::new();
    for assignment in conn.assignments.iter().filter(|a| a.keyword.name != "also") {
        let key = (assignment.side, assignment.keyword.name);
        if let Some(first) = entries.get(&key) {
            let message = format!(
                "`{}=` is ignored: the first value counts, at {}",
                assignment.key.text,
                Origin::File(first.key_span())
            );
            diagnostics.warning(&assignment.key_span(), message, None);
        } else {
            entries.insert(key, assignment);
        }
    }
    let mut seen = BTreeSet::from([conn.name.as_str()]);
    let mut pending: Vec<&Conn> = Vec::new();
    let push = |pending: &mut Vec<&'a Conn>, conn: &'a Conn| {
        let targets = also(conn, document).into_iter().rev();
        pending.extend(targets.filter_map(|(_, target)| document.conns.get(target?)));
    };
    push(&mut pending, conn);
    while let Some(next) = pending.pop() {
        if !seen.insert(&next.name) {
            continue;
        }
        for assignment in next.assignments.iter().filter(|a| a.keyword.name != "also") {
            entries
                .entry((assignment.side, assignment.keyword.name))
                .or_insert(assignment);
        }
        push(&mut pending, next);
    }
    defaults(document, &mut entries);
    entries
}

fn start(text: &str) -> Parsed<StartAction> {
    choice(
        text,
        &[
            ("ignore", StartAction::Ignore),
            ("add", StartAction::Add),
            ("ondemand", StartAction::OnDemand),
            ("route", StartAction::OnDemand),
            ("start", StartAction::Start),
            ("up", StartAction::Start),
            ("keep", StartAction::Keep),
        ],
    )
}

/// One connection; `None` if it is wrong, or ignored and not complete.
fn connection(
    conn: &Conn,
    document: &Document,
    diagnostics: &mut Diagnostics,
) -> Option<Connection> {
    let entries = merge(conn, document, diagnostics);
    let start_text = entries
        .get(&(Side::Both, "auto"))
        .map(|a| a.value.text.as_str());
    let ignored = start_text.is_none_or(|text| start(text) == Ok(StartAction::Ignore));
    let mut values = Values::new(entries, ignored, diagnostics);
    let read = read(&mut values);
    let (left, right) = (read.left.host.clone(), read.right.host.clone());
    if !ignored {
        for (side, host) in [("left", &left), ("right", &right)] {
            if host.is_none() && !values.spoilt {
                let message = format!("connection `{}` lacks `{side}=`", conn.name);
                let help =
                    "an address, a name, `%defaultroute` for this host or `%any` for whoever calls";
                values.report(&conn.header, message, Some(help.to_owned()), Fault::Value);
            }
        }
        if let (Some(left), Some(right)) = (&left, &right) {
            check_ends(conn, &left.value, &right.value, &mut values);
        }
        if read.kind_negotiates() && !read.authenticates && !values.spoilt {
            let message = format!(
                "connection `{}` does not say how to authenticate",
                conn.name
            );
            let help =
                "write `authby=secret`; certificates, libreswan's default, are not supported yet";
            values.report(
                &conn.header,
                message,
                Some(help.to_owned()),
                Fault::Unsupported,
            );
        }
    }
    if values.spoilt {
        return None;
    }
    let origin = Sourced::new((), Origin::File(conn.header.clone()));
    read.into_connection(conn.name.clone(), origin)
}

fn check_ends(conn: &Conn, left: &HostSpec, right: &HostSpec, values: &mut Values<'_, '_>) {
    let only_local = |h: &HostSpec| matches!(h, HostSpec::DefaultRoute | HostSpec::Interface(_));
    let message = match (left, right) {
        (HostSpec::Any, HostSpec::Any) => "both ends are %any, so neither is this host",
        (HostSpec::Address(a), HostSpec::Address(b)) if a == b => "both ends have the same address",
        (HostSpec::Address(a), HostSpec::Address(b)) if a.is_ipv4() != b.is_ipv4() => {
            "the ends have addresses of different families"
        }
        (a, b) if only_local(a) && only_local(b) => "both ends are this host",
        _ => return,
    };
    values.report(
        &conn.header,
        format!("connection `{}`: {message}", conn.name),
        None,
        Fault::Value,
    );
}

/// What was read of one end.
struct End {
    host: Option<Sourced<HostSpec>>,
    rest: HostEnd,
}

/// What was read of a connection.
struct Parts {
    left: End,
    right: End,
    ike: IkeOptions,
    child: ChildOptions,
    kind: ConnectionKind,
    start: StartAction,
    plane: PlaneChoice,
    authenticates: bool,
}

impl Parts {
    fn kind_negotiates(&self) -> bool {
        self.kind.mode().is_some()
    }

    fn into_connection(self, name: String, origin: Sourced<()>) -> Option<Connection> {
        Some(Connection {
            name,
            origin,
            left: HostEnd {
                host: self.left.host?,
                ..self.left.rest
            },
            right: HostEnd {
                host: self.right.host?,
                ..self.right.rest
            },
            ike: self.ike,
            child: self.child,
            kind: self.kind,
            start: self.start,
            plane: self.plane,
        })
    }
}

fn read(values: &mut Values<'_, '_>) -> Parts {
    values.check_status();
    let kind = values.get("type", ConnectionKind::Tunnel, |text| {
        choice(
            text,
            &[
                ("tunnel", ConnectionKind::Tunnel),
                ("transport", ConnectionKind::Transport),
                ("beet", ConnectionKind::Beet),
                ("passthrough", ConnectionKind::Passthrough),
                ("pass", ConnectionKind::Passthrough),
                ("drop", ConnectionKind::Drop),
            ],
        )
    });
    protocol(values);
    let authenticates = authentication(values, kind);
    let left = end(values, Side::Left, kind);
    let right = end(values, Side::Right, kind);
    let plane = values.get("dataplane", PlaneChoice::Auto, |text| {
        choice(
            text,
            &[
                ("auto", PlaneChoice::Auto),
                ("kernel", PlaneChoice::Kernel),
                ("userspace", PlaneChoice::Userspace),
            ],
        )
    });
    let ike = ike_options(values);
    let plane = plane_of_streams(values, plane, ike.tcp);
    let mut child = child_options(values, plane, &ike);
    child.iptfs = iptfs(values, kind, &child);
    for side in [Side::Left, Side::Right] {
        if child.interface.is_none()
            && let Some(assignment) = values.assignment(side, "interface-ip")
        {
            let error = ValueError::combination("there is no device to put it on")
                .help("add `ipsec-interface=yes`, or leave it out");
            values.refuse(assignment, error);
        }
    }
    Parts {
        left,
        right,
        child,
        ike,
        kind,
        start: values.get("auto", StartAction::Ignore, start),
        plane,
        authenticates,
    }
}

/// With `enable-tcp` ESP may go into a TCP stream, which is the work of the user-space plane.
fn plane_of_streams(values: &mut Values<'_, '_>, plane: PlaneChoice, tcp: Tcp) -> PlaneChoice {
    if tcp == Tcp::No || plane == PlaneChoice::Userspace {
        return plane;
    }
    if plane == PlaneChoice::Kernel
        && let Some(assignment) = values.assignment(Side::Both, "enable-tcp")
    {
        let error = ValueError::combination("ESP in TCP is not done by the kernel's plane")
            .help("use `dataplane=userspace`, or leave the choice to `dataplane=auto`");
        values.refuse(assignment, error);
    }
    PlaneChoice::Userspace
}

/// `keyexchange`, `ikev2`: there is one answer each.
fn protocol(values: &mut Values<'_, '_>) {
    const IKEV1: &str = "IKEv1 is out of scope";
    values.get("keyexchange", (), |text| {
        match text.to_ascii_lowercase().as_str() {
            "ikev1" => {
                Err(ValueError::unsupported(IKEV1).help("use `keyexchange=ikev2` at both ends"))
            }
            _ => choice(text, &[("ikev2", ()), ("ike", ())]),
        }
    });
    values.get("ikev2", (), |text| {
        match text.to_ascii_lowercase().as_str() {
            "no" | "never" => {
                Err(ValueError::unsupported(IKEV1).help("use `keyexchange=ikev2` at both ends"))
            }
            _ => choice(
                text,
                &[("yes", ()), ("insist", ()), ("propose", ()), ("permit", ())],
            ),
        }
    });
}

/// Ways to authenticate that are right words but not supported yet.
const OTHER_METHODS: [&str; 16] = [
    "rsasig",
    "rsa",
    "rsa-sha1",
    "rsa-sha2",
    "rsa-sha2_256",
    "rsa-sha2_384",
    "rsa-sha2_512",
    "ecdsa",
    "ecdsa-sha2",
    "ecdsa-sha2_256",
    "ecdsa-sha2_384",
    "ecdsa-sha2_512",
    "eddsa",
    "null",
    "eaponly",
    "pubkey",
];

fn auth_method(text: &str) -> Parsed<()> {
    let lower = text.to_ascii_lowercase();
    if OTHER_METHODS.contains(&lower.as_str()) {
        return Err(
            ValueError::unsupported(format!("`{lower}` is not supported yet"))
                .help("pre-shared keys are: `secret`"),
        );
    }
    let mut known = vec!["secret", "psk"];
    if known.contains(&lower.as_str()) {
        return Ok(());
    }
    known.extend(OTHER_METHODS);
    Err(ValueError::new("unknown way to authenticate")
        .help(did_you_mean(&lower, known).unwrap_or_else(|| "it can be `secret`".to_owned())))
}

/// `authby`, `leftauth`, `rightauth`: whether the connection says how to authenticate.
fn authentication(values: &mut Values<'_, '_>, kind: ConnectionKind) -> bool {
    let shunt = matches!(kind, ConnectionKind::Passthrough | ConnectionKind::Drop);
    let parse = |text: &str| {
        let mut any = false;
        for (at, part) in crate::value::list(text) {
            any = true;
            if !part.eq_ignore_ascii_case("never") {
                auth_method(part).map_err(|e| e.within(at, part))?;
            } else if !shunt {
                return Err(ValueError::combination(
                    "`never` goes with `type=passthrough` and `type=drop` only",
                )
                .within(at, part));
            }
        }
        if any {
            Ok(())
        } else {
            Err(ValueError::new("a value is missing"))
        }
    };
    let by = values.optional(Side::Both, "authby", parse);
    let left = values.optional(Side::Left, "auth", parse);
    let right = values.optional(Side::Right, "auth", parse);
    for (one, other, side, name) in [
        (left, right, Side::Left, "rightauth"),
        (right, left, Side::Right, "leftauth"),
    ] {
        if one.is_some()
            && other.is_none()
            && !values.spoilt
            && let Some(assignment) = values.assignment(side, "auth")
        {
            let help = format!("add `{name}=`, or write `authby=` for both ends");
            values.refuse(
                assignment,
                ValueError::combination("the other end's is missing").help(help),
            );
        }
    }
    by.is_some() || (left.is_some() && right.is_some())
}

fn end(values: &mut Values<'_, '_>, side: Side, kind: ConnectionKind) -> End {
    let host = values.sourced(side, "", host);
    let common = values.optional(side, "protoport", protoport);
    let dynamic = || {
        vec![
            common
                .unwrap_or(ProtocolPorts::ANY)
                .apply(TsTemplate::dynamic()),
        ]
    };
    let subnets = values
        .optional(side, "subnet", |text| subnets(text, common))
        .unwrap_or_else(dynamic);
    if kind == ConnectionKind::Transport
        && let Some(assignment) = values.assignment(side, "subnet")
        && subnets
            .iter()
            .any(|ts| matches!(ts.addresses, TsAddresses::Range(first, last) if first != last))
    {
        let error =
            ValueError::combination("transport mode protects the two hosts only, not networks")
                .help("leave it out, or use `type=tunnel`");
        values.refuse(assignment, error);
    }
    let single = |ts: &[TsTemplate]| match ts.first().map(|ts| &ts.addresses) {
        Some(TsAddresses::Range(first, last)) if first != last => false,
        first => ts.iter().all(|ts| Some(&ts.addresses) == first),
    };
    if kind == ConnectionKind::Beet
        && let Some(assignment) = values.assignment(side, "subnet")
        && !single(&subnets)
    {
        let error = ValueError::combination("BEET mode is for one inner address at each end")
            .help("give one address, or use `type=tunnel`");
        values.refuse(assignment, error);
    }
    let rest = HostEnd {
        host: Sourced::default_value(HostSpec::Any),
        id: values.sourced(side, "id", identity),
        source_ips: values
            .optional(side, "sourceip", addresses)
            .unwrap_or_default(),
        interface_ips: values
            .optional(side, "interface-ip", networks)
            .unwrap_or_default(),
        subnets,
    };
    End { host, rest }
}
