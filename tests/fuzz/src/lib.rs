//! What fuzz targets share: choices drawn from the input, and NHSMESH tokens signed apart from the code under test.

#![deny(missing_docs)]

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Draws choices from an input; zeros when it has run out, so that every input is a whole case.
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// From the start of `input`.
    pub fn new(input: &'a [u8]) -> Choices<'a> {
        Choices(input)
    }

    /// Whether nothing is left.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        let [byte] = self.take();
        byte
    }

    /// Sixteen bits.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    /// Thirty-two bits.
    pub fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    /// A place below `end`, which is above 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.word() as usize % end
    }

    /// What is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (now, later) = self.0.split_at(self.0.len().min(N));
        self.0 = later;
        let mut bytes = [0; N];
        bytes[..now.len()].copy_from_slice(now);
        bytes
    }
}

/// The hash of a token, as the specification words it.
pub fn hash(key: &[u8], mailbox: &str, nonce: &str, count: &str, password: &str, timestamp: &str) -> String {
    let mut mac: Hmac<Sha256> = Hmac::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(format!("{mailbox}:{nonce}:{count}:{password}:{timestamp}").as_bytes());
    hex::encode(mac.finalize().into_bytes())
}
