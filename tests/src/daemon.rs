//! `cygnet daemon` in a namespace, and the commands that speak to it.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::conf::Conf;
use crate::netns::Netns;
use crate::process::{Outcome, Process, try_run, within};

/// The binary under test: `CYGNET_BIN`, or what cargo builds.
///
/// # Panics
/// If it cannot be built.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("CYGNET_BIN") {
            return PathBuf::from(path);
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["build", "-q", "-p", "cygnet", "--message-format=json"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .output()
            .expect("to run cargo");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["target"]["name"] == "cygnet")
            .find_map(|message| message["executable"].as_str().map(PathBuf::from))
            .expect("cargo to say where the binary is")
    })
}

/// A daemon with a run directory and a configuration of its own.
#[derive(Debug)]
pub struct Daemon {
    dir: TempDir,
    namespace: String,
    process: Option<Process>,
    options: Vec<String>,
}

impl Daemon {
    /// Writes the files; nothing runs yet.
    ///
    /// # Panics
    /// If they cannot be written.
    #[must_use]
    pub fn new(netns: &Netns, conf: &Conf) -> Self {
        let daemon = Self {
            dir: tempfile::Builder::new()
                .prefix("cygnet-test")
                .tempdir()
                .expect("a directory"),
            namespace: netns.name().to_owned(),
            process: None,
            options: Vec::new(),
        };
        daemon.configure(conf);
        daemon
    }

    /// The same, and starts it.
    ///
    /// # Panics
    /// If it does not come up.
    #[must_use]
    pub fn running(netns: &Netns, conf: &Conf) -> Self {
        let mut daemon = Self::new(netns, conf);
        daemon.start();
        daemon
    }

    /// More options of `cygnet daemon`, from the next start on.
    #[must_use]
    pub fn options(mut self, options: &[&str]) -> Self {
        self.options = options.iter().map(|o| (*o).to_owned()).collect();
        self
    }

    /// Replaces the configuration files.
    ///
    /// # Panics
    /// If they cannot be written.
    pub fn configure(&self, conf: &Conf) {
        self.write("ipsec.conf", &conf.text());
        self.write("ipsec.secrets", &conf.secrets());
    }

