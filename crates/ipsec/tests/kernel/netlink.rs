//! Just enough XFRM netlink to give the kernel the commands that the databases get (K14, K15).

use std::io;
use std::net::IpAddr;

use cygnet_ipsec::{
    Action, AllocateSpi, Family, Policy, PolicyKey, PolicyType, PortMatch, Selector, Template,
};
use ipnet::IpNet;

const NETLINK_XFRM: i32 = 6;
const GROUP_ACQUIRE: i32 = 1;
const NEWPOLICY: u16 = 0x13;
const DELPOLICY: u16 = 0x14;
const GETPOLICY: u16 = 0x15;
const ALLOCSPI: u16 = 0x16;
const ACQUIRE: u16 = 0x17;
const UPDPOLICY: u16 = 0x19;
const FLUSHSA: u16 = 0x1c;
const FLUSHPOLICY: u16 = 0x1d;
const NEWSADINFO: u16 = 0x22;
const GETSADINFO: u16 = 0x23;
const SETDEFAULT: u16 = 0x27;
const TMPL: u16 = 5;
const POLICY_TYPE: u16 = 16;
const MARK: u16 = 21;
const IF_ID: u16 = 31;

/// A socket in the namespace of the thread that opens it.
pub struct Xfrm(i32);

impl Drop for Xfrm {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours and not used again.
        unsafe { libc::close(self.0) };
    }
}

/// The parts of an ACQUIRE that are compared.
#[derive(Debug, PartialEq)]
pub struct KernelAcquire {
    pub dst: IpAddr,
    pub src: IpAddr,
    pub protocol: u8,
    pub selector: Vec<u8>,
    pub policy_index: u32,
    pub priority: u32,
    pub seq: u32,
}

impl Xfrm {
    pub fn open() -> Xfrm {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: has no preconditions.
        let socket = unsafe { libc::socket(libc::AF_NETLINK, kind, NETLINK_XFRM) };
        assert!(socket >= 0, "{}", io::Error::last_os_error());
        Xfrm(socket)
    }

