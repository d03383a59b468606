//! Packet marks: a value that counts only under a mask (K8, S1.5, S1.6).

use std::fmt;

/// A mark value with its mask.
///
/// As a *lookup key* (XFRMA_MARK) it accepts a packet mark `m` if `m & mask == value`. As an *output mark*
/// (XFRMA_SET_MARK) it replaces the masked bits of a packet's mark and leaves the others alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mark {
    /// The value. Bits outside `mask` never take part in a match; stores clear them on insertion (K1).
    pub value: u32,
    /// Which bits count. Zero: every packet mark is accepted.
    pub mask: u32,
}

impl Mark {
    /// The wildcard: accepts every packet mark, changes none.
    pub const ANY: Mark = Mark { value: 0, mask: 0 };

    /// A mark all of whose bits count.
    pub const fn exact(value: u32) -> Mark {
        Mark {
            value,
            mask: u32::MAX,
        }
    }

    /// The same mark with the value's bits outside the mask cleared, as the kernel keeps policies' marks (K1).
    pub const fn normalized(self) -> Mark {
        Mark {
            value: self.value & self.mask,
            mask: self.mask,
        }
    }

    /// The packet mark after this output mark was applied: `(value & mask) | (old & !mask)` (S1.6).
    pub const fn apply(self, old: u32) -> u32 {
        (self.value & self.mask) | (old & !self.mask)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{:#x}", self.value, self.mask)
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mark({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_mark_leaves_the_bits_outside_its_mask_alone() {
        let mark = Mark {
            value: 0xab_12,
            mask: 0x00_ff,
        };
        assert_eq!(mark.apply(0xffff_0000), 0xffff_0012);
        assert_eq!(Mark::ANY.apply(0x1234), 0x1234);
        assert_eq!(Mark::exact(7).apply(0x1234), 7);
        assert_eq!(
            mark.normalized(),
            Mark {
                value: 0x12,
                mask: 0xff
            }
        );
    }
}
