use super::*;
use serde_json::Value;

fn change(json: Value) -> ClientChange {
    serde_json::from_value(json).expect("a change")
}

fn set(bits: usize) -> String {
    use base64::Engine as _;
    let n = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(vec![0xFF; bits / 8]);
    json!({"keys": [{"kty": "RSA", "kid": "k", "n": n, "e": "AQAB"}]}).to_string()
}

fn id() -> ClientId {
    ClientId::parse("app").expect("a client")
}

fn new() -> Value {
    json!({"ods": "x26", "modes": ["patient", "application"], "jwks": set(2048)})
}

#[test]
fn a_new_client_takes_its_defaults() {
    let made = change(new()).onto(id(), None).expect("whole");
    assert_eq!((made.name.as_str(), made.ods.as_str()), ("app", "X26"));
    assert_eq!(made.modes, [Mode::Application, Mode::Patient]);
    assert_eq!((made.requests_per_second, made.active), (5, true));
    assert!(made.scopes.is_empty());
    let shown = view(&made);
    assert_eq!((shown.keys[0].kid.as_str(), shown.keys[0].bits), ("k", 2048));
    assert_eq!(shown.modes, ["application", "patient"]);
}

#[test]
fn what_is_not_named_stays() {
    let before = change(new()).onto(id(), None).expect("whole");
    let after = change(json!({"requests_per_second": 9})).onto(id(), Some(before.clone()));
    let wanted = Client {
        requests_per_second: 9,
        ..before.clone()
    };
    assert_eq!(after, Ok(wanted));
    let off = change(json!({"active": false}))
        .onto(id(), Some(before.clone()))
        .expect("valid");
    assert!(!off.active);
    let named = change(json!({"name": "N"})).onto(id(), Some(off)).expect("valid");
    assert!(!named.active, "a change of its name does not switch it on");
    let again = change(json!({"only_new": true})).onto(id(), Some(before));
    assert!(matches!(again, Err(Refused::Malformed(text)) if text.contains("client set")));
}

#[test]
fn what_a_client_cannot_be_is_refused_in_words() {
    let long = "s".repeat(101);
    for (name, value, word) in [
        ("ods", Value::Null, "--ods"),
        ("ods", json!("X-26"), "ODS"),
        ("modes", Value::Null, "--mode"),
        ("modes", json!([]), "mode"),
        ("modes", json!(["root"]), "mode"),
        ("jwks", Value::Null, "--jwks"),
        ("jwks", json!("{}"), "key set"),
        ("jwks", json!(set(1024)), "2048"),
        ("jwks", json!(set(8192)), "4096"),
        ("scopes", json!(["a b"]), "scopes"),
        ("scopes", json!([""]), "scopes"),
        ("scopes", json!([long]), "scopes"),
        ("scopes", json!(vec!["s"; 51]), "scopes"),
        ("requests_per_second", json!(0), "--rate"),
        ("requests_per_second", json!(100_001), "--rate"),
        ("name", json!("a\nb"), "name"),
    ] {
        let mut json = new();
        match value {
            Value::Null => drop(json.as_object_mut().expect("an object").remove(name)),
            value => json[name] = value,
        }
        match change(json).onto(id(), None) {
            Err(Refused::Malformed(text)) => assert!(text.contains(word), "{name}: {text}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    let worker = change(json!({"ods": "X26", "modes": ["worker"]})).onto(id(), None);
    assert!(worker.is_ok(), "an application of people needs no key here");
}
