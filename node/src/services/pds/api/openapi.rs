//! Our own OpenAPI document of PDS, made from the table of calls and the table of codes. The golden file `openapi.json`
//! beside the module is compared in the tests.

use super::BODY_BYTES_MAX;
use super::access::SCOPE;
use super::routes::{BASE, Call, May, ROUTES, Route};
use crate::services::pds::matching::query::PARAMETERS;
use crate::services::pds::outcome::Code;
use serde_json::{Map, Value, json};

/// What every call may refuse.
const ALWAYS: [Code; 6] = [
    Code::MissingValue,
    Code::InvalidValue,
    Code::AccessDenied,
    Code::UnableToCallService,
    Code::TooManyRequests,
    Code::ServiceUnavailable,
];
/// What a call about one number may refuse beside that.
const NUMBERED: [Code; 4] = [
    Code::InvalidResourceId,
    Code::AccessDeniedPatient,
    Code::ResourceNotFound,
    Code::InvalidatedResource,
];
/// What a call that changes a version may refuse beside that.
const VERSIONED: [Code; 4] = [
    Code::InvalidUpdate,
    Code::ForbiddenUpdate,
    Code::ResourceVersionMismatch,
    Code::PreconditionFailed,
];
/// What a body may be refused for.
const BODIES: [Code; 6] = [
    Code::ValidationError,
    Code::UnsupportedCharactersInField,
    Code::AdditionalProperties,
    Code::UnsupportedValue,
    Code::TooFewValuesSubmitted,
    Code::TooManyValuesSubmitted,
];

/// Everything a call may answer instead of what it was asked for.
fn codes(call: Call) -> Vec<Code> {
    let own: Vec<&[Code]> = match call {
        Call::Search => vec![&[
            Code::InvalidSearchData,
            Code::UnsupportedService,
            Code::AdditionalProperties,
            Code::InvalidValueForbidden,
            Code::AccessDeniedPatient,
            Code::TooManyMatches,
        ]],
        Call::Create => vec![
            &BODIES,
            &[Code::AccessDeniedPatient, Code::SingleMatch, Code::MultipleMatches],
        ],
        Call::Read | Call::Related => vec![&NUMBERED, &[Code::UnsupportedService]],
        Call::Update => vec![&NUMBERED, &VERSIONED, &BODIES, &[Code::UnsupportedService]],
        Call::ReadCoverage => vec![&NUMBERED, &[Code::InvalidSearchData]],
        Call::PutCoverage => vec![&NUMBERED, &VERSIONED, &BODIES],
    };
    let mut codes: Vec<Code> = ALWAYS.into_iter().chain(own.into_iter().flatten().copied()).collect();
    codes.sort_by_key(|code| (code.status(), code.text()));
    codes
}

/// The document.
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in &ROUTES {
        let path = paths
            .entry(format!("{BASE}{}", route.path))
            .or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.0.2",
        "info": {
            "title": "Vertebra: demographics",
            "version": "1.0.0",
            "description": "Patients by NHS number, FHIR R4. Generated from the table that the router uses.",
        },
        "paths": paths,
        "components": {
            "schemas": {"OperationOutcome": outcome()},
            "securitySchemes": {"token": {
                "type": "http", "scheme": "bearer",
                "description": format!("an access token with the scope {SCOPE}"),
            }},
        },
        "security": [{"token": []}],
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters = vec![
        header(
            "X-Request-ID",
            true,
            "UUID; mirrored; a write with it happens at most once within 24 hours",
        ),
        header("X-Correlation-ID", false, "at most 255 characters; mirrored"),
        header(
            "NHSD-Session-URID",
            false,
            "the role of a healthcare worker; must be the token's",
        ),
        header(
            "NHSD-End-User-Organisation-ODS",
            false,
            "on whose behalf; kept in the audit",
        ),
    ];
    if route.path.contains("{id}") {
        parameters.push(parameter("path", "id", true, "NHS number, ten digits"));
    }
    match route.call {
        Call::Search => parameters.extend(
            PARAMETERS
                .iter()
                .map(|name| parameter("query", name, false, "see the specification")),
        ),
        Call::ReadCoverage => parameters.push(parameter("query", "subscriber:identifier", true, "NHS number")),
        Call::Update | Call::PutCoverage => {
            parameters.push(header("If-Match", true, "the version that the change follows, W/\"2\""));
        }
        Call::Create | Call::Read | Call::Related => {}
    }
    let mut operation = json!({
        "summary": summary(route.call),
        "parameters": parameters,
        "responses": responses(route.call),
        "x-callers": {
            "application": may(route.application),
            "healthcare worker": may(route.worker),
            "patient": may(route.patient),
        },
    });
    let body = match route.call {
        Call::Update => Some("application/json-patch+json"),
        Call::Create | Call::PutCoverage => Some("application/json"),
        Call::Search | Call::Read | Call::Related | Call::ReadCoverage => None,
    };
    if let Some(media_type) = body {
        operation["requestBody"] = json!({
            "required": true,
            "description": format!("at most {BODY_BYTES_MAX} bytes"),
            "content": {media_type: {"schema": {"type": "object"}}},
        });
    }
    operation
}

