//! `cygnet check`: is this configuration right?

use std::process::ExitCode;

use crate::cli::CheckOptions;
use crate::loader::Files;

/// Reads the files as the daemon would and reports.
pub(crate) fn run(options: &CheckOptions) -> ExitCode {
    match cygnet_config::load(&options.config, options.secrets.as_deref(), &Files) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                eprintln!("{warning}");
            }
            let loaded_count = loaded.set.connections.len();
            println!(
                "{}: {loaded_count} connections, no errors",
                options.config.display()
            );
            ExitCode::SUCCESS
        }
        Err(report) => {
            eprintln!("{report}");
            ExitCode::FAILURE
        }
    }
}
