//! Writes messages and chains of payloads at the end of a caller's buffer.
//!
//! Lengths and next-payload fields are filled in afterwards. The first error is kept and returned at the end, so that a message
//! reads as one chain of calls; after an error the buffer is as it was before.

use crate::error::WriteError;
use crate::header::Header;
use crate::limits::{MAX_DELETE_SPIS, MAX_MESSAGE_LEN, MAX_PAYLOADS, NONCE_LEN};
use crate::message::{CRITICAL, GENERIC_HEADER_LEN};
use crate::payload::configuration::write_cp;
use crate::payload::proposal::write_proposals;
use crate::payload::traffic_selector::write_selectors;
use crate::payload::{
    ConfigAttribute, EapPayload, Notify, Payload, Proposal, SelectorEntry, TrafficSelector,
};
use crate::registry::{AuthMethodId, CertEncoding, CfgType, IdType, KeId, PayloadType, ProtocolId};
use crate::spi::Spi;

/// Writes a whole message to the end of `out`: `header` with next payload and length filled in, then
/// the payloads that `payloads` writes.
///
/// If the last of them is [`PayloadWriter::sk`] or [`PayloadWriter::skf`], `out` then ends where the initialization vector
/// begins, and the caller must append exactly the octets that it has announced.
///
/// ```
/// use cygnet_wire::{ExchangeType, Flags, Header, IkeSpi, Notify, NotifyType, write_message};
///
/// let flags = Flags { initiator: true, ..Flags::default() };
/// let header = Header::new(IkeSpi(1), IkeSpi::ZERO, ExchangeType::IKE_SA_INIT, flags, 0);
/// let mut datagram = Vec::new();
/// write_message(&mut datagram, &header, |payloads| {
///     payloads.nonce(&[7; 32]).notify(&Notify::new(NotifyType::COOKIE, b"biscuit"));
/// })?;
/// # Ok::<(), cygnet_wire::WriteError>(())
/// ```
///
/// # Errors
/// The first thing that has no encoding; `out` is then as it was before.
pub fn write_message(
    out: &mut Vec<u8>,
    header: &Header,
    payloads: impl FnOnce(&mut PayloadWriter<'_>),
) -> Result<(), WriteError> {
    let start = out.len();
    out.extend(header.to_bytes());
    let result = (|| {
        let mut writer = PayloadWriter::new(out);
        payloads(&mut writer);
        let announced = writer.announced;
        let first = writer.finish()?;
        let length = out.len().saturating_sub(start).saturating_add(announced);
        let too_long = WriteError::TooLong {
            what: "message",
            length,
            maximum: MAX_MESSAGE_LEN,
        };
        let field = u32::try_from(length).map_err(|_| too_long)?;
        if length > MAX_MESSAGE_LEN {
            return Err(too_long);
        }
        patch(
            out,
            start.saturating_add(Header::NEXT_PAYLOAD_AT),
            &[first.0],
        );
        patch(
            out,
            start.saturating_add(Header::LENGTH_AT),
            &field.to_be_bytes(),
        );
        Ok(())
    })();
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Writes a chain of payloads to the end of a buffer: the clear part of a message (see [`write_message`]), or the
/// plaintext of an Encrypted payload.
#[derive(Debug)]
#[must_use = "errors show only in `finish`"]
pub struct PayloadWriter<'b> {
    out: &'b mut Vec<u8>,
    /// Length of `out` before the first payload.
    start: usize,
    first: PayloadType,
    /// Where the next-payload octet of the last payload is.
    link_at: Option<usize>,
    count: usize,
    /// The last payload is SK or SKF.
    ended: bool,
    /// Octets of that payload which the caller will append.
    announced: usize,
    error: Option<WriteError>,
}

impl<'b> PayloadWriter<'b> {
    /// Starts a chain at the end of `out`.
    pub const fn new(out: &'b mut Vec<u8>) -> Self {
        let start = out.len();
        Self {
            out,
            start,
            first: PayloadType::NONE,
            link_at: None,
            count: 0,
            ended: false,
            announced: 0,
            error: None,
        }
    }

    /// Ends the chain and gives the type of its first payload ([`PayloadType::NONE`] if there is none).
    ///
    /// # Errors
    /// The first thing that had no encoding; the buffer is then as it was before.
    pub fn finish(self) -> Result<PayloadType, WriteError> {
        match self.error {
            None => Ok(self.first),
            Some(error) => {
                self.out.truncate(self.start);
                Err(error)
            }
        }
    }

    /// Security Association.
    pub fn sa(&mut self, proposals: &[Proposal]) -> &mut Self {
        self.payload(PayloadType::SA, false, |out| {
            write_proposals(out, proposals)
        })
    }

    /// Key Exchange.
    pub fn ke(&mut self, method: KeId, public: &[u8]) -> &mut Self {
        self.payload(PayloadType::KE, false, |out| {
            out.extend(method.0.to_be_bytes());
            out.extend([0, 0]);
            out.extend_from_slice(public);
            Ok(())
        })
    }

    /// Identification of the initiator.
    pub fn id_i(&mut self, id_type: IdType, data: &[u8]) -> &mut Self {
        self.typed(PayloadType::ID_I, id_type.0, data)
    }

    /// Identification of the responder.
    pub fn id_r(&mut self, id_type: IdType, data: &[u8]) -> &mut Self {
        self.typed(PayloadType::ID_R, id_type.0, data)
    }

    /// Certificate.
    pub fn cert(&mut self, encoding: CertEncoding, data: &[u8]) -> &mut Self {
        self.payload(PayloadType::CERT, false, |out| {
            out.push(encoding.0);
            out.extend_from_slice(data);
            Ok(())
        })
    }

    /// Certificate Request.
    pub fn certreq(&mut self, encoding: CertEncoding, authorities: &[u8]) -> &mut Self {
        self.payload(PayloadType::CERTREQ, false, |out| {
            out.push(encoding.0);
            out.extend_from_slice(authorities);
            Ok(())
        })
    }

    /// Authentication.
    pub fn auth(&mut self, method: AuthMethodId, data: &[u8]) -> &mut Self {
        self.typed(PayloadType::AUTH, method.0, data)
    }

    /// Nonce, 16 to 256 octets.
    pub fn nonce(&mut self, nonce: &[u8]) -> &mut Self {
        self.payload(PayloadType::NONCE, false, |out| {
            if !NONCE_LEN.contains(&nonce.len()) {
                return Err(WriteError::BadNonceLength(nonce.len()));
            }
            out.extend_from_slice(nonce);
            Ok(())
        })
    }

    /// Notify.
    pub fn notify(&mut self, notify: &Notify<'_>) -> &mut Self {
        self.payload(PayloadType::NOTIFY, false, |out| {
            out.push(notify.protocol.0);
            put_u8_length(out, "spi of a notification", notify.spi.len())?;
            out.extend(notify.kind.0.to_be_bytes());
            out.extend_from_slice(notify.spi);
            out.extend_from_slice(notify.data);
            Ok(())
        })
    }

    /// Delete of ESP or AH SAs, by the SPIs that we receive with.
    pub fn delete(&mut self, protocol: ProtocolId, spis: &[Spi]) -> &mut Self {
        self.delete_spis(protocol, 4, spis.iter().map(|spi| spi.to_bytes()))
    }

    /// Delete of this IKE SA.
    pub fn delete_ike(&mut self) -> &mut Self {
        self.delete_spis(ProtocolId::IKE, 0, std::iter::empty::<[u8; 0]>())
    }

    fn delete_spis<S: AsRef<[u8]>>(
        &mut self,
        protocol: ProtocolId,
        spi_size: u8,
        spis: impl Iterator<Item = S>,
    ) -> &mut Self {
        self.payload(PayloadType::DELETE, false, |out| {
            out.extend([protocol.0, spi_size]);
            let count_at = out.len();
            out.extend([0, 0]);
            let mut count = 0_u16;
            for spi in spis {
                let spi = spi.as_ref();
                if spi.len() != usize::from(spi_size) || spi.is_empty() {
                    return Err(WriteError::BadSpiSize {
                        found: spi.len(),
                        expected: usize::from(spi_size),
                    });
                }
                out.extend_from_slice(spi);
                count = count.saturating_add(1);
                check_count("spis", usize::from(count), MAX_DELETE_SPIS)?;
            }
            patch(out, count_at, &count.to_be_bytes());
            Ok(())
        })
    }

    /// Vendor ID.
    pub fn vendor_id(&mut self, id: &[u8]) -> &mut Self {
        self.bytes(PayloadType::VENDOR_ID, false, id)
    }

    /// Traffic selectors of the initiator of the exchange.
    pub fn ts_i(&mut self, selectors: &[TrafficSelector]) -> &mut Self {
        self.payload(PayloadType::TS_I, false, |out| {
            write_selectors(
                out,
                selectors
                    .iter()
                    .map(|selector| SelectorEntry::Ip(*selector)),
            )
        })
    }

    /// Traffic selectors of the responder of the exchange.
    pub fn ts_r(&mut self, selectors: &[TrafficSelector]) -> &mut Self {
        self.payload(PayloadType::TS_R, false, |out| {
            write_selectors(
                out,
                selectors
                    .iter()
                    .map(|selector| SelectorEntry::Ip(*selector)),
            )
        })
    }

    /// Traffic selectors of any type of the initiator of the exchange.
    pub fn ts_i_entries(&mut self, entries: &[SelectorEntry<'_>]) -> &mut Self {
        self.payload(PayloadType::TS_I, false, |out| {
            write_selectors(out, entries.iter().copied())
        })
    }

    /// Traffic selectors of any type of the responder of the exchange.
    pub fn ts_r_entries(&mut self, entries: &[SelectorEntry<'_>]) -> &mut Self {
        self.payload(PayloadType::TS_R, false, |out| {
            write_selectors(out, entries.iter().copied())
        })
    }

    /// Configuration.
    pub fn cp(&mut self, cfg_type: CfgType, attributes: &[ConfigAttribute<'_>]) -> &mut Self {
        self.payload(PayloadType::CP, false, |out| {
            write_cp(out, cfg_type, attributes)
        })
    }

    /// Extensible Authentication: one whole EAP message.
    pub fn eap(&mut self, message: &[u8]) -> &mut Self {
        self.payload(PayloadType::EAP, false, |out| {
            EapPayload::parse(message).map_err(|error| WriteError::MalformedEap(error.kind))?;
            out.extend_from_slice(message);
            Ok(())
        })
    }

    /// Puzzle Solution: four keys of equal length, one after the other (RFC 8019, 8.2).
    pub fn ps(&mut self, keys: &[u8]) -> &mut Self {
        self.bytes(PayloadType::PS, false, keys)
    }

    /// A payload of any type but SK and SKF, body as given.
    pub fn raw(&mut self, payload_type: PayloadType, critical: bool, body: &[u8]) -> &mut Self {
        if payload_type == PayloadType::NONE || payload_type.is_encrypted() {
            return self.fail(WriteError::NotRaw(payload_type));
        }
        self.bytes(payload_type, critical, body)
    }

    /// The generic header of an Encrypted payload whose initialization vector, ciphertext and integrity checksum
    /// have `body_len` octets. They are left to the caller to append. No payload can follow.
    pub fn sk(&mut self, first_inner: PayloadType, body_len: usize) -> &mut Self {
        self.encrypted(PayloadType::SK, first_inner, &[], body_len)
    }

    /// The headers of an Encrypted Fragment payload, as [`PayloadWriter::sk`]. `first_inner` is that of the whole plaintext and
    /// goes into the first fragment only.
    pub fn skf(
        &mut self,
        first_inner: PayloadType,
        number: u16,
        total: u16,
        body_len: usize,
    ) -> &mut Self {
        if number == 0 || number > total {
            return self.fail(WriteError::BadFragmentNumber { number, total });
        }
        //= rfc7383#2.5
        //# In the rest of the Fragment messages (with Fragment Number greater
        //# than 1), this field MUST be set to zero.
        let first_inner = if number == 1 {
            first_inner
        } else {
            PayloadType::NONE
        };
        let [number_high, number_low] = number.to_be_bytes();
        let [total_high, total_low] = total.to_be_bytes();
        self.encrypted(
            PayloadType::SKF,
            first_inner,
            &[number_high, number_low, total_high, total_low],
            body_len,
        )
    }

    /// A payload that was received, or made by hand, as it is. SK and SKF are copied with their bodies.
    pub fn any(&mut self, payload: &Payload<'_>) -> &mut Self {
        match payload {
            Payload::Sa(sa) => self.sa(&sa.to_proposals()),
            Payload::Ke(ke) => self.ke(ke.method, ke.data),
            Payload::IdI(id) => self.id_i(id.id_type, id.data),
            Payload::IdR(id) => self.id_r(id.id_type, id.data),
            Payload::Cert(cert) => self.cert(cert.encoding, cert.data),
            Payload::CertReq(request) => self.certreq(request.encoding, request.authorities),
            Payload::Auth(auth) => self.auth(auth.method, auth.data),
            Payload::Nonce(nonce) => self.nonce(nonce.data()),
            Payload::Notify(notify) => self.notify(notify),
            Payload::Delete(delete) => {
                self.delete_spis(delete.protocol, delete.spi_size(), delete.spis())
            }
            Payload::VendorId(id) => self.vendor_id(id),
            Payload::TsI(ts) => self.ts_i_entries(&ts.entries().collect::<Vec<_>>()),
            Payload::TsR(ts) => self.ts_r_entries(&ts.entries().collect::<Vec<_>>()),
            Payload::Cp(cp) => self.cp(cp.cfg_type, &cp.attributes().collect::<Vec<_>>()),
            Payload::Eap(eap) => self.eap(eap.message()),
            Payload::Ps(solution) => self.ps(solution.data()),
            Payload::Unknown {
                payload_type,
                critical,
                body,
            } => self.raw(*payload_type, *critical, body),
            Payload::Sk(sk) => self.sk(sk.first_inner, sk.body.len()).append(sk.body),
            Payload::Skf(skf) => self
                .skf(skf.first_inner, skf.number, skf.total, skf.body.len())
                .append(skf.body),
        }
    }

    /// Appends what [`PayloadWriter::sk`] or [`PayloadWriter::skf`] has announced.
    fn append(&mut self, body: &[u8]) -> &mut Self {
        if self.error.is_none() {
            self.out.extend_from_slice(body);
            self.announced = self.announced.saturating_sub(body.len());
        }
        self
    }

    /// A body of a type octet, three reserved octets and data.
    fn typed(&mut self, payload_type: PayloadType, kind: u8, data: &[u8]) -> &mut Self {
        self.payload(payload_type, false, |out| {
            out.extend([kind, 0, 0, 0]);
            out.extend_from_slice(data);
            Ok(())
        })
    }

    fn bytes(&mut self, payload_type: PayloadType, critical: bool, body: &[u8]) -> &mut Self {
        self.payload(payload_type, critical, |out| {
            out.extend_from_slice(body);
            Ok(())
        })
    }

    fn fail(&mut self, error: WriteError) -> &mut Self {
        self.error.get_or_insert(error);
        self
    }

    fn payload(
        &mut self,
        payload_type: PayloadType,
        critical: bool,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), WriteError>,
    ) -> &mut Self {
        if self.error.is_none()
            && let Err(error) = self.try_payload(payload_type, critical, body)
        {
            self.error = Some(error);
        }
        self
    }

    fn try_payload(
        &mut self,
        payload_type: PayloadType,
        critical: bool,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        self.link(payload_type)?;
        self.out
            .extend([PayloadType::NONE.0, if critical { CRITICAL } else { 0 }]);
        with_u16_length(self.out, "payload", GENERIC_HEADER_LEN, body)
    }

    /// Makes the preceding payload (or the start of the chain) point to the one that begins at the end of the buffer.
    fn link(&mut self, payload_type: PayloadType) -> Result<(), WriteError> {
        if self.ended {
            return Err(WriteError::AfterEncrypted(payload_type));
        }
        self.count = self.count.saturating_add(1);
        check_count("payloads", self.count, MAX_PAYLOADS)?;
        match self.link_at {
            None => self.first = payload_type,
            Some(at) => patch(self.out, at, &[payload_type.0]),
        }
        self.link_at = Some(self.out.len());
        Ok(())
    }

    fn encrypted(
        &mut self,
        payload_type: PayloadType,
        first_inner: PayloadType,
        fragment: &[u8],
        body_len: usize,
    ) -> &mut Self {
        if self.error.is_some() {
            return self;
        }
        let counted = GENERIC_HEADER_LEN
            .saturating_add(fragment.len())
            .saturating_add(body_len);
        let length = match u16_length("payload", counted) {
            Ok(length) => length,
            Err(error) => return self.fail(error),
        };
        if let Err(error) = self.link(payload_type) {
            return self.fail(error);
        }
        self.out.extend([first_inner.0, 0]);
        self.out.extend(length.to_be_bytes());
        self.out.extend_from_slice(fragment);
        self.ended = true;
        self.announced = body_len;
        self
    }
}

/// Overwrites octets that have been written before.
fn patch(out: &mut [u8], at: usize, octets: &[u8]) {
    let slots = at
        .checked_add(octets.len())
        .and_then(|end| out.get_mut(at..end));
    debug_assert!(slots.is_some(), "patches lie within what has been written");
    if let Some(slots) = slots {
        slots.copy_from_slice(octets);
    }
}

fn u16_length(what: &'static str, length: usize) -> Result<u16, WriteError> {
    let maximum = usize::from(u16::MAX);
    u16::try_from(length).map_err(|_| WriteError::TooLong {
        what,
        length,
        maximum,
    })
}

/// Writes a length field of two octets and what `body` writes; the length counts that and `counted` octets more.
pub(crate) fn with_u16_length(
    out: &mut Vec<u8>,
    what: &'static str,
    counted: usize,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    let length_at = out.len();
    out.extend([0, 0]);
    let body_at = out.len();
    body(out)?;
    let length = u16_length(
        what,
        out.len().saturating_sub(body_at).saturating_add(counted),
    )?;
    patch(out, length_at, &length.to_be_bytes());
    Ok(())
}

/// Writes a length or count field of one octet.
pub(crate) fn put_u8_length(
    out: &mut Vec<u8>,
    what: &'static str,
    length: usize,
) -> Result<(), WriteError> {
    let maximum = usize::from(u8::MAX);
    out.push(u8::try_from(length).map_err(|_| WriteError::TooLong {
        what,
        length,
        maximum,
    })?);
    Ok(())
}

pub(crate) fn check_count(
    what: &'static str,
    count: usize,
    limit: usize,
) -> Result<(), WriteError> {
    if count > limit {
        Err(WriteError::TooMany { what, count, limit })
    } else {
        Ok(())
    }
}
