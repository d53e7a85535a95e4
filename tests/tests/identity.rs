//! `/oauth2/token` at the wire, the clients behind it, and the keys of access tokens.

use ring::signature::{RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use vertebra::auth::token::{KeyFiles, Keys, Kind, Policy, Principal, TokenRefused, Tokens};
use vertebra::base::Timestamp;
use vertebra_tests::node::{Folder, Node, binary};
use vertebra_tests::site::Site;
use vertebra_tests::tokens::{
    ASSERTION_TYPE, Application, Authority, hs256, new_signing_key, now_s, post, send, token, with,
};
use vertebra_tests::wire::{Answer, Target};

struct Running {
    node: Node,
    application: Application,
    target: Target,
    _folder: Folder,
}

fn start(name: &str) -> Running {
    let folder = Folder::new(name);
    let node = Node::start(&folder.path().join("data"));
    Running {
        application: Application::of(&node.sandbox),
        target: node.target(None),
        node,
        _folder: folder,
    }
}

impl Running {
    async fn ask(&self, assertion: &str) -> Answer {
        self.application.ask(&self.target, assertion).await
    }

    fn client(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command
            .arg("client")
            .args(arguments)
            .arg("--sandbox")
            .arg(&self.node.data);
        command.output().expect("the binary starts")
    }

    fn client_ok(&self, arguments: &[&str]) -> String {
        let output = self.client(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What the audit has of this action, as (actor, outcome).
    fn audited(&self, action: &str) -> Vec<(String, String)> {
        let mut command = Command::new(binary());
        command
            .args(["audit", "query", "--json", "--sandbox"])
            .arg(&self.node.data);
        let output = command.output().expect("the binary starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|entry| entry["action"] == action)
            .map(|entry| {
                let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
                (text("actor"), text("outcome"))
            })
            .collect()
    }

    /// Another node with the same keys, as it would verify tokens.
    fn verifier(&self) -> Tokens {
        let files = KeyFiles {
            signing_key: Some(self.node.data.join("tokens.key")),
            previous_signing_key: None,
            authority_jwks: Some(self.node.data.join("authority.jwks")),
        };
        verifier(&files)
    }
}

fn verifier(files: &KeyFiles) -> Tokens {
    let policy = Policy {
        issuer: "vertebra".into(),
        audience: "vertebra".into(),
        authority_issuer: "https://authority.sandbox".into(),
    };
    Tokens::new(policy, Keys::from_files(files).expect("good keys"))
}

fn verify(tokens: &Tokens, token: &str) -> Result<Principal, TokenRefused> {
    let value = format!("Bearer {token}").parse().expect("a header");
    let now = Timestamp::from_ms(now_s() * 1000);
    tokens.verify(Some(&value), now).map(|principal| (*principal).clone())
}

#[track_caller]
fn refused(answer: &Answer, status: u16, error: &str, description: &str) {
    let body = answer.json();
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(body["error"], error, "{body}");
    assert_eq!(body["error_description"], description, "{body}");
    assert!(body["message_id"].as_str().is_some_and(|id| !id.is_empty()), "{body}");
    assert_eq!(body.as_object().map(serde_json::Map::len), Some(3), "{body}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn an_application_gets_a_token_that_any_node_with_the_keys_takes() {
    let running = start("token");
    let answer = running.ask(&running.application.assertion()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["expires_in"], "599", "it is text, as clients know it");
    assert_eq!(body["token_type"], "Bearer");
    assert!(
        body["issued_at"].as_str().is_some_and(|ms| ms.parse::<u64>().is_ok()),
        "{body}"
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("pragma"), Some("no-cache"));
    let token = body["access_token"].as_str().expect("a token");
    let principal = verify(&running.verifier(), token).expect("another node takes it");
    assert_eq!(principal.kind, Kind::Application);
    assert_eq!(principal.client, running.application.client);
    assert!(principal.has_scope("personal-demographics-service"));
    assert_eq!(
        running.audited("identity.token"),
        [("sandbox-app".to_owned(), "200".to_owned())]
    );
    for secret in [token, "BEGIN"] {
        assert!(!running.node.log_text().contains(secret));
    }
}

#[tokio::test]
async fn the_sandbox_s_worker_and_patient_have_tokens() {
    let running = start("people");
    let tokens = running.verifier();
    let told = |name: &str| {
        running.node.sandbox["tokens"][name]
            .as_str()
            .expect("a token")
            .to_owned()
    };
    let worker = verify(&tokens, &told("worker")).expect("a worker");
    assert!(matches!(&worker.kind, Kind::Worker(worker) if worker.role_code == "S8000:G8000:R8001"));
    let patient = verify(&tokens, &told("patient")).expect("a patient");
    assert!(matches!(&patient.kind, Kind::Patient(patient) if patient.nhs_number == "9000000009"));
    let authority = Authority::of(&running.node.sandbox);
    let claims = authority.claims("sandbox-app");
    let mut weak = claims.clone();
    for (name, value) in [
        ("sub", "u"),
        ("selected_roleid", "r"),
        ("role_code", "R"),
        ("org_code", "X26"),
        ("authentication_assurance_level", "1"),
    ] {
        weak = with(weak, name, json!(value));
    }
    assert_eq!(
        verify(&tokens, &authority.signed(&weak)).err(),
        Some(TokenRefused::WorkerBelowAal2)
    );
    let header = json!({"alg": "HS256", "typ": "at+jwt", "kid": authority.kid});
    let forged = token(&header, &weak, |text| hs256(&authority.public_key(), text));
    assert_eq!(verify(&tokens, &forged).err(), Some(TokenRefused::Algorithm));
}

#[tokio::test]
async fn each_parameter_that_is_wrong_is_told() {
    let running = start("form");
    let good = running.application.assertion();
    let form = |change: (&'static str, &'static str)| {
        let mut form = vec![
            ("grant_type", "client_credentials".to_owned()),
            ("client_assertion_type", ASSERTION_TYPE.to_owned()),
            ("client_assertion", good.clone()),
        ];
        form.retain(|(name, _)| *name != change.0);
        if !change.1.is_empty() {
            form.push((change.0, change.1.to_owned()));
        }
        form
    };
    let type_told =
        "Missing or invalid client_assertion_type - must be 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'";
    let not_offered =
        "grant_type is not offered here - use 'client_credentials'; tokens for people come from the signing authority";
    for (name, value, error, description) in [
        ("grant_type", "", "invalid_request", "grant_type is missing"),
        (
            "grant_type",
            "invalid",
            "unsupported_grant_type",
            "grant_type is invalid",
        ),
        (
            "grant_type",
            "authorization_code",
            "unsupported_grant_type",
            not_offered,
        ),
        ("grant_type", "refresh_token", "unsupported_grant_type", not_offered),
        (
            "grant_type",
            "urn:ietf:params:oauth:grant-type:token-exchange",
            "unsupported_grant_type",
            not_offered,
        ),
        ("client_assertion_type", "", "invalid_request", type_told),
        ("client_assertion_type", "invalid", "invalid_request", type_told),
        ("client_assertion", "", "invalid_request", "Missing client_assertion"),
        (
            "client_assertion",
            "invalid",
            "invalid_request",
            "Malformed JWT in client_assertion",
        ),
    ] {
        let form = form((name, value));
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        refused(
            &post(&running.target, &running.application.url, &form).await,
            400,
            error,
            description,
        );
    }
    let twice = [
        ("grant_type", "client_credentials"),
        ("grant_type", "client_credentials"),
    ];
    refused(
        &post(&running.target, &running.application.url, &twice).await,
        400,
        "invalid_request",
        "A parameter is there more than once - send each once",
    );
    assert!(running.audited("identity.token").is_empty(), "nobody was proved");
}

#[tokio::test]
async fn each_header_of_an_assertion_that_is_wrong_is_told() {
    let running = start("headers");
    let application = &running.application;
    let alg = "Invalid 'alg' header in client_assertion JWT - unsupported JWT algorithm - must be 'RS512'";
    let typ = "Invalid 'typ' header in client_assertion JWT - must be 'JWT'";
    for (name, value, status, description) in [
        ("alg", Value::Null, 400, "Missing 'alg' header in client_assertion JWT"),
        ("alg", json!("none"), 400, alg),
        ("alg", json!("HS512"), 400, alg),
        ("typ", Value::Null, 400, typ),
        ("typ", json!("invalid"), 400, typ),
        ("kid", Value::Null, 400, "Missing 'kid' header in client_assertion JWT"),
        (
            "kid",
            json!("invalid"),
            401,
            "Invalid 'kid' header in client_assertion JWT - no matching public key",
        ),
    ] {
        let header = with(application.header(), name, value);
        let answer = running.ask(&application.signed(&header, &application.claims())).await;
        refused(&answer, status, "invalid_request", description);
    }
    for (name, encoding) in [
        ("RS256", &RSA_PKCS1_SHA256 as &'static dyn ring::signature::RsaEncoding),
        ("RS384", &RSA_PKCS1_SHA384),
        ("PS256", &RSA_PSS_SHA256),
        ("PS384", &RSA_PSS_SHA384),
        ("PS512", &RSA_PSS_SHA512),
    ] {
        let header = with(application.header(), "alg", json!(name));
        let made = token(&header, &application.claims(), |text| {
            application.signature(encoding, text)
        });
        refused(&running.ask(&made).await, 400, "invalid_request", alg);
    }
}

#[tokio::test]
async fn each_claim_of_an_assertion_that_is_wrong_is_told_and_is_on_the_record() {
    let running = start("claims");
    let application = &running.application;
    let missing = "Missing or non-matching 'iss'/'sub' claims in client_assertion JWT";
    let jti = "Invalid 'jti' claim in client_assertion JWT - must be a unique string value such as a GUID";
    let aud = "Missing or invalid 'aud' claim in client_assertion JWT";
    for (name, value, status, description) in [
        ("sub", json!("invalid"), 400, missing),
        ("iss", json!("invalid"), 400, missing),
        ("sub", Value::Null, 400, missing),
        ("iss", Value::Null, 400, missing),
        ("jti", Value::Null, 400, "Missing 'jti' claim in client_assertion JWT"),
        ("jti", json!(1_234_567_890), 400, jti),
        ("jti", json!("j".repeat(101)), 400, jti),
        ("aud", Value::Null, 401, aud),
        ("aud", json!("https://elsewhere/oauth2/token"), 401, aud),
        ("exp", Value::Null, 400, "Missing 'exp' claim in client_assertion JWT"),
        (
            "exp",
            json!((now_s() + 240).to_string()),
            400,
            "Invalid 'exp' claim in client_assertion JWT - must be an integer",
        ),
        (
            "exp",
            json!(now_s() - 20),
            400,
            "Invalid 'exp' claim in client_assertion JWT - JWT has expired",
        ),
        (
            "exp",
            json!(now_s() + 360),
            400,
            "Invalid 'exp' claim in client_assertion JWT - more than 5 minutes in future",
        ),
        (
            "nbf",
            json!(now_s() + 60),
            400,
            "Invalid 'nbf' claim in client_assertion JWT - JWT is not valid yet",
        ),
    ] {
        let claims = with(application.claims(), name, value);
        let answer = running.ask(&application.signed(&application.header(), &claims)).await;
        refused(&answer, status, "invalid_request", description);
    }
    let unknown = with(
        with(application.claims(), "iss", json!("invalid")),
        "sub",
        json!("invalid"),
    );
    let answer = running.ask(&application.signed(&application.header(), &unknown)).await;
    refused(
        &answer,
        401,
        "invalid_request",
        "Invalid 'iss'/'sub' claims in client_assertion JWT",
    );
    let outcomes: Vec<String> = running
        .audited("identity.token")
        .into_iter()
        .map(|(_, outcome)| outcome)
        .collect();
    for rule in [
        "jti_missing",
        "aud_invalid",
        "exp_too_far",
        "assertion_expired",
        "nbf_invalid",
    ] {
        assert!(
            outcomes.iter().any(|outcome| outcome.ends_with(rule)),
            "{rule}: {outcomes:?}"
        );
    }
    assert_eq!(
        outcomes.len(),
        10,
        "those whose client was proved, and no other: {outcomes:?}"
    );
}

#[tokio::test]
async fn a_forged_assertion_gets_nothing() {
    let running = start("forged");
    let application = &running.application;
    let wrong = "JWT signature verification failed";
    let unsigned = token(&application.header(), &application.claims(), |_| Vec::new());
    refused(&running.ask(&unsigned).await, 401, "invalid_request", wrong);
    let padded = token(&application.header(), &application.claims(), |text| {
        application.signature(&RSA_PSS_SHA512, text)
    });
    refused(&running.ask(&padded).await, 401, "invalid_request", wrong);
    let secret = with(application.header(), "alg", json!("HS256"));
    let confused = token(&secret, &application.claims(), |text| {
        hs256(&application.modulus(), text)
    });
    let alg = "Invalid 'alg' header in client_assertion JWT - unsupported JWT algorithm - must be 'RS512'";
    refused(&running.ask(&confused).await, 400, "invalid_request", alg);
    let good = application.assertion();
    let (rest, signature) = good.rsplit_once('.').expect("three parts");
    let malformed = "Malformed JWT in client_assertion";
    for bad in [
        rest.to_owned(),
        format!("{good}.{signature}"),
        format!("{good}="),
        "x".repeat(9_000),
    ] {
        refused(&running.ask(&bad).await, 400, "invalid_request", malformed);
    }
    let worker = running.node.sandbox["tokens"]["worker"].as_str().expect("a token");
    refused(&running.ask(worker).await, 400, "invalid_request", alg);
    let large = running.ask(&"x".repeat(20_000)).await;
    refused(
        &large,
        413,
        "invalid_request",
        "The body is larger than 16384 bytes - send a smaller client_assertion",
    );
    assert!(running.audited("identity.token").is_empty(), "nobody was proved");
}

#[tokio::test]
async fn an_assertion_gives_one_token_also_across_a_crash() {
    let mut running = start("replay");
    let assertion = running.application.assertion();
    assert_eq!(running.ask(&assertion).await.status, 200);
    let replayed = "Non-unique 'jti' claim in client_assertion JWT";
    refused(&running.ask(&assertion).await, 400, "invalid_request", replayed);
    running.node.kill();
    running.node.restart();
    refused(&running.ask(&assertion).await, 400, "invalid_request", replayed);
    let both = running.application.assertion();
    let (first, second) = tokio::join!(running.ask(&both), running.ask(&both));
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400], "of two at once one wins");
}

#[tokio::test]
async fn other_methods_paths_and_bodies_are_refused_in_words() {
    let running = start("paths");
    let url = &running.application.url;
    let get = send(&running.target, "GET", "/oauth2/token", url, &[], b"").await;
    refused(&get, 405, "invalid_request", "The method is not allowed - use POST");
    assert_eq!(get.header("allow"), Some("POST"));
    for path in [
        "/oauth2",
        "/oauth2/",
        "/oauth2/authorize",
        "/oauth2/token/",
        "/oauth2/userinfo",
    ] {
        let answer = send(&running.target, "GET", path, url, &[], b"").await;
        refused(
            &answer,
            404,
            "invalid_request",
            "There is no such endpoint - use POST /oauth2/token",
        );
    }
    let not_a_form = "The body is not a form - send application/x-www-form-urlencoded";
    for headers in [&[("Content-Type", "application/json")][..], &[]] {
        let answer = send(&running.target, "POST", "/oauth2/token", url, headers, b"{}").await;
        refused(&answer, 400, "invalid_request", not_a_form);
    }
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    for body in [&b"\xff\xfe%%%=&&&"[..], b"=", b"grant_type"] {
        let answer = send(&running.target, "POST", "/oauth2/token", url, &form, body).await;
        refused(&answer, 400, "invalid_request", "grant_type is missing");
    }
}

#[tokio::test]
async fn a_scope_beyond_the_client_s_is_refused_and_less_is_given() {
    let running = start("scopes");
    running.client_ok(&["set", "sandbox-app", "--scope", "a", "--scope", "b"]);
    let ask = async |scope: &str| {
        let assertion = running.application.assertion();
        let form = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", assertion.as_str()),
            ("scope", scope),
        ];
        post(&running.target, &running.application.url, &form).await
    };
    let token = ask("b").await.json()["access_token"]
        .as_str()
        .expect("a token")
        .to_owned();
    assert_eq!(verify(&running.verifier(), &token).expect("good").scopes, ["b"]);
    refused(
        &ask("a c").await,
        400,
        "invalid_scope",
        "The scope names what the client may not do - ask for less, or for nothing to get all it may",
    );
}

#[tokio::test]
async fn a_client_is_added_changed_shown_and_disabled_by_the_command_line() {
    let running = start("client");
    let application = &running.application;
    let jwks = running.node.data.join("application.jwks").display().to_string();
    let added = running.client_ok(&[
        "add",
        "clinic",
        "--ods",
        "X27",
        "--name",
        "Clinic",
        "--mode",
        "application",
        "--jwks",
        &jwks,
        "--scope",
        "s",
    ]);
    assert!(
        added.contains("clinic") && added.contains("5/s") && added.contains("sandbox-1"),
        "{added}"
    );
    let again = running.client(&["add", "clinic", "--ods", "X27", "--mode", "worker"]);
    assert!(!again.status.success(), "it is there already");
    let as_clinic = || {
        with(
            with(application.claims(), "iss", json!("clinic")),
            "sub",
            json!("clinic"),
        )
    };
    let asked = async || {
        running
            .ask(&application.signed(&application.header(), &as_clinic()))
            .await
    };
    assert_eq!(asked().await.status, 200);

    running.client_ok(&["disable", "clinic"]);
    refused(
        &asked().await,
        401,
        "access_denied",
        "The client is disabled - ask the operator why",
    );
    running.client_ok(&["set", "clinic", "--active", "true", "--mode", "worker"]);
    refused(
        &asked().await,
        400,
        "unauthorized_client",
        "The client may not use application-restricted access - ask the operator to allow it",
    );
    running.client_ok(&["set", "clinic", "--mode", "application", "--rate", "7"]);
    assert_eq!(asked().await.status, 200);

    let list: Value = serde_json::from_str(&running.client_ok(&["list", "--json"])).expect("JSON");
    let ids: Vec<&str> = list
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|c| c["id"].as_str())
        .collect();
    assert_eq!(ids, ["clinic", "sandbox-app"]);
    let shown: Value = serde_json::from_str(&running.client_ok(&["show", "clinic", "--json"])).expect("JSON");
    assert_eq!(
        (&shown["requests_per_second"], &shown["ods"]),
        (&json!(7), &json!("X27"))
    );
    assert_eq!(shown["keys"], json!([{"kid": "sandbox-1", "bits": 2048}]));

    for wrong in [
        &["set", "nobody", "--rate", "1"][..],
        &["show", "nobody"],
        &["disable", "nobody"],
        &["add", "a/b", "--ods", "X26", "--mode", "worker"],
        &["add", "new", "--mode", "worker"],
        &["add", "new", "--ods", "X26"],
        &["add", "new", "--ods", "X26", "--mode", "application"],
        &["add", "new", "--ods", "X26", "--mode", "root"],
        &["set", "clinic", "--rate", "0"],
        &["set", "clinic", "--jwks", "/does/not/exist"],
    ] {
        let output = running.client(wrong);
        assert!(!output.status.success() && !output.stderr.is_empty(), "{wrong:?}");
    }
    let private = running.node.data.join("private.jwks");
    fs::write(
        &private,
        r#"{"keys":[{"kty":"RSA","kid":"k","n":"AQ","e":"AQAB","d":"PLANTED"}]}"#,
    )
    .expect("writable");
    let output = running.client(&["set", "clinic", "--jwks", &private.display().to_string()]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("private part") && !told.contains("PLANTED"), "{told}");
    let changes = running.audited("admin.client.put");
    assert_eq!(
        changes.len(),
        5,
        "each change is on the record, the seeding too: {changes:?}"
    );
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_to_come_back() {
    let running = start("rate");
    running.client_ok(&["set", "sandbox-app", "--rate", "1"]);
    let deadline = Instant::now() + Duration::from_secs(30);
    let answer = loop {
        let answer = running.ask(&running.application.assertion()).await;
        if answer.status != 200 {
            break answer;
        }
        assert!(Instant::now() < deadline, "one a second was never exceeded");
    };
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert_eq!(answer.json()["error"], "temporarily_unavailable");
    let seconds: u64 = answer
        .header("retry-after")
        .and_then(|s| s.parse().ok())
        .expect("whole seconds");
    assert!((1..=2).contains(&seconds), "{seconds}");
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    assert_eq!(running.ask(&running.application.assertion()).await.status, 200);
}

/// A client of a site's own, with the key of a sandbox's application.
fn site_change(jwks: &Path) -> Value {
    let set = fs::read_to_string(jwks).expect("the sandbox wrote it");
    json!({"ods": "A01", "modes": ["application"], "jwks": set, "requests_per_second": 1000, "only_new": true})
}

#[tokio::test]
async fn keys_rotate_by_sighup_and_no_token_is_refused_meanwhile() {
    let running = start("rotate-keys");
    let keys = Folder::new("rotate");
    let (own, previous) = (keys.path().join("own.key"), keys.path().join("previous.key"));
    let first = new_signing_key();
    fs::write(&own, &first).expect("writable");
    fs::write(&previous, &first).expect("writable");
    let extra = format!(
        "[tokens]\nsigning_key = {own:?}\nprevious_signing_key = {previous:?}\ntoken_urls = [{:?}]\n",
        running.application.url
    );
    let site = Site::start(&[], &extra).await;
    let change = site_change(&running.node.data.join("application.jwks"));
    let answer = site
        .operator("PUT", "/admin/clients/sandbox-app", &change)
        .await
        .expect("it answers");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let identity = site.client_identity("A01", 100);
    let target = site.target(Some(&identity));
    let files = KeyFiles {
        signing_key: Some(own.clone()),
        previous_signing_key: Some(previous.clone()),
        authority_jwks: None,
    };
    let old = running.application.access_token(&target).await;
    let kid = |token: &str| token.split('.').next().map(str::to_owned);

    let second = new_signing_key();
    // First the old key beside itself, then the new one in its place.
    fs::write(&own, &second).expect("writable");
    site.reload();
    let deadline = Instant::now() + Duration::from_secs(10);
    let new = loop {
        let token = running.application.access_token(&target).await;
        if kid(&token) != kid(&old) {
            break token;
        }
        assert!(
            Instant::now() < deadline,
            "the new key is never used:\n{}",
            site.log_text()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let both = verifier(&files);
    assert!(verify(&both, &old).is_ok() && verify(&both, &new).is_ok());

    fs::write(&own, "PLANTED").expect("writable");
    site.reload();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !site.log_text().contains("are not taken") {
        assert!(
            Instant::now() < deadline,
            "a spoilt key is reported:\n{}",
            site.log_text()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let still = running.application.access_token(&target).await;
    assert_eq!(kid(&still), kid(&new), "the key before stays in force");
    assert!(!site.log_text().contains("PLANTED"));
}

#[tokio::test]
async fn a_node_without_a_signing_key_says_so_and_takes_only_its_own_url() {
    let running = start("no-key");
    let keys = Folder::new("none");
    let own = keys.path().join("own.key");
    fs::write(&own, new_signing_key()).expect("writable");
    let change = site_change(&running.node.data.join("application.jwks"));
    let without = Site::start(&[], "").await;
    let identity = without.client_identity("A01", 100);
    let answer = running
        .application
        .ask(&without.target(Some(&identity)), &running.application.assertion())
        .await;
    refused(
        &answer,
        503,
        "temporarily_unavailable",
        "This node has no key to sign tokens with - ask the operator to configure tokens.signing_key",
    );
    assert_eq!(answer.header("retry-after"), Some("60"));

    let with_key = Site::start(&[], &format!("[tokens]\nsigning_key = {own:?}\n")).await;
    let put = with_key
        .operator("PUT", "/admin/clients/sandbox-app", &change)
        .await
        .expect("it answers");
    assert_eq!(put.status, 200, "{}", put.text());
    let identity = with_key.client_identity("A01", 100);
    let target = with_key.target(Some(&identity));
    let application = &running.application;
    refused(
        &application.ask(&target, &application.assertion()).await,
        401,
        "invalid_request",
        "Missing or invalid 'aud' claim in client_assertion JWT",
    );
    let named = with(application.claims(), "aud", json!("https://site-node/oauth2/token"));
    let answer = application
        .ask(&target, &application.signed(&application.header(), &named))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}
