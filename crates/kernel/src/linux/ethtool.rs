//! ESP offload features by the ethtool ioctl.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::netlink::RequestError;
use crate::offload::{EspOffload, OffloadProbe};

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
/// `ETH_SS_FEATURES`.
const FEATURES: u32 = 4;
const STRING_LEN: usize = 32;
/// `struct ethtool_get_features_block`: available, requested, active, never_changed.
const BLOCK_WORDS: usize = 4;

/// [`OffloadProbe`] by ioctl; works in the calling thread's network namespace.
#[derive(Debug, Default, Clone, Copy)]
pub struct Ethtool;

/// Runs one ethtool command; `words` is the command's structure, which the kernel fills in.
fn ethtool(socket: &impl AsRawFd, device: &CString, words: &mut [u32]) -> io::Result<()> {
    // SAFETY: all-zero octets are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(device.as_bytes_with_nul()) {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
    // SAFETY: the name is terminated (the caller checked its length); the kernel writes no more to `ifru_data` than
    // the counts in the structure allow, which the callers derive from the buffer's size.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

impl OffloadProbe for Ethtool {
    fn esp_offload(&mut self, device: &str) -> Result<EspOffload, RequestError> {
        let operation = format!("read features of {device}");
        let name = CString::new(device)
            .ok()
            .filter(|n| (1..libc::IFNAMSIZ).contains(&n.as_bytes().len()))
            .ok_or_else(|| RequestError::NotFound {
                operation: operation.clone(),
            })?;
        let socket = rustix::net::socket_with(
            AddressFamily::INET,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|e| RequestError::socket(&operation, e.into()))?;
        let refused = |error: io::Error| {
            RequestError::from_errno(
                &operation,
                error.raw_os_error().unwrap_or(libc::EIO),
                String::new(),
            )
        };

        // struct ethtool_sset_info: cmd, reserved, sset_mask (u64), then one u32 per set asked for.
        let mut info = [ETHTOOL_GSSET_INFO, 0, 1 << FEATURES, 0, 0];
        ethtool(&socket, &name, &mut info).map_err(refused)?;
        let count = info[4] as usize;
        // No kernel has more; a number from outside does not size an allocation unchecked.
        if info[2] & (1 << FEATURES) == 0 || count == 0 || count > 4096 {
            return Ok(EspOffload::default());
        }

        // struct ethtool_gstrings: cmd, string_set, len, then the names. The kernel writes as many as the set has,
        // which cannot change: the set is part of the kernel, not of the driver.
        let mut strings = vec![0u32; 3 + count * STRING_LEN / 4];
        strings[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, FEATURES, info[4]]);
        ethtool(&socket, &name, &mut strings).map_err(refused)?;
        let names: Vec<u8> = strings[3..].iter().flat_map(|w| w.to_ne_bytes()).collect();

        // struct ethtool_gfeatures: cmd, size (in blocks), then the blocks of 32 features each.
        let blocks = count.div_ceil(32);
        let mut features = vec![0u32; 2 + blocks * BLOCK_WORDS];
        features[0] = ETHTOOL_GFEATURES;
        features[1] = u32::try_from(blocks).unwrap_or(0);
        ethtool(&socket, &name, &mut features).map_err(refused)?;

        let active = |wanted: &str| {
            names
                .chunks_exact(STRING_LEN)
                .position(|n| n.split(|b| *b == 0).next() == Some(wanted.as_bytes()))
                .and_then(|bit| {
                    let block = features.get(2..)?.chunks_exact(BLOCK_WORDS).nth(bit / 32)?;
                    block.get(2).map(|word| word >> (bit % 32) & 1 == 1)
                })
                .unwrap_or(false)
        };
        Ok(EspOffload {
            esp: active("esp-hw-offload"),
            checksum: active("esp-tx-csum-hw-offload"),
            segmentation: active("tx-esp-segmentation"),
        })
    }
}
