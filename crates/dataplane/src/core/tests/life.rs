//! Lifetimes of SAs and policies (K11).

use super::*;

/// Installs the SAs with a lifetime on the one from `a` to `b`, at one end.
fn pair_with(lifetime: Lifetime, at_sender: bool) -> Pair {
    let mut pair = Pair::keyed(false, &GCM);
    let there = Sa {
        lifetime,
        ..pair.there(&GCM)
    };
    let sa = if at_sender { outbound(&there) } else { there };
    let command = Command::UpdateSa(Box::new(sa));
    if at_sender {
        pair.at_a(command)
    } else {
        pair.at_b(command)
    }
    .unwrap();
    pair
}

fn expiry(event: Option<Event>) -> Option<(u32, bool)> {
    match event {
        Some(Event::Expire(expire)) => Some((expire.sa.spi, expire.hard)),
        None => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn packet_limits_end_an_outbound_sa() {
    let lifetime = Lifetime {
        soft_packets: Some(2),
        hard_packets: Some(4),
        ..Lifetime::UNLIMITED
    };
    let mut pair = pair_with(lifetime, true);
    let packet = pair.small();
    assert_eq!(pair.a_sends(&[&packet[..]; 2]).len(), 2);
    assert_eq!(pair.a.event(), None);
    assert_eq!(pair.a_sends(&[&packet]).len(), 1);
    assert_eq!(expiry(pair.a.event()), Some((SPI_AB, false)));
    assert_eq!(pair.a_sends(&[&packet[..]; 3]).len(), 1);
    assert_eq!(expiry(pair.a.event()), Some((SPI_AB, true)));
    assert_eq!(pair.a.event(), None);
    assert_eq!(pair.a.drops(), [(Counter::OutStateExpired, 2)]);
    let id = pair.there(&GCM).id;
    assert_eq!(pair.at_a(Command::QuerySa(id)), Err(CommandError::NotFound));
    // The policy is a trap again.
    assert!(pair.a_sends(&[&packet]).is_empty());
    assert!(matches!(pair.a.event(), Some(Event::Acquire(_))));
}

#[test]
fn byte_limits_end_an_inbound_sa() {
    let size = 33;
    let lifetime = Lifetime {
        soft_bytes: Some(size),
        hard_bytes: Some(2 * size),
        ..Lifetime::UNLIMITED
    };
    let mut pair = pair_with(lifetime, false);
    let packet = pair.small();
    assert_eq!(packet.len() as u64, size);
    let sent = pair.a_sends(&[&packet[..]; 4]);
    assert_eq!(pair.b_receives(sent).len(), 2);
    assert_eq!(expiry(pair.b.event()), Some((SPI_AB, false)));
    assert_eq!(expiry(pair.b.event()), Some((SPI_AB, true)));
    assert_eq!(pair.b.event(), None);
    assert_eq!(
        pair.b.drops(),
        [(Counter::InNoStates, 1), (Counter::InStateExpired, 1)]
    );
}

#[test]
fn time_limits_run_from_installation() {
    let seconds = |n| Some(Duration::from_secs(n));
    let lifetime = Lifetime {
        soft_add: seconds(50),
        hard_add: seconds(60),
        ..Lifetime::UNLIMITED
    };
    let mut pair = pair_with(lifetime, true);
    let start = pair.now;
    assert_eq!(
        pair.a.core.next_timeout(),
        Some(start + Duration::from_secs(50))
    );
    pair.advance(Duration::from_secs(50));
    assert_eq!(expiry(pair.a.event()), Some((SPI_AB, false)));
    assert_eq!(pair.a.event(), None);
    let packet = pair.small();
    assert_eq!(pair.a_sends(&[&packet]).len(), 1, "a dying SA goes on");
    assert_eq!(
        pair.a.core.next_timeout(),
        Some(start + Duration::from_secs(60))
    );
    pair.advance(Duration::from_secs(10));
    assert_eq!(expiry(pair.a.event()), Some((SPI_AB, true)));
    assert_eq!(pair.a.core.next_timeout(), None);
    assert!(pair.a_sends(&[&packet]).is_empty());
}

#[test]
fn use_limits_run_from_the_first_packet() {
    let lifetime = Lifetime {
        hard_use: Some(Duration::from_secs(5)),
        ..Lifetime::UNLIMITED
    };
    let mut pair = pair_with(lifetime, false);
    assert_eq!(pair.b.core.next_timeout(), None);
    pair.advance(Duration::from_secs(1000));
    let packet = pair.small();
    let sent = pair.a_sends(&[&packet]);
    assert_eq!(pair.b_receives(sent).len(), 1);
    assert_eq!(
        pair.b.core.next_timeout(),
        Some(pair.now + Duration::from_secs(5))
    );
    pair.advance(Duration::from_secs(5));
    assert_eq!(expiry(pair.b.event()), Some((SPI_AB, true)));
}

#[test]
fn a_younger_sa_takes_over_and_a_removed_one_leaves_no_timer_behind() {
    let lifetime = Lifetime {
        soft_add: Some(Duration::from_secs(5)),
        ..Lifetime::UNLIMITED
    };
    let mut pair = pair_with(lifetime, true);
    pair.advance(Duration::from_secs(5));
    assert_eq!(expiry(pair.a.event()), Some((SPI_AB, false)));
    // Rekeyed: the younger SA is preferred while both are there (K5).
    let there = pair.there(&GCM);
    let younger = Sa {
        id: SaId {
            spi: 0x8000_0cab,
            ..there.id
        },
        encryption: Some(CipherKey {
            transform: 20,
            key: vec![3; 20].into(),
        }),
        ..there.clone()
    };
    pair.at_b(install(younger.clone())).unwrap();
    pair.at_a(install(outbound(&younger))).unwrap();
    let packet = pair.small();
    let sent = pair.a_sends(&[&packet]);
    assert_eq!(sent[0].packet.bytes()[..4], 0x8000_0cabu32.to_be_bytes());
    assert_eq!(pair.b_receives(sent).len(), 1);
    pair.at_a(Command::RemoveSa(there.id)).unwrap();
    pair.advance(Duration::from_secs(100_000));
    assert_eq!(pair.a.event(), None);
}

#[test]
fn a_policy_may_have_a_life_of_its_own() {
    let mut pair = Pair::new(false);
    let template = pair.template(pair.a.outer, pair.b.outer, Mode::Tunnel);
    let mut short = policy(Direction::Out, pair.a.inner4, pair.b.inner4, template);
    short.lifetime.hard_add = Some(Duration::from_secs(10));
    pair.at_a(Command::InstallPolicy(Box::new(short.clone())))
        .unwrap();
    pair.advance(Duration::from_secs(10));
    let Some(Event::PolicyExpire(expire)) = pair.a.event() else {
        panic!("no expiry")
    };
    assert_eq!((expire.key, expire.hard), (short.key, true));
    assert_eq!(
        pair.at_a(Command::QueryPolicy(short.key)),
        Err(CommandError::NotFound)
    );
}

#[test]
fn a_policy_ends_whatever_its_mark_has_outside_its_mask() {
    let mut pair = Pair::new(false);
    let template = pair.template(pair.a.outer, pair.b.outer, Mode::Tunnel);
    let mut short = policy(Direction::Out, pair.a.inner4, pair.b.inner4, template);
    short.lifetime.hard_add = Some(Duration::from_secs(10));
    short.key.mark = Mark {
        value: 0xff,
        mask: 0x0f,
    };
    pair.at_a(Command::InstallPolicy(Box::new(short.clone())))
        .unwrap();
    pair.advance(Duration::from_secs(10));
    assert!(matches!(pair.a.event(), Some(Event::PolicyExpire(expire)) if expire.hard));
    assert_eq!(
        pair.at_a(Command::QueryPolicy(short.key.normalized())),
        Err(CommandError::NotFound)
    );
}
