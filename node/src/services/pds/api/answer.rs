//! Answers as FHIR JSON: resources, bundles, outcomes.

use crate::base::Timestamp;
use crate::http::{Response, ResponseBody};
use ::http::{HeaderValue, StatusCode, header};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

static FHIR_JSON: HeaderValue = HeaderValue::from_static("application/fhir+json");

/// An answer of these bytes.
pub(super) fn bytes(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(ResponseBody::Full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, FHIR_JSON.clone());
    // What an answer says of a patient belongs in no cache on the way.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer of this JSON.
pub(super) fn json(status: StatusCode, body: &Value) -> Response {
    let body = serde_json::to_vec(body).expect("JSON serialises into memory");
    bytes(status, Bytes::from(body))
}

/// A resource with its version.
pub(super) fn resource(status: StatusCode, version: u32, body: Bytes) -> Response {
    with_version(bytes(status, body), version)
}

/// Adds the version as ETag.
pub(super) fn with_version(mut response: Response, version: u32) -> Response {
    let tag = HeaderValue::from_str(&format!("W/\"{version}\"")).expect("a number in quotes is a header value");
    response.headers_mut().insert(header::ETAG, tag);
    response
}

/// `2026-11-22T15:04:05+00:00`, as the specification writes times.
pub(super) fn moment(at: Timestamp) -> String {
    at.calendar().strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

/// A searchset that is written entry by entry, so that a resource is serialised once, into the answer.
pub(super) struct Searchset {
    entries: Vec<u8>,
    total: usize,
}

impl Searchset {
    pub fn new() -> Searchset {
        Searchset {
            entries: Vec::new(),
            total: 0,
        }
    }

    /// Adds a match.
    pub fn add(&mut self, url: &str, score: f64, resource: &impl Serialize) {
        if self.total > 0 {
            self.entries.push(b',');
        }
        self.total += 1;
        self.entries.extend_from_slice(b"{\"fullUrl\":");
        write(&mut self.entries, url);
        self.entries
            .extend_from_slice(format!(",\"search\":{{\"score\":{score:?}}},\"resource\":").as_bytes());
        write(&mut self.entries, resource);
        self.entries.push(b'}');
    }

    /// The answer.
    pub fn response(self, now: Timestamp) -> Response {
        let head = format!(
            "{{\"resourceType\":\"Bundle\",\"type\":\"searchset\",\"timestamp\":\"{}\",\"total\":{},\"entry\":[",
            moment(now),
            self.total
        );
        let mut body = Vec::with_capacity(head.len() + self.entries.len() + 2);
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&self.entries);
        body.extend_from_slice(b"]}");
        bytes(StatusCode::OK, Bytes::from(body))
    }
}

fn write(bytes: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(bytes, value).expect("JSON serialises into memory");
}

/// A searchset of these entries.
pub(super) fn bundle(now: Timestamp, entries: Vec<Value>) -> Value {
    json!({
        "resourceType": "Bundle",
        "type": "searchset",
        "timestamp": moment(now),
        "total": entries.len(),
        "entry": entries,
    })
}
