//! Signed tokens in compact form (RFC 7515): taken apart, and their signatures checked or made.
//!
//! A token never chooses how it is checked: the key says which algorithms fit it, and there is no `none` and no shared
//! secret among them. Nothing of a token is believed before its signature; `Parts` is named so that nobody forgets.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, Ed25519KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

/// Longest token, bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Smallest and largest RSA modulus, bits.
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// What a header says. Fields that are not of these types make the token unreadable; a field twice does too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Header {
    /// Algorithm.
    pub alg: Option<String>,
    /// Key.
    pub kid: Option<String>,
    /// Type.
    pub typ: Option<String>,
    /// Extensions that must be understood; none is.
    crit: Option<serde_json::Value>,
}

/// A token taken apart; nothing in it is proved.
pub struct Parts<'a> {
    /// What it says of itself.
    pub header: Header,
    /// The claims, JSON or not.
    pub payload: Vec<u8>,
    signed: &'a [u8],
    signature: Vec<u8>,
}

/// Text that is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a signed token in compact form")]
pub struct Malformed;

impl<'a> Parts<'a> {
    /// Takes apart: three parts, canonical base64url, a JSON header without `crit`; refused as `Malformed`.
    pub fn of(token: &'a str) -> Result<Parts<'a>, Malformed> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Malformed);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| Malformed)?;
        if header.crit.is_some() {
            return Err(Malformed);
        }
        Ok(Parts {
            header,
            payload: decode(payload)?,
            signed: signed.as_bytes(),
            signature: decode(signature)?,
        })
    }

    /// Whether `key` made the signature, by the algorithm that the header names and the key allows.
    pub fn signed_by(&self, key: &PublicKey) -> Result<(), SignatureRefused> {
        let algorithm = self.header.alg.as_deref().unwrap_or_default();
        key.check(algorithm, self.signed, &self.signature)
    }
}

/// Why a signature was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureRefused {
    /// The key does not sign by this algorithm.
    #[error("the algorithm does not fit the key")]
    Algorithm,
    /// It is not this key's signature.
    #[error("the signature is wrong")]
    Wrong,
}

/// A public key that signatures are checked with.
#[derive(Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// RSA; RS and PS algorithms.
    Rsa {
        /// Modulus, big-endian, no leading zero.
        n: Vec<u8>,
        /// Exponent, big-endian.
        e: Vec<u8>,
    },
    /// ECDSA on P-256, uncompressed point; ES256.
    P256(Vec<u8>),
    /// ECDSA on P-384, uncompressed point; ES384.
    P384(Vec<u8>),
    /// Ed25519; EdDSA.
    Ed25519(Vec<u8>),
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            PublicKey::Rsa { .. } => "Rsa",
            PublicKey::P256(_) => "P256",
            PublicKey::P384(_) => "P384",
            PublicKey::Ed25519(_) => "Ed25519",
        })
    }
}

impl PublicKey {
    fn check(&self, algorithm: &str, signed: &[u8], given: &[u8]) -> Result<(), SignatureRefused> {
        let point = |with: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(with, key).verify(signed, given)
        };
        let checked = match (self, algorithm) {
            (PublicKey::Rsa { n, e }, _) => {
                let with = match algorithm {
                    "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                    "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
                    "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
                    "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => return Err(SignatureRefused::Algorithm),
                };
                signature::RsaPublicKeyComponents { n, e }.verify(with, signed, given)
            }
            (PublicKey::P256(key), "ES256") => point(&signature::ECDSA_P256_SHA256_FIXED, key),
            (PublicKey::P384(key), "ES384") => point(&signature::ECDSA_P384_SHA384_FIXED, key),
            (PublicKey::Ed25519(key), "EdDSA") => point(&signature::ED25519, key),
            (PublicKey::P256(_) | PublicKey::P384(_) | PublicKey::Ed25519(_), _) => {
                return Err(SignatureRefused::Algorithm);
            }
        };
        checked.map_err(|_| SignatureRefused::Wrong)
    }

    /// Whether the key may sign by `algorithm` at all.
    pub fn allows(&self, algorithm: &str) -> bool {
        match self {
            PublicKey::Rsa { .. } => matches!(algorithm, "RS256" | "RS384" | "RS512" | "PS256" | "PS384" | "PS512"),
            PublicKey::P256(_) => algorithm == "ES256",
            PublicKey::P384(_) => algorithm == "ES384",
            PublicKey::Ed25519(_) => algorithm == "EdDSA",
        }
    }
}

/// Signs claims by Ed25519.
///
/// # Panics
/// When the claims have no JSON form, which is a bug.
pub fn sign(key: &Ed25519KeyPair, kid: &str, typ: &str, claims: &impl Serialize) -> String {
    let header = serde_json::json!({"alg": "EdDSA", "typ": typ, "kid": kid});
    let claims = serde_json::to_vec(claims).expect("claims have a JSON form");
    let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(claims, &mut token);
    let made = key.sign(token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(made, &mut token);
    token
}

#[cfg(test)]
#[path = "jws_tests.rs"]
mod tests;
