//! Why a request is not answered with what it asked for: issues for the client, and what the audit and the log say.

use super::answer;
use crate::auth::token::TokenRefused;
use crate::http::{BodyError, Response};
use crate::log::ProposeError;
use crate::services::pds::outcome::{Code, Issue, operation_outcome};
use ::http::{HeaderValue, header};

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
        let mut response = answer::json(code.status(), &operation_outcome(&self.issues));
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
            headers.insert(header::ALLOW, allow);
        }
        response
    }

    /// For the audit: status and code.
    pub fn outcome(&self) -> String {
        let code = self.issues[0].code;
        format!("{} {}", code.status().as_str(), code.text())
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

impl From<TokenRefused> for Failure {
    fn from(refused: TokenRefused) -> Failure {
        Issue::new(Code::AccessDenied, refused.to_string()).into()
    }
}

impl From<ProposeError> for Failure {
    fn from(error: ProposeError) -> Failure {
        let (what, seconds) = match error {
            ProposeError::Unknown => (
                "it is not known yet whether the request was carried out; send it again with the same X-Request-ID",
                RETRY_AFTER_S,
            ),
            ProposeError::Overloaded | ProposeError::Closing => (
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
                Issue::new(Code::InvalidValue, what).into()
            }
            BodyError::TimedOut | BodyError::Closed => {
                Issue::new(Code::UnableToCallService, "the body did not arrive whole and in time; send it again").into()
            }
        }
    }
}
