//! Shared secrets and which of them serves a pair of identities.
//!
//! The rule is the one users of `ipsec.secrets` know: an entry lists whom it
//! is for; the entry that names both ends beats the one that names one end,
//! which beats the one that names nobody; naming an end by `%any` counts less
//! than naming it by identity or address. Two equally good entries are fine if
//! they hold the same secret.

use std::net::IpAddr;

use cygnet_crypto::SecretBytes;
use cygnet_ike::Identity;

use crate::origin::Origin;

/// Whom a secret is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretOwner {
    /// An identity or an address, compared with IDs and with addresses.
    Id(Identity),
    /// `%any`: every IPv4 or unspecified peer.
    AnyV4,
    /// `%any6`: every IPv6 peer.
    AnyV6,
}

/// What a secret is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretKind {
    /// Pre-shared key for IKE authentication (RFC 7296 section 2.15).
    Psk,
    /// Post-quantum pre-shared key (RFC 8784).
    Ppk,
    /// Password for XAUTH or EAP.
    Xauth,
}

/// One entry of the secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretEntry {
    /// Whom it is for; empty: for everybody.
    pub owners: Vec<SecretOwner>,
    /// What it is for.
    pub kind: SecretKind,
    /// The name of a PPK, by which the other end finds the same one (RFC 8784); empty for other kinds.
    pub name: Vec<u8>,
    /// The secret itself.
    pub secret: SecretBytes,
    /// Where it was read.
    pub origin: Origin,
}

/// All secrets of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    /// The entries in the order of the files.
    pub entries: Vec<SecretEntry>,
}

/// Why no secret was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretLookupError {
    /// No entry covers the pair.
    #[error("no pre-shared key for this pair of identities")]
    NotFound,
    /// Several entries cover it equally well and hold different secrets.
    #[error("several equally good pre-shared keys for this pair of identities")]
    Ambiguous,
}

/// How well one entry covers one end: higher is better, `None` not at all.
/// `%any` stands for peers only, never for ourselves.
fn covers(owners: &[SecretOwner], id: &Identity, address: IpAddr, peer: bool) -> Option<u8> {
    owners
        .iter()
        .filter_map(|owner| match owner {
            SecretOwner::Id(o) if o.matches(id) => Some(3),
            SecretOwner::Id(o) if *o == Identity::from(address) => Some(2),
            SecretOwner::AnyV4 if peer && address.is_ipv4() => Some(1),
            SecretOwner::AnyV6 if peer && address.is_ipv6() => Some(1),
            _ => None,
        })
        .max()
}

impl Secrets {
    /// The pre-shared key for a pair of ends.
    ///
    /// # Errors
    /// [`SecretLookupError`] if there is none or no single best one.
    pub fn psk(
        &self,
        local: &Identity,
        remote: &Identity,
        local_address: IpAddr,
        remote_address: IpAddr,
    ) -> Result<&SecretEntry, SecretLookupError> {
        let mut best: Option<((u8, u8), &SecretEntry)> = None;
        let mut tied = false;
        for entry in self.entries.iter().filter(|e| e.kind == SecretKind::Psk) {
            let Some(score) = score(entry, local, remote, local_address, remote_address) else {
                continue;
            };
            match &best {
                Some((top, _)) if score < *top => {}
                Some((top, chosen)) if score == *top => tied |= chosen.secret != entry.secret,
                _ => {
                    best = Some((score, entry));
                    tied = false;
                }
            }
        }
        match best {
            None => Err(SecretLookupError::NotFound),
            Some(_) if tied => Err(SecretLookupError::Ambiguous),
            Some((_, entry)) => Ok(entry),
        }
    }
}

/// How one end of a pair may be found: by identity and address.
pub type EndKey<'a> = (&'a Identity, IpAddr);

impl Secrets {
    /// The post-quantum pre-shared keys for a pair of ends, the best covered first: those of these names in their order,
    /// or all if no name is given. `remote`: `None` for a peer that may be anybody.
    pub fn ppks(
        &self,
        names: &[Vec<u8>],
        local: EndKey<'_>,
        remote: Option<EndKey<'_>>,
    ) -> Vec<&SecretEntry> {
        let mut found: Vec<_> = self
            .entries
            .iter()
            .filter(|e| e.kind == SecretKind::Ppk)
            .filter_map(|e| {
                let by_name = names.iter().position(|name| *name == e.name);
                if !names.is_empty() && by_name.is_none() {
                    return None;
                }
                let covered = match remote {
                    Some((id, address)) => score(e, local.0, id, local.1, address)?,
                    None if e.owners.is_empty() => (0, 0),
                    None => (1, covers(&e.owners, local.0, local.1, false)?),
                };
                Some(((by_name, std::cmp::Reverse(covered)), e))
            })
            .collect();
        found.sort_by_key(|(key, _)| *key);
        found.into_iter().map(|(_, entry)| entry).collect()
    }
}

