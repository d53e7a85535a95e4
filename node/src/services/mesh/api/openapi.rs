//! Our own OpenAPI document of MESH, generated from the table of routes, so that it says what the router does. The golden
//! file `openapi.json` beside the module is compared in the tests.

use super::errors::Refused;
use super::routes::{Does, HeaderRule, QueryRule, ROUTES, Route, Segment};
use crate::base::limits::REQUEST_BODY_BYTES_MAX;
use serde_json::{Map, Value, json};

/// The document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.template()).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.0.2",
        "info": {
            "title": "Vertebra: message exchange",
            "version": "2.0.0",
            "description": "Versions 1 and 2 of the answers are chosen by the Accept header. Generated from the table that the router uses.",
        },
        "paths": paths,
        "components": {"schemas": {"ErrorV1": error_v1(), "ErrorV2": error_v2()}},
        "x-refusals": refusals(),
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<Value> = route
        .path
        .iter()
        .filter_map(|segment| path_parameter(*segment))
        .collect();
    parameters.extend(route.query.iter().map(|rule| query_parameter(rule)));
    if let Some(token) = token(route) {
        parameters.push(token);
    }
    parameters.push(header(
        "accept",
        false,
        1000,
        "application/json, or application/vnd.mesh.v2+json for version 2",
    ));
    parameters.extend(route.headers.iter().map(header_parameter));
    let responses: Map<String, Value> = route
        .statuses
        .iter()
        .map(|status| (status.to_string(), response(*status)))
        .collect();
    let mut operation = json!({"summary": route.summary, "parameters": parameters, "responses": responses});
    if route.deprecated {
        operation["deprecated"] = json!(true);
    }
    if route.template().contains("/outbox") && route.method == ::http::Method::POST {
        operation["requestBody"] = json!({
            "required": true,
            "description": format!("at most {REQUEST_BODY_BYTES_MAX} bytes"),
            "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
        });
    }
    operation
}

fn token(route: &Route) -> Option<Value> {
    let meaning = "NHSMESH mailbox:nonce:nonce_count:yyyyMMddHHmm:hash; valid once, within 2 hours";
    match route.does {
        Does::Open(_) | Does::Test(_) => None,
        Does::Read(_) | Does::Write(_) => Some(header("authorization", true, 500, meaning)),
        Does::LookUp(_) => Some(header("authorization", false, 500, meaning)),
    }
}

fn path_parameter(segment: Segment) -> Option<Value> {
    let schema = match segment {
        Segment::ChunkNumber => json!({"type": "integer", "minimum": 1}),
        _ => json!({"type": "string", "minLength": 1}),
    };
    segment
        .parameter()
        .map(|name| json!({"in": "path", "name": name, "required": true, "schema": schema}))
}

fn query_parameter(rule: &QueryRule) -> Value {
    let schema = if rule.number {
        json!({"type": "integer", "minimum": rule.min, "maximum": rule.max})
    } else {
        json!({"type": "string", "minLength": rule.min, "maxLength": rule.max})
    };
    let (name, required, meaning) = (rule.name, rule.required, rule.meaning);
    json!({"in": "query", "name": name, "required": required, "description": meaning, "schema": schema})
}

fn header_parameter(rule: &HeaderRule) -> Value {
    header(rule.text, rule.required, rule.chars_max, rule.meaning)
}

fn header(name: &str, required: bool, chars_max: usize, meaning: &str) -> Value {
    let schema = json!({"type": "string", "maxLength": chars_max});
    json!({"in": "header", "name": name, "required": required, "description": meaning, "schema": schema})
}

fn response(status: u16) -> Value {
    let reason = ::http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason());
    let description = reason.unwrap_or("see the status");
    if status < 300 {
        return json!({"description": description});
    }
    json!({
        "description": description,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/ErrorV1"}},
            "application/vnd.mesh.v2+json": {"schema": {"$ref": "#/components/schemas/ErrorV2"}},
        },
    })
}

fn fields() -> Value {
    json!({
        "loc": {"type": "array", "items": {"type": "string"}},
        "msg": {"type": "string"},
        "type": {"type": "string"},
        "event": {"type": "string"},
        "code": {"type": "string"},
    })
}

fn error_v1() -> Value {
    json!({
        "type": "object",
        "required": ["errorEvent", "errorCode", "errorDescription"],
        "properties": {
            "messageID": {"type": "string"},
            "errorEvent": {"type": "string"},
            "errorCode": {"type": "string"},
            "errorDescription": {"type": "string"},
            "detail": {"type": "array", "items": {"type": "object", "properties": fields()}},
        },
    })
}

fn error_v2() -> Value {
    json!({
        "type": "object",
        "required": ["internal_id", "detail"],
        "properties": {
            "message_id": {"type": "string"},
            "internal_id": {"type": "string"},
            "detail": {"type": "array", "items": {"type": "object", "required": ["msg"], "properties": fields()}},
        },
    })
}

fn refusals() -> Value {
    let refusal = |refused: &Refused| {
        let terms = refused.terms();
        json!({
            "status": terms.status.as_u16(),
            "event": terms.event,
            "code": terms.code,
            "msg": terms.sentence,
        })
    };
    Refused::ALL.iter().map(refusal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes the golden file anew when the environment says so: `VERTEBRA_GOLDEN=write cargo test -p vertebra openapi`.
    #[test]
    fn the_document_is_the_golden_file() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/services/mesh/openapi.json");
        let text = format!("{}\n", serde_json::to_string_pretty(&document()).expect("JSON"));
        if std::env::var_os("VERTEBRA_GOLDEN").is_some() {
            std::fs::write(path, &text).expect("the source tree is writable");
        }
        let golden = std::fs::read_to_string(path).expect("openapi.json is beside the module");
        assert!(
            golden == text,
            "the calls changed: look at the difference, then write openapi.json anew"
        );
    }

    #[test]
    fn every_status_of_a_refusal_is_documented_somewhere() {
        for refused in Refused::ALL {
            let status = refused.terms().status.as_u16();
            let everywhere = [404, 405].contains(&status);
            assert!(
                everywhere || ROUTES.iter().any(|route| route.statuses.contains(&status)),
                "{refused:?}"
            );
        }
    }
}
