//! Secrets written without quotation marks: `0x` hexadecimal, `0s` Base64, `0t` text.

use cygnet_crypto::SecretBytes;

/// Why a secret could not be read. Never repeats any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("a secret stands in quotation marks or starts with 0x, 0s or 0t")]
    Form,
    #[error("the secret is not an even number of hexadecimal digits")]
    Hex,
    #[error("the secret is not Base64")]
    Base64,
}

/// Whether a word looks like an unquoted secret.
pub(super) fn has_prefix(text: &str) -> bool {
    matches!(
        text.as_bytes(),
        [b'0', b'x' | b'X' | b's' | b'S' | b't' | b'T', ..]
    )
}

/// Reads an unquoted secret.
pub(super) fn secret(text: &str) -> Result<SecretBytes, DecodeError> {
    let (prefix, rest) = text.split_at_checked(2).ok_or(DecodeError::Form)?;
    match prefix {
        "0x" | "0X" => hex(rest).ok_or(DecodeError::Hex),
        "0s" | "0S" => base64(rest).ok_or(DecodeError::Base64),
        "0t" | "0T" => Ok(SecretBytes::copy_from(rest.as_bytes())),
        _ => Err(DecodeError::Form),
    }
}

/// Pairs of digits; underscores may stand between pairs.
fn hex(text: &str) -> Option<SecretBytes> {
    // Never grows, so no copy is left behind unwiped.
    let mut out = Vec::with_capacity(text.len() / 2);
    let mut digits = text.bytes();
    while let Some(first) = digits.next() {
        if first == b'_' {
            continue;
        }
        let digit = |b: u8| {
            char::from(b)
                .to_digit(16)
                .and_then(|d| u8::try_from(d).ok())
        };
        let (high, low) = (digit(first), digits.next().and_then(digit));
        match (high, low) {
            (Some(high), Some(low)) => out.push(high << 4 | low),
            _ => {
                drop(SecretBytes::new(out));
                return None;
            }
        }
    }
    Some(SecretBytes::new(out))
}

/// RFC 4648 section 4; the padding may be left out.
fn base64(text: &str) -> Option<SecretBytes> {
    let body = text.trim_end_matches('=');
    let padding = text.len() - body.len();
    let padding_fits = padding == 0 || (padding < 3 && text.len().is_multiple_of(4));
    if !padding_fits || body.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(body.len() / 4 * 3 + 2);
    for quad in body.as_bytes().chunks(4) {
        let mut word = 0_u32;
        for (i, symbol) in (0_u32..).zip(quad) {
            let Some(value) = sextet(*symbol) else {
                drop(SecretBytes::new(out));
                return None;
            };
            word |= u32::from(value) << (26 - 6 * i);
        }
        out.extend(word.to_be_bytes().iter().take(quad.len() * 6 / 8));
    }
    Some(SecretBytes::new(out))
}

fn sextet(symbol: u8) -> Option<u8> {
    match symbol {
        b'A'..=b'Z' => Some(symbol - b'A'),
        b'a'..=b'z' => Some(symbol - b'a' + 26),
        b'0'..=b'9' => Some(symbol - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<u8>, DecodeError> {
        secret(text).map(|s| s.as_ref().to_vec())
    }

    #[test]
    fn base64_reads_the_vectors_of_rfc_4648() {
        // Section 10.
        for (encoded, plain) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(
                read(&format!("0s{encoded}")),
                Ok(plain.as_bytes().to_vec()),
                "{encoded}"
            );
            let bare = encoded.trim_end_matches('=');
            assert_eq!(
                read(&format!("0s{bare}")),
                Ok(plain.as_bytes().to_vec()),
                "{bare}"
            );
        }
        for wrong in [
            "0sZ",
            "0sZg=",
            "0sZg===",
            "0sZm9v=",
            "0sZm9v====",
            "0sZ!8=",
            "0sZg==Zg==",
            "0sZm9v Zm9v",
        ] {
            assert_eq!(read(wrong), Err(DecodeError::Base64), "{wrong}");
        }
    }

    #[test]
    fn other_forms() {
        assert_eq!(read("0x0AfF"), Ok(vec![0x0a, 0xff]));
        assert_eq!(read("0x0a_ff"), Ok(vec![0x0a, 0xff]));
        assert_eq!(read("0ttext"), Ok(b"text".to_vec()));
        for wrong in ["0x0", "0x0_a", "0xzz", "0xé"] {
            assert_eq!(read(wrong), Err(DecodeError::Hex), "{wrong}");
        }
        for wrong in ["", "0", "text", "é"] {
            assert_eq!(read(wrong), Err(DecodeError::Form), "{wrong}");
        }
    }
}
