//! Starting, ending, crashing: what is there, and that nothing is left or doubled.

use std::time::Duration;

use cygnet_tests::{Capture, Conf, Daemon, Family, Kind, Need, Site, ready, within};
use rustix::process::Signal;

use crate::support::{Pair, added, ping_through, state};

const NFT: [Need; 1] = [Need::Program("nft")];

#[test]
fn down_and_a_polite_end_leave_nothing() {
    if !ready("what stays behind", &NFT) {
        return;
    }
    let site = Site::new();
    let before = [state(&site.west), state(&site.east)];
    let mut west = Daemon::running(&site.west, &Conf::site(Family::V4));
    let mut east = Daemon::running(&site.east, &Conf::site(Family::V4));
    west.must(&["up", "office"]);
    ping_through(&site);
    assert!(
        !added(&before[0], &state(&site.west)).is_empty(),
        "the test does not see what a tunnel makes"
    );

    west.must(&["down", "office"]);
    let left = within(Duration::from_secs(5), || {
        let east_state = east.connection("office");
        (west.packets("office").is_none()
            && east_state["children"].as_array().is_some_and(Vec::is_empty))
        .then_some(())
    });
    assert!(
        left.is_some(),
        "still up: {:#} {:#}",
        west.status(),
        east.status()
    );
    // The device and its table may stay until the end, what is of the connection may not.
    let of_the_connection = |lines: Vec<String>| -> Vec<String> {
        lines
            .into_iter()
            .filter(|l| l.contains("10.2.0.0/24") || l.contains("2001:db8:2::/64"))
            .collect()
    };
    let after_down = of_the_connection(added(&before[0], &state(&site.west)));
    assert!(after_down.is_empty(), "left after `down`: {after_down:#?}");

    west.must(&["up", "office"]);
    ping_through(&site);
    // West goes while the tunnel is up: it says good-bye, and east has nothing left of it either.
    west.stop();
    let told = within(Duration::from_secs(5), || {
        east.packets("office").is_none().then_some(())
    });
    assert!(told.is_some(), "east was not told: {:#}", east.status());
    east.stop();
    for (netns, before) in [(&site.west, &before[0]), (&site.east, &before[1])] {
        let left = added(before, &state(netns));
        assert!(left.is_empty(), "left in {}: {left:#?}", netns.name());
        assert!(
            added(&state(netns), before).is_empty(),
            "something of the host's own is gone in {}",
            netns.name()
        );
    }
}

#[test]
fn a_restart_after_a_crash_doubles_nothing() {
    if !ready("restart after kill -9", &NFT) {
        return;
    }
    let Pair {
        mut west,
        mut east,
        site,
    } = Pair::new(&Conf::site(Family::V4));
    let clean = state(&site.west);
    west.must(&["up", "office"]);
    ping_through(&site);
    let shape = |lines: &std::collections::BTreeSet<String>| -> Vec<String> {
        // Numbers that are chosen anew each time.
        lines
            .iter()
            .filter(|l| !l.starts_with("state:"))
            .map(|l| anonymous(l))
            .collect()
    };
    let first = shape(&state(&site.west));
    for _ in 0..2 {
        west.crash();
        west.start();
        west.must(&["up", "office"]);
        ping_through(&site);
        assert_eq!(shape(&state(&site.west)), first);
        assert_eq!(
            west.connection("office")["children"]
                .as_array()
                .map(Vec::len),
            Some(1)
        );
    }
    // The peer has one tunnel, not three.
    let one = within(Duration::from_secs(5), || {
        (east.connection("office")["children"]
            .as_array()
            .map(Vec::len)
            == Some(1))
        .then_some(())
    });
    assert!(one.is_some(), "{:#}", east.status());

    // A crash, and a restart with a configuration that no longer knows the connection.
    west.crash();
    west.configure(&Conf::site(Family::V4).set("auto", "ignore"));
    west.start();
    let gone = within(Duration::from_secs(5), || {
        let left = added(&clean, &state(&site.west));
        left.iter()
            .all(|l| !l.contains("10.2.0.0/24") && !l.contains("2001:db8:2::/64"))
            .then_some(())
    });
    assert!(
        gone.is_some(),
        "left: {:#?}",
        added(&clean, &state(&site.west))
    );
    west.stop();
    east.stop();
}

