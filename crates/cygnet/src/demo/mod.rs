//! `cygnet demo`: the main job in one command, on one machine.
//!
//! Two hosts, two gateways and a router in network namespaces of their own;
//! each gateway runs `cygnet daemon` from an ordinary configuration. Nothing of
//! the machine's own network is touched, and nothing is left but the capture
//! and the keys.

mod topology;
mod transfer;

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use self::topology::Topology;
use crate::cli::DemoOptions;

/// The connection's name in the example.
const CONNECTION: &str = "office";

/// Why the demo ended early.
#[derive(Debug)]
enum Failure {
    /// A person pressed Ctrl-C.
    Interrupted,
    /// Something is not installed or not permitted.
    Missing(String),
    /// A step did not do what it should.
    Step(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted => f.write_str("interrupted"),
            Self::Missing(text) | Self::Step(text) => f.write_str(text),
        }
    }
}

fn failed(what: &str) -> impl Fn(std::io::Error) -> Failure + '_ {
    move |error| Failure::Step(format!("{what}: {error}"))
}

/// Runs it.
pub(crate) fn run(options: &DemoOptions) -> ExitCode {
    let interrupted = Arc::new(AtomicBool::new(false));
    watch_for_ctrl_c(interrupted.clone());
    let start = Instant::now();
    let mut demo = Demo {
        start,
        interrupted,
        out: PathBuf::new(),
        daemons: Vec::new(),
        capture: None,
        net: None,
    };
    let result = demo.play(options);
    demo.say("cleaning up");
    demo.clean_up();
    match result {
        Ok(()) => {
            demo.say(&format!("done in {:.1} s", start.elapsed().as_secs_f64()));
            ExitCode::SUCCESS
        }
        // Whatever a step complains of when its programs got the signal too.
        Err(_) if demo.interrupted.load(Ordering::SeqCst) => {
            eprintln!("cygnet demo: interrupted; everything is cleaned up");
            ExitCode::from(130)
        }
        Err(failure) => {
            eprintln!("cygnet demo: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C reaches the daemons and commands by themselves; here it only ends the play.
fn watch_for_ctrl_c(interrupted: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        else {
            return;
        };
        let seen = runtime.block_on(async {
            let mut terminate =
                tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            tokio::select! {
                result = tokio::signal::ctrl_c() => result,
                _ = terminate.recv() => Ok(()),
            }
        });
        if seen.is_ok() {
            interrupted.store(true, Ordering::SeqCst);
        }
    });
}

struct Demo {
    start: Instant,
    interrupted: Arc<AtomicBool>,
    out: PathBuf,
    daemons: Vec<Child>,
    capture: Option<Child>,
    net: Option<Topology>,
}

impl Demo {
    fn say(&self, text: &str) {
        println!("[{:5.1} s] {text}", self.start.elapsed().as_secs_f64());
        let _ = std::io::stdout().flush();
    }

    fn check(&self) -> Result<(), Failure> {
        if self.interrupted.load(Ordering::SeqCst) {
            Err(Failure::Interrupted)
        } else {
            Ok(())
        }
    }

    fn play(&mut self, options: &DemoOptions) -> Result<(), Failure> {
        prerequisites(&options.example)?;
        self.prepare_out(&options.out)?;
        self.say("alice --- west === router === east --- bob: making five network namespaces");
        self.net = Some(Topology::build().map_err(Failure::Step)?);
        self.check()?;
        self.start_capture()?;
        for side in ["west", "east"] {
            self.say(&format!(
                "starting the daemon of {side} with {}/{side}/ipsec.conf",
                options.example.display()
            ));
            self.start_daemon(side, &options.example)?;
        }

        self.say(&format!("west: cygnet up {CONNECTION}"));
        let status = self
            .cygnet("west")
            .args(["up", CONNECTION])
            .status()
            .map_err(failed("cygnet up"))?;
        self.check()?;
        if !status.success() {
            return Err(Failure::Step(format!(
                "the tunnel did not come up, see {}",
                self.log("west").display()
            )));
        }

        self.say("alice pings bob, IPv4 and IPv6, through one tunnel:");
        self.ping("10.2.0.10")?;
        self.ping("2001:db8:2::10")?;

        self.say("alice sends to bob over TCP:");
        let net = self
            .net
            .as_ref()
            .ok_or_else(|| Failure::Step("no network".to_owned()))?;
        let measured = transfer::run(
            &net.name("alice"),
            &net.name("bob"),
            "10.2.0.10:5001",
            // All of it is captured: long enough to measure, short enough to keep.
            Duration::from_secs(2),
            &self.interrupted,
        )
        .map_err(|e| Failure::Step(format!("the TCP transfer failed: {e}")))?;
        println!("          {measured}");
        self.check()?;

        for side in ["west", "east"] {
            self.say(&format!("{side}: cygnet status"));
            let status = self
                .cygnet(side)
                .arg("status")
                .status()
                .map_err(failed("cygnet status"))?;
            if !status.success() {
                return Err(Failure::Step(format!("cygnet status failed on {side}")));
            }
        }
        self.prove()?;
        self.say(&format!("west: cygnet down {CONNECTION}"));
        self.cygnet("west")
            .args(["down", CONNECTION])
            .status()
            .map_err(failed("cygnet down"))?;
        Ok(())
    }

    fn prepare_out(&mut self, out: &Path) -> Result<(), Failure> {
        std::fs::create_dir_all(out).map_err(failed(&format!("making {}", out.display())))?;
        self.out = out
            .canonicalize()
            .map_err(failed("finding the output directory"))?;
        for stale in ["wireshark", "west", "east"] {
            let _ = std::fs::remove_dir_all(self.out.join(stale));
        }
        Ok(())
    }

    fn in_namespace(&self, host: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec"])
            .arg(self.net.as_ref().map(|n| n.name(host)).unwrap_or_default())
            .arg(program);
        command
    }

    fn cygnet(&self, side: &str) -> Command {
        let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("cygnet"));
        let mut command = self.in_namespace(side, &own.to_string_lossy());
        command
            .arg("--run-dir")
            .arg(self.out.join(side).join("run"));
        command
    }

    fn log(&self, side: &str) -> PathBuf {
        self.out.join(side).join("daemon.log")
    }

    fn capture_file(&self) -> PathBuf {
        self.out.join("router.pcap")
    }

    fn start_capture(&mut self) -> Result<(), Failure> {
        let file = self.capture_file();
        let log =
            std::fs::File::create(self.out.join("tcpdump.log")).map_err(failed("capture log"))?;
        let child = self
            .in_namespace("router", "tcpdump")
            .args(["-i", "to-west", "-n", "-U", "-s", "0", "-Z", "root", "-w"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(failed("starting tcpdump"))?;
        self.capture = Some(child);
        let log = self.out.join("tcpdump.log");
        self.wait_until("tcpdump listens", Duration::from_secs(10), || {
            std::fs::read_to_string(&log).is_ok_and(|t| t.contains("listening on"))
        })
    }

    fn start_daemon(&mut self, side: &str, example: &Path) -> Result<(), Failure> {
        let dir = self.out.join(side);
        std::fs::create_dir_all(&dir).map_err(failed("making a directory"))?;
        let log = std::fs::File::create(self.log(side)).map_err(failed("daemon log"))?;
        let mut command = self.cygnet(side);
        command.arg("daemon");
        command
            .arg("--config")
            .arg(example.join(side).join("ipsec.conf"));
        command
            .arg("--secrets")
            .arg(example.join(side).join("ipsec.secrets"));
        command
            .arg("--state-dir")
            .arg(self.out.join(side).join("state"));
        if side == "west" {
            // Both ends know the same keys; one table of them is enough.
            command.arg("--key-log").arg(self.out.join("wireshark"));
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.daemons
            .push(child.map_err(failed("starting the daemon"))?);
        let socket = dir.join("run").join("control.sock");
        let started = self.wait_until("the daemon answers", Duration::from_secs(10), || {
            socket.exists()
        });
        started.map_err(|failure| match failure {
            Failure::Step(text) => {
                let log = std::fs::read_to_string(self.log(side)).unwrap_or_default();
                Failure::Step(format!("{side}: {text}\n{log}"))
            }
            other => other,
        })
    }

    fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut() -> bool,
    ) -> Result<(), Failure> {
        let end = Instant::now() + limit;
        while !done() {
            self.check()?;
            if Instant::now() > end {
                return Err(Failure::Step(format!("gave up waiting until {what}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Three pings from alice.
    fn ping(&self, to: &str) -> Result<(), Failure> {
        let output = self
            .in_namespace("alice", "ping")
            .args(["-c", "3", "-i", "0.2", "-W", "1", to])
            .output()
            .map_err(failed("ping"))?;
        self.check()?;
        let text = String::from_utf8_lossy(&output.stdout);
        for line in text
            .lines()
            .filter(|l| l.contains("packets transmitted") || l.contains("rtt"))
        {
            println!("          {to}: {line}");
        }
        if output.status.success() {
            Ok(())
        } else {
            Err(Failure::Step(format!(
                "pings to {to} were not answered:\n{text}"
            )))
        }
    }

    /// What crossed the router was IKE and ESP, nothing else.
    fn prove(&mut self) -> Result<(), Failure> {
        self.stop_capture();
        let count = |filter: &str| -> Result<usize, Failure> {
            let output = Command::new("tcpdump")
                .args(["-n", "-r"])
                .arg(self.capture_file())
                .arg(filter)
                .stderr(Stdio::null())
                .output()
                .map_err(failed("reading the capture"))?;
            Ok(output.stdout.iter().filter(|b| **b == b'\n').count())
        };
        let esp = count("ip proto 50 or (udp port 4500 and udp[8:4] != 0)")?;
        let ike = count("udp port 500 or (udp port 4500 and udp[8:4] = 0)")?;
        let inner = count("net 10.0.0.0/8 or ip6 net 2001:db8:1::/48 or ip6 net 2001:db8:2::/48")?;
        self.say(&format!(
            "between the gateways: {ike} IKE messages, {esp} ESP packets, {inner} packets in clear"
        ));
        if inner != 0 || esp == 0 {
            return Err(Failure::Step(
                "the capture shows that the traffic was not protected".to_owned(),
            ));
        }
        let command = format!(
            "WIRESHARK_CONFIG_DIR={} tshark -r {} -o esp.enable_encryption_decode:TRUE -Y 'isakmp or (esp and (icmp or icmpv6))'",
            self.out.join("wireshark").display(),
            self.capture_file().display()
        );
        self.say("capture and keys are left behind; this decrypts them:");
        println!("          {command}");
        let shown = Command::new("tshark")
            .env("WIRESHARK_CONFIG_DIR", self.out.join("wireshark"))
            .arg("-r")
            .arg(self.capture_file())
            .args([
                "-o",
                "esp.enable_encryption_decode:TRUE",
                "-Y",
                "isakmp or (esp and (icmp or icmpv6))",
                "-c",
                "1000",
            ])
            .stderr(Stdio::null())
            .output();
        match shown {
            Ok(output) => {
                for line in String::from_utf8_lossy(&output.stdout).lines().take(8) {
                    println!("          {}", line.trim());
                }
            }
            Err(_) => println!("          (tshark is not installed)"),
        }
        Ok(())
    }

    fn stop_capture(&mut self) {
        if let Some(mut child) = self.capture.take() {
            // What was written is on disk packet by packet (-U), but the last may still be on its way.
            std::thread::sleep(Duration::from_millis(200));
            end(&mut child);
        }
    }

    fn clean_up(&mut self) {
        self.stop_capture();
        for mut daemon in std::mem::take(&mut self.daemons) {
            end(&mut daemon);
        }
        if let Some(net) = self.net.take() {
            net.remove();
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.clean_up();
    }
}

/// Asks a child of ours to end, waits, and insists in the end.
fn end(child: &mut Child) {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    let limit = Instant::now() + Duration::from_secs(6);
    while Instant::now() < limit {
        match child.try_wait() {
            Ok(None) => std::thread::sleep(Duration::from_millis(20)),
            _ => return,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Says what is missing before anything is made.
fn prerequisites(example: &Path) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::Missing(
            "network namespaces need root: try `sudo make demo`".to_owned(),
        ));
    }
    for (tool, package) in [
        ("ip", "iproute2"),
        ("ping", "iputils-ping"),
        ("tcpdump", "tcpdump"),
    ] {
        let found = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file()));
        if !found {
            return Err(Failure::Missing(format!(
                "`{tool}` is not installed: apt-get install {package}"
            )));
        }
    }
    if !Path::new("/dev/net/tun").exists() {
        return Err(Failure::Missing(
            "/dev/net/tun does not exist: load the tun module".to_owned(),
        ));
    }
    for side in ["west", "east"] {
        for file in ["ipsec.conf", "ipsec.secrets"] {
            let path = example.join(side).join(file);
            if !path.is_file() {
                return Err(Failure::Missing(format!(
                    "{} does not exist: run it from the project's directory or name the example with --example",
                    path.display()
                )));
            }
        }
    }
    Ok(())
}
