//! Packets that come before their SA, or before its policies.

use cygnet_ipsec::AllocateSpi;

use super::*;

/// A pair whose sender has its SA; the receiver has given out the SPI only.
struct Beginning {
    pair: Pair,
    there: Sa,
}

impl Beginning {
    fn new() -> Self {
        Self::with(CoreConfig::default())
    }

    fn with(config: CoreConfig) -> Self {
        let mut pair = Pair::with(false, config);
        let request = AllocateSpi {
            src: pair.a.outer,
            dst: pair.b.outer,
            protocol: Protocol::Esp,
            mode: Mode::Tunnel,
            reqid: REQID,
            if_id: 0,
            mark: Mark::ANY,
            min: 256,
            max: u32::MAX,
            acquire_seq: 0,
        };
        let Ok(Reply::Spi(spi)) = pair.at_b(Command::AllocateSpi(request)) else {
            panic!()
        };
        let there = sa(pair.a.outer, pair.b.outer, spi, &GCM);
        let (a, b) = (pair.a.outer, pair.b.outer);
        let (net_a, net_b) = (pair.a.inner4, pair.b.inner4);
        let out = policy(Direction::Out, net_a, net_b, pair.template(a, b, GCM.mode));
        pair.at_a(Command::InstallPolicy(Box::new(out))).unwrap();
        pair.at_a(install(outbound(&there))).unwrap();
        Self { pair, there }
    }

    /// Packets numbered from `from` on, to `b`; what `b` delivers at once.
    fn arrive(&mut self, from: u16, count: u16) -> usize {
        for n in from..from + count {
            let packet = udp(self.pair.a.inner4, self.pair.b.inner4, &n.to_be_bytes());
            let sent = self.pair.a_sends(&[&packet]);
            assert_eq!(self.pair.b_receives(sent), Vec::<Vec<u8>>::new());
        }
        usize::from(count)
    }

    fn install(&mut self) {
        self.pair.at_b(install(self.there.clone())).unwrap();
    }

    fn admit(&mut self, direction: Direction) {
        let (a, b) = (self.pair.a.outer, self.pair.b.outer);
        let (net_a, net_b) = (self.pair.a.inner4, self.pair.b.inner4);
        let template = self.pair.template(a, b, GCM.mode);
        let policy = policy(direction, net_a, net_b, template);
        let command = Command::InstallPolicy(Box::new(policy));
        self.pair.at_b(command).unwrap();
    }

    /// The numbers of the packets that `b` has delivered.
    fn delivered(&mut self) -> Vec<u16> {
        let packets = self.pair.b.delivered();
        let number = |(_, packet): (u32, Vec<u8>)| {
            u16::from_be_bytes(packet[packet.len() - 2..].try_into().unwrap())
        };
        packets.into_iter().map(number).collect()
    }

    /// Early, full, expired.
    fn counted(&self) -> [u64; 3] {
        let counters = self.pair.b.core.counters();
        [counters.early, counters.early_full, counters.early_expired]
    }
}

#[test]
fn packets_before_their_sa_are_delivered_when_it_comes() {
    let mut test = Beginning::new();
    test.admit(Direction::In);
    test.arrive(0, 3);
    test.install();
    assert_eq!(test.delivered(), [0, 1, 2]);
    assert_eq!(test.counted(), [3, 0, 0]);
    assert_eq!(test.pair.b.drops(), []);
    let counters = test.pair.counters_at_b(test.there.id);
    assert_eq!(counters.packets, 3);
    // From now on nothing waits.
    let packet = test.pair.small();
    let sent = test.pair.a_sends(&[&packet]);
    assert_eq!(test.pair.b_receives(sent).len(), 1);
    assert_eq!(test.counted(), [3, 0, 0]);
}

/// The order of a first child SA: the SA, then its policies one by one.
#[test]
fn packets_before_the_policies_of_a_new_sa_are_delivered_when_these_come() {
    let mut test = Beginning::new();
    test.arrive(0, 2);
    test.install();
    assert_eq!(test.delivered(), []);
    // One more, in order, after the SA and before the policies.
    test.arrive(2, 1);
    test.admit(Direction::Fwd);
    assert_eq!(test.delivered(), [0, 1, 2]);
    test.admit(Direction::In);
    assert_eq!(test.delivered(), []);
    assert_eq!(test.pair.b.drops(), []);
}