    /// Replaces one of the files.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).expect("to write the configuration");
    }

    /// Its directory: configuration, log, run directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    fn arguments(&self) -> Vec<String> {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let mut arguments: Vec<String> = [
            "--run-dir",
            &path("run"),
            "daemon",
            "--config",
            &path("ipsec.conf"),
        ]
        .into_iter()
        .chain([
            "--secrets",
            &path("ipsec.secrets"),
            "--state-dir",
            &path("state"),
            "--log-format",
            "json",
            "--log",
            "debug",
        ])
        .map(str::to_owned)
        .collect();
        arguments.extend(self.options.iter().cloned());
        arguments
    }

    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// With its log, if it does not.
    pub fn start(&mut self) {
        self.launch(&[]);
        let socket = self.run_dir().join("control.sock");
        let up = within(Duration::from_secs(15), || {
            let ended = self.process.as_mut().is_some_and(|p| p.ended().is_some());
            (ended || UnixStream::connect(&socket).is_ok()).then_some(!ended)
        });
        assert!(
            up == Some(true),
            "the daemon in {} did not start:\n{}",
            self.namespace,
            self.log()
        );
    }

    /// Starts it behind other programs (`setpriv ... `), without waiting.
    pub fn launch(&mut self, wrapper: &[&str]) {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace])
            .args(wrapper)
            .arg(binary())
            .args(self.arguments());
        self.process = Some(Process::start(&mut command, &self.dir.path().join("log")));
    }

    /// The running program.
    ///
    /// # Panics
    /// If there is none.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("a running daemon")
    }

    /// Its log: one JSON object a line.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(self.dir.path().join("log"))
            .map(|b| String::from_utf8_lossy(&b).into_owned())
            .unwrap_or_default()
    }

    /// The log's lines with this event name.
    #[must_use]
    pub fn events(&self, name: &str) -> Vec<Value> {
        let lines = self.log();
        let objects = lines
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        objects
            .filter(|o| o["event"] == name || o["fields"]["event"] == name)
            .collect()
    }

    /// Another command of cygnet, in the daemon's namespace.
    pub fn cygnet(&self, args: &[&str]) -> Outcome {
        let run_dir = self.run_dir().display().to_string();
        let binary = binary().display().to_string();
        let mut all = vec![
            "netns",
            "exec",
            &self.namespace,
            &binary,
            "--run-dir",
            &run_dir,
        ];
        all.extend(args);
        try_run("ip", &all, "")
    }

    /// The same, and it must succeed.
    ///
    /// # Panics
    /// With the command's words and the log, if it fails.
    pub fn must(&self, args: &[&str]) -> String {
        let outcome = self.cygnet(args);
        assert!(outcome.ok(), "cygnet {args:?}: {outcome:?}\n{}", self.log());
        outcome.stdout
    }

    /// `cygnet status --json`.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.must(&["status", "--json"])).expect("JSON")
    }

    /// The status of a connection.
    ///
    /// # Panics
    /// If there is no such connection.
    #[must_use]
    pub fn connection(&self, name: &str) -> Value {
        let status = self.status();
        let found = status["connections"]
            .as_array()
            .and_then(|all| all.iter().find(|c| c["name"] == name));
        found
            .unwrap_or_else(|| panic!("no {name} in {status:#}"))
            .clone()
    }

    /// Waits until a connection is in a state.
    ///
    /// # Panics
    /// If it does not get there.
    pub fn await_state(&self, name: &str, state: &str) -> Value {
        match within(Duration::from_secs(15), || {
            Some(self.connection(name)).filter(|c| c["state"] == state)
        }) {
            Some(connection) => connection,
            None => panic!("not {state}: {:#}\n{}", self.status(), self.log()),
        }
    }

    /// Packets and octets in, packets and octets out of the only child SA of a connection.
    #[must_use]
    pub fn traffic(&self, name: &str) -> Option<[u64; 4]> {
        let connection = self.connection(name);
        let child = connection["children"].get(0)?;
        let (inbound, outbound) = (&child["inbound"], &child["outbound"]);
        Some([
            inbound["packets"].as_u64()?,
            inbound["bytes"].as_u64()?,
            outbound["packets"].as_u64()?,
            outbound["bytes"].as_u64()?,
        ])
    }

    /// Packets in and out of it.
    #[must_use]
    pub fn packets(&self, name: &str) -> Option<(u64, u64)> {
        self.traffic(name)
            .map(|[packets_in, _, packets_out, _]| (packets_in, packets_out))
    }

    /// Memory in use, in KiB.
    ///
    /// # Panics
    /// If it does not run.
    pub fn resident(&mut self) -> u64 {
        let path = format!("/proc/{}/status", self.process().pid());
        let text = std::fs::read_to_string(path).expect("a running daemon");
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix("VmRSS:"))
            .expect("VmRSS");
        line.split_whitespace()
            .next()
            .and_then(|n| n.parse().ok())
            .expect("a number")
    }

    /// Asks it to end, politely.
    ///
    /// # Panics
    /// If it does not end, or not with status 0.
    pub fn stop(&mut self) {
        let status = self.process().terminate();
        assert!(status.success(), "{status}:\n{}", self.log());
        self.process = None;
    }

    /// `kill -9`.
    pub fn crash(&mut self) {
        self.process().kill();
        self.process = None;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill();
        }
        if std::thread::panicking() {
            // The only witness when a test fails.
            let tail: Vec<String> = self
                .log()
                .lines()
                .rev()
                .take(40)
                .map(str::to_owned)
                .collect();
            eprintln!("last lines of the log of {}:", self.namespace);
            for line in tail.iter().rev() {
                eprintln!("  {line}");
            }
        }
    }
}
