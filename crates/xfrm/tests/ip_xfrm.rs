//! Against the kernel and iproute2: what we write `ip xfrm` reads in the same way, and the reverse.
//!
//! Policies, defaults and larval SAs need no ESP in the kernel, so this runs wherever there is
//! XFRM and the right to make a network namespace. SAs are compared in the VM scenario.

mod common;

use std::time::{Duration, Instant};

use common::netns::{inside, run, words};
use common::samples::ip;
use cygnet_xfrm::*;
use rustix::io::Errno;

fn selector(src: &str, dst: &str) -> Selector {
    let prefix = |text: &str| {
        let (addr, len) = text.split_once('/').unwrap();
        (ip(addr), len.parse::<u8>().unwrap())
    };
    let ((saddr, prefixlen_s), (daddr, prefixlen_d)) = (prefix(src), prefix(dst));
    Selector {
        daddr: daddr.into(),
        saddr: saddr.into(),
        family: (&daddr).into(),
        prefixlen_d,
        prefixlen_s,
        ..Selector::default()
    }
}

fn policy(selector: Selector, direction: PolicyDirection, priority: u32) -> PolicyInfo {
    PolicyInfo {
        selector,
        direction,
        priority,
        ..PolicyInfo::default()
    }
}

fn template(src: &str, dst: &str, reqid: u32) -> Template {
    Template {
        id: Id {
            daddr: ip(dst).into(),
            spi: 0,
            proto: SaProtocol::ESP,
        },
        family: (&ip(dst)).into(),
        saddr: ip(src).into(),
        reqid,
        mode: Mode::TUNNEL,
        aalgos: u32::MAX,
        ealgos: u32::MAX,
        calgos: u32::MAX,
        ..Template::default()
    }
}

/// As `ip xfrm policy add` says it, for the policies that we write.
const POLICIES: &[&str] = &[
    "src 10.1.0.0/24 dst 10.2.0.0/24 dir out priority 100 \
     tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 7 mode tunnel",
    "src 10.2.0.0/24 dst 10.1.0.0/24 proto tcp sport 443 dir in priority 5 mark 0x5 mask 0xff \
     tmpl src 192.0.2.2 dst 192.0.2.1 proto esp reqid 7 mode tunnel",
    "src 2001:db8:1::/48 dst ::/0 dir fwd priority 9 if_id 0x2a \
     tmpl src 2001:db8::1 dst 2001:db8::2 proto esp reqid 8 mode transport level use \
     tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 9 mode tunnel",
    "src ::/0 dst ::/0 proto 58 type 135 dir out priority 1",
    "src 10.3.0.1/32 dst 10.3.0.2/32 proto udp dport 53 dir out priority 3 action block ptype sub",
];

fn ours() -> Vec<(PolicyInfo, Attributes)> {
    let mut tcp = selector("10.2.0.0/24", "10.1.0.0/24");
    (tcp.proto, tcp.sport, tcp.sport_mask) = (6, 443, 0xffff);
    let mut icmp = selector("::/0", "::/0");
    (icmp.proto, icmp.sport, icmp.sport_mask) = (58, 135, 0xffff);
    let mut dns = selector("10.3.0.1/32", "10.3.0.2/32");
    (dns.proto, dns.dport, dns.dport_mask) = (17, 53, 0xffff);
    let transport = Template {
        mode: Mode::TRANSPORT,
        optional: true,
        ..template("2001:db8::1", "2001:db8::2", 8)
    };
    let block = PolicyInfo {
        action: Action::BLOCK,
        ..policy(dns, PolicyDirection::OUT, 3)
    };
    let one = |src, dst, reqid| Attribute::Templates(vec![template(src, dst, reqid)]);
    vec![
        (
            policy(
                selector("10.1.0.0/24", "10.2.0.0/24"),
                PolicyDirection::OUT,
                100,
            ),
            Attributes(vec![one("192.0.2.1", "192.0.2.2", 7)]),
        ),
        (
            policy(tcp, PolicyDirection::IN, 5),
            Attributes(vec![
                one("192.0.2.2", "192.0.2.1", 7),
                Attribute::Mark(Mark {
                    value: 5,
                    mask: 0xff,
                }),
            ]),
        ),
        (
            policy(selector("2001:db8:1::/48", "::/0"), PolicyDirection::FWD, 9),
            Attributes(vec![
                Attribute::Templates(vec![transport, template("192.0.2.1", "192.0.2.2", 9)]),
                Attribute::IfId(42),
            ]),
        ),
        (policy(icmp, PolicyDirection::OUT, 1), Attributes::new()),
        (
            block,
            Attributes(vec![Attribute::PolicyType(PolicyType::SUB)]),
        ),
    ]
}

