//! Links by rtnetlink, settings by `/proc/sys`.

use std::io;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVti, InfoXfrm, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use super::Rtnetlink;
use crate::links::{Link, LinkKind, Links, Setting};
use crate::netlink::{NLM_F_CREATE, NLM_F_EXCL, RequestError};

/// The `if_id` among the attributes of an xfrm interface.
fn if_id(infos: &[LinkInfo]) -> u32 {
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Xfrm(data)) => Some(data),
        _ => None,
    });
    data.into_iter()
        .flatten()
        .find_map(|info| match info {
            InfoXfrm::IfId(id) => Some(*id),
            _ => None,
        })
        .unwrap_or(0)
}

/// The keys among the attributes of a VTI.
fn vti(infos: &[LinkInfo]) -> LinkKind {
    let (mut input_key, mut output_key) = (0, 0);
    for info in infos {
        if let LinkInfo::Data(InfoData::Vti(data)) = info {
            for info in data {
                match info {
                    InfoVti::IKey(key) => input_key = *key,
                    InfoVti::OKey(key) => output_key = *key,
                    _ => {}
                }
            }
        }
    }
    LinkKind::Vti {
        input_key,
        output_key,
    }
}

/// The link that a message describes; `None` if it lacks a name.
pub(crate) fn link_of(message: &LinkMessage) -> Option<Link> {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: LinkKind::Plain,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        loopback: flags.contains(LinkFlags::Loopback),
        mtu: 0,
        alias: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        link.kind = match kind {
                            InfoKind::Tun => LinkKind::Tun,
                            InfoKind::Xfrm => LinkKind::Xfrm {
                                if_id: if_id(infos),
                            },
                            InfoKind::Vti | InfoKind::Vti6 => vti(infos),
                            other => LinkKind::Other(other.to_string()),
                        };
                    }
                }
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

impl Rtnetlink {
    fn set_link(&mut self, operation: &str, message: LinkMessage) -> Result<(), RequestError> {
        self.ask(operation, RouteNetlinkMessage::SetLink(message), 0)
            .map(drop)
    }
}

fn message(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

impl Links for Rtnetlink {
    fn links(&mut self) -> Result<Vec<Link>, RequestError> {
        let answers = self.dump(
            "list links",
            &RouteNetlinkMessage::GetLink(LinkMessage::default()),
        )?;
        Ok(answers
            .iter()
            .filter_map(|m| match m {
                RouteNetlinkMessage::NewLink(m) => link_of(m),
                _ => None,
            })
            .collect())
    }

    fn link(&mut self, name: &str) -> Result<Link, RequestError> {
        let operation = format!("find link {name}");
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        let answers = match self.ask(&operation, RouteNetlinkMessage::GetLink(message), 0) {
            // A name that no device can have (too long, empty) is a device that is not there.
            Err(RequestError::Refused {
                errno: libc::EINVAL | libc::ERANGE,
                ..
            }) => {
                return Err(RequestError::NotFound { operation });
            }
            other => other?,
        };
        answers
            .iter()
            .find_map(|m| match m {
                RouteNetlinkMessage::NewLink(m) => link_of(m),
                _ => None,
            })
            .ok_or_else(|| RequestError::malformed(&operation, "no link in it"))
    }

    fn set_up(&mut self, index: u32, up: bool) -> Result<(), RequestError> {
        let mut message = message(index);
        message.header.change_mask = LinkFlags::Up;
        if up {
            message.header.flags = LinkFlags::Up;
        }
        let state = if up { "up" } else { "down" };
        self.set_link(&format!("set link #{index} {state}"), message)
    }

    fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), RequestError> {
        let mut message = message(index);
        message.attributes.push(LinkAttribute::Mtu(mtu));
        self.set_link(&format!("set mtu {mtu} of link #{index}"), message)
    }

    fn set_alias(&mut self, index: u32, alias: &str) -> Result<(), RequestError> {
        let mut message = message(index);
        message
            .attributes
            .push(LinkAttribute::IfAlias(alias.to_owned()));
        self.set_link(&format!("set alias {alias} of link #{index}"), message)
    }

    fn add_xfrm_interface(&mut self, name: &str, if_id: u32) -> Result<(), RequestError> {
        let mut message = LinkMessage::default();
        let info = vec![
            LinkInfo::Kind(InfoKind::Xfrm),
            LinkInfo::Data(InfoData::Xfrm(vec![InfoXfrm::IfId(if_id)])),
        ];
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(info),
        ];
        self.ask(
            &format!("add link {name} type xfrm if_id {if_id:#x}"),
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .map(drop)
    }

    fn delete_link(&mut self, index: u32) -> Result<(), RequestError> {
        self.ask(
            &format!("delete link #{index}"),
            RouteNetlinkMessage::DelLink(message(index)),
            0,
        )
        .map(drop)
    }

    fn setting(&mut self, device: &str, setting: Setting) -> Result<i64, RequestError> {
        let (operation, path) = setting_path("read", device, setting)?;
        let text = std::fs::read_to_string(path).map_err(|e| setting_error(&operation, e))?;
        text.trim()
            .parse()
            .map_err(|_| RequestError::malformed(&operation, format!("{text:?} is no number")))
    }

    fn set_setting(
        &mut self,
        device: &str,
        setting: Setting,
        value: i64,
    ) -> Result<(), RequestError> {
        let (operation, path) = setting_path("set", device, setting)?;
        std::fs::write(path, value.to_string()).map_err(|e| setting_error(&operation, e))
    }
}

/// The operation's description and the file below `/proc/sys`.
fn setting_path(
    verb: &str,
    device: &str,
    setting: Setting,
) -> Result<(String, String), RequestError> {
    let name = setting.name(device);
    let operation = format!("{verb} {name}");
    // The kernel forbids these in device names; a caller's string must not lead elsewhere in the file system.
    if device.is_empty() || device == "." || device == ".." || device.contains(['/', '\0']) {
        return Err(RequestError::NotFound { operation });
    }
    let path = format!("/proc/sys/{name}");
    Ok((operation, path))
}

fn setting_error(operation: &str, error: io::Error) -> RequestError {
    match error.raw_os_error() {
        // /proc/sys mounted read-only, as in containers.
        Some(libc::EROFS) => RequestError::NoPermission {
            operation: operation.to_owned(),
        },
        Some(errno) => RequestError::from_errno(operation, errno, String::new()),
        None => RequestError::malformed(operation, error.to_string()),
    }
}
