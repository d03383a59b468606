//! What is right, and what it means.

use std::path::Path;
use std::time::Duration;

use cygnet_config::{Section, Severity, Status, load};
use cygnet_crypto::{Encryption, KeyExchange};
use cygnet_engine::{
    ChildOptions, ConnectionKind, DeadPeerAction, HostSpec, LabelMode, Origin, PlaneChoice,
    SecretKind, Setup, Shunt, StartAction,
};
use cygnet_ike::{
    AcceptRedirect, Childless, Encapsulation, Fragmentation, Gateway, Identity, PpkPolicy,
    SendRedirect, TsTemplate, Uniqueness,
};
use cygnet_ipsec::{Iptfs, Mark, Mode, Protocol, SecurityLabel};

use crate::support::{Files, accept, conn, connection, refuse};

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
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../examples/site-to-site")
            .join(side);
        let loaded = load(
            &dir.join("ipsec.conf"),
            Some(&dir.join("ipsec.secrets")),
            &Disk,
        )
        .unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(loaded.warnings, []);
        let [office] = loaded.set.connections.as_slice() else {
            panic!("one connection")
        };
        assert_eq!(office.name, "office");
        assert_eq!(
            office.left.host.value,
            HostSpec::Address("192.0.2.1".parse().expect("an address"))
        );
        assert_eq!(
            office.left.subnets,
            [net("10.1.0.0/24"), net("2001:db8:1::/64")]
        );
        assert_eq!(office.plane, PlaneChoice::Userspace);
        assert_eq!(
            office.ike.proposals.value[0].encryption,
            [Encryption::Aes256Gcm16]
        );
        let [secret] = loaded.set.secrets.entries.as_slice() else {
            panic!("one secret")
        };
        assert_eq!(secret.kind, SecretKind::Psk);
        assert_eq!(secret.owners.len(), 2);
    }
}

/// In the style of libreswan's documentation: a template, a default, two gateways.
const LIBRESWAN_STYLE: &str = r#"
# /etc/ipsec.conf - Libreswan 4.0 configuration file
version 2.0

config setup
	# Normally, pluto logs via syslog.
	protostack=netkey
	uniqueids = no
	x-note = the user's own

conn %default
	ikelifetime=1h
	keyexchange=ikev2
	authby=secret

conn %default
	ikelifetime=2h # the last one wins

conn mysubnet
	also=mytunnel
	leftsubnet=192.0.1.0/24
	rightsubnet="192.0.2.0/24"
	auto=start

conn mysubnet6
	also=mytunnel
	leftsubnet=2001:db8:0:1::/64
	rightsubnet={ 2001:db8:0:2::/64 192.0.3.0/24 }
	ikelifetime=3h
	auto=route

conn mytunnel
	leftid=@west
	left=192.1.2.23
	rightid=@east
	right=192.1.2.45
	X_colour=blue
"#;

#[test]
fn a_file_in_libreswans_style_means_the_same() {
    let loaded = accept(LIBRESWAN_STYLE);
    let said: Vec<_> = loaded.warnings.iter().map(|w| w.message.as_str()).collect();
    assert_eq!(said, [""; 0]);
    assert_eq!(loaded.set.setup.uniqueness, Uniqueness::No);
    let names: Vec<_> = loaded
        .set
        .connections
        .iter()
        .map(|c| c.name.as_str())
        .collect();
    assert_eq!(names, ["mysubnet", "mysubnet6", "mytunnel"]);
    let [four, six, template] = loaded.set.connections.as_slice() else {
        panic!("three connections")
    };
    assert_eq!(template.start, StartAction::Ignore);
    assert_eq!(
        (four.start, six.start),
        (StartAction::Start, StartAction::OnDemand)
    );
    assert_eq!(
        four.left.id.as_ref().map(|id| &id.value),
        Some(&Identity::Fqdn("west".into()))
    );
    assert_eq!(four.left.subnets, [net("192.0.1.0/24")]);
    assert_eq!(
        six.right.subnets,
        [net("2001:db8:0:2::/64"), net("192.0.3.0/24")]
    );
    assert_eq!(four.ike.lifetime, Duration::from_secs(2 * 3600));
    assert_eq!(six.ike.lifetime, Duration::from_secs(3 * 3600));
}

