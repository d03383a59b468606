//! What a test needs of the machine, and what happens where it is not there.

use std::path::Path;
use std::process::{Command, Stdio};

/// Something a test cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The right to make network namespaces.
    Root,
    /// The TUN driver.
    Tun,
    /// A program on the path.
    Program(&'static str),
    /// A file, and the Debian package that brings it.
    File(&'static str, &'static str),
}

impl Need {
    fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!rustix::process::geteuid().is_root()).then(|| "root".to_owned()),
            Self::Tun => (!Path::new("/dev/net/tun").exists()).then(|| "/dev/net/tun".to_owned()),
            Self::Program(name) => {
                let found = Command::new("sh")
                    .args(["-c", "command -v \"$1\"", "sh", name])
                    .env("PATH", crate::process::path())
                    .stdout(Stdio::null())
                    .status();
                (!found.is_ok_and(|s| s.success())).then(|| format!("the program {name}"))
            }
            Self::File(path, package) => {
                (!Path::new(path).exists()).then(|| format!("{path} (package {package})"))
            }
        }
    }
}

/// What every test in namespaces needs.
const ALWAYS: [Need; 5] = [
    Need::Root,
    Need::Tun,
    Need::Program("ip"),
    Need::Program("ping"),
    Need::Program("tcpdump"),
];

/// Whether the test can run here. If not, one line says why; where everything
/// is required (`CYGNET_REQUIRE_ALL=1`) that is a failure.
///
/// # Panics
/// If something is missing and everything is required.
#[must_use]
pub fn ready(test: &str, needs: &[Need]) -> bool {
    let missing: Vec<String> = ALWAYS
        .iter()
        .chain(needs)
        .filter_map(|n| n.missing())
        .collect();
    if missing.is_empty() {
        return true;
    }
    let text = format!("{test} needs {}", missing.join(", "));
    assert!(
        std::env::var_os("CYGNET_REQUIRE_ALL").is_none_or(|v| v != "1"),
        "{text}"
    );
    // Not through print!: the harness would swallow it.
    use std::io::Write as _;
    let _ = std::io::stderr().write_all(format!("skipped: {text}\n").as_bytes());
    false
}