const fn summary(call: Call) -> &'static str {
    match call {
        Call::Search => "Find patients",
        Call::Create => "Create a patient, unless a record matches",
        Call::Read => "A patient",
        Call::Update => "Change a patient by a JSON Patch, all of it or nothing",
        Call::Related => "A patient's related people",
        Call::ReadCoverage => "A patient's EHIC details",
        Call::PutCoverage => "Replace a patient's EHIC details",
    }
}

const fn may(may: May) -> &'static str {
    match may {
        May::Any => "any record",
        May::Own => "the own record",
        May::NotConfigured => "refused with 401",
        May::Forbidden => "refused with 403",
    }
}

fn header(name: &str, required: bool, meaning: &str) -> Value {
    parameter("header", name, required, meaning)
}

fn parameter(place: &str, name: &str, required: bool, meaning: &str) -> Value {
    json!({"in": place, "name": name, "required": required, "description": meaning, "schema": {"type": "string"}})
}

fn responses(call: Call) -> Value {
    let fhir = |schema: Value| json!({"application/fhir+json": {"schema": schema}});
    let success = match call {
        Call::Create | Call::PutCoverage => 201,
        Call::Search | Call::Read | Call::Update | Call::Related | Call::ReadCoverage => 200,
    };
    let mut responses: Map<String, Value> = Map::new();
    responses.insert(
        success.to_string(),
        json!({"description": "done", "content": fhir(json!({"type": "object"}))}),
    );
    for code in codes(call) {
        let response = responses.entry(code.status().to_string()).or_insert_with(|| {
            json!({
                "description": "",
                "content": fhir(json!({"$ref": "#/components/schemas/OperationOutcome"})),
            })
        });
        let before = response["description"].as_str().unwrap_or_default().to_owned();
        let comma = if before.is_empty() { "" } else { ", " };
        response["description"] = json!(format!("{before}{comma}{}", code.text()));
    }
    Value::Object(responses)
}

fn outcome() -> Value {
    json!({
        "type": "object",
        "required": ["resourceType", "issue"],
        "properties": {
            "resourceType": {"type": "string", "enum": ["OperationOutcome"]},
            "issue": {"type": "array", "minItems": 1, "items": {
                "type": "object",
                "required": ["severity", "code", "details", "diagnostics"],
                "properties": {
                    "severity": {"type": "string", "enum": ["error"]},
                    "code": {"type": "string"},
                    "details": {"type": "object"},
                    "diagnostics": {"type": "string", "description": "names the element and says what to do; never a value"},
                },
            }},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::document;

    /// Writes the golden file anew when the environment says so: `VERTEBRA_GOLDEN=write cargo test -p vertebra openapi`.
    #[test]
    fn the_document_is_the_golden_file() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/services/pds/openapi.json");
        let text = serde_json::to_string_pretty(&document()).expect("a document is JSON") + "\n";
        if std::env::var_os("VERTEBRA_GOLDEN").is_some_and(|what| what == "write") {
            std::fs::write(path, &text).expect("the golden file is written");
        }
        let golden = std::fs::read_to_string(path).expect("openapi.json is beside the module");
        assert!(
            golden == text,
            "the calls changed: look at the difference, then write openapi.json anew"
        );
    }
}
