//! Stateless cookies against floods of IKE_SA_INIT (RFC 7296 §2.6).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use cygnet_crypto::{Entropy, SecretBytes, constant_time_eq, sha256};

/// Makes and checks cookies: `version | SHA-256(secret | Ni | IPi | SPIi)`.
///
/// The secret is replaced when it is older than its lifetime and a cookie is needed; the previous one is
/// good for as long again.
#[derive(Debug, Default)]
pub(crate) struct CookieJar {
    current: Option<Secret>,
    previous: Option<Secret>,
}

#[derive(Debug)]
struct Secret {
    version: u8,
    key: SecretBytes,
    made: Instant,
}

impl CookieJar {
    /// The cookie for a request.
    pub(crate) fn bake(
        &mut self,
        now: Instant,
        lifetime: Duration,
        entropy: &mut dyn Entropy,
        nonce: &[u8],
        address: IpAddr,
        initiator_spi: u64,
    ) -> Vec<u8> {
        let fresh = |secret: &&mut Secret| now.saturating_duration_since(secret.made) < lifetime;
        let version = self
            .current
            .as_ref()
            .map_or(0, |s| s.version.wrapping_add(1));
        if self.current.as_mut().filter(fresh).is_none() {
            let mut key = vec![0; 32];
            entropy.fill(&mut key);
            self.previous = self.current.take();
            self.current = Some(Secret {
                version,
                key: SecretBytes::new(key),
                made: now,
            });
        }
        self.current
            .as_ref()
            .map_or_else(Vec::new, |s| s.cookie(nonce, address, initiator_spi))
    }

    /// Whether a cookie is one that we made for such a request not too long ago.
    pub(crate) fn accepts(
        &self,
        now: Instant,
        lifetime: Duration,
        cookie: &[u8],
        nonce: &[u8],
        address: IpAddr,
        initiator_spi: u64,
    ) -> bool {
        [&self.current, &self.previous]
            .into_iter()
            .flatten()
            .any(|secret| {
                now.saturating_duration_since(secret.made) < lifetime.saturating_mul(2)
                    && constant_time_eq(cookie, &secret.cookie(nonce, address, initiator_spi))
            })
    }
}

impl Secret {
    fn cookie(&self, nonce: &[u8], address: IpAddr, initiator_spi: u64) -> Vec<u8> {
        let (v4, v6);
        let address: &[u8] = match address {
            IpAddr::V4(a) => {
                v4 = a.octets();
                &v4
            }
            IpAddr::V6(a) => {
                v6 = a.octets();
                &v6
            }
        };
        // The key comes first and has a fixed length; so do the parts after the nonce. SHA-256 lets a
        // message be extended at its end only, and the end is ours to compare.
        let hash = sha256(&[
            self.key.as_ref(),
            nonce,
            address,
            &initiator_spi.to_be_bytes(),
        ]);
        let mut cookie = Vec::with_capacity(33);
        cookie.push(self.version);
        cookie.extend_from_slice(&hash);
        cookie
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_crypto::testing::InsecureEntropy;

    const LIFETIME: Duration = Duration::from_secs(60);

    #[test]
    fn a_cookie_is_good_for_its_request_and_its_time() {
        let mut entropy = InsecureEntropy::from_seed(3);
        let mut jar = CookieJar::default();
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let (a, b): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let cookie = jar.bake(start, LIFETIME, &mut entropy, b"nonce", a, 7);
        //= rfc7296#2.6
        //= type=test
        //# The data associated with this notification MUST
        //# be between 1 and 64 octets in length (inclusive)
        assert!((1..=64).contains(&cookie.len()));
        assert!(jar.accepts(at(59), LIFETIME, &cookie, b"nonce", a, 7));
        assert!(!jar.accepts(at(59), LIFETIME, &cookie, b"other", a, 7));
        assert!(!jar.accepts(at(59), LIFETIME, &cookie, b"nonce", b, 7));
        assert!(!jar.accepts(at(59), LIFETIME, &cookie, b"nonce", a, 8));
        // A new secret: the old cookie is good for a while, the new one differs.
        let second = jar.bake(at(61), LIFETIME, &mut entropy, b"nonce", a, 7);
        assert_ne!(cookie, second);
        assert!(jar.accepts(at(119), LIFETIME, &cookie, b"nonce", a, 7));
        assert!(!jar.accepts(at(120), LIFETIME, &cookie, b"nonce", a, 7));
        assert!(jar.accepts(at(120), LIFETIME, &second, b"nonce", a, 7));
    }
}
