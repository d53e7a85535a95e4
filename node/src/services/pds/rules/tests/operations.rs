//! JSON Patch: shape, lists, identity of items, removals, order, access modes.

use super::*;

#[test]
fn a_request_without_usable_operations_is_refused() {
    let mut many = Vec::new();
    many.resize(101, test("/gender", json!("female")));
    let cases = [
        (json!({}), Code::InvalidUpdate, "patches"),
        (json!([]), Code::InvalidUpdate, "patches"),
        (json!({"patches": {}}), Code::InvalidUpdate, "patches"),
        (json!({"patches": []}), Code::InvalidUpdate, "patches"),
        (json!({"patches": many}), Code::TooManyValuesSubmitted, "patches"),
        (json!({"patches": [1]}), Code::InvalidUpdate, "patches/0"),
        (
            json!({"patches": [{"path": "/gender"}]}),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            json!({"patches": [{"op": "move", "from": "/name/0", "path": "/name/1"}]}),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            json!({"patches": [{"op": "copy", "from": "/name/0", "path": "/name/1"}]}),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            json!({"patches": [{"op": "add", "value": 1}]}),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            json!({"patches": [{"op": "add", "path": "/gender"}]}),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            json!({"patches": [{"op": "add", "path": "gender", "value": 1}]}),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            json!({"patches": [{"op": "add", "path": "/a~2", "value": 1}]}),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            json!({"patches": [{"op": "add", "path": "/name/0/1/2/3/4/5/6/7/8/9", "value": 1}]}),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            json!({"patches": [{"op": "add", "path": "", "value": {}}]}),
            Code::ForbiddenUpdate,
            "patches/0",
        ),
        (
            json!({"patches": [{"op": "test", "path": "", "value": {}}]}),
            Code::ForbiddenUpdate,
            "patches/0",
        ),
    ];
    for (body, code, path) in cases {
        let mut ids = counting();
        let issues = refusal_of(&body, &mut ids);
        assert_eq!(
            (issues[0].code, issues[0].expression.as_deref()),
            (code, Some(path)),
            "{body}"
        );
    }
}

fn refusal_of(body: &Value, ids: &mut dyn FnMut() -> String) -> Vec<Issue> {
    super::super::patch(&jane(), body, Mode::Worker, today(), NOW, ids).expect_err("such a request is refused")
}

#[test]
fn list_rules_are_held() {
    let old = json!({"use": "old", "family": "Brown"});
    let jane = jane();
    let cases = [
        (
            "whole list",
            json!([add("/name", json!([old]))]),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            "whole list replaced",
            json!([replace("/address", json!([]))]),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            "whole list removed",
            json!([remove("/telecom")]),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            "an index on adding",
            json!([add("/name/0", old.clone())]),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            "an id on adding",
            json!([add("/name/-", json!({"id": "9", "use": "old", "family": "B"}))]),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            "a part without the id",
            json!([add("/name/0/given/-", json!("Rose"))]),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            "a replaced part without the id",
            json!([replace("/address/0/line/0", json!("2 Quay"))]),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            "another id",
            json!([
                replace("/name/0/id", json!("124")),
                replace("/name/0/family", json!("X"))
            ]),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            "an item without its id",
            json!([replace("/name/1", old.clone())]),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            "an item with another id",
            json!([replace("/name/1", json!({"id": "123", "use": "old", "family": "B"}))]),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            "beyond the end",
            json!([replace("/name/7/family", json!("X"))]),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            "no number",
            json!([replace("/name/01/family", json!("X"))]),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            "removal without a test",
            json!([remove("/name/1")]),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            "test of another item",
            json!([test("/name/0/id", json!("123")), remove("/name/1")]),
            Code::InvalidUpdate,
            "patches/1",
        ),
        (
            "test of another element",
            json!([test("/name/1/use", json!("old")), remove("/name/1")]),
            Code::InvalidUpdate,
            "patches/1",
        ),
        (
            "a failed test",
            json!([test("/name/1/id", json!("123")), remove("/name/1")]),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            "not immediately",
            json!([
                test("/name/1/id", json!("124")),
                replace("/gender", json!("male")),
                remove("/name/1")
            ]),
            Code::InvalidUpdate,
            "patches/2",
        ),
        (
            "part removed",
            json!([test("/name/0/id", json!("123")), remove("/name/0/suffix/0")]),
            Code::InvalidUpdate,
            "patches/1",
        ),
        (
            "part removed after its test",
            json!([
                replace("/name/0/id", json!("123")),
                test("/name/0/suffix/0", json!("MBE")),
                remove("/name/0/suffix/0")
            ]),
            Code::InvalidUpdate,
            "patches/2",
        ),
        (
            "absent value replaced",
            json!([replace("/deceasedDateTime", json!("2020-01-01"))]),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            "an added item changed again",
            json!([add("/name/-", old.clone()), replace("/name/2/family", json!("X"))]),
            Code::InvalidUpdate,
            "patches/1",
        ),
        (
            "extension without its url",
            json!([replace("/extension/1/extension/1/valueBoolean", json!(false))]),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            "an url changed",
            json!([replace("/extension/0/url", json!(uk("MedicalApplianceSupplier")))]),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            "an extension by another",
            json!([replace("/extension/0", language("de"))]),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            "part of language removed",
            json!([
                test("/extension/1/extension/1/url", json!("interpreterRequired")),
                remove("/extension/1/extension/1")
            ]),
            Code::InvalidUpdate,
            "patches/1",
        ),
        (
            "a part's url changed",
            json!([replace(
                "/extension/1/extension/1",
                json!({"url": " ", "valueBoolean": true})
            )]),
            Code::InvalidUpdate,
            "patches/0",
        ),
        (
            "the number",
            json!([replace("/id", json!("9000000017"))]),
            Code::ForbiddenUpdate,
            "patches/0",
        ),
        (
            "meta",
            json!([add("/meta/security/-", json!({"code": "R"}))]),
            Code::ForbiddenUpdate,
            "patches/0",
        ),
        (
            "identifier",
            json!([remove("/identifier/0")]),
            Code::ForbiddenUpdate,
            "patches/0",
        ),
        (
            "type",
            json!([replace("/resourceType", json!("Person"))]),
            Code::ForbiddenUpdate,
            "patches/0",
        ),
        (
            "pets",
            json!([add("/pets", json!(["Rex"]))]),
            Code::AdditionalProperties,
            "patches/0",
        ),
        (
            "photo",
            json!([add("/photo/-", json!({}))]),
            Code::AdditionalProperties,
            "patches/0",
        ),
    ];
    for (what, operations, code, path) in cases {
        println!("{what}");
        refused(&jane, operations, Mode::Worker, code, path);
    }
}

