//! How much of a handshake is public-key work.
//!
//! Two endpoints in one process and one thread make IKE SAs with a child SA each (pre-shared key, X25519, AES-GCM), as
//! fast as they can; beside it, in the same run, the bare public-key work of such a handshake: two key
//! generations and two agreements with the same library calls. The ratio says what everything else costs.
//!
//! `cargo bench -p cygnet-ike --bench handshake [-- SECONDS]`

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cygnet_crypto::{
    EspProposal, IkeProposal, KeyExchange, KeyExchangeProvider, SecretBytes, StandardKeyExchange,
    SystemEntropy,
};
use cygnet_ike::{
    Answer, ChildConfig, ChildRequest, Directory, Endpoint, EndpointConfig, Event, Identity, Input,
    Output, PeerConfig, PeerIdentity, Request, Transmit, TsTemplate,
};

struct Book(Arc<PeerConfig>);

impl Directory for Book {
    fn candidates(&self, _: SocketAddr, _: SocketAddr) -> Vec<Arc<PeerConfig>> {
        vec![Arc::clone(&self.0)]
    }

    fn psk(&self, _: &Identity, _: &Identity, _: IpAddr, _: IpAddr) -> Option<SecretBytes> {
        Some(SecretBytes::copy_from(b"an excellent shared secret"))
    }
}

fn endpoint(config: &Arc<PeerConfig>) -> Endpoint {
    Endpoint::new(
        EndpointConfig::default(),
        Arc::new(Book(Arc::clone(config))),
        Arc::new(StandardKeyExchange),
        Box::new(SystemEntropy),
    )
}

fn config(local: &str, remote: &str) -> Arc<PeerConfig> {
    let id = |text: &str| -> Identity { text.parse().expect("an identity") };
    let prefix = |text: &str| vec![TsTemplate::prefix(text.parse().expect("a prefix"))];
    let mut child = ChildConfig::new("net", prefix("10.0.0.0/8"), prefix("10.0.0.0/8"));
    child.proposals = EspProposal::parse_ipsec_conf("aes_gcm_16_256").expect("a proposal");
    let mut peer = PeerConfig::new("peer", id(local), PeerIdentity::Exactly(id(remote)));
    peer.proposals =
        IkeProposal::parse_ipsec_conf("aes_gcm_16_256-sha2_256-dh31").expect("a proposal");
    peer.children = vec![Arc::new(child)];
    Arc::new(peer)
}

/// Carries everything between two endpoints until there is nothing left; counts the child SAs that `a` has.
fn settle(a: &mut Endpoint, b: &mut Endpoint, now: Instant, spi: &mut u32) -> u64 {
    let mut made = 0;
    loop {
        let mut idle = true;
        for turn in [true, false] {
            loop {
                let (from, to) = if turn {
                    (&mut *a, &mut *b)
                } else {
                    (&mut *b, &mut *a)
                };
                let Some(output) = from.poll_output() else {
                    break;
                };
                idle = false;
                match output {
                    Output::Transmit(Transmit {
                        local,
                        remote,
                        marker,
                        bytes,
                    }) => {
                        let (local, remote, bytes) = (remote, local, &bytes);
                        let encapsulated = marker;
                        to.handle(
                            now,
                            Input::Datagram {
                                local,
                                remote,
                                bytes,
                                encapsulated,
                            },
                        );
                    }
                    Output::Request { id, request } => {
                        let answer = if matches!(request, Request::AllocateSpi { .. }) {
                            *spi += 1;
                            Answer::Spi(*spi)
                        } else {
                            Answer::Done
                        };
                        from.handle(now, Input::Answer { id, answer });
                    }
                    Output::Event(Event::ChildEstablished { .. }) if turn => made += 1,
                    Output::Event(_) => {}
                }
            }
        }
        if idle {
            return made;
        }
    }
}

fn handshakes(time: Duration) -> f64 {
    let (east, west) = (config("@east", "@west"), config("@west", "@east"));
    let (mut a, mut b) = (endpoint(&east), endpoint(&west));
    let (local, remote) = ("192.0.2.1:500", "192.0.2.2:500");
    let (local, remote) = (
        local.parse().expect("an end"),
        remote.parse().expect("an end"),
    );
    let mut spi = 0x1000;
    let mut made = 0;
    let start = Instant::now();
    while start.elapsed() < time {
        let now = Instant::now();
        let child = Some(ChildRequest {
            config: Arc::clone(&east.children[0]),
            acquire: None,
        });
        let ike = a.initiate(now, Arc::clone(&east), child, local, remote);
        made += settle(&mut a, &mut b, now, &mut spi);
        // Deleted again outside of what a user waits for, but within the time: the worse for us.
        a.delete_ike(now, ike);
        settle(&mut a, &mut b, now, &mut spi);
        if made % 1000 == 0 {
            // What lingers at the responder would pile up for a minute.
            let later = now + Duration::from_secs(120);
            b.handle(later, Input::Timeout);
            settle(&mut a, &mut b, now, &mut spi);
        }
    }
    assert!(made > 0, "no handshake has succeeded");
    made as f64 / start.elapsed().as_secs_f64()
}

fn public_key_work(time: Duration) -> f64 {
    let provider = StandardKeyExchange;
    let mut entropy = SystemEntropy;
    let mut done = 0_u64;
    let start = Instant::now();
    while start.elapsed() < time {
        let ours = provider
            .generate(KeyExchange::X25519, &mut entropy)
            .expect("a key");
        let theirs = provider
            .generate(KeyExchange::X25519, &mut entropy)
            .expect("a key");
        let (x, y) = (ours.public().to_vec(), theirs.public().to_vec());
        let secret = ours.agree(&y).expect("a secret");
        assert_eq!(secret, theirs.agree(&x).expect("a secret"));
        done += 1;
    }
    done as f64 / start.elapsed().as_secs_f64()
}

fn main() {
    let seconds = std::env::args()
        .filter_map(|arg| arg.parse::<f64>().ok())
        .next()
        .unwrap_or(1.0);
    let slice = Duration::from_secs_f64(seconds / 4.0);
    // In turns, so that a busy machine slows both.
    let (mut whole, mut bare) = (0.0, 0.0);
    for _ in 0..4 {
        whole += handshakes(slice) / 4.0;
        bare += public_key_work(slice) / 4.0;
    }
    println!(
        "handshake        {whole:>9.0} /s per core (PSK, X25519, AES-GCM, with child SA and deletion)"
    );
    println!("public-key work  {bare:>9.0} /s per core (2 key generations, 2 agreements)");
    println!("ratio            {:>9.3}", whole / bare);
}
