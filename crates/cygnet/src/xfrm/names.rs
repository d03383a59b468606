//! What SAs, policies and interfaces are called: connections and peers by the daemon, interfaces by the kernel.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use cygnet_kernel::linux::Rtnetlink;
use cygnet_kernel::{LinkKind, Links};
use cygnet_xfrm::{Attributes, SaInfo};
use serde_json::Value;

use crate::client;

/// The connection that an SA or a policy is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) connection: String,
    /// The peer's identity, once it has one.
    pub(super) peer: Option<String>,
}

/// What is known by name.
#[derive(Debug, Default)]
pub(super) struct Names {
    daemon: bool,
    connections: Vec<String>,
    by_spi: HashMap<u32, Name>,
    by_reqid: HashMap<u32, Name>,
    devices: HashMap<u32, String>,
    interfaces: HashMap<u32, String>,
}

impl Names {
    /// Asks the daemon and the kernel. Whoever does not answer names nothing.
    pub(super) fn gather(run_dir: &Path) -> Self {
        let mut names = Self::default();
        if let Some(status) = client::current_status(run_dir) {
            names.daemon = true;
            names.connections_of(&status);
        }
        let links = Rtnetlink::open().and_then(|mut netlink| netlink.links());
        for link in links.unwrap_or_default() {
            if let LinkKind::Xfrm { if_id } = link.kind
                && if_id != 0
            {
                names.interfaces.insert(if_id, link.name.clone());
            }
            names.devices.insert(link.index, link.name);
        }
        names
    }

    fn connections_of(&mut self, status: &Value) {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let ikes = list(&status["ike_sas"]);
        let peer = |ike: &Value| {
            let found = ikes.iter().find(|sa| !ike.is_null() && sa["id"] == *ike);
            found
                .and_then(|sa| sa["remote_id"].as_str())
                .map(str::to_owned)
        };
        for connection in list(&status["connections"]) {
            let Some(name) = connection["name"].as_str() else {
                continue;
            };
            self.connections.push(name.to_owned());
            let mut last = None;
            for child in list(&connection["children"]) {
                let name = Name {
                    connection: name.to_owned(),
                    peer: peer(&child["ike"]),
                };
                for spi in ["spi_in", "spi_out"] {
                    let spi = child[spi].as_str().map(|s| u32::from_str_radix(s, 16));
                    if let Some(Ok(spi)) = spi {
                        self.by_spi.insert(spi, name.clone());
                    }
                }
                last = name.peer;
            }
            if let Some(reqid) = reqid(&connection["reqid"]) {
                let name = Name {
                    connection: name.to_owned(),
                    peer: last,
                };
                self.by_reqid.insert(reqid, name);
            }
        }
    }

    /// Whether a daemon has answered.
    pub(super) fn has_daemon(&self) -> bool {
        self.daemon
    }

    /// Whether a connection of this name is loaded.
    pub(super) fn knows(&self, connection: &str) -> bool {
        self.connections.iter().any(|c| c == connection)
    }

    /// Whom an SA is for.
    pub(super) fn of_sa(&self, sa: &SaInfo) -> Option<&Name> {
        self.by_spi
            .get(&sa.id.spi)
            .or_else(|| self.by_reqid.get(&sa.reqid))
    }

    /// Whom a policy is for.
    pub(super) fn of_policy(&self, attributes: &Attributes) -> Option<&Name> {
        attributes
            .templates()
            .iter()
            .find_map(|template| self.by_reqid.get(&template.reqid))
    }

    /// The name of the device with an index.
    pub(super) fn device(&self, index: u32) -> Option<String> {
        self.devices.get(&index).cloned()
    }

    /// The xfrm interface with the `if_id` that an SA or a policy has.
    fn interface(&self, attributes: &Attributes) -> Option<&str> {
        let interface = self.interfaces.get(&attributes.if_id()?)?;
        Some(interface)
    }

    /// Whom something is for and its interface, as the line that `ip xfrm` has not; empty if neither is known.
    pub(super) fn note(&self, name: Option<&Name>, attributes: &Attributes) -> String {
        let mut parts = Vec::new();
        if let Some(name) = name {
            let mut part = format!("connection {}", name.connection);
            if let Some(peer) = &name.peer {
                let _ = write!(part, " peer {peer}");
            }
            parts.push(part);
        }
        let interface = self.interface(attributes);
        parts.extend(interface.map(|interface| format!("interface {interface}")));
        if parts.is_empty() {
            return String::new();
        }
        format!("\t{}\n", parts.join(" "))
    }

    /// The same as members of an object.
    pub(super) fn add(&self, value: &mut Value, name: Option<&Name>, attributes: &Attributes) {
        if let Some(name) = name {
            value["connection"] = name.connection.as_str().into();
            value["peer"] = name.peer.as_deref().into();
        }
        if let Some(interface) = self.interface(attributes) {
            value["interface"] = interface.into();
        }
    }
}

/// A reqid; 0 stands for none.
fn reqid(value: &Value) -> Option<u32> {
    value
        .as_u64()
        .and_then(|id| u32::try_from(id).ok())
        .filter(|id| *id != 0)
}

#[cfg(test)]
mod tests {
    use cygnet_xfrm::Attribute;
    use serde_json::json;

    use super::*;

    #[test]
    fn sas_have_the_name_of_their_connection() {
        let mut names = Names::default();
        names.connections_of(&json!({
            "connections": [
                {"name": "office", "reqid": 7, "children": [
                    {"ike": 3, "spi_in": "c0000001", "spi_out": "00001234"}]},
                {"name": "idle", "reqid": 9, "children": []},
                {"name": "blocked", "reqid": 0, "children": []}],
            "ike_sas": [{"id": 3, "remote_id": "@east.example"}],
        }));
        let sa = |spi, reqid| SaInfo {
            id: cygnet_xfrm::Id {
                spi,
                ..Default::default()
            },
            reqid,
            ..SaInfo::default()
        };
        names.interfaces.insert(4, "ipsec1".to_owned());
        let with_interface = Attributes::default().with(Attribute::IfId(4));
        let office = names.of_sa(&sa(0x1234, 0)).unwrap();
        assert_eq!(
            names.note(Some(office), &Attributes::default()),
            "\tconnection office peer @east.example\n"
        );
        assert_eq!(names.of_sa(&sa(5, 7)).unwrap().connection, "office");
        assert_eq!(
            names.note(names.of_sa(&sa(5, 9)), &with_interface),
            "\tconnection idle interface ipsec1\n"
        );
        assert_eq!(names.of_sa(&sa(5, 0)), None);
        assert!(names.knows("blocked") && !names.knows("nobody"));
    }
}
