//! strongSwan as the peer: charon with its user-space plane (kernel-libipsec) in a namespace.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::netns::Netns;
use crate::process::{Outcome, Process, try_run, within};
use crate::require::Need;
use crate::swan_conf::SwanConf;

const CHARON: &str = "/usr/lib/ipsec/charon";

/// A running charon.
#[derive(Debug)]
pub struct Swan {
    dir: TempDir,
    process: Process,
}

/// What strongSwan says about an established tunnel. The algorithms are in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwanChild {
    /// Algorithms of the IKE SA: encryption, key size, integrity, PRF, key exchange.
    pub ike: [String; 5],
    /// Algorithms of the child SA: encryption, key size, integrity.
    pub esp: [String; 3],
    /// Whether ESP is in UDP.
    pub encapsulated: bool,
    /// Packets received.
    pub packets_in: u64,
    /// Packets sent.
    pub packets_out: u64,
    /// Octets of clear packets received.
    pub bytes_in: u64,
    /// Octets of clear packets sent.
    pub bytes_out: u64,
}

impl Swan {
    /// The version of the package that is installed.
    pub fn version() -> String {
        let query = Command::new("dpkg-query")
            .args(["-W", "-f", "strongSwan ${Version}", "strongswan-charon"])
            .output();
        query.map_or_else(
            |_| "strongSwan".to_owned(),
            |output| String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }

    /// What the machine must have for it.
    pub const NEEDS: [Need; 3] = [
        Need::File(CHARON, "strongswan-charon"),
        Need::File(
            "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so",
            "libcharon-extra-plugins",
        ),
        Need::Program("swanctl"),
    ];

    /// Starts it.
    ///
    /// Only the plugins that it needs: those of a default installation include
    /// some that reach out of the namespace or take seconds to start.
    ///
    /// # Panics
    /// With its output, if it does not come up.
    #[must_use]
    pub fn start(netns: &Netns) -> Self {
        Self::start_with(netns, "")
    }

    /// The same with more settings of `charon` in strongswan.conf.
    ///
    /// # Panics
    /// With its output, if it does not come up.
    #[must_use]
    pub fn start_with(netns: &Netns, settings: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("cygnet-swan")
            .tempdir()
            .expect("a directory");
        let path = dir.path().display();
        let conf = format!(
            "charon {{
  load = random nonce kdf openssl ccm ctr cmac xcbc kernel-libipsec kernel-netlink socket-default vici
  filelog {{ log {{
    path = {path}/charon.log
    time_format = %T
    default = 1
    ike = 2
    cfg = 2
    flush_line = yes
  }} }}
  plugins {{ vici {{ socket = unix://{path}/vici }} }}
  {settings}
}}
swanctl {{ load = openssl }}
"
        );
        std::fs::write(dir.path().join("strongswan.conf"), conf).expect("to write strongswan.conf");
        // Its PID file has a fixed place, so it gets a /run of its own: `ip netns exec` has made
        // a mount namespace already.
        let mut command = netns.command("sh");
        command.args(["-c", &format!("mount -t tmpfs run /run && exec {CHARON}")]);
        command.env("STRONGSWAN_CONF", dir.path().join("strongswan.conf"));
        let process = Process::start(&mut command, &dir.path().join("output"));
        let swan = Self { dir, process };
        let ready = within(Duration::from_secs(15), || {
            swan.swanctl(&["--stats"]).ok().then_some(())
        });
        assert!(
            ready.is_some(),
            "charon: {}{}",
            swan.process.output(),
            swan.log()
        );
        swan
    }

    /// `swanctl`.
    pub fn swanctl(&self, args: &[&str]) -> Outcome {
        let conf = self
            .dir
            .path()
            .join("strongswan.conf")
            .display()
            .to_string();
        let uri = format!("unix://{}/vici", self.dir.path().display());
        let variable = format!("STRONGSWAN_CONF={conf}");
        let mut all = vec![variable.as_str(), "swanctl"];
        all.extend(args);
        all.extend(["--uri", uri.as_str()]);
        try_run("env", &all, "")
    }

    /// The same, and it must succeed.
    ///
    /// # Panics
    /// With its words and charon's log, if it fails.
    pub fn must(&self, args: &[&str]) -> String {
        let outcome = self.swanctl(args);
        assert!(
            outcome.ok(),
            "swanctl {args:?}: {outcome:?}\n{}",
            self.log_tail()
        );
        outcome.stdout
    }

    /// Replaces its configuration.
    ///
    /// # Panics
    /// If it does not like it.
    pub fn load(&self, conf: &SwanConf) {
        let file = self.dir.path().join("swanctl.conf");
        std::fs::write(&file, conf.to_string()).expect("to write swanctl.conf");
        self.must(&[
            "--load-all",
            "--noprompt",
            "--clear",
            "--file",
            &file.display().to_string(),
        ]);
    }

    /// Its tunnel of that name, if it is up.
    #[must_use]
    pub fn child(&self, connection: &str) -> Option<SwanChild> {
        let raw = self.must(&["--list-sas", "--raw", "--ike", connection]);
        let (ike, child) = raw.split_once("child-sas {")?;
        if field(child, "state") != "INSTALLED" {
            return None;
        }
        let number = |name: &str| field(child, name).parse().unwrap_or(0);
        let names = |names: [&str; 3], text: &str| names.map(|n| field(text, n));
        let algorithms = ["encr-alg", "encr-keysize", "integ-alg"];
        let [encryption, key_size, integrity] = names(algorithms, ike);
        Some(SwanChild {
            ike: [
                encryption,
                key_size,
                integrity,
                field(ike, "prf-alg"),
                field(ike, "dh-group"),
            ],
            esp: names(algorithms, child),
            encapsulated: field(child, "encap") == "yes",
            packets_in: number("packets-in"),
            packets_out: number("packets-out"),
            bytes_in: number("bytes-in"),
            bytes_out: number("bytes-out"),
        })
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        read(&self.dir.path().join("charon.log"))
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines
            .get(lines.len().saturating_sub(40)..)
            .unwrap_or_default()
            .join("\n")
    }
}

fn read(path: &Path) -> String {
    std::fs::read(path)
        .map(|b| String::from_utf8_lossy(&b).into_owned())
        .unwrap_or_default()
}

/// The value of `name=` in swanctl's raw output; empty if it is not there.
fn field(text: &str, name: &str) -> String {
    let key = format!("{name}=");
    let found = text.match_indices(&key).find(|(at, _)| {
        // Not the end of a longer name.
        text.get(..*at)
            .and_then(|before| before.chars().last())
            .is_some_and(|c| c == ' ' || c == '{')
    });
    let Some((at, _)) = found else {
        return String::new();
    };
    let value = text.get(at + key.len()..).unwrap_or_default();
    value
        .split([' ', '}'])
        .next()
        .unwrap_or_default()
        .to_owned()
}
