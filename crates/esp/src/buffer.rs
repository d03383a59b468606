//! A packet in the middle of a larger buffer, so that headers go in front and trailers behind without copying.

use std::ops::Range;

use thiserror::Error;

/// The buffer has no room for a header in front of the packet or a trailer behind it.
///
/// Always the caller's mistake: [`Outbound::headroom`](crate::Outbound::headroom),
/// [`Outbound::tailroom`](crate::Outbound::tailroom) and [`Inbound::headroom`](crate::Inbound::headroom) say what to
/// reserve.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("packet buffer lacks {missing} bytes of {place}")]
pub struct NoRoom {
    /// Where there is too little.
    pub place: Room,
    /// How many bytes more are needed.
    pub missing: usize,
}

/// One side of the packet in its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// In front of the packet.
    Headroom,
    /// Behind the packet.
    Tailroom,
}

impl std::fmt::Display for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Room::Headroom => "headroom",
            Room::Tailroom => "tailroom",
        })
    }
}

/// A window on a borrowed buffer: headroom, the packet, tailroom.
///
/// Growing and shrinking the window never moves the packet's bytes. Invariant: `start <= end <= storage.len()`.
#[derive(Debug)]
pub struct PacketBuffer<'a> {
    storage: &'a mut [u8],
    start: usize,
    end: usize,
}

impl<'a> PacketBuffer<'a> {
    /// The packet is `storage[packet]`; what is before and after is headroom and tailroom.
    ///
    /// Returns `None` if the range does not lie within the storage.
    #[inline]
    pub fn new(storage: &'a mut [u8], packet: Range<usize>) -> Option<Self> {
        (packet.start <= packet.end && packet.end <= storage.len()).then_some(Self {
            storage,
            start: packet.start,
            end: packet.end,
        })
    }

    /// The packet.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    /// The packet, writable.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.end]
    }

    /// Where in the storage the packet lies now.
    #[inline]
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// The packet's length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether the packet has no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Free bytes in front of the packet.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.start
    }

    /// Free bytes behind the packet.
    #[inline]
    pub fn tailroom(&self) -> usize {
        self.storage.len() - self.end
    }

    /// Grows the packet by `count` bytes at its front and returns them; they hold whatever the buffer held.
    #[inline]
    pub fn prepend(&mut self, count: usize) -> Result<&mut [u8], NoRoom> {
        let start = self.start.checked_sub(count).ok_or(NoRoom {
            place: Room::Headroom,
            missing: count.saturating_sub(self.start),
        })?;
        let old = std::mem::replace(&mut self.start, start);
        Ok(&mut self.storage[start..old])
    }

    /// Grows the packet by `count` bytes at its end and returns them; they hold whatever the buffer held.
    #[inline]
    pub fn append(&mut self, count: usize) -> Result<&mut [u8], NoRoom> {
        if count > self.tailroom() {
            return Err(NoRoom {
                place: Room::Tailroom,
                missing: count - self.tailroom(),
            });
        }
        let old = self.end;
        self.end += count;
        Ok(&mut self.storage[old..self.end])
    }

    /// Takes at most `count` bytes off the packet's front; they become headroom.
    #[inline]
    pub fn trim_front(&mut self, count: usize) {
        self.start += count.min(self.len());
    }

    /// Shortens the packet to at most `len` bytes; the rest becomes tailroom.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.end = self.start + len.min(self.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_grows_and_shrinks_without_moving_bytes() {
        let mut storage = *b"--packet--";
        let mut packet = PacketBuffer::new(&mut storage, 2..8).unwrap();
        assert_eq!(
            (packet.headroom(), packet.len(), packet.tailroom()),
            (2, 6, 2)
        );
        packet.prepend(1).unwrap().copy_from_slice(b"<");
        packet.append(2).unwrap().copy_from_slice(b">>");
        assert_eq!(packet.bytes(), b"<packet>>");
        packet.trim_front(1);
        packet.truncate(6);
        assert_eq!((packet.bytes(), packet.range()), (&b"packet"[..], 2..8));
        packet.truncate(100);
        assert_eq!(packet.len(), 6);
        packet.trim_front(100);
        assert!(packet.is_empty());
    }

    #[test]
    fn too_little_room_is_said_in_bytes() {
        let mut storage = [0; 10];
        assert!(PacketBuffer::new(&mut storage, 4..11).is_none());
        let mut packet = PacketBuffer::new(&mut storage, 2..8).unwrap();
        assert_eq!(
            packet.prepend(5).unwrap_err().to_string(),
            "packet buffer lacks 3 bytes of headroom"
        );
        assert_eq!(
            packet.append(3).unwrap_err().to_string(),
            "packet buffer lacks 1 bytes of tailroom"
        );
        assert_eq!(packet.range(), 2..8);
    }
}