#[test]
fn every_value_knows_where_it_was_written() {
    let loaded = accept(LIBRESWAN_STYLE);
    let [four, ..] = loaded.set.connections.as_slice() else {
        panic!("connections")
    };
    let text = |origin: &Origin| match origin {
        Origin::File(span) => LIBRESWAN_STYLE[span.start..span.end].to_owned(),
        other => other.to_string(),
    };
    assert_eq!(text(four.origin()), "mysubnet");
    assert_eq!(four.origin().to_string(), "/etc/ipsec.conf:19:6");
    assert_eq!(text(&four.left.host.origin), "192.1.2.23");
    assert_eq!(
        text(&four.right.id.as_ref().expect("an id").origin),
        "@east"
    );
    assert_eq!(text(&four.ike.proposals.origin), "default");
}

#[test]
fn the_ends() {
    let c = connection(
        "leftid=@[north key]\n rightid=east@example.com\n rightikeport=500\n rightnexthop=%direct\n \
         leftsourceip=10.0.0.1,2001:db8::1\n leftprotoport=tcp/22\n rightsubnet=10.2.0.0/16/udp/53",
    );
    assert_eq!(
        c.left.id.map(|id| id.value),
        Some(Identity::KeyId((*b"north key").into()))
    );
    assert_eq!(
        c.right.id.map(|id| id.value),
        Some(Identity::Email("east@example.com".into()))
    );
    assert_eq!(c.left.source_ips.len(), 2);
    assert_eq!(
        c.left.subnets,
        [TsTemplate::dynamic().with_protocol(6, (22, 22))]
    );
    assert_eq!(
        c.right.subnets,
        [net("10.2.0.0/16").with_protocol(17, (53, 53))]
    );
    assert_eq!(connection("").right.subnets, [TsTemplate::dynamic()]);
}

#[test]
fn hosts_are_named_in_several_ways() {
    let hosts = |left: &str, right: &str| {
        let loaded = accept(&format!(
            "conn c\n left={left}\n right={right}\n authby=psk\n auto=add\n"
        ));
        let [c] = loaded.set.connections.as_slice() else {
            panic!("one connection")
        };
        (c.left.host.value.clone(), c.right.host.value.clone())
    };
    assert_eq!(
        hosts("%defaultroute", "%any"),
        (HostSpec::DefaultRoute, HostSpec::Any)
    );
    assert_eq!(
        hosts("%eth1", "gw.example.com"),
        (
            HostSpec::Interface("eth1".into()),
            HostSpec::Name("gw.example.com".into())
        )
    );
}

#[test]
fn lives_and_retries() {
    let c = connection(
        "ikelifetime=1h\n lifetime=30m\n ipsec-max-bytes=1GiB\n ipsec-max-packets=1Mi\n rekey=no\n rekeymargin=3m\n \
         rekeyfuzz=50%\n retransmit-interval=250\n retransmit-timeout=20s\n dpddelay=30",
    );
    assert_eq!(
        (c.ike.lifetime, c.child.lifetime),
        (Duration::from_secs(3600), Duration::from_secs(1800))
    );
    assert_eq!(
        (c.child.max_bytes, c.child.max_packets),
        (Some(1 << 30), Some(1 << 20))
    );
    assert_eq!(
        (c.child.rekey, c.child.rekey_margin, c.child.rekey_fuzz),
        (false, Duration::from_secs(180), 50)
    );
    assert_eq!(c.ike.retransmit.initial, Duration::from_millis(250));
    assert_eq!(c.ike.retransmit.timeout, Duration::from_secs(20));
    assert_eq!(c.ike.liveness, Some(Duration::from_secs(30)));
}

