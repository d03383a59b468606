//! `cygnet xfrm monitor`: what the kernel tells, as it comes.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use cygnet_xfrm::{Body, Event, EventSocket, Group, Message, Text};
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Value, json};

use super::names::{Name, Names};
use super::{Failure, json as show};
use crate::cli::Form;

/// The daemon is asked for names no more often than this.
const PATIENCE: Duration = Duration::from_secs(1);

/// Shows events until nobody reads them any more.
pub(super) fn run(run_dir: &Path, keys: bool, form: Form) -> Result<(), Failure> {
    let mut events = EventSocket::open(&Group::ALL).map_err(|e| Failure::socket(&e))?;
    let mut names = Names::gather(run_dir);
    let mut gathered = Instant::now();
    loop {
        while let Some(event) = events.receive().map_err(|e| Failure::socket(&e))? {
            if gathered.elapsed() > PATIENCE && unnamed(&event, &names) {
                names = Names::gather(run_dir);
                gathered = Instant::now();
            }
            let shown = if form.json {
                format!("{}\n", as_json(&event, &names, keys))
            } else {
                as_text(&event, &names, keys, form.statistics)
            };
            let mut out = std::io::stdout().lock();
            let written = out.write_all(shown.as_bytes()).and_then(|()| out.flush());
            if written.is_err() {
                return Ok(());
            }
        }
        let waited = poll(&mut [PollFd::new(&events, PollFlags::IN)], None);
        match waited {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Failure::socket(&error.into())),
        }
    }
}

/// Whom an event is about.
fn name<'a>(message: &Message, names: &'a Names) -> Option<&'a Name> {
    match &message.body {
        Body::NewSa(sa) | Body::UpdateSa(sa) => names.of_sa(sa),
        Body::DeleteSa(_) => message.attributes.sa().and_then(|sa| names.of_sa(sa)),
        Body::Expire(e) => names.of_sa(&e.sa),
        Body::NewPolicy(_)
        | Body::UpdatePolicy(_)
        | Body::DeletePolicy(_)
        | Body::PolicyExpire(_)
        | Body::Acquire(_) => names.of_policy(&message.attributes),
        _ => None,
    }
}

/// Whether the names that we have do not say what an event is about.
fn unnamed(event: &Event, names: &Names) -> bool {
    matches!(event, Event::Message { message, .. } if name(message, names).is_none())
}

/// Time of day in seconds.
fn now() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

fn as_text(event: &Event, names: &Names, keys: bool, statistics: bool) -> String {
    let device = |index| names.device(index);
    let text = Text {
        keys,
        statistics,
        device: &device,
    };
    let now = now();
    let stamp = format!("{}.{:03} ", now.as_secs(), now.subsec_millis());
    match event {
        Event::Message { message, .. } => {
            let note = names.note(name(message, names), &message.attributes);
            format!("{stamp}{}{note}", text.event(message))
        }
        Event::Resync => format!("{stamp}events were lost\n"),
        Event::Unreadable { kind, error } => format!("{stamp}{kind}: {error}\n"),
    }
}

fn as_json(event: &Event, names: &Names, keys: bool) -> Value {
    let mut value = match event {
        Event::Message { message, .. } => {
            let mut value = show::event(message, names, keys);
            names.add(&mut value, name(message, names), &message.attributes);
            value
        }
        Event::Resync => json!({ "event": "lost" }),
        Event::Unreadable { kind, error } => {
            json!({ "event": "unreadable", "type": kind.to_string(), "error": error.to_string() })
        }
    };
    value["time"] = now().as_secs_f64().into();
    value
}
