//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use cygnet_ike::Gateway;

/// IPsec for Linux: IKEv2 daemon, data plane and the commands that control them.
#[derive(Debug, Parser)]
#[command(name = "cygnet", version, about, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Where the daemon keeps its control socket and its ledger.
    #[arg(
        long,
        global = true,
        default_value = "/run/cygnet",
        env = "CYGNET_RUN_DIR",
        value_name = "DIR"
    )]
    pub(crate) run_dir: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon in the foreground.
    Daemon(DaemonOptions),
    /// Read a configuration and report what is wrong with it.
    Check(CheckOptions),
    /// Bring a connection up and keep it up.
    ///
    /// Exit status: 0 it is up, 1 the first attempt failed (the daemon goes on
    /// trying), 3 no such connection, 4 no daemon.
    Up {
        /// The connection's name.
        connection: String,
        /// Return at once.
        #[arg(long)]
        no_wait: bool,
    },
    /// Take a connection down.
    Down {
        /// The connection's name.
        connection: String,
    },
    /// Set a trap: the first packet brings the connection up.
    Route {
        /// The connection's name.
        connection: String,
    },
    /// Take the trap away.
    Unroute {
        /// The connection's name.
        connection: String,
    },
    /// Renew a connection's SAs now.
    ///
    /// Exit status: 0 the renewal has begun, 1 there is nothing to renew, 3 no such connection, 4 no
    /// daemon.
    Rekey {
        /// The connection's name.
        connection: String,
        /// Renew the IKE SA instead of the child SAs: rekey it, or with `reauth=yes` authenticate
        /// anew.
        #[arg(long)]
        ike: bool,
    },
    /// Send the peers of a connection to another gateway (RFC 5685).
    ///
    /// Only those that have begun their IKE SA and said that they go where they are sent. Exit status: 0 they are
    /// told, 1 there are none, 3 no such connection, 4 no daemon.
    #[command(allow_missing_positional = true)]
    Redirect {
        /// The connection's name.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        connection: Option<String>,
        /// The peers of all connections.
        #[arg(long)]
        all: bool,
        /// The other gateway: an address or a name.
        #[arg(required = true)]
        target: Gateway,
    },
    /// Agree with the peers of a connection on Message IDs that neither end has used, and renew its child SAs
    /// (RFC 6311).
    ///
    /// For a gateway that has taken over IKE SAs and may not know how far they had come. Only with peers that can do
    /// it. Exit status: 0 they are asked, 1 there are none, 3 no such connection, 4 no daemon.
    Synchronise {
        /// The connection's name.
        connection: String,
    },
    /// Read the configuration again, as SIGHUP does.
    Reload,
    /// Show connections, SAs and counters.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the kernel's SAs, policies, events and counters.
    ///
    /// As `ip xfrm` does, with the names of connections, peers and interfaces where they are known: those of connections
    /// and peers from the daemon, if there is one.
    #[command(subcommand)]
    Xfrm(XfrmCommand),
    /// Follow a packet through routes, policies and SAs of this host, and say where it ends and why.
    ///
    /// Nothing is sent. Exit status: 0 the packet gets where it should, 1 it does not, or something is wrong about its
    /// way, 2 the host cannot be asked.
    Explain(ExplainOptions),
    /// Two gateways, a router and a tunnel in network namespaces of this machine.
    Demo(DemoOptions),
}

