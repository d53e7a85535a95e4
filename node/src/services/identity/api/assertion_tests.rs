use super::*;
use crate::auth::forged;
use crate::base::OdsCode;
use crate::services::identity::command::{ClientKey, Mode};
use serde_json::json;

const NOW_S: u64 = 1_795_348_800;
const URL: &str = "https://spine/oauth2/token";

fn now() -> Timestamp {
    Timestamp::from_ms(NOW_S * 1000 + 999)
}

fn registered() -> Client {
    let PublicKey::Rsa { n, e } = forged::rsa().public.clone() else {
        panic!("an RSA key");
    };
    Client {
        id: ClientId::parse("app").expect("a client"),
        name: "App".into(),
        ods: OdsCode::parse("X26").expect("a code"),
        keys: vec![ClientKey { kid: "k1".into(), n, e }],
        modes: vec![Mode::Application],
        scopes: Vec::new(),
        requests_per_second: 5,
        active: true,
    }
}

fn header() -> Value {
    json!({"alg": "RS512", "typ": "JWT", "kid": "k1"})
}

fn claims() -> Value {
    json!({"iss": "app", "sub": "app", "aud": URL, "exp": NOW_S + 300, "jti": "4f1c00a2"})
}

/// `object` with one member changed; `Null` takes it away.
fn with(mut object: Value, name: &str, value: Value) -> Value {
    match value {
        Value::Null => drop(object.as_object_mut().expect("an object").remove(name)),
        value => object[name] = value,
    }
    object
}

/// Judges in the order of the API.
fn judge(token: &str) -> Result<Proof, Refused> {
    let assertion = Assertion::read(token)?;
    let id = assertion.client.clone().ok_or(Refused::IssSubInvalid)?;
    let client = Some(registered()).filter(|client| client.id == id);
    assertion.proved_by(&client.ok_or(Refused::IssSubInvalid)?)?;
    assertion.holds(&[URL.to_owned()], now())
}

fn signed(header: &Value, claims: &Value) -> String {
    forged::token(header, claims, forged::rs512)
}

#[test]
fn a_good_assertion_holds() {
    let proof = Proof {
        jti: "4f1c00a2".into(),
        expires: Timestamp::from_ms((NOW_S + 300) * 1000),
    };
    assert_eq!(judge(&signed(&header(), &claims())), Ok(proof));
    for (name, value) in [
        ("exp", json!(NOW_S + 1)),
        ("exp", json!(NOW_S + 305)),
        ("aud", json!(["elsewhere", URL])),
        ("nbf", json!(NOW_S + 5)),
        ("iat", json!("not looked at")),
        ("jti", json!("ü".repeat(100))),
    ] {
        let token = signed(&header(), &with(claims(), name, value.clone()));
        assert!(judge(&token).is_ok(), "{name} {value}");
    }
    assert!(judge(&signed(&with(header(), "typ", json!("jwt")), &claims())).is_ok());
}

#[test]
fn each_header_that_is_wrong_is_told() {
    for (name, value, refused) in [
        ("alg", Value::Null, Refused::AlgMissing),
        ("alg", json!("none"), Refused::AlgInvalid),
        ("alg", json!("RS256"), Refused::AlgInvalid),
        ("alg", json!("PS512"), Refused::AlgInvalid),
        ("alg", json!("HS512"), Refused::AlgInvalid),
        ("alg", json!("rs512"), Refused::AlgInvalid),
        ("alg", json!(512), Refused::Malformed),
        ("typ", Value::Null, Refused::TypInvalid),
        ("typ", json!("at+jwt"), Refused::TypInvalid),
        ("kid", Value::Null, Refused::KidMissing),
        ("kid", json!(""), Refused::KidMissing),
        ("kid", json!("k2"), Refused::KidUnknown),
        ("kid", json!("K1"), Refused::KidUnknown),
        ("crit", json!(["b64"]), Refused::Malformed),
    ] {
        let token = signed(&with(header(), name, value.clone()), &claims());
        assert_eq!(judge(&token), Err(refused), "{name} {value}");
    }
}

