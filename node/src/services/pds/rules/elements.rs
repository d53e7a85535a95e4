//! Owns the round over a draft's touched elements: first their structure, then their rules, in the order of the table of
//! fields; and the rules of single values and organisations. It must never change a record.

use super::super::outcome::{Code, Issue};
use super::dates::{certainly_before, day, no_such_day, period};
use super::draft::{Draft, Slot, Touch};
use super::fields::{DEATH_NOTIFICATION, FIELDS, extension};
use super::profile::{self, Kind};
use super::{address, extension as extensions, items, name, telecom, text};
use jiff::civil::Date;
use serde_json::Value;

/// One touched item of a base-level list, with what stood there before.
pub struct Item<'a> {
    /// The definition that it must fit.
    pub kind: Kind,
    /// Its path in the changed record.
    pub path: String,
    /// As it is to be.
    pub value: &'a Value,
    /// As it is stored; `None` for an added one.
    pub stored: Option<&'a Value>,
}

impl Item<'_> {
    /// Judges the period, unless it is the stored one.
    pub fn period(&self, today: Date, issues: &mut Vec<Issue>) {
        let stored = self.stored.and_then(|stored| stored.get("period"));
        if let Some(sent) = self.value.get("period").filter(|sent| Some(*sent) != stored) {
            period(sent, &format!("{}/period", self.path), today, issues);
        }
    }
}

/// The definition of an item: an extension's is chosen by its url.
pub fn kind_of(kind: Kind, value: &Value) -> Kind {
    if kind != Kind::Unknown {
        return kind;
    }
    extension(text(value, "url")).map_or(Kind::Unknown, |known| known.kind)
}

fn touched<'a>(draft: &'a Draft, at: usize) -> Vec<Item<'a>> {
    let field = &FIELDS[at];
    let mut found = Vec::new();
    for (index, (value, slot)) in items(&draft.after, field.name).iter().zip(&draft.slots[at]).enumerate() {
        if slot.touch == Touch::None {
            continue;
        }
        found.push(Item {
            kind: kind_of(field.kind, value),
            path: format!("{}/{index}", field.name),
            value,
            stored: slot
                .stored
                .and_then(|stored| items(draft.before, field.name).get(stored)),
        });
    }
    found
}

/// What is wrong with the structure of the touched elements.
pub fn structure(draft: &Draft) -> Vec<Issue> {
    let mut issues = Vec::new();
    for (at, field) in FIELDS.iter().enumerate() {
        if draft.singles[at] {
            if let Some(value) = draft.after.get(field.name) {
                issues.extend(profile::structure(
                    field.kind,
                    value,
                    field.name,
                    draft.before.get(field.name),
                ));
            }
        }
        for item in touched(draft, at) {
            issues.extend(item_structure(&item));
        }
    }
    issues
}

/// What is wrong with the structure of one item.
pub fn item_structure(item: &Item) -> Vec<Issue> {
    if item.kind == Kind::Unknown && text(item.value, "url").is_empty() {
        return vec![Issue::at(
            Code::MissingValue,
            format!("{}/url", item.path),
            "add this, it is required",
        )];
    }
    profile::structure(item.kind, item.value, &item.path, item.stored)
}

/// What the touched elements break of the rules, their structure being right.
pub fn judge(draft: &Draft, today: Date) -> Vec<Issue> {
    let mut issues = Vec::new();
    for (at, field) in FIELDS.iter().enumerate() {
        if draft.singles[at] && field.kind == Kind::Organization {
            if let Some(value) = draft.after.get(field.name) {
                reference(value, draft.before.get(field.name), field.name, today, &mut issues);
            }
        }
        let found = touched(draft, at);
        for item in &found {
            judge_item(item, today, &mut issues);
        }
        if !found.is_empty() {
            let (now, was) = (items(&draft.after, field.name), items(draft.before, field.name));
            between(field.kind, now, was, &draft.slots[at], field.name, &mut issues);
        }
    }
    life(draft, today, &mut issues);
    issues
}