/// Number of ends named, then how well the two are named.
fn score(
    entry: &SecretEntry,
    local: &Identity,
    remote: &Identity,
    local_address: IpAddr,
    remote_address: IpAddr,
) -> Option<(u8, u8)> {
    if entry.owners.is_empty() {
        return Some((0, 0));
    }
    let l = covers(&entry.owners, local, local_address, false);
    let r = covers(&entry.owners, remote, remote_address, true);
    match (l, r) {
        (Some(l), Some(r)) => Some((2, l + r)),
        // One owner alone names the peer or ourselves; of several, both ends must be among them.
        (Some(one), None) | (None, Some(one)) if entry.owners.len() == 1 => Some((1, one)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(s: &str) -> Identity {
        s.parse().expect("identity")
    }

    fn entry(owners: &[&str], secret: &str) -> SecretEntry {
        let owners = owners
            .iter()
            .map(|o| match *o {
                "%any" => SecretOwner::AnyV4,
                "%any6" => SecretOwner::AnyV6,
                o => SecretOwner::Id(id(o)),
            })
            .collect();
        SecretEntry {
            owners,
            kind: SecretKind::Psk,
            name: Vec::new(),
            secret: SecretBytes::from(secret.as_bytes().to_vec()),
            origin: Origin::Default,
        }
    }

    fn lookup(
        entries: Vec<SecretEntry>,
        local: &str,
        remote: &str,
    ) -> Result<String, SecretLookupError> {
        let secrets = Secrets { entries };
        let (la, ra) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        secrets
            .psk(&id(local), &id(remote), la, ra)
            .map(|e| String::from_utf8(e.secret.as_ref().to_vec()).unwrap())
    }

    #[test]
    fn ppks_are_found_by_name_or_by_owner() {
        let ppk = |owners: &[&str], name: &str| SecretEntry {
            kind: SecretKind::Ppk,
            name: name.as_bytes().to_vec(),
            ..entry(owners, name)
        };
        let secrets = Secrets {
            entries: vec![
                ppk(&[], "all"),
                entry(&["@west", "@east"], "no ppk"),
                ppk(&["@west", "@east"], "pair"),
                ppk(&["@west", "@north"], "others"),
                ppk(&["@east"], "east"),
            ],
        };
        let (west, east) = (id("@west"), id("@east"));
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let local = (&west, address("192.0.2.1"));
        let find = |names: &[&str], remote| {
            let names: Vec<_> = names.iter().map(|n| n.as_bytes().to_vec()).collect();
            let found = secrets.ppks(&names, local, remote).into_iter();
            found
                .map(|e| String::from_utf8(e.name.clone()).unwrap())
                .collect::<Vec<_>>()
        };
        let remote = Some((&east, address("192.0.2.2")));
        assert_eq!(find(&[], remote), ["pair", "east", "all"]);
        assert_eq!(find(&["east", "others", "pair"], remote), ["east", "pair"]);
        assert_eq!(find(&["nothing"], remote), Vec::<String>::new());
        assert_eq!(find(&[], None), ["pair", "others", "all"]);
    }

    #[test]
    fn the_most_specific_entry_wins() {
        let entries = || {
            vec![
                entry(&[], "anybody"),
                entry(&["@east"], "one end"),
                entry(&["@west", "%any"], "wildcard"),
                entry(&["@west", "@east"], "pair"),
            ]
        };
        assert_eq!(lookup(entries(), "@west", "@east").unwrap(), "pair");
        assert_eq!(lookup(entries(), "@west", "@north").unwrap(), "wildcard");
        assert_eq!(lookup(entries(), "@south", "@east").unwrap(), "one end");
        assert_eq!(lookup(entries(), "@south", "@north").unwrap(), "anybody");
    }

    #[test]
    fn an_address_names_an_end_whatever_its_identity() {
        let entries = vec![
            entry(&["192.0.2.1", "192.0.2.2"], "by address"),
            entry(&["@west"], "one"),
        ];
        assert_eq!(lookup(entries, "@west", "@east").unwrap(), "by address");
    }

    #[test]
    fn equal_entries_must_agree() {
        let two = |a, b| vec![entry(&["@west", "@east"], a), entry(&["@east", "@west"], b)];
        assert_eq!(lookup(two("x", "x"), "@west", "@east").unwrap(), "x");
        assert_eq!(
            lookup(two("x", "y"), "@west", "@east"),
            Err(SecretLookupError::Ambiguous)
        );
    }

    #[test]
    fn several_owners_of_which_one_fits_are_for_somebody_else() {
        assert_eq!(
            lookup(vec![entry(&["@west", "@north"], "x")], "@west", "@east"),
            Err(SecretLookupError::NotFound)
        );
    }
}
