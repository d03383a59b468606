//! swanctl.conf of a test's strongSwan.

use std::fmt;

use crate::conf::SECRET;
use crate::site::{Family, Site};

/// The connection `office` of east, with the child `net`: the other end of [`Conf::site`](crate::Conf::site).
#[derive(Clone, Debug)]
pub struct SwanConf {
    outer: Family,
    connection: Vec<String>,
    child: Vec<String>,
}

impl SwanConf {
    /// With strongSwan's defaults.
    #[must_use]
    pub fn site(outer: Family) -> Self {
        Self {
            outer,
            connection: Vec::new(),
            child: Vec::new(),
        }
    }

    /// Adds lines to the connection.
    #[must_use]
    pub fn connection(mut self, lines: impl Into<String>) -> Self {
        self.connection.push(lines.into());
        self
    }

    /// Adds lines to the child.
    #[must_use]
    pub fn child(mut self, lines: impl Into<String>) -> Self {
        self.child.push(lines.into());
        self
    }
}

impl fmt::Display for SwanConf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            outer,
            connection,
            child,
        } = self;
        writeln!(f, "connections {{ office {{")?;
        writeln!(f, "version = 2")?;
        writeln!(f, "local_addrs = {}", Site::east_outer(*outer))?;
        writeln!(f, "remote_addrs = {}", Site::west_outer(*outer))?;
        writeln!(f, "{}", connection.join("\n"))?;
        writeln!(f, "local {{\n auth = psk\n id = @east.example\n}}")?;
        writeln!(f, "remote {{\n auth = psk\n id = @west.example\n}}")?;
        writeln!(f, "children {{ net {{")?;
        writeln!(f, "local_ts = {}", Site::EAST_NET)?;
        writeln!(f, "remote_ts = {}", Site::WEST_NET)?;
        writeln!(f, "{}", child.join("\n"))?;
        writeln!(f, "}} }}\n}} }}")?;
        writeln!(f, "secrets {{ ike {{ secret = \"{SECRET}\" }} }}")
    }
}
