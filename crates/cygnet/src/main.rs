//! The `cygnet` command.
fn main() {}
