//! Our own OpenAPI document of the token endpoint: the national one describes other grants. Its refusals are read from the
//! table that answers them. The golden file `openapi.json` beside the module is compared in the tests.

use super::errors::Refused;
use super::{ASSERTION_TYPE, BODY_BYTES_MAX};
use serde_json::{Map, Value, json};

/// The document.
pub fn document() -> Value {
    json!({
        "openapi": "3.0.2",
        "info": {
            "title": "Vertebra: identity",
            "version": "1.0.0",
            "description": "Application-restricted access: a client assertion for an access token. Refusals come from the table that answers them.",
        },
        "paths": {"/oauth2/token": {"post": {
            "summary": "An access token for a registered application",
            "requestBody": {
                "required": true,
                "description": format!("at most {BODY_BYTES_MAX} bytes, each parameter once"),
                "content": {"application/x-www-form-urlencoded": {"schema": form()}},
            },
            "responses": responses(),
        }}},
        "components": {"schemas": {"Token": token(), "Error": error()}},
        "x-refusals": Refused::ALL.iter().map(refusal).collect::<Value>(),
    })
}

fn form() -> Value {
    json!({
        "type": "object",
        "required": ["grant_type", "client_assertion_type", "client_assertion"],
        "properties": {
            "grant_type": {"type": "string", "enum": ["client_credentials"]},
            "client_assertion_type": {"type": "string", "enum": [ASSERTION_TYPE]},
            "client_assertion": {"type": "string", "description": "JWT: RS512, kid, typ; iss = sub = client, aud, jti, exp at most 5 minutes ahead"},
            "scope": {"type": "string", "description": "words, each allowed to the client; all that are when absent"},
        },
    })
}

fn token() -> Value {
    json!({
        "type": "object",
        "required": ["access_token", "expires_in", "token_type", "issued_at"],
        "properties": {
            "access_token": {"type": "string"},
            "expires_in": {"type": "string", "description": "seconds, as text"},
            "token_type": {"type": "string", "enum": ["Bearer"]},
            "issued_at": {"type": "string", "description": "milliseconds since 1970, as text"},
        },
    })
}

fn error() -> Value {
    json!({
        "type": "object",
        "required": ["error", "error_description", "message_id"],
        "properties": {
            "error": {"type": "string"},
            "error_description": {"type": "string"},
            "message_id": {"type": "string", "description": "the request, as `vertebra trace` takes it"},
        },
    })
}

fn responses() -> Value {
    let schema = |name: &str| json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{name}")}}});
    let mut responses = Map::new();
    responses.insert(
        "200".to_owned(),
        json!({"description": "OK", "content": schema("Token")}),
    );
    for refused in Refused::ALL {
        let status = refused.terms().status;
        let reason = status.canonical_reason().unwrap_or("see the status");
        responses.insert(
            status.as_str().to_owned(),
            json!({"description": reason, "content": schema("Error")}),
        );
    }
    Value::Object(responses)
}

fn refusal(refused: &Refused) -> Value {
    let terms = refused.terms();
    json!({
        "rule": refused.code(),
        "status": terms.status.as_u16(),
        "error": terms.error,
        "error_description": terms.description,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Writes the golden file anew when the environment says so: `VERTEBRA_GOLDEN=write cargo test -p vertebra openapi`.
    #[test]
    fn the_document_is_the_golden_file() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/services/identity/openapi.json");
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
    fn every_rule_has_a_code_and_a_sentence_of_its_own_and_the_503s_say_when_to_come_back() {
        let codes: BTreeSet<&str> = Refused::ALL.iter().map(|refused| refused.code()).collect();
        let sentences: BTreeSet<&str> = Refused::ALL.iter().map(|refused| refused.terms().description).collect();
        assert_eq!((codes.len(), sentences.len()), (Refused::ALL.len(), Refused::ALL.len()));
        for refused in Refused::ALL {
            let response = refused.response(crate::base::RequestId(1));
            let later = response.headers().contains_key(::http::header::RETRY_AFTER);
            let status = response.status().as_u16();
            assert_eq!(later, [429, 503].contains(&status), "{refused:?}");
            assert!(status < 500 || status == 503, "{refused:?}");
        }
    }
}
