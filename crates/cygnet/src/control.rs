//! The control socket's protocol: one JSON object a line, both ways.
//!
//! The client sends one [`Request`]; the daemon answers with any number of
//! [`Reply::Progress`] lines and ends with one [`Reply::Done`],
//! [`Reply::Status`] or [`Reply::Refused`]. `docs/control-protocol.md` is the
//! reference for users of the socket.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The longest line either side accepts, in octets.
pub(crate) const MAX_LINE: usize = 4096;

/// Where the daemon with this run directory listens.
pub(crate) fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("control.sock")
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Bring up and keep up; with `wait`, answer when it is up or the attempt failed.
    Up {
        connection: String,
        #[serde(default)]
        wait: bool,
    },
    /// Take down.
    Down { connection: String },
    /// Set the trap.
    Route { connection: String },
    /// Take the trap away.
    Unroute { connection: String },
    /// Renew the child SAs, or the IKE SAs that they are under.
    Rekey {
        connection: String,
        #[serde(default)]
        ike: bool,
    },
    /// Send the peers of a connection, or all peers, to another gateway.
    Redirect {
        connection: Option<String>,
        target: String,
    },
    /// Agree with the peers of a connection on Message IDs that neither end has used.
    Synchronise { connection: String },
    /// Read the configuration again.
    Reload,
    /// Connections, SAs, counters.
    Status,
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub(crate) enum Reply {
    /// Something happened on the way.
    Progress { event: String, text: String },
    /// The command was carried out.
    Done { text: String },
    /// The answer to `status`.
    Status { status: serde_json::Value },
    /// It was not.
    Refused {
        reason: Refusal,
        name: String,
        text: String,
    },
}

/// Kinds of refusals; the client's exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refusal {
    /// The attempt failed.
    Failed,
    /// The request is not one.
    Malformed,
    /// No such connection.
    UnknownConnection,
}

impl Refusal {
    /// The exit status that stands for it.
    pub(crate) fn exit_status(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Malformed => 2,
            Self::UnknownConnection => 3,
        }
    }
}

/// Exit status of a command that finds no daemon.
pub(crate) const NO_DAEMON: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_lines_are_what_is_spoken() {
        let up: Request =
            serde_json::from_str(r#"{"command":"up","connection":"office"}"#).unwrap();
        assert_eq!(
            up,
            Request::Up {
                connection: "office".into(),
                wait: false
            }
        );
        assert!(
            serde_json::from_str::<Request>(r#"{"command":"up","conection":"office"}"#).is_err()
        );
        assert!(serde_json::from_str::<Request>(r#"{"command":"launch"}"#).is_err());
        let done = serde_json::to_string(&Reply::Done { text: "up".into() }).unwrap();
        assert_eq!(done, r#"{"reply":"done","text":"up"}"#);
    }
}
