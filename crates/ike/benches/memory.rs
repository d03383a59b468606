//! How much memory an established IKE SA with one child SA takes.
//!
//! Two endpoints in one process make many IKE SAs with each other (pre-shared key, X25519, AES-GCM), each between other
//! identities and addresses, as a gateway has them. Then one endpoint after the other is dropped: what is freed is what
//! it held, keys, cached responses, tables and timers included; configurations are not. (glibc only.)
//!
//! `cargo bench -p cygnet-ike --bench memory [-- IKE_SAS]`

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use cygnet_crypto::{EspProposal, IkeProposal, SecretBytes, StandardKeyExchange, SystemEntropy};
use cygnet_ike::{
    Answer, ChildConfig, ChildRequest, Directory, Endpoint, EndpointConfig, Identity, Input,
    Output, PeerConfig, PeerIdentity, Request, Transmit, TsTemplate,
};

/// Octets of heap in use now, as malloc counts them: its own overhead and what the crypto library keeps in C included.
fn allocated() -> usize {
    // SAFETY: it takes no argument and only reads malloc's own records, under malloc's lock.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

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

fn config(local: &str, remote: PeerIdentity) -> Arc<PeerConfig> {
    let id: Identity = local.parse().expect("an identity");
    let prefix = |text: &str| vec![TsTemplate::prefix(text.parse().expect("a prefix"))];
    let mut child = ChildConfig::new("net", prefix("10.0.0.0/8"), prefix("10.0.0.0/8"));
    child.proposals = EspProposal::parse_ipsec_conf("aes_gcm_16_256").expect("a proposal");
    let mut peer = PeerConfig::new("peer", id, remote);
    peer.proposals =
        IkeProposal::parse_ipsec_conf("aes_gcm_16_256-sha2_256-dh31").expect("a proposal");
    peer.children = vec![Arc::new(child)];
    Arc::new(peer)
}

/// Carries everything between two endpoints until there is nothing left.
fn settle(a: &mut Endpoint, b: &mut Endpoint, now: Instant, spi: &mut u32) {
    loop {
        let mut idle = true;
        for turn in [true, false] {
            let (from, to) = if turn {
                (&mut *a, &mut *b)
            } else {
                (&mut *b, &mut *a)
            };
            while let Some(output) = from.poll_output() {
                idle = false;
                match output {
                    Output::Transmit(Transmit {
                        local,
                        remote,
                        transport,
                        bytes,
                    }) => to.handle(
                        now,
                        Input::Datagram {
                            local: remote,
                            remote: local,
                            bytes: &bytes,
                            transport,
                        },
                    ),
                    Output::Request { id, request } => {
                        let answer = if matches!(request, Request::AllocateSpi { .. }) {
                            *spi += 1;
                            Answer::Spi((*spi).into())
                        } else {
                            Answer::Done
                        };
                        from.handle(now, Input::Answer { id, answer });
                    }
                    Output::Event(_) | Output::Stream { .. } => {}
                }
            }
        }
        if idle {
            return;
        }
    }
}

fn main() {
    let count: u32 = std::env::args()
        .filter_map(|arg| arg.parse().ok())
        .next()
        .unwrap_or(100_000);
    let gateway = config("@gateway", PeerIdentity::Any);
    let is_gateway = PeerIdentity::Exactly("@gateway".parse().expect("an identity"));
    let clients: Vec<_> = (0..count)
        .map(|n| config(&format!("@client-{n}.example.com"), is_gateway.clone()))
        .collect();
    let (mut a, mut b) = (endpoint(&gateway), endpoint(&gateway));
    let mut spi = 0x1000;
    let start = Instant::now();
    let remote = SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 500);
    for (n, client) in (0..).zip(&clients) {
        let local = SocketAddr::new(Ipv4Addr::from_bits(0x0a00_0000 + n).into(), 500);
        let child = Some(ChildRequest {
            config: Arc::clone(&client.children[0]),
            acquire: None,
        });
        a.initiate(start, Arc::clone(client), child, local, remote);
        settle(&mut a, &mut b, start, &mut spi);
    }
    println!(
        "{count} IKE SAs with one child SA each in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    for (name, endpoint) in [("initiator", a), ("responder", b)] {
        assert_eq!(
            endpoint.child_sas().count(),
            count as usize,
            "not all have come up"
        );
        let before = allocated();
        drop(endpoint);
        let each = (before - allocated()) as f64 / f64::from(count);
        println!(
            "{name}: {each:.0} octets of heap per IKE SA, {:.2} of 6 KiB",
            each / 6144.0
        );
    }
}
