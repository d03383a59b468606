//! AUTH data against an independent computation (Python's hmac).

use super::*;
use crate::algorithm::Prf;
use crate::secret::SecretBytes;
use crate::test_util::hex;

#[test]
fn psk_auth_of_every_prf() {
    let vectors = [
        (
            Prf::HmacSha256,
            "6d9c58a097a0f69e31b55ec493f91b25a84159985db5153832d5ad6ceb553a60",
        ),
        (
            Prf::HmacSha384,
            "4e20c171e197b4641c2828ca68c743808e1e1bee31eecbb40a434065aad4944aa14fee320691c92981a8240dcd6e6f0a",
        ),
        (
            Prf::HmacSha512,
            "\
            5ac01084f5e71a49d9e3e5a9529b3cb284a90f6dec1e98af5e0152dc3a7e7d2ee8d21821df100fca502b5f0927ce287b\
            037e8db408777e97e7a6895018358ce1",
        ),
    ];
    let psk = b"a shared secret of two gateways";
    let message: Vec<u8> = (0..100).collect();
    let nonce: Vec<u8> = (0x80..0xa0).collect();
    let id = b"\x02\0\0\0west.example";
    for (prf, expected) in vectors {
        let sk_p = AuthKey::new(prf, SecretBytes::new(vec![0x5a; prf.output_len()]));
        let octets = |id_payload_body, int_auth| SignedOctets {
            first_message: &message,
            peer_nonce: &nonce,
            sk_p: &sk_p,
            id_payload_body,
            int_auth,
        };
        let psk_key = PskKey::new(prf, psk);
        let auth = octets(id, b"").psk_auth(&psk_key);
        let auth = auth.as_ref();
        assert_eq!(auth, hex(expected), "{prf}");
        let key = prf.compute(psk, &[b"Key Pad for IKEv2"]);
        // IntAuth comes after everything else.
        let with = octets(id, b"IntAuth");
        assert_eq!(
            with.to_vec(),
            [&octets(id, b"").to_vec()[..], b"IntAuth"].concat()
        );
        assert_eq!(
            prf.compute(key.as_ref(), &[&with.to_vec()]),
            with.psk_auth(&psk_key)
        );

        let verify = |psk: &[u8], id, auth: &[u8]| {
            octets(id, b"").psk_auth_verify(&PskKey::new(prf, psk), auth)
        };
        assert!(verify(psk, id, auth));
        assert!(!verify(b"another secret", id, auth));
        assert!(!verify(psk, b"\x02\0\0\0east.example", auth));
        assert!(!verify(psk, id, &auth[1..]));
        assert!(!verify(psk, id, &[]));
    }
}

#[test]
fn auth_of_a_resumed_session() {
    let sk_p = AuthKey::new(Prf::HmacSha256, SecretBytes::new(vec![0x11; 32]));
    let octets = SignedOctets {
        first_message: b"message",
        peer_nonce: b"noncenoncenoncenonce",
        sk_p: &sk_p,
        id_payload_body: b"\x02\0\0\0west",
        int_auth: b"",
    };
    let auth = octets.resumption_auth();
    assert_eq!(
        auth.as_ref(),
        hex("12b374f0c608f83093751e61d5d36e18154e493c1f015fd97a0ec810ceb2538b")
    );
    assert_eq!(auth, sk_p.mac(&[&octets.to_vec()]));
}
