//! The keywords of redirection (RFC 5685), which `config setup` and connections share.

use cygnet_ike::{AcceptRedirect, Gateway, NoGateway, SendRedirect};

use crate::keyword::Side;
use crate::section::Values;
use crate::value::{Parsed, ValueError, choice, list, yes_no};

/// Addresses and names of gateways.
fn gateways(text: &str) -> Parsed<Vec<Gateway>> {
    let one = |(_, part): (usize, &str)| {
        part.parse()
            .map_err(|error: NoGateway| ValueError::new(format!("`{part}`: {error}")))
    };
    list(text).map(one).collect()
}

/// Whether peers are sent elsewhere, and where.
pub(crate) fn sent(
    values: &mut Values<'_, '_>,
    when: &'static str,
    to: &'static str,
) -> (SendRedirect, Vec<Gateway>) {
    let send = values.get(when, SendRedirect::No, |text| {
        choice(
            text,
            &[
                ("no", SendRedirect::No),
                ("never", SendRedirect::No),
                ("auto", SendRedirect::UnderLoad),
                ("yes", SendRedirect::Yes),
            ],
        )
    });
    let gateways = values.get(to, Vec::new(), gateways);
    if send != SendRedirect::No
        && gateways.is_empty()
        && let Some(assignment) = values.assignment(Side::Both, when)
    {
        let error = ValueError::combination(format!("without `{to}=` there is nowhere to go"));
        values.refuse(assignment, error);
    }
    (send, gateways)
}

/// Where gateways may send us.
pub(crate) fn accepted(values: &mut Values<'_, '_>) -> AcceptRedirect {
    let accept = values.get("accept-redirect", false, yes_no);
    let to = values.get("accept-redirect-to", AcceptRedirect::Any, |text| match text
        .eq_ignore_ascii_case("%any")
    {
        true => Ok(AcceptRedirect::Any),
        false => gateways(text).map(AcceptRedirect::To),
    });
    if accept { to } else { AcceptRedirect::No }
}
