//! Refusals of the front door itself, for what never reaches a service.

use super::{Response, ResponseBody, Route};
use ::http::{HeaderValue, StatusCode, header};
use bytes::Bytes;

/// Why the front door refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// HTTP/1.1 without exactly one Host header: 400.
    HostMissing,
    /// The certificate was revoked, has expired, or its CA is no longer trusted, since the connection began: 403.
    CertificateRefused,
    /// The announced body is too large; the limit in bytes: 413.
    BodyTooLarge(u64),
    /// The request did not arrive in time: 408.
    TooSlow,
    /// Too much is going on; seconds until a new attempt: 503.
    Overloaded(u32),
}

impl Problem {
    /// Status, code and sentence.
    fn parts(self) -> (StatusCode, &'static str, String) {
        match self {
            Problem::HostMissing => (
                StatusCode::BAD_REQUEST,
                "HOST_MISSING",
                "Send exactly one Host header with an HTTP/1.1 request.".to_owned(),
            ),
            Problem::CertificateRefused => (
                StatusCode::FORBIDDEN,
                "CERTIFICATE_REFUSED",
                "Connect again with a client certificate that is valid now.".to_owned(),
            ),
            Problem::BodyTooLarge(bytes_max) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "BODY_TOO_LARGE",
                format!("Send at most {bytes_max} bytes in the body of one request."),
            ),
            Problem::TooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                "REQUEST_TOO_SLOW",
                "Send the whole request without long pauses.".to_owned(),
            ),
            Problem::Overloaded(seconds) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "OVERLOADED",
                format!("Send the same request again in {seconds} seconds."),
            ),
        }
    }
}

/// The answer to a refused request: JSON with `code` and `message`. Where the connection cannot go on it says so.
pub fn problem(problem: Problem) -> Response {
    let (status, code, message) = problem.parts();
    let body = serde_json::json!({ "code": code, "message": message }).to_string();
    let mut response = Response::new(ResponseBody::Full(Bytes::from(body)));
    *response.status_mut() = status;
    response.extensions_mut().insert(Route("front-door"));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    match problem {
        Problem::Overloaded(seconds) => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        Problem::HostMissing | Problem::CertificateRefused | Problem::TooSlow => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Problem::BodyTooLarge(_) => {}
    }
    response
}

/// A 408 as bytes, for a connection on which no request could be read.
pub(super) fn too_slow_bytes() -> Vec<u8> {
    let (status, code, message) = Problem::TooSlow.parts();
    let body = serde_json::json!({ "code": code, "message": message }).to_string();
    format!(
        "HTTP/1.1 {} Request Timeout\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        status.as_u16(),
        body.len()
    )
    .into_bytes()
}
