//! The kernel's own count of what XFRM dropped and why (`/proc/net/xfrm_stat`, K10).

use std::io;

/// The counters of the calling thread's network namespace by name, in the kernel's order; since the namespace was made.
///
/// # Errors
/// `NotFound` where the kernel has no such file (no `CONFIG_XFRM_STATISTICS`), `InvalidData` where a line is no counter.
pub fn xfrm_statistics() -> io::Result<Vec<(String, u64)>> {
    parse(&std::fs::read_to_string("/proc/thread-self/net/xfrm_stat")?)
}

fn parse(text: &str) -> io::Result<Vec<(String, u64)>> {
    text.lines()
        .map(|line| {
            let mut words = line.split_whitespace();
            match (words.next(), words.next().map(str::parse), words.next()) {
                (Some(name), Some(Ok(value)), None) => Ok((name.to_owned(), value)),
                _ => Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{line:?} is no counter"),
                )),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counters() {
        let counters =
            parse("XfrmInError             \t0\nXfrmOutNoStates         \t16\n").unwrap();
        assert_eq!(counters[1], ("XfrmOutNoStates".to_owned(), 16));
        assert!(parse("").unwrap().is_empty());
        for bad in ["XfrmInError", "XfrmInError -1", "XfrmInError 1 2", "\n"] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bad:?}");
        }
    }
}
