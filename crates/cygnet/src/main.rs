//! The `cygnet` command: the daemon and everything that talks to it.
//!
//! This is the only place with clocks, sockets, files, threads and signals.
//! `daemon` runs the loop around the engine; the other commands speak to it
//! over the control socket (`docs/control-protocol.md`).

#![forbid(unsafe_code)]

mod check;
mod cli;
mod client;
mod control;
mod daemon;
mod demo;
mod explain;
mod loader;
mod view;
mod xfrm;

use std::process::ExitCode;

use clap::Parser;

use crate::control::Request;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match cli.command {
        cli::Command::Daemon(options) => daemon::run(&cli.run_dir, &options),
        cli::Command::Check(options) => check::run(&options),
        cli::Command::Up {
            connection,
            no_wait,
        } => client::up(&cli.run_dir, &connection, !no_wait),
        cli::Command::Down { connection } => {
            client::simple(&cli.run_dir, Request::Down { connection })
        }
        cli::Command::Route { connection } => {
            client::simple(&cli.run_dir, Request::Route { connection })
        }
        cli::Command::Unroute { connection } => {
            client::simple(&cli.run_dir, Request::Unroute { connection })
        }
        cli::Command::Rekey { connection, ike } => {
            client::simple(&cli.run_dir, Request::Rekey { connection, ike })
        }
        cli::Command::Redirect {
            connection, target, ..
        } => {
            let target = target.to_string();
            client::simple(&cli.run_dir, Request::Redirect { connection, target })
        }
        cli::Command::Synchronise { connection } => {
            client::simple(&cli.run_dir, Request::Synchronise { connection })
        }
        cli::Command::Reload => client::simple(&cli.run_dir, Request::Reload),
        cli::Command::Status { json } => client::status(&cli.run_dir, json),
        cli::Command::Xfrm(command) => xfrm::run(&cli.run_dir, &command),
        cli::Command::Explain(options) => explain::run(&options),
        cli::Command::Demo(options) => demo::run(&options),
    }
}
