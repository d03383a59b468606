//! `docs/configuration.md` is written from the table of keywords.

use std::fmt::Write;
use std::path::Path;

use cygnet_config::{KEYWORDS, Keyword, Section, Status, load};
use cygnet_crypto::{EspProposal, IkeProposal};

use crate::support::Files;

/// What stands above the tables.
const INTRODUCTION: &str = include_str!("documentation/introduction.md");
/// What stands below them.
const SECRETS: &str = include_str!("documentation/secrets.md");

fn is_used(keyword: &Keyword) -> bool {
    matches!(keyword.status, Status::Supported)
}

fn code(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("`{text}`")
    }
}

/// Text in a cell: a bar would end it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn written(keyword: &Keyword) -> String {
    if keyword.sided {
        format!("`left{0}`, `right{0}`", keyword.name)
    } else {
        code(keyword.name)
    }
}

/// Literal defaults stand in code, described ones do not.
fn default(keyword: &Keyword) -> String {
    if keyword.default.contains(' ') {
        keyword.default.to_owned()
    } else {
        code(keyword.default)
    }
}

fn supported(out: &mut String, section: Section) {
    out.push_str("| keyword | values | default | meaning |\n|---|---|---|---|\n");
    for k in KEYWORDS
        .iter()
        .filter(|k| k.section == section && is_used(k))
    {
        let (values, summary) = (cell(k.values), cell(k.summary));
        writeln!(
            out,
            "| {} | {values} | {} | {summary} |",
            written(k),
            default(k)
        )
        .expect("a string");
    }
}

fn others(out: &mut String, section: Section) {
    out.push_str("| keyword | what Cygnet makes of it | what it is for |\n|---|---|---|\n");
    for k in KEYWORDS
        .iter()
        .filter(|k| k.section == section && !is_used(k))
    {
        let inert = |inert: &[&str]| {
            let named: Vec<_> = inert
                .iter()
                .filter(|v| !v.is_empty())
                .map(|v| code(v))
                .collect();
            named.join(", ")
        };
        let made = match k.status {
            Status::Supported => continue,
            Status::Alias(of) => {
                let of = if k.sided {
                    format!("left{of}")
                } else {
                    of.to_owned()
                };
                format!("another name of `{of}`")
            }
            Status::Obsolete(why) => format!("ignored with a warning: {why}"),
            Status::NoEffectYet { inert: values } => match inert(values).as_str() {
                "" => "no effect yet: a warning".to_owned(),
                values => format!("no effect yet: a warning, but for {values}"),
            },
            Status::NotSupportedYet { inert: values } => match inert(values).as_str() {
                "" => "not supported yet: an error".to_owned(),
                values => format!("not supported yet: an error, but for {values}"),
            },
        };
        writeln!(out, "| {} | {made} | {} |", written(k), cell(k.summary)).expect("a string");
    }
}

fn document() -> String {
    let mut out = INTRODUCTION.to_owned();
    out.push_str("\n## `config setup`\n\n");
    supported(&mut out, Section::Setup);
    out.push_str("\n## `conn`\n\n");
    supported(&mut out, Section::Conn);
    out.push('\n');
    out.push_str(SECRETS);
    out.push_str("\n## Known, and not (yet) in use\n\n");
    out.push_str(
        "A keyword that would change what is asked for is refused as long as it cannot be obeyed; one that would\n\
         only tune it is ignored with a warning. A connection with `auto=ignore` may contain either.\n",
    );
    out.push_str("\n### In `config setup`\n\n");
    others(&mut out, Section::Setup);
    out.push_str("\n### In `conn`\n\n");
    others(&mut out, Section::Conn);
    out
}

#[test]
fn the_documentation_says_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let expected = document();
    if std::env::var_os("CYGNET_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).expect("the documentation can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/configuration.md is not what the table of keywords says; \
         write it anew with `CYGNET_UPDATE_DOCS=1 cargo test -p cygnet-config documentation`"
    );
}

/// The indented block of a page.
fn example(page: &str) -> String {
    let body = page.split_once("-->").map_or(page, |(_, body)| body);
    body.lines()
        .skip_while(|l| !l.starts_with("    "))
        .take_while(|l| l.is_empty() || l.starts_with("    "))
        .map(|l| format!("{}\n", l.strip_prefix("    ").unwrap_or(l)))
        .collect()
}

#[test]
fn the_examples_of_the_documentation_load() {
    let (conf, secrets) = (example(INTRODUCTION), example(SECRETS));
    let files = Files::new([
        ("/etc/ipsec.conf", conf.as_str()),
        ("/etc/ipsec.secrets", secrets.as_str()),
    ]);
    let loaded = load(
        Path::new("/etc/ipsec.conf"),
        Some(Path::new("/etc/ipsec.secrets")),
        &files,
    )
    .unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.set.connections.len(), 1);
    assert_eq!(loaded.set.secrets.entries.len(), 2);
    for text in [
        "aes_gcm256-sha2_512-dh20+dh31",
        "aes256-sha2_256-dh19",
        "encrypt=aes_gcm256;prf=sha2_512;ke=dh31",
    ] {
        assert!(SECRETS.contains(text));
        IkeProposal::parse_ipsec_conf(text).expect("an example");
    }
    EspProposal::parse_ipsec_conf("aes_gcm256;sn=yes+no").expect("an example");
}