    /// Starts to hear ACQUIREs.
    pub fn listen(&self) {
        // A socket without an address of its own is passed over when the kernel multicasts.
        // SAFETY: all zero is a proper address of this kind; it lives through the call.
        let result = unsafe {
            let mut address: libc::sockaddr_nl = std::mem::zeroed();
            address.nl_family = libc::AF_NETLINK as u16;
            libc::bind(
                self.0,
                (&raw const address).cast(),
                size_of_val(&address) as u32,
            )
        };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        let group = GROUP_ACQUIRE;
        // SAFETY: the option's value is an int that lives through the call.
        let result =
            unsafe { libc::setsockopt(self.0, libc::SOL_NETLINK, 1, (&raw const group).cast(), 4) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    /// The ACQUIREs heard so far.
    pub fn acquires(&self) -> Vec<KernelAcquire> {
        let mut heard = Vec::new();
        while let Some(message) = self.receive(libc::MSG_DONTWAIT) {
            if u16_at(&message, 4) == ACQUIRE {
                let body = &message[16..];
                let family = u16_at(body, 40 + 40);
                heard.push(KernelAcquire {
                    dst: address_at(body, 0, template_family(body)),
                    src: address_at(body, 24, template_family(body)),
                    protocol: body[20],
                    selector: body[40..96].to_vec(),
                    policy_index: u32_at(body, 96 + 156),
                    priority: u32_at(body, 96 + 152),
                    seq: u32_at(body, 276),
                });
                assert!(family == 2 || family == 10);
            }
        }
        heard
    }

    /// Sends a request and returns the error number, 0 for success.
    fn request(&self, kind: u16, body: &[u8]) -> i32 {
        match self.send(kind, body, libc::NLM_F_ACK as u16) {
            (2, reply) => -i32::from_ne_bytes(reply[..4].try_into().expect("four octets")),
            (kind, _) => panic!("an answer of type {kind} where an error number was due"),
        }
    }

    fn send(&self, kind: u16, body: &[u8], flags: u16) -> (u16, Vec<u8>) {
        let mut message = Vec::new();
        message.extend((16 + body.len() as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((libc::NLM_F_REQUEST as u16 | flags).to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        // SAFETY: the buffer lives through the call and has the length given.
        let sent = unsafe { libc::send(self.0, message.as_ptr().cast(), message.len(), 0) };
        assert_eq!(
            sent,
            message.len() as isize,
            "{}",
            io::Error::last_os_error()
        );
        let reply = self.receive(0).expect("an answer");
        (u16_at(&reply, 4), reply[16..].to_vec())
    }

    fn receive(&self, flags: i32) -> Option<Vec<u8>> {
        let mut buffer = vec![0u8; 8192];
        // SAFETY: the buffer is writable in all its length.
        let len = unsafe { libc::recv(self.0, buffer.as_mut_ptr().cast(), buffer.len(), flags) };
        usize::try_from(len).ok().map(|len| buffer[..len].to_vec())
    }

    pub fn install_policy(&self, policy: &Policy) -> i32 {
        self.request(NEWPOLICY, &policy_message(policy))
    }

    pub fn update_policy(&self, policy: &Policy) -> i32 {
        self.request(UPDPOLICY, &policy_message(policy))
    }

    pub fn remove_policy(&self, key: &PolicyKey) -> i32 {
        self.request(DELPOLICY, &policy_id(key))
    }

    /// Index and priority of a policy, or an error number.
    pub fn query_policy(&self, key: &PolicyKey) -> Result<(u32, u32), i32> {
        match self.send(GETPOLICY, &policy_id(key), 0) {
            (NEWPOLICY, body) => Ok((u32_at(&body, 156), u32_at(&body, 152))),
            (_, error) => Err(-i32::from_ne_bytes(
                error[..4].try_into().expect("four octets"),
            )),
        }
    }

    /// The SPI given, or an error number.
    pub fn allocate_spi(&self, request: &AllocateSpi) -> Result<u32, i32> {
        let mut body = vec![0; 232];
        put_address(&mut body, 56, request.dst);
        body[76] = request.protocol.number();
        put_address(&mut body, 80, request.src);
        put(&mut body, 204, &request.acquire_seq.to_ne_bytes());
        put(&mut body, 208, &request.reqid.to_ne_bytes());
        put(
            &mut body,
            212,
            &family_number(Family::of(request.dst)).to_ne_bytes(),
        );
        body[214] = request.mode as u8;
        put(&mut body, 224, &request.min.to_ne_bytes());
        put(&mut body, 228, &request.max.to_ne_bytes());
        mark_attribute(&mut body, request.mark.value, request.mark.mask);
        attribute(&mut body, IF_ID, &request.if_id.to_ne_bytes());
        match self.send(ALLOCSPI, &body, 0) {
            (0x10, body) => Ok(u32::from_be_bytes(
                body[72..76].try_into().expect("four octets"),
            )),
            (_, error) => Err(-i32::from_ne_bytes(
                error[..4].try_into().expect("four octets"),
            )),
        }
    }

    /// How many SAs there are, larval ones included.
    pub fn count_sas(&self) -> u32 {
        match self.send(GETSADINFO, &[0xff; 4], 0) {
            // Flags, then the count as the first attribute.
            (NEWSADINFO, body) if u16_at(&body, 6) == 1 => u32_at(&body, 8),
            (kind, body) => panic!("an answer of type {kind}: {body:x?}"),
        }
    }

    pub fn flush(&self) {
        for policy_type in [0, 1] {
            let mut body = Vec::new();
            attribute(&mut body, POLICY_TYPE, &[policy_type, 0, 0, 0, 0, 0]);
            let error = self.request(FLUSHPOLICY, &body);
            assert!(error == 0 || error == libc::ESRCH, "flush: {error}");
        }
        let error = self.request(FLUSHSA, &[255]);
        assert!(error == 0 || error == libc::ESRCH, "flush: {error}");
    }

    pub fn set_defaults(&self, input: Action, forward: Action, output: Action) {
        let number = |action| match action {
            Action::Block => 1,
            Action::Allow => 2,
        };
        let body = [number(input), number(forward), number(output)];
        assert_eq!(self.request(SETDEFAULT, &body), 0);
    }
}

/// The octets of a `struct xfrm_selector`.
pub fn selector_bytes(selector: &Selector) -> Vec<u8> {
    let mut body = vec![0; 56];
    put_address(&mut body, 0, selector.dst.addr());
    put_address(&mut body, 16, selector.src.addr());
    let mut port = |at: usize, port: PortMatch| {
        put(&mut body, at, &port.port.to_be_bytes());
        put(&mut body, at + 2, &port.mask.to_be_bytes());
    };
    port(32, selector.dport);
    port(36, selector.sport);
    put(
        &mut body,
        40,
        &family_number(selector.family()).to_ne_bytes(),
    );
    let length = |prefix: &IpNet| prefix.prefix_len();
    body[42] = length(&selector.dst);
    body[43] = length(&selector.src);
    body[44] = selector.protocol;
    put(&mut body, 48, &selector.ifindex.to_ne_bytes());
    put(&mut body, 52, &selector.user.to_ne_bytes());
    body
}

fn policy_message(policy: &Policy) -> Vec<u8> {
    let mut body = selector_bytes(&policy.key.selector);
    body.resize(168, 0);
    // No byte or packet limits.
    put(&mut body, 56, &[0xff; 32]);
    put(&mut body, 152, &policy.priority.to_ne_bytes());
    put(&mut body, 156, &policy.index.to_ne_bytes());
    body[160] = policy.key.direction as u8;
    body[161] = policy.action as u8;
    let templates: Vec<u8> = policy.templates.iter().flat_map(template_bytes).collect();
    if !templates.is_empty() {
        attribute(&mut body, TMPL, &templates);
    }
    key_attributes(&mut body, &policy.key);
    body
}

fn policy_id(key: &PolicyKey) -> Vec<u8> {
    let mut body = selector_bytes(&key.selector);
    body.resize(64, 0);
    body[60] = key.direction as u8;
    key_attributes(&mut body, key);
    body
}

fn key_attributes(body: &mut Vec<u8>, key: &PolicyKey) {
    if key.policy_type == PolicyType::Sub {
        attribute(body, POLICY_TYPE, &[1, 0, 0, 0, 0, 0]);
    }
    mark_attribute(body, key.mark.value, key.mark.mask);
    if key.if_id != 0 {
        attribute(body, IF_ID, &key.if_id.to_ne_bytes());
    }
}

fn mark_attribute(body: &mut Vec<u8>, value: u32, mask: u32) {
    if (value, mask) != (0, 0) {
        attribute(
            body,
            MARK,
            &[value.to_ne_bytes(), mask.to_ne_bytes()].concat(),
        );
    }
}

fn template_bytes(template: &Template) -> Vec<u8> {
    let mut body = vec![0; 64];
    put_address(&mut body, 0, template.dst);
    put(&mut body, 16, &template.spi.to_be_bytes());
    body[20] = template.protocol.number();
    put(
        &mut body,
        24,
        &family_number(template.family()).to_ne_bytes(),
    );
    put_address(&mut body, 28, template.src);
    put(&mut body, 44, &template.reqid.to_ne_bytes());
    body[48] = template.mode as u8;
    body[50] = template.optional.into();
    put(&mut body, 52, &[0xff; 12]);
    body
}

/// The family of the template in an ACQUIRE, from its only attribute that tells: the first template.
fn template_family(body: &[u8]) -> u16 {
    let mut at = 280;
    while at + 4 <= body.len() {
        let len = usize::from(u16_at(body, at));
        if u16_at(body, at + 2) == TMPL {
            return u16_at(body, at + 4 + 24);
        }
        at += len.next_multiple_of(4).max(4);
    }
    panic!("an ACQUIRE without a template");
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend((4 + value.len() as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn family_number(family: Family) -> u16 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

fn put(body: &mut [u8], at: usize, value: &[u8]) {
    body[at..at + value.len()].copy_from_slice(value);
}

fn put_address(body: &mut [u8], at: usize, address: IpAddr) {
    match address {
        IpAddr::V4(address) => put(body, at, &address.octets()),
        IpAddr::V6(address) => put(body, at, &address.octets()),
    }
}

fn address_at(body: &[u8], at: usize, family: u16) -> IpAddr {
    let octets: [u8; 16] = body[at..at + 16].try_into().expect("sixteen octets");
    match family {
        2 => IpAddr::from(<[u8; 4]>::try_from(&octets[..4]).expect("four octets")),
        _ => IpAddr::from(octets),
    }
}

fn u16_at(body: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(body[at..at + 2].try_into().expect("two octets"))
}

fn u32_at(body: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(body[at..at + 4].try_into().expect("four octets"))
}