#[test]
fn permitted_ways_of_changing_lists_pass() {
    let jane = jane();
    let after = passes(
        &jane,
        json!([add("/name/0/id", json!("123")), add("/name/0/given/0", json!("Rose"))]),
    );
    assert_eq!(after["name"][0]["given"], json!(["Rose", "Jane", "Marie"]));
    assert_eq!(after["name"][0]["period"], jane["name"][0]["period"]);
    // The id may come after the part, and a test of it serves too.
    passes(
        &jane,
        json!([
            replace("/name/0/family", json!("Lee")),
            replace("/name/0/id", json!("123"))
        ]),
    );
    passes(
        &jane,
        json!([
            test("/name/0/id", json!("123")),
            replace("/name/0/family", json!("Lee"))
        ]),
    );
    passes(
        &jane,
        json!([
            test("/extension/1/url", json!(uk("NHSCommunication"))),
            replace("/extension/1/extension/1/valueBoolean", json!(false))
        ]),
    );
    let part = json!({"url": "interpreterRequired", "valueBoolean": false});
    let after = passes(&jane, json!([replace("/extension/1/extension/1", part)]));
    assert_eq!(after["extension"][1]["extension"][1]["valueBoolean"], json!(false));
    passes(
        &jane,
        json!([test("/name/1", jane["name"][1].clone()), remove("/name/1")]),
    );
    let after = passes(
        &jane,
        json!([
            test("/extension/2/extension/1/url", json!("PreferredContactTimes")),
            remove("/extension/2/extension/1")
        ]),
    );
    assert_eq!(after["extension"][2]["extension"].as_array().map(Vec::len), Some(1));
    // Tests alone change nothing.
    assert_eq!(
        passes(
            &jane,
            json!([test("/id", json!("9000000009")), test("/gender", json!("female"))])
        ),
        jane
    );
    // A list that the record lacks is made, and one that became empty goes.
    let after = passes(
        &bare(),
        json!([add(
            "/telecom/-",
            json!({"system": "phone", "use": "home", "value": "1"})
        )]),
    );
    assert_eq!(
        after["telecom"],
        json!([{"system": "phone", "use": "home", "value": "1", "id": "00000001", "period": {"start": "2025-06-01"}}])
    );
    let after = passes(
        &jane,
        json!([test("/contact/0/id", json!("C123")), remove("/contact/0")]),
    );
    assert_eq!(after.get("contact"), None);
}

#[test]
fn removals_of_several_items_count_indexes_as_they_stand() {
    let mut record = jane();
    record["name"] = json!([
        {"id": "2", "use": "usual", "family": "Parker"}, {"id": "3", "use": "old", "family": "Irwin"},
        {"id": "4", "use": "old", "family": "Bruce"}, {"id": "5", "use": "old", "family": "Sharpe"}]);
    let pair = |at: u32, id: &str| {
        [
            test(&format!("/name/{at}/id"), json!(id)),
            remove(&format!("/name/{at}")),
        ]
    };
    let left = json!(["2", "5"]);
    for order in [[pair(1, "3"), pair(1, "4")], [pair(2, "4"), pair(1, "3")]] {
        let after = passes(&record, json!(order.concat()));
        assert_eq!(json!([after["name"][0]["id"], after["name"][1]["id"]]), left);
    }
    let blind = [pair(1, "3"), pair(2, "4")].concat();
    refused(&record, json!(blind), Mode::Worker, Code::InvalidUpdate, "patches/2");
}

