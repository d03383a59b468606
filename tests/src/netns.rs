//! Network namespaces.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::{Outcome, run, try_run};

const PREFIX: &str = "cygt";

/// A network namespace that goes away with the value.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes one. Names of one `group` stay together in listings.
    #[must_use]
    pub fn new(group: u32, host: &str) -> Self {
        static SWEEP: Once = Once::new();
        SWEEP.call_once(sweep);
        let name = format!("{PREFIX}{}-{group}-{host}", std::process::id());
        run(&format!("ip netns add {name}"));
        Self { name }
    }

    /// A number for the namespaces of one network.
    #[must_use]
    pub fn group() -> u32 {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        NUMBER.fetch_add(1, Ordering::Relaxed)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `ip` commands inside, all at once.
    ///
    /// # Panics
    /// If one fails.
    pub fn ip(&self, batch: &str) {
        let outcome = try_run("ip", &["-n", &self.name, "-batch", "-"], batch);
        assert!(
            outcome.ok(),
            "ip in {}: {batch}\n{}",
            self.name,
            outcome.stderr
        );
    }

    /// What one `ip` command prints.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn show(&self, arguments: &str) -> String {
        run(&format!("ip -n {} {arguments}", self.name))
    }

    /// A program inside, to be started.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command
            .env("PATH", crate::process::path())
            .args(["netns", "exec", &self.name])
            .arg(program);
        command
    }

    /// A program inside, run to its end.
    pub fn try_exec(&self, line: &str) -> Outcome {
        let mut args = vec!["netns", "exec", self.name.as_str()];
        args.extend(line.split_whitespace());
        try_run("ip", &args, "")
    }

    /// The same; returns what was printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn exec(&self, line: &str) -> String {
        run(&format!("ip netns exec {} {line}", self.name))
    }

    /// Sets a sysctl.
    pub fn sysctl(&self, name: &str, value: &str) {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let value = value.to_owned();
        // /proc/sys/net shows the namespace of whoever opens it.
        self.within(move || std::fs::write(&path, value).unwrap_or_else(|e| panic!("{path}: {e}")));
    }

    /// Runs `f` inside. Sockets that it returns stay there.
    ///
    /// # Panics
    /// If `f` does.
    pub fn within<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(f).join().expect("a thread in the namespace")
    }

    /// Starts a thread inside.
    ///
    /// # Panics
    /// If the namespace is gone.
    pub fn spawn<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let file = File::open(Path::new("/run/netns").join(&self.name)).expect("the namespace");
        std::thread::spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("to enter the namespace");
            f()
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = try_run("ip", &["netns", "delete", &self.name], "");
    }
}

/// Takes away what processes left that could not do it themselves.
fn sweep() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else {
        return;
    };
    for name in entries
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
    {
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next())
            .map(str::to_owned);
        let Some(owner) = owner.filter(|o| o.parse::<u32>().is_ok()) else {
            continue;
        };
        if Path::new("/proc").join(owner).exists() {
            continue;
        }
        let left = try_run("ip", &["netns", "pids", &name], "").stdout;
        for pid in left.split_whitespace() {
            let _ = try_run("kill", &["-KILL", pid], "");
        }
        let _ = try_run("ip", &["netns", "delete", &name], "");
    }
}