#[test]
fn dead_peers_and_attempts() {
    let of = |body: &str| {
        let ike = connection(&format!("dpddelay=30\n {body}")).ike;
        (ike.liveness.is_some(), ike.dead_peer)
    };
    assert_eq!(of("rekey=yes"), (true, None));
    assert_eq!(of("dpdaction=none"), (false, None));
    assert_eq!(of("dpdaction=clear"), (true, Some(DeadPeerAction::Clear)));
    assert_eq!(of("dpdaction=hold"), (true, Some(DeadPeerAction::Trap)));
    assert_eq!(of("dpdaction=trap"), (true, Some(DeadPeerAction::Trap)));
    assert_eq!(
        of("dpdaction=restart"),
        (true, Some(DeadPeerAction::Restart))
    );
    assert_eq!(
        connection("ppk=insist\n ppk-ids=one,two").ike.ppk_ids,
        [b"one".to_vec(), b"two".to_vec()]
    );
    assert_eq!(connection("ppk=insist").ike.ppk, PpkPolicy::Insist);
    assert_eq!(connection("ppk=yes").ike.ppk, PpkPolicy::Propose);
    assert!(connection("intermediate=yes").ike.intermediate);
    let childless = |text: &str| connection(&format!("childless={text}")).ike.childless;
    assert_eq!(connection("").ike.childless, Childless::Allow);
    assert_eq!(
        ["never", "allow", "prefer", "force"].map(childless),
        [
            Childless::Never,
            Childless::Allow,
            Childless::Prefer,
            Childless::Force
        ]
    );
    assert_eq!(
        connection("inactivity=5m").child.inactivity,
        Some(Duration::from_secs(300))
    );
    let ike = connection(
        "accept-redirect=yes\n accept-redirect-to=192.0.2.9, gw.example.com\n send-redirect=auto\n redirect-to=192.0.2.8",
    )
    .ike;
    let gateways = |texts: &[&str]| -> Vec<Gateway> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    };
    let listed = gateways(&["192.0.2.9", "gw.example.com"]);
    assert_eq!(ike.accept_redirect, AcceptRedirect::To(listed));
    assert_eq!(ike.send_redirect, SendRedirect::UnderLoad);
    assert_eq!(ike.redirect_to, gateways(&["192.0.2.8"]));
    let accepted = |text: &str| connection(text).ike.accept_redirect;
    assert_eq!(accepted("accept-redirect=yes"), AcceptRedirect::Any);
    assert_eq!(accepted("accept-redirect-to=192.0.2.9"), AcceptRedirect::No);
    assert_eq!(
        connection("send-redirect=never").ike.send_redirect,
        SendRedirect::No
    );
    let ike = connection("reauth=yes\n initial-contact=no").ike;
    assert_eq!((ike.reauth, ike.initial_contact), (true, false));
    let tries = |text: &str| connection(&format!("keyingtries={text}")).ike.keying_tries;
    assert_eq!((tries("%forever"), tries("0")), (None, None));
    assert_eq!(tries("3").map(u32::from), Some(3));
}

#[test]
fn packets() {
    let c = connection(
        "type=transport\n dataplane=kernel\n negotiationshunt=passthrough\n failureshunt=drop\n priority=7\n \
         reqid=100\n mtu=1400\n encapsulation=yes\n decap-dscp=yes\n encap-dscp=no\n nopmtudisc=yes\n mark-in=1\n \
         mark-out=0x20/0xf0",
    );
    assert_eq!(
        (c.kind, c.plane),
        (ConnectionKind::Transport, PlaneChoice::Kernel)
    );
    assert_eq!(c.start, StartAction::Add);
    assert_eq!(
        (c.child.negotiation_shunt, c.child.failure_shunt),
        (Shunt::Passthrough, Shunt::Drop)
    );
    assert_eq!(
        (c.child.priority, c.child.reqid, c.child.mtu),
        (Some(7), Some(100), Some(1400))
    );
    assert_eq!(c.ike.encapsulation, Encapsulation::Yes);
    assert!(c.child.decap_dscp && !c.child.encap_dscp && c.child.no_pmtu_disc);
    assert_eq!(
        (c.child.mark_in, c.child.mark_out),
        (
            Mark::exact(1),
            Mark {
                value: 0x20,
                mask: 0xf0
            }
        )
    );
    let c = connection("mark=5");
    assert_eq!(
        (c.child.mark_in, c.child.mark_out),
        (Mark::exact(5), Mark::exact(5))
    );
}

