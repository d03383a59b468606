//! What is wrong, and what is said about it.

use std::fmt::Write;

use crate::support::{conn, load_text, refuse};

/// Each text with everything that is said about it.
fn said(cases: &[String]) -> String {
    let mut out = String::new();
    for case in cases {
        match load_text(case) {
            Err(report) => writeln!(out, "{report}").expect("a string"),
            Ok(loaded) => panic!("nothing is wrong with\n{case}\n{loaded:?}"),
        }
    }
    out
}

fn lines(cases: &[&str]) -> String {
    said(&cases.iter().map(|lines| conn(lines)).collect::<Vec<_>>())
}

fn texts(cases: &[&str]) -> String {
    said(&cases.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
}

#[test]
fn redirection_to_nowhere() {
    let cases = [
        (
            "send-redirect=yes",
            "without `redirect-to=` there is nowhere to go",
        ),
        (
            "redirect-to=192.0.2.0/24",
            "`192.0.2.0/24`: neither an address nor the name of a host",
        ),
        (
            "accept-redirect-to=gw.example.com;",
            "neither an address nor",
        ),
        ("send-redirect=perhaps", "unknown value"),
    ];
    for (line, expected) in cases {
        let said = refuse(&conn(line));
        assert!(said.contains(expected), "{said}");
    }
    let said = refuse("config setup\n global-redirect=auto\n");
    assert!(said.contains("without `global-redirect-to=`"), "{said}");
}

#[test]
fn sections() {
    insta::assert_snapshot!(texts(&[
        "con office\n left=192.0.2.1\n",
        "left=192.0.2.1\n",
        " left=192.0.2.1\n",
        "conn a\n conn b\n",
        "conn\n",
        "conn a b\n",
        "config stup\n",
        "conn %defualt\n",
        "conn a\n auto=ignore\nconn a\n auto=add\n",
        "conn %default\n also=a\n",
        "conn a\n leftid=\"west\n",
        "conn a\n leftsubnet={10.0.0.0/8\n",
    ]));
}

#[test]
fn keywords() {
    insta::assert_snapshot!(texts(&[
        "conn a\n leftsubent=10.0.0.0/8\n",
        "conn a\n subnet=10.0.0.0/8\n",
        "conn a\n leftauto=add\n",
        "conn a\n uniqueids=yes\n",
        "config setup\n auto=add\n",
        "config setup\n unqueids=yes\n",
        "conn a\n frobnicate=yes\n",
        "conn a\n left 192.0.2.1\n",
    ]));
}

#[test]
fn hosts_and_networks() {
    insta::assert_snapshot!(lines(&[
        "leftsubnet=10.1.0.0/33",
        "leftsubnet=10.0.0.0/8, 10.1.2.3/16",
        "leftsubnet=10.0.0.0/8/tpc/22",
        "leftsubnet=10.0.0.0/8/tcp/22\n leftprotoport=udp",
        "rightid=%fromcert",
        "rightid=\"C=CH, CN=east\"",
        "leftsourceip=10.0.0",
        "type=transport\n rightsubnet=10.0.0.0/8",
        "ah=sha1\n esp=aes",
        "ah=sha1\n phase2=esp",
        "ah=sha1\n encapsulation=yes",
        "phase2=ah+esp",
        "sec-label=ö",
        "label-mode=system",
        "phase2=ah\n esp=aes_gcm",
        "type=beet\n rightsubnet=10.0.0.0/8",
        "type=beet\n rightsubnet=10.0.0.1/32,10.0.0.2/32",
    ]));
}

#[test]
fn ends() {
    let ends =
        |left: &str, right: &str| format!("conn c\n{left}{right} authby=secret\n auto=add\n");
    insta::assert_snapshot!(said(&[
        ends(" left=192.0.2.1\n", ""),
        ends(" left=%any\n", " right=%any\n"),
        ends(" left=192.0.2.1\n", " right=192.0.2.1\n"),
        ends(" left=192.0.2.1\n", " right=2001:db8::1\n"),
        ends(" left=%defaultroute\n", " right=%eth0\n"),
        ends(" left=192.0.2.300\n", " right=%any\n"),
        ends(" left=%group\n", " right=%any\n"),
    ]));
}

#[test]
fn algorithms() {
    insta::assert_snapshot!(lines(&[
        "ike=aes_gcm257-sha2_256-dh31",
        "ike=aes256-sha2_256-dh32",
        "esp=aes_gcm256-dh31;addke8=ml_kem_768",
        "esp=aes_gcm256, des-sha1",
        "esp=aes_gcm256;sn=yes\n esn=no",
        "esp=",
        "esp=aes_gcm_16_iiv_256",
        "esn=yes\n replay-window=0",
    ]));
}

#[test]
fn values() {
    insta::assert_snapshot!(lines(&[
        "type=tunel",
        "rekey=perhaps",
        "ikelifetime=8y",
        "lifetime=0",
        "ipsec-max-bytes=1kB",
        "reqid=20000",
        "replay-window=5000",
        "mark=0x1f/0xf0",
        "mark=1\n mark-out=2",
        "mark=-1",
        "dataplane=user",
        "retransmit-interval=5s\n retransmit-timeout=2s",
        "dpddelay=",
        "iptfs=yes\n type=transport",
        "iptfs=yes\n compress=yes",
        "iptfs=yes\n tfc=mtu",
        "iptfs=yes\n phase2=ah",
        "iptfs-packet-size=20",
        "iptfs-drop-time=2h",
    ]));
    // The support's connection says these two itself, and the first one counts.
    insta::assert_snapshot!(
        "first_values",
        texts(&[
            "conn a\n auto=yes\n",
            "conn a\n left=192.0.2.1\n right=192.0.2.2\n auto=add\n authby=secert\n",
            "conn a\n left=192.0.2.1\n right=192.0.2.2\n auto=add\n authby=never\n",
            "conn a\n left=192.0.2.1\n right=192.0.2.2\n auto=add\n leftauth=secret\n",
            "conn a\n left=192.0.2.1\n right=192.0.2.2\n auto=add\n",
        ])
    );
}

#[test]
fn not_supported() {
    insta::assert_snapshot!(lines(&[
        "keyexchange=ikev1",
        "ikev2=never",
        "phase2=ah+esp",
        "vti-interface=vti0",
        "leftcert=west",
        "leftauth=rsasig\n rightauth=rsasig",
        "leftupdown=/usr/local/bin/mine",
        "rightikeport=1500",
    ]));
}

#[test]
fn interfaces() {
    insta::assert_snapshot!(lines(&[
        "ipsec-interface=4294967295",
        "ipsec-interface=0x1",
        "ipsec-interface=on",
        "leftinterface-ip=10.9.0.1/24",
        "ipsec-interface=1\n leftinterface-ip=10.9.0.1",
    ]));
}

#[test]
fn also() {
    insta::assert_snapshot!(texts(&[
        "conn a\n also=bsae\nconn base\n left=192.0.2.1\n",
        "conn a\n also=b\nconn b\n also=c\nconn c\n also=a\n",
        "conn a\n also=a\n",
    ]));
    let mut deep = String::new();
    for i in 0..150 {
        writeln!(deep, "conn c{i}\n also=c{}", i + 1).expect("a string");
    }
    deep.push_str("conn c150\n");
    let report = refuse(&deep);
    assert!(report.contains("nested more than 100 deep"), "{report}");
}

#[test]
fn a_mistake_that_several_connections_take_over_is_reported_once() {
    let ends = " left=192.0.2.1\n right=192.0.2.2\n auto=add\n also=base\n";
    let text = format!(
        "conn %default\n rekey=perhaps\nconn a\n{ends}conn b\n{ends}conn base\n authby=rsasig\n mtu=x\n"
    );
    insta::assert_snapshot!(refuse(&text));
}

#[test]
fn what_has_no_effect_is_only_warned_of() {
    let loaded = load_text(&conn(
        "rightnexthop=192.0.2.254\n sendca=none\n clientaddrfamily=ipv4\n aggressive=yes\n rekey=yes\n rekey=no",
    ));
    let loaded = loaded.unwrap_or_else(|report| panic!("{report}"));
    let warnings: String = loaded.warnings.iter().map(|w| format!("{w}\n")).collect();
    insta::assert_snapshot!(warnings);
}

#[test]
fn weak_algorithms_are_warned_of_where_they_are_named() {
    let loaded = load_text(&conn(
        "ike=aes_gcm256-sha2_256-dh31, 3des-sha1;dh2, aes128-sha1;dh5\n esp=3des-sha1, null-sha1",
    ));
    let loaded = loaded.unwrap_or_else(|report| panic!("{report}"));
    let warnings: String = loaded.warnings.iter().map(|w| format!("{w}\n")).collect();
    insta::assert_snapshot!(warnings);
}

#[test]
fn a_flood_of_mistakes_is_cut_but_still_refused() {
    let mut text = String::from("conn a\n");
    for i in 0..500 {
        writeln!(text, " fragmentation{i}=yes").expect("a string");
    }
    let report = load_text(&text).expect_err("wrong");
    assert_eq!(report.diagnostics.len(), 100);
}
