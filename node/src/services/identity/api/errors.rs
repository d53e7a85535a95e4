//! What a caller of `/oauth2` is told: `{error, error_description, message_id}`, with the statuses and the sentences that
//! clients of the national service know. The sentence says what is wrong, never what was sent.

use crate::base::RequestId;
use crate::http::{Response, ResponseBody};
use crate::log::ProposeError;
use crate::services::identity::command::Refusal;
use ::http::{HeaderValue, StatusCode, header};
use bytes::Bytes;
use serde_json::json;

/// Seconds after which a request that was not carried out may be sent again.
const RETRY_AFTER_S: u32 = 1;
/// The same while there is no signing key: somebody has to give one.
const NO_KEY_RETRY_AFTER_S: u32 = 60;

/// Every refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    UnknownPath,
    MethodNotAllowed,
    NotAForm,
    BodyTooLarge,
    BodyTimedOut,
    ParameterTwice,
    GrantTypeMissing,
    GrantTypeInvalid,
    GrantTypeNotOffered,
    AssertionTypeInvalid,
    AssertionMissing,
    Malformed,
    AlgMissing,
    AlgInvalid,
    TypInvalid,
    KidMissing,
    KidUnknown,
    IssSubMissing,
    IssSubInvalid,
    SignatureWrong,
    JtiMissing,
    JtiInvalid,
    JtiReplayed,
    ExpMissing,
    ExpNotInteger,
    Expired,
    ExpTooFar,
    NbfInvalid,
    AudInvalid,
    ScopeInvalid,
    ClientDisabled,
    ModeNotAllowed,
    TooOften { retry_after_s: u32 },
    NoSigningKey,
    OutcomeUnknown,
    NotTaken,
}

/// How a refusal is told.
pub(super) struct Terms {
    pub(super) status: StatusCode,
    /// The code of the specification.
    pub(super) error: &'static str,
    pub(super) description: &'static str,
}

const fn bad(error: &'static str, description: &'static str) -> Terms {
    Terms {
        status: StatusCode::BAD_REQUEST,
        error,
        description,
    }
}

const fn unproved(error: &'static str, description: &'static str) -> Terms {
    Terms {
        status: StatusCode::UNAUTHORIZED,
        error,
        description,
    }
}

const fn not_now(description: &'static str) -> Terms {
    Terms {
        status: StatusCode::SERVICE_UNAVAILABLE,
        error: "temporarily_unavailable",
        description,
    }
}

impl Refused {
    /// One of each, for the document.
    pub(super) const ALL: [Refused; 36] = [
        Refused::UnknownPath,
        Refused::MethodNotAllowed,
        Refused::NotAForm,
        Refused::BodyTooLarge,
        Refused::BodyTimedOut,
        Refused::ParameterTwice,
        Refused::GrantTypeMissing,
        Refused::GrantTypeInvalid,
        Refused::GrantTypeNotOffered,
        Refused::AssertionTypeInvalid,
        Refused::AssertionMissing,
        Refused::Malformed,
        Refused::AlgMissing,
        Refused::AlgInvalid,
        Refused::TypInvalid,
        Refused::KidMissing,
        Refused::KidUnknown,
        Refused::IssSubMissing,
        Refused::IssSubInvalid,
        Refused::SignatureWrong,
        Refused::JtiMissing,
        Refused::JtiInvalid,
        Refused::JtiReplayed,
        Refused::ExpMissing,
        Refused::ExpNotInteger,
        Refused::Expired,
        Refused::ExpTooFar,
        Refused::NbfInvalid,
        Refused::AudInvalid,
        Refused::ScopeInvalid,
        Refused::ClientDisabled,
        Refused::ModeNotAllowed,
        Refused::TooOften { retry_after_s: 1 },
        Refused::NoSigningKey,
        Refused::OutcomeUnknown,
        Refused::NotTaken,
    ];

