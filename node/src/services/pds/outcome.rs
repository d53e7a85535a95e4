//! Owns the Spine error codes of the specification and the OperationOutcome that carries them. It must never know a
//! patient: an issue names an element and says what to do, and holds no value that a client sent or that is stored.
//!
//! Source: pds-fhir.bundled.yaml, the tables of errors under each operation and the schema `OperationOutcome`.

use serde_json::{Value, json};

/// The code system of every Spine code.
pub const CODE_SYSTEM: &str = "https://fhir.nhs.uk/R4/CodeSystem/Spine-ErrorOrWarningCode";

/// The most issues one answer carries.
pub const ISSUES_MAX: usize = 10;

/// A Spine code of the specification. One variant for each pair of code and HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// 400: the NHS number is not one.
    InvalidResourceId,
    /// 400: no NHS number, or no search parameters at all.
    UnsupportedService,
    /// 404: nothing is at this path.
    UnknownPath,
    /// 405: not by this method.
    MethodNotAllowed,
    /// 400: a header, a parameter or an element is missing.
    MissingValue,
    /// 400: a header, a parameter or an element has a value of the wrong form.
    InvalidValue,
    /// 403 with INVALID_VALUE: several results asked for in application-restricted access.
    InvalidValueForbidden,
    /// 400: a malformed patch, or one that breaks a rule.
    InvalidUpdate,
    /// 400: when no other code fits: the body as a whole is too large, or, to create, no JSON or too large a record.
    ValidationError,
    /// 400: a character outside the permitted ranges.
    UnsupportedCharactersInField,
    /// 400: an element or parameter that the profile does not have.
    AdditionalProperties,
    /// 400: a value that may be read and must not be set.
    UnsupportedValue,
    /// 400: fewer items than the profile demands.
    TooFewValuesSubmitted,
    /// 400: more items than the profile permits.
    TooManyValuesSubmitted,
    /// 401: token missing, invalid or expired, or the application lacks the operation.
    AccessDenied,
    /// 403 with ACCESS_DENIED: this caller may not do this.
    AccessDeniedPatient,
    /// 403: an element that this caller may not change so.
    ForbiddenUpdate,
    /// 404: no such patient.
    ResourceNotFound,
    /// 404: the record was invalidated and nothing superseded it.
    InvalidatedResource,
    /// 408: a read took longer than permitted, or a body did not arrive in time; nothing was changed.
    UnableToCallService,
    /// 409: `If-Match` names another version.
    ResourceVersionMismatch,
    /// 412: no usable `If-Match`.
    PreconditionFailed,
    /// 429: above the rate of the application.
    TooManyRequests,
    /// 503: try again with the same `X-Request-ID`; what became of a write may be unknown.
    ServiceUnavailable,
    /// 400: a combination of search parameters that is not permitted.
    InvalidSearchData,
    /// 200: the search matched too many.
    TooManyMatches,
    /// 200: not created, one record matches.
    SingleMatch,
    /// 200: not created, several records match.
    MultipleMatches,
}

impl Code {
    /// (HTTP status, FHIR issue code, Spine code, display) of a code.
    const fn row(self) -> (u16, &'static str, &'static str, &'static str) {
        match self {
            Code::InvalidResourceId => (400, "value", "INVALID_RESOURCE_ID", "Resource Id is invalid"),
            Code::UnsupportedService => (400, "not-supported", "UNSUPPORTED_SERVICE", "Unsupported Service"),
            Code::UnknownPath => (404, "not-supported", "UNSUPPORTED_SERVICE", "Unsupported Service"),
            Code::MethodNotAllowed => (405, "not-supported", "UNSUPPORTED_SERVICE", "Unsupported Service"),
            Code::MissingValue => (400, "required", "MISSING_VALUE", "Required value is missing"),
            Code::InvalidValue => (400, "value", "INVALID_VALUE", "Provided value is invalid"),
            Code::InvalidValueForbidden => (403, "forbidden", "INVALID_VALUE", "Provided value is invalid"),
            Code::InvalidUpdate => (400, "structure", "INVALID_UPDATE", "Update is invalid"),
            Code::ValidationError => (400, "invalid", "VALIDATION_ERROR", "Request is invalid"),
            Code::UnsupportedCharactersInField => (
                400,
                "value",
                "UNSUPPORTED_CHARACTERS_IN_FIELD",
                "Field contains unsupported characters",
            ),
            Code::AdditionalProperties => (400, "structure", "ADDITIONAL_PROPERTIES", "Additional properties sent"),
            Code::UnsupportedValue => (
                400,
                "code-invalid",
                "UNSUPPORTED_VALUE",
                "Provided value is not supported",
            ),
            Code::TooFewValuesSubmitted => (400, "structure", "TOO_FEW_VALUES_SUBMITTED", "Too few values submitted"),
            Code::TooManyValuesSubmitted => (
                400,
                "structure",
                "TOO_MANY_VALUES_SUBMITTED",
                "Too many values submitted",
            ),
            Code::AccessDenied => (401, "login", "ACCESS_DENIED", "Access denied"),
            Code::AccessDeniedPatient => (403, "forbidden", "ACCESS_DENIED", "Patient cannot perform this action"),
            Code::ForbiddenUpdate => (403, "forbidden", "FORBIDDEN_UPDATE", "Cannot update resource"),
            Code::ResourceNotFound => (404, "not-found", "RESOURCE_NOT_FOUND", "Resource not found"),
            Code::InvalidatedResource => (404, "deleted", "INVALIDATED_RESOURCE", "Resource has been invalidated"),
            Code::UnableToCallService => (408, "timeout", "UNABLE_TO_CALL_SERVICE", "Unable to call service"),
            Code::ResourceVersionMismatch => (
                409,
                "conflict",
                "RESOURCE_VERSION_MISMATCH",
                "Resource version mismatch",
            ),
            Code::PreconditionFailed => (
                412,
                "structure",
                "PRECONDITION_FAILED",
                "Required condition was not fulfilled",
            ),
            Code::TooManyRequests => (429, "throttled", "TOO_MANY_REQUESTS", "Too many requests"),
            Code::ServiceUnavailable => (503, "timeout", "SERVICE_UNAVAILABLE", "Service unavailable"),
            Code::InvalidSearchData => (400, "value", "INVALID_SEARCH_DATA", "Search data is invalid"),
            Code::TooManyMatches => (200, "multiple-matches", "TOO_MANY_MATCHES", "Too many matches found"),
            Code::SingleMatch => (200, "structure", "SINGLE_MATCH", "Single match found"),
            Code::MultipleMatches => (200, "structure", "MULTIPLE_MATCHES", "Multiple matches found"),
        }
    }

