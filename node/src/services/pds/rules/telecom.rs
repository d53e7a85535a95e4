//! Owns the rules of contact points and emergency contacts. Source: PATCH `/Patient/{id}`, "Telecom", "Emergency contact".

use super::super::outcome::{Code, Issue};
use super::elements::Item;
use super::{items, text};
use jiff::civil::Date;
use serde_json::Value;

/// An email address has more characters than this …
const EMAIL_ABOVE: usize = 6;
/// … and fewer than this.
const EMAIL_BELOW: usize = 90;

/// The rules of one contact point by itself.
pub fn judge(item: &Item, today: Date, issues: &mut Vec<Issue>) {
    for key in ["system", "use"] {
        if item.stored.is_some_and(|stored| stored.get(key) != item.value.get(key)) {
            let advice = "keep this as it is; for another, remove the contact point and add the other";
            issues.push(Issue::at(Code::InvalidUpdate, format!("{}/{key}", item.path), advice));
        }
    }
    point(item.value, &item.path, issues);
    item.period(today, issues);
}

/// The rules of one emergency contact by itself.
pub fn judge_contact(item: &Item, today: Date, issues: &mut Vec<Issue>) {
    for (index, telecom) in items(item.value, "telecom").iter().enumerate() {
        point(telecom, &format!("{}/telecom/{index}", item.path), issues);
    }
    item.period(today, issues);
}

fn point(telecom: &Value, path: &str, issues: &mut Vec<Issue>) {
    if text(telecom, "system") == "email" && !is_email(text(telecom, "value")) {
        let advice =
            format!("send an email address of more than {EMAIL_ABOVE} and fewer than {EMAIL_BELOW} characters");
        issues.push(Issue::at(Code::InvalidValue, format!("{path}/value"), &advice));
    }
    if !items(telecom, "extension").is_empty() && text(telecom, "system") != "other" {
        let advice = "leave out the other contact system, or set the system to other";
        issues.push(Issue::at(Code::InvalidUpdate, format!("{path}/extension"), advice));
    }
}

/// `local@domain` with a dot inside the domain and no blanks. Whether it exists, only a message would tell.
fn is_email(email: &str) -> bool {
    let count = email.chars().count();
    let (Some((local, domain)), true) = (email.rsplit_once('@'), count > EMAIL_ABOVE && count < EMAIL_BELOW) else {
        return false;
    };
    let local_fits =
        !local.is_empty() && !local.contains(['@', '"', '<', '>', '(', ')', ',', ';', ':', '\\', '[', ']']);
    let label = |label: &str| {
        let plain = label.chars().all(|c| c.is_alphanumeric() || c == '-');
        !label.is_empty() && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    let dots = !local.starts_with('.') && !local.ends_with('.') && !local.contains("..");
    let blank = email.contains(|c: char| c.is_whitespace() || c.is_control());
    local_fits && dots && !blank && domain.contains('.') && domain.split('.').all(label)
}

/// One contact point of each system and use.
pub fn only_one(_: &Value) -> Option<(&'static [&'static str], Code, &'static str)> {
    let advice = "replace the contact point of this system and use, a patient has one of each";
    Some((&["system", "use"], Code::InvalidUpdate, advice))
}