#[test]
fn interfaces() {
    let interface = |lines: &str| {
        connection(lines)
            .child
            .interface
            .map(|i| (i.name(), i.if_id()))
    };
    assert_eq!(interface(""), None);
    assert_eq!(interface("ipsec-interface=no"), None);
    let named = |name: &str, if_id| Some((name.to_owned(), if_id));
    assert_eq!(interface("ipsec-interface=yes"), named("ipsec1", 1));
    assert_eq!(interface("ipsec-interface=0"), named("ipsec0", 0x4000));
    assert_eq!(interface("ipsec-interface=17"), named("ipsec17", 17));
    let c =
        connection("ipsec-interface=1\n leftinterface-ip=10.9.0.1/24,2001:db8::1/64\n metric=5");
    let addresses: Vec<String> = c
        .left
        .interface_ips
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(addresses, ["10.9.0.1/24", "2001:db8::1/64"]);
    assert_eq!((c.child.metric, connection("").child.metric), (5, 1));
    assert!(c.right.interface_ips.is_empty());
}

#[test]
fn the_window() {
    assert_eq!(connection("").ike.window, 1);
    assert_eq!(connection("ike-window=16").ike.window, 16);
    assert!(refuse(&conn("ike-window=0")).contains("1 to 16"));
}

#[test]
fn fragmentation() {
    let of = |lines: &str| {
        let ike = connection(lines).ike;
        (ike.fragmentation, ike.fragment_size)
    };
    assert_eq!(of(""), (Fragmentation::Yes, 1280));
    assert_eq!(
        of("fragmentation=no\n fragment-size=0"),
        (Fragmentation::No, 0)
    );
    assert_eq!(
        of("fragmentation=force\n fragment-size=256"),
        (Fragmentation::Force, 256)
    );
    assert_eq!(of("fragmentation=accept"), (Fragmentation::Accept, 1280));
    let report = refuse(&conn("fragment-size=255\n fragmentation=maybe"));
    assert!(
        report.contains("256 to 65535") && report.contains("`accept`"),
        "{report}"
    );
}

#[test]
fn esn_narrows_the_proposals() {
    let esn = |lines: &str| {
        let proposals = connection(lines).child.proposals.value;
        let first = proposals[0].esn.clone();
        assert!(proposals.iter().all(|p| p.esn == first));
        first
    };
    assert_eq!(esn(""), [true, false]);
    assert_eq!(esn("esn=either"), [true, false]);
    assert_eq!(esn("esn=yes"), [true]);
    assert_eq!(esn("esn=no\n esp=aes_gcm256,aes256-sha2_256"), [false]);
    assert_eq!(esn("replay-window=0"), [false]);
    assert_eq!(connection("replay-window=0").child.replay_window, 0);
}

#[test]
fn forward_secrecy_takes_the_key_exchange_of_the_ike_sa_unless_another_is_named() {
    let methods = |lines: &str| -> Vec<Vec<KeyExchange>> {
        let list = connection(lines).child.proposals.value;
        list.into_iter().map(|p| p.key_exchange).collect()
    };
    let ike = "ike=aes_gcm256-sha2;dh31+dh19\n ";
    let esp = "esp=aes_gcm256,aes_gcm128-dh20";
    let of_ike = vec![KeyExchange::X25519, KeyExchange::Ecp256];
    assert_eq!(
        methods(&format!("{ike}{esp}")),
        [of_ike, vec![KeyExchange::Ecp384]]
    );
    assert_eq!(methods(&format!("{ike}{esp}\n pfs=no")), [vec![], vec![]]);
}

