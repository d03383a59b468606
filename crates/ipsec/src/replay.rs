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
