use super::*;
use crate::auth::forged;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::json;

fn rs512_token() -> String {
    forged::token(
        &json!({"alg": "RS512", "kid": "k", "typ": "JWT"}),
        &json!({"a": 1}),
        forged::rs512,
    )
}

#[test]
fn a_signature_is_taken_from_its_key_and_from_no_other() {
    let token = rs512_token();
    let parts = Parts::of(&token).expect("well formed");
    assert_eq!(parts.header.kid.as_deref(), Some("k"));
    assert_eq!(parts.payload, br#"{"a":1}"#);
    assert_eq!(parts.signed_by(&forged::rsa().public), Ok(()));
    let PublicKey::Rsa { n, e } = forged::rsa().public.clone() else {
        panic!("an RSA key");
    };
    let mut other = n.clone();
    other[100] ^= 1;
    assert_eq!(
        parts.signed_by(&PublicKey::Rsa { n: other, e }),
        Err(SignatureRefused::Wrong)
    );
    assert_eq!(
        parts.signed_by(&PublicKey::Ed25519(n[..32].to_vec())),
        Err(SignatureRefused::Algorithm)
    );
}

#[test]
fn every_changed_byte_of_a_token_is_noticed() {
    let token = rs512_token();
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).expect("ASCII");
        let taken = Parts::of(&changed).is_ok_and(|parts| parts.signed_by(&forged::rsa().public).is_ok());
        assert!(!taken, "byte {at}");
    }
}

#[test]
fn a_header_cannot_choose_none_a_shared_secret_or_another_kind_of_key() {
    let key = &forged::rsa().public;
    let PublicKey::Rsa { n, .. } = key else {
        panic!("an RSA key");
    };
    for alg in ["none", "None", "", "HS256", "HS512", "ES256", "EdDSA", "RS1", "rs512"] {
        let header = json!({"alg": alg, "kid": "k"});
        for made in [
            forged::token(&header, &json!({}), |_| Vec::new()),
            forged::token(&header, &json!({}), |signed| forged::hs256(n, signed)),
            forged::token(&header, &json!({}), forged::rs512),
        ] {
            let parts = Parts::of(&made).expect("well formed");
            assert_eq!(parts.signed_by(key), Err(SignatureRefused::Algorithm), "{alg}");
        }
    }
    let bare = forged::token(&json!({"kid": "k"}), &json!({}), forged::rs512);
    let parts = Parts::of(&bare).expect("well formed");
    assert_eq!(parts.signed_by(key), Err(SignatureRefused::Algorithm));
    // The header names another padding than the one that was used.
    let other = forged::token(&json!({"alg": "PS512"}), &json!({}), forged::rs512);
    let parts = Parts::of(&other).expect("well formed");
    assert_eq!(parts.signed_by(key), Err(SignatureRefused::Wrong));
}

#[test]
fn elliptic_curves_are_checked_in_their_fixed_form() {
    let random = SystemRandom::new();
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref(), &random).expect("a key");
    let key = PublicKey::P256(pair.public_key().as_ref().to_vec());
    let token = forged::token(&json!({"alg": "ES256"}), &json!({}), |signed| {
        pair.sign(&random, signed).expect("signs").as_ref().to_vec()
    });
    assert_eq!(Parts::of(&token).expect("well formed").signed_by(&key), Ok(()));
    let zeros = forged::token(&json!({"alg": "ES256"}), &json!({}), |_| vec![0; 64]);
    assert_eq!(
        Parts::of(&zeros).expect("well formed").signed_by(&key),
        Err(SignatureRefused::Wrong)
    );
}

#[test]
fn what_is_no_token_in_compact_form_is_malformed() {
    let good = rs512_token();
    let (rest, signature) = good.rsplit_once('.').expect("three parts");
    for bad in [
        String::new(),
        ".".into(),
        "..".into(),
        "a.b.c".into(),
        rest.to_owned(),
        format!("{good}.{signature}"),
        format!("{good}="),
        format!("{good} "),
        format!("{rest}.{}", signature.replace(['-', '_'], "+")) + "+",
        format!(".{}", good.split_once('.').expect("parts").1),
        forged::token(&json!([]), &json!({}), forged::rs512),
        forged::token(&json!({"alg": 5}), &json!({}), forged::rs512),
        forged::token(&json!({"alg": "RS512", "crit": ["exp"]}), &json!({}), forged::rs512),
        format!(
            "{}.{}.{}",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"RS512","alg":"none"}"#),
            "e30",
            "AA"
        ),
        "a".repeat(TOKEN_BYTES_MAX + 1),
        "ünïcode.a.b".into(),
    ] {
        assert!(Parts::of(&bad).is_err(), "{bad}");
    }
}

#[test]
fn what_is_signed_here_is_taken_back() {
    let (kid, pair) = crate::auth::token::signing_key(forged::ed25519_pem(7).as_bytes()).expect("a key");
    let token = sign(&pair, &kid, "at+jwt", &json!({"sub": "a"}));
    let parts = Parts::of(&token).expect("well formed");
    assert_eq!(parts.header.typ.as_deref(), Some("at+jwt"));
    let key = PublicKey::Ed25519(pair.public_key().as_ref().to_vec());
    assert_eq!(parts.signed_by(&key), Ok(()));
}
