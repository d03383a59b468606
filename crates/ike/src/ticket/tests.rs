use cygnet_crypto::Entropy;
use cygnet_crypto::testing::InsecureEntropy;

use super::*;

fn key(id: u8) -> TicketKey {
    TicketKey {
        id: [id; TicketKey::ID_LEN],
        key: SecretBytes::new(vec![id; TicketKey::LEN]),
    }
}

fn office(at: Instant, ids: &[u8]) -> TicketOffice {
    let keys = ids.iter().map(|id| key(*id)).collect();
    let mut office = TicketOffice::default();
    let unix = 1_000_000;
    office.set_keys(Some(TicketKeys { keys, at, unix }));
    office
}

fn grant() -> Grant {
    let suite = IkeSuite {
        encryption: Encryption::Aes256Cbc,
        integrity: Some(Integrity::HmacSha512_256),
        prf: Prf::HmacSha512,
        key_exchange: KeyExchange::X25519,
        additional: [
            Some(KeyExchange::MlKem768),
            None,
            None,
            None,
            None,
            None,
            None,
        ],
    };
    Grant {
        session: Session {
            suite,
            sk_d: SkD::restore(suite.prf, SecretBytes::new((0..64).collect())).unwrap(),
            local_id: "@west.example.com".parse().unwrap(),
            remote_id: "2001:db8::7".parse().unwrap(),
            ppk: true,
        },
        own_spi: IkeSpi(0x0102_0304_0506_0708),
        expires: 1_003_600,
        reauthenticate: u64::MAX,
        psk: PskHash([7; 32]),
    }
}

//= rfc5723#6.1
//= type=test
//# When passing a "ticket by value" to the client, the ticket content
//# MUST be integrity protected and encrypted.
//= rfc5723#6.1
//= type=test
//# When the state is passed by value, the ticket MUST encode all state
//# information marked "from the ticket" in the table on Section 5.
//= rfc5723#9.1
//= type=test
//# An IKEv2 responder MUST use strong encryption and integrity protection
//# of the ticket to prevent an attacker from obtaining the ticket's
//# contents, e.g., by using a brute force attack.
//= rfc5723#9.9
//= type=test
//# The "ticket by value" MUST have its integrity and confidentiality
//# protected with strong cryptographic techniques to prevent a breach in
//# the security of the system.
//= rfc5723#9.10
//= type=test
//# it is important that leakage of information, such as the identities of
//# an IKEv2 initiator and a responder, MUST be avoided.
#[test]
fn what_is_sealed_is_opened_and_nothing_else() {
    let now = Instant::now();
    let office = office(now, &[1]);
    let ticket = office.seal(&grant(), [9; 12]).unwrap();
    assert_eq!(office.open(now, &ticket), Ok(grant()));
    let secret: Vec<u8> = (0..64).collect();
    assert!(
        !ticket
            .windows(16)
            .any(|part| secret.windows(16).any(|s| s == part))
    );
    for identity in [&b"west.example"[..], &[0x20, 0x01, 0x0d, 0xb8]] {
        let mut parts = ticket.windows(identity.len());
        assert!(!parts.any(|part| part == identity));
    }
    for at in 0..ticket.len() {
        let mut forged = ticket.clone();
        forged[at] ^= 0x40;
        let refusal = office.open(now, &forged).unwrap_err();
        let expected = match at {
            0 => TicketRefusal::Malformed,
            1..=8 => TicketRefusal::UnknownKey,
            _ => TicketRefusal::Forged,
        };
        assert_eq!(refusal, expected, "octet {at}");
        let refusal = office.open(now, &ticket[..at]).unwrap_err();
        let expected = match at {
            0..PREFIX_LEN => TicketRefusal::Malformed,
            _ => TicketRefusal::Forged,
        };
        assert_eq!(refusal, expected, "{at} octets");
    }
    let long = vec![VERSION; MAX_LEN + 1];
    assert_eq!(office.open(now, &long), Err(TicketRefusal::Malformed));
}

//= rfc5723#6.1
//= type=test
//# The "ticket by value" MUST additionally include a key identity field,
//# so that keys for ticket encryption and authentication can be changed,
//# and when necessary, algorithms can be replaced.
#[test]
fn keys_rotate() {
    let now = Instant::now();
    let old = office(now, &[1]).seal(&grant(), [9; 12]).unwrap();
    let rotated = office(now, &[2, 1]);
    assert_eq!(rotated.open(now, &old), Ok(grant()));
    let new = rotated.seal(&grant(), [9; 12]).unwrap();
    assert_eq!(new[1..9], [2; 8]);
    assert_ne!(old[PREFIX_LEN..], new[PREFIX_LEN..]);
    assert_eq!(
        office(now, &[2]).open(now, &old),
        Err(TicketRefusal::UnknownKey)
    );
    let closed = TicketOffice::default();
    assert_eq!(closed.open(now, &old), Err(TicketRefusal::Disabled));
    assert_eq!(closed.seal(&grant(), [9; 12]), None);
}

