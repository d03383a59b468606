//! Numbered datagrams from end to end, each sent back.

use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::netns::Netns;
use crate::site::{Family, Site};

/// How long one datagram may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// No more of them are under way than the queues hold.
const UNDER_WAY: u64 = 16;

/// When it is enough.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After so many datagrams.
    Count(u64),
    /// After this time, at no more than a thousand in a second.
    Time(Duration),
}

/// What became of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echoes {
    /// Datagrams sent.
    pub sent: u64,
    /// Those that did not come back.
    pub lost: u64,
}

/// The same, and none may be lost. Gives their number.
///
/// # Errors
/// If one is, and how many.
pub fn echo_all(site: &Site, family: Family, until: Until) -> Result<u64, String> {
    match echo(site, family, until)? {
        Echoes { sent, lost: 0 } => Ok(sent),
        Echoes { sent, lost } => Err(format!("{family:?}: {lost} of {sent} did not come back")),
    }
}

/// Sends datagrams of many sizes from west's inner address to east's and has each sent back.
///
/// # Errors
/// If there are no sockets.
pub fn echo(site: &Site, family: Family, until: Until) -> Result<Echoes, String> {
    let socket = |netns: &Netns, address: IpAddr| {
        let socket = netns
            .within(move || UdpSocket::bind((address, 0)))
            .map_err(|e| format!("to bind: {e}"))?;
        let limit = socket.set_read_timeout(Some(PATIENCE));
        limit.map_err(|e| e.to_string())?;
        Ok::<_, String>(socket)
    };
    let client = socket(&site.west, Site::west_inner(family))?;
    let server = socket(&site.east, Site::east_inner(family))?;
    let to = server.local_addr().map_err(|e| e.to_string())?;
    let begun = Instant::now();
    let wanted = |sent: u64| match until {
        Until::Count(count) => sent < count,
        Until::Time(time) => begun.elapsed() < time,
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 2048];
            // Until the client has been silent for a while, or says that it is done.
            while let Ok((len, from)) = server.recv_from(&mut buffer) {
                if len == 0 {
                    return;
                }
                let _ = server.send_to(buffer.get(..len).unwrap_or_default(), from);
            }
        });
        let run = || {
            let (mut sent, mut received, mut lost) = (0, 0, 0);
            let mut buffer = [0; 2048];
            loop {
                while sent < received + lost + UNDER_WAY && wanted(sent) {
                    let size = 8 + usize::try_from(sent * 37 % 1200).unwrap_or_default();
                    let mut datagram = vec![0x5a; size];
                    datagram[..8].copy_from_slice(&sent.to_be_bytes());
                    client
                        .send_to(&datagram, to)
                        .map_err(|e| format!("datagram {sent}: {e}"))?;
                    sent += 1;
                    if let Until::Time(_) = until {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
                if received + lost == sent {
                    return Ok(Echoes { sent, lost });
                }
                match client.recv_from(&mut buffer) {
                    Ok(_) => received += 1,
                    Err(_) => lost = sent - received,
                }
            }
        };
        let outcome = run();
        // On the spot, not through the tunnel.
        if let Ok(stop) = server.try_clone() {
            let _ = site.east.within(move || stop.send_to(&[], to));
        }
        outcome
    })
}
