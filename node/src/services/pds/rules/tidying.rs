//! Owns what the service does to a value before it judges it: identifiers, default periods, trailing full stops, blank
//! address lines, effective times. It refuses nothing: a value of the wrong form is left for the structure to refuse.

use super::draft::{Draft, Slot, Touch};
use super::fields::{FIELDS, Shape, extension};
use super::profile::Kind;
use super::{items, text};
use jiff::civil::Date;
use serde_json::{Map, Value, json};

/// Tidies every touched element of a draft, and drops base-level lists that became empty.
pub fn tidy(draft: &mut Draft, today: Date, now: &str, ids: &mut dyn FnMut() -> String) {
    for (at, field) in FIELDS.iter().enumerate() {
        if draft.singles[at] && field.kind == Kind::Organization {
            if let Some(value) = draft.after.get_mut(field.name) {
                start_reference(value, today);
            }
        }
        let slots = std::mem::take(&mut draft.slots[at]);
        let taken = draft
            .before
            .get(field.name)
            .map_or(&[][..], |_| items(draft.before, field.name));
        if let Some(Value::Array(list)) = draft.after.get_mut(field.name) {
            let mut used: Vec<String> = taken.iter().map(|item| text(item, "id").to_owned()).collect();
            for (slot, item) in slots.iter().zip(list.iter_mut()) {
                tidy_item(field.kind, field.shape, *slot, item, today, now, &mut || {
                    fresh(ids, &mut used)
                });
            }
        }
        draft.slots[at] = slots;
        let touched = taken.len() != draft.slots[at].len();
        if touched && draft.slots[at].is_empty() {
            if let Some(record) = draft.after.as_object_mut() {
                record.remove(field.name);
            }
        }
    }
}

fn tidy_item(
    kind: Kind,
    shape: Shape,
    slot: Slot,
    item: &mut Value,
    today: Date,
    now: &str,
    ids: &mut dyn FnMut() -> String,
) {
    if slot.touch == Touch::None {
        return;
    }
    if slot.touch == Touch::Whole {
        start(kind, item, today);
    }
    let kind = extension(text(item, "url")).map_or(kind, |known| known.kind);
    value(kind, item, now);
    if slot.stored.is_none() && matches!(shape, Shape::List { key: "id", .. }) {
        if let Some(item) = item.as_object_mut() {
            item.insert("id".into(), Value::String(ids()));
        }
    }
}

/// An identifier that no item of the list has. `ids` that repeat themselves for ever end the search.
pub fn fresh(ids: &mut dyn FnMut() -> String, used: &mut Vec<String>) -> String {
    let mut id = ids();
    for _ in 0..16 {
        if !used.contains(&id) {
            break;
        }
        id = ids();
    }
    used.push(id.clone());
    id
}

/// Gives a new or wholly replaced element without a period one that starts today. Temporary and billing addresses must
/// bring their own.
pub fn start(kind: Kind, item: &mut Value, today: Date) {
    match kind {
        Kind::Practice => start_reference(item, today),
        Kind::Address if text(item, "use") != "home" => {}
        Kind::Name | Kind::Address | Kind::Telecom | Kind::Contact => {
            if let Some(item) = item.as_object_mut() {
                item.entry("period")
                    .or_insert_with(|| json!({"start": today.to_string()}));
            }
        }
        _ => {}
    }
}

fn start_reference(reference: &mut Value, today: Date) {
    if let Some(Value::Object(identifier)) = reference.get_mut("identifier") {
        identifier
            .entry("period")
            .or_insert_with(|| json!({"start": today.to_string()}));
    }
}

/// Puts a value into the form in which it is kept.
pub fn value(kind: Kind, item: &mut Value, now: &str) {
    let Some(item) = item.as_object_mut() else { return };
    match kind {
        Kind::Name => name(item),
        Kind::Address => address(item),
        // Pharmacies have no periods: there is one current instance of each type.
        Kind::Pharmacy => {
            if let Some(Value::Object(identifier)) =
                item.get_mut("valueReference").and_then(|r| r.get_mut("identifier"))
            {
                identifier.remove("period");
            }
        }
        Kind::DeathNotification => {
            if let Some(Value::Array(parts)) = item.get_mut("extension") {
                if !parts.iter().any(|part| text(part, "url") == "systemEffectiveDate") {
                    parts.push(json!({"url": "systemEffectiveDate", "valueDateTime": now}));
                }
            }
        }
        _ => {}
    }
}

fn name(name: &mut Map<String, Value>) {
    if let Some(Value::Array(prefixes)) = name.get_mut("prefix") {
        for prefix in prefixes {
            if let Value::String(prefix) = prefix {
                prefix.truncate(prefix.trim_end_matches('.').len());
            }
        }
    }
    // Only the first given name may hold several, separated by spaces.
    if let Some(Value::Array(given)) = name.get_mut("given") {
        let split = given
            .iter()
            .skip(1)
            .any(|given| given.as_str().is_some_and(|given| given.trim().contains(' ')));
        if split {
            let mut apart = Vec::new();
            for (at, given) in given.drain(..).enumerate() {
                match given {
                    Value::String(several) if at > 0 && several.trim().contains(' ') => {
                        apart.extend(several.split_whitespace().map(|one| Value::String(one.to_owned())));
                    }
                    other => apart.push(other),
                }
            }
            *given = apart;
        }
    }
}

/// Digits of a PAF key; a shorter one has lost its leading zeroes, as the specification's own example has.
pub const PAF_DIGITS: usize = 8;

fn address(address: &mut Map<String, Value>) {
    if let Some(Value::Array(lines)) = address.get_mut("line") {
        lines.retain(|line| line.as_str().is_none_or(|line| !line.trim().is_empty()));
        if lines.is_empty() {
            address.remove("line");
        }
    }
    for key in address
        .get_mut("extension")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let paf = items(key, "extension")
            .iter()
            .any(|part| part.pointer("/valueCoding/code") == Some(&Value::from("PAF")));
        for part in key
            .get_mut("extension")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if let Some(Value::String(digits)) = part.get_mut("valueString") {
                if paf && (1..PAF_DIGITS).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    *digits = format!("{digits:0>PAF_DIGITS$}");
                }
            }
        }
    }
}
