//! Random secrets and digests. A secret is shown once and kept as its SHA-256.

use crate::names::Sha256;
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::io::{self, Read};
use subtle::ConstantTimeEq;

/// 256 random bits in hexadecimal. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A new one, from the system's random numbers. Fails when the system has none.
    pub fn random() -> io::Result<Secret> {
        let mut bytes = [0u8; 32];
        let filled = SystemRandom::new().fill(&mut bytes);
        filled.map_err(|_| io::Error::other("the system gave no random numbers"))?;
        Ok(Secret(hex::encode(bytes)))
    }

    /// The secret itself: for the one answer that hands it out.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept.
    pub fn sha256(&self) -> Sha256 {
        sha256(self.0.as_bytes())
    }
}

/// SHA-256 of bytes in memory.
pub fn sha256(bytes: &[u8]) -> Sha256 {
    finished(digest::digest(&digest::SHA256, bytes))
}

fn finished(digest: digest::Digest) -> Sha256 {
    hex::encode(digest).parse().expect("a SHA-256 in hexadecimal is one")
}

/// SHA-256 and length of all that a reader gives.
pub fn sha256_of(mut reader: impl Read) -> io::Result<(Sha256, u64)> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0u8; 256 * 1024];
    let mut length = 0u64;
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok((finished(context.finish()), length));
        }
        context.update(&buffer[..count]);
        length += count as u64;
    }
}

/// Whether `offered` is the secret whose digest was kept, without telling by time how far it agrees.
pub fn matches(offered: &str, kept: &Sha256) -> bool {
    sha256(offered.as_bytes())
        .as_str()
        .as_bytes()
        .ct_eq(kept.as_str().as_bytes())
        .into()
}