/// Without what the kernel chooses: times and index.
fn comparable(dump: Vec<(PolicyInfo, Attributes)>) -> Vec<(PolicyInfo, Attributes)> {
    let mut dump: Vec<_> = dump
        .into_iter()
        .map(|(info, attributes)| {
            let info = PolicyInfo {
                index: 0,
                used: LifetimeUsed::default(),
                ..info
            };
            (info, attributes)
        })
        .collect();
    dump.sort_by_key(|(info, _)| info.priority);
    dump
}

#[test]
fn policies_mean_the_same_to_ip_and_to_us() {
    if !inside("policies_mean_the_same_to_ip_and_to_us", &[]) {
        return;
    }
    let mut client = Client::open().unwrap();

    // They write, we read; and the text that they show for it.
    for text in POLICIES {
        run(&format!("ip xfrm policy add {text}"));
    }
    let by_ip = comparable(client.dump_policies().unwrap());
    let shown_for_theirs = sorted(&run("ip xfrm policy list"));
    client.flush_policies().unwrap();
    client
        .call(&Message {
            body: Body::FlushPolicy,
            attributes: Attributes(vec![Attribute::PolicyType(PolicyType::SUB)]),
        })
        .unwrap();
    assert_eq!(words(&run("ip xfrm policy list")), "");

    // We write, all in one send; we and they read the same as before.
    let requests: Vec<_> = ours()
        .into_iter()
        .map(|(info, attributes)| Message {
            body: Body::NewPolicy(info),
            attributes,
        })
        .collect();
    for outcome in client.batch(&requests) {
        outcome.unwrap();
    }
    assert_eq!(sorted(&run("ip xfrm policy list")), shown_for_theirs);
    let by_us = comparable(client.dump_policies().unwrap());
    assert_eq!(by_us, by_ip);

    // Each by its key; then they delete what we wrote.
    for (info, attributes) in ours() {
        let id = PolicyId {
            selector: info.selector,
            index: 0,
            direction: info.direction,
        };
        let identity: Attributes = attributes
            .iter()
            .filter(|a| !matches!(a, Attribute::Templates(_)))
            .cloned()
            .collect();
        let (found, _) = client.get_policy(id, identity).unwrap();
        assert_eq!(found.priority, info.priority);
    }
    let counts = client.spd_info().unwrap().spd_counts().unwrap();
    assert_eq!((counts.inbound, counts.outbound, counts.forward), (1, 3, 1));
    run("ip xfrm policy delete src 10.1.0.0/24 dst 10.2.0.0/24 dir out");
    run("ip xfrm policy delete src 2001:db8:1::/48 dst ::/0 dir fwd if_id 0x2a");
    assert_eq!(client.dump_policies().unwrap().len(), 3);
}

/// One line per policy, sorted: dumps go by hash order and age.
fn sorted(list: &str) -> Vec<String> {
    let mut policies: Vec<String> = Vec::new();
    for line in list.lines() {
        if line.starts_with(char::is_whitespace) {
            if let Some(last) = policies.last_mut() {
                last.push(' ');
                last.push_str(&words(line));
            }
        } else {
            policies.push(words(line));
        }
    }
    policies.sort();
    policies
}

