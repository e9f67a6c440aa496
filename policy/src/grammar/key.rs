//! API keys. A policy holds only their SHA-256, so reading a policy gives nobody a key.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::problem::Fault;

/// An API key longer than this is not looked at.
pub const MAX_KEY_BYTES: usize = 256;

const PREFIX: &str = "sha256:";
const HEX_DIGITS: usize = 64;

/// SHA-256 of the key's bytes.
pub fn hash_key(api_key: &[u8]) -> [u8; 32] {
    Sha256::digest(api_key).into()
}

/// The hash as it stands in a policy: `sha256:` and 64 hex digits.
pub fn spell_hash(hash: &[u8; 32]) -> String {
    hash.iter().fold(PREFIX.to_owned(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Parses `sha256:` and 64 hex digits. A fault never repeats the text: it may be a key.
pub fn parse_hash(text: &str) -> Result<[u8; 32], Fault> {
    let Some(digits) = text.strip_prefix(PREFIX) else {
        return Err(Fault::new(
            "this is not the hash of an API key",
            "write \"sha256:\" and 64 hex digits; `weir key hash` makes them from a key",
        ));
    };
    let hash = parse_hex(digits).ok_or_else(|| {
        let message = format!("the hash has {} characters after {PREFIX:?}", digits.chars().count());
        Fault::new(message, format!("write {HEX_DIGITS} hex digits, as `weir key hash` does"))
    })?;
    if hash == hash_key(b"") {
        let remedy = "hash the key itself, for example with `weir key hash`";
        return Err(Fault::new("this is the hash of no text at all", remedy));
    }
    Ok(hash)
}

fn parse_hex(digits: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if digits.len() != HEX_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in hash.iter_mut().zip((0..HEX_DIGITS).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, appendix B.1.
    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_hash_is_spelt_and_read_back() {
        assert_eq!(spell_hash(&hash_key(b"abc")), ABC);
        assert_eq!(parse_hash(ABC), Ok(hash_key(b"abc")));
        let upper = format!("sha256:{}", ABC[7..].to_uppercase());
        assert_eq!(parse_hash(&upper), Ok(hash_key(b"abc")));
    }

    #[test]
    fn what_is_no_hash_is_refused_and_not_repeated() {
        let texts = ["weir_secret", "", "sha256:", "sha256:secret", "SHA256:00", "sha1:secret"];
        let wide = format!("sha256:{}", "\u{e9}".repeat(32));
        for text in texts.into_iter().chain([&ABC[..70], &*format!("{ABC}0"), &*wide]) {
            let fault = parse_hash(text).expect_err(text).to_string();
            assert!(!fault.contains("secret"), "{fault}");
        }
    }

    #[test]
    fn the_hash_of_nothing_is_a_mistake() {
        let fault = parse_hash(&spell_hash(&hash_key(b""))).unwrap_err();
        assert!(fault.message.contains("no text at all"));
    }
}
