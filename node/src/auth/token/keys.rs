//! The keys behind access tokens: ours, which sign, and the authority's, which are only known.

use crate::auth::jwks::{self, JwksError, Named};
use crate::auth::jws::PublicKey;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

/// Largest key file, bytes.
const FILE_BYTES_MAX: u64 = jwks::SET_BYTES_MAX as u64;

/// Where the keys lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFiles {
    /// PEM, PKCS#8, Ed25519: signs.
    pub signing_key: Option<PathBuf>,
    /// The same: its signatures are taken beside those of `signing_key`.
    pub previous_signing_key: Option<PathBuf>,
    /// The authority's public keys as a JSON set.
    pub authority_jwks: Option<PathBuf>,
}

/// Why keys could not be read. The text never holds any of them.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The operating system refused.
    #[error("{file}: {cause}", file = file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// Larger than any key.
    #[error("{file}: the file is larger than 64 KiB, so it holds no keys", file = file.display())]
    TooLarge {
        /// Which file.
        file: PathBuf,
    },
    /// Not a private Ed25519 key.
    #[error("{file}: not an Ed25519 private key in PKCS#8 PEM; make one with `openssl genpkey -algorithm ed25519`", file = file.display())]
    SigningKey {
        /// Which file.
        file: PathBuf,
    },
    /// Not a set of public keys.
    #[error("{file}: {cause}", file = file.display())]
    Authority {
        /// Which file.
        file: PathBuf,
        /// Why.
        cause: JwksError,
    },
}

/// A key that signs.
pub(super) struct Signing {
    pub(super) kid: String,
    pub(super) pair: Ed25519KeyPair,
}

/// Whose key it is: whose tokens it may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    Own,
    Authority,
}

/// All keys.
#[derive(Default)]
pub struct Keys {
    pub(super) signing: Option<Signing>,
    pub(super) own: Vec<Named>,
    pub(super) authority: Vec<Named>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Keys({} own, {} of the authority)",
            self.own.len(),
            self.authority.len()
        )
    }
}

impl Keys {
    /// Reads all files. Errors in their order: signing key, previous one, authority's set.
    pub fn from_files(files: &KeyFiles) -> Result<Keys, KeysError> {
        let mut keys = Keys::default();
        let signing = files.signing_key.as_deref().map(read_signing).transpose()?;
        let previous = files.previous_signing_key.as_deref().map(read_signing).transpose()?;
        for signing in [&signing, &previous].into_iter().flatten() {
            keys.own.push(Named {
                kid: signing.kid.clone(),
                key: PublicKey::Ed25519(signing.pair.public_key().as_ref().to_vec()),
                algorithm: None,
            });
        }
        keys.signing = signing;
        if let Some(file) = &files.authority_jwks {
            keys.authority = jwks::read(&read(file)?).map_err(|cause| KeysError::Authority {
                file: file.clone(),
                cause,
            })?;
        }
        Ok(keys)
    }

    /// The key of this name. Ours come first: the authority cannot take the name of one.
    pub(super) fn find(&self, kid: &str) -> Option<(Holder, &Named)> {
        let of = |keys: &'_ [Named]| keys.iter().position(|key| key.kid == kid);
        of(&self.own)
            .map(|at| (Holder::Own, &self.own[at]))
            .or_else(|| of(&self.authority).map(|at| (Holder::Authority, &self.authority[at])))
    }

    /// Names of our own keys, the one that signs first: for whoever shows them.
    pub fn own_kids(&self) -> Vec<&str> {
        self.own.iter().map(|key| key.kid.as_str()).collect()
    }

    /// Names of the authority's keys.
    pub fn authority_kids(&self) -> Vec<&str> {
        self.authority.iter().map(|key| key.kid.as_str()).collect()
    }
}

/// Algorithms that some kind of key may sign by. None of them works with a shared secret or without a key.
pub(super) fn is_accepted(algorithm: &str) -> bool {
    const ACCEPTED: [&str; 9] = [
        "EdDSA", "ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    ];
    ACCEPTED.contains(&algorithm)
}

fn read(file: &Path) -> Result<Vec<u8>, KeysError> {
    let io = |cause| KeysError::Io {
        file: file.to_owned(),
        cause,
    };
    if std::fs::metadata(file).map_err(io)?.len() > FILE_BYTES_MAX {
        return Err(KeysError::TooLarge { file: file.to_owned() });
    }
    std::fs::read(file).map_err(io)
}

fn read_signing(file: &Path) -> Result<Signing, KeysError> {
    let pem = read(file)?;
    let refused = || KeysError::SigningKey { file: file.to_owned() };
    let (kid, pair) = signing_key(&pem).ok_or_else(refused)?;
    Ok(Signing { kid, pair })
}

/// A private Ed25519 key from PKCS#8 PEM, with or without its public half, and its name: the first 16 hexadecimal digits
/// of the SHA-256 of the public key. `None` when it is none.
pub fn signing_key(pem: &[u8]) -> Option<(String, Ed25519KeyPair)> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem).ok()?;
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).ok()?;
    let digest = Sha256::digest(pair.public_key().as_ref());
    Some((hex::encode(&digest[..8]), pair))
}