#[test]
fn larval_sas_defaults_and_refusals() {
    if !inside("larval_sas_defaults_and_refusals", &[]) {
        return;
    }
    let mut client = Client::open().unwrap();
    let request = |min, max| SpiRequest {
        info: SaInfo {
            id: Id {
                daddr: ip("192.0.2.2").into(),
                spi: 0,
                proto: SaProtocol::ESP,
            },
            saddr: ip("192.0.2.1").into(),
            family: Family::INET,
            mode: Mode::TUNNEL,
            reqid: 21,
            ..SaInfo::default()
        },
        min,
        max,
    };
    let larval = client
        .alloc_spi(
            request(0x1000, 0x1003),
            Attributes(vec![Attribute::IfId(3)]),
        )
        .unwrap();
    assert!((0x1000..=0x1003).contains(&larval.id.spi));
    let shown = words(&run("ip xfrm state"));
    assert!(
        shown.starts_with(&format!(
            "src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x{:08x} reqid 21 mode tunnel",
            larval.id.spi
        )),
        "{shown}"
    );
    assert_eq!(client.sad_info().unwrap().sad_count(), Some(1));

    // A range of one can be used once: its refusal has an errno.
    client
        .alloc_spi(request(0x2000, 0x2000), Attributes::new())
        .unwrap();
    let error = client
        .alloc_spi(request(0x2000, 0x2000), Attributes::new())
        .unwrap_err();
    assert!(error.errno().is_some(), "{error}");

    // A refusal with the kernel's own words.
    let mut bad = policy(
        selector("10.0.0.0/8", "10.0.0.0/8"),
        PolicyDirection::OUT,
        1,
    );
    bad.selector.prefixlen_d = 33;
    let error = client.add_policy(bad, Attributes::new()).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::INVAL.raw_os_error()));
    assert!(
        error.to_string().starts_with("kernel refused NEWPOLICY: "),
        "{error}"
    );
    if let RequestError::Refused(Refusal {
        text: Some(text), ..
    }) = &error
    {
        assert!(text.contains("prefix"), "{text}");
    }

    // One refusal in the middle of a pipeline stops nothing.
    let good = policy(
        selector("10.0.0.0/8", "10.0.0.0/8"),
        PolicyDirection::OUT,
        1,
    );
    let outcomes = client.batch(&[
        Message::new(Body::NewPolicy(good)),
        Message::new(Body::NewPolicy(good)),
        Message::new(Body::GetDefault(PolicyDefaults::default())),
    ]);
    assert!(outcomes[0].is_ok());
    assert_eq!(
        outcomes[1].as_ref().unwrap_err().errno(),
        Some(Errno::EXIST.raw_os_error())
    );
    assert!(outcomes[2].as_ref().unwrap().message.is_some());

    let defaults = PolicyDefaults {
        inbound: DefaultAction::BLOCK,
        forward: DefaultAction::UNSPEC,
        outbound: DefaultAction::UNSPEC,
    };
    client.set_defaults(defaults).unwrap();
    assert_eq!(client.defaults().unwrap().inbound, DefaultAction::BLOCK);
    let shown = words(&run("ip xfrm policy getdefault"));
    assert!(
        shown.contains("in: block") && shown.contains("out: accept"),
        "{shown}"
    );
    client.flush_sas(SaProtocol::ANY).unwrap();
    assert!(client.dump_sas().unwrap().is_empty());
}

/// Thousands of policies: several sends, and a dump of many datagrams.
#[test]
fn large_tables() {
    if !inside("large_tables", &[]) {
        return;
    }
    const COUNT: u32 = 3000;
    let mut client = Client::open().unwrap();
    let nth = |n: u32| {
        let [_, _, high, low] = n.to_be_bytes();
        policy(
            selector(&format!("10.{high}.{low}.0/24"), "10.255.0.0/16"),
            PolicyDirection::OUT,
            n,
        )
    };
    let requests: Vec<_> = (0..COUNT)
        .map(|n| Message::new(Body::NewPolicy(nth(n))))
        .collect();
    assert!(client.batch(&requests).iter().all(Result::is_ok));
    let mut priorities: Vec<_> = client
        .dump_policies()
        .unwrap()
        .iter()
        .map(|(info, _)| info.priority)
        .collect();
    priorities.sort_unstable();
    assert!(priorities.into_iter().eq(0..COUNT));
}

