//! The replay window of an inbound SA, with 32-bit and extended sequence numbers (RFC 4303 §3.4.3, Appendix A; K12).

use thiserror::Error;

/// Why a received sequence number is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReplayError {
    /// Zero is never sent (RFC 4303 §2.2).
    #[error("sequence number zero")]
    Zero,
    /// Left of the window: too old to tell whether it was seen.
    #[error("sequence number left of the replay window")]
    TooOld,
    /// Seen before.
    #[error("sequence number seen before")]
    Replayed,
    /// Beyond the last sequence number that an SA may use.
    #[error("sequence number space exhausted")]
    Exhausted,
}

/// A window that its SA cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReplayWindowError {
    /// More than [`ReplayWindow::MAX`] packets.
    #[error("replay window of {0} packets, at most 4096 are possible")]
    TooLarge(u32),
    /// The high half of extended numbers is found by means of the window, so there must be one.
    #[error("extended sequence numbers need a replay window")]
    EsnWithoutWindow,
}

/// Which of the last sequence numbers were received.
///
/// A packet is judged in two steps: [`check`](ReplayWindow::check) before decryption gives the full number, which
/// with ESN takes part in the integrity check, and [`commit`](ReplayWindow::commit) after it notes the number.
/// Nothing but an authenticated packet may move the window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayWindow {
    /// Packets the window spans; 0: nothing is checked.
    window: u32,
    esn: bool,
    /// The greatest number noted, 0 before the first packet.
    top: u64,
    /// A ring of bits, one per number, of 64 more bits than the window so that whole words can be cleared (RFC 6479).
    bits: Vec<u64>,
}

impl ReplayWindow {
    /// The largest window, the kernel's limit.
    pub const MAX: u32 = 4096;

    /// A window of that many packets; 0 checks nothing.
    ///
    /// # Errors
    ///
    /// If the window is too large, or ESN is to work without one (K12).
    pub fn new(window: u32, esn: bool) -> Result<ReplayWindow, ReplayWindowError> {
        //= rfc4303#3.4.3
        //# A minimum window size of 32 packets MUST be supported when 32-bit
        //# sequence numbers are employed; a window size of 64 is preferred and
        //# SHOULD be employed as the default.
        if window > ReplayWindow::MAX {
            return Err(ReplayWindowError::TooLarge(window));
        }
        if esn && window == 0 {
            return Err(ReplayWindowError::EsnWithoutWindow);
        }
        let words = if window == 0 {
            0
        } else {
            window.div_ceil(64) as usize + 1
        };
        //= rfc4303#3.4.3
        //# If the receiver has enabled the anti-replay service for this SA, the
        //# receive packet counter for the SA MUST be initialized to zero when
        //# the SA is established.
        Ok(ReplayWindow {
            window,
            esn,
            top: 0,
            bits: vec![0; words],
        })
    }

    /// The number of packets the window spans.
    pub fn window(&self) -> u32 {
        self.window
    }

    /// Whether numbers are extended ones.
    pub fn esn(&self) -> bool {
        self.esn
    }

    /// The greatest number noted so far, 0 before the first packet.
    pub fn top(&self) -> u64 {
        self.top
    }

    /// Judges the low 32 bits of a received packet's sequence number and gives the full number.
    ///
    /// # Errors
    ///
    /// The packet is to be dropped and counted as [`InStateSeqError`](crate::Counter::InStateSeqError).
    pub fn check(&self, low: u32) -> Result<u64, ReplayError> {
        let full = if self.esn {
            self.extend(low)?
        } else {
            u64::from(low)
        };
        self.judge(full)?;
        Ok(full)
    }

    /// Notes the full number of a packet that has passed its integrity check, after judging it again: a copy of it may
    /// have been noted in the meantime.
    ///
    /// # Errors
    ///
    /// As for [`check`](ReplayWindow::check).
    pub fn commit(&mut self, full: u64) -> Result<(), ReplayError> {
        self.judge(full)?;
        if full > self.top {
            self.advance(full);
        }
        let (word, bit) = self.position(full);
        if let Some(bits) = self.bits.get_mut(word) {
            *bits |= bit;
        }
        Ok(())
    }

    /// RFC 4303 Appendix A2.2: the high half that puts the number nearest to where the window is.
    fn extend(&self, low: u32) -> Result<u64, ReplayError> {
        let high = (self.top >> 32) as u32;
        let top_low = self.top as u32;
        let bottom = top_low.wrapping_sub(self.window.wrapping_sub(1));
        let high = if top_low >= self.window - 1 {
            // Case A: the window lies in one subspace. What is left of it belongs to the next one.
            if low >= bottom {
                high
            } else {
                high.checked_add(1).ok_or(ReplayError::Exhausted)?
            }
        } else if low >= bottom {
            // Case B: the window spans two subspaces, and this is the end of the earlier one.
            high.checked_sub(1).ok_or(ReplayError::TooOld)?
        } else {
            high
        };
        Ok(u64::from(high) << 32 | u64::from(low))
    }

