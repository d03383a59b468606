//! Prints what the kernel tells about SAs and policies, as it comes.
//!
//! ```text
//! cargo run -p cygnet-xfrm --example xfrm-monitor
//! ```
//!
//! While it runs the kernel believes that a key manager listens: packets without an SA raise ACQUIREs.

use std::time::{SystemTime, UNIX_EPOCH};

use cygnet_xfrm::{Event, EventSocket, Group, Text};
use rustix::event::{PollFd, PollFlags, poll};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut events = EventSocket::open(&Group::ALL)?;
    let text = Text::default();
    loop {
        while let Some(event) = events.receive()? {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            print!("{}.{:03} ", now.as_secs(), now.subsec_millis());
            match event {
                Event::Message { message, .. } => print!("{}", text.event(&message)),
                Event::Resync => println!("events were lost"),
                Event::Unreadable { kind, error } => println!("{kind}: {error}"),
            }
        }
        poll(&mut [PollFd::new(&events, PollFlags::IN)], None)?;
    }
}