#[test]
fn events_arrive_and_lost_ones_are_noticed() {
    if !inside("events_arrive_and_lost_ones_are_noticed", &[]) {
        return;
    }
    run("ip link set lo up");
    let mut events = EventSocket::open(&[Group::ACQUIRE, Group::EXPIRE, Group::POLICY]).unwrap();
    assert_eq!(events.receive().unwrap(), None);
    let mut client = Client::open().unwrap();
    run("ip link add v0 type veth peer name v1");
    run("ip addr add 10.1.0.1/24 dev v0");
    run("ip link set v0 up");
    run("ip link set v1 up");
    run("ip route add 10.2.0.0/24 via 10.1.0.2 dev v0");
    let attributes = Attributes(vec![Attribute::Templates(vec![template(
        "10.1.0.1",
        "192.0.2.2",
        77,
    )])]);
    let info = PolicyInfo {
        limits: LifetimeLimits {
            hard_add_seconds: 2,
            ..LifetimeLimits::NONE
        },
        ..policy(
            selector("10.1.0.0/24", "10.2.0.0/24"),
            PolicyDirection::OUT,
            6,
        )
    };
    client.add_policy(info, attributes).unwrap();
    let Some(Event::Message { message, port }) = wait(&mut events) else {
        panic!("no policy event");
    };
    assert!(matches!(message.body, Body::NewPolicy(p) if p.priority == 6));
    assert_eq!(port, client.port(), "our own request caused it");

    // A packet that needs an SA: the source 10.1.0.1 is chosen by route.
    let socket = std::net::UdpSocket::bind("10.1.0.1:0").unwrap();
    let _ = socket.send_to(b"x", "10.2.0.9:9");
    let Some(Event::Message { message, port: 0 }) = wait(&mut events) else {
        panic!("no acquire");
    };
    let Body::Acquire(acquire) = &message.body else {
        panic!("{message:?}");
    };
    assert_eq!(acquire.id.daddr, ip("192.0.2.2").into());
    assert_eq!(acquire.selector.daddr, ip("10.2.0.9").into());
    assert_eq!(
        (acquire.selector.dport, acquire.selector.dport_mask),
        (9, 0xffff)
    );
    assert_eq!(acquire.policy.priority, 6);
    assert_ne!(acquire.seq, 0);
    assert_eq!(message.attributes.templates()[0].reqid, 77);
    // Its larval SA is there and has its number.
    assert_eq!(client.dump_sas().unwrap()[0].0.seq, acquire.seq);

    // The policy's hard limit.
    let Some(Event::Message { message, .. }) = wait(&mut events) else {
        panic!("no expiry");
    };
    assert!(matches!(message.body, Body::PolicyExpire(p) if p.hard));

    // More than the socket holds: one Resync, and life goes on.
    let requests: Vec<_> = (0..500)
        .flat_map(|_| {
            let info = policy(
                selector("10.5.0.0/16", "10.6.0.0/16"),
                PolicyDirection::IN,
                1,
            );
            let id = PolicyId {
                selector: info.selector,
                index: 0,
                direction: info.direction,
            };
            [
                Message::new(Body::NewPolicy(info)),
                Message::new(Body::DeletePolicy(id)),
            ]
        })
        .collect();
    rustix::net::sockopt::set_socket_recv_buffer_size(&events, 4096).unwrap();
    assert!(client.batch(&requests).iter().all(Result::is_ok));
    let mut resyncs = 0;
    let mut others = 0;
    while let Some(event) = events.receive().unwrap() {
        match event {
            Event::Resync => resyncs += 1,
            _ => others += 1,
        }
    }
    assert_eq!(resyncs, 1, "and {others} others");
    client.call(&requests[0]).unwrap();
    assert!(matches!(wait(&mut events), Some(Event::Message { .. })));
}

/// What `ip` shows, in words: our flags have hexadecimal numbers where its have binary digits.
fn shown(list: &str) -> Vec<String> {
    sorted(list)
        .into_iter()
        .map(|entry| {
            let words: Vec<_> = entry.split(' ').collect();
            let kept = words.iter().enumerate().filter(|(n, word)| {
                let after_flag = words[..*n]
                    .iter()
                    .rev()
                    .take(10)
                    .any(|w| w.ends_with("flag"));
                !(after_flag && word.starts_with("(0x"))
            });
            kept.map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
        })
        .collect()
}

/// A device's index by its name, and back.
fn device(index: u32) -> Option<String> {
    (index == 1).then(|| "lo".to_owned())
}

#[test]
fn policies_are_shown_as_ip_shows_them() {
    if !inside("policies_are_shown_as_ip_shows_them", &[]) {
        return;
    }
    let more = [
        "src 10.4.0.0/24 dst 10.1.0.0/24 dev lo proto gre key 5 dir out priority 9 \
         limit time-soft 100 limit byte-hard 1000 limit packet-soft 7 limit time-use-hard 50",
        "src 10.5.0.0/24 dst 10.1.0.0/24 dir fwd flag localok icmp priority 8 mark 0 mask 0xf \
         tmpl src 192.0.2.1 dst 192.0.2.2 proto comp reqid 7 mode tunnel level use \
         tmpl spi 0x44 proto ah reqid 7 mode transport",
        "src 10.6.0.0/24 dst 10.1.0.0/24 proto udp sport 68 dport 67 dir in priority 8 action block",
        "src 10.7.0.1 dst 10.1.0.1 proto 253 dir in priority 8 \
         tmpl src 2001:db8::1 dst 2001:db8::2 proto esp reqid 7 mode beet",
    ];
    for text in POLICIES.iter().chain(&more) {
        run(&format!("ip xfrm policy add {text}"));
    }
    let mut client = Client::open().unwrap();
    let policies = client.dump_policies().unwrap();
    assert_eq!(policies.len(), POLICIES.len() + more.len());
    for statistics in [false, true] {
        let text = Text {
            keys: true,
            statistics,
            device: &device,
        };
        let ours: String = policies.iter().map(|(p, a)| text.policy(p, a)).collect();
        let option = if statistics { "-s" } else { "" };
        let theirs = run(&format!("env TZ=UTC ip {option} xfrm policy list"));
        assert_eq!(shown(&ours), shown(&theirs), "statistics: {statistics}");
    }
    let defaults = Text::default().defaults(&client.defaults().unwrap());
    assert_eq!(words(&defaults), words(&run("ip xfrm policy getdefault")));
}