    fn judge(&self, full: u64) -> Result<(), ReplayError> {
        if self.window == 0 {
            return Ok(());
        }
        if full == 0 {
            return Err(ReplayError::Zero);
        }
        if full > self.top {
            return Ok(());
        }
        if self.top - full >= u64::from(self.window) {
            return Err(ReplayError::TooOld);
        }
        //= rfc4303#3.4.3
        //# For each received packet, the receiver MUST
        //# verify that the packet contains a Sequence Number that does not
        //# duplicate the Sequence Number of any other packets received during
        //# the life of this SA.
        let (word, bit) = self.position(full);
        match self.bits.get(word) {
            Some(bits) if bits & bit != 0 => Err(ReplayError::Replayed),
            _ => Ok(()),
        }
    }

    /// Moves the window's right edge, forgetting what the numbers between stood for one turn of the ring ago.
    fn advance(&mut self, top: u64) {
        let words = self.bits.len() as u64;
        let entered = (top >> 6) - (self.top >> 6);
        if words != 0 {
            for offset in 1..=entered.min(words) {
                let word = ((self.top >> 6).wrapping_add(offset) % words) as usize;
                if let Some(bits) = self.bits.get_mut(word) {
                    *bits = 0;
                }
            }
        }
        self.top = top;
    }