#[test]
fn forward_secrecy_takes_the_additional_key_exchanges_of_the_ike_sa_along() {
    let child = |lines: &str| connection(lines).child;
    let texts = |child: &ChildOptions| -> Vec<String> {
        let list = child.proposals.value.iter();
        list.map(|p| p.to_string()).collect()
    };
    // Nothing configured: hybrid first, each cipher again without.
    let default = child("");
    assert!(default.additional_of_ike);
    let hybrid = |text: &String| text.contains("addke1=ml_kem_768");
    let is_hybrid: Vec<_> = texts(&default).iter().map(hybrid).collect();
    assert_eq!(is_hybrid, [true, true, false, false]);
    let ike = "ike=aes_gcm256-sha2_256;dh31+dh19;addke1=ml_kem_768,aes_gcm256-sha2_256-dh20\n ";
    let both = child(&format!("{ike}esp=aes_gcm256"));
    assert!(both.additional_of_ike);
    assert_eq!(
        texts(&both),
        [
            "aes_gcm_16_256-dh31+dh19;addke1=ml_kem_768",
            "aes_gcm_16_256-dh31+dh19+dh20"
        ]
    );
    // What is named is what is wanted, whatever the IKE SA has.
    let named = child(&format!("{ike}esp=aes_gcm256-dh31;addke2=dh19,aes_gcm128"));
    assert!(!named.additional_of_ike);
    assert_eq!(
        texts(&named),
        [
            "aes_gcm_16_256-dh31;addke2=dh19",
            "aes_gcm_16_128-dh31+dh19+dh20"
        ]
    );
    let without = child(&format!("{ike}esp=aes_gcm256\n pfs=no"));
    assert!(!without.additional_of_ike);
    assert_eq!(texts(&without), ["aes_gcm_16_256"]);
}

#[test]
fn setup_is_merged_from_all_its_sections() {
    let loaded = accept(
        "config setup\n listen=192.0.2.1, 2001:db8::1\n max-halfopen-ike=10\n\nconfig setup\n ddos-ike-threshold=5\n \
         max-halfopen-ike=20\n",
    );
    assert_eq!(
        loaded.set.setup,
        Setup {
            listen: vec![
                "192.0.2.1".parse().expect("an address"),
                "2001:db8::1".parse().expect("an address")
            ],
            max_half_open: 20,
            cookie_threshold: 5,
            ..Setup::default()
        }
    );
    let [warning] = loaded.warnings.as_slice() else {
        panic!("{:?}", loaded.warnings)
    };
    assert_eq!(
        warning.message,
        "`max-halfopen-ike=` replaces the value given at /etc/ipsec.conf:3:2"
    );
    let unique = |text: &str| {
        let setup = accept(&format!("config setup\n uniqueids={text}\n"))
            .set
            .setup;
        setup.uniqueness
    };
    assert_eq!(unique("yes"), Uniqueness::Replace);
    assert_eq!(unique("replace"), Uniqueness::Replace);
    assert_eq!(unique("no"), Uniqueness::No);
    assert_eq!(unique("keep"), Uniqueness::Keep);
    assert_eq!(unique("never"), Uniqueness::Never);
    assert_eq!(
        accept("config setup\n ddos-mode=busy\n")
            .set
            .setup
            .cookie_threshold,
        0
    );
}

#[test]
fn a_connection_that_is_ignored_need_not_be_complete_or_supported() {
    let loaded = accept(
        "conn base\n authby=rsasig\n leftcert=west\n\nconn c\n left=192.0.2.1\n\nconn ok\n left=%any\n right=192.0.2.1\n authby=secret\n",
    );
    let names: Vec<_> = loaded
        .set
        .connections
        .iter()
        .map(|c| c.name.as_str())
        .collect();
    assert_eq!(names, ["ok"]);
    let said: Vec<_> = loaded
        .warnings
        .iter()
        .map(|w| (w.severity, w.message.as_str()))
        .collect();
    assert_eq!(
        said,
        [
            (Severity::Warning, "authby: `rsasig` is not supported yet"),
            (Severity::Warning, "`leftcert=` is not supported yet"),
        ]
    );
}

#[test]
fn what_a_section_lacks_or_contradicts_others_may_add_or_change() {
    let loaded = accept(
        "conn %default\n leftauth=secret\n replay-window=0\n rekeymargin=9h\n\
         conn base\n mark=1\n mark-in=2\n type=transport\n leftsubnet=10.0.0.0/8\n esn=yes\n\
         conn c\n left=192.0.2.1\n right=192.0.2.2\n rightauth=secret\n auto=add\n ipsec-lifetime=10h\n",
    );
    assert_eq!(loaded.set.connections.len(), 1);
    assert_eq!(loaded.warnings, []);
}

#[test]
fn passthrough_needs_nobody_to_authenticate() {
    let loaded = accept(
        "conn p\n type=passthrough\n authby=never\n left=192.0.2.1\n right=%any\n rightsubnet=10.0.0.0/8\n auto=route\n",
    );
    assert_eq!(loaded.set.connections[0].kind, ConnectionKind::Passthrough);
    assert_eq!(loaded.warnings, []);
}

