//! The NHSMESH authorization header: `NHSMESH mailbox:nonce:nonce_count:yyyyMMddHHmm:hash`, where the hash is the
//! hexadecimal HMAC-SHA256, under the key all mailboxes share, of `mailbox:nonce:nonce_count:password:timestamp`
//! (MESH API specification, "MESH Authorization header").
//!
//! A token is parsed, then judged: its time, its signature, its single use. Nothing here knows who may have mailboxes.

use crate::base::Timestamp;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Longest mailbox or nonce in a token, in bytes: the signed text stays small whatever a client sends.
const PART_BYTES_MAX: usize = 100;
/// Longest nonce count, in digits.
const COUNT_DIGITS_MAX: usize = 20;
/// Bytes of a seal ([`SharedKeys::seal`]).
pub const SEAL_BYTES: usize = 12;

/// The keys that sign tokens: the current one, and the one before while clients move over. The HMAC state is keyed once.
#[derive(Clone)]
pub struct SharedKeys {
    current: Key,
    previous: Option<Key>,
}

#[derive(Clone)]
struct Key {
    tokens: Hmac<Sha256>,
    seals: [u8; 32],
}

impl Key {
    fn new(secret: &[u8]) -> Key {
        Key {
            tokens: Hmac::new_from_slice(secret).expect("HMAC takes a key of any length"),
            seals: blake3::derive_key("vertebra 2026-11-22 continuation tokens", secret),
        }
    }
}

impl std::fmt::Debug for SharedKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.previous.is_some() {
            "SharedKeys(current, previous)"
        } else {
            "SharedKeys(current)"
        })
    }
}

impl SharedKeys {
    /// The keys; `previous` is honoured beside `current` during a rotation.
    pub fn new(current: &[u8], previous: Option<&[u8]>) -> SharedKeys {
        SharedKeys {
            current: Key::new(current),
            previous: previous.map(Key::new),
        }
    }

    /// A seal over `text` that only a node with the same key can make.
    pub fn seal(&self, text: &[u8]) -> [u8; SEAL_BYTES] {
        seal(&self.current, text)
    }

    /// Whether `given` seals `text`, under either key.
    pub fn sealed(&self, text: &[u8], given: &[u8]) -> bool {
        let current = seal(&self.current, text).ct_eq(given);
        let previous = self.previous.as_ref().map(|key| seal(key, text).ct_eq(given));
        bool::from(current | previous.unwrap_or_else(|| 0.into()))
    }
}

fn seal(key: &Key, text: &[u8]) -> [u8; SEAL_BYTES] {
    let mut short = [0; SEAL_BYTES];
    short.copy_from_slice(&blake3::keyed_hash(&key.seals, text).as_bytes()[..SEAL_BYTES]);
    short
}

/// A token as a client sent it; nothing in it is proved yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Token<'a> {
    /// The mailbox it speaks for.
    pub mailbox: &'a str,
    nonce: &'a str,
    count: &'a str,
    timestamp: &'a str,
    /// The timestamp as a moment; whole minutes.
    pub stamped: Timestamp,
    hash: [u8; 32],
}

impl std::fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(redacted)")
    }
}

