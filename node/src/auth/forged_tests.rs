//! Keys and tokens that tests make, with every part their own choice.

use super::jws::PublicKey;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{self, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use rsa::pkcs8::EncodePrivateKey as _;
use serde_json::Value;
use std::sync::OnceLock;

/// An RSA key with its public half; made once, since that takes its time.
pub(crate) struct Rsa {
    pub(crate) pair: RsaKeyPair,
    pub(crate) public: PublicKey,
}

pub(crate) fn rsa() -> &'static Rsa {
    static KEY: OnceLock<Rsa> = OnceLock::new();
    KEY.get_or_init(|| {
        let made = rsa::PrivateKey::new(&mut getrandom::SysRng, 2048).expect("a key");
        let der = made.to_pkcs8_der().expect("PKCS#8");
        let pair = RsaKeyPair::from_pkcs8(der.as_bytes()).expect("ring reads it");
        let public: signature::RsaPublicKeyComponents<Vec<u8>> = pair.public().into();
        Rsa {
            pair,
            public: PublicKey::Rsa {
                n: public.n,
                e: public.e,
            },
        }
    })
}

pub(crate) fn rs512(signed: &[u8]) -> Vec<u8> {
    by_rsa(&signature::RSA_PKCS1_SHA512, signed)
}

pub(crate) fn by_rsa(with: &'static dyn signature::RsaEncoding, signed: &[u8]) -> Vec<u8> {
    let pair = &rsa().pair;
    let mut made = vec![0; pair.public().modulus_len()];
    pair.sign(with, &SystemRandom::new(), signed, &mut made).expect("signs");
    made
}

pub(crate) fn hs256(secret: &[u8], signed: &[u8]) -> Vec<u8> {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    ring::hmac::sign(&key, signed).as_ref().to_vec()
}

/// A token of exactly these parts.
pub(crate) fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let signature = URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// A private Ed25519 key as PEM, without its public half, as `openssl genpkey` writes it.
pub(crate) fn ed25519_pem(seed: u8) -> String {
    use base64::engine::general_purpose::STANDARD;
    let mut der = vec![
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
    ];
    der.extend([seed; 32]);
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der)
    )
}

/// The public half as a member of a key set.
pub(crate) fn jwk(kid: &str, pair: &Ed25519KeyPair) -> String {
    let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{x}"}}"#)
}
