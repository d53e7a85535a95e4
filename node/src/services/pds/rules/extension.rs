//! Owns the rules of the Patient's extensions. Source: PATCH `/Patient/{id}`, "Communication", "Contact preferences",
//! "Death notification", "Pharmacy", "Place of birth"; POST `/Patient` for the registering authority.

use super::super::outcome::{Code, Issue};
use super::elements::Item;
use super::fields::extension;
use super::profile::Kind;
use super::{first_code, items, text};
use serde_json::Value;

/// The part of an extension with that url.
fn part<'a>(value: &'a Value, url: &str) -> Option<&'a Value> {
    items(value, "extension").iter().find(|part| text(part, "url") == url)
}

/// The status of a death notification: `1`, `2`, `U`, or empty.
pub fn death_status(notification: &Value) -> &str {
    first_code(part(notification, "deathNotificationStatus").and_then(|part| part.get("valueCodeableConcept")))
}

/// The rules of one extension by itself.
pub fn judge(item: &Item, issues: &mut Vec<Issue>) {
    let parts = items(item.value, "extension");
    for (index, one) in parts.iter().enumerate() {
        if parts[..index].iter().any(|other| other.get("url") == one.get("url")) {
            let path = format!("{}/extension/{index}", item.path);
            issues.push(Issue::at(
                Code::TooManyValuesSubmitted,
                path,
                "send each part of this extension once",
            ));
        }
    }
    match item.kind {
        Kind::Communication => needs(item, "language", issues),
        Kind::ContactPreference if part(item.value, "PreferredContactTimes").is_some() => {
            needs(item, "PreferredContactMethod", issues);
        }
        Kind::RegisteringAuthority => {
            needs(item, "registeringAuthorityType", issues);
            needs(item, "organisationIdentifier", issues);
        }
        Kind::DeathNotification => {
            needs(item, "deathNotificationStatus", issues);
            if item.stored.is_some_and(|stored| death_status(stored) == "2") {
                let advice = "leave this as it is, the death was formally notified";
                issues.push(Issue::at(Code::ForbiddenUpdate, item.path.clone(), advice));
            } else if death_status(item.value) == "2" {
                let advice = "send the informal status, only certain systems notify a death formally";
                issues.push(Issue::at(Code::ForbiddenUpdate, item.path.clone(), advice));
            }
        }
        Kind::BirthPlace => {
            let place = item.value.get("valueAddress").and_then(Value::as_object);
            if place.is_none_or(|place| place.is_empty()) {
                let path = format!("{}/valueAddress", item.path);
                issues.push(Issue::at(
                    Code::MissingValue,
                    path,
                    "add at least one of city, district and country",
                ));
            }
        }
        _ => {}
    }
}

fn needs(item: &Item, url: &str, issues: &mut Vec<Issue>) {
    if part(item.value, url).is_none() {
        let advice = format!("add the part whose url is {url}");
        issues.push(Issue::at(
            Code::MissingValue,
            format!("{}/extension", item.path),
            &advice,
        ));
    }
}

/// One of each extension that the profile knows.
pub fn only_one(value: &Value) -> Option<(&'static [&'static str], Code, &'static str)> {
    let advice = "replace the extension of this url, a patient has one of each";
    extension(text(value, "url")).map(|_| (&["url"][..], Code::InvalidUpdate, advice))
}
