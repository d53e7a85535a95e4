use super::prepare::{Prepared, prepare};
use serde_json::json;

fn today() -> jiff::civil::Date {
    jiff::civil::date(2026, 11, 26)
}

fn refused(line: &str) -> (&'static str, String) {
    match prepare(line.as_bytes(), today()) {
        Ok(_) => panic!("it was taken: {line}"),
        Err(issue) => (issue.code, issue.reason),
    }
}

#[test]
fn a_line_that_cannot_be_meant_is_refused_by_naming_the_element() {
    let patient = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value = json!({
            "resourceType": "Patient", "id": "9000000009",
            "meta": {"security": [{"code": "U"}]}, "name": [{"family": "Planted"}],
        });
        change(&mut value);
        refused(&value.to_string())
    };
    for ((code, reason), expected) in [
        (refused(""), ("not_json", "column")),
        (refused("{\"Planted"), ("not_json", "column")),
        (refused("[1]"), ("not_json", "object")),
        (refused("{}"), ("resource_type", "resourceType")),
        (
            refused(r#"{"resourceType":"Planted"}"#),
            ("resource_type", "resourceType"),
        ),
        (patient(&|p| p["id"] = json!("9000000008")), ("nhs_number", "id")),
        (patient(&|p| p["id"] = json!(9_000_000_009_u64)), ("nhs_number", "id")),
        (patient(&|p| p["id"] = json!(null)), ("nhs_number", "id")),
        (patient(&|p| p["meta"] = json!({})), ("security", "meta.security")),
        (
            patient(&|p| p["meta"] = json!({"security": []})),
            ("security", "meta.security"),
        ),
        (
            patient(&|p| p["meta"]["security"][0]["code"] = json!("Planted")),
            ("security", "meta.security.code"),
        ),
        (
            patient(&|p| p["meta"]["security"] = json!([{"code": "U"}, {"code": "R"}])),
            ("security", "more than one"),
        ),
        (
            patient(&|p| {
                p["link"] = json!([{"type": "replaced-by", "other": {"identifier": {"value": "9000000017"}}}])
            }),
            ("link", "REDACTED"),
        ),
        (
            patient(&|p| {
                p["meta"]["security"][0]["code"] = json!("REDACTED");
                p["link"] = json!([{"type": "replaced-by", "other": {"identifier": {"value": "9000000009"}}}]);
            }),
            ("link", "itself"),
        ),
        (
            patient(&|p| {
                let name = json!({"use": "old", "family": "Planted".repeat(500)});
                p["name"].as_array_mut().expect("a list").extend(vec![name; 12]);
            }),
            ("too_large", "bytes"),
        ),
        (
            refused(r#"{"resourceType":"RelatedPerson"}"#),
            ("nhs_number", "patient.identifier.value"),
        ),
        (
            refused(r#"{"resourceType":"RelatedPerson","patient":{"reference":"Patient/Planted"}}"#),
            ("nhs_number", "patient.reference"),
        ),
        (
            refused(r#"{"resourceType":"Coverage","subscriber":{}}"#),
            ("nhs_number", "subscriber"),
        ),
    ] {
        assert_eq!(code, expected.0, "{reason}");
        assert!(reason.contains(expected.1), "{reason}");
        assert!(!reason.contains("Planted") && !reason.contains("900000"), "{reason}");
    }
}

#[test]
fn whose_a_line_is_follows_from_identifier_or_reference() {
    let known = |kind: &str| -> serde_json::Value {
        let mut lines = super::super::synth::WELL_KNOWN.lines();
        let found = lines.find(|line| line.contains(&format!("\"resourceType\":\"{kind}\"")));
        serde_json::from_str(found.expect("there is one")).expect("JSON")
    };
    let (mut identified, mut referred, mut coverage) =
        (known("RelatedPerson"), known("RelatedPerson"), known("Coverage"));
    identified["patient"] = json!({"identifier": {"value": "9000000033"}});
    referred["patient"] = json!({"reference": "https://example.com/R4/Patient/9000000033"});
    coverage["subscriber"]["identifier"]["value"] = json!("9000000033");
    for line in [identified, referred, coverage] {
        match prepare(line.to_string().as_bytes(), today()) {
            Ok(Prepared::Attached(attached)) => assert_eq!(attached.number.to_string(), "9000000033"),
            Ok(Prepared::Patient { .. }) => panic!("taken for a patient"),
            Err(issue) => panic!("{issue:?}: {line}"),
        }
    }
}

#[test]
fn every_synthetic_and_well_known_line_can_be_loaded() {
    let people = super::super::synth::People::new(11);
    let mut lines = super::super::synth::WELL_KNOWN.as_bytes().to_vec();
    for index in 0..2_000 {
        people.write(index, &mut lines);
    }
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        if let Err(issue) = prepare(line, today()) {
            panic!("{issue:?}: {}", String::from_utf8_lossy(line));
        }
    }
}
