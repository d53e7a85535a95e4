//! Client assertions and access tokens, every part of them a test's own choice; and the call that gets a token.

use crate::wire::{Answer, Connection, Target};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{self, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// The one kind of client assertion.
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Seconds since 1970.
pub fn now_s() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).expect("it is after 1970")
}

/// A token of exactly these parts.
pub fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let (header, claims) = (header.to_string(), claims.to_string());
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let made = URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()));
    format!("{signed}.{made}")
}

/// HMAC-SHA256 under a shared secret, for tokens that must be refused.
pub fn hs256(secret: &[u8], signed: &[u8]) -> Vec<u8> {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    ring::hmac::sign(&key, signed).as_ref().to_vec()
}

/// `object` with one member changed; `Null` takes it away.
pub fn with(mut object: Value, name: &str, value: Value) -> Value {
    let members = object.as_object_mut().expect("an object");
    match value {
        Value::Null => drop(members.remove(name)),
        value => drop(members.insert(name.to_owned(), value)),
    }
    object
}

/// The DER of a PEM file with one block.
fn der(file: &Path) -> Vec<u8> {
    let pem = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(text).expect("PEM holds base64")
}

/// A registered application: who it is, its key, and where it gets tokens.
pub struct Application {
    /// `iss` and `sub` of its assertions.
    pub client: String,
    /// Name of its key.
    pub kid: String,
    /// `aud` of its assertions.
    pub url: String,
    pair: RsaKeyPair,
}

impl Application {
    /// As `tokens.application` of `sandbox.json` describes it.
    pub fn of(sandbox: &Value) -> Application {
        let told = &sandbox["tokens"]["application"];
        let text = |name: &str| {
            told[name]
                .as_str()
                .unwrap_or_else(|| panic!("sandbox.json tells {name}"))
        };
        Application {
            client: text("client_id").to_owned(),
            kid: text("kid").to_owned(),
            url: text("token_url").to_owned(),
            pair: RsaKeyPair::from_pkcs8(&der(Path::new(text("key_file")))).expect("an RSA key"),
        }
    }

    /// The modulus of its public key.
    pub fn modulus(&self) -> Vec<u8> {
        let public: signature::RsaPublicKeyComponents<Vec<u8>> = self.pair.public().into();
        public.n
    }

    /// The header of a good assertion.
    pub fn header(&self) -> Value {
        json!({"alg": "RS512", "typ": "JWT", "kid": self.kid})
    }

    /// The claims of a good assertion that was not used yet.
    pub fn claims(&self) -> Value {
        let jti = hex::encode(rand::random::<[u8; 16]>());
        json!({"iss": self.client, "sub": self.client, "aud": self.url, "exp": now_s() + 240, "jti": jti})
    }

    /// Its signature by this algorithm.
    pub fn signature(&self, with: &'static dyn signature::RsaEncoding, signed: &[u8]) -> Vec<u8> {
        let mut made = vec![0; self.pair.public().modulus_len()];
        let random = SystemRandom::new();
        self.pair.sign(with, &random, signed, &mut made).expect("the key signs");
        made
    }

    /// An assertion of these parts, signed as it should be.
    pub fn signed(&self, header: &Value, claims: &Value) -> String {
        token(header, claims, |text| {
            self.signature(&signature::RSA_PKCS1_SHA512, text)
        })
    }

    /// A good assertion.
    pub fn assertion(&self) -> String {
        self.signed(&self.header(), &self.claims())
    }

    /// Asks for a token with this assertion.
    pub async fn ask(&self, target: &Target, assertion: &str) -> Answer {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", assertion),
        ];
        post(target, &self.url, &form).await
    }

    /// An access token. Panics when it is refused.
    pub async fn access_token(&self, target: &Target) -> String {
        let answer = self.ask(target, &self.assertion()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["access_token"].as_str().expect("a token").to_owned()
    }
}

/// Posts a form to the token endpoint; `url` is what the client calls it.
pub async fn post(target: &Target, url: &str, form: &[(&str, &str)]) -> Answer {
    let parts: Vec<String> = form
        .iter()
        .map(|(name, value)| format!("{name}={}", escaped(value)))
        .collect();
    let content_type = ("Content-Type", "application/x-www-form-urlencoded");
    send(
        target,
        "POST",
        "/oauth2/token",
        url,
        &[content_type],
        parts.join("&").as_bytes(),
    )
    .await
}

/// Any request to a path, with the host of `url`.
pub async fn send(
    target: &Target,
    method: &str,
    path: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let authority = url.split("//").nth(1).and_then(|rest| rest.split('/').next());
    let mut all = vec![("Host", authority.unwrap_or("localhost")), ("Connection", "close")];
    all.extend_from_slice(headers);
    let mut connection = Connection::open(target).await.expect("the node accepts");
    let answer = connection.exchange(method, path, &all, body).await;
    answer.unwrap_or_else(|error| panic!("{method} {path} got no answer: {error}"))
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// The authority that signs the tokens of people.
pub struct Authority {
    /// Name of its key.
    pub kid: String,
    issuer: String,
    audience: String,
    pair: Ed25519KeyPair,
}

impl Authority {
    /// As `tokens.authority` of `sandbox.json` describes it.
    pub fn of(sandbox: &Value) -> Authority {
        let told = &sandbox["tokens"];
        let text = |value: &Value| value.as_str().expect("sandbox.json tells the authority").to_owned();
        Authority {
            kid: text(&told["authority"]["kid"]),
            issuer: text(&told["authority"]["issuer"]),
            audience: text(&told["authority"]["audience"]),
            pair: Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der(Path::new(&text(&told["authority_key"]))))
                .expect("an Ed25519 key"),
        }
    }

    /// What every token of a person says.
    pub fn claims(&self, client: &str) -> Value {
        let now = now_s();
        json!({"iss": self.issuer, "aud": self.audience, "iat": now, "exp": now + 600, "client_id": client})
    }

    /// A token with these claims, signed as it should be.
    pub fn signed(&self, claims: &Value) -> String {
        let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": self.kid});
        token(&header, claims, |text| self.pair.sign(text).as_ref().to_vec())
    }

    /// A token that says the same as `token`, but began `later_s` seconds later.
    pub fn again(&self, token: &str, later_s: u64) -> String {
        let payload = token.split('.').nth(1).expect("a token has three parts");
        let payload = URL_SAFE_NO_PAD.decode(payload).expect("base64");
        let mut claims: Value = serde_json::from_slice(&payload).expect("claims are JSON");
        for claim in ["iat", "exp"] {
            claims[claim] = json!(claims[claim].as_u64().expect("seconds") + later_s);
        }
        self.signed(&claims)
    }

    /// Its public key.
    pub fn public_key(&self) -> Vec<u8> {
        self.pair.public_key().as_ref().to_vec()
    }
}

/// A new Ed25519 private key as PEM.
pub fn new_signing_key() -> String {
    let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("ring makes keys");
    let text = STANDARD.encode(der.as_ref());
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}