    fn position(&self, full: u64) -> (usize, u64) {
        let words = (self.bits.len() as u64).max(1);
        (((full >> 6) % words) as usize, 1 << (full & 63))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn window(size: u32, esn: bool) -> ReplayWindow {
        ReplayWindow::new(size, esn).unwrap()
    }

    /// Receives the packet of this full number, which travels as 32 bits, and passes its integrity check if the
    /// receiver has found the full number.
    fn receive(window: &mut ReplayWindow, full: u64) -> Result<(), Option<ReplayError>> {
        let guess = window.check(full as u32)?;
        if guess != full {
            return Err(None);
        }
        Ok(window.commit(full)?)
    }

    //= rfc4303#3.4.3
    //= type=test
    //# A minimum window size of 32 packets MUST be supported when 32-bit
    //# sequence numbers are employed; a window size of 64 is preferred and
    //# SHOULD be employed as the default.
    #[test]
    fn a_window_of_32_packets() {
        let mut window = window(32, false);
        //= rfc4303#3.4.3
        //= type=test
        //# If the receiver has enabled the anti-replay service for this SA, the
        //# receive packet counter for the SA MUST be initialized to zero when
        //# the SA is established.
        assert_eq!(window.top(), 0);
        assert_eq!(receive(&mut window, 0), Err(Some(ReplayError::Zero)));
        for full in [1, 3, 2, 40, 9, 10] {
            assert_eq!(receive(&mut window, full), Ok(()), "{full}");
        }
        assert_eq!(window.top(), 40);
        assert_eq!(receive(&mut window, 8), Err(Some(ReplayError::TooOld)));
        assert_eq!(receive(&mut window, 9), Err(Some(ReplayError::Replayed)));
        assert_eq!(receive(&mut window, 40), Err(Some(ReplayError::Replayed)));
        assert_eq!(receive(&mut window, u32::MAX.into()), Ok(()));
        assert_eq!(receive(&mut window, 41), Err(Some(ReplayError::TooOld)));
    }

    #[test]
    fn no_window_checks_nothing() {
        let mut window = window(0, false);
        for full in [5, 5, 0, 1] {
            assert_eq!(receive(&mut window, full), Ok(()));
        }
    }

    #[test]
    fn impossible_windows() {
        assert_eq!(
            ReplayWindow::new(4097, false),
            Err(ReplayWindowError::TooLarge(4097))
        );
        assert_eq!(
            ReplayWindow::new(0, true),
            Err(ReplayWindowError::EsnWithoutWindow)
        );
        assert!(ReplayWindow::new(4096, true).is_ok());
    }

    #[test]
    fn a_failed_check_or_a_forged_packet_moves_nothing() {
        let mut window = window(64, true);
        receive(&mut window, 100).unwrap();
        let before = window.clone();
        // Passes the check; its ICV would fail, so there is no commit.
        assert_eq!(window.check(1_000_000), Ok(1_000_000));
        assert_eq!(window, before);
        assert_eq!(window.commit(100), Err(ReplayError::Replayed));
        assert_eq!(window, before);
    }

    /// RFC 4303 Appendix A2.1, case A (one subspace) and case B (two).
    #[test]
    fn the_high_half_follows_from_the_window() {
        const SUBSPACE: u64 = 1 << 32;
        let mut window = window(64, true);
        receive(&mut window, 1).unwrap();
        // Case B at the very beginning: what would lie before the first packet is refused.
        assert_eq!(window.check(u32::MAX), Err(ReplayError::TooOld));
        receive(&mut window, 1 << 31).unwrap();
        receive(&mut window, SUBSPACE - 10).unwrap();
        // Case A: left of the window means the next subspace.
        assert_eq!(window.check(5), Ok(SUBSPACE + 5));
        receive(&mut window, SUBSPACE + 5).unwrap();
        // Case B: the end of the earlier subspace, the beginning of this one, and beyond.
        assert_eq!(window.check(0u32.wrapping_sub(9)), Ok(SUBSPACE - 9));
        assert_eq!(
            window.check(0u32.wrapping_sub(10)),
            Err(ReplayError::Replayed)
        );
        assert_eq!(window.check(0), Ok(SUBSPACE));
        assert_eq!(window.check(6), Ok(SUBSPACE + 6));
        receive(&mut window, SUBSPACE - 9).unwrap();
        assert_eq!(window.check(0u32.wrapping_sub(58)), Ok(SUBSPACE - 58));
        assert_eq!(
            window.check(0u32.wrapping_sub(59)),
            Ok(2 * SUBSPACE - 59),
            "too far left"
        );
    }

    #[test]
    fn the_last_subspace_has_no_next() {
        let mut window = window(64, true);
        window.top = u64::MAX - 5;
        assert_eq!(window.check(3), Err(ReplayError::Exhausted));
        assert_eq!(window.check(u32::MAX), Ok(u64::MAX));
    }

    /// The rules as RFC 4303 §3.4.3 states them, on full numbers: a set of all that was received.
    fn judge(seen: &BTreeSet<u64>, size: u32, full: u64) -> Result<(), ReplayError> {
        let top = seen.last().copied().unwrap_or(0);
        if size == 0 {
            Ok(())
        } else if full == 0 {
            Err(ReplayError::Zero)
        } else if full + u64::from(size) <= top {
            Err(ReplayError::TooOld)
        } else if seen.contains(&full) {
            Err(ReplayError::Replayed)
        } else {
            Ok(())
        }
    }

    fn sizes() -> impl Strategy<Value = u32> {
        prop_oneof![
            proptest::sample::select(vec![1, 2, 31, 32, 33, 63, 64, 65, 128, 4095, 4096]),
            1..=ReplayWindow::MAX,
        ]
    }

    /// Steps of the sender, mostly small, now and then over the window or half a subspace.
    fn steps() -> impl Strategy<Value = Vec<i64>> {
        let step = prop_oneof![
            8 => -70..70i64,
            2 => -5000..5000i64,
            1 => -(1i64 << 31)..(1i64 << 31),
        ];
        proptest::collection::vec(step, 1..200)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

        //= rfc4303#3.4.3
        //= type=test
        //# For each received packet, the receiver MUST
        //# verify that the packet contains a Sequence Number that does not
        //# duplicate the Sequence Number of any other packets received during
        //# the life of this SA.
        /// Near every place where something could go wrong, the window is the set of what was received.
        #[test]
        fn a_window_is_a_bounded_memory_of_everything_received(
            size in sizes(),
            esn: bool,
            start in proptest::sample::select(vec![0u64, 1, (1 << 32) - 3000, (1 << 32) - 2, (5 << 32) + 40]),
            steps in steps(),
        ) {
            let mut window = window(size, esn);
            let mut seen = BTreeSet::new();
            let mut at = if esn { start } else { start.min(u64::from(u32::MAX) - 1) };
            // The receiver has followed the sender until here.
            for full in [at.saturating_sub(1), at] {
                if full > 0 && seen.insert(full) {
                    window.commit(full).unwrap();
                }
            }
            for step in steps {
                let limit = if esn { 1 << 62 } else { u64::from(u32::MAX) };
                let full = at.saturating_add_signed(step).min(limit);
                let top = seen.last().copied().unwrap_or(0);
                let expected = judge(&seen, size, full);
                let got = receive(&mut window, full);
                if esn && full < top && top - full >= u64::from(size) {
                    // Such a packet is taken for one of the next subspace; its ICV does not fit. Near the beginning,
                    // where there is none before, the number itself may be refused.
                    prop_assert!(got.is_err());
                } else if esn && full > top && full - top > (1 << 32) - u64::from(size) {
                    prop_assert!(got.is_err(), "further ahead than 32 bits can tell");
                } else {
                    prop_assert_eq!(got, expected.map_err(Some));
                }
                if got.is_ok() {
                    seen.insert(full);
                    at = at.max(full);
                }
            }
        }
    }
}
