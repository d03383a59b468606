//! Packets of every other cipher, made by another implementation.

use super::*;

/// Whole packets computed with OpenSSL (Python's cryptography) from the layout of the RFCs: SPI 0x4321, sequence number
/// 0x500000007 with ESN and 7 without, key material 10 11 12 …, integrity key (HMAC-SHA-256) 60 61 62 …, plaintext 40 41 …
/// 6f. The IV is the sequence number, for CBC a0 a1 a2 ….
#[test]
fn packets_of_another_implementation() {
    use Encryption::*;
    let vectors = [
        (
            Aes128Gcm8,
            true,
            "000043210000000700000005000000076d18682995b75c3469484da0df594d1de2146da34d6ff47a08835a523fc2f828c9b72fcf40e87f8762485d99ba46043cb404b43dc2b33fc3",
        ),
        (
            Aes128Gcm12,
            false,
            "00004321000000070000000000000007436568091af2c251d1d7f0d878f1eabf9c2fefe911dc3190110f8f15929aa1de3fcee31a9c8676767327cf7afd0b897aa2c1f633ab61de60eefc7153",
        ),
        (
            Aes128Gcm16,
            true,
            "000043210000000700000005000000076d18682995b75c3469484da0df594d1de2146da34d6ff47a08835a523fc2f828c9b72fcf40e87f8762485d99ba46043cb404b43dc2b33fc301d1017e300ded5d",
        ),
        (
            Aes128Ccm8,
            true,
            "000043210000000700000005000000079efb734858485511767773381f16f905f9a2b3d29e2b9cfc1dd2e62082b81e8088a056ddb437c36ed78251d2433bb74c857172fc3e3e0a9f",
        ),
        (
            Aes128Ccm12,
            false,
            "00004321000000070000000000000007a2bf5e075d7637c1997711a582b22e3988e87cde6bfbadc65e463295cdef047d1347a9bce3a5abc817365cce394e0e31c4d3b1cb163723f83131e362",
        ),
        (
            Aes128Ccm16,
            true,
            "000043210000000700000005000000079efb734858485511767773381f16f905f9a2b3d29e2b9cfc1dd2e62082b81e8088a056ddb437c36ed78251d2433bb74c166c93a3dbfb92148e8bc12c724fa662",
        ),
        (
            Aes128Gmac,
            true,
            "00004321000000070000000500000007404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f606162636465666768696a6b6c6d6e6fad469ed4fb1ce903a630641edea15e3b",
        ),
        (
            Aes128Gmac,
            false,
            "00004321000000070000000000000007404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f606162636465666768696a6b6c6d6e6f7c3962f7162e0312e31cf3167ece88dc",
        ),
        (
            Aes128Gcm16Iiv,
            true,
            "00004321000000076d18682995b75c3469484da0df594d1de2146da34d6ff47a08835a523fc2f828c9b72fcf40e87f8762485d99ba46043cb404b43dc2b33fc301d1017e300ded5d",
        ),
        (
            Aes128Ccm8Iiv,
            true,
            "00004321000000079efb734858485511767773381f16f905f9a2b3d29e2b9cfc1dd2e62082b81e8088a056ddb437c36ed78251d2433bb74c857172fc3e3e0a9f",
        ),
        (
            Aes128Gcm16Iiv,
            false,
            "0000432100000007436568091af2c251d1d7f0d878f1eabf9c2fefe911dc3190110f8f15929aa1de3fcee31a9c8676767327cf7afd0b897aa2c1f633ab61de60eefc715378f14b91",
        ),
        (
            Aes128Ccm8Iiv,
            false,
            "0000432100000007a2bf5e075d7637c1997711a582b22e3988e87cde6bfbadc65e463295cdef047d1347a9bce3a5abc817365cce394e0e31a7a6f819bb663e77",
        ),
        (
            Aes192Gcm8,
            true,
            "000043210000000700000005000000073ec54cec0ec574ae657551aa86492bc4cdff5d977b0112fc6927a66ff64c7d1e844e2bdec458f6eb3bb9b77498aed781339a122935ec6831",
        ),
        (
            Aes192Gcm12,
            false,
            "000043210000000700000000000000072b4da0dd28dee449bc12c563df52a2059971e60d1b7e8e0d565ee6694235c3e61b79ea9441a7d9ddb8024ac2bc652a110c54b4d14d9cc5c47759a390",
        ),
        (
            Aes192Gcm16,
            true,
            "000043210000000700000005000000073ec54cec0ec574ae657551aa86492bc4cdff5d977b0112fc6927a66ff64c7d1e844e2bdec458f6eb3bb9b77498aed781339a122935ec68314b9e04367293ddd5",
        ),
        (
            Aes192Ccm8,
            true,
            "0000432100000007000000050000000741512aae85c73ecaf5dc1ea90a836371b22a268200244f1945ad74a79a7402f1c4f5c978ba70f701e95269441367f05ed6f59321bf1ec871",
        ),
        (
            Aes192Ccm12,
            false,
            "000043210000000700000000000000071ddde34243728afa001252874f72e103ff4f69301f7528801545ac935321d2cd6fa9c387819a5b2c1a1f9dcc59048761fe6a99ddb0648e6cbe399b70",
        ),
        (
            Aes192Ccm16,
            true,
            "0000432100000007000000050000000741512aae85c73ecaf5dc1ea90a836371b22a268200244f1945ad74a79a7402f1c4f5c978ba70f701e95269441367f05e692453d99b246d806da048d148797b7c",
        ),
        (
            Aes192Gmac,
            true,
            "00004321000000070000000500000007404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f606162636465666768696a6b6c6d6e6ffbbe3fd7bffa89dc648fca74fec2e5e2",
        ),
        (
            Aes192Gmac,
            false,
            "00004321000000070000000000000007404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f606162636465666768696a6b6c6d6e6fd04f35b635e85cb063ee9476bfbd3d24",
        ),
        (
            Aes192Gcm16Iiv,
            true,
            "00004321000000073ec54cec0ec574ae657551aa86492bc4cdff5d977b0112fc6927a66ff64c7d1e844e2bdec458f6eb3bb9b77498aed781339a122935ec68314b9e04367293ddd5",
        ),
        (
            Aes192Ccm8Iiv,
            true,
            "000043210000000741512aae85c73ecaf5dc1ea90a836371b22a268200244f1945ad74a79a7402f1c4f5c978ba70f701e95269441367f05ed6f59321bf1ec871",
        ),
        (
            Aes192Gcm16Iiv,
            false,
            "00004321000000072b4da0dd28dee449bc12c563df52a2059971e60d1b7e8e0d565ee6694235c3e61b79ea9441a7d9ddb8024ac2bc652a110c54b4d14d9cc5c47759a39015771375",
        ),
        (
            Aes192Ccm8Iiv,
            false,
            "00004321000000071ddde34243728afa001252874f72e103ff4f69301f7528801545ac935321d2cd6fa9c387819a5b2c1a1f9dcc5904876185d3546e908d6059",
        ),
        (
            Aes256Gcm8,
            true,
            "00004321000000070000000500000007ac9636e93d8c4ee76087500ee3865f30648415bd4c1c171d23a72a3b8a1a26304c397c184f51b5b02d11097476a79eccdb3b09a9a70bb73c",
        ),
        (
            Aes256Gcm12,
            false,
            "00004321000000070000000000000007267de19bb5e7d25e901e942d602757286a473ead27e42a2bc406738e0c8df67e41b6a05672ad570a7737e94818f48c3cb5230075b6bc863f65c5635f",
        ),
        (
            Aes256Gcm16,
            true,
            "00004321000000070000000500000007ac9636e93d8c4ee76087500ee3865f30648415bd4c1c171d23a72a3b8a1a26304c397c184f51b5b02d11097476a79eccdb3b09a9a70bb73c787353fe807dbb22",
        ),
        (
            Aes256Ccm8,
            true,
            "00004321000000070000000500000007365aa7a7c506cededecd17aa84d283b165de5b05e0220694f921095ade9ec86348d0a01c9f6310d7eeb764a37543d566d9c8c54def5d9708",
        ),
        (
            Aes256Ccm12,
            false,
            "00004321000000070000000000000007e1a16e0767218ff794c10f895f11ac703be3f881d649769b38a9a6565641453860508346fae909f93b32e5f3be564ae8f1c37c1a44890d9285867b3e",
        ),
        (
            Aes256Ccm16,
            true,
            "00004321000000070000000500000007365aa7a7c506cededecd17aa84d283b165de5b05e0220694f921095ade9ec86348d0a01c9f6310d7eeb764a37543d5665d6c89a85358ede881c421e94f724b3b",
        ),
        (
            Aes256Gmac,
            true,
            "00004321000000070000000500000007404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f606162636465666768696a6b6c6d6e6f29ec5d52642fcd86d00ccebed107f12e",
        ),
        (
            Aes256Gmac,
            false,
            "00004321000000070000000000000007404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f606162636465666768696a6b6c6d6e6fec47ab6a45f4faef3f0ad6c537d70c12",
        ),
        (
            Aes256Gcm16Iiv,
            true,
            "0000432100000007ac9636e93d8c4ee76087500ee3865f30648415bd4c1c171d23a72a3b8a1a26304c397c184f51b5b02d11097476a79eccdb3b09a9a70bb73c787353fe807dbb22",
        ),
        (
            Aes256Ccm8Iiv,
            true,
            "0000432100000007365aa7a7c506cededecd17aa84d283b165de5b05e0220694f921095ade9ec86348d0a01c9f6310d7eeb764a37543d566d9c8c54def5d9708",
        ),
        (
            Aes256Gcm16Iiv,
            false,
            "0000432100000007267de19bb5e7d25e901e942d602757286a473ead27e42a2bc406738e0c8df67e41b6a05672ad570a7737e94818f48c3cb5230075b6bc863f65c5635f32ff10e2",
        ),
        (
            Aes256Ccm8Iiv,
            false,
            "0000432100000007e1a16e0767218ff794c10f895f11ac703be3f881d649769b38a9a6565641453860508346fae909f93b32e5f3be564ae8c4f0f463c958eca3",
        ),
        (
            Chacha20Poly1305Iiv,
            true,
            "000043210000000787985b4b7c8f47179af84e8508fe4f864b786a92d7cc7d98b5c3d9fd12d9ae7a102a749ec98cc03e51dd66c1cb86ed5dd7826338d3d7e639b868f2b22e4eafab",
        ),
        (
            Chacha20Poly1305Iiv,
            false,
            "00004321000000075a59a9f8187ed4d57caae7bf9685320c975e5b8b28ea853802c690642805e9c1339bcdb18de88a6ba09374b921ea4028c4777b5b12cdfa1ef48c47ac9c1267f1",
        ),
        (
            Aes128Ctr,
            true,
            "00004321000000070000000500000007a10dfce700cca03274ceb37bd5f4b7617d08783985a74c2479585db0cf495d0dd2245d937d5fc44a38b36a620ff2c8189e613426e3750252e26e435966a8a297",
        ),
        (
            Camellia128Cbc,
            false,
            "0000432100000007a0a1a2a3a4a5a6a7a8a9aaabacadaeaf16ff0edb4e931ad58f44ee1cadec457582469882cb1510d3f100ae12f7cc556d89adfbcad8bd8239fd1828c34042558073c43c51e7f2c1b5d3abeabdbca375c1",
        ),
        (
            Aes192Ctr,
            true,
            "000043210000000700000005000000077b8b65a569febbf222e7dc56dd749eaf2ed55cfc1ed564be756541ba96593bd4fdcf6da74b3122cc5917965fc67c4d2e3c0b5a51e87873c0fbb9414a5f902012",
        ),
        (
            Camellia192Cbc,
            false,
            "0000432100000007a0a1a2a3a4a5a6a7a8a9aaabacadaeaf3d39cfdce89c033aa01518ad08d441c7483a5c15cd177b2e6dd2a8201f467d9268e63bae0c39c7dd0e986e154687c6842dd45f853b354e1f40c813730cbe555b",
        ),
        (
            Aes256Ctr,
            true,
            "000043210000000700000005000000076fd98555c0ec0644839c0ab13b9c4a05bc8626f92d9c5ef77097401ef3964f2054b4258d7c2c272d13971a0bba2a1600c2bb7ab41c360e22a540752935d710ed",
        ),
        (
            Camellia256Cbc,
            false,
            "0000432100000007a0a1a2a3a4a5a6a7a8a9aaabacadaeaf549c8c7069a815b66f051f3ba632b7315c59df9db694fa69f1abdc9a80acf22074485a0c0d6a18085c453a5aa4a99cc3b7c1942c0e2cd08e876647837a0878ff",
        ),
        (
            TripleDesCbc,
            false,
            "0000432100000007a0a1a2a3a4a5a6a7c476bd01eb6fe92cc655490049c00feecef97a48c353bb334ce17617cbbd6f7e494a7be3faf9c89a80e7bad101d9dc0054899c7531a4169721150e5b5032a6ea",
        ),
        (
            Null,
            true,
            "0000432100000007404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f606162636465666768696a6b6c6d6e6f709e54c35ebf5bae9b6dae1ff8e144f8",
        ),
    ];
    let plaintext: Vec<u8> = (0x40..0x70).collect();
    for (encryption, esn, expected) in vectors {
        let key: Vec<u8> = (0x10..).take(encryption.key_len()).collect();
        let integrity_key: Vec<u8> = (0x60..0x80).collect();
        let (integrity, integrity_key) = match encryption.is_aead() {
            true => (None, &[][..]),
            false => (Some(HMAC_SHA2_256_128), &integrity_key[..]),
        };
        let cipher = EspCipher::new(encryption.iana_id(), &key, integrity, integrity_key).unwrap();
        assert_eq!(cipher.encryption(), encryption);
        let sequence = if esn { 0x5_0000_0007 } else { 7 };
        let mut packet = vec![0; cipher.header_len()];
        packet.extend(&plaintext);
        packet.resize(packet.len() + cipher.icv_len(), 0);
        let cbc_iv: Vec<u8> = (0xa0..).take(encryption.block_len()).collect();
        if encryption.block_len() == 1 {
            cipher.seal(sequence, esn, 0x4321, &mut packet).unwrap();
        } else {
            cipher
                .seal_with_iv(sequence, esn, 0x4321, &cbc_iv, &mut packet)
                .unwrap();
        }
        assert_eq!(packet, hex(expected), "{encryption} {esn}");
        let range = cipher.open(sequence, esn, &mut packet).unwrap();
        assert_eq!(packet[range], plaintext, "{encryption} {esn}");
    }
}
