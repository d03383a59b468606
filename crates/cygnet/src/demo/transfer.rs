//! A TCP transfer between two namespaces, measured at the receiver.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Runs `work` on a thread inside a network namespace.
fn inside<T: Send + 'static>(
    namespace: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> JoinHandle<io::Result<T>> {
    let path = format!("/var/run/netns/{namespace}");
    std::thread::spawn(move || {
        let file = File::open(path)?;
        move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&file),
            Some(LinkNameSpaceType::Network),
        )?;
        work()
    })
}

fn join<T>(thread: JoinHandle<io::Result<T>>) -> io::Result<T> {
    thread
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
}

/// How long nothing may move before the transfer counts as failed.
const STALL: Duration = Duration::from_secs(10);
/// How often a transfer that does not move looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(200);

/// Repeats what timed out until it works, nothing moves for [`STALL`], or `stop` is set.
fn patiently<T>(stop: &AtomicBool, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let end = Instant::now() + STALL;
    loop {
        match attempt() {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                if stop.load(Ordering::SeqCst) || Instant::now() > end {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "nothing gets through",
                    ));
                }
            }
            other => return other,
        }
    }
}

/// Sends for `time`, or until `stop`, and returns a sentence with the throughput.
pub(super) fn run(
    from: &str,
    to: &str,
    address: &str,
    time: Duration,
    stop: &Arc<AtomicBool>,
) -> io::Result<String> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let listener = join(inside(to, move || TcpListener::bind(address)))?;
    let stopped = stop.clone();
    let receiver = inside(to, move || {
        listener.set_nonblocking(true)?;
        let mut stream = patiently(&stopped, || {
            let accepted = listener.accept();
            if accepted.is_err() {
                std::thread::sleep(Duration::from_millis(5));
            }
            accepted
        })?
        .0;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(LOOK))?;
        let start = Instant::now();
        let (mut total, mut buffer) = (0u64, vec![0; 1 << 18]);
        loop {
            match patiently(&stopped, || stream.read(&mut buffer))? {
                0 => return Ok((total, start.elapsed())),
                n => total += n as u64,
            }
        }
    });
    let stopped = stop.clone();
    let sender = inside(from, move || {
        let mut stream = TcpStream::connect_timeout(&address, STALL)?;
        stream.set_write_timeout(Some(LOOK))?;
        let end = Instant::now() + time;
        let block = vec![0x5a; 1 << 18];
        while Instant::now() < end && !stopped.load(Ordering::SeqCst) {
            patiently(&stopped, || stream.write(&block))?;
        }
        Ok(())
    });
    join(sender)?;
    let (bytes, took) = join(receiver)?;
    let seconds = took.as_secs_f64();
    Ok(format!(
        "{:.1} MB in {seconds:.1} s: {:.0} Mbit/s",
        bytes as f64 / 1e6,
        bytes as f64 * 8.0 / 1e6 / seconds
    ))
}
