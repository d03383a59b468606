//! Random exploration: whole engines with their planes, in pairs, on a network that does its worst.
//!
//! Each seed makes a run, some minutes of the hosts' time in a millisecond of ours: loss to 30 %, reordering,
//! repetition, delays beyond retransmission, restarts, commands, changed configurations, limits of SAs, addresses and
//! NAT mappings that change. What must hold is in `run` (agreement, nothing left over, what is wanted is up), `wire`
//! (no Message ID, IV or key means two things) and `sads` (no packet is lost to rekeying).
//!
//! ```text
//! cargo test --release -p cygnet-engine --test explore -- 0..1000000 --progress FILE --result FILE
//! cargo test --release -p cygnet-engine --test explore -- --seed 4711
//! cargo test --release -p cygnet-engine --test explore -- 0..10000 --real-crypto
//! ```
//!
//! Without arguments, as part of `cargo test`, it runs for about ten seconds.

#[path = "../network/mod.rs"]
mod network;

mod counts;
mod dice;
mod required;
mod run;
mod sads;
mod wire;
mod world;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use counts::Counts;
use run::Options;

/// Seeds between two writings of the progress file, unless `--block` says otherwise.
const BLOCK: u64 = 5_000;

/// Runs by which it is shown that a seed reproduces and that what was killed goes on where it was.
const PROOF: u64 = 12;

/// How long the runs of `cargo test` take.
const QUICK: Duration = Duration::from_secs(10);

/// With so many failures there is no use in more.
const ENOUGH: usize = 20;

struct Arguments {
    seeds: Range<u64>,
    seed: Option<u64>,
    options: Options,
    threads: usize,
    progress: Option<PathBuf>,
    /// Where the report goes too.
    result: Option<PathBuf>,
    quick: bool,
    block: u64,
    /// End with the first failure.
    first: bool,
}

fn arguments() -> Result<Option<Arguments>, String> {
    let mut parsed = Arguments {
        seeds: 0..u64::MAX,
        seed: None,
        options: Options::default(),
        threads: 2,
        progress: None,
        result: None,
        quick: true,
        block: BLOCK,
        first: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = |what: &str| {
            let text = words.next().ok_or(format!("{what} needs a value"))?;
            text.parse::<u64>()
                .map_err(|e| format!("{what} {text}: {e}"))
        };
        match word.as_str() {
            "--seed" => parsed.seed = Some(number("--seed")?),
            "--threads" => parsed.threads = number("--threads")?.max(1) as usize,
            "--block" => parsed.block = number("--block")?.max(1),
            "--real-crypto" => parsed.options.real_crypto = true,
            "--first" => parsed.first = true,
            "--progress" => {
                parsed.progress = Some(words.next().ok_or("--progress needs a file")?.into());
            }
            "--result" => {
                parsed.result = Some(words.next().ok_or("--result needs a file")?.into());
            }
            _ => match word.split_once("..") {
                Some((from, to)) => {
                    let number = |text: &str| text.parse().map_err(|e| format!("{word}: {e}"));
                    parsed.seeds = number(from)?..number(to)?;
                    parsed.quick = false;
                }
                // `cargo test NAME` and options of its test programs come here too.
                None if word == "--list" => return Ok(None),
                None if word.starts_with("--") => {}
                None if !"random_exploration".contains(word.as_str()) => return Ok(None),
                None => {}
            },
        }
    }
    Ok(Some(parsed))
}

fn main() -> ExitCode {
    match arguments() {
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(arguments)) => match arguments.seed {
            Some(seed) => replay(seed, arguments.options),
            None => explore(&arguments),
        },
    }
}

fn replay(seed: u64, options: Options) -> ExitCode {
    let options = Options {
        trace: true,
        ..options
    };
    let mut counts = Counts::default();
    match run::run(seed, options, &mut counts) {
        Ok(()) => {
            println!("seed {seed}: all is well");
            ExitCode::SUCCESS
        }
        Err(text) => {
            println!("seed {seed}: {text}");
            ExitCode::FAILURE
        }
    }
}

/// What has come of the runs so far.
#[derive(Default)]
struct Tally {
    done: u64,
    counts: Counts,
    failures: BTreeMap<u64, String>,
}

fn one(seed: u64, options: Options, counts: &mut Counts) -> Result<(), String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| run::run(seed, options, counts)));
    outcome.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or(panic.downcast_ref::<&str>().copied());
        Err(format!("panic: {}", text.unwrap_or("of another kind")))
    })
}

/// Makes the runs of a range of seeds, each thread the next one.
fn block(arguments: &Arguments, seeds: Range<u64>, until: Option<Instant>) -> Tally {
    let next = AtomicU64::new(seeds.start);
    let all = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                let mut own = Tally::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || until.is_some_and(|until| Instant::now() >= until) {
                        break;
                    }
                    own.done += 1;
                    if let Err(text) = one(seed, arguments.options, &mut own.counts) {
                        println!("seed {seed}: {text}");
                        own.failures.insert(seed, text);
                        if arguments.first || own.failures.len() >= ENOUGH {
                            next.store(u64::MAX / 2, Ordering::Relaxed);
                        }
                    }
                }
                let mut all = all.lock().expect("nobody panics with it");
                all.done += own.done;
                all.counts.merge(&own.counts);
                all.failures.extend(own.failures);
            });
        }
    });
    all.into_inner().expect("nobody panics with it")
}

