//! Why a request is not answered with what it asked for: issues for the client, and what the audit and the log say.

use super::answer;
use crate::http::{BodyError, Response};
use crate::log::ProposeError;
use crate::services::pds::command::Refusal;
use crate::services::pds::outcome::{Code, Issue, operation_outcome};
use crate::services::pds::records::RecordsError;
use ::http::{HeaderValue, StatusCode, header};

/// Seconds after which a client whose outcome is not known asks again, with the same identifier.
const RETRY_AFTER_S: u32 = 5;

/// A refusal.
#[derive(Debug)]
pub(super) struct Failure {
    /// Never empty; the first one gives the status.
    issues: Vec<Issue>,
    /// For `Retry-After`.
    retry_after_s: Option<u32>,
    /// For `Allow`.
    allow: Option<String>,
}

impl Failure {
    /// From issues, at least one.
    pub fn of(issues: Vec<Issue>) -> Failure {
        assert!(!issues.is_empty(), "a refusal says why");
        Failure {
            issues,
            retry_after_s: None,
            allow: None,
        }
    }

    /// The path is there for other methods.
    pub fn other_methods(allow: String) -> Failure {
        let what = "this method is not offered here; see the header Allow";
        Failure {
            allow: Some(allow),
            ..Issue::new(Code::MethodNotAllowed, what).into()
        }
    }

    /// A read took longer than it may.
    pub fn late() -> Failure {
        let what =
            "the service behind this interface did not answer in time; nothing was changed; send the request again";
        Issue::new(Code::UnableToCallService, what).into()
    }

    /// The client asks too often.
    pub fn too_many_requests(seconds: u32) -> Failure {
        let what = "the application's rate limit is reached; ask again after the seconds in Retry-After";
        Failure {
            retry_after_s: Some(seconds),
            ..Issue::new(Code::TooManyRequests, what).into()
        }
    }

    /// The answer that the client gets; never a record.
    pub fn response(&self) -> Response {
        let code = self.issues[0].code;
        let mut response = answer::json(status(code), &operation_outcome(&self.issues));
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self
            .allow
            .as_deref()
            .and_then(|allow| HeaderValue::from_str(allow).ok())
        {
            headers.insert(header::ALLOW, allow);
        }
        response
    }

    /// For the audit: status and code.
    pub fn outcome(&self) -> String {
        let code = self.issues[0].code;
        format!("{} {}", code.status(), code.text())
    }
}

impl From<Issue> for Failure {
    fn from(issue: Issue) -> Failure {
        Failure::of(vec![issue])
    }
}

impl From<Vec<Issue>> for Failure {
    fn from(issues: Vec<Issue>) -> Failure {
        Failure::of(issues)
    }
}

fn status(code: Code) -> StatusCode {
    StatusCode::from_u16(code.status()).expect("every code has a status of HTTP")
}

/// The version to change is not the current one.
pub(super) fn mismatch() -> Failure {
    let what = "the version in If-Match is not the current one; read the resource again and repeat the change on it";
    Issue::new(Code::ResourceVersionMismatch, what).into()
}

impl From<RecordsError> for Failure {
    fn from(error: RecordsError) -> Failure {
        let (code, what) = match error {
            RecordsError::Propose(error) => return error.into(),
            RecordsError::Refused(Refusal::VersionMismatch { .. }) => return mismatch(),
            RecordsError::Refused(Refusal::Exists { .. } | Refusal::Raced) => (
                Code::ServiceUnavailable,
                "others changed the same records meanwhile; nothing was changed; send the request again",
            ),
            RecordsError::Refused(Refusal::RequestReused) => (
                Code::InvalidValue,
                "this X-Request-ID came with another request before; use a new UUID for a new request",
            ),
            RecordsError::NotFound | RecordsError::Refused(Refusal::Unknown) => (
                Code::ResourceNotFound,
                "there is no record of this NHS number; search for the patient",
            ),
            RecordsError::Invalidated => (
                Code::InvalidatedResource,
                "the record of this NHS number was invalidated, and no other took its place",
            ),
            RecordsError::Unreadable => (
                Code::ServiceUnavailable,
                "the record cannot be read at the moment; send the request again later",
            ),
        };
        let retry_after_s = matches!(code, Code::ServiceUnavailable).then_some(RETRY_AFTER_S);
        Failure {
            retry_after_s,
            ..Issue::new(code, what).into()
        }
    }
}

impl From<ProposeError> for Failure {
    fn from(error: ProposeError) -> Failure {
        let (what, seconds) = match error {
            ProposeError::Unknown => (
                "it is not known yet whether the request was carried out; send it again with the same X-Request-ID",
                RETRY_AFTER_S,
            ),
            ProposeError::Overloaded | ProposeError::Closing | ProposeError::NotYet => (
                "the service is busy; nothing was changed; send the request again with the same X-Request-ID",
                1,
            ),
            ProposeError::DiskFull | ProposeError::NoLeader | ProposeError::ClockJumped => (
                "the service takes no changes at the moment; nothing was changed; send the request again later",
                RETRY_AFTER_S,
            ),
        };
        Failure {
            retry_after_s: Some(seconds),
            ..Issue::new(Code::ServiceUnavailable, what).into()
        }
    }
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Failure {
        match error {
            BodyError::TooLarge(bytes_max) => {
                let what = format!("the body is larger than {bytes_max} bytes; send a smaller one");
                Issue::new(Code::ValidationError, what).into()
            }
            BodyError::TimedOut | BodyError::Closed => Issue::new(
                Code::UnableToCallService,
                "the body did not arrive whole and in time; send it again",
            )
            .into(),
        }
    }
}
