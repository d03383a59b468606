//! Runs a test again inside a network namespace of its own.

use std::process::Command;

const INSIDE: &str = "CYGNET_TEST_INSIDE_NETNS";

/// Whether the calling test is inside a fresh namespace. If not, it runs itself there (this
/// process stays outside) and the answer is `false`: then there is nothing more to do.
///
/// Skips with one line if this user may not make namespaces or `tools` are missing; with
/// `CYGNET_REQUIRE_ALL=1` that is a failure.
pub fn inside(test: &str, tools: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let missing = ["unshare", "ip"]
        .iter()
        .chain(tools)
        .find(|tool| !on_path(tool));
    let possible = Command::new("unshare")
        .args(["--net", "ip", "xfrm", "policy", "count"])
        .output()
        .is_ok_and(|output| output.status.success());
    let reason = match missing {
        Some(tool) => Some(format!("{tool} is not installed")),
        None if !possible => Some("no permission for network namespaces with XFRM".into()),
        None => None,
    };
    if let Some(reason) = reason {
        assert!(
            std::env::var("CYGNET_REQUIRE_ALL").as_deref() != Ok("1"),
            "{test} cannot run: {reason}"
        );
        println!("skipped {test}: {reason}");
        return false;
    }
    let status = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed inside its namespace");
    false
}

fn on_path(tool: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|dir| dir.join(tool).is_file())
            || std::path::Path::new("/usr/sbin").join(tool).is_file()
    })
}

/// Runs a program and returns what it printed.
pub fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Joins what is spread over lines and indented, to compare words only.
pub fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
