//! Configurations of several files.

use std::path::Path;

use cygnet_config::{Loaded, Report, load};

use crate::support::Files;

fn read(files: &Files) -> Result<Loaded, Report> {
    load(Path::new("/etc/ipsec.conf"), None, files)
}

fn names(files: &Files) -> Vec<String> {
    let loaded = read(files).unwrap_or_else(|report| panic!("{report}"));
    loaded.set.connections.into_iter().map(|c| c.name).collect()
}

const ENDS: &str = " left=192.0.2.1\n right=192.0.2.2\n authby=secret\n auto=add\n";

#[test]
fn patterns_are_relative_to_the_file_that_includes() {
    let conn = |name: &str| format!("conn {name}\n{ENDS}");
    let files = Files::new([
        (
            "/etc/ipsec.conf",
            "include ipsec.d/*.conf\nconn last\n also=b\n",
        ),
        ("/etc/ipsec.d/b.conf", &conn("b")),
        (
            "/etc/ipsec.d/a.conf",
            "include \"more/[x].conf\" # quoted\n",
        ),
        ("/etc/ipsec.d/more/x.conf", &conn("x")),
        ("/etc/ipsec.d/more/y.conf", &conn("y")),
        ("/etc/ipsec.d/c.conf.old", "nonsense"),
    ]);
    assert_eq!(names(&files), ["x", "b", "last"]);
}

#[test]
fn a_pattern_may_match_nothing_but_a_name_must_exist() {
    assert!(
        names(&Files::new([(
            "/etc/ipsec.conf",
            "include /nowhere/*.conf\n"
        )]))
        .is_empty()
    );
    let report =
        read(&Files::new([("/etc/ipsec.conf", "include missing.conf\n")])).expect_err("missing");
    insta::assert_snapshot!(report);
}

#[test]
fn a_directory_with_the_signs_of_patterns_is_no_pattern() {
    let files = Files::new([
        (
            "/etc/ipsec.conf",
            "include /home/[a]/ipsec.conf\ninclude \"/home/[[]a]/ipsec.conf\"\n",
        ),
        ("/home/a/ipsec.conf", ""),
        ("/home/[a]/ipsec.conf", "include *.inc\n"),
        (
            "/home/[a]/x.inc",
            "conn x\n left=192.0.2.1\n right=192.0.2.2\n authby=secret\n auto=add\n",
        ),
        ("/home/a/y.inc", "conn y\n"),
    ]);
    assert_eq!(names(&files), ["x"]);
}

#[test]
fn circles_end() {
    let one = Files::new([("/etc/ipsec.conf", "include ipsec.conf\n")]);
    insta::assert_snapshot!(read(&one).expect_err("a circle"));
    // Each includes both: without a limit on their number, 2^10 files.
    let many = Files::new([
        ("/etc/ipsec.conf", "include *.conf\ninclude *.conf\n"),
        ("/etc/b.conf", "include *.conf\ninclude *.conf\n"),
        ("/etc/c.conf", "include *.conf\ninclude *.conf\n"),
    ]);
    let report = read(&many).expect_err("a circle").to_string();
    assert!(
        report.contains("more than 1000 files are included"),
        "{report}"
    );
}

#[test]
fn an_include_ends_the_section_above_it() {
    let files = Files::new([(
        "/etc/ipsec.conf",
        "conn c\n auto=ignore\ninclude /x/*\n left=192.0.2.1\n",
    )]);
    insta::assert_snapshot!(read(&files).expect_err("no section"));
}

#[test]
fn errors_come_in_the_order_of_the_files() {
    let files = Files::new([
        (
            "/etc/ipsec.conf",
            "include z.conf\nconn a\n autp=add\n left=x y\n",
        ),
        ("/etc/z.conf", "con b\n"),
    ]);
    insta::assert_snapshot!(read(&files).expect_err("wrong"));
}

#[test]
fn files_that_are_no_text_are_named() {
    let mut files = Files::new([("/etc/ipsec.conf", "")]);
    files
        .0
        .insert("/etc/ipsec.conf".into(), b"conn a\n left=\xff\n".to_vec());
    assert_eq!(
        read(&files).expect_err("no text").to_string(),
        "error: /etc/ipsec.conf: line 2 is not UTF-8 text\n"
    );
    let none = Files::default();
    assert_eq!(
        read(&none).expect_err("no file").to_string(),
        "error: /etc/ipsec.conf: no such file\n"
    );
}
