use super::*;
use crate::auth::forged;
use crate::base::Digest;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use std::path::PathBuf;

const NOW_S: u64 = 1_795_348_800;

fn now() -> Timestamp {
    Timestamp::from_ms(NOW_S * 1000)
}

fn policy() -> Policy {
    Policy {
        issuer: "us".into(),
        audience: "spine".into(),
        authority_issuer: "authority".into(),
    }
}

/// Key files in a folder of their own: `own` signs, `previous` is honoured, authority's keys by their names and seeds.
struct Files(PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Files {
    fn new() -> Files {
        let path = std::env::temp_dir().join(format!("vertebra-tokens-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(&path).expect("the temporary folder can be made");
        Files(path)
    }

    fn write(&self, name: &str, text: &str) -> Option<PathBuf> {
        let file = self.0.join(name);
        std::fs::write(&file, text).expect("writable");
        Some(file)
    }

    fn keys(&self, own: Option<u8>, previous: Option<u8>, authority: &[(&str, u8)]) -> Keys {
        let jwks: Vec<String> = authority
            .iter()
            .map(|(kid, seed)| forged::jwk(kid, &pair(*seed)))
            .collect();
        let files = KeyFiles {
            signing_key: own.and_then(|seed| self.write("own", &forged::ed25519_pem(seed))),
            previous_signing_key: previous.and_then(|seed| self.write("previous", &forged::ed25519_pem(seed))),
            authority_jwks: (!jwks.is_empty())
                .then(|| self.write("jwks", &format!(r#"{{"keys":[{}]}}"#, jwks.join(","))))
                .flatten(),
        };
        Keys::from_files(&files).expect("good keys")
    }

    fn tokens(&self) -> Tokens {
        Tokens::new(policy(), self.keys(Some(1), Some(2), &[("a-1", 8), ("a-2", 9)]))
    }
}

fn pair(seed: u8) -> Ed25519KeyPair {
    signing_key(forged::ed25519_pem(seed).as_bytes()).expect("a key").1
}

fn kid(seed: u8) -> String {
    signing_key(forged::ed25519_pem(seed).as_bytes()).expect("a key").0
}

fn bearer_of(token: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("Bearer {token}")).expect("a header")
}

fn verify(tokens: &Tokens, token: &str) -> Result<Arc<Principal>, TokenRefused> {
    tokens.verify(Some(&bearer_of(token)), now())
}

fn worker() -> Value {
    json!({
        "iss": "authority", "aud": "spine", "sub": "u1", "iat": NOW_S, "exp": NOW_S + 3600, "client_id": "app",
        "scope": "pds other", "selected_roleid": "r1", "role_code": "S8000:G8000:R8001", "org_code": "x26",
        "id_assurance_level": "3", "authentication_assurance_level": 3,
    })
}

fn patient() -> Value {
    json!({
        "iss": "authority", "aud": ["other", "spine"], "sub": "p", "iat": NOW_S, "exp": NOW_S + 3600, "client_id": "app",
        "nhs_number": "9000000009", "identity_proofing_level": "P9", "vot": "P9.Cm",
    })
}

/// `claims` with one of them changed; `Null` takes it away.
fn with(mut claims: Value, name: &str, value: Value) -> Value {
    match value {
        Value::Null => drop(claims.as_object_mut().expect("claims").remove(name)),
        value => claims[name] = value,
    }
    claims
}

fn signed(claims: &Value) -> String {
    jws::sign(&pair(8), "a-1", "JWT", claims)
}

#[test]
fn an_issued_token_is_taken_for_599_seconds() {
    let files = Files::new();
    let tokens = files.tokens();
    let signer = tokens.signer().expect("a key");
    let token = signer.issue("app", &["pds".into(), "mesh".into()], 7, now());
    let principal = verify(&tokens, &token).expect("our own");
    assert_eq!(principal.kind, Kind::Application);
    assert_eq!(principal.client, "app");
    assert!(principal.has_scope("pds") && principal.has_scope("mesh") && !principal.has_scope("p"));
    let at = |s: u64| tokens.verify(Some(&bearer_of(&token)), Timestamp::from_ms((NOW_S + s) * 1000));
    assert!(at(598).is_ok());
    assert_eq!(at(599), Err(TokenRefused::Expired), "also of one that is remembered");
    let caller = principal.caller(crate::base::OdsCode::parse("X26"), None);
    assert_eq!((caller.actor.as_str(), caller.client.as_str()), ("app", "app"));
    assert_eq!(caller.organisation, crate::base::OdsCode::parse("X26"));
}

#[test]
fn a_worker_s_token_tells_user_role_and_organisation() {
    let files = Files::new();
    let principal = verify(&files.tokens(), &signed(&worker())).expect("a worker");
    let Kind::Worker(worker) = &principal.kind else {
        panic!("{principal:?}");
    };
    assert_eq!(worker.user, "u1");
    assert_eq!((worker.role_id.as_str(), worker.assurance_level), ("r1", 3));
    let caller = principal.caller(None, None);
    assert_eq!(caller.kind, crate::auth::CallerKind::Worker);
    assert_eq!(
        (caller.actor.as_str(), caller.role.as_str()),
        ("u1", "S8000:G8000:R8001")
    );
    assert_eq!(caller.organisation, crate::base::OdsCode::parse("X26"));
    assert_eq!(caller.client, "app");
}

#[test]
fn a_patient_s_token_tells_the_nhs_number_and_shows_it_nowhere() {
    let files = Files::new();
    let principal = verify(&files.tokens(), &signed(&patient())).expect("a patient");
    let Kind::Patient(patient) = &principal.kind else {
        panic!("{principal:?}");
    };
    assert_eq!(
        (patient.nhs_number.as_str(), patient.vector),
        ("9000000009", Vector::Hardware)
    );
    let caller = principal.caller(None, None);
    assert_eq!(caller.actor, "9000000009");
    for shown in [
        format!("{principal:?}"),
        format!("{caller:?}"),
        format!("{:?}", principal.kind),
    ] {
        assert!(!shown.contains("9000000009"), "{shown}");
    }
}

#[test]
fn claims_that_do_not_hold_are_refused_each_by_its_own_rule() {
    let files = Files::new();
    let tokens = files.tokens();
    for (claims, refused) in [
        (with(worker(), "iss", json!("us")), TokenRefused::Issuer),
        (with(worker(), "iss", Value::Null), TokenRefused::Issuer),
        (with(worker(), "aud", json!("elsewhere")), TokenRefused::Audience),
        (with(worker(), "aud", json!([])), TokenRefused::Audience),
        (with(worker(), "aud", Value::Null), TokenRefused::Audience),
        (with(worker(), "exp", json!(NOW_S)), TokenRefused::Expired),
        (with(worker(), "exp", json!(0)), TokenRefused::Expired),
        (with(worker(), "exp", Value::Null), TokenRefused::Claim("exp")),
        (with(worker(), "iat", Value::Null), TokenRefused::Claim("iat")),
        (with(worker(), "iat", json!(NOW_S + 61)), TokenRefused::NotYetValid),
        (with(worker(), "nbf", json!(NOW_S + 61)), TokenRefused::NotYetValid),
        (with(worker(), "exp", json!("soon")), TokenRefused::Unreadable),
        (with(worker(), "exp", json!(-1)), TokenRefused::Unreadable),
        (with(worker(), "exp", json!(1e300)), TokenRefused::Unreadable),
        (with(worker(), "sub", Value::Null), TokenRefused::Claim("sub")),
        (with(worker(), "sub", json!("a b")), TokenRefused::Claim("sub")),
        (
            with(worker(), "sub", json!("s".repeat(101))),
            TokenRefused::Claim("sub"),
        ),
        (
            with(worker(), "client_id", Value::Null),
            TokenRefused::Claim("client_id"),
        ),
        (
            with(worker(), "role_code", Value::Null),
            TokenRefused::Claim("role_code"),
        ),
        (
            with(worker(), "org_code", json!("X-26")),
            TokenRefused::Claim("org_code"),
        ),
        (
            with(worker(), "selected_roleid", json!("")),
            TokenRefused::Claim("selected_roleid"),
        ),
        (
            with(worker(), "scope", json!("s ".repeat(101))),
            TokenRefused::Claim("scope"),
        ),
        (with(worker(), "selected_roleid", Value::Null), TokenRefused::Kind),
        (with(worker(), "nhs_number", json!("9000000009")), TokenRefused::Kind),
        (
            with(worker(), "authentication_assurance_level", Value::Null),
            TokenRefused::Claim("authentication_assurance_level"),
        ),
        (
            with(worker(), "authentication_assurance_level", json!(1)),
            TokenRefused::WorkerBelowAal2,
        ),
        (
            with(worker(), "authentication_assurance_level", json!("4")),
            TokenRefused::WorkerBelowAal2,
        ),
        (
            with(worker(), "authentication_assurance_level", json!("high")),
            TokenRefused::WorkerBelowAal2,
        ),
        (
            with(worker(), "id_assurance_level", json!("1")),
            TokenRefused::WorkerBelowAal2,
        ),
        (
            with(patient(), "identity_proofing_level", json!("P5")),
            TokenRefused::PatientBelowP9,
        ),
        (
            with(patient(), "identity_proofing_level", Value::Null),
            TokenRefused::Claim("identity_proofing_level"),
        ),
        (with(patient(), "vot", json!("P9.Cp")), TokenRefused::PatientVector),
        (with(patient(), "vot", json!("P5.Cp.Cd")), TokenRefused::PatientVector),
        (with(patient(), "vot", Value::Null), TokenRefused::Claim("vot")),
        (
            with(patient(), "nhs_number", json!("9000000008")),
            TokenRefused::Claim("nhs_number"),
        ),
        (
            with(patient(), "nhs_number", json!("900 000 0009")),
            TokenRefused::Claim("nhs_number"),
        ),
        (
            with(patient(), "nhs_number", json!("٩000000009")),
            TokenRefused::Claim("nhs_number"),
        ),
    ] {
        assert_eq!(verify(&tokens, &signed(&claims)), Err(refused), "{claims}");
        assert!(
            !refused.code().is_empty() && refused.to_string().contains(';'),
            "{refused}"
        );
    }
    for (claims, name, value) in [
        (worker(), "iat", json!(NOW_S + 60)),
        (worker(), "nbf", json!(NOW_S + 60)),
        (worker(), "authentication_assurance_level", json!("2")),
        (worker(), "id_assurance_level", Value::Null),
        (patient(), "vot", json!("P9.Cp.Ck")),
        (patient(), "vot", json!("P9.Cp.Cd")),
    ] {
        assert!(
            verify(&tokens, &signed(&with(claims, name, value.clone()))).is_ok(),
            "{name} {value}"
        );
    }
}

#[test]
fn forged_tokens_are_refused() {
    let files = Files::new();
    let tokens = files.tokens();
    let header = |alg: &str, kid: &str, typ: &str| json!({"alg": alg, "kid": kid, "typ": typ});
    let by = |seed: u8| move |bytes: &[u8]| pair(seed).sign(bytes).as_ref().to_vec();
    let public = pair(8).public_key().as_ref().to_vec();
    let good = signed(&worker());
    assert!(verify(&tokens, &good).is_ok());
    let (rest, _) = good.rsplit_once('.').expect("three parts");
    let patients = signed(&patient());
    let other = format!("{rest}.{}", patients.rsplit_once('.').expect("three parts").1);
    for (what, token, refused) in [
        (
            "none",
            forged::token(&header("none", "a-1", "JWT"), &worker(), |_| vec![]),
            TokenRefused::Algorithm,
        ),
        (
            "the public key as a shared secret",
            forged::token(&header("HS256", "a-1", "JWT"), &worker(), |b| forged::hs256(&public, b)),
            TokenRefused::Algorithm,
        ),
        (
            "another kind of key",
            forged::token(&header("RS512", "a-1", "JWT"), &worker(), forged::rs512),
            TokenRefused::Algorithm,
        ),
        (
            "no algorithm",
            forged::token(&json!({"kid": "a-1"}), &worker(), by(8)),
            TokenRefused::Algorithm,
        ),
        (
            "unknown key",
            forged::token(&header("EdDSA", "a-3", "JWT"), &worker(), by(8)),
            TokenRefused::KeyUnknown,
        ),
        (
            "no key",
            forged::token(&json!({"alg": "EdDSA"}), &worker(), by(8)),
            TokenRefused::KeyUnknown,
        ),
        (
            "another key",
            forged::token(&header("EdDSA", "a-2", "JWT"), &worker(), by(8)),
            TokenRefused::Signature,
        ),
        (
            "an identity token",
            forged::token(&header("EdDSA", "a-1", "id+jwt"), &worker(), by(8)),
            TokenRefused::Type,
        ),
        (
            "our key under the type of an assertion",
            forged::token(&header("EdDSA", &kid(1), "JWT"), &worker(), by(1)),
            TokenRefused::Type,
        ),
        (
            "the authority under our key's name",
            forged::token(&header("EdDSA", &kid(1), "at+jwt"), &worker(), by(8)),
            TokenRefused::Signature,
        ),
        (
            "a worker signed by our key",
            forged::token(&header("EdDSA", &kid(1), "at+jwt"), &worker(), by(1)),
            TokenRefused::Issuer,
        ),
        (
            "an application signed by the authority",
            jws::sign(
                &pair(8),
                "a-1",
                "at+jwt",
                &json!({"iss": "authority", "aud": "spine", "sub": "app", "client_id": "app", "iat": NOW_S, "exp": NOW_S + 9}),
            ),
            TokenRefused::Kind,
        ),
        (
            "a claim twice",
            {
                let claims = worker()
                    .to_string()
                    .replace(r#""sub":"u1""#, r#""sub":"u1","sub":"u2""#);
                use base64::Engine as _;
                let encode = |t: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(t);
                let text = format!(
                    "{}.{}",
                    encode(&header("EdDSA", "a-1", "JWT").to_string()),
                    encode(&claims)
                );
                let made = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(pair(8).sign(text.as_bytes()));
                format!("{text}.{made}")
            },
            TokenRefused::Unreadable,
        ),
        ("the signature of another token", other, TokenRefused::Signature),
        (
            "two parts",
            good.rsplit_once('.').expect("parts").0.to_owned(),
            TokenRefused::Unreadable,
        ),
        ("long", "a".repeat(TOKEN_BYTES_MAX), TokenRefused::TooLarge),
    ] {
        assert_eq!(verify(&tokens, &token), Err(refused), "{what}");
    }
}

#[test]
fn headers_that_are_no_bearer_token_are_refused() {
    let files = Files::new();
    let tokens = files.tokens();
    assert_eq!(tokens.verify(None, now()), Err(TokenRefused::Missing));
    let good = signed(&worker());
    for bad in [
        "",
        "Bearer",
        "Bearer ",
        "Basic abc",
        "NHSMESH a:b:0:202611221500:00",
        &good,
    ] {
        let value = HeaderValue::from_str(bad).expect("a header");
        assert_eq!(
            tokens.verify(Some(&value), now()),
            Err(TokenRefused::Unreadable),
            "{bad}"
        );
    }
    let high = HeaderValue::from_bytes(b"Bearer \xff").expect("a header");
    assert_eq!(tokens.verify(Some(&high), now()), Err(TokenRefused::Unreadable));
    let lower = HeaderValue::from_str(&format!("bearer  {good} ")).expect("a header");
    assert!(
        tokens.verify(Some(&lower), now()).is_ok(),
        "the scheme may have any case"
    );
}

#[test]
fn a_key_rotates_without_an_outage_and_is_gone_when_it_is_taken_away() {
    let files = Files::new();
    let tokens = Tokens::new(policy(), files.keys(Some(1), None, &[("a-1", 8)]));
    let old = tokens.signer().expect("a key").issue("app", &[], 1, now());
    let person = signed(&worker());
    assert!(verify(&tokens, &old).is_ok() && verify(&tokens, &person).is_ok());
    assert_eq!(tokens.remembered(), 2);

    tokens.reload(files.keys(Some(3), Some(1), &[("a-2", 9), ("a-1", 8)]));
    assert_eq!(tokens.remembered(), 0, "nothing outlives the keys that vouched for it");
    let new = tokens.signer().expect("a key").issue("app", &[], 2, now());
    for token in [&old, &new, &person] {
        assert!(verify(&tokens, token).is_ok());
    }

    tokens.reload(files.keys(Some(3), None, &[("a-2", 9)]));
    assert!(verify(&tokens, &new).is_ok());
    assert_eq!(verify(&tokens, &old), Err(TokenRefused::KeyUnknown));
    assert_eq!(verify(&tokens, &person), Err(TokenRefused::KeyUnknown));
}

#[test]
fn without_keys_nothing_is_issued_and_nothing_is_taken() {
    let files = Files::new();
    let tokens = Tokens::new(policy(), Keys::default());
    assert!(tokens.signer().is_none() && !tokens.has_authority());
    assert_eq!(verify(&tokens, &signed(&worker())), Err(TokenRefused::KeyUnknown));
    assert!(files.tokens().has_authority());
}

#[test]
fn key_files_that_are_none_are_refused_by_name_and_never_shown() {
    let files = Files::new();
    for text in [
        "",
        "PLANTED",
        "-----BEGIN PRIVATE KEY-----\nUExBTlRFRA==\n-----END PRIVATE KEY-----\n",
    ] {
        let signing = KeyFiles {
            signing_key: files.write("PLAIN.key", text),
            ..KeyFiles::default()
        };
        let error = Keys::from_files(&signing).expect_err("no key").to_string();
        assert!(error.contains("PLAIN.key") && !error.contains("PLANTED"), "{error}");
        let authority = KeyFiles {
            authority_jwks: files.write("PLAIN.jwks", text),
            ..KeyFiles::default()
        };
        let error = Keys::from_files(&authority).expect_err("no set").to_string();
        assert!(error.contains("PLAIN.jwks") && !error.contains("PLANTED"), "{error}");
    }
    let absent = KeyFiles {
        previous_signing_key: Some(files.0.join("absent.key")),
        ..KeyFiles::default()
    };
    assert!(matches!(Keys::from_files(&absent), Err(KeysError::Io { .. })));
}

#[test]
fn the_memory_of_verified_tokens_is_bounded() {
    let files = Files::new();
    let principal = verify(&files.tokens(), &signed(&worker())).expect("a worker");
    let cache = Cache::new(64);
    for n in 0..10_000_u32 {
        cache.put(Digest::of(&n.to_le_bytes()), principal.clone(), now());
    }
    assert!((1..=64).contains(&cache.len()), "{}", cache.len());
    let last = Digest::of(&9_999_u32.to_le_bytes());
    assert!(cache.get(&last).is_some(), "the newest is kept");
}
