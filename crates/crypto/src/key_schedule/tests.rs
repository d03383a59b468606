//! The key schedule against NIST's vector for the IKEv2 KDF and against an independent computation for each PRF.

use super::*;
use crate::algorithm::{Encryption, KeyExchange};
use crate::test_util::hex;

fn shared(digits: &str) -> SharedSecret {
    SharedSecret::new(SecretBytes::new(hex(digits)))
}

/// SP 800-135 IKEv2 KDF with SHA-256, from the test suite of NIST's ACVP server (IKEv2Tests, "IKEv2 SHA2-256"). Its DKM is
/// longer than the keys of any suite; keys are compared as far as they go, for the suite with the longest ones.
#[test]
fn nist_sp800_135_ikev2_kdf_sha256() {
    let ni = hex("\
            0a58fea9c1d4fee2e74e1aad6fb02dd5f318eb127465a112be8dc3c04d5dba62eae708f9dc1b2362afd6ba4bda3cf500\
            0f4979fbcbadbcfda9291593829c4e905c21db0c2ee15175ce77a8a0dadf25c7f175bc53fd91b636a9b3c50b203de9b9\
            d6dc463dcb4048f101e26498ceaed3afbcd931394a7e099392dfff82e5d6fa85c2e8a8ab90ad363a66795dc32798847e\
            405acd87988140f973058917273a6b0bafb962c75e2b1a21e79c08beeb82168bf8b4b57f3dce867bf7862a7b8acbc21b\
            e838021913daf64340c055ed17aaf7b6e1d0ca33ae890ddbdb83f4e615aad5e3bff58c3db70bac81a0dfbabe5391fc62\
            bca4659e22a0741e01d8d06e67d9bb41");
    let nr = hex("\
            e4fdfa68df6171d9eaff8b7b5ad31e7c6098d259f3397c9854cbefe7449b0864c1df16ddece8b26567560f8d59182a44\
            c19149c2d0d72606a160021ade3d23c7c6936c91a4b6bec37adf38cfc84b851c68dcee06f81306f63abbefc07e231e30\
            58c49437a557df617eac01663593d2a3e594699284c0a35eae6931492ccb2a43db72a600a3899205d681d2b76b1280e4\
            56339bb10e0c584aecfdae31c77a4c40dbcb345f782ac32835d4c220c1e97254ded6a40075dd717b00b69c86a49e8017\
            73026536ae02d58a649827f1ba67610ee936dffd11c9d5a9156631916a0a0046ec0ba42f56f2a18de83d5d71a985b0cc\
            9eec2c06b3d907ca58454419f374069d");
    let spi_i = 0xc8de_9311_1750_e409;
    let spi_r = 0x32d5_1b33_5089_97fa;
    let gir = shared("9d469de41b4739c7dd01f19aa94f17e48150ae9dbede94832142db19");
    let gir_new = shared("c2987b0767006c3b9aea491bfed1646a3d7194639492b8d45b23b383");
    let dkm = hex("\
            bc83518f63b762874ac57947cdfae33a8d9724df0b83ee4b6df38c23fc2ad829f4d70b5a68dd1f5a52416f09758638ae\
            df919c09a17c5298cdb703bb75b1005cba0109739aaa4efd2fe7534c95ad05e546e4419931270eddcab68ac1589d7fde\
            47f5b9e8d5b614cb24ec3caf515497a9e99ee6f1b318ff153b539ef071dcaff9b41945dcb780700d69e5dc888a91de19\
            5c52825badfd0ab4c33cec71ab5c2b4badefe5455455ce5d8ae91721a2091bcccc1514e69482c9c8da1d9f0f187eedda\
            916393570a8c0a8dfabc26d8ed31e8ea47662515972a22d11d692bc1fac6395aecd82a01ab78daafcd6f3070b1201f15\
            8a19331b5d21ceee66fccd2ea37bc07648b9539a52dbf797af53e31a0e8706dd86cf5081ebabd095f281d23c222dd3bc\
            5abf06869017ca8f751cafcc85abea6ba88c139d1f32a12f7f486cf57eae5d85551b97f3963616d8f597c70efa98c1e1\
            fa369fb77a80b1ec5fe533890672c4551172eab1b7fd68ad08c4d4c69f2a867302065ca730aa6915bc2cfb6d93820977");
    let dkm_child = hex("\
            c725012285d56e53244a9baaaf95abfca543708d333a3f3a86ba660e00edd4d489bcd631819fda0413382edd9f53d1ed\
            718e056c2ad91d38de90f06cd434de70141d051c021e7ddd6e4137946b4770dca59a4decabdd866852eb557fdd995646\
            613ff2923f5f23aa58c8fbd5ad52cf2eac9bda97faad5596695f4a747a0f1cc6a1f78b2181138fb19ac24574d2e6b3a4\
            0d6e688abb919a27d793b76568ec66bd099f6f476b705c1472d774a1516a11311b887688f36649e24227640ea8d8666b\
            9f452217e7103b6f0a92b6adb8fbda650ba58d6ac13ac6f6b6361a5d1c44f1e9f22196c96295115c5d01a120e7265962\
            d20353a049286908da776c2165f706a16f43d85fcd319f89c4386340bcb8ed10df38345cb68af719abaf997e9789a5f1\
            9a392dcecd78168ba282f0b30555c7a47031a3156d12d7158aa41b863b8394d30fec63120e89cbc5750eed7786f7d596\
            1b1f2e6faca641ed776d2211bee757b68b77f94056172553715da9fbd1c9a8728f28a2f3c9714a4917490132562484cd");
    let dkm_child_dh = hex("\
            140a1f2a3c94318ece6edfa8c63f37d8d45982de8b6cbfe34011150db0253e34de3796d4aa579954a0bbf234794eb6e7\
            ece2a8f91100f5507df4ee8e66c7813d4c0ff64d484a3494c54b0d9c605ea24234a49a010ce5c352feb9e1060c8c7872\
            29466296cdc9d11bb9d221ed2bb39544572464254ec02a0fbe777b07402c775eb6d3e53cd16214c707f851942cc7da92\
            a811b6c5c82f29d9fc3751b0ebff9898fb14372402a6989ffb9cc32dfe7e2cea32fd882e09804d7fea34ce3b5eb6f303\
            e095c48a452b0a3eccada81af22195ebbaad289aeabdab074c94e751496bde39d868ebf1d693f36d1c3c672bbb59c9f7\
            7aeb68de57d77da231b7f13d6d277f600c3d3086c4de7b3a59127f4cb9c118935574f30e1b7c88b52c8c3531fdbd38ee\
            3d14c69e81803ced6e7501fa0180f6d110b648272002dc1ad5bf09dc83188011da1d48632e0d2453c8abdd8e9fd32a57\
            6aeb9ddfb0a024f674441c20a950d9bd8cd7b30933cc0d8e87b55e8aa9d913579b410417b3acc13c14bf73c457327873");

    let skeyseed = Skeyseed::initial(Prf::HmacSha256, &ni, &nr, &gir);
    assert_eq!(
        skeyseed.expose(),
        hex("eec13ac67c2e072abb684ab4e7b6ce3e7f400af8b96bed48e113497ed337f8d4"),
    );

    let suite = IkeSuite {
        encryption: Encryption::Aes256Cbc,
        integrity: Some(Integrity::HmacSha512_256),
        prf: Prf::HmacSha256,
        key_exchange: KeyExchange::X25519,
        additional: Default::default(),
    };
    let keys = skeyseed.expand(&suite, &ni, &nr, spi_i, spi_r);
    let in_order = [
        keys.sk_d.expose(),
        keys.sk_ai.as_ref(),
        keys.sk_ar.as_ref(),
        keys.sk_ei.as_ref(),
        keys.sk_er.as_ref(),
        keys.sk_pi.expose(),
        keys.sk_pr.expose(),
    ];
    assert_eq!(in_order.map(<[u8]>::len), [32, 64, 64, 32, 32, 32, 32]);
    let in_order = in_order.concat();
    assert_eq!(in_order, dkm[..in_order.len()]);

    let esp = EspSuite {
        encryption: Some(Encryption::Aes256Cbc),
        integrity: Some(Integrity::HmacSha512_256),
        key_exchange: None,
        additional: Default::default(),
        esn: false,
    };
    //= rfc7296#2.17
    //= type=test
    //# All keys for SAs carrying data from the initiator to the responder
    //# are taken before SAs going from the responder to the initiator.
    //= rfc7296#2.17
    //= type=test
    //# the encryption key (if any) MUST be
    //# taken from the first bits and the integrity key (if any) MUST be
    //# taken from the remaining bits.
    for (secret, expected) in [
        (&[][..], dkm_child),
        (std::slice::from_ref(&gir_new), dkm_child_dh),
    ] {
        let keys = keys.sk_d.child_keys(&esp, secret, &ni, &nr);
        let in_order = [
            keys.initiator.encryption.as_ref(),
            keys.initiator.integrity.as_ref(),
            keys.responder.encryption.as_ref(),
            keys.responder.integrity.as_ref(),
        ];
        assert_eq!(in_order.map(<[u8]>::len), [32, 64, 32, 64]);
        let in_order = in_order.concat();
        assert_eq!(in_order, expected[..in_order.len()]);
    }

    assert_eq!(
        Skeyseed::rekeyed(&keys.sk_d, &ni, &nr, &gir_new, &[]).expose(),
        hex("05f796c8df322a7e33283ae5fa2f376d8d5efa0ac3745fc548e430031424c121"),
    );
}