/// SAs as `ip xfrm state add` says them; those that this kernel or this `ip` does not have are left out, but for the first.
const SAS: &[&str] = &[
    "src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x1234 reqid 5 mode tunnel if_id 0x2a \
     aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f00000000 128",
    "src 192.0.2.2 dst 192.0.2.1 proto esp spi 0x1235 reqid 5 mode tunnel replay-window 32 flag af-unspec dir in \
     aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f00000000 128",
    "src 192.0.2.2 dst 192.0.2.1 proto esp spi 0x1236 reqid 5 mode transport replay-window 288 flag esn replay-seq 5 \
     enc cbc(aes) 0x000102030405060708090a0b0c0d0e0f auth-trunc hmac(sha256) 0x0001020304050607 128 \
     sel src 192.0.2.2 dst 192.0.2.1 proto tcp",
    "src 192.0.2.2 dst 192.0.2.1 proto esp spi 0x1237 reqid 5 mode tunnel mark 0x7 mask 0xff output-mark 0x9 mask 0xf \
     enc cbc(aes) 0x000102030405060708090a0b0c0d0e0f auth hmac(sha1) 0x0001020304050607 encap espinudp 4500 4501 0.0.0.0 \
     extra-flag dont-encap-dscp oseq-may-wrap limit byte-soft 100 limit packet-hard 9000 limit time-hard 3600",
    "src 2001:db8::1 dst 2001:db8::2 proto ah spi 0x1238 reqid 6 mode tunnel flag noecn wildrecv \
     auth-trunc hmac(sha256) 0x0001020304050607 128",
    "src 192.0.2.2 dst 192.0.2.1 proto comp spi 0x1239 reqid 5 mode tunnel comp deflate",
    "src 192.0.2.2 dst 192.0.2.1 proto esp spi 0x1242 reqid 5 mode beet tfcpad 0 \
     enc cbc(aes) 0x000102030405060708090a0b0c0d0e0f auth-trunc hmac(sha256) 0x0001020304050607 128 \
     sel src 10.0.0.1 dst 10.0.0.2 dport 5",
];

#[test]
fn sas_are_shown_as_ip_shows_them() {
    let name = "sas_are_shown_as_ip_shows_them";
    if !inside(name, &[]) {
        return;
    }
    let mut added = 0;
    for sa in SAS {
        let added_one = std::process::Command::new("ip")
            .args(["xfrm", "state", "add"])
            .args(sa.split_whitespace())
            .status()
            .unwrap()
            .success();
        if added == 0 && !added_one {
            let reason = "this kernel has no ESP";
            assert!(
                std::env::var_os("CYGNET_REQUIRE_ESP").is_none(),
                "{name} cannot run: {reason}"
            );
            println!("{name}: {reason}; the VM scenario xfrm-sadb runs it where there is");
            return;
        }
        added += usize::from(added_one);
    }
    assert!(added >= 5, "of {} only {added} could be added", SAS.len());
    let mut client = Client::open().unwrap();
    let sas = client.dump_sas().unwrap();
    for (statistics, keys) in [(false, true), (true, true), (false, false)] {
        let text = Text {
            keys,
            statistics,
            device: &device,
        };
        let ours: String = sas.iter().map(|(sa, a)| text.sa(sa, a)).collect();
        let option = if statistics { "-s" } else { "" };
        let hidden = if keys { "" } else { "list nokeys" };
        // It hides the key of a compression too, which has none.
        let theirs = run(&format!("env TZ=UTC ip {option} xfrm state {hidden}"))
            .replace("comp deflate <<Keys hidden>>", "comp deflate");
        assert_eq!(
            shown(&ours),
            shown(&theirs),
            "statistics: {statistics}, keys: {keys}"
        );
    }
}

fn wait(events: &mut EventSocket) -> Option<Event> {
    let end = Instant::now() + Duration::from_secs(6);
    while Instant::now() < end {
        if let Some(event) = events.receive().unwrap() {
            return Some(event);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}
