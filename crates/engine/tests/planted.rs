//! The bugs that `scripts/planted-bugs` plants, to see whether random exploration finds them, still fit the code.

use std::path::Path;
use std::process::Command;

#[test]
fn planted_bugs_apply() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let directory = root.join("crates/engine/tests/explore/planted");
    let entries = std::fs::read_dir(&directory).expect("the patches");
    let mut patches: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    patches.sort();
    assert!(patches.len() > 12, "the switch and at least 12 bugs");
    let mut command = Command::new("git");
    command
        .args(["apply", "--check"])
        .args(&patches)
        .current_dir(&root);
    match command.output() {
        Ok(output) => assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => println!("skipped: git cannot be started: {error}"),
    }
}