/// What to show of the kernel's IPsec.
#[derive(Debug, Subcommand)]
pub(crate) enum XfrmCommand {
    /// The SAs (SAD).
    State {
        /// Those of one connection only.
        connection: Option<String>,
        /// Keys too. Whoever sees them can read the traffic.
        #[arg(long)]
        keys: bool,
        #[command(flatten)]
        form: Form,
    },
    /// The policies (SPD), and what happens to packets that none is for.
    Policy {
        /// Those of one connection only.
        connection: Option<String>,
        #[command(flatten)]
        form: Form,
    },
    /// What the kernel tells, as it comes, until interrupted.
    ///
    /// While somebody listens the kernel asks for SAs that it lacks (ACQUIRE), and holds them back for a while.
    Monitor {
        /// Keys of new SAs too. Whoever sees them can read the traffic.
        #[arg(long)]
        keys: bool,
        #[command(flatten)]
        form: Form,
    },
    /// The counters that have moved, what moves them, and since when.
    Stat {
        /// Those that have not moved too.
        #[arg(long)]
        all: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// A packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// Sent by this host or forwarded, on its way out.
    Out,
    /// Received, for this host.
    In,
    /// Received, to be forwarded.
    Fwd,
}

/// Options of `cygnet explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainOptions {
    /// Which way it goes.
    pub(crate) way: Way,
    /// Its source address; `any`, of a packet that goes out, for what the route gives.
    #[arg(value_name = "SRC")]
    pub(crate) src: String,
    /// Its destination address.
    #[arg(value_name = "DST")]
    pub(crate) dst: std::net::IpAddr,
    /// Its protocol, by name or number.
    #[arg(long, short, default_value = "0", value_name = "PROTOCOL")]
    pub(crate) protocol: String,
    /// Its source port, or ICMP type.
    #[arg(long, default_value_t = 0, value_name = "PORT")]
    pub(crate) sport: u16,
    /// Its destination port, or ICMP code.
    #[arg(long, default_value_t = 0, value_name = "PORT")]
    pub(crate) dport: u16,
    /// Its mark, decimal or hexadecimal with 0x.
    #[arg(long, default_value = "0", value_name = "MARK")]
    pub(crate) mark: String,
    /// The device that it comes in by, or that its sender is bound to.
    #[arg(long, short, value_name = "DEVICE")]
    pub(crate) interface: Option<String>,
    /// Its size in octets, with its IP header.
    #[arg(long, value_name = "OCTETS")]
    pub(crate) size: Option<usize>,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How SAs, policies and events are shown.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Form {
    /// Lifetimes, use and failures too, as `ip -s xfrm` shows them.
    #[arg(long, short)]
    pub(crate) statistics: bool,
    /// As JSON, which has everything but the keys anyway.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `cygnet daemon`.
#[derive(Debug, Args)]
pub(crate) struct DaemonOptions {
    /// The configuration.
    #[arg(long, default_value = "/etc/ipsec.conf", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The secrets.
    #[arg(long, default_value = "/etc/ipsec.secrets", value_name = "FILE")]
    pub(crate) secrets: PathBuf,
    /// How the log on standard error looks.
    #[arg(long, value_enum, default_value_t = LogFormat::Human)]
    pub(crate) log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or a filter per module.
    #[arg(
        long,
        default_value = "info",
        env = "CYGNET_LOG",
        value_name = "FILTER"
    )]
    pub(crate) log: String,
    /// Write the keys of all SAs to files in this directory, for Wireshark. Whoever
    /// can read them can read the traffic.
    #[arg(long, value_name = "DIR")]
    pub(crate) key_log: Option<PathBuf>,
    /// Where secrets are kept that must survive a restart.
    #[arg(
        long,
        default_value = "/var/lib/cygnet",
        env = "CYGNET_STATE_DIR",
        value_name = "DIR"
    )]
    pub(crate) state_dir: PathBuf,
    /// Name of the user-space plane's device.
    #[arg(long, default_value = "cygnet0", value_name = "NAME")]
    pub(crate) device: String,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Options of `cygnet check`.
#[derive(Debug, Args)]
pub(crate) struct CheckOptions {
    /// The configuration.
    #[arg(default_value = "/etc/ipsec.conf", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The secrets; not looked at unless named.
    #[arg(long, value_name = "FILE")]
    pub(crate) secrets: Option<PathBuf>,
}

/// Options of `cygnet demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// The example's configuration files.
    #[arg(long, default_value = "examples/site-to-site", value_name = "DIR")]
    pub(crate) example: PathBuf,
    /// Where the capture and the keys are left.
    #[arg(long, default_value = "demo-out", value_name = "DIR")]
    pub(crate) out: PathBuf,
}
