//! `docs/interop.md`: what has been seen to work with which peer.
//!
//! The rows are the features below, the columns the peers. A cell is filled by runs only: a scenario of the virtual machine
//! says `cell FEATURE PEER` after its checks (`vm/guest/lib.sh`), a test on the host calls `cygnet_tests::matrix::passed`, and
//! `make interop` runs them all and keeps what they said, with commit and versions, in `docs/interop.json`. What a peer
//! does not have is said here, with where that is known from.

mod table;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use table::{FEATURES, PEERS, UNSUPPORTED, WITHOUT_PEER};

/// A feature and a peer.
type Cell = (String, String);

/// What was last seen of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    passed: bool,
    version: String,
    by: String,
    commit: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(root())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// The results that are committed.
fn kept() -> BTreeMap<Cell, Seen> {
    let text = std::fs::read_to_string(root().join("docs/interop.json")).unwrap_or_default();
    let values: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    values
        .iter()
        .map(|value| {
            let cell = (text(value, "feature"), text(value, "peer"));
            let seen = Seen {
                passed: value["passed"] == true,
                version: text(value, "version"),
                by: text(value, "by"),
                commit: text(value, "commit"),
            };
            (cell, seen)
        })
        .collect()
}

fn keep(results: &BTreeMap<Cell, Seen>) {
    let values: Vec<Value> = results
        .iter()
        .map(|((feature, peer), seen)| {
            json!({
                "feature": feature, "peer": peer, "passed": seen.passed,
                "version": seen.version, "by": seen.by, "commit": seen.commit,
            })
        })
        .collect();
    let mut text = serde_json::to_string_pretty(&values).expect("plain values");
    text.push('\n');
    std::fs::write(root().join("docs/interop.json"), text).expect("to write the results");
}

/// What a batch of runs has said, a line each: `FEATURE|PEER|VERSION|passed or failed|BY`.
fn said(text: &str) -> BTreeMap<Cell, (bool, String, String)> {
    let mut said = BTreeMap::new();
    for line in text.lines() {
        let parts: Vec<_> = line.split('|').collect();
        let [feature, peer, version, result, by] = parts[..] else {
            panic!("not a result: {line}")
        };
        let cell = (feature.to_owned(), peer.to_owned());
        let entry = said
            .entry(cell)
            .or_insert((true, version.to_owned(), by.to_owned()));
        // Several runs may be about one cell: all have to pass.
        entry.0 &= result == "passed";
    }
    said
}

/// Whether the code has changed since a commit.
fn is_stale(commit: &str) -> bool {
    git(&["diff", "--quiet", commit, "--", "crates", "Cargo.lock"]).is_none()
}

fn page(results: &BTreeMap<Cell, Seen>, stale: impl Fn(&str) -> bool) -> String {
    let mut page = String::from(
        "# Interoperability\n\n\
         Generated from runs (`make interop`); no cell is filled without one. **passed**: the checks of the named run held, traffic\n\
         and counters included. *stale*: the code has changed since. no: the peer does not have it. –: seen\n\
         with strongSwan 6 and not repeated on the host. An empty cell has not been run.\n\n",
    );
    page.push_str("| feature |");
    for (_, title) in PEERS {
        write!(page, " {title} |").expect("a string");
    }
    page.push_str("\n|---|");
    page.push_str(&"---|".repeat(PEERS.len()));
    page.push('\n');
    let mut notes = Vec::new();
    for (feature, title) in FEATURES {
        write!(page, "| {title} |").expect("a string");
        let seen_with = |peer: &str| {
            let cell = ((*feature).to_owned(), peer.to_owned());
            results.contains_key(&cell)
        };
        for (peer, _) in PEERS {
            let cell = ((*feature).to_owned(), (*peer).to_owned());
            let seen = results.get(&cell);
            let lacks = UNSUPPORTED
                .iter()
                .find(|(f, p, _)| f == feature && p == peer);
            let text = match (seen, lacks) {
                (Some(seen), _) => {
                    let word = if seen.passed { "**passed**" } else { "failed" };
                    let age = if stale(&seen.commit) { ", *stale*" } else { "" };
                    format!("{word}{age}: {}", seen.by)
                }
                (None, Some((_, _, why))) => {
                    notes.push((title, peer, why));
                    "no".to_owned()
                }
                (None, None) if *peer == "strongswan-host" && seen_with("strongswan") => {
                    "–".to_owned()
                }
                (None, None) => String::new(),
            };
            write!(page, " {text} |").expect("a string");
        }
        page.push('\n');
    }
    page.push_str("\nRuns:\n\n");
    let runs: BTreeMap<_, _> = results
        .values()
        .map(|seen| ((&seen.by, &seen.version), &seen.commit))
        .collect();
    for ((by, version), commit) in runs {
        let short = commit.get(..10).unwrap_or(commit);
        writeln!(page, "- {by}: {version}, at {short}").expect("a string");
    }
    page.push_str("\nWhat a peer does not have:\n\n");
    for (title, peer, why) in notes {
        let name = PEERS
            .iter()
            .find(|(p, _)| p == peer)
            .map_or(*peer, |(_, name)| name);
        writeln!(page, "- {title}, {name}: {why}").expect("a string");
    }
    page.push_str("\nWhat no peer has, and what takes their place:\n\n");
    for (feature, instead) in WITHOUT_PEER {
        let title = FEATURES.iter().find(|(f, _)| f == feature);
        let title = title.map_or(*feature, |(_, title)| title);
        writeln!(page, "- {title}: {instead}").expect("a string");
    }
    page
}

