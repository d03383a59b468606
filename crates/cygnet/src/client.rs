//! The commands that speak to a running daemon.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use crate::control::{NO_DAEMON, Reply, Request, socket_path};
use crate::view;

/// How a conversation ended.
enum Ending {
    Done(String),
    Status(serde_json::Value),
    Exit(u8),
}

fn converse(run_dir: &Path, request: &Request) -> Ending {
    match try_converse(run_dir, request) {
        Ok(ending) => ending,
        Err(text) => {
            eprintln!("cygnet: {text}");
            Ending::Exit(NO_DAEMON)
        }
    }
}

fn try_converse(run_dir: &Path, request: &Request) -> Result<Ending, String> {
    let path = socket_path(run_dir);
    let mut stream = UnixStream::connect(&path)
        .map_err(|e| format!("no daemon answers at {}: {e}", path.display()))?;
    let mut line = serde_json::to_vec(request).map_err(|e| e.to_string())?;
    line.push(b'\n');
    stream
        .write_all(&line)
        .map_err(|e| format!("the daemon hung up: {e}"))?;
    for line in BufReader::new(stream).lines() {
        let line = line.map_err(|e| format!("the daemon hung up: {e}"))?;
        let reply: Reply = serde_json::from_str(&line)
            .map_err(|e| format!("the daemon said something unknown: {e}"))?;
        match reply {
            Reply::Progress { text, .. } => eprintln!("{text}"),
            Reply::Done { text } => return Ok(Ending::Done(text)),
            Reply::Status { status } => return Ok(Ending::Status(status)),
            Reply::Refused { reason, text, .. } => {
                eprintln!("cygnet: {text}");
                return Ok(Ending::Exit(reason.exit_status()));
            }
        }
    }
    Err("the daemon hung up without an answer".to_owned())
}

fn finish(ending: Ending) -> ExitCode {
    match ending {
        Ending::Done(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Ending::Status(status) => {
            println!("{status:#}");
            ExitCode::SUCCESS
        }
        Ending::Exit(code) => ExitCode::from(code),
    }
}

/// `cygnet up`.
pub(crate) fn up(run_dir: &Path, connection: &str, wait: bool) -> ExitCode {
    finish(converse(
        run_dir,
        &Request::Up {
            connection: connection.to_owned(),
            wait,
        },
    ))
}

/// `cygnet down`, `route`, `unroute`, `rekey`, `redirect`, `synchronise`, `reload`.
pub(crate) fn simple(run_dir: &Path, request: Request) -> ExitCode {
    finish(converse(run_dir, &request))
}

/// The status of the daemon, if there is one that answers.
pub(crate) fn current_status(run_dir: &Path) -> Option<serde_json::Value> {
    match try_converse(run_dir, &Request::Status) {
        Ok(Ending::Status(status)) => Some(status),
        _ => None,
    }
}

/// `cygnet status`.
pub(crate) fn status(run_dir: &Path, json: bool) -> ExitCode {
    match converse(run_dir, &Request::Status) {
        Ending::Status(status) if !json => {
            print!("{}", view::status(&status));
            ExitCode::SUCCESS
        }
        other => finish(other),
    }
}
