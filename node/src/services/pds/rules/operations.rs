//! Owns the reading of a patch request: its operations, their paths and their bounds, before any record is looked at.
//! It must never know a record.

use super::super::outcome::{Code, Issue};
use super::fields::{Field, OURS, field};
use super::{Mode, OPERATIONS_MAX, PATH_DEPTH_MAX, verdict};
use json_patch::jsonptr::{Pointer, PointerBuf};
use json_patch::{AddOperation, PatchOperation, RemoveOperation, ReplaceOperation, TestOperation};
use serde_json::Value;

/// The four operations that the specification supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Adds a value.
    Add,
    /// Replaces a value.
    Replace,
    /// Removes a value.
    Remove,
    /// Asserts a value.
    Test,
}

/// One operation of a patch request.
#[derive(Debug)]
pub struct Operation {
    /// Its place in the request, from 0.
    pub at: usize,
    /// What it does.
    pub verb: Verb,
    /// Where, decoded token by token. Never empty.
    pub tokens: Vec<String>,
    /// The element it begins with; `None` for an assertion about one that only the service sets.
    pub field: Option<&'static Field>,
    /// Where, as it was sent.
    pub path: PointerBuf,
    /// The value; null for a removal.
    pub value: Value,
}

impl Operation {
    /// An issue about this operation. It names the operation by its place: a path is the client's own text.
    pub fn issue(&self, code: Code, advice: &str) -> Issue {
        issue(self.at, code, advice)
    }

    /// The operation as `json-patch` takes it, its value moved out.
    pub fn take(&mut self) -> PatchOperation {
        let path = self.path.clone();
        let value = self.value.take();
        match self.verb {
            Verb::Add => PatchOperation::Add(AddOperation { path, value }),
            Verb::Replace => PatchOperation::Replace(ReplaceOperation { path, value }),
            Verb::Remove => PatchOperation::Remove(RemoveOperation { path }),
            Verb::Test => PatchOperation::Test(TestOperation { path, value }),
        }
    }
}

fn issue(at: usize, code: Code, advice: &str) -> Issue {
    Issue::at(code, format!("patches/{at}"), advice)
}

/// Reads the request's operations.
///
/// # Errors
/// In this order: INVALID_UPDATE when there is no list of patches or it is empty; TOO_MANY_VALUES_SUBMITTED above
/// [`OPERATIONS_MAX`]; then for every operation the first of: INVALID_UPDATE (no object, `op` unknown, `path` missing or
/// malformed or deeper than [`PATH_DEPTH_MAX`], `value` missing), FORBIDDEN_UPDATE (the whole record, or an element that
/// only the service sets), ADDITIONAL_PROPERTIES (an element that the profile does not have), FORBIDDEN_UPDATE (an
/// element that this access mode may not change).
pub fn read(body: &Value, mode: Mode) -> Result<Vec<Operation>, Vec<Issue>> {
    let refuse = |code, advice: &str| Err(vec![Issue::at(code, "patches", advice)]);
    let Some(sent) = body.get("patches").and_then(Value::as_array) else {
        return refuse(
            Code::InvalidUpdate,
            "send a list of JSON Patch operations under this name",
        );
    };
    if sent.is_empty() {
        return refuse(Code::InvalidUpdate, "send at least one operation");
    }
    if sent.len() > OPERATIONS_MAX {
        let advice = format!("send at most {OPERATIONS_MAX} operations in one request");
        return refuse(Code::TooManyValuesSubmitted, &advice);
    }
    let mut operations = Vec::with_capacity(sent.len());
    let mut issues = Vec::new();
    for (at, sent) in sent.iter().enumerate() {
        match one(at, sent, mode) {
            Ok(operation) => operations.push(operation),
            Err(issue) => issues.push(issue),
        }
    }
    verdict(issues)?;
    Ok(operations)
}

fn one(at: usize, sent: &Value, mode: Mode) -> Result<Operation, Issue> {
    let refuse = |code, advice: &str| Err(issue(at, code, advice));
    let verb = match sent.get("op").and_then(Value::as_str) {
        Some("add") => Verb::Add,
        Some("replace") => Verb::Replace,
        Some("remove") => Verb::Remove,
        Some("test") => Verb::Test,
        _ => return refuse(Code::InvalidUpdate, "set op to one of add, replace, remove, test"),
    };
    let Some(path) = sent.get("path").and_then(Value::as_str) else {
        return refuse(Code::InvalidUpdate, "set path to a JSON Pointer");
    };
    let Ok(pointer) = Pointer::parse(path) else {
        return refuse(
            Code::InvalidUpdate,
            "write path as a JSON Pointer that begins with a slash",
        );
    };
    if pointer.count() > PATH_DEPTH_MAX {
        return refuse(
            Code::InvalidUpdate,
            "shorten path, no element of a patient lies so deep",
        );
    }
    let value = match (verb, sent.get("value")) {
        (Verb::Remove, _) => Value::Null,
        (Verb::Add | Verb::Replace | Verb::Test, Some(value)) => value.clone(),
        (Verb::Add | Verb::Replace | Verb::Test, None) => {
            return refuse(Code::InvalidUpdate, "give this operation a value");
        }
    };
    let tokens: Vec<String> = pointer.tokens().map(|token| token.decoded().into_owned()).collect();
    let first = tokens.first().map_or("", String::as_str);
    let ours = tokens.is_empty() || OURS.contains(&first);
    if ours && (tokens.is_empty() || verb != Verb::Test) {
        return refuse(
            Code::ForbiddenUpdate,
            "change elements of the patient other than its identity, meta and type",
        );
    }
    let field = field(first);
    if field.is_none() && !ours {
        return refuse(
            Code::AdditionalProperties,
            "begin path with an element that the specification lets a client change",
        );
    }
    if mode == Mode::Patient && verb != Verb::Test && field.is_some_and(|field| !field.by_patient) {
        return refuse(
            Code::ForbiddenUpdate,
            "leave this out, patient access cannot change this element",
        );
    }
    let path = pointer.to_buf();
    Ok(Operation {
        at,
        verb,
        tokens,
        field,
        path,
        value,
    })
}
