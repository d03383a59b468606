//! `cygnet xfrm`: the kernel's SAs, policies, events and counters, with names.
//!
//! Nothing here needs a daemon. If there is one, it says which connection and which peer an SA or a policy is for.

mod json;
mod monitor;
mod names;
mod stat;

use std::path::Path;
use std::process::ExitCode;

use cygnet_xfrm::{Client, RequestError, Text};
use serde_json::{Value, json};

use self::names::Names;
use crate::cli::{Form, XfrmCommand};

/// Runs one of the commands.
pub(crate) fn run(run_dir: &Path, command: &XfrmCommand) -> ExitCode {
    let result = match command {
        XfrmCommand::State {
            connection,
            keys,
            form,
        } => state(run_dir, connection.as_deref(), *keys, *form),
        XfrmCommand::Policy { connection, form } => policy(run_dir, connection.as_deref(), *form),
        XfrmCommand::Monitor { keys, form } => monitor::run(run_dir, *keys, *form),
        XfrmCommand::Stat { all, json } => stat::run(run_dir, *all, *json),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("cygnet: {}", failure.text);
            ExitCode::from(failure.status)
        }
    }
}

/// Why nothing can be shown.
struct Failure {
    text: String,
    /// The exit status.
    status: u8,
}

impl Failure {
    fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            status: 1,
        }
    }

    /// Failure to open a netlink socket.
    fn socket(error: &std::io::Error) -> Self {
        Self::new(format!("the kernel's IPsec cannot be reached: {error}"))
    }

    /// A connection that the daemon does not know, or no daemon that could.
    fn unknown(connection: &str, names: &Names) -> Self {
        if names.has_daemon() {
            let text = format!("no connection of the name {connection} is loaded");
            Self { text, status: 3 }
        } else {
            let text = format!("no daemon says which SAs and policies are those of {connection}");
            Self {
                text,
                status: crate::control::NO_DAEMON,
            }
        }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Self::new(error.to_string())
    }
}

/// `cygnet xfrm state`.
fn state(run_dir: &Path, only: Option<&str>, keys: bool, form: Form) -> Result<(), Failure> {
    let mut client = Client::open().map_err(|e| Failure::socket(&e))?;
    let names = Names::gather(run_dir);
    if let Some(connection) = only.filter(|c| !names.knows(c)) {
        return Err(Failure::unknown(connection, &names));
    }
    let shown = client.dump_sas()?.into_iter().filter(|(sa, _)| {
        only.is_none_or(|only| names.of_sa(sa).is_some_and(|n| n.connection == only))
    });
    if form.json {
        let list: Vec<_> = shown
            .map(|(sa, attributes)| {
                let mut value = json::sa(&sa, &attributes, &names, keys);
                names.add(&mut value, names.of_sa(&sa), &attributes);
                value
            })
            .collect();
        println!("{:#}", Value::Array(list));
        return Ok(());
    }
    let device = |index| names.device(index);
    let text = Text {
        keys,
        statistics: form.statistics,
        device: &device,
    };
    for (sa, attributes) in shown {
        print!(
            "{}{}",
            text.sa(&sa, &attributes),
            names.note(names.of_sa(&sa), &attributes)
        );
    }
    Ok(())
}

/// `cygnet xfrm policy`.
fn policy(run_dir: &Path, only: Option<&str>, form: Form) -> Result<(), Failure> {
    let mut client = Client::open().map_err(|e| Failure::socket(&e))?;
    let names = Names::gather(run_dir);
    if let Some(connection) = only.filter(|c| !names.knows(c)) {
        return Err(Failure::unknown(connection, &names));
    }
    let shown: Vec<_> = client
        .dump_policies()?
        .into_iter()
        .filter(|(_, attributes)| {
            only.is_none_or(|only| {
                names
                    .of_policy(attributes)
                    .is_some_and(|n| n.connection == only)
            })
        })
        .collect();
    // Kernels before 5.15 have no defaults: they accept.
    let defaults = client.defaults().ok();
    if form.json {
        let list: Vec<_> = shown
            .iter()
            .map(|(policy, attributes)| {
                let mut value = json::policy(policy, attributes, &names);
                names.add(&mut value, names.of_policy(attributes), attributes);
                value
            })
            .collect();
        let defaults = defaults.map(|d| json::defaults(&d));
        println!("{:#}", json!({ "policies": list, "defaults": defaults }));
        return Ok(());
    }
    let device = |index| names.device(index);
    let text = Text {
        keys: false,
        statistics: form.statistics,
        device: &device,
    };
    for (policy, attributes) in &shown {
        print!(
            "{}{}",
            text.policy(policy, attributes),
            names.note(names.of_policy(attributes), attributes)
        );
    }
    if let (None, Some(defaults)) = (only, defaults) {
        print!("{}", text.defaults(&defaults));
    }
    Ok(())
}