/// Computed with Python's hmac from the formulas of RFC 7296: SK_* of an AEAD suite, the keys of a Child SA with a key
/// exchange and of a rekeyed SKEYSEED, whose nonces are swapped here.
#[test]
fn every_prf_against_an_independent_computation() {
    let vectors = [
        (
            Prf::HmacSha256,
            "\
            c824f14c20af4dc279ada9e7a04bfabd7e72ae7ccde49dd82af2407a17db2352f8173f27bebd0a212dbcdf81e347ccf9\
            8b5ad8681f900ddfb494fa2676ced26682bcb7f947fd4a55a39bc8fbbfa9f1b72b542fc8db6e8b0132ec69224b9dd49f\
            9a67fc1e73926892b9c48812dfed583fa91d54412ca40f5ceb637b0e28515e1ede300702b460773c611c7de464a2a129\
            45da78181dc161881fefe4ed2af0bdc0c8dfe62cc8bb0406",
            "\
            37c203d5862746f971954ad6ba95598fa40876fe814727db8775e86eee9c1afe9c62d1c1faba303a9e2390711653165f\
            b5f60c0bc39d6e5c775e0c77cf712bccc44ff662f4b6f1a0",
            "2bf2f38fa191cf09619b2f9316720197186f3eb5d60729d980682dcddd5287dd",
        ),
        (
            Prf::HmacSha384,
            "\
            8ab92124e8fed7da37adc703b06a151a386764c0bad28dbea79f4f34310b0b00cfd78e16ba1d5ae8d6a9af368e80b88c\
            1fafc073b66ce310bae4ade34f55673440c2446ed8dd9b69395bb8efec09d4f3505e8ccf81d8aa9a9d57fb8877208cef\
            932589316af311caf29241c654ed2b2c65a0399d03bba3ae76cea25e7598ae6124ac08ba11e7e0b621f2031bdfe1298c\
            e158a7a14b282b018a3bb9ffe9532d422aa7ba5d6815e94043bf2a4e544590963c148c652b36d50b0d3f3f1a6ac12244\
            cad2b6fb68014745176a394015c0c129fc5ee928a3eda170",
            "\
            9857b0d2c1b15bd45ce22e4d86a5afd77a5209b22ee5efab9ae7f261effd112ed8553aec75ad9be6fbeeab20e1dc5a6d\
            45c9a805eb54c6cb389512bb17232515ac0927eab00c13fc",
            "c48f1e6bfc6b983de9807df01b58379b2aa685dbb63255ee128cfaff2f3b44f41ea4142a094c1525c3354f2e87ba0286",
        ),
        (
            Prf::HmacSha512,
            "\
            6c0c7809c740d230d6465a75cdc4c0b16ca38ec8af6251142c67cefc6a2d7ddc422dc44414529e415fa721488f2e7fdc\
            e43a29cd0d82c0311a8123345eb5a77e78617536e01a05894c5ddfa771feaf4df738f777c01bcf84ad25fa95587c77b8\
            5d4bbfba062f3431ef89c55a2f1ecef20b79ac7d8c932b4c3e636a82dbbf6ab53b38ee8e1e9e548da2dc117e3a1a3957\
            4350d2ec3fb5a5a14fa28e26d50c29d5d917a4cde449e8e8ae727f2b717084e7037e730eda0f06981317ed734dc49348\
            3b086b3f73acdb612b4dc9bbdbe939688b7b3758f29610a88b29cb34942761be01438c32fffe3fcf72c47ad53d1252f7\
            db39286fe1ffcae7259a893c624423ab7fb04968462bdfed",
            "\
            7f7cb24a7039fc7cbde77c68a322f3f455283968c829f62a03a8997c745ed76b81ab2f7c6f17068f0af198606148560c\
            1c1ac7db876767abdbbf0ac420f7746d25da17b84a9c6b60",
            "\
            ef81fda37101d317de76300f0c474b6def2e2623d5583e613aa1e70bdc9dd8864e023d3010f51fa250adbe077628c0d1\
            439ec5bb761e8e55f782bffdcdc19c74",
        ),
    ];
    let ni: Vec<u8> = (16..48).collect();
    let nr: Vec<u8> = (64..96).collect();
    let gir = SharedSecret::new(SecretBytes::new((200..232).collect()));
    let gir_new = SharedSecret::new(SecretBytes::new((0..32).collect()));
    for (prf, sk, child, rekeyed) in vectors {
        let suite = IkeSuite {
            encryption: Encryption::Chacha20Poly1305,
            integrity: None,
            prf,
            key_exchange: KeyExchange::X25519,
            additional: Default::default(),
        };
        let keys = Skeyseed::initial(prf, &ni, &nr, &gir).expand(
            &suite,
            &ni,
            &nr,
            0x1112_1314_1516_1718,
            0x2122_2324_2526_2728,
        );
        //= rfc7296#2.14
        //= type=test
        //# The lengths of SK_d, SK_pi,
        //# and SK_pr MUST be the preferred key length of the PRF agreed upon.
        assert_eq!(keys.sk_d.expose().len(), prf.output_len());
        assert_eq!(keys.sk_pi.expose().len(), prf.output_len());
        assert_eq!(keys.sk_pr.expose().len(), prf.output_len());
        let in_order = [
            keys.sk_d.expose(),
            keys.sk_ai.as_ref(),
            keys.sk_ar.as_ref(),
            keys.sk_ei.as_ref(),
            keys.sk_er.as_ref(),
            keys.sk_pi.expose(),
            keys.sk_pr.expose(),
        ];
        assert_eq!(in_order.concat(), hex(sk), "{prf}");

        let esp = EspSuite {
            encryption: Some(Encryption::Chacha20Poly1305),
            integrity: None,
            key_exchange: Some(KeyExchange::X25519),
            additional: Default::default(),
            esn: true,
        };
        let child_keys = keys
            .sk_d
            .child_keys(&esp, std::slice::from_ref(&gir_new), &nr, &ni);
        let in_order = [
            child_keys.initiator.encryption.as_ref(),
            child_keys.responder.encryption.as_ref(),
        ];
        assert_eq!(in_order.concat(), hex(child), "{prf}");
        assert!(child_keys.initiator.integrity.is_empty());

        assert_eq!(
            Skeyseed::rekeyed(&keys.sk_d, &nr, &ni, &gir_new, &[]).expose(),
            hex(rekeyed),
            "{prf}",
        );
    }
}