#[test]
fn lives_that_do_not_fit_are_cut_with_a_warning() {
    let loaded = accept(&conn("ikelifetime=2d\n lifetime=10m\n rekeymargin=20m"));
    let c = &loaded.set.connections[0];
    assert_eq!(c.ike.lifetime, Duration::from_secs(24 * 3600));
    assert_eq!(c.child.rekey_margin, Duration::from_secs(300));
    assert_eq!(loaded.warnings.len(), 2);
}

/// The table's defaults are those in force: writing them down changes nothing.
#[test]
fn the_documented_defaults_are_the_real_ones() {
    let plain = accept(&conn(""));
    let setup_plain = accept("config setup\n");
    for keyword in cygnet_config::KEYWORDS
        .iter()
        .filter(|k| k.status == Status::Supported)
    {
        // Defaults in words, and those that the support's connection sets.
        if [
            "",
            "its address",
            "the host itself",
            "a list of strong ones",
        ]
        .contains(&keyword.default)
            || ["auto", "authby"].contains(&keyword.name)
        {
            continue;
        }
        let default = if keyword.default == "2^63" {
            "9223372036854775808"
        } else {
            keyword.default
        };
        match keyword.section {
            Section::Setup => {
                let written = accept(&format!("config setup\n {}={default}\n", keyword.name));
                assert_eq!(written.set, setup_plain.set, "{}", keyword.name);
                assert_eq!(written.warnings, [], "{}", keyword.name);
            }
            Section::Conn => {
                let written = accept(&conn(&format!("{}={default}", keyword.written())));
                assert_eq!(written.set, plain.set, "{}", keyword.written());
                assert_eq!(written.warnings, [], "{}", keyword.written());
            }
        }
    }
}

/// No keyword is called supported that nobody reads.
#[test]
fn every_supported_keyword_is_read() {
    for keyword in cygnet_config::KEYWORDS
        .iter()
        .filter(|k| k.status == Status::Supported)
    {
        let nonsense = "\"%\u{1}/nonsense\"";
        let text = match keyword.section {
            Section::Setup => format!("config setup\n {}={nonsense}\n", keyword.name),
            Section::Conn => format!("conn c\n {}={nonsense}\n", keyword.written()),
        };
        assert!(
            crate::support::load_text(&text).is_err(),
            "{}",
            keyword.written()
        );
    }
}

/// Every other keyword is known by name, on both sides.
#[test]
fn no_keyword_of_the_table_is_unknown() {
    for keyword in cygnet_config::KEYWORDS {
        let names = if keyword.sided {
            vec![
                format!("left{}", keyword.name),
                format!("right{}", keyword.name),
            ]
        } else {
            vec![keyword.name.to_owned()]
        };
        for name in names {
            let text = match keyword.section {
                Section::Setup => format!("config setup\n {name}=x\n"),
                Section::Conn => conn(&format!("{name}=x")),
            };
            let said = match crate::support::load_text(&text) {
                Ok(loaded) => loaded.warnings.iter().map(ToString::to_string).collect(),
                Err(report) => report.to_string(),
            };
            assert!(!said.contains("unknown keyword"), "{name}: {said}");
            if matches!(keyword.status, Status::NotSupportedYet { .. }) {
                assert!(
                    said.starts_with("error") && said.contains("is not supported yet"),
                    "{name}: {said}"
                );
            }
            if let Status::NotSupportedYet { inert } | Status::NoEffectYet { inert } =
                keyword.status
            {
                for value in inert {
                    let loaded =
                        accept(&text.replace(&format!("{name}=x"), &format!("{name}={value}")));
                    assert_eq!(loaded.warnings, [], "{name}={value}");
                }
            }
        }
    }
}

