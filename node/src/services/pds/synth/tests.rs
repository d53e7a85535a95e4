use super::*;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

fn lines(seed: u64, count: u64) -> Vec<u8> {
    let people = People::new(seed);
    let mut out = Vec::new();
    for index in 0..count {
        people.write(index, &mut out);
    }
    out
}

fn resources(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    text.lines().map(parse).collect()
}

#[test]
fn a_person_follows_from_seed_and_index_alone() {
    assert_eq!(lines(7, 300), lines(7, 300));
    assert_ne!(lines(7, 300), lines(8, 300));
    let whole = lines(7, 300);
    assert!(whole.starts_with(&lines(7, 100)));
    let mut one = Vec::new();
    People::new(7).write(250, &mut one);
    assert!(whole.windows(one.len()).any(|window| window == one));
}

#[test]
fn the_first_thousand_are_the_same_for_ever() {
    let digest = crate::base::Digest::of(&lines(1, 1_000));
    assert_eq!(
        hex::encode(digest.0),
        "6ab89cdde3f9cb392b26874939b7f41097f5d8cf40e840f7e6616fb283e743f4"
    );
}

#[test]
fn no_number_comes_twice_and_none_is_the_specifications() {
    let people = People::new(3);
    let mut seen = HashSet::new();
    for index in (0..200_000).chain(PEOPLE_MAX - 1_000..PEOPLE_MAX) {
        let number = people.number(index).to_string();
        assert!(NhsNumber::parse(&number).is_some());
        assert!(number.starts_with('9') && !number.starts_with("90000000"), "{number}");
        assert!(seen.insert(number));
    }
}

#[test]
fn the_stride_shares_no_divisor_with_the_number_of_people() {
    let (mut a, mut b) = (PEOPLE_MAX, STRIDE);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    assert_eq!(a, 1);
}

#[test]
fn the_numbers_of_kinds_are_as_said() {
    let all = resources(&lines(5, 40_000));
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut ids = HashSet::new();
    let mut families = HashSet::new();
    for resource in &all {
        let mut count = |what: &str| *counts.entry(what.to_owned()).or_default() += 1;
        count(resource["resourceType"].as_str().expect("a type"));
        if resource["resourceType"] != "Patient" {
            let whose = ["/patient/identifier/value", "/subscriber/identifier/value"];
            let number = whose.iter().find_map(|at| resource.pointer(at)).expect("whose");
            assert!(
                ids.contains(number.as_str().expect("text")),
                "it stands behind its patient"
            );
            continue;
        }
        count(resource["meta"]["security"][0]["code"].as_str().expect("a code"));
        ids.insert(resource["id"].as_str().expect("an id"));
        families.insert(resource["name"][0]["family"].as_str().expect("a family name"));
        if let Some(successor) = resource.pointer("/link/0/other/identifier/value") {
            count("superseded");
            assert!(ids.contains(successor.as_str().expect("text")));
        }
        if resource.get("deceasedDateTime").is_some() {
            count("dead");
            assert!(resource["deceasedDateTime"].as_str() >= resource["birthDate"].as_str());
        }
        if resource["birthDate"].as_str() > Some("2026-10-24") {
            count("born this week");
        }
        assert!(resource["birthDate"].as_str() <= Some("2026-11-01"));
    }
    for (what, low, high) in [
        ("Patient", 40_000, 40_000),
        ("RelatedPerson", 4_000, 6_000),
        ("Coverage", 400, 700),
        ("R", 150, 260),
        ("V", 8, 40),
        ("REDACTED", 360, 520),
        ("superseded", 320, 480),
        ("dead", 2_900, 3_500),
        ("born this week", 40, 160),
    ] {
        let count = counts.get(what).copied().unwrap_or(0);
        assert!((low..=high).contains(&count), "{what}: {count}");
    }
    assert!(families.len() > 600, "{} family names", families.len());
    assert!(families.iter().any(|name| name.contains('\'')));
    assert!(families.iter().any(|name| !name.is_ascii()));
    assert!(families.iter().all(|name| !name.contains('_')));
}

