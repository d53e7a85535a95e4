//! Sets of public keys as JSON (RFC 7517): of a client, of the authority that signs people's tokens.
//!
//! Read strictly, because a key that is misread is an open door: a private key, a shared secret, a key without a
//! name, a name twice, a weak key are each refused with the place in the list, never with any of the key.

use super::jws::{PublicKey, RSA_BITS};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// Most keys of one set.
pub const KEYS_MAX: usize = 32;
/// Longest key identifier, bytes.
pub const KID_BYTES_MAX: usize = 100;
/// Largest set, bytes.
pub const SET_BYTES_MAX: usize = 64 * 1024;

/// A public key with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Key identifier.
    pub kid: String,
    /// The key.
    pub key: PublicKey,
    /// The only algorithm it may be used with, where the set says so.
    pub algorithm: Option<String>,
}

/// Why a set was refused. Keys are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// Not the shape of a set.
    #[error("it is not a set of keys; give JSON of the form {{\"keys\": [...]}}, at most 64 KiB")]
    Shape,
    /// Too many keys.
    #[error("it has more than 32 keys; leave out those no longer used")]
    TooMany,
    /// Nothing in it.
    #[error("it has no keys; give at least one")]
    Empty,
    /// A field that is not public.
    #[error("key {0} has a private part; give the public half alone, and make a new key, since this one was shown")]
    Private(usize),
    /// No name, or too long.
    #[error("key {0} has no `kid` of 1 to 100 visible ASCII characters; give it one")]
    Kid(usize),
    /// The name is another key's too.
    #[error("key {0} has the `kid` of an earlier one; give each its own")]
    Twice(usize),
    /// A kind that is not taken.
    #[error("key {0} is of a kind that is not taken; use RSA, EC on P-256 or P-384, or OKP on Ed25519")]
    Kind(usize),
    /// The numbers are not those of a key.
    #[error("the numbers of key {0} cannot be read; export it again")]
    Numbers(usize),
    /// Too weak or too large.
    #[error("key {0} is an RSA key outside 2048 to 4096 bits, or its exponent is not 65537; make another")]
    Strength(usize),
    /// For another purpose, or another algorithm.
    #[error(
        "key {0} says that it is not for signatures, or names an algorithm that does not fit it; correct `use` or `alg`"
    )]
    Purpose(usize),
    /// Only RSA is taken here.
    #[error("key {0} is not an RSA key; client assertions are signed by RS512")]
    NotRsa(usize),
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Key>,
}

/// A key as written. Fields that are not known are let be, as the standard asks.
#[derive(Deserialize)]
struct Key {
    kty: Option<String>,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// Private exponent or private key.
    d: Option<serde_json::Value>,
    /// Shared secret.
    k: Option<serde_json::Value>,
    p: Option<serde_json::Value>,
    q: Option<serde_json::Value>,
}

/// Reads a set. Refusals as of [`JwksError`], of the first key that has one.
pub fn read(json: &[u8]) -> Result<Vec<Named>, JwksError> {
    if json.len() > SET_BYTES_MAX {
        return Err(JwksError::Shape);
    }
    let set: Set = serde_json::from_slice(json).map_err(|_| JwksError::Shape)?;
    if set.keys.is_empty() {
        return Err(JwksError::Empty);
    }
    if set.keys.len() > KEYS_MAX {
        return Err(JwksError::TooMany);
    }
    let mut named: Vec<Named> = Vec::with_capacity(set.keys.len());
    for (at, key) in set.keys.into_iter().enumerate() {
        let key = key.read(at + 1)?;
        if named.iter().any(|other| other.kid == key.kid) {
            return Err(JwksError::Twice(at + 1));
        }
        named.push(key);
    }
    Ok(named)
}

