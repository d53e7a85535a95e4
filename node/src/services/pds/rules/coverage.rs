//! Owns the judgement of a request to store a patient's EHIC details. Source: POST `/Coverage`, schema `Coverage`.

use super::super::outcome::{Code, Issue};
use super::dates::{day, no_such_day};
use super::profile::{self, Kind};
use super::{is_nhs_number, text, verdict};
use jiff::ToSpan;
use jiff::civil::Date;
use serde_json::Value;

/// The expiry lies within so many years of today, in both directions.
const YEARS_MAX: i32 = 150;

/// The NHS number that the request is about and the Coverage to keep.
///
/// # Errors
/// The structure, with all that is wrong; then INVALID_RESOURCE_ID; then INVALID_VALUE of the expiry.
pub fn coverage(body: &Value, today: Date) -> Result<(String, Value), Vec<Issue>> {
    verdict(profile::structure(Kind::Coverage, body, "", None))?;
    let number = body
        .pointer("/subscriber/identifier/value")
        .and_then(Value::as_str)
        .unwrap_or("");
    if !is_nhs_number(number) {
        let path = "subscriber/identifier/value";
        return Err(vec![Issue::at(
            Code::InvalidResourceId,
            path,
            "send a valid NHS number",
        )]);
    }
    let Some(end) = body.get("period").and_then(|period| day(text(period, "end"))) else {
        return Err(vec![no_such_day("period/end".into())]);
    };
    let span = YEARS_MAX.years();
    let after_first = today.checked_sub(span).is_ok_and(|first| end > first);
    let before_last = today.checked_add(span).is_ok_and(|last| end < last);
    if !(after_first && before_last) {
        let advice = format!("send an expiry less than {YEARS_MAX} years from today");
        return Err(vec![Issue::at(Code::InvalidValue, "period/end", &advice)]);
    }
    let mut kept = body.clone();
    if let Some(kept) = kept.as_object_mut() {
        kept.insert("resourceType".into(), Value::from("Coverage"));
    }
    Ok((number.to_owned(), kept))
}