    /// The HTTP status of an answer whose first issue this is.
    pub const fn status(self) -> u16 {
        self.row().0
    }

    /// The FHIR issue type.
    pub const fn issue_code(self) -> &'static str {
        self.row().1
    }

    /// The code as the wire spells it.
    pub const fn text(self) -> &'static str {
        self.row().2
    }

    /// The display text of the code.
    pub const fn display(self) -> &'static str {
        self.row().3
    }
}

/// One thing that is wrong, or, for the codes of status 200, worth knowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// What kind of thing.
    pub code: Code,
    /// A sentence of ours that names the element and says what to do. Never a value.
    pub diagnostics: String,
    /// The element, as a path such as `name/0/family`.
    pub expression: Option<String>,
}

impl Issue {
    /// An issue about the request as a whole.
    pub fn new(code: Code, diagnostics: impl Into<String>) -> Issue {
        Issue {
            code,
            diagnostics: diagnostics.into(),
            expression: None,
        }
    }

    /// An issue at an element: the sentence is `path`, a colon and what to do.
    pub fn at(code: Code, path: impl Into<String>, advice: &str) -> Issue {
        let path = path.into();
        Issue {
            code,
            diagnostics: format!("{path}: {advice}"),
            expression: Some(path),
        }
    }
}

/// The FHIR OperationOutcome of at most [`ISSUES_MAX`] issues, in the order given.
///
/// `expression` stays inside: FHIR R4 wants a list there and the specification's schema a string, and the element
/// already opens the diagnostics, so the answer is valid under both without it.
pub fn operation_outcome(issues: &[Issue]) -> Value {
    let listed: Vec<Value> = issues.iter().take(ISSUES_MAX).map(listed_issue).collect();
    json!({"resourceType": "OperationOutcome", "issue": listed})
}

fn listed_issue(issue: &Issue) -> Value {
    let coding = json!({
        "system": CODE_SYSTEM, "version": "1", "code": issue.code.text(), "display": issue.code.display(),
    });
    json!({
        "severity": "error",
        "code": issue.code.issue_code(),
        "details": {"coding": [coding]},
        "diagnostics": issue.diagnostics,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_names_the_element_and_the_spine_code() {
        let issue = Issue::at(Code::InvalidValue, "name/0/use", "send one of usual, old");
        let outcome = operation_outcome(&[issue]);
        let expected = json!({"resourceType": "OperationOutcome", "issue": [{
            "severity": "error",
            "code": "value",
            "details": {"coding": [{
                "system": CODE_SYSTEM, "version": "1", "code": "INVALID_VALUE", "display": "Provided value is invalid",
            }]},
            "diagnostics": "name/0/use: send one of usual, old",
        }]});
        assert_eq!(outcome, expected);
    }

    #[test]
    fn an_outcome_carries_ten_issues_at_most() {
        let issues = vec![Issue::new(Code::InvalidUpdate, "again"); 11];
        assert_eq!(operation_outcome(&issues)["issue"].as_array().map(Vec::len), Some(10));
    }

    #[test]
    fn codes_that_share_a_spelling_differ_in_status() {
        assert_eq!(
            (Code::AccessDenied.status(), Code::AccessDeniedPatient.status()),
            (401, 403)
        );
        assert_eq!(Code::AccessDenied.text(), Code::AccessDeniedPatient.text());
        assert_eq!(
            (Code::TooManyMatches.status(), Code::ForbiddenUpdate.status()),
            (200, 403)
        );
    }
}