#[test]
fn secrets_are_loaded_with_the_connections() {
    let files = Files::new([
        (
            "/etc/ipsec.conf",
            "conn c\n left=192.0.2.1\n right=192.0.2.2\n authby=secret\n auto=add\n",
        ),
        (
            "/etc/ipsec.secrets",
            "192.0.2.1 192.0.2.2 : PSK \"geheim\"\n",
        ),
    ]);
    let loaded = load(
        Path::new("/etc/ipsec.conf"),
        Some(Path::new("/etc/ipsec.secrets")),
        &files,
    )
    .expect("right");
    assert_eq!(loaded.set.secrets.entries.len(), 1);
    let loaded = load(
        Path::new("/etc/ipsec.conf"),
        Some(Path::new("/etc/none")),
        &files,
    )
    .expect("right");
    assert_eq!(
        loaded.warnings[0].message,
        "/etc/none: no such file, so there are no secrets"
    );
}

#[test]
fn many_connections_are_read_in_time() {
    let mut text = String::from("conn base\n authby=secret\n left=192.0.2.1\n auto=ignore\n");
    for i in 0..3000 {
        text += &format!(
            "conn c{i}\n also=base\n right=10.{}.{}.1\n rightid=@c{i}\n auto=add\n",
            i / 250,
            i % 250
        );
    }
    let start = std::time::Instant::now();
    assert_eq!(accept(&text).set.connections.len(), 3000);
    // A second or so on a busy machine; with the square of the file's length it would be minutes.
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn modes() {
    let mode = |text: &str| connection(text).kind.mode();
    assert_eq!(mode("type=tunnel"), Some(Mode::Tunnel));
    assert_eq!(mode("type=transport"), Some(Mode::Transport));
    assert_eq!(mode("type=beet\n leftsubnet=10.1.0.1/32"), Some(Mode::Beet));
    let tfc = |text: &str| connection(text).child.tfc;
    assert_eq!(
        [tfc("tfc=0"), tfc("tfc=1200"), tfc("tfc=mtu")],
        [0, 1200, u32::MAX]
    );
    assert!(connection("send-no-esp-tfc=yes").child.refuse_tfc);
    assert!(connection("compress=yes").child.compress);
    assert!(connection("fake-strongswan=yes").ike.fake_strongswan);
}

#[test]
fn child_sas_of_single_cpus() {
    let clones = |text: &str| connection(text).child.clones;
    let values = ["no", "0", "7", "256", "yes"].map(|text| clones(&format!("clones={text}")));
    assert_eq!(values, [0, 0, 7, 256, u32::MAX]);
}

#[test]
fn ip_tfs() {
    let iptfs = |text: &str| connection(text).child.iptfs;
    assert_eq!(iptfs("iptfs=no"), None);
    assert_eq!(iptfs("iptfs=yes"), Some(Iptfs::default()));
    let text = "iptfs=yes\n iptfs-fragmentation=no\n iptfs-packet-size=1200\n iptfs-max-queue-size=100000\n \
                iptfs-init-delay=10ms\n iptfs-drop-time=2\n iptfs-reorder-window=8";
    assert_eq!(
        iptfs(text),
        Some(Iptfs {
            dont_fragment: true,
            packet_size: 1200,
            max_queue: 100_000,
            init_delay: Duration::from_millis(10),
            drop_time: Duration::from_secs(2),
            reorder_window: 8,
        })
    );
}

#[test]
fn security_labels() {
    let child = connection("sec-label=system_u:object_r:a_t:s0").child;
    let octets = child.label.as_ref().map(SecurityLabel::as_bytes);
    assert_eq!(octets, Some(&b"system_u:object_r:a_t:s0\0"[..]));
    assert_eq!(child.label_mode, LabelMode::SeLinux);
    let child = connection("policy-label=a\n label-mode=simple").child;
    assert_eq!(
        (child.label.is_some(), child.label_mode),
        (true, LabelMode::Simple)
    );
}

#[test]
fn ah() {
    for text in ["ah=sha2_256-dh31", "phase2=ah\n phase2alg=sha2_256-dh31"] {
        let child = connection(text).child;
        assert_eq!(child.protocol, Protocol::Ah);
        assert_eq!(child.proposals.value[0].to_string(), "sha2_256-dh31");
    }
    let child = connection("phase2=ah").child;
    let proposals = &child.proposals.value;
    assert!(!proposals.is_empty() && proposals.iter().all(|p| p.encryption.is_empty()));
    assert_eq!(connection("phase2=esp").child.protocol, Protocol::Esp);
}
