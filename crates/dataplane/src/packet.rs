//! Packet buffers and their pool.
//!
//! One buffer carries a packet from the device to the socket: ESP is built around the inner packet in place, so each
//! buffer has room in front for the outer headers and behind for padding and ICV. The pool makes the steady state free of
//! allocation: buffers travel through the batches by move and come back.

use std::ops::Range;

/// Room in front of a freshly read packet, in bytes: ESP header, IV and an outer IPv6 header, with some to spare for a
/// virtio-net header later.
pub const HEADROOM: usize = 128;

/// Room behind a packet of maximal size, in bytes: ESP padding (at most 255), pad length, next header and ICV.
pub const TAILROOM: usize = 320;

/// The largest packet that a buffer takes between head and tail room: the largest IP packet (jumbograms apart).
pub const MAX_PACKET: usize = 65_535;

/// A packet in a buffer of fixed size with room on both sides.
pub struct Packet {
    storage: Box<[u8]>,
    start: usize,
    end: usize,
}

impl std::fmt::Debug for Packet {
    // Packets hold the users' traffic; only lengths are fit for a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packet")
            .field("start", &self.start)
            .field("len", &self.len())
            .finish()
    }
}

impl Default for Packet {
    fn default() -> Self {
        Self::new()
    }
}

impl Packet {
    /// An empty packet with [`HEADROOM`] in front.
    pub fn new() -> Self {
        // Zeroed memory of this size comes from the allocator untouched, so a buffer costs only the pages it has used.
        Self {
            storage: vec![0; HEADROOM + MAX_PACKET + TAILROOM].into_boxed_slice(),
            start: HEADROOM,
            end: HEADROOM,
        }
    }

    /// A packet with these bytes, cut at [`MAX_PACKET`].
    pub fn from_slice(bytes: &[u8]) -> Self {
        let mut packet = Self::new();
        packet.fill(bytes);
        packet
    }

    /// Empties the packet and restores the headroom.
    pub fn reset(&mut self) {
        self.start = HEADROOM;
        self.end = HEADROOM;
    }

    /// Replaces the contents, cut at [`MAX_PACKET`].
    pub fn fill(&mut self, bytes: &[u8]) {
        self.reset();
        let bytes = bytes.get(..MAX_PACKET).unwrap_or(bytes);
        self.end = self.start + bytes.len();
        self.storage[self.start..self.end].copy_from_slice(bytes);
    }

    /// The packet.
    pub fn bytes(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    /// The packet, for change in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.end]
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// No bytes at all?
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The area that a read may fill: [`MAX_PACKET`] bytes behind the headroom. Follow with [`Packet::set_len`].
    pub fn receive_area(&mut self) -> &mut [u8] {
        self.reset();
        &mut self.storage[HEADROOM..HEADROOM + MAX_PACKET]
    }

    /// Says how many bytes a read has put into the receive area.
    pub fn set_len(&mut self, len: usize) {
        self.start = HEADROOM;
        self.end = HEADROOM + len.min(MAX_PACKET);
    }

    /// The whole storage and the range of the packet in it: for transforms that grow the packet at both ends.
    pub fn parts(&mut self) -> (&mut [u8], Range<usize>) {
        (&mut self.storage, self.start..self.end)
    }

    /// Makes `range` of the storage the packet. A range outside the storage empties it.
    pub fn set_range(&mut self, range: Range<usize>) {
        if range.start <= range.end && range.end <= self.storage.len() {
            (self.start, self.end) = (range.start, range.end);
        } else {
            self.reset();
        }
    }

    /// Keeps only `range` of the present packet. A range outside the packet empties it.
    pub fn narrow(&mut self, range: Range<usize>) {
        let (start, end) = (self.start, self.end);
        if range.start <= range.end && range.end <= end - start {
            (self.start, self.end) = (start + range.start, start + range.end);
        } else {
            self.reset();
        }
    }
}

/// Free packet buffers.
#[derive(Debug)]
pub struct Pool {
    free: Vec<Packet>,
    limit: usize,
}

impl Pool {
    /// A pool that keeps at most `limit` free buffers.
    pub fn new(limit: usize) -> Self {
        Self {
            free: Vec::with_capacity(limit),
            limit,
        }
    }

    /// An empty packet: a used buffer if there is one.
    pub fn take(&mut self) -> Packet {
        match self.free.pop() {
            Some(mut packet) => {
                packet.reset();
                packet
            }
            None => Packet::new(),
        }
    }

    /// Gives a buffer back.
    pub fn give(&mut self, packet: Packet) {
        if self.free.len() < self.limit {
            self.free.push(packet);
        }
    }

    /// How many buffers lie in the pool.
    pub fn available(&self) -> usize {
        self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_grows_and_shrinks_inside_its_storage() {
        let mut packet = Packet::from_slice(b"inner");
        let (storage, range) = packet.parts();
        assert!(range.start >= HEADROOM && storage.len() - range.end >= TAILROOM);
        packet.set_range(range.start - 3..range.end + 1);
        assert_eq!(packet.len(), 9);
        packet.narrow(3..8);
        assert_eq!(packet.bytes(), b"inner");
        packet.narrow(2..9);
        assert!(
            packet.is_empty(),
            "a range outside the packet must not show other bytes"
        );
    }

    #[test]
    fn the_pool_reuses_and_is_bounded() {
        let mut pool = Pool::new(1);
        pool.give(Packet::from_slice(b"x"));
        pool.give(Packet::new());
        assert_eq!(pool.available(), 1);
        assert!(pool.take().is_empty(), "old contents are out of sight");
        assert_eq!(pool.available(), 0);
    }
}
