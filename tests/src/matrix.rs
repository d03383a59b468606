//! Lines for `docs/interop.md`: what a run has shown about a feature with a peer (see `matrix/main.rs`).

use std::io::Write as _;

/// Notes a result in the file that `CYGNET_INTEROP_OUT` names, if it names one. `by` says which run it was.
pub fn note(feature: &str, peer: &str, version: &str, passed: bool, by: &str) {
    let Some(path) = std::env::var_os("CYGNET_INTEROP_OUT") else {
        return;
    };
    let result = if passed { "passed" } else { "failed" };
    let line = format!("{feature}|{peer}|{version}|{result}|{by}\n");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path);
    // One write, so that lines of tests at the same time do not mix.
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .expect("to note a result");
}

/// Notes what a scenario said: lines `# cell|FEATURE|PEER|VERSION|passed`, or `failed`. If the scenario as a whole went
/// wrong, none of it counts as passed.
pub fn note_scenario(name: &str, output: &str, good: bool) {
    for line in output
        .lines()
        .filter_map(|line| line.strip_prefix("# cell|"))
    {
        if let [feature, peer, version, result] = line.split('|').collect::<Vec<_>>()[..] {
            let passed = good && result == "passed";
            note(feature, peer, version, passed, &format!("vm/{name}"));
        }
    }
}
