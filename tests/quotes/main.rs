//! What the code quotes of RFCs, as `//= rfc7296#2.8` with the sentences in `//#` lines: each is a sentence of that RFC, and
//! what it says MUST be has a test with the same quotation (`//= type=test`).
//!
//! The texts are those of Debian's doc-rfc packages, in /usr/share/doc/RFC or where `CYGNET_RFCS` says. Without them
//! nothing is compared with them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One quotation.
struct Quote {
    rfc: u32,
    section: String,
    /// With single spaces.
    text: String,
    is_test: bool,
    place: String,
}

impl Quote {
    /// Whether another one says the same, or more, or less.
    fn is_twin_of(&self, other: &Self) -> bool {
        (self.rfc, &self.section) == (other.rfc, &other.section)
            && (self.text.contains(&other.text) || other.text.contains(&self.text))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("a directory of sources")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn single_spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The quotations of a file.
fn read(path: &Path, quotes: &mut Vec<Quote>) {
    let text = std::fs::read_to_string(path).expect("a source file");
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let Some(source) = line.trim().strip_prefix("//= rfc") else {
            continue;
        };
        let place = format!("{}:{}", path.display(), number + 1);
        let (rfc, section) = source.split_once('#').expect(&place);
        let rfc = rfc.parse().expect(&place);
        let is_test = lines
            .next_if(|(_, line)| line.trim() == "//= type=test")
            .is_some();
        let mut said = String::new();
        while let Some((_, line)) = lines.next_if(|(_, line)| line.trim().starts_with("//#")) {
            said.push_str(&line.trim()[3..]);
            said.push(' ');
        }
        let text = single_spaced(&said);
        assert!(!text.is_empty(), "{place}: nothing is quoted");
        quotes.push(Quote {
            rfc,
            section: section.to_owned(),
            text,
            is_test,
            place,
        });
    }
}

fn quotes() -> Vec<Quote> {
    let mut files = Vec::new();
    for dir in ["crates", "tests"] {
        sources(&root().join(dir), &mut files);
    }
    let mut quotes = Vec::new();
    for file in files {
        read(&file, &mut quotes);
    }
    quotes
}

/// The text of an RFC without the heads and feet of its pages, if it is here.
fn rfc(number: u32) -> Option<String> {
    let dir = std::env::var_os("CYGNET_RFCS").unwrap_or_else(|| "/usr/share/doc/RFC".into());
    let mut files = Vec::new();
    find(Path::new(&dir), &format!("rfc{number}.txt"), &mut files, 4);
    let file = files.first()?;
    let text = match file.extension().is_some_and(|extension| extension == "gz") {
        true => Command::new("zcat").arg(file).output().ok()?.stdout,
        false => std::fs::read(file).ok()?,
    };
    let text = String::from_utf8_lossy(&text);
    let head = format!("RFC {number} ");
    let lines = text.lines().map(|line| line.trim_start_matches('\u{c}'));
    let body = lines.filter(|line| !line.starts_with(&head) && !line.contains("[Page "));
    Some(single_spaced(&body.collect::<Vec<_>>().join(" ")))
}

/// Files of that name, compressed or not.
fn find(dir: &Path, name: &str, found: &mut Vec<PathBuf>, depth: usize) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_it = entry.file_name().to_str().is_some_and(|file| {
            file == name || file.strip_suffix(".gz").is_some_and(|file| file == name)
        });
        if is_it {
            found.push(path);
        } else if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&path, name, found, depth - 1);
        }
    }
}

#[test]
fn what_is_quoted_stands_in_the_rfc() {
    let mut texts: BTreeMap<u32, Option<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for quote in quotes() {
        let text = texts.entry(quote.rfc).or_insert_with(|| rfc(quote.rfc));
        let Some(text) = text else { continue };
        // A word that is divided at the end of a line is quoted with the line's end.
        if !text.contains(&quote.text) && !text.contains(&quote.text.replace("- ", "-")) {
            wrong.push(format!("{}: {}", quote.place, quote.text));
        }
    }
    let missing = texts.iter().filter(|(_, text)| text.is_none());
    let missing: Vec<String> = missing.map(|(number, _)| number.to_string()).collect();
    if !missing.is_empty() {
        eprintln!(
            "not compared, their texts are not here: RFC {}",
            missing.join(", ")
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_must_be_is_tested() {
    let (tests, code): (Vec<Quote>, Vec<Quote>) = quotes().into_iter().partition(|q| q.is_test);
    let mut rows: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
    for quote in &tests {
        rows.entry(quote.rfc).or_default().1 += 1;
    }
    let mut untested = Vec::new();
    for quote in &code {
        rows.entry(quote.rfc).or_default().0 += 1;
        let must = quote.text.contains("MUST");
        if must && !tests.iter().any(|test| test.is_twin_of(quote)) {
            untested.push(format!("{}: {}", quote.place, quote.text));
        }
    }
    println!("RFC   in code  in tests");
    for (rfc, (code, tests)) in &rows {
        println!("{rfc:<5} {code:>7}  {tests:>8}");
    }
    let list = untested.join("\n");
    assert!(untested.is_empty(), "without a test:\n{list}");
}
