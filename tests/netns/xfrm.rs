//! `cygnet xfrm`, beside what iproute2 says and does.

use std::time::Duration;

use cygnet_tests::{Conf, Daemon, Family, Process, Site, ready, within};
use serde_json::Value;

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn json(daemon: &Daemon, args: &[&str]) -> Value {
    serde_json::from_str(&daemon.must(args)).unwrap()
}

#[test]
fn policies_and_counters_are_those_of_the_kernel() {
    if !ready("cygnet xfrm", &[]) {
        return;
    }
    let site = Site::new();
    let west = Daemon::running(&site.west, &Conf::site(Family::V4).set("auto", "ondemand"));
    west.await_state("office", "trapped");

    // The fence, and what happens to all other packets.
    let theirs = site.west.show("xfrm policy list") + &site.west.show("xfrm policy getdefault");
    assert!(theirs.contains("action block"), "{theirs}");
    assert_eq!(words(&west.must(&["xfrm", "policy"])), words(&theirs));
    let policies = json(&west, &["xfrm", "policy", "--json"]);
    let count = policies["policies"].as_array().unwrap().len();
    assert_eq!(
        count,
        theirs.lines().filter(|l| l.starts_with("src ")).count()
    );
    assert_eq!(policies["defaults"]["in"], "accept");
    assert_eq!(
        json(&west, &["xfrm", "state", "--json"]),
        Value::Array(vec![])
    );

    // A counter that has not moved yet, and then has.
    let moved = |all: &Value| {
        let mut counters = all.as_array().unwrap().iter();
        counters.find(|c| c["name"] == "XfrmOutPolBlock").cloned()
    };
    let before = moved(&json(&west, &["xfrm", "stat", "--json", "--all"])).unwrap();
    site.west
        .ip("xfrm policy add src 192.0.2.1 dst 192.0.2.77 dir out priority 1 action block");
    site.west.try_exec("ping -c 3 -i 0.1 -W 1 192.0.2.77");
    let after = moved(&json(&west, &["xfrm", "stat", "--json"])).unwrap();
    let n = |counter: &Value| counter["value"].as_u64().unwrap();
    assert!(n(&after) > n(&before), "{before} {after}");
    assert!(
        after["since_start"].as_u64() >= Some(n(&after) - n(&before)),
        "{after}"
    );
    assert_eq!(after["cause"], "Blocked by a policy.");
    let text = west.must(&["xfrm", "stat"]);
    assert!(text.contains("since the daemon started"), "{text}");

    // What nobody knows.
    let outcome = west.cygnet(&["xfrm", "state", "nobody"]);
    assert!(
        outcome.stderr.contains("no connection of the name nobody"),
        "{outcome:?}"
    );
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
}

#[test]
fn the_monitor_tells_what_the_kernel_tells() {
    if !ready("cygnet xfrm monitor", &[]) {
        return;
    }
    let site = Site::new();
    let west = Daemon::running(&site.west, &Conf::site(Family::V4));
    let start = |form: &str| {
        let mut command = site.west.command(cygnet_tests::binary());
        command.args(["xfrm", "monitor", form]);
        Process::start(&mut command, &west.dir().join(format!("monitor{form}")))
    };
    let monitors = [start("--json"), start("--statistics")];
    let told = |wanted: &str| {
        within(Duration::from_secs(10), || {
            // Until it listens nothing is told: again and again.
            let key = "src 10.66.0.0/24 dst 10.77.0.0/24 dir out";
            site.west
                .ip(&format!("xfrm policy update {key} priority 1 action block"));
            site.west.ip(&format!("xfrm policy delete {key}"));
            let all = |m: &Process| m.output().lines().map(words).collect::<Vec<_>>().join("\n");
            monitors
                .iter()
                .any(|m| all(m).contains(wanted))
                .then_some(())
        })
    };
    assert!(
        told("dir out action block index").is_some(),
        "{}",
        monitors[1].output()
    );
    assert!(
        told(r#""event":"delpolicy""#).is_some(),
        "{}",
        monitors[0].output()
    );
    let first = monitors[0].output();
    let first: Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    assert_eq!(first["about"]["selector"]["src"], "10.66.0.0/24");
}
