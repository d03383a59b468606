//! Additional key exchanges (RFC 9370): what a proposal offers and what is agreed on, by the number of the transform type.

use std::fmt;

use super::join;
use crate::algorithm::KeyExchange;

/// How many additional key exchanges an SA can have: transform types ADDKE1 to ADDKE7 (RFC 9370 §2.2.1).
pub const MAX_ADDITIONAL: usize = 7;

/// The additional key exchanges that were agreed on: the first is that of ADDKE1. `None` where there is none.
pub type Additional = [Option<KeyExchange>; MAX_ADDITIONAL];

/// The additional key exchanges that a proposal offers: the first list is that of ADDKE1, most preferred first. `None`
/// in a list says that this exchange may be left out; an empty list that it is not offered.
pub type AdditionalOffer = [Vec<Option<KeyExchange>>; MAX_ADDITIONAL];

/// The number behind "addke" or "ke", as an index.
pub(super) fn index(number: &str) -> Option<usize> {
    let number: usize = (number.len() == 1).then(|| number.parse().ok()).flatten()?;
    number
        .checked_sub(1)
        .filter(|index| *index < MAX_ADDITIONAL)
}

/// Whether anything is offered.
pub(super) fn any(offer: &AdditionalOffer) -> bool {
    offer.iter().any(|methods| !methods.is_empty())
}

/// `;addke1=ml_kem_768+none`, for ipsec.conf.
pub(super) fn fmt_ipsec_conf(offer: &AdditionalOffer, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (number, methods) in (1..).zip(offer) {
        if !methods.is_empty() {
            let names = join(methods, "+", |method| {
                method.map_or("none", KeyExchange::ipsec_conf_name)
            });
            write!(f, ";addke{number}={names}")?;
        }
    }
    Ok(())
}

/// `ke1_mlkem768`, `ke1_none`, for swanctl.conf.
pub(super) fn strongswan(offer: &AdditionalOffer) -> impl Iterator<Item = String> {
    (1..).zip(offer).flat_map(|(number, methods)| {
        methods.iter().map(move |method| {
            let name = method.map_or("none", KeyExchange::strongswan_name);
            format!("ke{number}_{name}")
        })
    })
}

/// `-KE1_ML_KEM_768`, as strongSwan shows it.
pub(super) fn fmt_suite(additional: &Additional, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (number, method) in (1..).zip(additional) {
        if let Some(method) = method {
            write!(f, "-KE{number}_{method}")?;
        }
    }
    Ok(())
}
