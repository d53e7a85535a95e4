//! Throw-away keys and tokens of the sandbox: a key that signs access tokens, an authority that signs those of people, an
//! application with a key of its own. Never for anything real: every private key lies in the sandbox's folder.

use crate::admin::clients::ClientChange;
use crate::auth::jws;
use crate::auth::token::{Policy, signing_key};
use crate::cli::CliError;
use crate::cli::certificates::write;
use crate::cli::client::Door;
use crate::cli::clients::{client, put_client};
use crate::config::{SANDBOX_AUTHORITY, Tokens};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::PublicKeyData as _;
use rsa::pkcs8::EncodePrivateKey as _;
use rsa::traits::PublicKeyParts as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// The seeded client.
const CLIENT: &str = "sandbox-app";
/// Its key's name.
const KID: &str = "sandbox-1";
/// Bits of that key: the fewest that are taken, because it takes the least time to make.
const RSA_BITS: usize = 2048;
/// What it may ask for.
const SCOPE: &str = "personal-demographics-service";
/// Requests a second: a test that is about the rate sets it lower.
const REQUESTS_PER_SECOND: u32 = 1_000;
/// How long the people's tokens are valid, seconds: a day's work.
const PEOPLE_S: i64 = 24 * 3600;
/// The patient who signs in.
pub(in crate::cli) const NHS_NUMBER: &str = "9000000009";

/// The part of `sandbox.json` on access tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cli) struct SandboxTokens {
    /// How an application gets one.
    pub(in crate::cli) application: Application,
    /// A healthcare worker's, valid for a day.
    pub(in crate::cli) worker: String,
    /// A patient's (9000000009), valid for a day.
    pub(in crate::cli) patient: String,
    /// PEM file of the key that signed the two, to make others.
    pub(in crate::cli) authority_key: PathBuf,
    /// What such tokens must say.
    pub(in crate::cli) authority: Authority,
}

/// A client that proves itself at the token endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cli) struct Application {
    /// Its identifier: `iss` and `sub` of its assertions.
    pub(in crate::cli) client_id: String,
    /// PEM file of its private RSA key.
    pub(in crate::cli) key_file: PathBuf,
    /// The key's name.
    pub(in crate::cli) kid: String,
    /// Where it gets tokens: also `aud` of its assertions.
    pub(in crate::cli) token_url: String,
}

/// What a token of a person must say to be taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cli) struct Authority {
    /// Name of the authority's key (Ed25519).
    pub(in crate::cli) kid: String,
    /// `iss`.
    pub(in crate::cli) issuer: String,
    /// `aud`.
    pub(in crate::cli) audience: String,
}

fn failed(what: impl std::fmt::Display) -> CliError {
    CliError::Failed(what.to_string())
}

/// Makes what the node needs to start: `tokens.key`, `authority.key`, `authority.jwks`. What is there stays.
pub(in crate::cli) fn make_missing(folder: &Path) -> Result<(), CliError> {
    let signing = folder.join("tokens.key");
    if !signing.is_file() {
        write(&signing, &key()?.serialize_pem(), 0o600)?;
    }
    let (authority, jwks) = (folder.join("authority.key"), folder.join("authority.jwks"));
    if !(authority.is_file() && jwks.is_file()) {
        let pair = key()?;
        let pem = pair.serialize_pem();
        let (kid, _) = signing_key(pem.as_bytes()).ok_or_else(|| failed("the new key cannot be read back"))?;
        let x = URL_SAFE_NO_PAD.encode(pair.der_bytes());
        let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "x": x}]});
        write(&authority, &pem, 0o600)?;
        write(&jwks, &format!("{set}\n"), 0o644)?;
    }
    Ok(())
}

fn key() -> Result<rcgen::KeyPair, CliError> {
    rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(failed)
}