/// Reads a client's set: RSA keys alone, for RS512.
pub fn read_rsa(json: &[u8]) -> Result<Vec<Named>, JwksError> {
    let named = read(json)?;
    for (at, key) in named.iter().enumerate() {
        match &key.key {
            PublicKey::Rsa { .. } if key.algorithm.as_deref().is_none_or(|alg| alg == "RS512") => {}
            PublicKey::Rsa { .. } => return Err(JwksError::Purpose(at + 1)),
            PublicKey::P256(_) | PublicKey::P384(_) | PublicKey::Ed25519(_) => return Err(JwksError::NotRsa(at + 1)),
        }
    }
    Ok(named)
}

impl Key {
    fn read(self, at: usize) -> Result<Named, JwksError> {
        if [&self.d, &self.k, &self.p, &self.q].iter().any(|part| part.is_some()) {
            return Err(JwksError::Private(at));
        }
        let number = |part: &Option<String>| {
            let text = part.as_deref().ok_or(JwksError::Numbers(at))?;
            URL_SAFE_NO_PAD.decode(text).map_err(|_| JwksError::Numbers(at))
        };
        let fixed = |part: &Option<String>, bytes: usize| {
            let bytes_read = number(part)?;
            (bytes_read.len() == bytes)
                .then_some(bytes_read)
                .ok_or(JwksError::Numbers(at))
        };
        let point = |bytes: usize| {
            let mut point = vec![4];
            point.extend(fixed(&self.x, bytes)?);
            point.extend(fixed(&self.y, bytes)?);
            Ok(point)
        };
        let key = match (self.kty.as_deref(), self.crv.as_deref()) {
            (Some("RSA"), _) => rsa(at, &number(&self.n)?, &number(&self.e)?)?,
            (Some("EC"), Some("P-256")) => PublicKey::P256(point(32)?),
            (Some("EC"), Some("P-384")) => PublicKey::P384(point(48)?),
            (Some("OKP"), Some("Ed25519")) => PublicKey::Ed25519(fixed(&self.x, 32)?),
            _ => return Err(JwksError::Kind(at)),
        };
        let signs = self.purpose.as_deref().is_none_or(|purpose| purpose == "sig");
        if !signs || self.alg.as_deref().is_some_and(|alg| !key.allows(alg)) {
            return Err(JwksError::Purpose(at));
        }
        let kid = self.kid.filter(|kid| is_kid(kid)).ok_or(JwksError::Kid(at))?;
        Ok(Named {
            kid,
            key,
            algorithm: self.alg,
        })
    }
}

fn is_kid(kid: &str) -> bool {
    (1..=KID_BYTES_MAX).contains(&kid.len()) && kid.bytes().all(|b| b.is_ascii_graphic())
}

fn rsa(at: usize, n: &[u8], e: &[u8]) -> Result<PublicKey, JwksError> {
    // Some writers put a zero before a number whose highest bit is set.
    let n = &n[n.iter().take_while(|byte| **byte == 0).count()..];
    if !RSA_BITS.contains(&bits(n)) || e != [1, 0, 1] || n.last().is_none_or(|last| last % 2 == 0) {
        return Err(JwksError::Strength(at));
    }
    Ok(PublicKey::Rsa {
        n: n.to_vec(),
        e: e.to_vec(),
    })
}