/// A seed makes the same run each time, whatever runs beside it; and runs that were killed are resumed as if nothing had
/// been.
fn prove_reproducible(arguments: &Arguments) -> Result<(), String> {
    let counts = |threads| {
        let arguments = Arguments {
            threads,
            progress: None,
            result: None,
            seeds: 0..PROOF,
            ..*arguments
        };
        block(&arguments, 0..PROOF, None).counts
    };
    let expected = counts(1);
    if counts(2) != expected {
        return Err("the same seeds have made other runs".to_owned());
    }
    let progress = std::env::temp_dir().join(format!("cygnet-explore-{}", std::process::id()));
    let outcome = resumed(&progress);
    let _ = std::fs::remove_file(&progress);
    let mut resumed = outcome.map_err(|e| format!("what was killed: {e}"))?;
    for own in ["runs", "milliseconds"] {
        resumed.remove(own);
    }
    match resumed == expected {
        true => Ok(()),
        false => Err("what was killed and resumed has come to another end".to_owned()),
    }
}

/// What another process makes of the same runs that is killed in the middle, and started again.
fn resumed(progress: &Path) -> std::io::Result<Counts> {
    let mut command = Command::new(std::env::current_exe()?);
    let seeds = format!("0..{PROOF}");
    command.args([&seeds, "--threads", "1", "--block", "3"]);
    command
        .arg("--progress")
        .arg(progress)
        .stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let lines = child.stdout.take().map(BufReader::new);
    // The first line that comes tells that a block is done.
    let mut line = String::new();
    lines.map_or(Ok(0), |mut lines| lines.read_line(&mut line))?;
    child.kill()?;
    child.wait()?;
    let output = command.output()?;
    let again = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || !again.contains("resuming at seed") {
        return Err(std::io::Error::other(format!("{line}{again}")));
    }
    let text = std::fs::read_to_string(progress)?;
    Ok(Counts::from_lines(text.lines()))
}

fn explore(arguments: &Arguments) -> ExitCode {
    // Panics are failures of their seed.
    std::panic::set_hook(Box::new(|info| println!("{info}")));
    if arguments.quick
        && let Err(text) = prove_reproducible(arguments)
    {
        println!("{text}");
        return ExitCode::FAILURE;
    }
    let began = Instant::now();
    let mut total = Tally::default();
    let mut elapsed_before = Duration::ZERO;
    if arguments.quick {
        total = block(arguments, arguments.seeds.clone(), Some(began + QUICK));
    } else {
        let mut next = arguments.seeds.start;
        // What other code has done says nothing of this one.
        let heading = format!(
            "commit {} seeds {:?} {:?}",
            commit(),
            arguments.seeds,
            arguments.options
        );
        if let Some(text) = arguments
            .progress
            .as_ref()
            .and_then(|path| std::fs::read_to_string(path).ok())
        {
            let mut lines = text.lines();
            if lines.next() == Some(&heading) {
                total.counts = Counts::from_lines(lines);
                total.done = total.counts.get("runs");
                elapsed_before = Duration::from_millis(total.counts.get("milliseconds"));
                next += total.done;
                println!("resuming at seed {next}");
            }
        }
        while next < arguments.seeds.end && total.failures.is_empty() {
            let end = (next + arguments.block).min(arguments.seeds.end);
            let part = block(arguments, next..end, None);
            total.done += part.done;
            total.counts.merge(&part.counts);
            total.failures.extend(part.failures);
            next = end;
            let elapsed = began.elapsed();
            if let Some(path) = &arguments.progress
                && total.failures.is_empty()
            {
                let mut counts = total.counts.clone();
                counts.add_many("runs", total.done - counts.get("runs"));
                let spent = (elapsed_before + elapsed).as_millis() as u64;
                counts.add_many("milliseconds", spent - counts.get("milliseconds"));
                let text = format!("{heading}\n{}", counts.to_lines());
                if let Err(e) = write_whole(path, &text) {
                    eprintln!("{}: {e}", path.display());
                }
            }
            // Who reads this line finds the progress written.
            println!(
                "{} runs, {:.0} a second",
                total.done,
                total.done as f64 / (elapsed_before + elapsed).as_secs_f64()
            );
        }
    }
    report(arguments, &total, elapsed_before + began.elapsed())
}

/// Writes a file at once, so that it is whole whenever this program is killed.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(new, path)
}

fn report(arguments: &Arguments, total: &Tally, elapsed: Duration) -> ExitCode {
    let mut text = String::new();
    if !arguments.quick {
        text += &format!("commit {}\n", commit());
        text += &format!("{}\n", compiler());
        text += &format!("seeds {:?}, {:?}\n", arguments.seeds, arguments.options);
        text += &total.counts.to_lines();
    }
    text += &format!(
        "{} runs in {:.0} s, {:.0} a second on {} threads, {} failed\n",
        total.done,
        elapsed.as_secs_f64(),
        total.done as f64 / elapsed.as_secs_f64(),
        arguments.threads,
        total.failures.len()
    );
    for (seed, failure) in &total.failures {
        text += &format!("failed: --seed {seed}: {failure}\n");
    }
    let missing = required::missing(total.done, |name| total.counts.get(name));
    for (name, count) in &missing {
        text += &format!("too seldom: {count} {name}\n");
    }
    print!("{text}");
    if let Some(path) = &arguments.result
        && let Err(e) = std::fs::write(path, &text)
    {
        eprintln!("{}: {e}", path.display());
        return ExitCode::FAILURE;
    }
    if total.failures.is_empty() && missing.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The compiler that is here, which has made this program.
fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output();
    let text = output
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok());
    text.map_or("unknown compiler".to_owned(), |text| text.trim().to_owned())
}

/// What the runs were made with.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let Some(head) = git(&["rev-parse", "HEAD"]) else {
        return "unknown".to_owned();
    };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => head,
        _ => format!("{head} with changes"),
    }
}