#[test]
fn each_claim_that_is_wrong_is_told() {
    for (name, value, refused) in [
        ("iss", Value::Null, Refused::IssSubMissing),
        ("sub", Value::Null, Refused::IssSubMissing),
        ("sub", json!("other"), Refused::IssSubMissing),
        ("iss", json!(["app"]), Refused::IssSubMissing),
        ("jti", Value::Null, Refused::JtiMissing),
        ("jti", json!(1234), Refused::JtiInvalid),
        ("jti", json!(""), Refused::JtiInvalid),
        ("jti", json!("j".repeat(101)), Refused::JtiInvalid),
        ("exp", Value::Null, Refused::ExpMissing),
        ("exp", json!(NOW_S.to_string()), Refused::ExpNotInteger),
        ("exp", json!(1.5), Refused::ExpNotInteger),
        ("exp", json!(-1), Refused::ExpNotInteger),
        ("exp", json!(NOW_S), Refused::Expired),
        ("exp", json!(0), Refused::Expired),
        ("exp", json!(NOW_S + 306), Refused::ExpTooFar),
        ("exp", json!(u64::MAX), Refused::ExpTooFar),
        ("nbf", json!(NOW_S + 6), Refused::NbfInvalid),
        ("nbf", json!("now"), Refused::NbfInvalid),
        ("aud", Value::Null, Refused::AudInvalid),
        ("aud", json!("https://elsewhere/oauth2/token"), Refused::AudInvalid),
        ("aud", json!([]), Refused::AudInvalid),
        ("aud", json!({"a": URL}), Refused::AudInvalid),
    ] {
        let token = signed(&header(), &with(claims(), name, value.clone()));
        assert_eq!(judge(&token), Err(refused), "{name} {value}");
    }
    for id in ["other", "", "no/client"] {
        let both = with(with(claims(), "iss", json!(id)), "sub", json!(id));
        let refused = if id.is_empty() {
            Refused::IssSubMissing
        } else {
            Refused::IssSubInvalid
        };
        assert_eq!(judge(&signed(&header(), &both)), Err(refused), "{id}");
    }
}

#[test]
fn a_forged_assertion_is_refused() {
    let PublicKey::Rsa { n, .. } = &forged::rsa().public else {
        panic!("an RSA key");
    };
    for (what, token, refused) in [
        (
            "no signature",
            forged::token(&header(), &claims(), |_| vec![]),
            Refused::SignatureWrong,
        ),
        (
            "another padding",
            forged::token(&header(), &claims(), |b| {
                forged::by_rsa(&ring::signature::RSA_PSS_SHA512, b)
            }),
            Refused::SignatureWrong,
        ),
        (
            "another digest",
            forged::token(&header(), &claims(), |b| {
                forged::by_rsa(&ring::signature::RSA_PKCS1_SHA256, b)
            }),
            Refused::SignatureWrong,
        ),
        (
            "the public key as a shared secret",
            forged::token(&with(header(), "alg", json!("HS256")), &claims(), |b| {
                forged::hs256(n, b)
            }),
            Refused::AlgInvalid,
        ),
        (
            "none",
            forged::token(&with(header(), "alg", json!("none")), &claims(), |_| vec![]),
            Refused::AlgInvalid,
        ),
        (
            "not JSON",
            forged::token(&header(), &json!("claims"), forged::rs512),
            Refused::Malformed,
        ),
        ("invalid", "invalid".to_owned(), Refused::Malformed),
        ("long", "a.b.".to_owned() + &"c".repeat(9_000), Refused::Malformed),
    ] {
        assert_eq!(judge(&token), Err(refused), "{what}");
    }
    // Another's claims under this one's signature.
    let good = signed(&header(), &claims());
    let other = signed(&header(), &with(claims(), "jti", json!("another")));
    let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    let mixed = format!("{}.{}.{}", parts(&good)[0], parts(&other)[1], parts(&good)[2]);
    assert_eq!(judge(&mixed), Err(Refused::SignatureWrong));
}
