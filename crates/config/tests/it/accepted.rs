//! What is right, and what it means.

use std::path::Path;
use std::time::Duration;

use cygnet_config::{Section, Severity, Status, load};
use cygnet_crypto::Encryption;
use cygnet_engine::{ConnectionKind, HostSpec, Origin, PlaneChoice, SecretKind, Setup, Shunt, StartAction};
use cygnet_ike::{Encapsulation, Identity, TsTemplate};
use cygnet_ipsec::Mark;

use crate::support::{Files, accept, conn, connection};

/// The files of `examples/`, read from disk.
struct Disk;

impl cygnet_config::Loader for Disk {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn glob(&self, _: &str) -> std::io::Result<Vec<std::path::PathBuf>> {
        Ok(Vec::new())
    }
}

fn net(text: &str) -> TsTemplate {
    TsTemplate::prefix(text.parse().expect("a network"))
}

#[test]
fn the_examples_of_the_repository_load() {
    for side in ["west", "east"] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/site-to-site").join(side);
        let loaded = load(&dir.join("ipsec.conf"), Some(&dir.join("ipsec.secrets")), &Disk)
            .unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(loaded.warnings, []);
        let [office] = loaded.set.connections.as_slice() else { panic!("one connection") };
        assert_eq!(office.name, "office");
        assert_eq!(office.left.host.value, HostSpec::Address("192.0.2.1".parse().expect("an address")));
        assert_eq!(office.left.subnets, [net("10.1.0.0/24"), net("2001:db8:1::/64")]);
        assert_eq!(office.plane, PlaneChoice::Userspace);
        assert_eq!(office.ike.proposals.value[0].encryption, [Encryption::Aes256Gcm16]);
        let [secret] = loaded.set.secrets.entries.as_slice() else { panic!("one secret") };
        assert_eq!(secret.kind, SecretKind::Psk);
        assert_eq!(secret.owners.len(), 2);
    }
}