    #[rustfmt::skip]
    pub(super) fn terms(self) -> Terms {
        const INVALID: &str = "invalid_request";
        match self {
            Refused::UnknownPath => Terms { status: StatusCode::NOT_FOUND, error: INVALID, description: "There is no such endpoint - use POST /oauth2/token" },
            Refused::MethodNotAllowed => Terms { status: StatusCode::METHOD_NOT_ALLOWED, error: INVALID, description: "The method is not allowed - use POST" },
            Refused::NotAForm => bad(INVALID, "The body is not a form - send application/x-www-form-urlencoded"),
            Refused::BodyTooLarge => Terms { status: StatusCode::PAYLOAD_TOO_LARGE, error: INVALID, description: "The body is larger than 16384 bytes - send a smaller client_assertion" },
            Refused::BodyTimedOut => Terms { status: StatusCode::REQUEST_TIMEOUT, error: INVALID, description: "The body did not arrive in time - send it again" },
            Refused::ParameterTwice => bad(INVALID, "A parameter is there more than once - send each once"),
            Refused::GrantTypeMissing => bad(INVALID, "grant_type is missing"),
            Refused::GrantTypeInvalid => bad("unsupported_grant_type", "grant_type is invalid"),
            Refused::GrantTypeNotOffered => bad("unsupported_grant_type", "grant_type is not offered here - use 'client_credentials'; tokens for people come from the signing authority"),
            Refused::AssertionTypeInvalid => bad(INVALID, "Missing or invalid client_assertion_type - must be 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'"),
            Refused::AssertionMissing => bad(INVALID, "Missing client_assertion"),
            Refused::Malformed => bad(INVALID, "Malformed JWT in client_assertion"),
            Refused::AlgMissing => bad(INVALID, "Missing 'alg' header in client_assertion JWT"),
            Refused::AlgInvalid => bad(INVALID, "Invalid 'alg' header in client_assertion JWT - unsupported JWT algorithm - must be 'RS512'"),
            Refused::TypInvalid => bad(INVALID, "Invalid 'typ' header in client_assertion JWT - must be 'JWT'"),
            Refused::KidMissing => bad(INVALID, "Missing 'kid' header in client_assertion JWT"),
            Refused::KidUnknown => unproved(INVALID, "Invalid 'kid' header in client_assertion JWT - no matching public key"),
            Refused::IssSubMissing => bad(INVALID, "Missing or non-matching 'iss'/'sub' claims in client_assertion JWT"),
            Refused::IssSubInvalid => unproved(INVALID, "Invalid 'iss'/'sub' claims in client_assertion JWT"),
            Refused::SignatureWrong => unproved(INVALID, "JWT signature verification failed"),
            Refused::JtiMissing => bad(INVALID, "Missing 'jti' claim in client_assertion JWT"),
            Refused::JtiInvalid => bad(INVALID, "Invalid 'jti' claim in client_assertion JWT - must be a unique string value such as a GUID"),
            Refused::JtiReplayed => bad(INVALID, "Non-unique 'jti' claim in client_assertion JWT"),
            Refused::ExpMissing => bad(INVALID, "Missing 'exp' claim in client_assertion JWT"),
            Refused::ExpNotInteger => bad(INVALID, "Invalid 'exp' claim in client_assertion JWT - must be an integer"),
            Refused::Expired => bad(INVALID, "Invalid 'exp' claim in client_assertion JWT - JWT has expired"),
            Refused::ExpTooFar => bad(INVALID, "Invalid 'exp' claim in client_assertion JWT - more than 5 minutes in future"),
            Refused::NbfInvalid => bad(INVALID, "Invalid 'nbf' claim in client_assertion JWT - JWT is not valid yet"),
            Refused::AudInvalid => unproved(INVALID, "Missing or invalid 'aud' claim in client_assertion JWT"),
            Refused::ScopeInvalid => bad("invalid_scope", "The scope names what the client may not do - ask for less, or for nothing to get all it may"),
            Refused::ClientDisabled => unproved("access_denied", "The client is disabled - ask the operator why"),
            Refused::ModeNotAllowed => bad("unauthorized_client", "The client may not use application-restricted access - ask the operator to allow it"),
            Refused::TooOften { .. } => Terms { status: StatusCode::TOO_MANY_REQUESTS, error: "temporarily_unavailable", description: "The client asks more often than it may - use a token until it expires, ask again after the seconds of Retry-After" },
            Refused::NoSigningKey => not_now("This node has no key to sign tokens with - ask the operator to configure tokens.signing_key"),
            Refused::OutcomeUnknown => not_now("It is not known whether the assertion was used - ask again with a new one"),
            Refused::NotTaken => not_now("The service cannot write at present - ask again with a new assertion"),
        }
    }

