//! ipsec.secrets.

use std::path::Path;

use cygnet_config::{Loaded, Report, load};
use cygnet_engine::{SecretEntry, SecretKind, SecretOwner};
use cygnet_ike::Identity;

use crate::support::Files;

fn read(text: &str) -> Result<Loaded, Report> {
    let files = Files::new([("/etc/ipsec.conf", ""), ("/etc/ipsec.secrets", text)]);
    load(
        Path::new("/etc/ipsec.conf"),
        Some(Path::new("/etc/ipsec.secrets")),
        &files,
    )
}

fn entries(text: &str) -> Vec<SecretEntry> {
    let loaded = read(text).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(loaded.warnings, []);
    loaded.set.secrets.entries
}

fn owner(text: &str) -> SecretOwner {
    SecretOwner::Id(text.parse::<Identity>().expect("an identity"))
}

#[test]
fn pre_shared_keys_in_all_forms() {
    let text = r#"
# comment
@west @east : PSK "with spaces # and signs"
192.0.2.1 %any: PSK 'single "quotes"'
2001:db8::1
	%any6 # continued
	: psk
	0x0001ff
west@example.com : PSK 0sZm9vYmFy
: PSK 0ttext
%any @[key] : "without a word"
"#;
    let got: Vec<_> = entries(text)
        .into_iter()
        .map(|e| {
            assert_eq!(e.kind, SecretKind::Psk);
            (e.owners, e.secret.as_ref().to_vec())
        })
        .collect();
    assert_eq!(
        got,
        [
            (
                vec![owner("@west"), owner("@east")],
                b"with spaces # and signs".to_vec()
            ),
            (
                vec![owner("192.0.2.1"), SecretOwner::AnyV4],
                b"single \"quotes\"".to_vec()
            ),
            (
                vec![owner("2001:db8::1"), SecretOwner::AnyV6],
                vec![0, 1, 255]
            ),
            (vec![owner("west@example.com")], b"foobar".to_vec()),
            (vec![], b"text".to_vec()),
            (
                vec![SecretOwner::AnyV4, owner("@[key]")],
                b"without a word".to_vec()
            ),
        ]
    );
}

#[test]
fn entries_know_where_they_were_written() {
    let got = entries("\n@west @east : PSK \"x\"\n");
    assert_eq!(got[0].origin.to_string(), "/etc/ipsec.secrets:2:15");
}

#[test]
fn other_kinds_are_known_and_warned_of() {
    let text = ": RSA {\n\tModulus: 0x12\n\t}\n: PPKS \"id\" \"secret\"\n@user : XAUTH \"password\"\n@a : ECDSA x\n";
    let loaded = read(text).unwrap_or_else(|report| panic!("{report}"));
    let said: String = loaded.warnings.iter().map(|w| format!("{w}\n")).collect();
    insta::assert_snapshot!(said);
    let [ppk, xauth] = loaded.set.secrets.entries.as_slice() else {
        panic!("two entries")
    };
    assert_eq!((ppk.kind, &ppk.name[..]), (SecretKind::Ppk, &b"id"[..]));
    assert_eq!(ppk.secret.as_ref(), b"secret");
    assert_eq!(xauth.kind, SecretKind::Xauth);
}

#[test]
fn includes() {
    let files = Files::new([
        ("/etc/ipsec.conf", ""),
        (
            "/etc/ipsec.secrets",
            "@a : PSK \"1\"\ninclude ipsec.d/*.secrets\n@z : PSK \"4\"\n",
        ),
        ("/etc/ipsec.d/2.secrets", "@c : PSK \"3\"\n"),
        ("/etc/ipsec.d/1.secrets", "@b : PSK \"2\""),
    ]);
    let read = |files: &Files| {
        load(
            Path::new("/etc/ipsec.conf"),
            Some(Path::new("/etc/ipsec.secrets")),
            files,
        )
    };
    let loaded = read(&files).unwrap_or_else(|report| panic!("{report}"));
    let secrets: Vec<_> = loaded
        .set
        .secrets
        .entries
        .iter()
        .map(|e| e.secret.as_ref().to_vec())
        .collect();
    assert_eq!(secrets, [b"1", b"2", b"3", b"4"]);
    let files = Files::new([
        ("/etc/ipsec.conf", ""),
        ("/etc/ipsec.secrets", "include ipsec.secrets\n"),
    ]);
    assert!(
        read(&files)
            .expect_err("a circle")
            .to_string()
            .contains("nested more than 10 deep")
    );
}

#[test]
fn mistakes_are_shown_and_secrets_are_not() {
    let cases = [
        "@west @east PSK \"geheim\"\n",
        "@west : PKS \"geheim\"\n",
        "@west : geheim\n",
        "@west : PSK \"geheim\n",
        "@west : PSK geheim\n",
        "@west : PSK 0xgeheim\n",
        "@west : PSK 0sgeheim!\n",
        "@west : PSK \"geheim\" # the old one was \"geheim\"\n\tgeheim\n",
        "@west : PSK \"gehe\"im\n",
        "@west : PSK\n",
        "@west :\n",
        "@west : PSK \"\"\n",
        "%west : PSK \"geheim\"\n",
        "\"C=CH, CN=west\" : PSK \"geheim\"\n",
        "  @west : PSK \"geheim\"\n",
        "@west : EAP \"geheim\"\n",
        "@west : PPKS\n",
        "@west : PPKS \"id\"\n",
        "include\n",
        "include a b\n",
        "include missing\n",
    ];
    let said: String = cases
        .iter()
        .map(|text| format!("{}\n", read(text).expect_err("wrong")))
        .collect();
    assert!(!said.contains("geheim"), "{said}");
    insta::assert_snapshot!(said);
}
