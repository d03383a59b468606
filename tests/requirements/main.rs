//! docs/requirements.md: which test shows which requirement.
//!
//! A test says so itself: a scenario of a virtual machine by the number in the title of a `check`, a Rust test by the number in
//! the comment in front of it. Where no test names a requirement it counts as not shown; such may only become fewer.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use table::REQUIREMENTS;

/// Requirements that no test names yet: the list only gets shorter.
const NOT_SHOWN: &[&str] = &[
    "S0.5", "S0.7", "S0.10", "S0.11", "S1.4", "S1.7", "S1.10", "S1.13", "S1.14", "S1.16", "S1.17",
    "S1.18", "S1.19", "S1.20", "S1.21", "S2.1", "S2.2", "S2.3", "S2.4", "S2.5", "S2.6", "S2.7",
    "S2.8", "S2.9", "S3.10", "S4.2", "S4.3", "S4.4", "S4.5", "S4.7", "S4.8", "S4.9", "S4.10",
    "S4.11", "S4.12", "S4.13",
];

/// Where a requirement is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// In a virtual machine: the kernel's data plane and real peers.
    Machine,
    /// In namespaces of the host: the user-space data plane, the host's kernel.
    Namespaces,
    /// In memory.
    Memory,
}

type Shown = BTreeMap<&'static str, BTreeMap<Level, BTreeSet<String>>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("a directory of tests")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

/// The numbers in a text, each as the table has it.
fn numbers(text: &str) -> BTreeSet<&'static str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.'));
    let words: Vec<&str> = words.map(|word| word.trim_end_matches('.')).collect();
    let listed = REQUIREMENTS.iter().map(|(number, _)| *number);
    listed.filter(|number| words.contains(number)).collect()
}

/// What the checks of scenarios show.
fn scenarios(shown: &mut Shown) {
    let mut scripts = Vec::new();
    files(&root().join("tests/vm/scenarios"), "sh", &mut scripts);
    for script in scripts {
        let scenario = script
            .parent()
            .and_then(Path::file_name)
            .expect("a scenario");
        let name = format!("vm/{}", scenario.display());
        let text = std::fs::read_to_string(&script).expect("a script");
        for line in text.lines() {
            let Some((_, title)) = line.split_once("check \"") else {
                continue;
            };
            let title = title.split('"').next().unwrap_or_default();
            for number in numbers(title) {
                let places = shown.entry(number).or_default();
                places
                    .entry(Level::Machine)
                    .or_default()
                    .insert(name.clone());
            }
        }
    }
}

/// What Rust tests show: the comment is in front of `#[test]`.
fn rust_tests(shown: &mut Shown) {
    let mut sources = Vec::new();
    for dir in ["tests", "crates"] {
        files(&root().join(dir), "rs", &mut sources);
    }
    for source in sources {
        let text = std::fs::read_to_string(&source).expect("a source");
        let place = source.strip_prefix(root()).expect("in the project");
        let level = match place.starts_with("tests") || place.starts_with("crates/kernel/tests") {
            true => Level::Namespaces,
            false => Level::Memory,
        };
        let mut comment = String::new();
        let mut named: Option<BTreeSet<&'static str>> = None;
        for line in text.lines().map(str::trim) {
            if let Some(words) = line.strip_prefix("//") {
                comment.push_str(words);
                comment.push(' ');
            } else if line == "#[test]" {
                named = Some(numbers(&comment));
            } else if let Some(rest) = line.strip_prefix("fn ")
                && let Some(named) = named.take()
            {
                let test = rest.split('(').next().unwrap_or_default();
                for number in named {
                    let places = shown.entry(number).or_default().entry(level).or_default();
                    places.insert(format!("{} {test}", place.display()));
                }
                comment.clear();
            } else if !line.starts_with("#[") {
                comment.clear();
            }
        }
    }
}

fn page(shown: &Shown) -> String {
    let mut page = String::from(
        "# Requirements\n\n\
         Generated from the tests (`CYGNET_UPDATE_DOCS=1 cargo test -p cygnet-tests --test requirements`). What was asked for \
         when the\nproject was founded, and the tests that show it: in a virtual machine with the kernel's data plane and real \
         peers, in namespaces\nof the host, in memory. They judge by `ip`, by /proc and by what is on the wire.\n\n\
         | | requirement | virtual machine | namespaces | in memory |\n|---|---|---|---|---|\n",
    );
    for (number, text) in REQUIREMENTS {
        let places = |level| {
            let tests = shown.get(number).and_then(|levels| levels.get(&level));
            let tests: Vec<String> = tests
                .into_iter()
                .flatten()
                .map(|test| match test.rsplit_once(' ') {
                    Some((_, name)) => format!("`{name}`"),
                    None => test.clone(),
                })
                .collect();
            tests.join(", ")
        };
        let missing = if shown.contains_key(number) {
            ""
        } else {
            " *No test yet.*"
        };
        let _ = writeln!(
            page,
            "| {number} | {text}{missing} | {} | {} | {} |",
            places(Level::Machine),
            places(Level::Namespaces),
            places(Level::Memory)
        );
    }
    page
}

#[test]
fn each_requirement_has_a_test_that_names_it() {
    let mut shown = Shown::new();
    scenarios(&mut shown);
    rust_tests(&mut shown);
    let path = root().join("docs/requirements.md");
    let page = page(&shown);
    if std::env::var_os("CYGNET_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("to write the page");
    }
    let missing: Vec<&str> = REQUIREMENTS
        .iter()
        .map(|(number, _)| *number)
        .filter(|number| !shown.contains_key(number))
        .collect();
    assert_eq!(
        missing, NOT_SHOWN,
        "what no test names, beside what is listed here"
    );
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/requirements.md is not what the tests say: CYGNET_UPDATE_DOCS=1 cargo test -p cygnet-tests --test requirements"
    );
}
