//! docs/algorithms.md is written from the code: every algorithm, its names, and what RFC 8221 and RFC 8247 say of it.

use std::fmt::Write as _;
use std::path::Path;

use cygnet_crypto::{Encryption, Integrity, KeyExchange, Prf};

/// Status in RFC 8247 (IKEv2) and RFC 8221 (ESP), by the name in the registry. What is not here they do not mention, and
/// MAY stands for that (RFC 8247 §1.3, RFC 8221 §2).
const STATUS: &[(&str, &str, &str)] = &[
    ("ENCR_3DES", "MAY", "SHOULD NOT"),
    ("ENCR_NULL", "MUST NOT", "MUST"),
    ("ENCR_AES_CBC", "MUST", "MUST"),
    ("ENCR_AES_CCM_8", "SHOULD (IoT)", "SHOULD (IoT)"),
    ("ENCR_AES_GCM_16", "SHOULD", "MUST"),
    ("ENCR_CHACHA20_POLY1305", "SHOULD", "SHOULD"),
    ("PRF_HMAC_SHA2_256", "MUST", ""),
    ("PRF_HMAC_SHA2_512", "SHOULD+", ""),
    ("PRF_HMAC_SHA1", "MUST-", ""),
    ("PRF_AES128_XCBC", "SHOULD (IoT)", ""),
    ("AUTH_HMAC_SHA2_256_128", "MUST", "MUST"),
    ("AUTH_HMAC_SHA2_512_256", "SHOULD", "SHOULD"),
    ("AUTH_HMAC_SHA1_96", "MUST-", "MUST-"),
    ("AUTH_AES_XCBC_96", "SHOULD (IoT)", "SHOULD (IoT)"),
    ("2048-bit MODP Group", "MUST", ""),
    ("256-bit random ECP group", "SHOULD", ""),
    ("1536-bit MODP Group", "SHOULD NOT", ""),
    ("1024-bit MODP Group", "SHOULD NOT", ""),
];

/// What the RFCs demand (MUST, SHOULD) or forbid and is not there, with the reason.
const HEAD: &str = "\
# Algorithms

*Written by a test of `crates/crypto` from what the code has; change it there.*

The columns \"IKE\" and \"ESP\" give the status in RFC 8247 and RFC 8221; \"MAY\" is what they do not
mention, \"—\" what is not used there. **Default** algorithms are offered without being named in
`ike=` or `esp=`; the others only where they are named. Weak ones are named with a warning.

All are there in the user-space data plane and in IKE. The kernel's plane has what the kernel has
been built with, and no ciphers with implicit IV: they need `dataplane=userspace`.
";

const TAIL: &str = "
## What is not there

| | why |
|---|---|
| DES, Blowfish, IDEA, HMAC-MD5, the 768-bit MODP group, group 22 | RFC 8221 and RFC 8247: MUST NOT |
| groups 23 and 24 | RFC 8247: SHOULD NOT; small subgroups, and seeds that nobody published |
| Brainpool curves, Curve448 | no maintained library in Rust has them in constant time |
| Camellia in counter mode and CCM, CAST, Serpent, Twofish | nobody asks for them |
| HMAC-SHA-256 truncated to 96 bits | an error of old kernels |
";

fn status(name: &str) -> (&'static str, &'static str) {
    STATUS
        .iter()
        .find(|(known, _, _)| *known == name)
        .map_or(("MAY", "MAY"), |(_, ike, esp)| (*ike, *esp))
}

fn default_or(is_default: bool, weakness: Option<&str>) -> String {
    match (is_default, weakness) {
        (true, _) => "**default**".to_owned(),
        (false, Some(weakness)) => format!("weak: {weakness}"),
        (false, None) => String::new(),
    }
}

