//! Owns the arithmetic of dates in records: real calendar days, periods, and partial dates. It must never read a clock.

use super::super::outcome::{Code, Issue};
use super::text;
use jiff::ToSpan;
use jiff::civil::Date;
use serde_json::Value;

/// The calendar day that `text` begins with: `yyyy-mm-dd`, alone or before a time. `None` when there is no such day.
pub fn day(text: &str) -> Option<Date> {
    let bytes = text.as_bytes().get(..10)?;
    let number = |from: usize, to: usize| {
        bytes[from..to].iter().try_fold(0_i16, |sum, byte| {
            byte.is_ascii_digit().then(|| sum * 10 + i16::from(byte - b'0'))
        })
    };
    if bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let (month, day) = (i8::try_from(number(5, 7)?).ok()?, i8::try_from(number(8, 10)?).ok()?);
    Date::new(number(0, 4)?, month, day).ok()
}

/// True when `earlier` is certainly before `later`, as far as both are known: a legacy date may be a year or a month.
pub fn certainly_before(earlier: &str, later: &str) -> bool {
    let known = earlier.len().min(later.len()).min(10);
    match (earlier.get(..known), later.get(..known)) {
        (Some(earlier), Some(later)) => earlier < later,
        _ => false,
    }
}

/// Judges a period of the profile's structure: both days exist, the start is not after `today`, the end not before it.
pub fn period(period: &Value, path: &str, today: Date, issues: &mut Vec<Issue>) {
    let mut read = |key: &str| {
        let written = text(period, key);
        let found = day(written);
        if found.is_none() && !written.is_empty() {
            issues.push(no_such_day(format!("{path}/{key}")));
        }
        found
    };
    let (start, end) = (read("start"), read("end"));
    if start.is_some_and(|start| start > today) {
        let advice = "send a start that is not in the future";
        issues.push(Issue::at(Code::InvalidUpdate, format!("{path}/start"), advice));
    }
    if let (Some(start), Some(end)) = (start, end) {
        if end < start {
            let advice = "send an end that is not before the start";
            issues.push(Issue::at(Code::InvalidUpdate, format!("{path}/end"), advice));
        }
    }
}

/// True when the period lasts more than `days_max` days.
pub fn longer_than(period: &Value, days_max: i32) -> bool {
    match (day(text(period, "start")), day(text(period, "end"))) {
        (Some(start), Some(end)) => start.checked_add(days_max.days()).is_ok_and(|last| end > last),
        _ => false,
    }
}

/// The issue of a date that the calendar does not have.
pub fn no_such_day(path: String) -> Issue {
    Issue::at(Code::InvalidValue, path, "send a day that the calendar has")
}
