//! Properties over generated patches, and what a patch costs.

use super::super::{create, patch};
use super::*;
use proptest::prelude::*;

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        prop_oneof![
            Just("usual"),
            Just("home"),
            Just("temp"),
            Just("old"),
            Just("phone"),
            Just("email"),
            Just("2024-01-01"),
            Just("123"),
            Just("456"),
            Just("789"),
            Just("male"),
            Just("other"),
            Just("Müller"),
            Just(""),
            Just("é√😀!"),
            Just("2025-02-30"),
        ]
        .prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let jane = jane();
    let mut whole: Vec<Value> = Vec::new();
    for list in [
        "name",
        "address",
        "telecom",
        "contact",
        "generalPractitioner",
        "extension",
    ] {
        whole.extend(jane[list].as_array().expect("a list").iter().cloned());
    }
    let known = prop::sample::select(whole).prop_flat_map(|item| {
        let keys: Vec<String> = item.as_object().expect("an object").keys().cloned().collect();
        (Just(item), prop::sample::select(keys), scalar(), 0..4_u8).prop_map(|(mut item, key, scalar, how)| {
            let object = item.as_object_mut().expect("an object");
            match how {
                0 => drop(object.insert(key, scalar)),
                1 => drop(object.remove(&key)),
                2 => drop(object.remove("id")),
                _ => {}
            }
            item
        })
    });
    prop_oneof![
        scalar(),
        known,
        prop::collection::vec(scalar(), 0..3).prop_map(Value::from)
    ]
}

fn path() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "0",
        "1",
        "2",
        "-",
        "id",
        "url",
        "use",
        "family",
        "given",
        "period",
        "start",
        "line",
        "postalCode",
        "value",
        "extension",
        "valueBoolean",
        "identifier",
        "01",
        "~1",
        "",
        "x",
    ]);
    let first = prop::sample::select(vec![
        "name",
        "address",
        "telecom",
        "contact",
        "generalPractitioner",
        "extension",
        "gender",
        "birthDate",
        "deceasedDateTime",
        "multipleBirthInteger",
        "managingOrganization",
        "id",
        "meta",
        "pets",
    ]);
    (first, prop::collection::vec(token, 0..4)).prop_map(|(first, rest)| {
        let mut path = format!("/{first}");
        for token in rest {
            path.push('/');
            path.push_str(token);
        }
        path
    })
}

fn operation() -> impl Strategy<Value = Vec<Value>> {
    let free = (
        prop::sample::select(vec!["add", "replace", "remove", "test", "move"]),
        path(),
        value(),
    )
        .prop_map(|(op, path, value)| vec![json!({"op": op, "path": path, "value": value})]);
    // Whole items added, and replaced or removed under their own identity, so that many patches pass.
    let added = (
        prop::sample::select(vec!["name", "address", "telecom", "contact", "extension"]),
        value(),
    )
        .prop_map(|(list, value)| vec![add(&format!("/{list}/-"), value)]);
    let own = (
        prop::sample::select(vec![
            ("name", 0),
            ("name", 1),
            ("address", 0),
            ("telecom", 0),
            ("telecom", 1),
            ("contact", 0),
        ]),
        any::<bool>(),
        prop::sample::select(vec!["family", "postalCode", "value", "given"]),
        value(),
    )
        .prop_map(|((list, at), gone, key, value)| {
            let named = test(&format!("/{list}/{at}/id"), jane()[list][at]["id"].clone());
            match gone {
                true => vec![named, remove(&format!("/{list}/{at}"))],
                false => vec![named, add(&format!("/{list}/{at}/{key}"), value)],
            }
        });
    prop_oneof![free, added, own]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// `attempt` asserts that the record is untouched, that a result is a valid record, and that issues are bounded.
    #[test]
    fn a_patch_is_refused_whole_or_leaves_a_valid_record(
        operations in prop::collection::vec(operation(), 1..4), patient in any::<bool>(), bare_one in any::<bool>(),
    ) {
        let operations = Value::from(operations.concat());
        let mode = if patient { Mode::Patient } else { Mode::Worker };
        let record = if bare_one { bare() } else { jane() };
        if let Ok(after) = attempt(&record, &operations, mode) {
            for ours in ["id", "meta", "identifier", "resourceType"] {
                prop_assert_eq!(after.get(ours), record.get(ours));
            }
        }
    }

    #[test]
    fn any_body_is_answered(body in value(), list in prop::collection::vec(value(), 0..4)) {
        let mut ids = counting();
        let _ = patch(&jane(), &body, Mode::Worker, today(), NOW, &mut ids);
        let _ = patch(&jane(), &json!({"patches": list}), Mode::Patient, today(), NOW, &mut ids);
        let _ = create(&body, today(), &mut ids);
        let request = json!({"name": list, "address": list, "telecom": list, "extension": list, "gender": body, "birthDate": body});
        let _ = create(&request, today(), &mut ids);
        let _ = super::super::coverage(&body, today());
        let _ = super::super::patient(&request);
        let _ = patch(&request, &json!({"patches": [add("/name/-", body.clone())]}), Mode::Worker, today(), NOW, &mut ids);
    }
}

#[test]
fn generated_patches_pass_often_enough_to_prove_something() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut passed = 0;
    for _ in 0..1000 {
        let operations = prop::collection::vec(operation(), 1..3)
            .new_tree(&mut runner)
            .expect("a tree")
            .current();
        passed += u32::from(worker(Value::from(operations.concat())).is_ok());
    }
    assert!(passed > 50, "{passed} of 1000 passed");
}

#[test]
#[ignore = "a measurement: cargo test --release -p vertebra --lib pds -- --ignored --nocapture"]
fn what_a_patch_costs() {
    let record = jane();
    let part = json!({"patches": [replace("/address/0/id", json!("456")), replace("/address/0/line/0", json!("2 Quay")),
        replace("/address/0/postalCode", json!("LS1 4BU"))]});
    let whole = json!({"patches": [replace("/extension/1", language("de")), replace("/gender", json!("male")),
        add("/name/-", json!({"use": "nickname", "family": "Smith", "given": ["Jo"]}))]});
    let mut ids = counting();
    for (what, body) in [
        ("part of an address", part),
        ("extension, gender and a new name", whole),
    ] {
        let mut best = std::time::Duration::MAX;
        for _ in 0..50 {
            let started = std::time::Instant::now();
            for _ in 0..200 {
                assert!(patch(&record, &body, Mode::Worker, today(), NOW, &mut ids).is_ok());
            }
            best = best.min(started.elapsed() / 200);
        }
        println!("{what}: {best:?} for a record of {} bytes", record.to_string().len());
    }
    let started = std::time::Instant::now();
    for _ in 0..2000 {
        assert_eq!(super::super::patient(&record), Ok(()));
    }
    println!("validation of a whole stored patient: {:?}", started.elapsed() / 2000);
}
