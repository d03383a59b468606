//! Network namespaces without names: each belongs to a thread and is gone with it, however the test ends.

use std::fs;
use std::io;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use cygnet_ipsec::{Counter, Counters};

type Job = Box<dyn FnOnce() + Send>;

pub struct Namespace {
    jobs: Sender<Job>,
    /// The thread's id, by which `ip` finds the namespace.
    pub tid: i32,
}

impl Namespace {
    /// A fresh namespace with its loopback device up.
    pub fn new() -> io::Result<Namespace> {
        let (jobs, receiver) = channel::<Job>();
        let (ready, outcome) = channel();
        thread::spawn(move || {
            // SAFETY: no memory is involved; only this thread changes its namespace.
            let result = match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
                // SAFETY: has no preconditions.
                0 => Ok(unsafe { libc::gettid() }),
                _ => Err(io::Error::last_os_error()),
            };
            let _ = ready.send(result);
            for job in receiver {
                job();
            }
        });
        let tid = outcome.recv().map_err(io::Error::other)??;
        let namespace = Namespace { jobs, tid };
        namespace.ip("link set lo up");
        Ok(namespace)
    }

    /// Runs a job inside.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, result) = channel();
        let job = Box::new(move || {
            let _ = sender.send(job());
        });
        self.jobs.send(job).expect("the namespace's thread lives");
        result.recv().expect("a job inside the namespace panicked")
    }

    /// Runs `ip` with these arguments.
    pub fn ip(&self, arguments: &str) {
        let arguments: Vec<String> = arguments.split_whitespace().map(String::from).collect();
        let output = self.run(move || {
            (
                Command::new("ip")
                    .args(&arguments)
                    .output()
                    .expect("ip runs"),
                arguments,
            )
        });
        let error = String::from_utf8_lossy(&output.0.stderr);
        assert!(
            output.0.status.success(),
            "ip {}: {error}",
            output.1.join(" ")
        );
    }

    /// Sets a sysctl below /proc/sys/net.
    pub fn sysctl(&self, name: &str, value: &'static str) {
        let path = format!("/proc/sys/net/{name}");
        self.run(move || fs::write(&path, value).unwrap_or_else(|e| panic!("{path}: {e}")));
    }

    pub fn ifindex(&self, name: &'static str) -> u32 {
        self.run(move || {
            let name = std::ffi::CString::new(name).expect("no NUL");
            // SAFETY: the name is a string that ends with NUL.
            unsafe { libc::if_nametoindex(name.as_ptr()) }
        })
    }

    /// What `/proc/net/xfrm_stat` says.
    pub fn counters(&self) -> Counters {
        let text = self.run(|| {
            fs::read_to_string("/proc/thread-self/net/xfrm_stat").expect("xfrm statistics")
        });
        let mut counters = Counters::new();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(name), Some(value)) = (words.next(), words.next()) else {
                continue;
            };
            if let Some(counter) = Counter::ALL.into_iter().find(|c| c.name() == name) {
                counters.add(counter, value.parse().expect("a number"));
            }
        }
        counters
    }
}

/// Whether tests that need root can run; says why if not, and fails if they must.
pub fn available() -> bool {
    // SAFETY: has no preconditions.
    let root = unsafe { libc::geteuid() } == 0;
    let missing = if !root {
        Some("root")
    } else if Command::new("ip").arg("-V").output().is_err() {
        Some("the program `ip`")
    } else if fs::metadata("/proc/net/xfrm_stat").is_err() {
        Some("a kernel with CONFIG_XFRM_STATISTICS")
    } else {
        None
    };
    if let Some(missing) = missing {
        assert!(
            std::env::var_os("CYGNET_REQUIRE_ALL").is_none(),
            "this test needs {missing}"
        );
        println!("skipped: needs {missing}");
    }
    missing.is_none()
}