/// Computed with Python's hmac from the formula of RFC 5723 §5.1.
//= rfc5723#5.1
//= type=test
//# The literal string is
//# encoded as 10 ASCII characters, with no NULL terminator.
#[test]
fn resumption_against_an_independent_computation() {
    let old: Vec<u8> = (0..32).collect();
    let ni: Vec<u8> = (0xa0..0xb0).collect();
    let restored = SkD::restore(Prf::HmacSha256, SecretBytes::new(old.clone())).unwrap();
    assert_eq!(restored.secret().as_ref(), old);
    assert_eq!(
        Skeyseed::resumed(&restored, &ni, &[0xb0; 32]).expose(),
        hex("f6cc6986d9d2ace7fb51faf5d80d9ed514fe7577ef64e596744259a7ae10b950"),
    );
    assert!(SkD::restore(Prf::HmacSha384, SecretBytes::new(old)).is_none());
}

//= rfc7296#2.18
//= type=test
//# The old and new IKE SA may have selected a different PRF.  Because
//# the rekeying exchange belongs to the old IKE SA, it is the old IKE
//# SA's PRF that is used to generate SKEYSEED.
#[test]
fn rekeying_uses_the_old_prf_and_expanding_the_new_one() {
    let old = SkD::from_bytes(Prf::HmacSha256, &[1; 32]);
    let secret = shared("0102");
    let skeyseed = Skeyseed::rekeyed(&old, b"ni", b"nr", &secret, &[]);
    let expected = Prf::HmacSha256.compute(&[1; 32], &[&[1, 2], b"ni", b"nr"]);
    assert_eq!(skeyseed.expose(), expected.as_ref());
    let suite = IkeSuite {
        encryption: Encryption::Aes128Gcm16,
        integrity: None,
        prf: Prf::HmacSha512,
        key_exchange: KeyExchange::X25519,
        additional: Default::default(),
    };
    let keys = Skeyseed::from_bytes(expected.as_ref()).expand(&suite, b"ni", b"nr", 1, 2);
    assert_eq!(keys.sk_d.prf(), Prf::HmacSha512);
    assert_eq!(keys.sk_pi.expose().len(), 64);
    let seed = [&b"ninr"[..], &1u64.to_be_bytes(), &2u64.to_be_bytes()];
    let stream = Prf::HmacSha512
        .expand(expected.as_ref(), &seed, 64)
        .unwrap();
    assert_eq!(keys.sk_d.expose(), stream.as_ref());
}

