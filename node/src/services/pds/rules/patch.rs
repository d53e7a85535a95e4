//! Owns the order in which a patch is judged. Each step is elsewhere; this file is the list of them.

use super::super::outcome::{Code, Issue};
use super::draft::Draft;
use super::{Mode, RECORD_BYTES_MAX, elements, operations, text, tidying, verdict};
use jiff::civil::Date;
use serde_json::Value;
use std::io;

/// Applies the request body `patches` (`{"patches": [...]}`) to the stored Patient `before`, and returns the Patient as it
/// is to be stored; the caller sets its version. `today` is the day of the request, `now` its time as
/// `yyyy-mm-ddTHH:MM:SS+00:00`, and `ids` gives eight upper-case hexadecimal digits for each new item.
///
/// # Errors
/// The first step that finds something refuses, with everything that step found (at most ten issues):
/// 1. FORBIDDEN_UPDATE when the record is restricted: only certain systems update it, and none comes this way. It is the
///    first step because a `test` would otherwise answer questions about a hidden address.
/// 2. The request's shape, bounds, and the elements that the access mode may change: [`operations::read`].
/// 3. The operations one after the other, the first that fails: [`Draft::apply`] (list rules, access by value, whether
///    path and test fit the record).
/// 4. INVALID_UPDATE when an item was changed that the request did not name: [`Draft::proved`].
/// 5. What was touched is tidied: [`tidying::tidy`]. This refuses nothing.
/// 6. The structure of each touched element against the closed definitions.
/// 7. The rules of each touched element and between elements: [`elements::judge`].
/// 8. INVALID_UPDATE when the record would be larger than [`RECORD_BYTES_MAX`].
pub fn patch(
    before: &Value,
    patches: &Value,
    mode: Mode,
    today: Date,
    now: &str,
    ids: &mut dyn FnMut() -> String,
) -> Result<Value, Vec<Issue>> {
    if is_restricted(before) {
        let advice = "the record is restricted and cannot be changed through this interface";
        return Err(vec![Issue::new(Code::ForbiddenUpdate, advice)]);
    }
    let mut operations = operations::read(patches, mode)?;
    let mut draft = Draft::new(before, mode);
    let mut previous = None;
    for operation in &mut operations {
        draft.apply(operation, previous.as_ref()).map_err(|issue| vec![issue])?;
        previous = Some((operation.verb, std::mem::take(&mut operation.tokens)));
    }
    draft.proved().map_err(|issue| vec![issue])?;
    tidying::tidy(&mut draft, today, now, ids);
    verdict(elements::structure(&draft))?;
    verdict(elements::judge(&draft, today))?;
    if bytes(&draft.after) > RECORD_BYTES_MAX {
        let advice = format!("shorten the record, it may have at most {RECORD_BYTES_MAX} bytes");
        return Err(vec![Issue::new(Code::InvalidUpdate, advice)]);
    }
    Ok(draft.after)
}

/// True when the record's security label is R or V.
pub fn is_restricted(patient: &Value) -> bool {
    let labels = patient.pointer("/meta/security").and_then(Value::as_array);
    labels.is_some_and(|labels| labels.iter().any(|label| matches!(text(label, "code"), "R" | "V")))
}

struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How long a value is as JSON text.
pub fn bytes(value: &Value) -> usize {
    let mut counter = Counter(0);
    match serde_json::to_writer(&mut counter, value) {
        Ok(()) => counter.0,
        Err(_) => usize::MAX,
    }
}