    /// The code of this rule, for the log, metrics and the audit; the specification's codes are too few to tell rules apart.
    pub(super) fn code(self) -> &'static str {
        match self {
            Refused::UnknownPath => "unknown_path",
            Refused::MethodNotAllowed => "method_not_allowed",
            Refused::NotAForm => "not_a_form",
            Refused::BodyTooLarge => "body_too_large",
            Refused::BodyTimedOut => "body_timed_out",
            Refused::ParameterTwice => "parameter_twice",
            Refused::GrantTypeMissing => "grant_type_missing",
            Refused::GrantTypeInvalid => "grant_type_invalid",
            Refused::GrantTypeNotOffered => "grant_type_not_offered",
            Refused::AssertionTypeInvalid => "assertion_type_invalid",
            Refused::AssertionMissing => "assertion_missing",
            Refused::Malformed => "assertion_malformed",
            Refused::AlgMissing => "alg_missing",
            Refused::AlgInvalid => "alg_invalid",
            Refused::TypInvalid => "typ_invalid",
            Refused::KidMissing => "kid_missing",
            Refused::KidUnknown => "kid_unknown",
            Refused::IssSubMissing => "iss_sub_missing",
            Refused::IssSubInvalid => "iss_sub_invalid",
            Refused::SignatureWrong => "signature_wrong",
            Refused::JtiMissing => "jti_missing",
            Refused::JtiInvalid => "jti_invalid",
            Refused::JtiReplayed => "jti_replayed",
            Refused::ExpMissing => "exp_missing",
            Refused::ExpNotInteger => "exp_not_integer",
            Refused::Expired => "assertion_expired",
            Refused::ExpTooFar => "exp_too_far",
            Refused::NbfInvalid => "nbf_invalid",
            Refused::AudInvalid => "aud_invalid",
            Refused::ScopeInvalid => "scope_invalid",
            Refused::ClientDisabled => "client_disabled",
            Refused::ModeNotAllowed => "mode_not_allowed",
            Refused::TooOften { .. } => "too_often",
            Refused::NoSigningKey => "no_signing_key",
            Refused::OutcomeUnknown => "outcome_unknown",
            Refused::NotTaken => "not_taken",
        }
    }

    fn retry_after_s(self) -> Option<u32> {
        match self {
            Refused::TooOften { retry_after_s } => Some(retry_after_s),
            Refused::NoSigningKey => Some(NO_KEY_RETRY_AFTER_S),
            _ if self.terms().status == StatusCode::SERVICE_UNAVAILABLE => Some(RETRY_AFTER_S),
            _ => None,
        }
    }

    /// The answer; `message_id` is the request's own identifier, which `vertebra trace` takes.
    pub(super) fn response(self, id: RequestId) -> Response {
        let Terms {
            status,
            error,
            description,
        } = self.terms();
        let body = json!({"error": error, "error_description": description, "message_id": id.to_string()});
        let mut response = json_response(status, &body);
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self == Refused::MethodNotAllowed {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }
}

/// JSON that nobody may keep.
pub(super) fn json_response(status: StatusCode, body: &serde_json::Value) -> Response {
    ::http::Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CACHE_CONTROL, "no-store")
        .header(header::PRAGMA, "no-cache")
        .body(ResponseBody::Full(Bytes::from(body.to_string())))
        .expect("a status and three constant headers")
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        match refusal {
            Refusal::Replayed => Refused::JtiReplayed,
            Refusal::AssertionExpired => Refused::Expired,
            Refusal::ClientUnknown => Refused::IssSubInvalid,
            Refusal::ClientDisabled => Refused::ClientDisabled,
            Refusal::ModeNotAllowed => Refused::ModeNotAllowed,
        }
    }
}

impl From<ProposeError> for Refused {
    fn from(error: ProposeError) -> Refused {
        match error {
            ProposeError::Unknown => Refused::OutcomeUnknown,
            ProposeError::Overloaded
            | ProposeError::DiskFull
            | ProposeError::NoLeader
            | ProposeError::ClockJumped
            | ProposeError::Closing
            | ProposeError::NotYet => Refused::NotTaken,
        }
    }
}