#[test]
fn an_item_stored_without_an_id_is_named_by_the_whole_of_it() {
    let mut record = bare();
    record["name"] = json!([{"use": "usual", "family": "Lee"}]);
    let change = replace("/name/0/family", json!("Low"));
    refused(&record, json!([change]), Mode::Worker, Code::InvalidUpdate, "patches/0");
    passes(&record, json!([test("/name/0", record["name"][0].clone()), change]));
}

#[test]
fn a_restricted_record_is_not_changed_and_answers_no_test() {
    let mut record = jane();
    for code in ["R", "V"] {
        record["meta"]["security"][0]["code"] = json!(code);
        for postcode in ["LS1 6AE", "M1 1AA"] {
            let asked = json!([test("/address/0/postalCode", json!(postcode))]);
            refused(&record, asked, Mode::Worker, Code::ForbiddenUpdate, "");
        }
    }
}

#[test]
fn patient_access_changes_only_its_own_list_of_fields() {
    let jane = jane();
    let mobile = json!({"id": "791", "system": "phone", "use": "mobile", "value": "07700900002"});
    let good = [
        json!([replace("/telecom/2", mobile)]),
        json!([test("/telecom/1/id", json!("790")), remove("/telecom/1")]),
        json!([replace("/extension/1", language("de"))]),
        json!([replace("/extension/0", pharmacy("NominatedPharmacy", "FA123"))]),
        json!([
            test("/extension/3/url", jane["extension"][3]["url"].clone()),
            remove("/extension/3")
        ]),
        json!([
            replace("/address/0/id", json!("456")),
            replace("/address/0/postalCode", json!("LS1 4BU"))
        ]),
        json!([
            replace("/contact/0/id", json!("C123")),
            replace("/contact/0/telecom/0/value", json!("07700900003"))
        ]),
    ];
    for operations in good {
        attempt(&jane, &operations, Mode::Patient).unwrap_or_else(|issues| panic!("{operations}: {issues:?}"));
    }
    let bad = [
        json!([replace("/gender", json!("male"))]),
        json!([replace("/birthDate", json!("1980-01-01"))]),
        json!([add("/name/-", json!({"use": "old", "family": "B"}))]),
        json!([replace("/generalPractitioner/0", json!({}))]),
        json!([replace("/multipleBirthInteger", json!(2))]),
        json!([add(
            "/telecom/-",
            json!({"system": "phone", "use": "work", "value": "1"})
        )]),
        json!([replace(
            "/telecom/0",
            json!({"id": "789", "system": "phone", "use": "home", "value": "1"})
        )]),
        json!([
            replace("/telecom/2/id", json!("791")),
            replace("/telecom/2/value", json!("1"))
        ]),
        json!([add("/extension/-", death("1"))]),
        json!([replace("/extension/2", preference("Noon"))]),
        json!([
            test("/extension/1/url", json!(uk("NHSCommunication"))),
            replace("/extension/1/extension/1/valueBoolean", json!(false))
        ]),
    ];
    for operations in bad {
        let last = operations.as_array().map_or(0, Vec::len) - 1;
        refused(
            &jane,
            operations,
            Mode::Patient,
            Code::ForbiddenUpdate,
            &format!("patches/{last}"),
        );
    }
}

#[test]
fn a_record_that_would_grow_too_large_is_refused() {
    let mut record = jane();
    record["text"] = json!({"div": "x".repeat(32 * 1024)});
    refused(
        &record,
        json!([replace("/gender", json!("male"))]),
        Mode::Worker,
        Code::InvalidUpdate,
        "",
    );
}

#[test]
fn at_most_ten_issues_come_back_in_a_stable_order() {
    let mut operations = Vec::new();
    for _ in 0..20 {
        operations.push(add("/name/-", json!({"use": "king", "pets": 1})));
    }
    let issues = worker(json!(operations)).expect_err("none of it fits");
    assert_eq!(issues.len(), 10);
    assert_eq!(worker(json!(operations)), Err(issues));
}

#[test]
fn a_malformed_stored_record_is_refused_without_a_panic() {
    for record in [
        json!(null),
        json!([]),
        json!({"name": {}, "meta": 1}),
        json!({"name": 1}),
    ] {
        let name = json!({"use": "old", "family": "B"});
        let operations = json!([add("/name/-", name), replace("/name/0/family", json!("C"))]);
        refused(&record, operations, Mode::Worker, Code::InvalidUpdate, "patches/0");
    }
}
