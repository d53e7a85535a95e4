//! Owns the rules of addresses. Source: PATCH `/Patient/{id}`, "Address".

use super::super::outcome::{Code, Issue};
use super::dates::longer_than;
use super::elements::Item;
use super::tidying::PAF_DIGITS;
use super::{items, text};
use jiff::civil::Date;
use serde_json::Value;

/// Uses that need a period with both ends, the days it may last, and whether a description must say what they are.
const PASSING: [(&str, i32, bool); 2] = [("temp", 90, true), ("billing", 366, false)];

/// Pseudo postcodes of the Office for National Statistics begin so; with one, no line is needed.
const PSEUDO_POSTCODE: &str = "ZZ99";

/// The rules of one address by itself.
pub fn judge(item: &Item, today: Date, issues: &mut Vec<Issue>) {
    let (value, path) = (item.value, &item.path);
    for (of, days_max, described) in PASSING {
        if text(value, "use") != of {
            continue;
        }
        for end in ["start", "end"] {
            if value.get("period").is_none_or(|period| text(period, end).is_empty()) {
                let advice = "add this, a temporary or billing address needs the start and the end of its period";
                issues.push(Issue::at(Code::MissingValue, format!("{path}/period/{end}"), advice));
            }
        }
        if value.get("period").is_some_and(|period| longer_than(period, days_max)) {
            let advice = format!("send an end at most {days_max} days after the start");
            issues.push(Issue::at(Code::InvalidUpdate, format!("{path}/period/end"), &advice));
        }
        if described && text(value, "text").is_empty() {
            let advice = "add the kind of temporary address, from the specification's list";
            issues.push(Issue::at(Code::MissingValue, format!("{path}/text"), advice));
        }
    }
    // There is no address file here to fill in lines from a PAF key.
    if items(value, "line").is_empty()
        && !text(value, "postalCode")
            .to_ascii_uppercase()
            .starts_with(PSEUDO_POSTCODE)
    {
        let advice = "add address lines, or a pseudo postcode such as that for no fixed abode";
        issues.push(Issue::at(Code::MissingValue, format!("{path}/line"), advice));
    }
    keys(value, path, issues);
    item.period(today, issues);
}

/// A PAF key has eight digits; of each kind of key there is one; a key has both its parts.
fn keys(address: &Value, path: &str, issues: &mut Vec<Issue>) {
    let mut seen = Vec::new();
    for (index, key) in items(address, "extension").iter().enumerate() {
        let path = format!("{path}/extension/{index}");
        let part = |url: &str| items(key, "extension").iter().find(|part| text(part, "url") == url);
        let kind = part("type")
            .and_then(|part| part.get("valueCoding"))
            .map_or("", |coding| text(coding, "code"));
        let digits = part("value").map_or("", |part| text(part, "valueString")).len();
        if kind.is_empty() || digits == 0 {
            issues.push(Issue::at(
                Code::MissingValue,
                path,
                "send the type and the value of an address key, one each",
            ));
            continue;
        }
        if seen.contains(&kind) {
            let advice = "send at most one PAF key and one UPRN";
            issues.push(Issue::at(Code::TooManyValuesSubmitted, path.clone(), advice));
        }
        if kind == "PAF" && digits != PAF_DIGITS {
            issues.push(Issue::at(
                Code::InvalidValue,
                path,
                "send the eight digits of the PAF key",
            ));
        }
        seen.push(kind);
    }
}

/// One address of each use.
pub fn only_one(address: &Value) -> Option<(&'static [&'static str], Code, &'static str)> {
    let advice = "replace the address of this use, a patient has one of each";
    matches!(text(address, "use"), "home" | "temp" | "billing").then_some((&["use"], Code::InvalidUpdate, advice))
}