impl<'a> Token<'a> {
    /// Parses a header's value. `None` when the scheme, the number of parts, a part's characters or length, the
    /// timestamp or the hash have another form. Surrounding spaces and the case of scheme and hash do not matter.
    pub fn parse(header: &'a str) -> Option<Token<'a>> {
        let (scheme, parts) = header.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("NHSMESH") {
            return None;
        }
        let mut parts = parts.split(':');
        let mailbox = plain(parts.next()?)?;
        let nonce = plain(parts.next()?)?;
        let count = parts.next()?;
        let timestamp = parts.next()?;
        let hash = parts.next()?;
        if parts.next().is_some() || !digits(count, 1..=COUNT_DIGITS_MAX) {
            return None;
        }
        let stamped = moment(timestamp)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(hash, &mut bytes).ok()?;
        Some(Token {
            mailbox,
            nonce,
            count,
            timestamp,
            stamped,
            hash: bytes,
        })
    }

    /// Whether the token was signed with `password` under one of `keys`; takes the same time for each answer.
    pub fn signed_by(&self, keys: &SharedKeys, password: &str) -> bool {
        let current = self.signature(&keys.current, password).ct_eq(&self.hash);
        let previous = keys
            .previous
            .as_ref()
            .map(|key| self.signature(key, password).ct_eq(&self.hash));
        bool::from(current | previous.unwrap_or_else(|| 0.into()))
    }

    fn signature(&self, key: &Key, password: &str) -> [u8; 32] {
        let mut mac = key.tokens.clone();
        for part in [
            self.mailbox,
            ":",
            self.nonce,
            ":",
            self.count,
            ":",
            password,
            ":",
            self.timestamp,
        ] {
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }

    /// What single use is judged by: the first 16 bytes of BLAKE3 over mailbox, nonce, nonce count and timestamp. The
    /// hash is left out, so that writing it in another case does not make a new token.
    pub fn fingerprint(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        for part in [self.mailbox, ":", self.nonce, ":", self.count, ":", self.timestamp] {
            hasher.update(part.as_bytes());
        }
        let mut short = [0; 16];
        short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        short
    }

    /// Whether its timestamp is within `validity_ms` of `now`, either way.
    pub fn in_time(&self, now: Timestamp, validity_ms: u64) -> bool {
        now.since_ms(self.stamped).max(self.stamped.since_ms(now)) <= validity_ms
    }
}

/// A mailbox or a nonce: visible ASCII without a colon.
fn plain(part: &str) -> Option<&str> {
    let fits = (1..=PART_BYTES_MAX).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_graphic());
    fits.then_some(part)
}

fn digits(text: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    length.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// `yyyyMMddHHmm` in UTC; `None` when it is no moment after 1970.
fn moment(text: &str) -> Option<Timestamp> {
    if !digits(text, 12..=12) {
        return None;
    }
    let year = text[..4].parse().ok()?;
    let part = |at: usize| text[at..at + 2].parse::<i8>().ok();
    let civil = jiff::civil::DateTime::new(year, part(4)?, part(6)?, part(8)?, part(10)?, 0, 0).ok()?;
    let ms = jiff::tz::Offset::UTC.to_timestamp(civil).ok()?.as_millisecond();
    u64::try_from(ms).ok().map(Timestamp::from_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signed independently of the code under test: the example mailbox of the specification, password `password`,
    /// key `TestKey`.
    fn header(keys: &SharedKeys, mailbox: &str, password: &str, count: &str, timestamp: &str) -> String {
        let unsigned = format!("NHSMESH {mailbox}:bd0e2bd5-218e-41d0-83a9-73fdec414803:{count}:{timestamp}");
        let blank = format!("{unsigned}:{}", "0".repeat(64));
        let token = Token::parse(&blank).expect("well formed");
        format!("{unsigned}:{}", hex::encode(token.signature(&keys.current, password)))
    }

    #[test]
    fn the_signature_is_the_one_of_the_specification() {
        let keys = SharedKeys::new(b"TestKey", None);
        let header = "NHSMESH X26ABC1:2c001608-5f09-4840-9611-bea43e666a30:1:201511201038:KNOWN_HASH";
        let header = header.replace("KNOWN_HASH", KNOWN_HASH);
        let token = Token::parse(&header).expect("well formed");
        assert!(token.signed_by(&keys, "password"));
        assert_eq!(token.stamped.iso(), "2015-11-20T10:38:00.000Z");
    }

    /// HMAC-SHA256 of `X26ABC1:2c001608-5f09-4840-9611-bea43e666a30:1:password:201511201038` under `TestKey`.
    const KNOWN_HASH: &str = "9712e9dd1aa836431fa50134c333fceda28dc7e380675d9b0d359477f56d034a";

    #[test]
    fn a_forged_token_is_refused() {
        let keys = SharedKeys::new(b"TestKey", None);
        let good = header(&keys, "X26ABC1", "password", "0", "202611221500");
        let token = Token::parse(&good).expect("well formed");
        assert!(token.signed_by(&keys, "password"));
        assert!(!token.signed_by(&keys, "Password"));
        assert!(!token.signed_by(&keys, ""));
        assert!(!token.signed_by(&SharedKeys::new(b"testkey", None), "password"));
        for (from, to) in [
            ("X26ABC1", "X26ABC2"),
            (":0:", ":1:"),
            ("202611221500", "202611221501"),
            ("bd0e", "bd0f"),
        ] {
            let forged = good.replace(from, to);
            assert!(
                !Token::parse(&forged).expect("well formed").signed_by(&keys, "password"),
                "{from} → {to}"
            );
        }
    }

    #[test]
    fn the_previous_key_is_honoured_during_a_rotation_and_not_after() {
        let old = SharedKeys::new(b"old", None);
        let header = header(&old, "X26ABC1", "password", "0", "202611221500");
        let token = Token::parse(&header).expect("well formed");
        assert!(token.signed_by(&SharedKeys::new(b"new", Some(b"old")), "password"));
        assert!(!token.signed_by(&SharedKeys::new(b"new", None), "password"));
    }

    #[test]
    fn scheme_and_hash_may_have_any_case_and_are_one_token() {
        let keys = SharedKeys::new(b"TestKey", None);
        let good = header(&keys, "X26ABC1", "password", "0", "202611221500");
        let (rest, hash) = good.rsplit_once(':').expect("five parts");
        let upper = format!(" nhsmesh{}:{} ", &rest[7..], hash.to_ascii_uppercase());
        let token = Token::parse(&upper).expect("well formed");
        assert!(token.signed_by(&keys, "password"));
        assert_eq!(
            token.fingerprint(),
            Token::parse(&good).expect("well formed").fingerprint()
        );
    }

    #[test]
    fn malformed_headers_are_refused() {
        let hash = "0".repeat(64);
        for bad in [
            String::new(),
            "NHSMESH".into(),
            "NHSMESH ".into(),
            format!("Basic M:n:0:202611221500:{hash}"),
            format!("M:n:0:202611221500:{hash}"),
            format!("NHSMESHM:n:0:202611221500:{hash}"),
            format!("NHSMESH M:n:0:202611221500:{hash}:x"),
            format!("NHSMESH M:n:0:202611221500:{hash}0"),
            format!("NHSMESH M:n:0:202611221500:{}", &hash[1..]),
            format!("NHSMESH M:n:0:202611221500:{}", "g".repeat(64)),
            "NHSMESH M:n:0:202611221500".into(),
            format!("NHSMESH :n:0:202611221500:{hash}"),
            format!("NHSMESH M::0:202611221500:{hash}"),
            format!("NHSMESH M:n::202611221500:{hash}"),
            format!("NHSMESH M:n:-1:202611221500:{hash}"),
            format!("NHSMESH M:n:one:202611221500:{hash}"),
            format!("NHSMESH M:n:0:20261122150:{hash}"),
            format!("NHSMESH M:n:0:2026112215000:{hash}"),
            format!("NHSMESH M:n:0:202613221500:{hash}"),
            format!("NHSMESH M:n:0:202611222500:{hash}"),
            format!("NHSMESH M:n:0:196911222300:{hash}"),
            format!("NHSMESH M M:n:0:202611221500:{hash}"),
            format!("NHSMESH {}:n:0:202611221500:{hash}", "M".repeat(101)),
            format!("NHSMESH M:{}:0:202611221500:{hash}", "n".repeat(101)),
            format!("NHSMESH M:n:{}:202611221500:{hash}", "1".repeat(21)),
            format!("NHSMESH M:n\u{e9}:0:202611221500:{hash}"),
        ] {
            assert!(Token::parse(&bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn two_hours_either_way_are_in_time_and_a_millisecond_more_is_not() {
        let header = format!("NHSMESH M:n:0:202611221200:{}", "0".repeat(64));
        let token = Token::parse(&header).expect("well formed");
        let validity_ms = 2 * 3600 * 1000;
        for (now, in_time) in [
            (token.stamped, true),
            (token.stamped.plus_ms(validity_ms), true),
            (token.stamped.plus_ms(validity_ms + 1), false),
            (token.stamped.minus_ms(validity_ms), true),
            (token.stamped.minus_ms(validity_ms + 1), false),
        ] {
            assert_eq!(token.in_time(now, validity_ms), in_time, "{now}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let keys = SharedKeys::new(b"TestKey", Some(b"OldKey"));
        let header = header(&keys, "X26ABC1", "password", "0", "202611221500");
        let shown = format!("{:?} {:?}", keys, Token::parse(&header));
        assert!(
            !shown.contains("Key\"") && !shown.contains("X26ABC1") && !shown.contains("TestKey"),
            "{shown}"
        );
    }

    #[test]
    fn a_seal_fits_its_text_alone() {
        let keys = SharedKeys::new(b"TestKey", None);
        let seal = keys.seal(b"text");
        assert!(keys.sealed(b"text", &seal));
        assert!(SharedKeys::new(b"new", Some(b"TestKey")).sealed(b"text", &seal));
        assert!(!keys.sealed(b"texu", &seal) && !keys.sealed(b"text", &seal[1..]) && !keys.sealed(b"text", &[]));
        assert!(!SharedKeys::new(b"other", None).sealed(b"text", &seal));
    }
}