/// A line without hexadecimal numbers and interface indexes.
fn anonymous(line: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    let mut skip = false;
    for word in line.split_whitespace() {
        if skip {
            words.push("#");
            skip = false;
            continue;
        }
        skip = matches!(word, "spi" | "reqid" | "index" | "packets" | "bytes");
        words.push(word);
    }
    words.join(" ")
}

#[test]
fn sighup_reads_the_configuration_again() {
    if !ready("SIGHUP", &[]) {
        return;
    }
    let Pair {
        mut west,
        east,
        site,
    } = Pair::up(&Conf::site(Family::V4));
    ping_through(&site);
    let before = west.packets("office");
    // Unchanged: the tunnel stays.
    west.process().signal(Signal::HUP);
    let reloaded = |west: &Daemon, n| {
        within(Duration::from_secs(5), || {
            (west.events("reloaded").len() == n).then_some(())
        })
    };
    assert!(reloaded(&west, 1).is_some(), "{}", west.log());
    assert_eq!(west.packets("office"), before);

    // Wrong: what ran goes on, and the log says what is wrong and where.
    west.write(
        "ipsec.conf",
        "conn office\n    left=192.0.2.1\n    leftsubent=10.1.0.0/24\n",
    );
    west.process().signal(Signal::HUP);
    let refused = within(Duration::from_secs(5), || {
        west.events("reload_failed").pop()
    });
    let text = refused.expect("an event").to_string();
    assert!(
        text.contains("leftsubent") && text.contains("leftsubnet") && text.contains(":3"),
        "{text}"
    );
    assert_eq!(west.packets("office"), before);
    let outcome = west.cygnet(&["reload"]);
    assert!(
        outcome.code == Some(1) && outcome.stderr.contains("leftsubent"),
        "{outcome:?}"
    );

    // Gone: the tunnel ends on both sides.
    west.configure(&Conf::site(Family::V4).set("auto", "ignore"));
    west.process().signal(Signal::HUP);
    let ended = within(Duration::from_secs(5), || {
        east.packets("office").is_none().then_some(())
    });
    assert!(ended.is_some(), "{:#}", east.status());
}

#[test]
fn the_first_connection_may_come_with_a_reload() {
    if !ready("reload of an empty configuration", &[]) {
        return;
    }
    // Through port 4500, whose sockets change their reader when the first connection comes.
    let conf = Conf::site(Family::V4).set("encapsulation", "yes");
    let nothing = conf.clone().set("auto", "ignore");
    let Pair { west, east, site } = Pair::different(&nothing, &conf);
    west.configure(&conf);
    west.must(&["reload"]);
    assert!(west.events("socket_failed").is_empty(), "{}", west.log());
    west.must(&["up", "office"]);
    ping_through(&site);
    assert_eq!(east.packets("office"), Some((10, 10)));
}

#[test]
fn two_daemons_do_not_share_a_run_directory() {
    if !ready("the run directory's lock", &[]) {
        return;
    }
    let site = Site::new();
    let west = Daemon::running(&site.west, &Conf::site(Family::V4));
    let run_dir = west.dir().join("run").display().to_string();
    let config = west.dir().join("ipsec.conf").display().to_string();
    let secrets = west.dir().join("ipsec.secrets").display().to_string();
    let line = format!(
        "{} --run-dir {run_dir} daemon --config {config} --secrets {secrets} --state-dir {run_dir}",
        cygnet_tests::binary().display()
    );
    let outcome = site.west.try_exec(&line);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(
        outcome
            .stderr
            .contains("another daemon runs with the run directory"),
        "{outcome:?}"
    );
    // The first one is unharmed.
    west.must(&["status"]);
}

#[test]
fn the_peer_is_told_when_one_goes() {
    if !ready("delete on SIGTERM", &[]) {
        return;
    }
    let Pair {
        mut west,
        east,
        site,
    } = Pair::up(&Conf::site(Family::V6));
    let mut wire = Capture::start(&site.router, Site::TO_WEST, &west.dir().join("wire.pcap"));
    west.stop();
    let gone = within(Duration::from_secs(3), || {
        east.status()["ike_sas"]
            .as_array()
            .is_some_and(Vec::is_empty)
            .then_some(())
    });
    assert!(gone.is_some(), "{:#}", east.status());
    let packets = wire.until(Duration::from_secs(1), |p| {
        p.iter().filter(|p| p.kind == Kind::Ike).count() >= 2
    });
    assert!(packets.iter().any(|p| p.kind == Kind::Ike), "{packets:?}");
}
