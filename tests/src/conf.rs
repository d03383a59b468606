//! ipsec.conf and ipsec.secrets of a test's gateway.

use std::fmt::Write as _;

use crate::site::{Family, Site};

/// The pre-shared key, unless a test says another one.
pub(crate) const SECRET: &str = "a key of a test that nobody else uses";

/// One connection, its secret and the settings of the daemon.
#[derive(Clone, Debug)]
pub struct Conf {
    setup: Vec<(String, String)>,
    name: String,
    keys: Vec<(String, String)>,
    secret: String,
}

impl Conf {
    /// The connection `office` between the gateways of a [`Site`], the same file for both of them.
    #[must_use]
    pub fn site(outer: Family) -> Self {
        let conf = Self {
            setup: Vec::new(),
            name: "office".to_owned(),
            keys: Vec::new(),
            secret: SECRET.to_owned(),
        };
        conf.set("left", &Site::west_outer(outer).to_string())
            .set("leftid", "@west.example")
            .set("leftsubnet", Site::WEST_NET)
            .set("right", &Site::east_outer(outer).to_string())
            .set("rightid", "@east.example")
            .set("rightsubnet", Site::EAST_NET)
            .set("authby", "secret")
            .set("dataplane", "userspace")
            .set("auto", "add")
    }

    /// Sets a keyword of the connection, or changes it.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        put(&mut self.keys, key, value);
        self
    }

    /// Sets a keyword of `config setup`.
    #[must_use]
    pub fn setup(mut self, key: &str, value: &str) -> Self {
        put(&mut self.setup, key, value);
        self
    }

    /// Changes the shared secret.
    #[must_use]
    pub fn secret(mut self, secret: &str) -> Self {
        self.secret = secret.to_owned();
        self
    }

    /// ipsec.conf.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = "config setup\n".to_owned();
        for (key, value) in &self.setup {
            let _ = writeln!(text, "    {key}={value}");
        }
        let _ = writeln!(text, "\nconn {}", self.name);
        for (key, value) in &self.keys {
            let _ = writeln!(text, "    {key}={value}");
        }
        text
    }

    /// ipsec.secrets.
    #[must_use]
    pub fn secrets(&self) -> String {
        format!(": PSK \"{}\"\n", self.secret)
    }
}

fn put(list: &mut Vec<(String, String)>, key: &str, value: &str) {
    match list.iter_mut().find(|(k, _)| k == key) {
        Some((_, old)) => value.clone_into(old),
        None => list.push((key.to_owned(), value.to_owned())),
    }
}