/// Nobody names what is not in the table.
fn assert_known(results: &BTreeMap<Cell, Seen>) {
    for (feature, peer) in results.keys() {
        assert!(
            FEATURES.iter().any(|(f, _)| f == feature),
            "no feature {feature}"
        );
        assert!(PEERS.iter().any(|(p, _)| p == peer), "no peer {peer}");
    }
}

/// With `CYGNET_INTEROP_RESULTS` (a file of results, from `make interop`) they are taken in and the page is written anew;
/// with `CYGNET_UPDATE_DOCS=1` the page alone. Else the page must be the one that the committed results make, but for what
/// has become stale since.
#[test]
fn the_page_is_what_the_runs_have_said() {
    let mut results = kept();
    let path = root().join("docs/interop.md");
    let fresh = std::env::var_os("CYGNET_INTEROP_RESULTS");
    if let Some(file) = &fresh {
        let text = std::fs::read_to_string(file).expect("the results");
        let commit = git(&["rev-parse", "HEAD"]).expect("a commit");
        for (cell, (passed, version, by)) in said(&text) {
            let commit = commit.clone();
            results.insert(
                cell,
                Seen {
                    passed,
                    version,
                    by,
                    commit,
                },
            );
        }
        keep(&results);
    }
    assert_known(&results);
    if fresh.is_some() || std::env::var_os("CYGNET_UPDATE_DOCS").is_some() {
        std::fs::write(&path, page(&results, is_stale)).expect("to write the page");
        return;
    }
    let without_age = |text: &str| text.replace(", *stale*", "");
    let page = page(&results, |_| false);
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        without_age(&written) == page,
        "docs/interop.md is not what docs/interop.json makes: CYGNET_UPDATE_DOCS=1 cargo test -p cygnet-tests --test matrix"
    );
}

/// Who lacks what is said once, of features and peers that there are; what nobody has is what all lack.
#[test]
fn the_table_is_whole() {
    let is_feature = |name: &str| FEATURES.iter().any(|(f, _)| *f == name);
    for (index, (feature, peer, _)) in UNSUPPORTED.iter().enumerate() {
        assert!(is_feature(feature), "no feature {feature}");
        assert!(PEERS.iter().any(|(p, _)| p == peer), "no peer {peer}");
        let again = |(f, p, _): &(&str, &str, &str)| f == feature && p == peer;
        assert!(
            !UNSUPPORTED[index + 1..].iter().any(again),
            "{feature} of {peer} twice"
        );
    }
    for (feature, _) in FEATURES {
        let lack = UNSUPPORTED.iter().filter(|(f, _, _)| f == feature).count();
        let without_peer = WITHOUT_PEER.iter().any(|(f, _)| f == feature);
        assert_eq!(lack == PEERS.len(), without_peer, "{feature}");
    }
    assert!(WITHOUT_PEER.iter().all(|(f, _)| is_feature(f)));
}

#[test]
fn one_failure_spoils_a_cell() {
    let text = "psk|strongswan|6.0.1|passed|vm a\npsk|strongswan|6.0.1|failed|vm b\nmobike|strongswan|6.0.1|passed|vm c";
    let said = said(text);
    let of = |feature: &str| said[&(feature.to_owned(), "strongswan".to_owned())].0;
    assert!(!of("psk") && of("mobike"));
}

#[test]
fn what_the_code_has_outgrown_is_stale() {
    let cell = (FEATURES[0].0.to_owned(), PEERS[0].0.to_owned());
    let seen = Seen {
        passed: true,
        version: "1".to_owned(),
        by: "a run".to_owned(),
        commit: "0123".to_owned(),
    };
    let results = BTreeMap::from([(cell, seen)]);
    assert!(page(&results, |_| true).contains("**passed**, *stale*: a run"));
    assert!(page(&results, |_| false).contains("**passed**: a run"));
}