/// What is repeated meanwhile is delivered once.
#[test]
fn early_packets_pass_the_replay_check() {
    let mut test = Beginning::new();
    test.admit(Direction::In);
    let packet = test.pair.small();
    let sent = test.pair.a_sends(&[&packet]);
    let again = sent.iter().map(copy).collect();
    assert!(test.pair.b_receives(sent).is_empty());
    assert!(test.pair.b_receives(again).is_empty());
    test.install();
    assert_eq!(test.pair.b.delivered().len(), 1);
    assert_eq!(test.pair.b.drops(), [(Counter::InStateSeqError, 1)]);
}

#[test]
fn early_packets_are_bounded_per_spi_and_over_all() {
    let config = CoreConfig {
        early_per_spi: 4,
        early_total: 6,
        ..CoreConfig::default()
    };
    let mut test = Beginning::with(config);
    test.admit(Direction::In);
    test.arrive(0, 10);
    assert_eq!(test.counted(), [4, 6, 0]);
    // Forged ones for another SPI that has been given out.
    let request = AllocateSpi {
        src: test.pair.a.outer,
        dst: test.pair.b.outer,
        protocol: Protocol::Esp,
        mode: Mode::Tunnel,
        reqid: REQID + 1,
        if_id: 0,
        mark: Mark::ANY,
        min: 256,
        max: u32::MAX,
        acquire_seq: 0,
    };
    let Ok(Reply::Spi(other)) = test.pair.at_b(Command::AllocateSpi(request)) else {
        panic!()
    };
    let packet = test.pair.small();
    for _ in 0..5 {
        let mut sent = test.pair.a_sends(&[&packet]);
        for transmit in &mut sent {
            transmit.packet.bytes_mut()[..4].copy_from_slice(&other.to_be_bytes());
        }
        test.pair.b_receives(sent);
    }
    assert_eq!(test.counted(), [6, 9, 0]);
    assert_eq!(test.pair.b.drops(), [(Counter::AcquireError, 9)]);
    test.install();
    assert_eq!(test.delivered(), [0, 1, 2, 3]);
}

#[test]
fn what_waits_in_vain_is_dropped_and_counted() {
    let mut test = Beginning::new();
    test.arrive(0, 2);
    test.pair.advance(Duration::from_millis(2900));
    assert_eq!(test.counted(), [2, 0, 0]);
    let due = test.pair.b.core.next_timeout().unwrap();
    assert_eq!(due, test.pair.now + Duration::from_millis(100));
    test.pair.advance(Duration::from_millis(100));
    assert_eq!(test.counted(), [2, 0, 2]);
    assert_eq!(test.pair.b.drops(), [(Counter::AcquireError, 2)]);
    // Opened ones wait no longer either.
    test.arrive(2, 2);
    test.install();
    test.pair.advance(Duration::from_secs(3));
    assert_eq!(test.counted(), [6, 0, 4]);
    assert_eq!(
        test.pair.b.drops(),
        [(Counter::InNoPols, 2), (Counter::AcquireError, 2)]
    );
    test.admit(Direction::In);
    assert_eq!(test.delivered(), []);
    // Out of the time of its negotiation, an SA without policies is an error at once.
    let packet = udp(test.pair.a.inner4, test.pair.b.outer, b"elsewhere");
    assert!(test.pair.a_sends(&[&packet]).is_empty(), "no policy");
    test.pair.advance(Duration::from_secs(30));
    assert_eq!(test.counted(), [6, 0, 4]);
}

#[test]
fn a_released_spi_takes_its_early_packets_with_it() {
    let mut test = Beginning::new();
    test.arrive(0, 2);
    test.pair.at_b(Command::RemoveSa(test.there.id)).unwrap();
    assert_eq!(test.counted(), [2, 0, 2]);
    assert_eq!(test.pair.b.drops(), [(Counter::AcquireError, 2)]);
}

#[test]
fn forged_early_packets_harm_nobody() {
    let mut test = Beginning::new();
    test.admit(Direction::In);
    let packet = test.pair.small();
    let mut sent = test.pair.a_sends(&[&packet[..]; 2]);
    sent[0].packet.bytes_mut()[12] ^= 1;
    test.pair.b_receives(sent);
    test.install();
    assert_eq!(test.pair.b.delivered().len(), 1);
    assert_eq!(test.pair.b.drops(), [(Counter::InStateProtoError, 1)]);
}