//= rfc5723#6.1
//= type=test
//# A "ticket by value" MUST include a protected expiration time, which
//# is an absolute time value and SHOULD correspond to the value included
//# in the TICKET_LT_OPAQUE payload.
#[test]
fn a_ticket_expires() {
    let now = Instant::now();
    let sealed = office(now, &[1]).seal(&grant(), [9; 12]).unwrap();
    // The gateway has started again, and the clock has gone on.
    let later = now + Duration::from_secs(10_000);
    let mut office = office(later, &[1]);
    assert_eq!(office.open(later, &sealed), Ok(grant()));
    let hour = Duration::from_secs(3600);
    let last = hour - Duration::from_secs(1);
    assert_eq!(office.open(later + last, &sealed), Ok(grant()));
    assert_eq!(
        office.open(later + hour, &sealed),
        Err(TicketRefusal::Expired)
    );
    let due = Grant {
        reauthenticate: 1_000_060,
        ..grant()
    };
    let due = office.seal(&due, [9; 12]).unwrap();
    assert!(office.open(later, &due).is_ok());
    assert_eq!(
        office.open(later + Duration::from_secs(60), &due),
        Err(TicketRefusal::ReauthenticationDue)
    );
    office.make_void(later, grant().own_spi);
    assert_eq!(office.open(later, &sealed), Err(TicketRefusal::Void));
}

#[test]
fn what_is_void_is_remembered_as_long_as_it_matters_and_room_is() {
    let now = Instant::now();
    let mut office = office(now, &[1]);
    for spi in 0..=MAX_VOID as u64 {
        office.make_void(now, IkeSpi(spi));
        office.make_void(now, IkeSpi(spi));
    }
    assert_eq!(
        (office.void.len(), office.forgotten.len()),
        (MAX_VOID, MAX_VOID)
    );
    assert!(!office.is_void(IkeSpi(0)));
    assert!(office.is_void(IkeSpi(1)));
    office.make_void(now + MAX_LIFETIME, IkeSpi(7_000_000));
    assert_eq!((office.void.len(), office.forgotten.len()), (1, 1));
}

#[test]
fn an_identity_that_is_too_long_gets_no_ticket() {
    let now = Instant::now();
    let mut long = grant();
    long.session.remote_id = Identity::KeyId(vec![7; MAX_LEN].into());
    assert_eq!(office(now, &[1]).seal(&long, [9; 12]), None);
}

#[test]
fn debug_shows_no_keys() {
    let text = format!("{:?} {:?}", grant(), key(9));
    assert!(text.contains("west.example.com"));
    assert!(!text.contains("7, 7, 7"), "{text}");
}

/// Whatever a stranger sends, and, with the seal in order, whatever an earlier version may have sealed.
#[test]
fn fuzz_tickets() {
    let now = Instant::now();
    let office = office(now, &[1, 2]);
    let good = office.seal(&grant(), [9; 12]).unwrap();
    let plain = grant().write().unwrap();
    bolero::check!()
        .with_type::<(Vec<u8>, Vec<(u16, u8)>, u64)>()
        .for_each(|(octets, changes, seed)| {
            assert!(office.open(now, octets).is_err());
            let changed = |octets: &[u8]| {
                let mut octets = octets.to_vec();
                for (at, xor) in changes {
                    let at = usize::from(*at) % octets.len();
                    octets[at] ^= xor;
                }
                octets
            };
            let forged = changed(&good);
            assert_eq!(office.open(now, &forged).is_ok(), forged == good);
            let mut nonce = [0; 12];
            InsecureEntropy::from_seed(*seed).fill(&mut nonce);
            for content in [octets.clone(), changed(&plain)] {
                let read = Grant::read(&content);
                if let Some(read) = &read {
                    // An identity may have been in another form, with reserved octets or the like: what is read holds.
                    assert_eq!(Grant::read(&read.write().unwrap()).as_ref(), Some(read));
                }
                let mut sealed = content.clone();
                let aad = [&[VERSION][..], &[1; 8]].concat();
                let key = SealingKey::new(&key(1).key).unwrap();
                key.seal(nonce, &aad, &mut sealed).unwrap();
                let ticket = [&aad[..], &nonce, &sealed].concat();
                assert!(read.is_some() || office.open(now, &ticket).is_err());
            }
        });
}
