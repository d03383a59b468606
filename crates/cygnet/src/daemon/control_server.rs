//! The daemon's end of the control socket.
//!
//! Every connection is one request. Lines, connections and the replies that
//! wait for a slow reader are bounded; a client that does not read is cut off
//! and nobody else notices.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

use crate::control::{MAX_LINE, Refusal, Reply, Request};

/// Clients served at once.
const MAX_CLIENTS: usize = 64;
/// Replies that may wait for a client.
const MAX_REPLIES: usize = 256;
/// A client has to send its request within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request and where its replies go.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) request: Request,
    pub(super) replies: mpsc::Sender<Reply>,
}

/// Binds the socket; only its owner may connect.
pub(super) fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves clients until the daemon ends.
pub(super) async fn serve(listener: UnixListener, calls: mpsc::Sender<Call>) {
    let places = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting a client on the control socket failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!(
                limit = MAX_CLIENTS,
                "too many clients on the control socket, one was turned away"
            );
            continue;
        };
        let calls = calls.clone();
        tokio::task::spawn_local(async move {
            if let Err(error) = client(stream, calls).await {
                tracing::debug!(%error, "a client of the control socket went away");
            }
            drop(place);
        });
    }
}

async fn client(stream: UnixStream, calls: mpsc::Sender<Call>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut bounded = BufReader::new(read.take(MAX_LINE as u64));
    tokio::time::timeout(PATIENCE, bounded.read_line(&mut line)).await??;
    if line.is_empty() {
        return Ok(());
    }
    let request: Request = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(error) => {
            let text = format!("not a request: {error}");
            return send(&mut write, &refusal(Refusal::Malformed, "malformed", text)).await;
        }
    };
    let (replies, mut queue) = mpsc::channel(MAX_REPLIES);
    if calls.send(Call { request, replies }).await.is_err() {
        let text = "the daemon is going down".to_owned();
        return send(&mut write, &refusal(Refusal::Failed, "shutting_down", text)).await;
    }
    while let Some(reply) = queue.recv().await {
        let last = !matches!(reply, Reply::Progress { .. });
        send(&mut write, &reply).await?;
        if last {
            break;
        }
    }
    Ok(())
}

async fn send(write: &mut (impl AsyncWriteExt + Unpin), reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    write.write_all(&line).await
}

/// A refusal with its stable name.
pub(super) fn refusal(reason: Refusal, name: &str, text: String) -> Reply {
    Reply::Refused {
        reason,
        name: name.to_owned(),
        text,
    }
}