/// Every suite gets keys of the lengths that its algorithms take.
#[test]
fn keys_fit_their_algorithms() {
    let secret = shared("aabb");
    for encryption in Encryption::ALL {
        let for_ike = encryption.is_for_ike();
        let integrities: Vec<Option<Integrity>> = if encryption.is_aead() {
            vec![None]
        } else {
            Integrity::ALL.into_iter().map(Some).collect()
        };
        for integrity in integrities {
            for prf in Prf::ALL {
                let suite = IkeSuite {
                    encryption,
                    integrity,
                    prf,
                    key_exchange: KeyExchange::X25519,
                    additional: Default::default(),
                };
                let keys = Skeyseed::initial(prf, b"ni", b"nr", &secret)
                    .expand(&suite, b"ni", b"nr", 1, 2);
                assert_eq!(keys.clone().into_use(&suite).is_ok(), for_ike, "{suite}");
                let esp = EspSuite {
                    encryption: Some(encryption),
                    integrity,
                    key_exchange: None,
                    additional: Default::default(),
                    esn: false,
                };
                let keys = keys.sk_d.child_keys(&esp, &[], b"ni", b"nr");
                for direction in [keys.initiator, keys.responder] {
                    crate::EspCipher::new(
                        encryption.iana_id(),
                        direction.encryption.as_ref(),
                        integrity.map(Integrity::iana_id),
                        direction.integrity.as_ref(),
                    )
                    .unwrap();
                }
            }
        }
    }
}

