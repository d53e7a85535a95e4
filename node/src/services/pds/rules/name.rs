//! Owns the rules of names. Source: PATCH `/Patient/{id}`, "Name".

use super::super::outcome::{Code, Issue};
use super::elements::Item;
use super::{items, text};
use jiff::civil::Date;
use serde_json::Value;

/// Titles that must be written exactly so.
const TITLES: [&str; 8] = ["Mr", "Mrs", "Ms", "Dr", "Rev", "Sir", "Lady", "Lord"];

/// The rules of one name by itself.
pub fn judge(item: &Item, today: Date, issues: &mut Vec<Issue>) {
    if item
        .stored
        .is_some_and(|stored| stored.get("use") != item.value.get("use"))
    {
        let advice = "keep the use of this name; to give it another, remove the name and add it anew";
        issues.push(Issue::at(Code::ForbiddenUpdate, format!("{}/use", item.path), advice));
    }
    for (index, prefix) in items(item.value, "prefix").iter().enumerate() {
        let prefix = prefix.as_str().unwrap_or("");
        if TITLES
            .iter()
            .any(|title| title.eq_ignore_ascii_case(prefix) && *title != prefix)
        {
            let advice = format!("write this title in one of the forms {}", TITLES.join(", "));
            issues.push(Issue::at(
                Code::InvalidValue,
                format!("{}/prefix/{index}", item.path),
                &advice,
            ));
        }
    }
    item.period(today, issues);
}

/// One usual name and one nickname.
pub fn only_one(name: &Value) -> Option<(&'static [&'static str], Code, &'static str)> {
    let advice = match text(name, "use") {
        "usual" => "replace the usual name, a patient has one",
        "nickname" => "replace the nickname, a patient has one",
        _ => return None,
    };
    Some((&["use"], Code::ForbiddenUpdate, advice))
}
