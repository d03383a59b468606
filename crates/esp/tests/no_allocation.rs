//! Nothing is allocated per packet.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use cygnet_esp::{OuterHeader, PacketBuffer};
use cygnet_ipsec::{Mode, Sa};
use support::*;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: all is passed on to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn sealing_and_opening_allocate_nothing() {
    for (name, encryption, integrity) in suites() {
        for mode in [Mode::Tunnel, Mode::Transport] {
            let sa = Sa {
                encryption: Some(encryption.clone()),
                integrity: integrity.clone(),
                mode,
                ..sa()
            };
            let sent = outbound(&sa);
            let mut received = inbound(&sa);
            let packet = ip(WEST, EAST, 253, 0, true, &payload(1400));
            let mut storage = vec![0; ROOM + packet.len() + ROOM];
            storage[ROOM..ROOM + packet.len()].copy_from_slice(&packet);
            let outer = OuterHeader::between(sa.src, sa.id.dst);
            let mut range = ROOM..ROOM + packet.len();

            let before = ALLOCATIONS.get();
            assert!(before > 0, "the counter counts");
            for sequence in sent.reserve(32).unwrap() {
                let mut buffer = PacketBuffer::new(&mut storage, range.clone()).unwrap();
                sent.check_size(buffer.bytes()).unwrap();
                sent.seal(sequence, &mut buffer).unwrap();
                received.open(&mut buffer, &outer).unwrap();
                range = buffer.range();
            }
            assert_eq!(ALLOCATIONS.get() - before, 0, "{name} {mode:?}");
        }
    }
}