#[test]
fn keys_do_not_show_themselves() {
    let suite = IkeSuite {
        encryption: Encryption::Aes128Cbc,
        integrity: Some(Integrity::HmacSha256_128),
        prf: Prf::HmacSha256,
        key_exchange: KeyExchange::X25519,
        additional: Default::default(),
    };
    let secret = shared("aabb");
    let skeyseed = Skeyseed::initial(Prf::HmacSha256, b"ni", b"nr", &secret);
    assert_eq!(format!("{skeyseed:?}"), "Skeyseed(SecretBytes(32 octets))");
    let keys = skeyseed.expand(&suite, b"ni", b"nr", 1, 2);
    assert_eq!(
        format!("{:?}", keys.sk_d),
        "SkD { prf: HmacSha256, key: SecretBytes(32 octets) }",
    );
    assert_eq!(
        format!("{keys:?}").matches("SecretBytes(").count(),
        7,
        "each key is hidden",
    );
}

/// Two additional key exchanges and a PPK, computed with Python's hmac from the formulas of RFC 9370 §2.2.2 and §2.2.4,
/// RFC 8784 §3 and RFC 9867 §3.1. Each row is the SHA-256 of: all keys after the second IKE_INTERMEDIATE; all keys after a
/// PPK besides; SK_d, SK_pi and SK_pr with the PPK mixed in at IKE_AUTH; SKEYSEED of a rekey with three exchanges; KEYMAT
/// of a Child SA with three exchanges. The last is the PPK Confirmation.
#[test]
fn several_key_exchanges_and_ppk_against_an_independent_computation() {
    let vectors: [(Prf, [&str; 5], &str); 3] = [
        (
            Prf::HmacSha256,
            [
                "04fd2001dcb3bcf9ad38b4f4683e7c7201bf768a2310f857fc064f9366ef13b7",
                "ae0167e77f344ab52b811a956e2e3683fb102b26c08d309410762e14df00ceb8",
                "bab1decf259548ce7689e1349bb8c270494dac15b9ca851517d603c5f16b5265",
                "95f24dd832755ef3bb5dec6d053f279153cdecd8999e784885f23f25ccd2a2a5",
                "861ca9f09a39b742e1a286b19cbb883c342cd0ed312e0192cd87bccc32541147",
            ],
            "757d8af3e0819045",
        ),
        (
            Prf::HmacSha384,
            [
                "85768a14366a1190e39b1db8fd9b16215d0de214517882440e63485e55ec1dc9",
                "d23c05d11b60514a8356a6e0a8b7445909d5f250039208526be3da84a90362bd",
                "21b3b11c942d1396b404af1fcf3c6ee4b85121b8eeadae07a7c8d69c4fa235c0",
                "1dde4f0ff32acaa04e0f7abd8943ac3e81a25ed035a199efbd25d351441e626d",
                "3112074fa5f81f0508a9bef4c80b71199c1fcd429dd1c41ebc3632574a71142f",
            ],
            "244ba29b74cec371",
        ),
        (
            Prf::HmacSha512,
            [
                "fbdad038f25a87c345cd7291c6c887aef8684b655062d6cb3fdeca757eadd7c8",
                "2c493ff7862b2e61a67f0342d1fe7f3ea44ccde3dfb9423d7c687ebab97c33d2",
                "9b1058d32594000c1f727813b9f7be4b2ff1473df64a3a120e1cc61322c96af9",
                "558270183695b9c55182c255b6b676ec1c29fda369b34d5538a787b8d5b132bb",
                "3f7c38fc578108069280f7e1e087a4a90611fb94cd618b1c24a0120feddad3cc",
            ],
            "df35dbc851baa73e",
        ),
    ];
    let ni: Vec<u8> = (16..48).collect();
    let nr: Vec<u8> = (64..96).collect();
    let (spi_i, spi_r) = (0x1112_1314_1516_1718, 0x2122_2324_2526_2728);
    let secret = |first: u8| SharedSecret::new(SecretBytes::new((first..first + 32).collect()));
    let secrets = [secret(200), secret(100), secret(0)];
    let ppk = b"an example of a post-quantum preshared key";
    for (prf, expected, confirmed) in vectors {
        let suite = IkeSuite {
            encryption: Encryption::Chacha20Poly1305,
            integrity: None,
            prf,
            key_exchange: KeyExchange::X25519,
            additional: Default::default(),
        };
        let expand = |seed: Skeyseed| seed.expand(&suite, &ni, &nr, spi_i, spi_r);
        let all = |keys: &IkeKeys| {
            [
                keys.sk_d.expose(),
                keys.sk_ei.as_ref(),
                keys.sk_er.as_ref(),
                keys.sk_pi.expose(),
                keys.sk_pr.expose(),
            ]
            .concat()
        };
        let [first, second, third] = &secrets;
        let keys = expand(Skeyseed::initial(prf, &ni, &nr, first));
        let keys = expand(Skeyseed::additional(&keys.sk_d, &ni, &nr, second));
        let keys = expand(Skeyseed::additional(&keys.sk_d, &ni, &nr, third));
        let in_exchange = expand(Skeyseed::with_ppk(&keys.sk_d, ppk));
        let at_auth = [
            keys.sk_d.with_ppk(ppk).expose(),
            keys.sk_pi.with_ppk(ppk).expose(),
            keys.sk_pr.with_ppk(ppk).expose(),
        ]
        .concat();
        let confirmation = ppk_confirmation(prf, ppk, &ni, &nr, spi_i, spi_r);
        assert_eq!(confirmation.to_vec(), hex(confirmed), "{prf}");
        let rekeyed = Skeyseed::rekeyed(&keys.sk_d, &ni, &nr, first, &secrets[1..]);
        let esp = EspSuite {
            encryption: Some(Encryption::Chacha20Poly1305),
            integrity: None,
            key_exchange: Some(KeyExchange::X25519),
            additional: Default::default(),
            esn: false,
        };
        let child = keys.sk_d.child_keys(&esp, &secrets, &ni, &nr);
        let child = [
            child.initiator.encryption.as_ref(),
            child.responder.encryption.as_ref(),
        ]
        .concat();
        let got = [
            all(&keys),
            all(&in_exchange),
            at_auth,
            rekeyed.expose().to_vec(),
            child,
        ];
        let digests = got.map(|octets| crate::sha256(&[&octets]).to_vec());
        assert_eq!(digests, expected.map(hex), "{prf}");
    }
}