#[test]
fn every_patient_has_the_specifications_shape_and_only_drama_numbers() {
    let elements = [
        "resourceType",
        "id",
        "identifier",
        "meta",
        "name",
        "gender",
        "birthDate",
        "multipleBirthInteger",
        "deceasedDateTime",
        "address",
        "telecom",
        "contact",
        "generalPractitioner",
        "managingOrganization",
        "extension",
        "link",
    ];
    let mut all = resources(&lines(9, 5_000));
    all.extend(resources(WELL_KNOWN.as_bytes()));
    for resource in all.iter().filter(|resource| resource["resourceType"] == "Patient") {
        for element in resource.as_object().expect("an object").keys() {
            assert!(elements.contains(&element.as_str()), "{element}");
        }
        assert_eq!(resource["id"], resource["identifier"][0]["value"]);
        let empty = Vec::new();
        for telecom in resource["telecom"].as_array().unwrap_or(&empty) {
            let value = telecom["value"].as_str().expect("a value");
            let drama = value.starts_with("01632960") || value.starts_with("07700900");
            assert!(drama || value.ends_with("@example.com"), "{value}");
            assert!(
                value.is_ascii() && !value.contains(".@") && !value.contains(".."),
                "{value}"
            );
        }
        for address in resource["address"].as_array().unwrap_or(&empty) {
            let lines = address["line"].as_array().expect("lines");
            assert!((2..=5).contains(&lines.len()));
        }
        for name in resource["name"].as_array().expect("names") {
            assert!(
                name["family"]
                    .as_str()
                    .is_some_and(|family| family.chars().count() <= 35)
            );
        }
    }
}

#[test]
fn dates_are_the_calendars() {
    for (date, day) in [
        ((1970, 1, 1), 0),
        ((2000, 2, 29), 11_016),
        ((1900, 3, 1), -25_508),
        ((2026, 11, 1), 20_758),
    ] {
        assert_eq!(day_of(date.0, date.1, date.2), day);
        assert_eq!(draw::date_of(day), date);
    }
    for day in (-40_000..40_000).step_by(13) {
        let (year, month, date) = draw::date_of(day);
        assert_eq!(day_of(year, month, date), day);
    }
}

#[test]
fn the_well_known_patients_are_there_and_answer_the_specifications_searches() {
    let all = resources(WELL_KNOWN.as_bytes());
    let of_type = |name: &str| all.iter().filter(|r| r["resourceType"] == name).count();
    assert_eq!(
        (of_type("Patient"), of_type("RelatedPerson"), of_type("Coverage")),
        (7, 3, 1)
    );
    let found: Vec<&str> = all
        .iter()
        .filter(|r| r["resourceType"] == "Patient" && r["gender"] == "female" && r["birthDate"] == "2010-10-22")
        .filter(|r| {
            r["name"][0]["family"]
                .as_str()
                .is_some_and(|family| family.starts_with("Sm"))
        })
        .filter_map(|r| r["id"].as_str())
        .collect();
    assert_eq!(found, ["9000000009", "9000000017"]);
    for resource in all.iter().filter(|r| r["resourceType"] == "Patient") {
        assert!(resource["id"].as_str().and_then(NhsNumber::parse).is_some());
    }
}

/// `cargo test --release -- --ignored --nocapture synth::tests::speed`
#[test]
#[ignore = "a measurement"]
fn speed() {
    let people = People::new(1);
    let (mut out, mut bytes) = (Vec::new(), 0);
    let began = std::time::Instant::now();
    for index in 0..400_000 {
        out.clear();
        people.write(index, &mut out);
        bytes += out.len();
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{:.0} people/s, {:.0} bytes each",
        400_000.0 / seconds,
        bytes as f64 / 400_000.0
    );
}
