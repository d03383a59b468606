//! How much of a handshake is public-key work.
//!
//! Two endpoints in one process and one thread make IKE SAs with a child SA each (pre-shared key, AES-GCM), as fast as they
//! can, with X25519 and with X25519 and ML-KEM-768; beside it, in the same run, the bare public-key work of such a
//! handshake with the same library calls: two key generations and two agreements, and of ML-KEM one key generation,
//! encapsulation and decapsulation. The ratio says what everything else costs. The deletion of the SAs is not timed.
//!
//! `cargo bench -p cygnet-ike --bench handshake [-- SECONDS]`

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cygnet_crypto::{
    Entropy, EspProposal, IkeProposal, KeyExchange, KeyExchangeProvider, SecretBytes,
    StandardKeyExchange, SystemEntropy,
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
        Box::new(SystemEntropy::default()),
    )
}

/// A handshake to measure.
#[derive(Clone, Copy)]
struct Kind {
    title: &'static str,
    proposal: &'static str,
    additional: Option<KeyExchange>,
}

const KINDS: [Kind; 2] = [
    Kind {
        title: "X25519",
        proposal: "aes_gcm_16_256-sha2_256-dh31",
        additional: None,
    },
    Kind {
        title: "X25519, ML-KEM-768",
        proposal: "aes_gcm_16_256-sha2_256-dh31;addke1=ml_kem_768",
        additional: Some(KeyExchange::MlKem768),
    },
];

fn config(kind: Kind, local: &str, remote: &str) -> Arc<PeerConfig> {
    let id = |text: &str| -> Identity { text.parse().expect("an identity") };
    let prefix = |text: &str| vec![TsTemplate::prefix(text.parse().expect("a prefix"))];
    let mut child = ChildConfig::new("net", prefix("10.0.0.0/8"), prefix("10.0.0.0/8"));
    child.proposals = EspProposal::parse_ipsec_conf("aes_gcm_16_256").expect("a proposal");
    let mut peer = PeerConfig::new("peer", id(local), PeerIdentity::Exactly(id(remote)));
    peer.proposals = IkeProposal::parse_ipsec_conf(kind.proposal).expect("a proposal");
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
                        transport,
                        bytes,
                    }) => {
                        let (local, remote, bytes) = (remote, local, &bytes);
                        to.handle(
                            now,
                            Input::Datagram {
                                local,
                                remote,
                                bytes,
                                transport,
                            },
                        );
                    }
                    Output::Request { id, request } => {
                        let answer = if matches!(request, Request::AllocateSpi { .. }) {
                            *spi += 1;
                            Answer::Spi((*spi).into())
                        } else {
                            Answer::Done
                        };
                        from.handle(now, Input::Answer { id, answer });
                    }
                    Output::Event(Event::ChildEstablished { .. }) if turn => made += 1,
                    Output::Event(_) | Output::Stream { .. } => {}
                }
            }
        }
        if idle {
            return made;
        }
    }
}

/// Handshakes per second.
fn handshakes(kind: Kind, time: Duration) -> f64 {
    let (east, west) = (
        config(kind, "@east", "@west"),
        config(kind, "@west", "@east"),
    );
    let (mut a, mut b) = (endpoint(&east), endpoint(&west));
    let (local, remote) = ("192.0.2.1:500", "192.0.2.2:500");
    let (local, remote) = (
        local.parse().expect("an end"),
        remote.parse().expect("an end"),
    );
    let mut spi = 0x1000;
    let (mut made, mut spent) = (0, Duration::ZERO);
    while spent < time {
        let now = Instant::now();
        let child = Some(ChildRequest {
            config: Arc::clone(&east.children[0]),
            acquire: None,
        });
        let ike = a.initiate(now, Arc::clone(&east), child, local, remote);
        made += settle(&mut a, &mut b, now, &mut spi);
        spent += now.elapsed();
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
    made as f64 / spent.as_secs_f64()
}

/// The public-key work of so many handshakes per second.
fn public_key_work(kind: Kind, time: Duration) -> f64 {
    let provider = StandardKeyExchange;
    let mut entropy = SystemEntropy::default();
    let mut done = 0_u64;
    let start = Instant::now();
    while start.elapsed() < time {
        for method in [Some(KeyExchange::X25519), kind.additional]
            .into_iter()
            .flatten()
        {
            let ours = provider.generate(method, &mut entropy).expect("a key");
            let (public, secret) = provider
                .respond(method, ours.public(), &mut entropy)
                .expect("a secret");
            assert_eq!(secret, ours.agree(&public).expect("a secret"));
        }
        done += 1;
    }
    done as f64 / start.elapsed().as_secs_f64()
}

fn main() {
    let seconds = std::env::args()
        .filter_map(|arg| arg.parse::<f64>().ok())
        .next()
        .unwrap_or(1.0);
    // In turns and short ones, so that a busy machine slows both.
    const TURNS: u32 = 10;
    let slice = Duration::from_secs_f64(seconds) / TURNS;
    // The random generator is seeded with its first use, once in the life of a process. That takes as long as hundreds of
    // handshakes, and whichever side came first would pay for it.
    SystemEntropy::default().fill(&mut [0]);
    for kind in KINDS {
        let (mut whole, mut bare) = (0.0, 0.0);
        for _ in 0..TURNS {
            whole += handshakes(kind, slice) / f64::from(TURNS);
            bare += public_key_work(kind, slice) / f64::from(TURNS);
        }
        println!("{}", kind.title);
        println!("  handshakes       {whole:>9.0} /s per core (PSK, AES-GCM, with a child SA)");
        println!("  public-key work  {bare:>9.0} /s per core");
        println!("  ratio            {:>9.3}", whole / bare);
    }
}
