//! Access tokens that must not be taken, each presented at a route of PDS. The token endpoint has its own tests.

use crate::{SCOPE, World, world};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use std::fs;
use vertebra_tests::pds::Reply;
use vertebra_tests::tokens::{Application, Authority, hs256, now_s, token, with};

const READ: &str = "/Patient/9000000017";

/// The pair in a PEM file of the sandbox.
fn pair(world: &World, file: &str) -> Ed25519KeyPair {
    let pem = fs::read_to_string(world.node.data.join(file)).expect("the sandbox keeps its keys in its folder");
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(text).expect("PEM holds base64");
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).expect("an Ed25519 key")
}

fn hs512(secret: &[u8], signed: &[u8]) -> Vec<u8> {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA512, secret);
    ring::hmac::sign(&key, signed).as_ref().to_vec()
}

fn part(token: &str, at: usize) -> Value {
    let text = token.split('.').nth(at).expect("a token has three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).expect("base64")).expect("JSON")
}

async fn presented(world: &World, authorization: &[&str]) -> Reply {
    let mut headers: Vec<(&str, &str)> = authorization.iter().map(|value| ("Authorization", *value)).collect();
    if headers.is_empty() {
        headers.push(("Authorization", ""));
    }
    world.client("").call("GET", READ, &headers, b"").await
}

/// Presents each token; all of them must be refused. The names of those that were not.
async fn all_refused(tokens: Vec<(&str, String)>) {
    let world = world();
    let mut taken = Vec::new();
    for (name, token) in tokens {
        let reply = presented(world, &[&format!("Bearer {token}")]).await;
        if (reply.status(), reply.code()) != (401, "ACCESS_DENIED") {
            taken.push(format!("{name}: {} {}", reply.status(), reply.code()));
        }
        let told = reply.answer.text();
        assert!(
            token.len() < 20 || !told.contains(&token),
            "{name}: the answer repeats the token"
        );
    }
    assert!(taken.is_empty(), "{}", taken.join("\n"));
}

#[tokio::test]
async fn a_token_that_is_signed_by_no_key_or_by_a_key_s_public_half_is_refused() {
    let world = world();
    let authority = Authority::of(&world.node.sandbox);
    let claims = world.worker_claims("sandbox-app");
    let public = authority.public_key();
    let own = pair(world, "tokens.key").public_key().as_ref().to_vec();
    let jwks = fs::read(world.node.data.join("authority.jwks")).expect("the authority's keys are there");
    let header = |alg: &str| json!({"alg": alg, "typ": "at+jwt", "kid": authority.kid});
    let without_alg = json!({"typ": "at+jwt", "kid": authority.kid});
    all_refused(vec![
        ("none", token(&header("none"), &claims, |_| Vec::new())),
        ("None", token(&header("None"), &claims, |_| Vec::new())),
        ("no alg", token(&without_alg, &claims, |_| Vec::new())),
        ("empty signature", token(&header("EdDSA"), &claims, |_| Vec::new())),
        ("zero signature", token(&header("EdDSA"), &claims, |_| vec![0; 64])),
        ("HS256", token(&header("HS256"), &claims, |text| hs256(&public, text))),
        ("HS512", token(&header("HS512"), &claims, |text| hs512(&public, text))),
        (
            "HS256, own key",
            token(&header("HS256"), &claims, |text| hs256(&own, text)),
        ),
        (
            "HS256, key set",
            token(&header("HS256"), &claims, |text| hs256(&jwks, text)),
        ),
        (
            "EdDSA by HMAC",
            token(&header("EdDSA"), &claims, |text| hs512(&public, text)),
        ),
        (
            "RS512 by HMAC",
            token(&header("RS512"), &claims, |text| hs512(&public, text)),
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_token_that_names_another_key_or_brings_its_own_is_refused() {
    let world = world();
    let claims = world.worker_claims("sandbox-app");
    let kid = Authority::of(&world.node.sandbox).kid;
    let good = pair(world, "authority.key");
    let theirs = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed has 32 bytes");
    let x = URL_SAFE_NO_PAD.encode(theirs.public_key().as_ref());
    let header = |kid: Value| with(json!({"alg": "EdDSA", "typ": "at+jwt"}), "kid", kid);
    let signed =
        |header: Value, pair: &Ed25519KeyPair| token(&header, &claims, |text| pair.sign(text).as_ref().to_vec());
    let brought = with(
        header(json!(kid)),
        "jwk",
        json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid}),
    );
    let linked = with(header(json!(kid)), "jku", json!("https://127.0.0.1:1/keys"));
    let critical = with(header(json!(kid)), "crit", json!(["exp"]));
    let identity = with(header(json!(kid)), "typ", json!("id+jwt"));
    all_refused(vec![
        ("another kid", signed(header(json!("another")), &good)),
        ("no kid", signed(header(Value::Null), &good)),
        ("kid as a path", signed(header(json!("../../tokens.key")), &good)),
        ("kid of another type", signed(header(json!(1)), &good)),
        ("kid, another key", signed(header(json!(kid)), &theirs)),
        ("jwk", signed(brought, &theirs)),
        ("jku", signed(linked, &theirs)),
        ("crit", signed(critical, &good)),
        ("of another type", signed(identity, &good)),
    ])
    .await;
}

#[tokio::test]
async fn a_token_out_of_its_time_or_for_somebody_else_is_refused() {
    let world = world();
    let claims = world.worker_claims("sandbox-app");
    let now = now_s();
    let changed = |name: &str, value: Value| world.signed(&with(claims.clone(), name, value));
    all_refused(vec![
        ("expired", changed("exp", json!(now - 1))),
        ("no exp", changed("exp", Value::Null)),
        ("exp as text", changed("exp", json!((now + 600).to_string()))),
        ("negative exp", changed("exp", json!(-1))),
        ("nbf in an hour", changed("nbf", json!(now + 3600))),
        ("iat in an hour", changed("iat", json!(now + 3600))),
        ("no iat", changed("iat", Value::Null)),
        ("another aud", changed("aud", json!("elsewhere"))),
        ("no aud", changed("aud", Value::Null)),
        ("other auds", changed("aud", json!(["elsewhere", "nowhere"]))),
        ("another iss", changed("iss", json!("https://elsewhere"))),
        ("no iss", changed("iss", Value::Null)),
        ("our own iss by the authority", changed("iss", json!("vertebra"))),
        ("a client that is none", changed("client_id", json!("no-such-client"))),
        ("no client", changed("client_id", Value::Null)),
        (
            "a client's name with a space",
            changed("client_id", json!("sandbox-app ")),
        ),
        ("no scope", changed("scope", Value::Null)),
        ("a longer scope", changed("scope", json!(format!("{SCOPE}-2")))),
        ("no role", changed("selected_roleid", Value::Null)),
        ("worker and patient", changed("nhs_number", json!("9000000017"))),
        ("no user", changed("sub", Value::Null)),
        ("an organisation that is none", changed("org_code", json!("not a code"))),
    ])
    .await;
    let patient = world.patient_claims("sandbox-app", "9000000017");
    let changed = |name: &str, value: Value| world.signed(&with(patient.clone(), name, value));
    all_refused(vec![
        ("a number that is none", changed("nhs_number", json!("9000000018"))),
        ("a number as a number", changed("nhs_number", json!(9_000_000_017_u64))),
        ("P5", changed("identity_proofing_level", json!("P5"))),
        ("p9", changed("identity_proofing_level", json!("p9"))),
        ("a weak vector", changed("vot", json!("P9.Cp"))),
        ("several vectors", changed("vot", json!(["P9.Cp.Cd"]))),
    ])
    .await;
}

#[tokio::test]
async fn a_token_that_was_tampered_with_is_refused() {
    let world = world();
    let good = world.signed(&world.patient_claims("sandbox-app", "9000000033"));
    assert_eq!(
        presented(world, &[&format!("Bearer {good}")]).await.status(),
        403,
        "it is taken as it is"
    );
    let parts: Vec<&str> = good.split('.').collect();
    let payload = |change: &dyn Fn(Value) -> Value| {
        let claims = change(part(&good, 1)).to_string();
        format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims), parts[2])
    };
    let header = with(part(&good, 0), "typ", json!("JWT")).to_string();
    all_refused(vec![
        (
            "another number",
            payload(&|claims| with(claims, "nhs_number", json!("9000000017"))),
        ),
        ("later", payload(&|claims| with(claims, "exp", json!(now_s() + 9_999)))),
        (
            "another header",
            format!("{}.{}.{}", URL_SAFE_NO_PAD.encode(header), parts[1], parts[2]),
        ),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        ("four parts", format!("{good}.{}", parts[2])),
        ("padded", format!("{good}=")),
        ("cut", good[..good.len() - 1].to_owned()),
        ("bytes that are no text", format!("{good}\u{e9}")),
        ("empty", String::new()),
        ("large", format!("{}.{}.{}", parts[0], "A".repeat(9_000), parts[2])),
        (
            "large, and signed",
            world.signed(&with(
                world.worker_claims("sandbox-app"),
                "pad",
                json!("x".repeat(9_000)),
            )),
        ),
        (
            "nested",
            token(&json!({"alg": "EdDSA", "kid": "k"}), &nested(1_000), |_| vec![0; 64]),
        ),
    ])
    .await;
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(json!(1), |inside, _| json!([inside]))
}

#[tokio::test]
async fn a_header_that_is_no_bearer_token_is_refused() {
    let world = world();
    let good = world.signed(&world.worker_claims("sandbox-app"));
    for (name, value) in [
        ("another scheme", format!("Basic {good}")),
        ("no scheme", good.clone()),
        ("two tokens", format!("Bearer {good} {good}")),
        ("two tokens and a comma", format!("Bearer {good}, Bearer {good}")),
        ("a scheme alone", "Bearer".to_owned()),
    ] {
        let reply = presented(world, &[&value]).await;
        assert_eq!((reply.status(), reply.code()), (401, "ACCESS_DENIED"), "{name}");
    }
    let in_query = world
        .client("")
        .call(
            "GET",
            &format!("{READ}?access_token={good}"),
            &[("Authorization", "")],
            b"",
        )
        .await;
    in_query.refused(401, "ACCESS_DENIED");
}

#[tokio::test]
async fn a_request_with_two_authorization_headers_is_refused() {
    let world = world();
    let worker = format!("Bearer {}", world.signed(&world.worker_claims("sandbox-app")));
    let patient = world.patient_claims("sandbox-app", "9000000033");
    let patient = format!("Bearer {}", world.signed(&patient));
    assert_eq!(presented(world, &[&worker]).await.status(), 200, "alone it is taken");
    let mut taken = Vec::new();
    for (name, both) in [
        ("good, then garbage", [worker.as_str(), "Bearer x"]),
        ("garbage, then good", ["Bearer x", worker.as_str()]),
        ("worker, then patient", [worker.as_str(), patient.as_str()]),
        ("patient, then worker", [patient.as_str(), worker.as_str()]),
    ] {
        let reply = presented(world, &both).await;
        if reply.status() != 401 && reply.status() != 400 {
            taken.push(format!("{name}: {} {}", reply.status(), reply.code()));
        }
    }
    assert!(taken.is_empty(), "one of two tokens was chosen:\n{}", taken.join("\n"));
}

#[tokio::test]
async fn the_two_signers_cannot_speak_for_one_another() {
    let world = world();
    let target = world.node.target(None);
    let issued = Application::of(&world.node.sandbox).access_token(&target).await;
    let (header, claims) = (part(&issued, 0), part(&issued, 1));
    let own = pair(world, "tokens.key");
    let forged = |claims: &Value| token(&header, claims, |text| own.sign(text).as_ref().to_vec());
    let taken = presented(world, &[&format!("Bearer {}", forged(&claims))]).await;
    assert_eq!(taken.status(), 200, "the forger's key is the node's own");
    // A worker's token by the key that signs those of applications.
    let worker = world.worker_claims("sandbox-app");
    let ours = with(with(worker.clone(), "iss", claims["iss"].clone()), "jti", json!("1"));
    let authority = Authority::of(&world.node.sandbox);
    let application = world.signed(&with(authority.claims("sandbox-app"), "scope", json!(SCOPE)));
    all_refused(vec![
        ("a worker by our own key", forged(&ours)),
        ("a worker of the authority by our own key", forged(&worker)),
        ("an application by the authority", application),
    ])
    .await;
    // With the right subject it is an application's, whatever else it says: it may not do what workers may.
    let mut both = claims;
    for name in [
        "selected_roleid",
        "role_code",
        "org_code",
        "authentication_assurance_level",
    ] {
        both = with(both, name, worker[name].clone());
    }
    let mut client = world.client(&forged(&both));
    let patches = json!([{"op": "replace", "path": "/gender", "value": "male"}]);
    client
        .patch("9000000017", 1, &patches)
        .await
        .refused(401, "ACCESS_DENIED");
}

#[tokio::test]
async fn a_disabled_client_is_out_at_once_however_many_of_its_tokens_were_seen() {
    let world = world();
    let app = world.add_client("tokens-closing", SCOPE, &["application", "worker"], "1000");
    let of_app = app.access_token(&world.node.target(None)).await;
    let of_worker = world.signed(&world.worker_claims("tokens-closing"));
    let bearers = [format!("Bearer {of_app}"), format!("Bearer {of_worker}")];
    for bearer in &bearers {
        assert_eq!(presented(world, &[bearer]).await.status(), 200);
    }
    world.told(&["client", "disable", "tokens-closing"]);
    for bearer in &bearers {
        presented(world, &[bearer]).await.refused(401, "ACCESS_DENIED");
    }
    world.told(&[
        "client",
        "set",
        "tokens-closing",
        "--active",
        "true",
        "--mode",
        "application",
    ]);
    assert_eq!(presented(world, &[&bearers[0]]).await.status(), 200);
    presented(world, &[&bearers[1]]).await.refused(401, "ACCESS_DENIED");
}