/// The rules of one item by itself.
pub fn judge_item(item: &Item, today: Date, issues: &mut Vec<Issue>) {
    match item.kind {
        Kind::Name => name::judge(item, today, issues),
        Kind::Address => address::judge(item, today, issues),
        Kind::Telecom => telecom::judge(item, today, issues),
        Kind::Contact => telecom::judge_contact(item, today, issues),
        Kind::Practice => {
            reference(item.value, item.stored, &item.path, today, issues);
            if item.value.pointer("/identifier/period/end").is_some() {
                let path = format!("{}/identifier/period/end", item.path);
                issues.push(Issue::at(
                    Code::InvalidUpdate,
                    path,
                    "leave out the end of a general practice",
                ));
            }
        }
        Kind::DeathNotification
        | Kind::Communication
        | Kind::ContactPreference
        | Kind::BirthPlace
        | Kind::RegisteringAuthority => extensions::judge(item, issues),
        _ => {}
    }
}

/// The rules between the items of one list: at most one of each, where that is so. Only an item that was added, or that
/// became another's double, breaks them; what is stored twice stays.
pub fn between(kind: Kind, list: &[Value], stored: &[Value], slots: &[Slot], field: &str, issues: &mut Vec<Issue>) {
    if kind == Kind::Practice && list.len() > 1 {
        let advice = "keep one general practice, replace the present one";
        issues.push(Issue::at(Code::TooManyValuesSubmitted, field, advice));
    }
    for (index, (value, slot)) in list.iter().zip(slots).enumerate() {
        let only = match kind {
            Kind::Name => name::only_one(value),
            Kind::Address => address::only_one(value),
            Kind::Telecom => telecom::only_one(value),
            Kind::Unknown => extensions::only_one(value),
            _ => None,
        };
        let Some((member, code, advice)) = only else {
            continue;
        };
        let same = |other: &Value| member.iter().all(|key| other.get(key) == value.get(key));
        let was_so = slot.stored.and_then(|at| stored.get(at)).is_some_and(same);
        let twice = list
            .iter()
            .enumerate()
            .any(|(other, sibling)| other != index && same(sibling));
        if twice && !was_so {
            issues.push(Issue::at(code, format!("{field}/{index}"), advice));
        }
    }
}

fn reference(value: &Value, stored: Option<&Value>, path: &str, today: Date, issues: &mut Vec<Issue>) {
    let place = "/identifier/period";
    let sent = value.pointer(place);
    if let Some(sent) = sent.filter(|_| sent != stored.and_then(|stored| stored.pointer(place))) {
        period(sent, &format!("{path}{place}"), today, issues);
    }
}

/// Birth, death and the notification of death.
fn life(draft: &Draft, today: Date, issues: &mut Vec<Issue>) {
    let (born, died) = (text(&draft.after, "birthDate"), text(&draft.after, "deceasedDateTime"));
    let changed = |name: &str| draft.before.get(name) != draft.after.get(name);
    for (name, value) in [("birthDate", born), ("deceasedDateTime", died)] {
        if changed(name) {
            match day(value) {
                None => issues.push(no_such_day(name.into())),
                Some(day) if day > today => {
                    issues.push(Issue::at(
                        Code::InvalidUpdate,
                        name,
                        "send a date that is not in the future",
                    ));
                }
                Some(_) => {}
            }
        }
    }
    if (changed("birthDate") || changed("deceasedDateTime")) && !died.is_empty() && certainly_before(died, born) {
        let (name, advice) = match changed("deceasedDateTime") {
            true => ("deceasedDateTime", "send a death that is not before the birth"),
            false => ("birthDate", "send a birth that is not after the death"),
        };
        issues.push(Issue::at(Code::InvalidUpdate, name, advice));
    }
    let notification = |record| {
        items(record, "extension")
            .iter()
            .find(|e| text(e, "url") == DEATH_NOTIFICATION)
    };
    let (before, after) = (notification(draft.before), notification(&draft.after));
    let formal = before.is_some_and(|notification| extensions::death_status(notification) == "2");
    if formal && changed("deceasedDateTime") {
        let advice = "leave this as it is, the death was formally notified";
        issues.push(Issue::at(Code::ForbiddenUpdate, "deceasedDateTime", advice));
    }
    if draft.before.get("deceasedDateTime").is_none() && !died.is_empty() && after.is_none() {
        let advice = "add a death notification status together with the date of death";
        issues.push(Issue::at(Code::InvalidUpdate, "deceasedDateTime", advice));
    }
    if before.is_none() && after.is_some() && died.is_empty() {
        let advice = "add the date of death together with a death notification status";
        issues.push(Issue::at(Code::InvalidUpdate, "extension", advice));
    }
}
