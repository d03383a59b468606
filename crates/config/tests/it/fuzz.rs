//! Arbitrary and half-right files, after the corpora in `__fuzz__`: no panic, places within the text, an end.
//! Each takes a second, or what `BOLERO_RANDOM_TEST_TIME_MS` says.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use cygnet_config::{Diagnostic, KEYWORDS, Section, load};
use cygnet_engine::Origin;

use crate::support::Files;

fn check_places(files: &BTreeMap<std::path::PathBuf, Vec<u8>>, diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        let Some(span) = &diagnostic.span else {
            continue;
        };
        let text = std::str::from_utf8(&files[span.file.as_path()]).expect("only text has places");
        assert!(
            text.get(span.start..span.end).is_some(),
            "{span:?} of {text:?}"
        );
        let line = text[..span.start].matches('\n').count() + 1;
        assert_eq!(span.line as usize, line);
        assert!(!diagnostic.to_string().is_empty());
    }
}

/// Loads `text` as one of the two files.
fn run(conf: &[u8], secrets: &[u8]) {
    let files = Files(BTreeMap::from([
        ("/c".into(), conf.to_vec()),
        ("/s".into(), secrets.to_vec()),
        ("/a.conf".into(), conf.to_vec()),
    ]));
    let start = Instant::now();
    match load(Path::new("/c"), Some(Path::new("/s")), &files) {
        Ok(loaded) => {
            check_places(&files.0, &loaded.warnings);
            for c in &loaded.set.connections {
                let Origin::File(span) = c.origin() else {
                    panic!("a connection from nowhere")
                };
                let text = std::str::from_utf8(&files.0[span.file.as_path()]).expect("text");
                assert_eq!(&text[span.start..span.end], c.name);
            }
        }
        Err(report) => check_places(&files.0, &report.diagnostics),
    }
    // Some hundred octets; generous for a machine that is busy with other things.
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "took {:?}",
        start.elapsed()
    );
}

#[test]
fn arbitrary_conf() {
    bolero::check!().for_each(|input: &[u8]| run(input, b""));
}

#[test]
fn arbitrary_secrets() {
    bolero::check!().for_each(|input: &[u8]| run(b"", input));
}

/// Lines that are nearly right, chosen by the octets of the input.
#[test]
fn nearly_right_lines() {
    const VALUES: [&str; 34] = [
        "yes",
        "no",
        "192.0.2.1",
        "192.0.2.2",
        "2001:db8::1",
        "%any",
        "%defaultroute",
        "%eth0",
        "gw.example.com",
        "@west",
        "10.0.0.0/8",
        "10.0.0.0/8/tcp/22, 2001:db8::/32",
        "{ 10.0.0.0/8 0/0 }",
        "\"quoted # text\"",
        "tcp/22",
        "1h",
        "0",
        "500ms",
        "1.5h",
        "4096",
        "128",
        "0x10/0xf0",
        "aes_gcm256-sha2_256-dh31",
        "aes256-sha2_512;sn=esn",
        "secret",
        "rsasig",
        "add",
        "ignore",
        "transport",
        "passthrough",
        "8EiB",
        "a",
        "é",
        "\"",
    ];
    bolero::check!().for_each(|input: &[u8]| {
        let mut text = String::new();
        let mut bytes = input.iter().map(|b| usize::from(*b));
        while let (Some(what), Some(a), Some(b)) = (bytes.next(), bytes.next(), bytes.next()) {
            let value = VALUES[b % VALUES.len()];
            match what % 16 {
                0 => text.push_str(["conn a\n", "conn b\n", "conn c\n", "conn %default\n"][a % 4]),
                1 => text.push_str("config setup\n"),
                2 => text.push_str(["include *.conf\n", "include a.conf\n", "include c\n"][a % 3]),
                3 => text.push_str([" also=a\n", " also=b\n", " also=c\n"][a % 3]),
                4 => text.push_str(&format!(
                    " left={value}\n right={}\n",
                    VALUES[a % VALUES.len()]
                )),
                5 => text.push_str(" authby=secret\n auto=add\n"),
                n => {
                    let conn: Vec<_> = KEYWORDS
                        .iter()
                        .filter(|k| (k.section == Section::Conn) == (n != 6))
                        .collect();
                    let keyword = conn[a % conn.len()];
                    text.push_str(&format!(" {}={value}\n", keyword.written()));
                }
            }
        }
        run(text.as_bytes(), b"");
    });
}

/// Words of ipsec.secrets in any order; nothing of a secret in what is said.
#[test]
fn words_of_secrets() {
    const WORDS: [&str; 24] = [
        "@west",
        "192.0.2.1",
        "2001:db8::",
        "%any",
        "%any6",
        ":",
        ":",
        "PSK",
        "XAUTH",
        "PPKS",
        "RSA",
        "\"geheim\"",
        "'geheim'",
        "0xgeheim",
        "0sgeheim",
        "0tgeheim",
        "\"geheim",
        "\n",
        "\n",
        "\n\t",
        "# geheim",
        "include",
        "@east:",
        "\"C=x\"",
    ];
    bolero::check!().for_each(|input: &[u8]| {
        let text: String = input
            .iter()
            .map(|b| format!("{} ", WORDS[usize::from(*b) % WORDS.len()]).replace("\n ", "\n"))
            .collect();
        let files = Files::new([("/c", ""), ("/s", text.as_str())]);
        let said: Vec<_> = match load(Path::new("/c"), Some(Path::new("/s")), &files) {
            Ok(loaded) => loaded.warnings,
            Err(report) => report.diagnostics,
        };
        check_places(&files.0, &said);
        // A file name is not a secret, wherever it stands.
        for d in said.iter().filter(|_| !text.contains("include")) {
            assert!(!d.to_string().contains("geheim"), "{d}\n{text}");
        }
        run(b"", text.as_bytes());
    });
}