/// Bits of a big-endian number without leading zeros.
pub fn bits(number: &[u8]) -> usize {
    let zeros = number.first().map_or(0, |first| first.leading_zeros() as usize);
    number.len() * 8 - zeros
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rsa_key(kid: &str, bytes: usize, more: &str) -> String {
        let n = URL_SAFE_NO_PAD.encode(vec![0xFF; bytes]);
        format!(r#"{{"kty":"RSA","kid":"{kid}","n":"{n}","e":"AQAB"{more}}}"#)
    }

    fn set(keys: &[String]) -> Vec<u8> {
        format!(r#"{{"keys":[{}]}}"#, keys.join(",")).into_bytes()
    }

    #[test]
    fn keys_of_every_kind_are_read() {
        let x = URL_SAFE_NO_PAD.encode([1; 32]);
        let long = URL_SAFE_NO_PAD.encode([1; 48]);
        let all = set(&[
            rsa_key("a", 256, r#","use":"sig","alg":"RS512""#),
            format!(r#"{{"kty":"EC","crv":"P-256","kid":"b","x":"{x}","y":"{x}"}}"#),
            format!(r#"{{"kty":"EC","crv":"P-384","kid":"c","x":"{long}","y":"{long}"}}"#),
            format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"d","x":"{x}","unknown":1}}"#),
        ]);
        let kinds: Vec<String> = read(&all)
            .expect("four keys")
            .iter()
            .map(|named| format!("{} {:?}", named.kid, named.key))
            .collect();
        assert_eq!(kinds, ["a Rsa", "b P256", "c P384", "d Ed25519"]);
        assert_eq!(read_rsa(&all), Err(JwksError::NotRsa(2)));
    }

    #[test]
    fn a_leading_zero_of_a_modulus_is_let_be() {
        let mut n = vec![0];
        n.extend([0xFF; 256]);
        let key = format!(
            r#"{{"kty":"RSA","kid":"a","n":"{}","e":"AQAB"}}"#,
            URL_SAFE_NO_PAD.encode(n)
        );
        let read = read_rsa(&set(&[key])).expect("a key");
        assert!(matches!(&read[0].key, PublicKey::Rsa { n, .. } if n.len() == 256));
    }

    #[test]
    fn what_is_no_good_key_is_refused_by_its_place() {
        let good = rsa_key("good", 256, "");
        let many: Vec<String> = (0..33).map(|n| rsa_key(&n.to_string(), 256, "")).collect();
        for (json, error) in [
            (b"".to_vec(), JwksError::Shape),
            (b"{}".to_vec(), JwksError::Shape),
            (b"[]".to_vec(), JwksError::Shape),
            (vec![b' '; SET_BYTES_MAX + 1], JwksError::Shape),
            (set(&[]), JwksError::Empty),
            (set(&many), JwksError::TooMany),
            (
                set(&[good.clone(), rsa_key("a", 256, r#","d":"AQ""#)]),
                JwksError::Private(2),
            ),
            (
                set(&[r#"{"kty":"oct","kid":"a","k":"AQ"}"#.into()]),
                JwksError::Private(1),
            ),
            (set(&[good.clone(), good.clone()]), JwksError::Twice(2)),
            (set(&[rsa_key("", 256, "")]), JwksError::Kid(1)),
            (set(&[rsa_key(&"k".repeat(101), 256, "")]), JwksError::Kid(1)),
            (set(&[rsa_key("a b", 256, "")]), JwksError::Kid(1)),
            (set(&[rsa_key("a", 128, "")]), JwksError::Strength(1)),
            (set(&[rsa_key("a", 1024, "")]), JwksError::Strength(1)),
            (
                set(&[rsa_key("a", 256, "").replace("AQAB", "AQ")]),
                JwksError::Strength(1),
            ),
            (
                set(&[rsa_key("a", 256, "").replace("AQAB", "?")]),
                JwksError::Numbers(1),
            ),
            (set(&[rsa_key("a", 256, r#","use":"enc""#)]), JwksError::Purpose(1)),
            (set(&[rsa_key("a", 256, r#","alg":"HS256""#)]), JwksError::Purpose(1)),
            (set(&[rsa_key("a", 256, r#","alg":"RS256""#)]), JwksError::Purpose(1)),
            (
                set(&[r#"{"kty":"EC","crv":"P-521","kid":"a"}"#.into()]),
                JwksError::Kind(1),
            ),
            (set(&[r#"{"kid":"a"}"#.into()]), JwksError::Kind(1)),
        ] {
            assert_eq!(
                read_rsa(&json),
                Err(error),
                "{}",
                String::from_utf8_lossy(&json[..json.len().min(80)])
            );
        }
    }
}
