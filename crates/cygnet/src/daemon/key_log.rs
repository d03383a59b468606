//! Keys of all SAs in the form in which Wireshark reads them, on request only.
//!
//! Two tables as they stand in a Wireshark profile: `ikev2_decryption_table`
//! and `esp_sa`. With `WIRESHARK_CONFIG_DIR` set to the directory, tshark
//! decrypts IKE and ESP of a capture.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use cygnet_crypto::{Encryption, Integrity};
use cygnet_ike::IkeKeyLog;
use cygnet_ipsec::Sa;

/// The open tables.
#[derive(Debug)]
pub(super) struct KeyLogFiles {
    ike: File,
    esp: File,
}

impl KeyLogFiles {
    /// Opens the tables, readable by nobody else, and keeps what they hold.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let open = |name: &str| {
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(dir.join(name))
        };
        Ok(Self {
            ike: open("ikev2_decryption_table")?,
            esp: open("esp_sa")?,
        })
    }

    /// The same files for another thread.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            ike: self.ike.try_clone()?,
            esp: self.esp.try_clone()?,
        })
    }

    /// Adds an IKE SA.
    pub(super) fn ike_sa(&mut self, keys: &IkeKeyLog) -> io::Result<()> {
        // One row with an unknown name and Wireshark refuses the table.
        let Some(encryption) = keys.suite.encryption.wireshark_ike_name() else {
            return Ok(());
        };
        // Wireshark wants the salt of an AEAD behind the key, as KEYMAT has it.
        let row = format!(
            "{},{},{},{},\"{}\",{},{},\"{}\"\n",
            keys.initiator_spi,
            keys.responder_spi,
            hex(keys.sk_ei.as_ref()),
            hex(keys.sk_er.as_ref()),
            encryption,
            hex(keys.sk_ai.as_ref()),
            hex(keys.sk_ar.as_ref()),
            keys.suite
                .integrity
                .map_or(Integrity::WIRESHARK_IKE_NONE, Integrity::wireshark_ike_name),
        );
        self.ike.write_all(row.as_bytes())
    }

    /// Adds an ESP SA; algorithms that have no name there are left out, and so is what encrypts nothing.
    pub(super) fn esp_sa(&mut self, sa: &Sa) -> io::Result<()> {
        let Some(cipher) = &sa.encryption else {
            return Ok(());
        };
        let key_len = cipher.key.as_ref().len();
        let same = |e: &&Encryption| e.iana_id() == cipher.transform && e.key_len() == key_len;
        let known = Encryption::ALL.iter().find(same);
        let Some(encryption) = known.and_then(|e| e.wireshark_esp_name()) else {
            return Ok(());
        };
        let integrity = sa
            .integrity
            .as_ref()
            .and_then(|k| Integrity::from_iana(k.transform));
        let family = if sa.id.dst.is_ipv4() { "IPv4" } else { "IPv6" };
        let row = format!(
            "\"{family}\",\"{}\",\"{}\",\"{:#010x}\",\"{}\",\"{}\",\"{}\",\"{}\",\"{}\"\n",
            sa.src,
            sa.id.dst,
            sa.id.spi,
            encryption,
            key_field(cipher.key.as_ref()),
            integrity.map_or(Integrity::WIRESHARK_ESP_NONE, Integrity::wireshark_esp_name),
            sa.integrity
                .as_ref()
                .map_or_else(String::new, |k| key_field(k.key.as_ref())),
            if sa.esn { "64-bit" } else { "32-bit" },
        );
        self.esp.write_all(row.as_bytes())
    }
}

/// A key as the `esp_sa` table wants it.
fn key_field(key: &[u8]) -> String {
    if key.is_empty() {
        String::new()
    } else {
        format!("0x{}", hex(key))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}
