//! What a request says beside its body: the headers of the specification, checked in the order of their list here.

use super::failure::Failure;
use crate::base::{Digest, OdsCode, is_uuid};
use crate::services::pds::command::Once;
use crate::services::pds::outcome::{Code, Issue};
use ::http::request::Parts;
use ::http::{HeaderMap, HeaderName, HeaderValue, Response};

static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static X_CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
static SESSION_URID: HeaderName = HeaderName::from_static("nhsd-session-urid");
static END_USER_ORGANISATION: HeaderName = HeaderName::from_static("nhsd-end-user-organisation-ods");

/// Longest correlation identifier, in bytes.
const CORRELATION_BYTES_MAX: usize = 255;
/// Longest role profile identifier, in digits.
const URID_DIGITS_MAX: usize = 20;

/// Identifiers that go back to the client as they came, whatever becomes of the request.
#[derive(Clone, Default)]
pub(super) struct Mirrored {
    request: Option<HeaderValue>,
    correlation: Option<HeaderValue>,
}

impl Mirrored {
    pub fn of(headers: &HeaderMap) -> Mirrored {
        let short = |name: &HeaderName| {
            let value = headers.get(name)?;
            (value.len() <= CORRELATION_BYTES_MAX && value.to_str().is_ok()).then(|| value.clone())
        };
        Mirrored {
            request: short(&X_REQUEST_ID),
            correlation: short(&X_CORRELATION_ID),
        }
    }

    pub fn put<T>(self, response: &mut Response<T>) {
        let headers = response.headers_mut();
        if let Some(value) = self.request {
            headers.insert(&X_REQUEST_ID, value);
        }
        if let Some(value) = self.correlation {
            headers.insert(&X_CORRELATION_ID, value);
        }
    }
}

/// A request's headers, checked.
pub(super) struct Headers {
    /// `X-Request-ID`, lower case.
    pub request: String,
    /// `NHSD-Session-URID`.
    pub role_id: Option<String>,
    /// `NHSD-End-User-Organisation-ODS`.
    pub on_behalf: Option<OdsCode>,
}

impl Headers {
    /// Checks: request identifier there and a UUID, correlation identifier short, role profile digits, organisation an
    /// ODS code. All faults are told at once.
    pub fn read(headers: &HeaderMap) -> Result<Headers, Failure> {
        let mut faults = Vec::new();
        let request = match headers.get(&X_REQUEST_ID) {
            None => {
                let what =
                    "the header X-Request-ID is missing; send a new UUID for a new request, the same for a retry";
                faults.push(Issue::new(Code::MissingValue, what));
                String::new()
            }
            Some(value) => match value.to_str().ok().filter(|text| is_uuid(text)) {
                Some(uuid) => uuid.to_ascii_lowercase(),
                None => {
                    faults.push(Issue::new(Code::InvalidValue, "the header X-Request-ID is not a UUID"));
                    String::new()
                }
            },
        };
        let mut text = |name: &HeaderName, what: &str, fits: &dyn Fn(&str) -> bool| {
            let value = headers.get(name)?;
            match value.to_str().ok().filter(|text| fits(text)) {
                Some(text) => Some(text.to_owned()),
                None => {
                    faults.push(Issue::new(Code::InvalidValue, what));
                    None
                }
            }
        };
        let short = |text: &str| text.len() <= CORRELATION_BYTES_MAX;
        text(
            &X_CORRELATION_ID,
            "the header X-Correlation-ID is longer than 255 characters",
            &short,
        );
        let digits =
            |text: &str| (1..=URID_DIGITS_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        let role_id = text(
            &SESSION_URID,
            "the header NHSD-Session-URID is not a number of at most 20 digits",
            &digits,
        );
        let ods = |text: &str| OdsCode::parse(text).is_some();
        let what = "the header NHSD-End-User-Organisation-ODS is not an ODS code of 1 to 12 letters and digits";
        let on_behalf = text(&END_USER_ORGANISATION, what, &ods).and_then(|text| OdsCode::parse(&text));
        if faults.is_empty() {
            Ok(Headers {
                request,
                role_id,
                on_behalf,
            })
        } else {
            Err(Failure::of(faults))
        }
    }
}

/// A request, for its handler.
pub(super) struct Asked {
    /// Method, path, query, headers.
    pub head: Parts,
    /// The headers, checked.
    pub headers: Headers,
    /// The text where the path has a number.
    pub id: String,
}

impl Asked {
    /// The version that `If-Match` names: `W/"2"`.
    ///
    /// # Errors
    /// PRECONDITION_FAILED when the header is missing, repeated, or of another form.
    pub fn if_match(&self) -> Result<u32, Failure> {
        let mut values = self.head.headers.get_all(::http::header::IF_MATCH).iter();
        let version = match (values.next(), values.next()) {
            (Some(value), None) => value
                .to_str()
                .ok()
                .and_then(|text| text.strip_prefix("W/\"")?.strip_suffix('"'))
                .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok()),
            (None, _) => {
                let what = "the header If-Match is missing; read the resource and send its ETag";
                return Err(Failure::from(Issue::new(Code::PreconditionFailed, what)));
            }
            (Some(_), Some(_)) => None,
        };
        version.ok_or_else(|| {
            let what = "the header If-Match is not of the form W/\"2\"; send the resource's ETag as it came";
            Issue::new(Code::PreconditionFailed, what).into()
        })
    }

    /// What makes this request happen at most once: `who` asks for `operation` on `target`, and says `content`.
    pub fn once(&self, who: &str, operation: &str, target: &str, content: &[&[u8]]) -> Once {
        let parts = [
            who.as_bytes(),
            operation.as_bytes(),
            target.as_bytes(),
            self.headers.request.as_bytes(),
        ];
        Once {
            key: fingerprint(&parts),
            content: fingerprint(content),
        }
    }
}

/// First half of BLAKE3 over the parts, each with its length.
fn fingerprint(parts: &[&[u8]]) -> [u8; 16] {
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    let Digest(digest) = Digest::of(&bytes);
    let (half, _) = digest.split_first_chunk::<16>().expect("a digest has 32 bytes");
    *half
}