/// Makes `application.key` and `application.jwks` when they are missing. An RSA key takes a good part of a second, so the
/// node starts meanwhile.
pub(in crate::cli) fn make_application_key(folder: &Path) -> Result<(), CliError> {
    let (file, jwks) = (folder.join("application.key"), folder.join("application.jwks"));
    if file.is_file() && jwks.is_file() {
        return Ok(());
    }
    let pair = rsa::PrivateKey::new(&mut getrandom::SysRng, RSA_BITS).map_err(failed)?;
    let pem = pair.to_pkcs8_pem(rsa::pkcs8::LineEnding::LF).map_err(failed)?;
    let (n, e) = (
        URL_SAFE_NO_PAD.encode(pair.n_bytes()),
        URL_SAFE_NO_PAD.encode(pair.e_bytes()),
    );
    let set = json!({"keys": [{"kty": "RSA", "kid": KID, "use": "sig", "alg": "RS512", "n": n, "e": e}]});
    write(&file, &pem, 0o600)?;
    write(&jwks, &format!("{set}\n"), 0o644)?;
    Ok(())
}

/// Adds the client when it is not there yet; what a user changed stays.
pub(in crate::cli) fn seed(folder: &Path, door: &Door) -> Result<(), CliError> {
    if client(door, CLIENT)?.is_some() {
        return Ok(());
    }
    let jwks = fs::read_to_string(folder.join("application.jwks")).map_err(failed)?;
    let change = ClientChange {
        name: Some("Sandbox application".to_owned()),
        ods: Some("X26".to_owned()),
        jwks: Some(jwks),
        modes: Some(["application", "worker", "patient"].map(str::to_owned).to_vec()),
        scopes: Some(vec![SCOPE.to_owned()]),
        requests_per_second: Some(REQUESTS_PER_SECOND),
        active: Some(true),
        only_new: true,
    };
    put_client(door, CLIENT, &change).map(drop)
}

/// What `sandbox.json` says, with fresh tokens.
pub(in crate::cli) fn describe(folder: &Path, url: &str) -> Result<SandboxTokens, CliError> {
    let authority_key = folder.join("authority.key");
    let pem = fs::read(&authority_key).map_err(failed)?;
    let (kid, pair) = signing_key(&pem).ok_or_else(|| failed("authority.key is not an Ed25519 key"))?;
    let policy = policy();
    let now = jiff::Timestamp::now().as_second();
    let sign = |own: Value| {
        let mut claims = json!({
            "iss": policy.authority_issuer, "aud": policy.audience, "iat": now, "exp": now + PEOPLE_S,
            "client_id": CLIENT, "scope": SCOPE,
        });
        if let (Some(all), Value::Object(own)) = (claims.as_object_mut(), own) {
            all.extend(own);
        }
        jws::sign(&pair, &kid, "at+jwt", &claims)
    };
    Ok(SandboxTokens {
        application: Application {
            client_id: CLIENT.to_owned(),
            key_file: folder.join("application.key"),
            kid: KID.to_owned(),
            token_url: format!("{url}/oauth2/token"),
        },
        worker: sign(worker_claims()),
        patient: sign(patient_claims()),
        authority_key,
        authority: Authority {
            issuer: policy.authority_issuer.clone(),
            audience: policy.audience.clone(),
            kid: kid.clone(),
        },
    })
}

fn policy() -> Policy {
    let Tokens { issuer, audience, .. } = Tokens::default();
    Policy {
        issuer,
        audience,
        authority_issuer: SANDBOX_AUTHORITY.to_owned(),
    }
}

/// A clinical practitioner of X26 who signed in with a smartcard.
fn worker_claims() -> Value {
    json!({
        "sub": "555043308597",
        "selected_roleid": "555254242102",
        "role_code": "S8000:G8000:R8001",
        "org_code": "X26",
        "id_assurance_level": "3",
        "authentication_assurance_level": "3",
    })
}

fn patient_claims() -> Value {
    json!({
        "sub": "sandbox-patient",
        "nhs_number": NHS_NUMBER,
        "identity_proofing_level": "P9",
        "vot": "P9.Cp.Cd",
    })
}