fn document() -> String {
    let mut out = HEAD.to_owned();
    let defaults = cygnet_crypto::EspProposal::default_list();
    out += "\n## Encryption\n\n| number | ipsec.conf | swanctl.conf | RFC's name | IKE | ESP | |\n|---|---|---|---|---|---|---|\n";
    for e in Encryption::ALL {
        let (ike, esp) = status(e.iana_name());
        let ike = if e.is_for_ike() { ike } else { "—" };
        let is_default = defaults.iter().any(|p| p.encryption.contains(&e));
        let _ = writeln!(
            out,
            "| {} | `{}` | `{}` | {} | {ike} | {esp} | {} |",
            e.iana_id(),
            e.ipsec_conf_name(),
            e.strongswan_name(),
            e.iana_name(),
            default_or(is_default, e.weakness()),
        );
    }
    out += "\n## Integrity\n\n| number | ipsec.conf | swanctl.conf | RFC's name | IKE | ESP | |\n|---|---|---|---|---|---|---|\n";
    for i in Integrity::ALL {
        let (ike, esp) = status(i.iana_name());
        let _ = writeln!(
            out,
            "| {} | `{}` | `{}` | {} | {ike} | {esp} | {} |",
            i.iana_id(),
            i.ipsec_conf_name(),
            i.strongswan_name(),
            i.iana_name(),
            default_or(Integrity::DEFAULT.contains(&i), i.weakness()),
        );
    }
    out += "\n## Pseudorandom functions\n\n| number | ipsec.conf | swanctl.conf | RFC's name | IKE | |\n|---|---|---|---|---|---|\n";
    for p in Prf::ALL {
        let _ = writeln!(
            out,
            "| {} | `{}` | `{}` | {} | {} | {} |",
            p.iana_id(),
            p.ipsec_conf_name(),
            p.strongswan_name(),
            p.iana_name(),
            status(p.iana_name()).0,
            default_or(Prf::DEFAULT.contains(&p), p.weakness()),
        );
    }
    out += "\n## Key exchange\n\nEach can be an additional key exchange too (`;addke1=…` to `;addke7=…`, in swanctl.conf `-ke1_…`).\n\n| number | ipsec.conf | swanctl.conf | RFC's name | IKE | |\n|---|---|---|---|---|---|\n";
    for k in KeyExchange::ALL {
        let _ = writeln!(
            out,
            "| {} | `{}` | `{}` | {} | {} | {} |",
            k.iana_id(),
            k.ipsec_conf_name(),
            k.strongswan_name(),
            k.iana_name(),
            status(k.iana_name()).0,
            default_or(KeyExchange::DEFAULT.contains(&k), k.weakness()),
        );
    }
    out + TAIL
}

#[test]
fn the_documentation_says_what_the_code_has() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/algorithms.md");
    let expected = document();
    if std::env::var_os("CYGNET_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).expect("the documentation can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/algorithms.md is not what the code says; \
         write it anew with `CYGNET_UPDATE_DOCS=1 cargo test -p cygnet-crypto --test documentation`"
    );
}

/// Whatever the RFCs demand is there, and whatever they discourage has a warning.
#[test]
fn the_code_has_what_the_rfcs_demand() {
    for (name, ike, esp) in STATUS {
        let encryption: Vec<_> = (Encryption::ALL.into_iter())
            .filter(|e| e.iana_name() == *name)
            .collect();
        let weak = encryption.iter().any(|e| e.weakness().is_some())
            || Integrity::ALL
                .iter()
                .any(|i| i.iana_name() == *name && i.weakness().is_some())
            || Prf::ALL
                .iter()
                .any(|p| p.iana_name() == *name && p.weakness().is_some())
            || KeyExchange::ALL
                .iter()
                .any(|k| k.iana_name() == *name && k.weakness().is_some());
        let known = !encryption.is_empty()
            || Integrity::ALL.iter().any(|i| i.iana_name() == *name)
            || Prf::ALL.iter().any(|p| p.iana_name() == *name)
            || KeyExchange::ALL.iter().any(|k| k.iana_name() == *name);
        assert!(known, "{name}");
        let discouraged = |status: &str| matches!(status, "SHOULD NOT" | "MUST-");
        assert_eq!(weak, discouraged(ike) || discouraged(esp), "{name}");
        // ENCR_NULL: MUST NOT in IKE.
        if *ike == "MUST NOT" {
            assert!(encryption.iter().all(|e| !e.is_for_ike()), "{name}");
        }
    }
}
